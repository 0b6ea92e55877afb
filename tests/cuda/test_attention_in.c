// Finished queries, keys and values against doubles: norm, both rotations, every cache; nothing else is written.
#include "tests/test.h"

#include "kernels/cuda/attention_parts.h"
#include "tests/cuda/random_weight.h"
#include "tests/cuda/thread_order.h"

#include <math.h>

struct in_case {
    int32_t head_dim, n_heads, n_kv_heads;
    enum kv_format format;
    bool has_norm;
    int32_t n_dims; // 0: no rotation
    bool interleaved;
};

static const struct in_case cases[] = {
    {8, 8, 4, KV_F32, false, 8, false},    {8, 8, 4, KV_F32, true, 8, true},
    {64, 5, 1, KV_BF16, true, 64, false},  {128, 6, 2, KV_BF16, true, 128, false},
    {128, 2, 1, KV_FP8, true, 32, true},   {256, 3, 1, KV_FP8, false, 128, false},
    {96, 2, 2, KV_BF16, false, 0, false},  {80, 2, 1, KV_FP8, false, 20, false},
    {256, 1, 1, KV_F32, true, 250, false}, {128, 32, 8, KV_BF16, false, 96, true},
};

// Two sequences of two layers: positions 14 .. 18 cross a block, 31 is a last slot, 0 a first one. Rows 6 and 7 of the
// bucket are padding.
enum { ROWS = 6, BUCKET = 8, BLOCKS = 6, LAYERS = 2, LAYER = 1 };
static const struct step_sequence sequences[] = {{1, 5, 19, 0}, {0, 1, 32, 2}};
static const int32_t row_sequence[ROWS] = {1, 0, 0, 0, 0, 0}, row_position[ROWS] = {31, 14, 15, 16, 17, 18};
static const int32_t block_table[] = {4, 1, 5, 2};

struct packed_step {
    struct device_step step;
    _Alignas(16) int32_t position[ROWS];
    _Alignas(16) int32_t sequence[ROWS];
    _Alignas(16) struct step_sequence sequences[2];
    _Alignas(16) int32_t block_table[4];
};

static void pack(struct packed_step *packed) {
    *packed = (struct packed_step){.step = {.n_rows = ROWS,
                                            .n_sequences = 2,
                                            .position = offsetof(struct packed_step, position),
                                            .sequence = offsetof(struct packed_step, sequence),
                                            .sequences = offsetof(struct packed_step, sequences),
                                            .block_table = offsetof(struct packed_step, block_table)}};
    memcpy(packed->position, row_position, sizeof row_position);
    memcpy(packed->sequence, row_sequence, sizeof row_sequence);
    memcpy(packed->sequences, sequences, sizeof sequences);
    memcpy(packed->block_table, block_table, sizeof block_table);
}

static float *random_floats(size_t n, uint64_t key, float size) {
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = size * random_normal(key, i);
    return x;
}

struct inputs {
    float *qkv, *q_norm, *k_norm, *cosine, *sine;
};

// One head of one row, as it is before rounding. `kind`: 0 query, 1 key, 2 value.
static void expected_head(const struct in_case *c, const struct inputs *in, int32_t row, int32_t head, int kind,
                          double *out) {
    int32_t n = c->head_dim, half = c->n_dims / 2;
    int32_t n_all = c->n_heads + 2 * c->n_kv_heads;
    int32_t index = kind == 0 ? head : c->n_heads + (kind - 1) * c->n_kv_heads + head;
    const float *x = in->qkv + ((size_t)row * (size_t)n_all + (size_t)index) * (size_t)n;
    double sum = 0;
    for (int32_t d = 0; d < n; d++) sum += (double)x[d] * (double)x[d];
    const float *weight = kind == 0 ? in->q_norm : in->k_norm;
    bool is_normed = c->has_norm && kind < 2;
    for (int32_t d = 0; d < n; d++)
        out[d] = is_normed ? (double)x[d] / sqrt(sum / n + 1e-5) * (double)weight[d] : (double)x[d];
    for (int32_t i = 0; i < half && kind < 2; i++) {
        double *a = out + (c->interleaved ? 2 * i : i), *b = c->interleaved ? a + 1 : a + half, before = *a;
        double cosine = (double)in->cosine[row * half + i], sine = (double)in->sine[row * half + i];
        *a = before * cosine - *b * sine;
        *b = before * sine + *b * cosine;
    }
}

static void check_head(const struct in_case *c, const double *expected, const double *found, const char *what) {
    // BF16 and FP8 round to 8 and 4 bits, FP8 relative to the largest element, whose code is 448.
    double largest = 0;
    for (int32_t d = 0; d < c->head_dim; d++) largest = fmax(largest, fabs(expected[d]));
    for (int32_t d = 0; d < c->head_dim; d++) {
        double relative = c->format == KV_F32 ? 2e-6 : c->format == KV_BF16 ? 0x1.01p-8 : 0x1.01p-4;
        double limit = fabs(expected[d]) * relative + largest * (c->format == KV_FP8 ? 0x1p-10 / 448 + 1e-6 : 1e-6);
        if (!(fabs(found[d] - expected[d]) <= limit))
            fail_msg("%s, element %d of %d: %g, not %g", what, d, c->head_dim, found[d], expected[d]);
    }
}

