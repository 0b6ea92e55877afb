#include "tests/cuda/attention_world.h"
#include "kernels/cuda/attention_parts.h"
#include "tests/cuda/random_weight.h"

#include <math.h>

enum { PADDING_ROWS = 3, SPARE_BLOCKS = 5 };

static void *zeroed(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    assert(p);
    return p;
}

// ------------------------------------------------------------------------------------------------------ the input

static void make_input(struct world *w, const struct world_sequence *sequences, int32_t n_sequences, uint64_t key) {
    struct step_input *in = &w->input;
    in->n_sequences = n_sequences;
    in->sequences = zeroed((size_t)n_sequences, sizeof *in->sequences);
    for (int32_t s = 0; s < n_sequences; s++) {
        in->sequences[s] = (struct step_sequence){.row_first = in->n_rows,
                                                  .row_count = sequences[s].n_rows,
                                                  .kv_len = sequences[s].kv_len,
                                                  .block_first = in->n_block_table};
        in->n_rows += sequences[s].n_rows;
        in->n_block_table += (sequences[s].kv_len + ATTENTION_BLOCK - 1) / ATTENTION_BLOCK;
    }
    w->n_rows_bucket = in->n_rows + PADDING_ROWS;
    w->kv_shape.n_blocks = in->n_block_table + SPARE_BLOCKS;
    in->position = zeroed((size_t)in->n_rows, sizeof(int32_t));
    in->sequence = zeroed((size_t)in->n_rows, sizeof(int32_t));
    in->block_table = zeroed((size_t)w->kv_shape.n_blocks, sizeof(int32_t));
    for (int32_t s = 0; s < n_sequences; s++)
        for (int32_t r = 0; r < sequences[s].n_rows; r++) {
            int32_t row = in->sequences[s].row_first + r;
            in->position[row] = sequences[s].kv_len - sequences[s].n_rows + r;
            in->sequence[row] = s;
        }
    for (int32_t i = 0; i < w->kv_shape.n_blocks; i++) in->block_table[i] = i;
    for (int32_t i = w->kv_shape.n_blocks - 1; i > 0; i--) {
        int32_t j = (int32_t)(rng_u32(key + 1, (uint64_t)i) % (uint32_t)(i + 1)), swapped = in->block_table[i];
        in->block_table[i] = in->block_table[j];
        in->block_table[j] = swapped;
    }
    for (int32_t s = 1; s < n_sequences; s++) {
        if (!sequences[s].shares) continue;
        int32_t own = (sequences[s].kv_len - sequences[s].n_rows) / ATTENTION_BLOCK;
        int32_t before = in->sequences[s - 1].kv_len / ATTENTION_BLOCK;
        for (int32_t i = 0; i < own && i < before; i++)
            in->block_table[in->sequences[s].block_first + i] = in->block_table[in->sequences[s - 1].block_first + i];
    }
}

// ------------------------------------------------------------------------------------------------------ the cache

// Writes one token's K or V of a head, as attention_in_finish would; `exact`: what was written.
static void write_head(const struct world *w, unsigned char *half, int32_t slot, const float *x, double *exact) {
    int32_t n = w->shape.head_dim;
    float largest = 0;
    for (int32_t d = 0; d < n; d++) largest = fmaxf(largest, fabsf(x[d]));
    float scale = largest / 448;
    for (int32_t d = 0; d < n; d++) {
        size_t at = (size_t)slot * (size_t)n + (size_t)d;
        if (w->shape.format == KV_F32) {
            ((float *)(void *)half)[at] = x[d];
            exact[d] = (double)x[d];
        } else if (w->shape.format == KV_BF16) {
            uint16_t bits = bf16_from_f32(x[d]);
            ((uint16_t *)(void *)half)[at] = bits;
            exact[d] = (double)f32_from_bf16(bits);
        } else {
            half[at] = e4m3_from_f32(x[d] / scale);
            exact[d] = (double)f32_from_e4m3(half[at]) * (double)scale;
        }
    }
    if (w->shape.format == KV_FP8) ((float *)(void *)(half + ATTENTION_BLOCK * n))[slot] = scale;
}

