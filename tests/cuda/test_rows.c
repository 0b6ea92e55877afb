// Operations over rows against doubles: every format, widths that no block divides, references to tokens drawn before,
// shards of a vocabulary, padding.
#include "tests/test.h"

#include "base/number.h"
#include "base/rng.h"
#include "kernels/cuda/rows.h"
#include "tests/cuda/device_buffer.h"

#include <math.h>

enum { ROWS = 5, BUCKET = 8, LOGIT_ROWS = 2, LOGIT_BUCKET = 4, VOCAB = 23 };

struct packed {
    struct device_step step;
    _Alignas(16) int32_t token[ROWS];
    _Alignas(16) int32_t position[ROWS];
    _Alignas(16) int32_t logit_row[LOGIT_ROWS];
};

static const struct packed packed = {
    .step = {.n_rows = ROWS,
             .n_logit_rows = LOGIT_ROWS,
             .token = offsetof(struct packed, token),
             .position = offsetof(struct packed, position),
             .logit_row = offsetof(struct packed, logit_row)},
    .token = {3, STEP_TOKEN_REF(1), 22, STEP_TOKEN_REF(0), 0},
    .position = {0, 1, 77, 4095, 100000},
    .logit_row = {1, 4},
};
static const int32_t drawn[] = {7, 19};
static const int32_t tokens[ROWS] = {3, 19, 22, 7, 0}; // references resolved

static float noise(uint64_t key, size_t i) {
    return (float)rng_u32(key | 1, i) * 0x1p-31f - 1;
}

static float *random_floats(uint64_t key, size_t n) {
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = noise(key, i);
    return x;
}

static float number_at(const void *data, size_t i, enum operand_format format) {
    if (format == OPERAND_F32) return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return format == OPERAND_BF16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

static void check_close(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want)))) fail_msg("%.9g, not %.9g", got, want);
}

// -------------------------------------------------------------------------------------------------------------- embed

static void check_embed(enum device_format format, int32_t n, int32_t first_token, int32_t n_out) {
    struct device_buffers all = {0};
    float *values = random_floats(11, (size_t)n_out * (size_t)n);
    uint16_t *halves = malloc((size_t)n_out * (size_t)n * sizeof *halves);
    for (size_t i = 0; i < (size_t)n_out * (size_t)n; i++) {
        halves[i] = format == DEVICE_BF16 ? bf16_from_f32(values[i]) : f16_from_f32(values[i]);
        if (format != DEVICE_F32)
            values[i] = format == DEVICE_BF16 ? f32_from_bf16(halves[i]) : f32_from_f16(halves[i]);
    }
    size_t n_bytes = (size_t)n_out * (size_t)n * (format == DEVICE_F32 ? 4 : 2);
    struct device_weight table = {.format = format, .n_out = n_out, .n_in = n};
    table.data = device_upload(&all, format == DEVICE_F32 ? (const void *)values : halves, n_bytes);
    static const float frequency[] = {1, 0.3f, 0.01f, 0.0001f};
    enum { HALF = 4 };
    struct rows_embed op = {.step = device_upload(&all, &packed, sizeof packed),
                            .n_rows = BUCKET,
                            .table = &table,
                            .first_token = first_token,
                            .drawn = device_upload(&all, drawn, sizeof drawn),
                            .scale = 1.5f,
                            .residual = device_poisoned(&all, (size_t)BUCKET * (size_t)n * sizeof(float)),
                            .n_ropes = 1,
                            .ropes = {{.inverse_frequency = device_upload(&all, frequency, sizeof frequency),
                                       .cosine = device_poisoned(&all, BUCKET * HALF * sizeof(float)),
                                       .sine = device_poisoned(&all, BUCKET * HALF * sizeof(float)),
                                       .n_dims = 2 * HALF,
                                       .scale = 0.75f}}};
    assert_int_equal(rows_embed(&op, NULL), cudaSuccess);
    float *residual = device_download(op.residual, (size_t)BUCKET * (size_t)n * sizeof(float));
    float *cosine = device_download(op.ropes[0].cosine, BUCKET * HALF * sizeof(float));
    float *sine = device_download(op.ropes[0].sine, BUCKET * HALF * sizeof(float));
    for (int32_t r = 0; r < BUCKET; r++) {
        int32_t token = r < ROWS ? tokens[r] - first_token : -1;
        for (int32_t i = 0; i < n; i++) {
            float want = token >= 0 && token < n_out ? values[token * n + i] * 1.5f : 0;
            assert_true(residual[r * n + i] == want);
        }
        for (int32_t i = 0; i < HALF && r < ROWS; i++) {
            double angle = (double)((float)packed.position[r] * frequency[i]);
            check_close(cosine[r * HALF + i], 0.75 * cos(angle), 1e-6);
            check_close(sine[r * HALF + i], 0.75 * sin(angle), 1e-6);
        }
    }
    free(residual), free(cosine), free(sine), free(values), free(halves);
    device_buffers_free(&all);
}