// The numbers of one half's slot; their bytes become 0xff again, as before the run.
static void take_slot(const struct in_case *c, unsigned char *half, int32_t slot, double *out) {
    size_t n = (size_t)c->head_dim, first = (size_t)slot * n;
    float *scale = (float *)(void *)(half + ATTENTION_BLOCK * n) + slot;
    for (size_t d = 0; d < n; d++)
        out[d] = c->format == KV_F32    ? (double)((float *)(void *)half)[first + d]
                 : c->format == KV_BF16 ? (double)f32_from_bf16(((uint16_t *)(void *)half)[first + d])
                                        : (double)f32_from_e4m3(half[first + d]) * (double)*scale;
    size_t bytes = c->format == KV_F32 ? 4 : c->format == KV_BF16 ? 2 : 1;
    memset(half + first * bytes, 0xff, n * bytes);
    if (c->format == KV_FP8) memset(scale, 0xff, sizeof *scale);
}

static void check_cache(const struct in_case *c, const struct inputs *in, unsigned char *cache, size_t n_bytes) {
    size_t half_bytes = attention_half_bytes(c->format, c->head_dim);
    double expected[256], found[256];
    for (int32_t row = 0; row < ROWS; row++)
        for (int32_t i = 0; i < 2 * c->n_kv_heads; i++) {
            int32_t first = sequences[row_sequence[row]].block_first;
            int32_t block = block_table[first + row_position[row] / ATTENTION_BLOCK];
            size_t at = ((size_t)(LAYER * BLOCKS + block) * (size_t)c->n_kv_heads + (size_t)(i / 2)) * 2;
            expected_head(c, in, row, i / 2, 1 + i % 2, expected);
            take_slot(c, cache + (at + (size_t)(i % 2)) * half_bytes, row_position[row] % ATTENTION_BLOCK, found);
            check_head(c, expected, found, i % 2 ? "value" : "key");
        }
    for (size_t i = 0; i < n_bytes; i++) assert_int_equal(cache[i], 0xff);
}

static void check_query(const struct in_case *c, const struct inputs *in, const void *query) {
    double expected[256], found[256];
    struct in_case as_query = *c;
    if (c->format == KV_FP8) as_query.format = KV_BF16;
    for (int32_t i = 0; i < BUCKET * c->n_heads; i++) {
        for (int32_t d = 0; d < c->head_dim; d++) {
            size_t at = (size_t)i * (size_t)c->head_dim + (size_t)d;
            found[d] = (double)(c->format == KV_F32 ? ((const float *)query)[at]
                                                    : f32_from_bf16(((const uint16_t *)query)[at]));
            if (i >= ROWS * c->n_heads) assert_true(isnan(found[d]));
        }
        if (i >= ROWS * c->n_heads) continue;
        expected_head(c, in, i / c->n_heads, i % c->n_heads, 0, expected);
        check_head(&as_query, expected, found, "query");
    }
}

static void run_case(const struct in_case *c, uint64_t key) {
    size_t n = (size_t)c->head_dim, n_all = (size_t)(c->n_heads + 2 * c->n_kv_heads), n_table = BUCKET * n / 2;
    struct inputs in = {.qkv = random_floats(BUCKET * n_all * n, key, 3),
                        .q_norm = random_floats(n, key + 1, 1),
                        .k_norm = random_floats(n, key + 2, 1),
                        .cosine = random_floats(n_table, key + 3, 1),
                        .sine = random_floats(n_table, key + 4, 1)};
    struct device_buffers buffers = {.count = 0};
    size_t half_bytes = attention_half_bytes(c->format, c->head_dim);
    size_t layer_bytes = BLOCKS * (size_t)c->n_kv_heads * 2 * half_bytes;
    size_t query_bytes = BUCKET * (size_t)c->n_heads * n * (c->format == KV_F32 ? 4 : 2);
    struct packed_step packed;
    pack(&packed);
    struct attention_in_finish op = {
        .step = device_upload(&buffers, &packed, sizeof packed),
        .n_rows = BUCKET,
        .qkv = device_upload(&buffers, in.qkv, BUCKET * n_all * n * sizeof(float)),
        .q_norm = c->has_norm ? device_upload(&buffers, in.q_norm, n * sizeof(float)) : NULL,
        .k_norm = c->has_norm ? device_upload(&buffers, in.k_norm, n * sizeof(float)) : NULL,
        .norm_eps = 1e-5f,
        .cosine = c->n_dims ? device_upload(&buffers, in.cosine, n_table * sizeof(float)) : NULL,
        .sine = c->n_dims ? device_upload(&buffers, in.sine, n_table * sizeof(float)) : NULL,
        .n_dims = c->n_dims,
        .interleaved = c->interleaved,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .kv = {.data = device_poisoned(&buffers, LAYERS * layer_bytes),
               .layer_bytes = layer_bytes,
               .shape = {LAYERS, c->n_kv_heads, c->head_dim, ATTENTION_BLOCK, BLOCKS, c->format}},
        .layer = LAYER,
        .query = device_poisoned(&buffers, query_bytes),
    };
    assert_int_equal(attention_in_finish(&op, NULL), cudaSuccess);
    unsigned char *cache = device_download(op.kv.data, LAYERS * layer_bytes);
    void *query = device_download(op.query, query_bytes);
    assert_true(cache && query);
    check_query(c, &in, query);
    check_cache(c, &in, cache, LAYERS * layer_bytes);
    free(cache);
    free(query);
    float *all[] = {in.qkv, in.q_norm, in.k_norm, in.cosine, in.sine};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    device_buffers_free(&buffers);
}

static void test_heads_are_finished_where_they_belong(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        order_threads(i + 1);
        run_case(&cases[i], 10 * i + 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_heads_are_finished_where_they_belong)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
