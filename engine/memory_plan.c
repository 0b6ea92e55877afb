#include "engine/memory_plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    BLOCK_TOKENS = 16,
    ROWS_AUTO = 512, // enough for the matrix products to be bound by arithmetic
    ROWS_AUTO_DEVICE = 2048,
    LOGIT_ROWS_MIN = 32,     // prompt logprobs pass the head this many rows at a time, at least
    LOGIT_ROWS_DRAFTS = 256, // with drafts: eight for each of 32 sequences
    EDITS_MAX = 64 * 1024,   // logit_bias and bans of one step
    SEEN_MIN = 256 * 1024,   // tokens under penalties in one step
};
// Models below this many parameters keep K and V in F32: their cache is small and their arithmetic is not.
static const uint64_t KV_F32_BELOW_PARAMETERS = 100u * 1000 * 1000;

int memory_plan_weight_format(enum weight_format *out, const char *name, struct err *err) {
    *out = WEIGHT_AS_IS;
    if (!name) return 0;
    for (enum weight_format format = WEIGHT_AS_IS; format <= WEIGHT_INT4; format++) {
        *out = format;
        if (strcmp(name, weight_format_name(format)) == 0) return 0;
    }
    return err_set(err, ERR_INVALID, "weights in \"%s\" are none of auto, bf16, fp8, int8, int4", name);
}

enum weight_format memory_plan_table_format(const struct tensor *tensor, enum weight_format format) {
    if (format <= WEIGHT_BF16) return format;
    return tensor_format_is_quantised(tensor->format) ? WEIGHT_AS_IS : WEIGHT_BF16;
}

enum weight_format memory_plan_head_format(const struct backend *backend, const struct tensor *tensor,
                                           enum weight_format format) {
    const bool integers = format == WEIGHT_INT8 || format == WEIGHT_INT4;
    if (integers && backend_keeps_int8(backend) && !tensor_format_is_quantised(tensor->format)) return WEIGHT_INT8;
    return memory_plan_table_format(tensor, format);
}

enum weight_format memory_plan_embed_format(const struct backend *backend, const struct model_spec *spec,
                                            enum weight_format format) {
    return spec->tied ? memory_plan_head_format(backend, &spec->embed, format)
                      : memory_plan_table_format(&spec->embed, format);
}

enum weight_format memory_plan_matrix_format(const struct layer_spec *layer, const struct tensor *matrix,
                                             enum weight_format format) {
    return matrix == &layer->router ? memory_plan_table_format(matrix, format) : format;
}

uint64_t memory_plan_weight_bytes(const struct backend *backend, const struct model_spec *spec,
                                  enum weight_format format) {
    uint64_t n_bytes = backend_weight_bytes(backend, &spec->embed, memory_plan_embed_format(backend, spec, format));
    if (!spec->tied)
        n_bytes += backend_weight_bytes(backend, &spec->head, memory_plan_head_format(backend, &spec->head, format));
    for (int32_t i = 0; i < spec->n_layers; i++) {
        struct layer_spec *l = &spec->layers[i];
        const struct tensor *matrix;
        for (size_t m = 0; (matrix = layer_matrix(spec, l, m)); m++)
            n_bytes += backend_weight_bytes(backend, matrix, memory_plan_matrix_format(l, matrix, format));
    }
    return n_bytes;
}

int memory_plan_check_weights(const struct backend *backend, const struct model_spec *spec, enum weight_format format,
                              uint64_t available_bytes, struct err *err) {
    uint64_t needed = memory_plan_weight_bytes(backend, spec, format);
    if (needed <= available_bytes) return 0;
    char advice[160] = "no format of --weights would fit";
    for (enum weight_format other = WEIGHT_INT4; other > WEIGHT_AS_IS; other--) {
        uint64_t n_bytes = memory_plan_weight_bytes(backend, spec, other);
        if (n_bytes <= available_bytes) // the most precise that fits is the last to be written
            snprintf(advice, sizeof advice, "--weights %s would need %.2f GiB", weight_format_name(other),
                     (double)n_bytes / 0x1p30);
    }
    return err_set(err, ERR_LIMIT, "the weights need %.2f GiB of memory, %.2f GiB are free; %s",
                   (double)needed / 0x1p30, (double)available_bytes / 0x1p30, advice);
}

static int32_t min_i32(int64_t a, int64_t b) {
    return (int32_t)(a < b ? a : b);
}

