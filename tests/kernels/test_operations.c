// Every vectorised operation agrees with its plain definition, over odd shapes, at any address, and writes and reads
// nothing beyond its rows; a row's bits do not depend on the rows and the range of outputs beside it.
#include "tests/test.h"

#include "kernels/cpu/cpu.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/prepared.h"

static const char *const instruction_sets[] = {"avx2", "avx512", "amx"};
enum { N_SETS = sizeof instruction_sets / sizeof *instruction_sets };

static const int32_t widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 100, 128, 172, 257, 1000};
enum { N_WIDTHS = sizeof widths / sizeof *widths };

static void for_each_set(void (*check)(const struct kernel_table *k)) {
    for (size_t i = 0; i < N_SETS; i++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
        if (k)
            check(k);
        else
            printf("%s is not here\n", instruction_sets[i]);
    }
}

// ------------------------------------------------------------------------------------------------------ matrix
// products

struct product {
    struct tensor weight;
    char *weight_memory;
    struct guarded x, bias;
    int32_t n_rows;
};

static struct product product_make(enum tensor_format format, int32_t n_out, int32_t n_in, int32_t n_rows,
                                   uint64_t seed) {
    struct product p = {.weight = {.format = format, .n_rows = n_out, .n_cols = n_in}, .n_rows = n_rows};
    struct guarded w = guarded_random((size_t)n_out * (size_t)n_in, 0, 1, seed);
    size_t n_bytes = tensor_bytes(&p.weight);
    p.weight_memory = malloc(n_bytes + 258);
    memset(p.weight_memory, 0xff, n_bytes + 258); // NaN in all formats
    char *data = p.weight_memory + 130;           // aligned to no vector
    for (size_t i = 0; i < w.n; i++) {
        uint16_t half = format == TENSOR_F16 ? f16_from_f32(w.data[i]) : bf16_from_f32(w.data[i]);
        if (format == TENSOR_F32)
            memcpy(data + 4 * i, &w.data[i], 4);
        else
            memcpy(data + 2 * i, &half, 2);
    }
    p.weight.data = data;
    p.x = guarded_random((size_t)n_rows * (size_t)n_in, 3, 1, seed + 1);
    p.bias = guarded_random((size_t)n_out, 1, 1, seed + 2);
    guarded_free(&w);
    return p;
}

static void product_free(struct product *p) {
    guarded_free(&p->x), guarded_free(&p->bias);
    free(p->weight_memory);
}

// Outputs [first, first + count) of rows [row, row + n_rows) into out [n_rows, n_out], elsewhere untouched.
static void product_run(const struct kernel_table *k, const struct product *p, int32_t row, int32_t n_rows,
                        int32_t first, int32_t count, float *out) {
    int32_t n_in = p->weight.n_cols;
    size_t stride = k->activation_bytes(p->weight.format, n_in);
    size_t n_grouped = ((size_t)n_rows + ACTIVATION_ROWS - 1) / ACTIVATION_ROWS * ACTIVATION_ROWS;
    char *prepared = aligned_alloc(64, stride * n_grouped);
    memset(prepared, 0xff, stride * n_grouped);
    for (int32_t r = 0; r < n_rows; r++)
        prepare_in_parts(k, prepared, r, p->x.data + (row + r) * n_in, p->weight.format, n_in);
    struct matmul m = {.weight = &p->weight,
                       .bias = row % 2 ? p->bias.data : NULL,
                       .activations = prepared,
                       .activation_stride = stride,
                       .out = out,
                       .out_stride = (size_t)p->weight.n_rows,
                       .n_rows = n_rows,
                       .out_first = first,
                       .out_count = count};
    k->matmul(&m);
    free(prepared);
}

static void check_products(const struct kernel_table *k) {
    for (uint64_t seed = 1; seed <= 150; seed++) {
        uint64_t key = rng_key(seed, 7, 7);
        enum tensor_format format = (enum tensor_format)(seed % 3);
        int32_t n_in = widths[rng_u32(key, 1) % N_WIDTHS], n_out = 1 + (int32_t)(rng_u32(key, 2) % 70);
        int32_t n_rows = 1 + (int32_t)(rng_u32(key, 3) % (seed % 5 ? 20 : 90));
        struct product p = product_make(format, n_out, n_in, n_rows, seed);
        struct guarded got = guarded_make((size_t)(n_rows * n_out), 5),
                       expected = guarded_make((size_t)(n_rows * n_out), 0);
        product_run(k, &p, 0, n_rows, 0, n_out, got.data);
        product_run(&ref_kernels, &p, 0, n_rows, 0, n_out, expected.data);
        // The rounding of sums of n_in products below 1.
        expect_close(k->name, got.data, expected.data, got.n, 1e-5f, 2e-7f * (float)n_in);
        guarded_free(&got), guarded_free(&expected);
        product_free(&p);
    }
}

