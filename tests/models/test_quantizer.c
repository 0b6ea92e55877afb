// Codes follow their definition, searched scales are better than the nearest, calibrated ones better still for the
// inputs that they know, and the error that is reported is that of the outputs.
#include "tests/test.h"

#include "base/number.h"
#include "base/rng.h"
#include "kernels/offline.h"
#include "models/quantizer.h"

#include <math.h>
#include <stdlib.h>

enum { N_ROWS = 19, N_COLS = 192, N_INPUTS = 700 };

struct world {
    struct pool *pool;
    const struct kernel_table *kernels;
    float weights[N_ROWS * N_COLS], inputs[N_INPUTS * N_COLS];
    float *sums; // [N_COLS, N_COLS]
    struct tensor weight;
};

static float normal(uint64_t key, size_t i) {
    return (float)rng_normal_quantile((double)rng_uniform(key, i) * 0.998 + 0.001);
}

// Inputs of unlike sizes that go together in fours, as those of real layers do.
static void make_world(struct world *w) {
    memset(w, 0, sizeof *w);
    assert_int_equal(pool_open(&w->pool, 2, NULL), 0);
    w->kernels = offline_kernels();
    for (size_t i = 0; i < N_ROWS * N_COLS; i++) w->weights[i] = 0.05f * normal(rng_key(1, 0, 0), i);
    for (size_t r = 0; r < N_INPUTS; r++)
        for (size_t k = 0; k < N_COLS; k++)
            w->inputs[r * N_COLS + k] = (1 + (float)(k % 7)) * (normal(rng_key(2, 0, 0), r * N_COLS + k) +
                                                                2 * normal(rng_key(3, 0, 0), r * N_COLS + k / 4));
    w->weight = (struct tensor){.format = TENSOR_F32, .n_rows = N_ROWS, .n_cols = N_COLS, .data = w->weights};
    w->sums = calloc((size_t)N_COLS * N_COLS, sizeof *w->sums);
    for (int worker = 0; worker < 2; worker++)
        offline_add_products(w->kernels, w->sums, w->inputs, N_INPUTS, N_COLS, worker, 2);
}

static void close_world(struct world *w) {
    free(w->sums);
    pool_close(w->pool);
}

static struct quantized quantize(const struct world *w, enum quantizer_method method, enum tensor_format format,
                                 int32_t group) {
    struct quantized out;
    struct quantizer_moments moments = {0};
    const struct quantizer_options options = {
        .method = method, .format = format, .group = group, .scale_format = TENSOR_BF16};
    if (method == QUANTIZER_MEASURED) moments = quantizer_moments_make(w->sums, N_COLS, N_INPUTS, w->pool, w->kernels);
    quantizer_run(&out, &w->weight, &options, method == QUANTIZER_MEASURED ? &moments : NULL, w->pool, w->kernels);
    quantizer_moments_free(&moments);
    return out;
}

static void sums_are_products(void **state) {
    const struct world *w = *state;
    for (size_t i = 0; i < N_COLS; i += 13)
        for (size_t j = 0; j <= i; j += 7) {
            double want = 0;
            for (size_t r = 0; r < N_INPUTS; r++)
                want += (double)w->inputs[r * N_COLS + i] * (double)w->inputs[r * N_COLS + j];
            if (!(fabs((double)w->sums[i * N_COLS + j] - want) <= 1e-3 * fabs(want) + 0.5))
                fail_msg("%zu, %zu: %g, not %g", i, j, (double)w->sums[i * N_COLS + j], want);
        }
}

// The largest magnitude 7.5 makes the scale 1: codes are the nearest whole numbers plus 8, ties to even, within -8..7.
static void nearest_codes_are_as_defined(void **state) {
    const struct world *w = *state;
    float row[32] = {7.5f, -7.5f, 0, 0.4f, 0.6f, -0.6f, 2.5f, 3.5f, -2.5f, 6.6f};
    static const uint8_t want[10] = {15, 0, 8, 8, 9, 7, 10, 12, 6, 15};
    const struct tensor weight = {.format = TENSOR_F32, .n_rows = 1, .n_cols = 32, .data = row};
    const struct quantizer_options options = {
        .method = QUANTIZER_NEAREST, .format = TENSOR_INT4, .group = 32, .scale_format = TENSOR_F16};
    struct quantized q;
    quantizer_run(&q, &weight, &options, NULL, w->pool, w->kernels);
    assert_memory_equal(q.codes, want, sizeof want);
    assert_true(f32_from_f16(q.scales[0]) == 1);
    float values[32];
    quantized_values(&q, 0, values);
    assert_true(values[0] == 7 && values[1] == -8 && values[4] == 1);
    quantized_free(&q);
}

// Against outputs that are computed one by one.
static double error_of_outputs(const struct world *w, const struct quantized *q) {
    double error = 0, square = 0;
    float values[N_COLS];
    for (int32_t o = 0; o < N_ROWS; o++) {
        quantized_values(q, o, values);
        for (size_t r = 0; r < N_INPUTS; r++) {
            double exact = 0, got = 0;
            for (size_t k = 0; k < N_COLS; k++) {
                exact += (double)w->inputs[r * N_COLS + k] * (double)w->weights[(size_t)o * N_COLS + k];
                got += (double)w->inputs[r * N_COLS + k] * (double)values[k];
            }
            error += (exact - got) * (exact - got);
            square += exact * exact;
        }
    }
    return sqrt(error / square);
}