static void embeddings_are_gathered(void **state) {
    (void)state;
    static const enum device_format formats[] = {DEVICE_F32, DEVICE_BF16, DEVICE_F16};
    for (size_t f = 0; f < 3; f++) {
        check_embed(formats[f], 64, 0, VOCAB);
        check_embed(formats[f], 301, 0, VOCAB);
    }
    check_embed(DEVICE_F32, 20, 7, 12); // a shard: tokens 7 to 18
}

// --------------------------------------------------------------------------------------------------------------- norm

static double normed(const float *x, const float *weight, int32_t n, int32_t i) {
    if (!weight) return x[i];
    double sum = 0;
    for (int32_t k = 0; k < n; k++) sum += (double)x[k] * x[k];
    return x[i] / sqrt(sum / n + 1e-6) * weight[i];
}

static void check_norm(int32_t n, bool logit_rows, bool weighted, enum operand_format format) {
    static const double tolerance[] = {[OPERAND_F32] = 1e-6, [OPERAND_F16] = 1e-3, [OPERAND_BF16] = 4e-3};
    struct device_buffers all = {0};
    int32_t rows = logit_rows ? LOGIT_ROWS : ROWS, bucket = logit_rows ? LOGIT_BUCKET : BUCKET;
    float *x = random_floats(5, (size_t)ROWS * (size_t)n), *weight = random_floats(6, (size_t)n);
    struct rows_norm op = {.step = device_upload(&all, &packed, sizeof packed),
                           .n_rows = bucket,
                           .n = n,
                           .logit_rows = logit_rows,
                           .x = device_upload(&all, x, (size_t)ROWS * (size_t)n * sizeof *x),
                           .weight = weighted ? device_upload(&all, weight, (size_t)n * sizeof *weight) : NULL,
                           .eps = 1e-6f,
                           .out = device_poisoned(&all, (size_t)bucket * (size_t)n * operand_bytes(format)),
                           .format = format};
    assert_int_equal(rows_norm(&op, NULL), cudaSuccess);
    void *out = device_download(op.out, (size_t)bucket * (size_t)n * operand_bytes(format));
    for (int32_t r = 0; r < bucket; r++)
        for (int32_t i = 0; i < n; i++) {
            int32_t from = logit_rows ? packed.logit_row[r < rows ? r : 0] : r;
            double want = r < rows ? normed(x + from * n, weighted ? weight : NULL, n, i) : 0;
            check_close(number_at(out, (size_t)r * (size_t)n + (size_t)i, format), want, tolerance[format]);
        }
    free(out), free(x), free(weight);
    device_buffers_free(&all);
}

static void rows_are_normed(void **state) {
    (void)state;
    static const int32_t widths[] = {1, 64, 255, 1030, 8192, 8196, 8201}; // around what a block holds, too
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (enum operand_format format = OPERAND_F32; format <= OPERAND_BF16; format++) {
            check_norm(widths[w], false, true, format);
            check_norm(widths[w], true, true, format);
            check_norm(widths[w], false, false, format);
        }
}

// ---------------------------------------------------------------------------------------------------------------- add