static void products_agree(void **state) {
    (void)state;
    for_each_set(check_products);
}

static void check_product_bits(const struct kernel_table *k) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint64_t key = rng_key(seed, 8, 8);
        int32_t n_in = widths[rng_u32(key, 1) % N_WIDTHS], n_out = 1 + (int32_t)(rng_u32(key, 2) % 60);
        int32_t n_rows = 1 + (int32_t)(rng_u32(key, 3) % 40);
        struct product p = product_make((enum tensor_format)(seed % 3), n_out, n_in, n_rows, seed);
        struct guarded all = guarded_make((size_t)(n_rows * n_out), 0), one = guarded_make((size_t)n_out, 2);
        product_run(k, &p, 0, n_rows, 0, n_out, all.data);
        // Each row alone, its outputs in uneven pieces.
        for (int32_t r = 0; r < n_rows; r += 2)
            for (int32_t first = 0, count = 1; first < n_out; first += count, count = count * 2 + 1) {
                if (count > n_out - first) count = n_out - first;
                product_run(k, &p, r, 1, first, count, one.data);
                assert_memory_equal(one.data + first, all.data + r * n_out + first, (size_t)count * sizeof(float));
            }
        guarded_free(&all), guarded_free(&one);
        product_free(&p);
    }
}

static void product_bits_depend_on_the_row_alone(void **state) {
    (void)state;
    for_each_set(check_product_bits);
    check_product_bits(&ref_kernels);
}

// Rounding of activations: to nearest, ties to even, infinities, subnormals and NaN as the plain conversion has them.
static void check_rounding(const struct kernel_table *k) {
    static const uint32_t bits[] = {0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7fffff, 0x7f800000,
                                    0xff800000, 0x00000001, 0x00018000, 0x80008001, 0x807fffff, 0x7fc12345,
                                    0xffffffff, 0x7f800001, 0,          0x80000000, 0x42f6e979};
    enum { N = sizeof bits / sizeof *bits };
    float x[N];
    memcpy(x, bits, sizeof x);
    struct kv_layer kv = {.format = KV_BF16, .n_kv_heads = 1, .head_dim = N};
    uint16_t got[2 * KV_BLOCK_TOKENS * N] = {0}, expected[2 * KV_BLOCK_TOKENS * N] = {0};
    kv.data = got;
    k->kv_write(&kv, 0, 0, 3, x, x);
    kv.data = expected;
    ref_kernels.kv_write(&kv, 0, 0, 3, x, x);
    assert_memory_equal(got, expected, sizeof got);
}

static void bf16_rounding_is_exact(void **state) {
    (void)state;
    for_each_set(check_rounding);
}

// ----------------------------------------------------------------------------------------------------------
// elementwise

static void check_norm(const struct kernel_table *k, int32_t n, int shift) {
    struct guarded x = guarded_random((size_t)n, shift, 3, (uint64_t)n), w = guarded_random((size_t)n, 0, 2, 99);
    struct guarded got = guarded_make((size_t)n, shift), expected = guarded_make((size_t)n, 0);
    k->norm_rms(got.data, x.data, w.data, 1e-6f, n);
    ref_norm_rms(expected.data, x.data, w.data, 1e-6f, n);
    expect_close("norm_rms", got.data, expected.data, got.n, 1e-5f, 1e-6f);
    k->norm_rms(x.data, x.data, w.data, 1e-6f, n);
    assert_memory_equal(x.data, got.data, got.n * sizeof(float)); // in place
    guarded_free(&x), guarded_free(&w), guarded_free(&got), guarded_free(&expected);
}

static void check_gates(const struct kernel_table *k, int32_t n, int shift) {
    for (int a = 0; a <= ACTIVATION_SWIGLU_CLAMPED; a++) {
        struct guarded gate = guarded_random((size_t)n, shift, 12, (uint64_t)n),
                       up = guarded_random((size_t)n, 1, 2, 5);
        static const float extremes[] = {-1e4f, 1e4f, -88, 88, 0, -0.0f, 1e-20f, -150};
        for (int32_t i = 0; i < n && i < 8; i++) gate.data[n - 1 - i] = extremes[i];
        struct guarded expected = guarded_copy(&gate, 0);
        k->gate_mul(gate.data, up.data, (enum activation)a, n);
        ref_gate_mul(expected.data, up.data, (enum activation)a, n);
        expect_close("gate_mul", gate.data, expected.data, gate.n, 2e-6f, 1e-6f);
        guarded_free(&gate), guarded_free(&up), guarded_free(&expected);
    }
}