static size_t kv_index(const struct world *w, int32_t block, int32_t head, int32_t slot) {
    size_t row = ((size_t)block * (size_t)w->shape.n_kv_heads + (size_t)head) * ATTENTION_BLOCK + (size_t)slot;
    return row * (size_t)w->shape.head_dim;
}

// Sequence s draws from key + its length, so that a sequence is the same in every step that it is part of.
static void fill_cache(struct world *w, unsigned char *cache, uint64_t key) {
    size_t half_bytes = attention_half_bytes(w->shape.format, w->shape.head_dim);
    float x[256];
    for (int32_t s = 0; s < w->input.n_sequences; s++)
        for (int32_t p = 0; p < w->input.sequences[s].kv_len; p++)
            for (int32_t i = 0; i < 2 * w->shape.n_kv_heads; i++) {
                int32_t block = w->input.block_table[w->input.sequences[s].block_first + p / ATTENTION_BLOCK];
                int32_t head = i / 2, slot = p % ATTENTION_BLOCK;
                uint64_t draw = rng_key(key + 2, (uint64_t)i, (uint64_t)p);
                // A few large channels and a few zeros; keys vary in size from token to token.
                float size = i % 2 ? 1.0f : 0.25f + (float)(p % 7) * 0.25f;
                for (int32_t d = 0; d < w->shape.head_dim; d++)
                    x[d] = p % 13 == 5 && d % 3 == 0 ? 0.0f
                                                     : random_normal(draw, (uint64_t)d) * (d == 5 ? 8 * size : size);
                size_t at = kv_index(w, block, head, slot);
                size_t half = ((size_t)block * (size_t)w->shape.n_kv_heads + (size_t)head) * 2 + (size_t)(i % 2);
                write_head(w, cache + half * half_bytes, slot, x, (i % 2 ? w->value : w->key) + at);
            }
}

static void *make_queries(struct world *w, uint64_t key) {
    size_t n_heads = (size_t)(w->shape.group * w->shape.n_kv_heads), width = n_heads * (size_t)w->shape.head_dim;
    size_t n = (size_t)w->n_rows_bucket * width;
    bool is_f32 = w->shape.format == KV_F32;
    void *host = zeroed(n, 4);
    memset(host, 0xff, n * 4);
    w->query = zeroed(n, sizeof(double));
    for (int32_t r = 0; r < w->input.n_rows; r++)
        for (size_t i = 0; i < width; i++) {
            size_t at = (size_t)r * width + i;
            float x = random_normal(rng_key(key + 3, 0, (uint64_t)w->input.position[r]), i);
            if (is_f32)
                ((float *)host)[at] = x;
            else
                ((uint16_t *)host)[at] = bf16_from_f32(x);
            w->query[at] = (double)(is_f32 ? x : f32_from_bf16(bf16_from_f32(x)));
        }
    void *device = device_upload(&w->buffers, host, n * (is_f32 ? 4 : 2));
    free(host);
    return device;
}

// ------------------------------------------------------------------------------------------------------- the step

static uint32_t append(unsigned char *packed, uint32_t *used, const void *data, size_t n_bytes) {
    uint32_t at = *used;
    if (n_bytes) memcpy(packed + at, data, n_bytes);
    *used = (at + (uint32_t)n_bytes + 15) / 16 * 16;
    return at;
}