static void check_add(int32_t n, bool weighted) {
    struct device_buffers all = {0};
    float *x = random_floats(7, (size_t)ROWS * (size_t)n), *weight = random_floats(8, (size_t)n);
    float *before = random_floats(9, (size_t)BUCKET * (size_t)n);
    struct rows_add op = {.step = device_upload(&all, &packed, sizeof packed),
                          .n_rows = BUCKET,
                          .n = n,
                          .x = device_upload(&all, x, (size_t)ROWS * (size_t)n * sizeof *x),
                          .weight = weighted ? device_upload(&all, weight, (size_t)n * sizeof *weight) : NULL,
                          .eps = 1e-6f,
                          .scale = 0.3f,
                          .residual = device_upload(&all, before, (size_t)BUCKET * (size_t)n * sizeof *before)};
    assert_int_equal(rows_add(&op, NULL), cudaSuccess);
    float *after = device_download(op.residual, (size_t)BUCKET * (size_t)n * sizeof *after);
    for (int32_t r = 0; r < BUCKET; r++)
        for (int32_t i = 0; i < n; i++) {
            double add = r < ROWS ? 0.3 * normed(x + r * n, weighted ? weight : NULL, n, i) : 0;
            check_close(after[r * n + i], before[r * n + i] + add, 1e-6);
        }
    free(after), free(x), free(weight), free(before);
    device_buffers_free(&all);
}

static void rows_are_added(void **state) {
    (void)state;
    check_add(64, false);
    check_add(333, true);
    check_add(8192, true);
    check_add(8200, true);
}

static void logits_are_scaled_and_capped(void **state) {
    (void)state;
    static const float caps[] = {0, 30};
    enum { N = 300 };
    for (int c = 0; c < 2; c++) {
        struct device_buffers all = {0};
        float *before = random_floats(10, LOGIT_BUCKET * N);
        for (int i = 0; i < LOGIT_BUCKET * N; i++) before[i] *= 200;
        float *logits = device_upload(&all, before, LOGIT_BUCKET * N * sizeof *before);
        const struct device_step *step = device_upload(&all, &packed, sizeof packed);
        assert_int_equal(rows_scale_cap(step, LOGIT_BUCKET, N, logits, 0.5f, caps[c], NULL), cudaSuccess);
        float *after = device_download(logits, LOGIT_BUCKET * N * sizeof *after);
        for (int i = 0; i < LOGIT_BUCKET * N; i++) {
            double scaled = 0.5 * before[i], want = caps[c] > 0 ? caps[c] * tanh(scaled / caps[c]) : scaled;
            check_close(after[i], i < LOGIT_ROWS * N ? want : before[i], 1e-5);
        }
        free(before), free(after);
        device_buffers_free(&all);
    }
}

// 3 ranks with 4 tokens each of a vocabulary of 10: the last part is shorter.
static void parts_of_logits_are_joined(void **state) {
    (void)state;
    enum { RANKS = 3, PART = 4, WHOLE = 10 };
    struct device_buffers all = {0};
    float *parts = random_floats(12, RANKS * LOGIT_BUCKET * PART);
    struct rows_join_logits op = {.step = device_upload(&all, &packed, sizeof packed),
                                  .n_rows = LOGIT_BUCKET,
                                  .n_part = PART,
                                  .vocab = WHOLE,
                                  .parts = device_upload(&all, parts, RANKS * LOGIT_BUCKET * PART * sizeof *parts),
                                  .logits = device_poisoned(&all, LOGIT_BUCKET * WHOLE * sizeof(float))};
    assert_int_equal(rows_join_logits(&op, NULL), cudaSuccess);
    float *logits = device_download(op.logits, LOGIT_BUCKET * WHOLE * sizeof *logits);
    for (int r = 0; r < LOGIT_ROWS; r++)
        for (int i = 0; i < WHOLE; i++)
            assert_true(logits[r * WHOLE + i] == parts[(i / PART * LOGIT_BUCKET + r) * PART + i % PART]);
    free(parts), free(logits);
    device_buffers_free(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeddings_are_gathered),
        cmocka_unit_test(rows_are_normed),
        cmocka_unit_test(rows_are_added),
        cmocka_unit_test(logits_are_scaled_and_capped),
        cmocka_unit_test(parts_of_logits_are_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