static void check_add_and_cap(const struct kernel_table *k, int32_t n, int shift) {
    struct guarded x = guarded_random((size_t)n, shift, 50, (uint64_t)n), y = guarded_random((size_t)n, 2, 2, 6);
    struct guarded expected = guarded_copy(&x, 0);
    k->add_scaled(x.data, y.data, 0.7f, n);
    ref_add_scaled(expected.data, y.data, 0.7f, n);
    expect_close("add_scaled", x.data, expected.data, x.n, 1e-6f, 1e-6f);
    for (int capped = 0; capped < 2; capped++) {
        k->scale_cap(x.data, 1.3f, capped ? 30 : 0, n);
        ref_scale_cap(expected.data, 1.3f, capped ? 30 : 0, n);
        expect_close("scale_cap", x.data, expected.data, x.n, 3e-6f, 2e-5f);
    }
    guarded_free(&x), guarded_free(&y), guarded_free(&expected);
}

static void check_rope(const struct kernel_table *k, int32_t n, int shift) {
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        int32_t n_dims = n / 2 * 2, half = n / 2;
        struct guarded x = guarded_random((size_t)n, shift, 2, (uint64_t)n);
        struct guarded c = guarded_random((size_t)half, 1, 1, 8), s = guarded_random((size_t)half, 0, 1, 9);
        struct guarded expected = guarded_copy(&x, 0);
        k->rope_head(x.data, c.data, s.data, n_dims, interleaved);
        ref_rope_head(expected.data, c.data, s.data, n_dims, interleaved);
        expect_close("rope_head", x.data, expected.data, x.n, 1e-6f, 1e-6f);
        guarded_free(&x), guarded_free(&c), guarded_free(&s), guarded_free(&expected);
    }
}

static void check_embedding(const struct kernel_table *k, int32_t n) {
    for (int f = 0; f < 3; f++) {
        struct product p = product_make((enum tensor_format)f, 5, n, 1, (uint64_t)n);
        struct guarded got = guarded_make((size_t)n, 1), expected = guarded_make((size_t)n, 0);
        k->embed_row(got.data, &p.weight, 4, 11.3f);
        ref_embed_row(expected.data, &p.weight, 4, 11.3f);
        assert_memory_equal(got.data, expected.data, got.n * sizeof(float));
        guarded_free(&got), guarded_free(&expected);
        product_free(&p);
    }
}

static void check_elementwise(const struct kernel_table *k) {
    for (size_t i = 0; i < N_WIDTHS; i++) {
        int shift = (int)i % 16;
        check_norm(k, widths[i], shift);
        check_gates(k, widths[i], shift);
        check_add_and_cap(k, widths[i], shift);
        check_rope(k, widths[i], shift);
        check_embedding(k, widths[i]);
    }
}

static void elementwise_operations_agree(void **state) {
    (void)state;
    for_each_set(check_elementwise);
}

// ------------------------------------------------------------------------------------------------------------
// attention

struct attention_case {
    int32_t head_dim, n_group, n_rows, position, window;
    float soft_cap;
    enum kv_format format;
};

// A cache whose slots beyond the sequence, and all other blocks, hold NaN.
struct attention_cache {
    struct kv_layer kv;
    int32_t block_table[160];
    void *memory;
};

static struct attention_cache cache_make(const struct kernel_table *k, const struct attention_case *c, uint64_t seed) {
    enum { HEADS = 2 };
    int32_t n_tokens = c->position + c->n_rows, n_blocks = n_tokens / KV_BLOCK_TOKENS + 3;
    size_t n_bytes = (size_t)n_blocks * HEADS * 2 * kv_half_bytes(c->format, c->head_dim);
    struct attention_cache cache = {.kv = {.format = c->format, .n_kv_heads = HEADS, .head_dim = c->head_dim}};
    cache.kv.data = cache.memory = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
    memset(cache.memory, 0xff, n_bytes);
    for (int32_t b = 0; b < n_blocks - 1; b++)
        cache.block_table[b] = n_blocks - 1 - b; // backwards, block 0 stays poisoned
    struct guarded key = guarded_random((size_t)(n_tokens * c->head_dim), 1, 1, seed);
    struct guarded value = guarded_random((size_t)(n_tokens * c->head_dim), 2, 1, seed + 1);
    for (int32_t t = 0; t < n_tokens; t++)
        k->kv_write(&cache.kv, cache.block_table[t / KV_BLOCK_TOKENS], 1, t % KV_BLOCK_TOKENS,
                    key.data + t * c->head_dim, value.data + t * c->head_dim);
    guarded_free(&key), guarded_free(&value);
    return cache;
}

