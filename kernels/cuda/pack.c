// A step's input as one run of bytes: what the engine filled, cut to what is used, with the plan of attention behind.
#include "kernels/cuda/cuda_backend.h"

#include <assert.h>
#include <string.h>

enum { PACK_ALIGN = 16 };

static uint32_t align_up(size_t n_bytes) {
    return (uint32_t)((n_bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN);
}

void cuda_pack_limits(struct pack_limits *out, const struct program *program, const struct attention_limits *limits) {
    const struct program_shape *shape = &program->shape;
    const struct kv_shape *kv = &program->backend->kv;
    int64_t context_blocks = ((int64_t)shape->context + kv->block_tokens - 1) / kv->block_tokens;
    if (context_blocks == 0 || context_blocks > kv->n_blocks) context_blocks = kv->n_blocks;
    int64_t table = context_blocks * shape->sequences_max;
    *out = (struct pack_limits){.block_table_max = table < INT32_MAX / 8 ? (int32_t)table : INT32_MAX / 8,
                                .edits_max = shape->edits_max,
                                .seen_max = shape->seen_max};
    attention_capacity(limits, &out->attention);
    size_t rows = (size_t)shape->rows_max, logit_rows = (size_t)shape->logit_rows_max;
    const size_t parts[] = {sizeof(struct device_step),
                            rows * 3 * sizeof(int32_t),
                            (size_t)shape->sequences_max * sizeof(struct step_sequence),
                            (size_t)out->block_table_max * sizeof(int32_t),
                            logit_rows * (sizeof(int32_t) + sizeof(struct sample_params)),
                            (size_t)out->edits_max * sizeof(struct logit_edit),
                            (size_t)out->seen_max * sizeof(struct seen_token),
                            (size_t)out->attention.items_max * 2 * sizeof(struct attention_item),
                            (size_t)out->attention.merges_max * sizeof(struct attention_merge)};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) out->n_bytes += parts[i] + (size_t)3 * PACK_ALIGN;
}

static uint32_t put(struct device_step *out, const void *array, int32_t count, size_t n_bytes) {
    uint32_t at = out->n_bytes;
    if (count > 0) memcpy((char *)out + at, array, (size_t)count * n_bytes);
    out->n_bytes = align_up(at + (size_t)count * n_bytes);
    return at;
}

// Tokens and block numbers index memory of the device, where nothing would stop a wrong one.
static void check_indices(const struct cuda_program *program, const struct step_input *input) {
    const struct program *common = &program->common;
    const struct cuda_backend *backend = program->backend;
    int32_t n_drawn = backend->n_submitted ? backend->steps[(backend->n_submitted - 1) % STEPS_MAX].n_logit_rows : 0;
    bool is_wrong = false;
    for (int32_t i = 0; i < input->n_rows; i++)
        is_wrong |= input->token[i] >= common->shape.vocab || input->token[i] <= STEP_TOKEN_REF(n_drawn);
    uint32_t n_blocks = (uint32_t)common->backend->kv.n_blocks;
    for (int32_t i = 0; i < input->n_block_table; i++) is_wrong |= (uint32_t)input->block_table[i] >= n_blocks;
    for (int32_t i = 0; i < input->n_logit_rows; i++)
        is_wrong |= (uint32_t)input->logit_row[i] >= (uint32_t)input->n_rows;
    assert(!is_wrong);
}

static void check_sequences(const struct cuda_program *program, const struct step_input *input) {
    int32_t block_tokens = program->common.backend->kv.block_tokens;
    bool is_wrong = false;
    for (int32_t i = 0; i < input->n_sequences; i++) {
        const struct step_sequence *s = &input->sequences[i];
        int32_t n_blocks = (s->kv_len + block_tokens - 1) / block_tokens;
        is_wrong |= s->row_first < 0 || s->row_count < 1 || s->row_first + s->row_count > input->n_rows;
        is_wrong |= s->kv_len < s->row_count || s->block_first < 0 || s->block_first + n_blocks > input->n_block_table;
    }
    assert(!is_wrong);
}