static double error_of_weights(const struct world *w, const struct quantized *q) {
    double error = 0;
    float values[N_COLS];
    for (int32_t o = 0; o < N_ROWS; o++) {
        quantized_values(q, o, values);
        for (size_t k = 0; k < N_COLS; k++) {
            double e = (double)(w->weights[(size_t)o * N_COLS + k] - values[k]);
            error += e * e;
        }
    }
    return error;
}

static void each_method_is_better_than_the_one_before(void **state) {
    const struct world *w = *state;
    static const struct {
        enum tensor_format format;
        int32_t group;
        double least_gain;
    } cases[] = {
        {TENSOR_INT4, 32, 1.5}, {TENSOR_INT4, 64, 1.5}, {TENSOR_INT4, 0, 1.5},
        {TENSOR_INT8, 0, 1.5},  {TENSOR_INT8, 32, 1.5}, {TENSOR_FP8, 0, 1.3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct quantized q[3];
        double errors[3];
        for (enum quantizer_method method = 0; method < 3; method++) {
            q[method] = quantize(w, method, cases[i].format, cases[i].group);
            errors[method] = quantizer_error(&q[method], &w->weight, w->sums, w->pool, w->kernels);
            double want = error_of_outputs(w, &q[method]);
            if (!(fabs(errors[method] - want) <= 0.02 * want))
                fail_msg("case %zu, method %d: %g, the outputs say %g", i, (int)method, errors[method], want);
        }
        double nearest = error_of_weights(w, &q[0]), searched = error_of_weights(w, &q[1]);
        if (!(searched <= nearest * 1.001)) fail_msg("case %zu: %g searched, %g nearest", i, searched, nearest);
        if (!(errors[2] * cases[i].least_gain <= errors[1]))
            fail_msg("case %zu: %g calibrated, %g searched", i, errors[2], errors[1]);
        for (int method = 0; method < 3; method++) quantized_free(&q[method]);
    }
}

// All inputs are the same number: only the sum of an output's weights counts, and what rounding took from some is given
// to others.
static void errors_cancel_where_inputs_agree(void **state) {
    struct world *w = *state;
    float sums[N_COLS * N_COLS];
    for (size_t i = 0; i < N_COLS * N_COLS; i++) sums[i] = 1;
    struct quantizer_moments moments = quantizer_moments_make(sums, N_COLS, 1, w->pool, w->kernels);
    const struct quantizer_options options = {
        .method = QUANTIZER_MEASURED, .format = TENSOR_INT4, .group = 32, .scale_format = TENSOR_BF16};
    struct quantized q;
    quantizer_run(&q, &w->weight, &options, &moments, w->pool, w->kernels);
    float values[N_COLS];
    for (int32_t o = 0; o < N_ROWS; o++) {
        double apart = 0;
        quantized_values(&q, o, values);
        for (size_t k = 0; k < N_COLS; k++) apart += (double)(w->weights[(size_t)o * N_COLS + k] - values[k]);
        // A step is about 0.02; 192 errors of up to half of it each are about 0.08 together.
        if (!(fabs(apart) < 0.012)) fail_msg("output %d: the sum is off by %g", o, apart);
    }
    quantized_free(&q);
    quantizer_moments_free(&moments);
}

// Inputs that are never there, or none at all, leave every number finite.
static void empty_moments_are_harmless(void **state) {
    struct world *w = *state;
    float *sums = calloc((size_t)N_COLS * N_COLS, sizeof *sums);
    for (int filled = 0; filled < 2; filled++) {
        if (filled) sums[5 * N_COLS + 5] = 3;
        struct quantizer_moments moments = quantizer_moments_make(sums, N_COLS, 1, w->pool, w->kernels);
        const struct quantizer_options options = {
            .method = QUANTIZER_MEASURED, .format = TENSOR_INT8, .group = 32, .scale_format = TENSOR_F16};
        struct quantized q;
        quantizer_run(&q, &w->weight, &options, &moments, w->pool, w->kernels);
        assert_true(error_of_weights(w, &q) < 1e-3);
        quantized_free(&q);
        quantizer_moments_free(&moments);
    }
    free(sums);
}

static void weights_that_are_not_finite_are_noticed(void **state) {
    struct world *w = *state;
    static const enum tensor_format formats[] = {TENSOR_INT4, TENSOR_INT8, TENSOR_FP8};
    const float bad[] = {NAN, INFINITY, -INFINITY}, kept = w->weights[7];
    for (int i = 0; i < 18; i++) {
        w->weights[7] = bad[i % 3];
        struct quantized q = quantize(w, i / 9 ? QUANTIZER_MEASURED : QUANTIZER_SEARCHED, formats[i / 3 % 3], 0);
        assert_false(quantized_is_finite(&q));
        quantized_free(&q);
    }
    w->weights[7] = kept;
    struct quantized q = quantize(w, QUANTIZER_SEARCHED, TENSOR_FP8, 0);
    assert_true(quantized_is_finite(&q));
    quantized_free(&q);
}

static int open_world(void **state) {
    struct world *w = malloc(sizeof *w);
    make_world(w);
    *state = w;
    return 0;
}

static int end_world(void **state) {
    close_world(*state);
    free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_are_products),
                                       cmocka_unit_test(nearest_codes_are_as_defined),
                                       cmocka_unit_test(each_method_is_better_than_the_one_before),
                                       cmocka_unit_test(errors_cancel_where_inputs_agree),
                                       cmocka_unit_test(empty_moments_are_harmless),
                                       cmocka_unit_test(weights_that_are_not_finite_are_noticed)};
    return cmocka_run_group_tests(tests, open_world, end_world);
}
