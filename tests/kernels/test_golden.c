// Single operations against vectors that vLLM 0.24 computed with torch 2.11 (tolerances are those of its manifests).
#include "tests/test.h"

#include "kernels/cpu/cpu.h"
#include "kernels/route.h"
#include "tests/kernels/guarded.h"

#define OPS "data/expected/ops/"
static const char *const instruction_sets[] = {"ref", "avx2", "avx512"};
enum { N_SETS = sizeof instruction_sets / sizeof *instruction_sets, ARRAYS_MAX = 16 };

// Arrays of one case as floats, freed together.
struct golden {
    const char *name;
    float *arrays[ARRAYS_MAX];
    int n;
};

// The data of OPS/name/array.npy, [n], whatever its type.
static const float *golden_load(struct golden *g, const char *array, size_t n) {
    char path[300], header[256] = {0};
    uint16_t header_bytes;
    snprintf(path, sizeof path, "%s/" OPS "%s/%s.npy", TEST_SHARED_DIR, g->name, array);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(header, 1, 10, file), 10);
    memcpy(&header_bytes, header + 8, 2);
    assert_true(header_bytes < sizeof header);
    assert_int_equal(fread(header, 1, header_bytes, file), header_bytes);
    size_t width = strstr(header, "<f4") || strstr(header, "<i4") ? 4
                   : strstr(header, "<u2")                        ? 2
                   : strstr(header, "<i8")                        ? 8
                                                                  : 0;
    assert_true(width);
    float *out = g->arrays[g->n++] = malloc(n * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        unsigned char bytes[8];
        uint16_t half;
        int32_t number;
        int64_t whole;
        assert_int_equal(fread(bytes, 1, width, file), width);
        if (width == 4 && strstr(header, "<i4"))
            memcpy(&number, bytes, 4), out[i] = (float)number;
        else if (width == 4)
            memcpy(&out[i], bytes, 4);
        else if (width == 2)
            memcpy(&half, bytes, 2), out[i] = f32_from_bf16(half);
        else
            memcpy(&whole, bytes, 8), out[i] = (float)whole;
    }
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
    return out;
}

static void golden_free(struct golden *g) {
    for (int i = 0; i < g->n; i++) free(g->arrays[i]);
}

static void norms_match(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED(OPS "rmsnorm_f32_8x128");
    struct golden g = {.name = "rmsnorm_f32_8x128"}, f = {.name = "rmsnorm_fused_residual_f32_8x128"};
    const float *x = golden_load(&g, "x", 1024), *w = golden_load(&g, "weight", 128),
                *out = golden_load(&g, "out", 1024);
    const float *fx = golden_load(&f, "x", 1024), *fw = golden_load(&f, "weight", 128);
    const float *in = golden_load(&f, "residual_in", 1024), *sum = golden_load(&f, "residual_out", 1024);
    const float *fused = golden_load(&f, "out", 1024);
    for (size_t i = 0; i < N_SETS; i++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
        for (size_t r = 0; k && r < 1024; r += 128) {
            float got[128], residual[128];
            k->norm_rms(got, x + r, w, 1e-6f, 128);
            expect_close("norm", got, out + r, 128, 1e-5f, 1e-5f);
            memcpy(residual, in + r, sizeof residual);
            k->add_scaled(residual, fx + r, 1, 128);
            expect_close("residual", residual, sum + r, 128, 1e-5f, 1e-5f);
            k->norm_rms(got, residual, fw, 1e-6f, 128);
            expect_close("norm of a sum", got, fused + r, 128, 1e-5f, 1e-5f);
        }
    }
    golden_free(&g), golden_free(&f);
}

static void gemma_norm_and_silu_match_in_bf16(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED(OPS "silu_and_mul_bf16_8x256");
    struct golden g = {.name = "rmsnorm_gemma_bf16_8x128"}, s = {.name = "silu_and_mul_bf16_8x256"};
    const float *x = golden_load(&g, "x", 1024), *w = golden_load(&g, "weight", 128),
                *out = golden_load(&g, "out", 1024);
    const float *sx = golden_load(&s, "x", 2048), *silu = golden_load(&s, "out", 1024);
    float one_more[128];
    for (int i = 0; i < 128; i++) one_more[i] = 1 + w[i];
    for (size_t i = 0; i < N_SETS; i++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
        for (size_t r = 0; k && r < 8; r++) {
            float got[128];
            k->norm_rms(got, x + r * 128, one_more, 1e-6f, 128);
            expect_close("gemma norm", got, out + r * 128, 128, 0.008f, 0.008f);
            memcpy(got, sx + r * 256, sizeof got);
            k->gate_mul(got, sx + r * 256 + 128, ACTIVATION_SILU, 128);
            expect_close("silu", got, silu + r * 128, 128, 0.008f, 0.008f);
        }
    }
    golden_free(&g), golden_free(&s);
}