static void attend(const struct kernel_table *k, const struct attention_task *task, float *out, size_t out_stride) {
    struct attention_partial total, next;
    int32_t head_dim = task->kv.head_dim, end = (task->position + task->n_rows - 1) / ATTENTION_SPLIT_TOKENS + 1;
    int32_t first = task->window && task->position >= task->window
                        ? (task->position - task->window + 1) / ATTENTION_SPLIT_TOKENS
                        : 0;
    struct guarded a = guarded_make((size_t)(ATTENTION_QUERIES_MAX * head_dim), 0);
    struct guarded b = guarded_make((size_t)(ATTENTION_QUERIES_MAX * head_dim), 4);
    total.out = a.data, next.out = b.data;
    k->attention_split(task, first, &total);
    for (int32_t split = first + 1; split < end; split++) {
        k->attention_split(task, split, &next);
        k->attention_merge(&total, &next, task->n_rows * task->n_group, head_dim);
    }
    k->attention_finish(task, &total, out, out_stride);
    guarded_free(&a), guarded_free(&b);
}

static void check_attention_case(const struct kernel_table *k, const struct attention_case *c, uint64_t seed) {
    struct attention_cache cache = cache_make(k, c, seed);
    struct attention_cache plain = cache_make(&ref_kernels, c, seed);
    size_t width = (size_t)(c->n_group * c->head_dim), stride = width + 5, n = (size_t)c->n_rows * stride;
    struct guarded query = guarded_random(n, 3, 2, seed + 2), got = guarded_make(n, 1), expected = guarded_make(n, 0);
    struct attention_task task = {.kv = cache.kv,
                                  .block_table = cache.block_table,
                                  .query = query.data,
                                  .query_stride = stride,
                                  .kv_head = 1,
                                  .n_group = c->n_group,
                                  .n_rows = c->n_rows,
                                  .position = c->position,
                                  .scale = 0.9f / sqrtf((float)c->head_dim),
                                  .soft_cap = c->soft_cap,
                                  .window = c->window};
    attend(k, &task, got.data, stride);
    task.kv = plain.kv;
    attend(&ref_kernels, &task, expected.data, stride);
    task.kv = cache.kv;
    for (int32_t r = 0; r < c->n_rows; r++) {
        // In INT8 queries and weights have 16 bits.
        expect_close("attention", got.data + (size_t)r * stride, expected.data + (size_t)r * stride, width, 1e-5f,
                     c->format == KV_INT8 ? 1e-4f : 2e-5f);
        // The row alone has the same bits.
        struct attention_task one = task;
        one.query += (size_t)r * stride, one.position += r, one.n_rows = 1;
        struct guarded alone = guarded_make(width, 6);
        attend(k, &one, alone.data, width);
        assert_memory_equal(alone.data, got.data + (size_t)r * stride, width * sizeof(float));
        guarded_free(&alone);
    }
    guarded_free(&query), guarded_free(&got), guarded_free(&expected);
    free(cache.memory), free(plain.memory);
}

static void check_attention(const struct kernel_table *k) {
    static const int32_t head_dims[] = {8, 16, 48, 64, 80, 128, 13, 256, 31, 96};
    static const int32_t positions[] = {0, 1, 15, 16, 17, 63, 64, 100, 127, 500, 1020, 1024, 2047};
    static const int32_t windows[] = {0, 1, 5, 16, 64, 100, 1000};
    for (uint64_t seed = 1; seed <= 120; seed++) {
        uint64_t key = rng_key(seed, 9, 9);
        struct attention_case c = {.head_dim = head_dims[seed % 10],
                                   .n_group = 1 + (int32_t)(rng_u32(key, 1) % 8),
                                   .position = positions[rng_u32(key, 2) % 13],
                                   .window = rng_u32(key, 3) % 2 ? windows[rng_u32(key, 4) % 7] : 0,
                                   .soft_cap = rng_u32(key, 5) % 3 ? 0 : 3,
                                   .format = (enum kv_format)(rng_u32(key, 6) % 4)};
        if (c.format == KV_INT8) c.head_dim = (c.head_dim + KV_QUAD - 1) / KV_QUAD * KV_QUAD;
        c.n_rows = 1 + (int32_t)(rng_u32(key, 7) % (uint32_t)(ATTENTION_QUERIES_MAX / c.n_group));
        check_attention_case(k, &c, seed);
    }
}

static void attention_agrees(void **state) {
    (void)state;
    for_each_set(check_attention);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree),         cmocka_unit_test(product_bits_depend_on_the_row_alone),
        cmocka_unit_test(bf16_rounding_is_exact), cmocka_unit_test(elementwise_operations_agree),
        cmocka_unit_test(attention_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