static int choose_kv_format(struct kv_shape *kv, const struct model_spec *spec, const char *name, struct err *err) {
    if (!name || strcmp(name, "auto") == 0)
        kv->format = spec->n_parameters < KV_F32_BELOW_PARAMETERS ? KV_F32 : KV_BF16;
    else if (strcmp(name, "f32") == 0)
        kv->format = KV_F32;
    else if (strcmp(name, "bf16") == 0)
        kv->format = KV_BF16;
    else if (strcmp(name, "fp8") == 0)
        kv->format = KV_FP8;
    else if (strcmp(name, "int8") == 0)
        kv->format = KV_INT8;
    else
        return err_set(err, ERR_INVALID, "KV format \"%s\" is none of auto, f32, bf16, int8, fp8", name);
    return 0;
}

uint64_t memory_plan_kv_budget(const struct backend *backend, uint64_t left_bytes) {
    return backend_holds_weights(backend) ? left_bytes / 5 * 4 : left_bytes / 2;
}

uint64_t memory_plan_kv_bytes(const struct model_spec *spec, int32_t n_tokens) {
    struct kv_shape shape = {.n_layers = spec->n_layers,
                             .n_kv_heads = spec->n_kv_heads,
                             .head_dim = spec->head_dim,
                             .block_tokens = BLOCK_TOKENS,
                             .format = KV_F32};
    return kv_bytes_per_block(&shape) * (((uint64_t)n_tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
}

int32_t memory_plan_rows(const struct backend *backend) {
    return backend_holds_weights(backend) ? ROWS_AUTO_DEVICE : ROWS_AUTO;
}

// Blocks that the cache gets: what was asked for, else what all sequences could need, within the budget.
static int choose_blocks(struct memory_plan *plan, const struct engine_options *options, uint64_t kv_budget,
                         struct err *err) {
    struct engine_limits *limits = &plan->limits;
    uint64_t block_bytes = kv_bytes_per_block(&plan->kv);
    uint64_t per_sequence = ((uint64_t)limits->context + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    uint64_t budget = options->kv_bytes ? options->kv_bytes : kv_budget;
    uint64_t n_blocks = budget / block_bytes;
    if (!options->kv_bytes && n_blocks > per_sequence * (uint64_t)limits->sequences_max)
        n_blocks = per_sequence * (uint64_t)limits->sequences_max;
    if (n_blocks > INT32_MAX / BLOCK_TOKENS) n_blocks = INT32_MAX / BLOCK_TOKENS;
    if (n_blocks < 1)
        return err_set(err, ERR_LIMIT, "the KV cache has room for no block: one needs %.1f MiB, %.1f MiB are there",
                       (double)block_bytes / 0x1p20, (double)budget / 0x1p20);
    plan->kv.n_blocks = limits->n_blocks = (int32_t)n_blocks;
    // A sequence must fit into the cache alone, or it could never finish.
    if (n_blocks < per_sequence) limits->context = (int32_t)n_blocks * BLOCK_TOKENS;
    return 0;
}

int memory_plan_make(struct memory_plan *out, const struct model_spec *spec, int32_t n_token_ids,
                     const struct engine_options *options, uint64_t kv_budget, struct err *err) {
    *out = (struct memory_plan){0};
    struct engine_limits *limits = &out->limits;
    if (options->context < 0 || options->context > spec->context_max)
        return err_set(err, ERR_INVALID, "a context of %d tokens was asked for; the model was made for 1 to %d",
                       options->context, spec->context_max);
    assert(options->rows_max >= 0 && options->sequences_max >= 0);
    limits->vocab = n_token_ids;
    limits->context = options->context ? options->context : spec->context_max;
    limits->rows_max = options->rows_max ? options->rows_max : ROWS_AUTO;
    limits->sequences_max =
        options->sequences_max ? options->sequences_max : min_i32(MEMORY_PLAN_SEQUENCES, limits->rows_max);
    limits->block_tokens = BLOCK_TOKENS;
    out->kv = (struct kv_shape){.n_layers = spec->n_layers,
                                .n_kv_heads = spec->n_kv_heads,
                                .head_dim = spec->head_dim,
                                .block_tokens = BLOCK_TOKENS};
    int rc = choose_kv_format(&out->kv, spec, options->kv_format, err);
    if (!rc) rc = choose_blocks(out, options, kv_budget, err);
    if (rc) return rc;
    if (limits->sequences_max > limits->rows_max) limits->sequences_max = limits->rows_max;
    int32_t n_logit_rows = options->speculates ? min_i32(LOGIT_ROWS_DRAFTS, limits->rows_max) : LOGIT_ROWS_MIN;
    limits->logit_rows_max = limits->sequences_max > n_logit_rows ? limits->sequences_max : n_logit_rows;
    int64_t blocks_per_sequence = (limits->context + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    limits->block_table_max = min_i32(blocks_per_sequence * limits->sequences_max, INT32_MAX);
    limits->edits_max = EDITS_MAX;
    limits->seen_max = limits->context > SEEN_MIN ? limits->context : SEEN_MIN;
    limits->steps_in_flight = options->steps_in_flight;
    return 0;
}