static void routers_match(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED(OPS "moe_router_topk_f32_small");
    enum { ROWS = 6, EXPERTS = 8, HIT = 2 };
    struct golden g = {.name = "moe_router_topk_f32_small"};
    const float *logits = golden_load(&g, "logits", ROWS * EXPERTS);
    const float *ids = golden_load(&g, "topk_ids", ROWS * HIT), *weights = golden_load(&g, "topk_weights", ROWS * HIT);
    for (int r = 0; r < ROWS; r++) {
        float row[EXPERTS], weight[HIT];
        int32_t expert[HIT];
        memcpy(row, logits + r * EXPERTS, sizeof row);
        route_row(expert, weight, row, EXPERTS, HIT, true);
        for (int i = 0; i < HIT; i++) {
            int at = 0; // theirs are in order of weight
            while (at < HIT && (int32_t)ids[r * HIT + at] != expert[i]) at++;
            assert_true(at < HIT && (i == 0 || expert[i] > expert[i - 1]));
            expect_close("router", &weight[i], &weights[r * HIT + at], 1, 1e-5f, 1e-6f);
        }
    }
    golden_free(&g);
}

// By hand: of equals the lowest numbers are hit; NaN loses against everything.
static void ties_go_to_the_lowest_expert(void **state) {
    (void)state;
    float logits[] = {1, 3, 3, 1, 3, 0}, weight[4];
    int32_t expert[4];
    route_row(expert, weight, logits, 6, 4, true);
    static const int32_t expected[] = {0, 1, 2, 4};
    assert_memory_equal(expert, expected, sizeof expected);
    assert_true(weight[1] == weight[2] && weight[2] == weight[3] && weight[0] < weight[1]);
    assert_true(fabsf(weight[0] + 3 * weight[1] - 1) < 1e-6f);
    float equal[] = {0, 0, 0, 0};
    route_row(expert, weight, equal, 4, 2, false);
    assert_true(expert[0] == 0 && expert[1] == 1 && weight[0] == 0.25f && weight[1] == 0.25f);
}

// Heads of q and k are rotated in place by cosine and sine [n_dims/2].
static void rotate(const struct kernel_table *k, float *x, int32_t n_heads, int32_t head_dim, const float *cosine,
                   const float *sine, int32_t n_dims) {
    for (int32_t h = 0; h < n_heads; h++) k->rope_head(x + h * head_dim, cosine, sine, n_dims, false);
}

static void check_rope(const char *name, float absolute, float relative) {
    enum { ROWS = 8, DIM = 64, N_DIMS = 32 };
    struct golden g = {.name = name};
    const float *positions = golden_load(&g, "positions", ROWS);
    const float *q_in = golden_load(&g, "q_in", ROWS * 4 * DIM), *q_out = golden_load(&g, "q_out", ROWS * 4 * DIM);
    const float *k_in = golden_load(&g, "k_in", ROWS * 2 * DIM), *k_out = golden_load(&g, "k_out", ROWS * 2 * DIM);
    for (size_t i = 0; i < N_SETS; i++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
        for (int r = 0; k && r < ROWS; r++) {
            float cosine[N_DIMS / 2], sine[N_DIMS / 2], q[4 * DIM], keys[2 * DIM];
            for (int d = 0; d < N_DIMS / 2; d++) {
                float angle = positions[r] * powf(10000, -2.0f * (float)d / N_DIMS);
                cosine[d] = cosf(angle), sine[d] = sinf(angle);
            }
            memcpy(q, q_in + r * 4 * DIM, sizeof q), memcpy(keys, k_in + r * 2 * DIM, sizeof keys);
            rotate(k, q, 4, DIM, cosine, sine, N_DIMS), rotate(k, keys, 2, DIM, cosine, sine, N_DIMS);
            expect_close("rope q", q, q_out + r * 4 * DIM, 4 * DIM, relative, absolute);
            expect_close("rope k", keys, k_out + r * 2 * DIM, 2 * DIM, relative, absolute);
        }
    }
    golden_free(&g);
}

static void rotary_embedding_matches(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED(OPS "rope_f32_pos_short");
    check_rope("rope_f32_pos_short", 1e-5f, 1e-5f);
    check_rope("rope_f32_pos_131k", 0.02f, 0);
}