static void check_sampling(const struct cuda_program *program, const struct step_input *input) {
    int32_t vocab = program->common.shape.vocab;
    bool is_wrong = false;
    for (int32_t i = 0; i < input->n_logit_rows; i++) {
        const struct sample_params *p = &input->sample[i];
        is_wrong |= p->edit_first < 0 || p->edit_count < 0 || p->edit_first + p->edit_count > input->n_edits;
        is_wrong |= p->seen_first < 0 || p->seen_count < 0 || p->seen_first + p->seen_count > input->n_seen;
        is_wrong |= p->forced_token >= vocab || p->n_top_logprobs > TOP_LOGPROBS_MAX;
    }
    for (int32_t i = 0; i < input->n_edits; i++) is_wrong |= (uint32_t)input->edits[i].token >= (uint32_t)vocab;
    for (int32_t i = 0; i < input->n_seen; i++) is_wrong |= (uint32_t)input->seen[i].token >= (uint32_t)vocab;
    assert(!is_wrong);
}

// The plan is written with room for the most of each kind, then its parts move together.
static void put_attention(const struct cuda_program *program, const struct step_input *input, struct device_step *out) {
    size_t items_bytes = align_up((size_t)program->pack.attention.items_max * sizeof(struct attention_item));
    char *at = (char *)out + out->n_bytes;
    struct attention_work work = {.decode_items = (void *)at,
                                  .prefill_items = (void *)(at + items_bytes),
                                  .merges = (void *)(at + 2 * items_bytes)};
    attention_plan(&program->attention_limits, input, &work);
    out->n_decode_items = work.n_decode_items;
    out->n_prefill_items = work.n_prefill_items;
    out->n_merges = work.n_merges;
    out->decode_items = out->n_bytes;
    out->n_bytes = align_up(out->n_bytes + (size_t)work.n_decode_items * sizeof *work.decode_items);
    const struct {
        uint32_t *at;
        const void *from;
        size_t n_bytes;
    } parts[] = {{&out->prefill_items, work.prefill_items, (size_t)work.n_prefill_items * sizeof *work.prefill_items},
                 {&out->merges, work.merges, (size_t)work.n_merges * sizeof *work.merges}};
    for (int i = 0; i < 2; i++) {
        *parts[i].at = out->n_bytes;
        memmove((char *)out + out->n_bytes, parts[i].from, parts[i].n_bytes);
        out->n_bytes = align_up(out->n_bytes + parts[i].n_bytes);
    }
}

void cuda_pack(const struct cuda_program *program, const struct step_input *input, struct device_step *out) {
    const struct pack_limits *limits = &program->pack;
    assert(input->n_block_table <= limits->block_table_max);
    assert(input->n_edits <= limits->edits_max && input->n_seen <= limits->seen_max);
    check_indices(program, input);
    check_sequences(program, input);
    check_sampling(program, input);
    *out = (struct device_step){.n_rows = input->n_rows,
                                .n_sequences = input->n_sequences,
                                .n_logit_rows = input->n_logit_rows,
                                .n_bytes = align_up(sizeof *out)};
    out->token = put(out, input->token, input->n_rows, sizeof *input->token);
    out->position = put(out, input->position, input->n_rows, sizeof *input->position);
    out->sequence = put(out, input->sequence, input->n_rows, sizeof *input->sequence);
    out->sequences = put(out, input->sequences, input->n_sequences, sizeof *input->sequences);
    out->block_table = put(out, input->block_table, input->n_block_table, sizeof *input->block_table);
    out->logit_row = put(out, input->logit_row, input->n_logit_rows, sizeof *input->logit_row);
    out->sample = put(out, input->sample, input->n_logit_rows, sizeof *input->sample);
    out->edits = put(out, input->edits, input->n_edits, sizeof *input->edits);
    out->seen = put(out, input->seen, input->n_seen, sizeof *input->seen);
    put_attention(program, input, out);
}