static void pack_step(struct world *w) {
    const struct step_input *in = &w->input;
    const struct attention_work *work = &w->work;
    size_t n_rows = (size_t)in->n_rows, n_blocks = (size_t)w->kv_shape.n_blocks;
    size_t n_items = (size_t)work->n_decode_items, n_tiles = (size_t)work->n_prefill_items;
    size_t n_merges = (size_t)work->n_merges;
    unsigned char *packed = zeroed(1, 8192 + n_rows * 8 + n_blocks * 4 + (n_items + n_tiles + n_merges) * 64);
    struct device_step step = {.n_rows = in->n_rows,
                               .n_sequences = in->n_sequences,
                               .n_decode_items = work->n_decode_items,
                               .n_prefill_items = work->n_prefill_items,
                               .n_merges = work->n_merges};
    uint32_t used = (sizeof step + 15) / 16 * 16;
    step.position = append(packed, &used, in->position, n_rows * sizeof(int32_t));
    step.sequence = append(packed, &used, in->sequence, n_rows * sizeof(int32_t));
    step.sequences = append(packed, &used, in->sequences, (size_t)in->n_sequences * sizeof *in->sequences);
    step.block_table = append(packed, &used, in->block_table, n_blocks * sizeof(int32_t));
    step.decode_items = append(packed, &used, work->decode_items, n_items * sizeof *work->decode_items);
    step.prefill_items = append(packed, &used, work->prefill_items, n_tiles * sizeof *work->prefill_items);
    step.merges = append(packed, &used, work->merges, n_merges * sizeof *work->merges);
    step.n_bytes = used;
    memcpy(packed, &step, sizeof step);
    w->step = device_upload(&w->buffers, packed, used);
    free(packed);
}

static void make_plan(struct world *w) {
    struct attention_limits limits = {.rows_max = w->n_rows_bucket,
                                      .sequences_max = WORLD_SEQUENCES_MAX,
                                      .n_heads = w->shape.group * w->shape.n_kv_heads,
                                      .n_kv_heads = w->shape.n_kv_heads,
                                      .head_dim = w->shape.head_dim,
                                      .n_processors = w->shape.n_processors,
                                      .deterministic = w->shape.deterministic};
    attention_capacity(&limits, &w->capacity);
    w->work.decode_items = zeroed((size_t)w->capacity.items_max, sizeof(struct attention_item));
    w->work.prefill_items = zeroed((size_t)w->capacity.items_max, sizeof(struct attention_item));
    w->work.merges = zeroed((size_t)w->capacity.merges_max, sizeof(struct attention_merge));
    attention_plan(&limits, &w->input, &w->work);
}

void world_open(struct world *w, const struct world_shape *shape, const struct world_sequence *sequences,
                int32_t n_sequences, uint64_t key) {
    *w = (struct world){.shape = *shape};
    w->kv_shape = (struct kv_shape){.n_layers = 2,
                                    .n_kv_heads = shape->n_kv_heads,
                                    .head_dim = shape->head_dim,
                                    .block_tokens = ATTENTION_BLOCK,
                                    .format = shape->format};
    make_input(w, sequences, n_sequences, key);
    size_t n_heads = (size_t)w->kv_shape.n_blocks * (size_t)shape->n_kv_heads;
    size_t layer_bytes = n_heads * 2 * attention_half_bytes(shape->format, shape->head_dim);
    unsigned char *cache = zeroed(1, 2 * layer_bytes);
    memset(cache, 0xff, 2 * layer_bytes);
    w->key = zeroed(n_heads * ATTENTION_BLOCK * (size_t)shape->head_dim, sizeof(double));
    w->value = zeroed(n_heads * ATTENTION_BLOCK * (size_t)shape->head_dim, sizeof(double));
    fill_cache(w, cache + layer_bytes, key);
    make_plan(w);
    pack_step(w);
    w->run = (struct attention_run){
        .step = w->step,
        .n_rows = w->n_rows_bucket,
        .has_decode = w->work.n_decode_items > 0,
        .has_prefill = w->work.n_prefill_items > 0,
        .deterministic = shape->deterministic,
        .query = make_queries(w, key),
        .kv = {.data = device_upload(&w->buffers, cache, 2 * layer_bytes),
               .layer_bytes = layer_bytes,
               .shape = w->kv_shape},
        .layer = 1,
        .n_heads = shape->group * shape->n_kv_heads,
        .scale = 1.0f / sqrtf((float)shape->head_dim),
        .soft_cap = shape->soft_cap,
        .window = shape->window,
        .partials = device_poisoned(&w->buffers, w->capacity.partial_bytes),
        .n_processors = shape->n_processors,
        .out_format = shape->out_format,
    };
    free(cache);
}