// Tables that already carry the attention factor.
static void rotary_tables_with_a_scale_match(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED(OPS "long_rope_yarn_neox_f32_truncate");
    enum { ROWS = 5, DIM = 16, N_DIMS = 8, CACHED = 128 };
    struct golden g = {.name = "long_rope_yarn_neox_f32_truncate"};
    const float *positions = golden_load(&g, "positions", ROWS),
                *table = golden_load(&g, "cos_sin_cache", CACHED * N_DIMS);
    const float *q_in = golden_load(&g, "q_in", ROWS * 2 * DIM), *q_out = golden_load(&g, "q_out", ROWS * 2 * DIM);
    for (size_t i = 0; i < N_SETS; i++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
        for (int r = 0; k && r < ROWS; r++) {
            const float *row = table + (int)positions[r] * N_DIMS;
            float q[2 * DIM];
            memcpy(q, q_in + r * 2 * DIM, sizeof q);
            rotate(k, q, 2, DIM, row, row + N_DIMS / 2, N_DIMS);
            expect_close("yarn", q, q_out + r * 2 * DIM, 2 * DIM, 1e-5f, 1e-5f);
        }
    }
    golden_free(&g);
}

// Heads normed by 1 + weight and rotated in 4 of 8 dimensions, through the cache.
static void attention_matches(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED(OPS "dense_attention_f32_small");
    enum { ROWS = 6, HEADS = 4, GROUP = 2, DIM = 8 };
    struct golden g = {.name = "dense_attention_f32_small"};
    const float *q_in = golden_load(&g, "q", ROWS * HEADS * DIM), *k_in = golden_load(&g, "k", ROWS * 2 * DIM);
    const float *v = golden_load(&g, "v", ROWS * 2 * DIM), *expected = golden_load(&g, "attn", ROWS * HEADS * DIM);
    golden_load(&g, "q_norm_weight", DIM), golden_load(&g, "k_norm_weight", DIM);
    float *wq = g.arrays[g.n - 2], *wk = g.arrays[g.n - 1];
    for (int d = 0; d < DIM; d++) wq[d] += 1, wk[d] += 1;
    for (size_t i = 0; i < N_SETS; i++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
        if (!k) continue;
        float data[2 * 2 * KV_BLOCK_TOKENS * DIM] = {0}, q[ROWS * HEADS * DIM], got[ROWS * HEADS * DIM], sums[16 * DIM];
        struct kv_layer kv = {data, KV_F32, 2, DIM};
        for (int r = 0; r < ROWS; r++) {
            float keys[2 * DIM], cosine[2] = {cosf((float)r), cosf((float)r * 0.01f)},
                                 sine[2] = {sinf((float)r), sinf((float)r * 0.01f)};
            for (int h = 0; h < HEADS; h++)
                k->norm_rms(q + (r * HEADS + h) * DIM, q_in + (r * HEADS + h) * DIM, wq, 1e-6f, DIM);
            for (int h = 0; h < 2; h++) k->norm_rms(keys + h * DIM, k_in + (r * 2 + h) * DIM, wk, 1e-6f, DIM);
            rotate(k, q + r * HEADS * DIM, HEADS, DIM, cosine, sine, 4), rotate(k, keys, 2, DIM, cosine, sine, 4);
            for (int h = 0; h < 2; h++) k->kv_write(&kv, 0, h, r, keys + h * DIM, v + (r * 2 + h) * DIM);
        }
        for (int h = 0; h < 2; h++) {
            const int32_t block_table[] = {0};
            struct attention_task task = {.kv = kv,
                                          .block_table = block_table,
                                          .query = q + h * GROUP * DIM,
                                          .query_stride = HEADS * DIM,
                                          .kv_head = h,
                                          .n_group = GROUP,
                                          .n_rows = ROWS,
                                          .position = 0,
                                          .scale = 0.35355339f};
            struct attention_partial total = {.out = sums};
            k->attention_split(&task, 0, &total);
            k->attention_finish(&task, &total, got + h * GROUP * DIM, HEADS * DIM);
        }
        expect_close("attention", got, expected, ROWS * HEADS * DIM, 1e-5f, 1e-5f);
    }
    golden_free(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_match),
        cmocka_unit_test(gemma_norm_and_silu_match_in_bf16),
        cmocka_unit_test(routers_match),
        cmocka_unit_test(ties_go_to_the_lowest_expert),
        cmocka_unit_test(rotary_embedding_matches),
        cmocka_unit_test(rotary_tables_with_a_scale_match),
        cmocka_unit_test(attention_matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