void world_close(struct world *w) {
    device_buffers_free(&w->buffers);
    free(w->input.sequences);
    free(w->input.position);
    free(w->input.sequence);
    free(w->input.block_table);
    free(w->query);
    free(w->key);
    free(w->value);
    free(w->work.decode_items);
    free(w->work.prefill_items);
    free(w->work.merges);
}

// ------------------------------------------------------------------------------------------------ run and compare

float *world_run(struct world *w) {
    size_t n = (size_t)(w->n_rows_bucket * w->run.n_heads * w->shape.head_dim);
    size_t n_bytes = n * operand_bytes(w->shape.out_format);
    void *device = device_poisoned(&w->buffers, n_bytes);
    w->run.out = device;
    cudaError_t error = attention_run(&w->run, NULL);
    assert(error == cudaSuccess);
    (void)error;
    void *host = device_download(device, n_bytes);
    assert(host);
    if (w->shape.out_format == OPERAND_F32) return host;
    float *out = zeroed(n, sizeof(float));
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = ((uint16_t *)host)[i];
        out[i] = w->shape.out_format == OPERAND_BF16 ? f32_from_bf16(bits) : f32_from_f16(bits);
    }
    free(host);
    return out;
}

static void expect_query(const struct world *w, int32_t row, int32_t head, double *out) {
    int32_t position = w->input.position[row], n = w->shape.head_dim;
    const int32_t *blocks = w->input.block_table + w->input.sequences[w->input.sequence[row]].block_first;
    const double *query = w->query + (size_t)(row * w->run.n_heads + head) * (size_t)n;
    int32_t first = w->shape.window && position >= w->shape.window ? position - w->shape.window + 1 : 0;
    double *score = zeroed((size_t)position + 1, sizeof *score), largest = -INFINITY, sum = 0;
    for (int32_t p = first; p <= position; p++) {
        const double *k = w->key + kv_index(w, blocks[p / ATTENTION_BLOCK], head / w->shape.group, p % ATTENTION_BLOCK);
        for (int32_t d = 0; d < n; d++) score[p] += query[d] * k[d];
        score[p] *= (double)w->run.scale;
        double cap = (double)w->shape.soft_cap;
        if (cap > 0) score[p] = cap * tanh(score[p] / cap);
        largest = fmax(largest, score[p]);
    }
    for (int32_t p = first; p <= position; p++) {
        double weight = exp(score[p] - largest);
        const double *v =
            w->value + kv_index(w, blocks[p / ATTENTION_BLOCK], head / w->shape.group, p % ATTENTION_BLOCK);
        sum += weight;
        for (int32_t d = 0; d < n; d++) out[d] += weight * v[d];
    }
    for (int32_t d = 0; d < n; d++) out[d] /= sum;
    free(score);
}

double *world_expected(const struct world *w) {
    double *out = zeroed((size_t)(w->input.n_rows * w->run.n_heads * w->shape.head_dim), sizeof *out);
    for (int32_t r = 0; r < w->input.n_rows; r++)
        for (int32_t h = 0; h < w->run.n_heads; h++)
            expect_query(w, r, h, out + (size_t)(r * w->run.n_heads + h) * (size_t)w->shape.head_dim);
    return out;
}

double relative_error(const float *out, const double *expected, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(out[i])) return INFINITY;
        difference += ((double)out[i] - expected[i]) * ((double)out[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    return sqrt(difference / size);
}
