// Random weights: a pure function of key and index, with the spread that they promise, on the CPU as everywhere.
#include "tests/test.h"

#include "base/number.h"
#include "kernels/cpu/cpu.h"
#include "kernels/random_weights.h"

#include <math.h>
#include <stdlib.h>

enum { N = 25001 };

static float value_at(const void *values, enum tensor_format format, size_t i) {
    if (format == TENSOR_F32) return ((const float *)values)[i];
    uint16_t bits = ((const uint16_t *)values)[i];
    return format == TENSOR_F16 ? f32_from_f16(bits) : f32_from_bf16(bits);
}

static float rounded(float x, enum tensor_format format) {
    if (format == TENSOR_F32) return x;
    return format == TENSOR_F16 ? f32_from_f16(f16_from_f32(x)) : f32_from_bf16(bf16_from_f32(x));
}

static void values_are_a_function_of_key_and_index(void **state) {
    (void)state;
    static struct random_quantiles quantiles;
    random_quantiles_make(&quantiles);
    static const size_t cuts[] = {0, 2, 1000, 1002, 20000, N}; // pieces begin at even numbers
    const uint64_t key = rng_key(77, 0, 0);
    for (enum tensor_format format = TENSOR_F32; format <= TENSOR_BF16; format++) {
        float *values = calloc(N + 1, sizeof *values);
        size_t n_bytes = tensor_format_bytes(format);
        for (size_t c = 0; c + 1 < sizeof cuts / sizeof *cuts; c++)
            random_weights_draw(&quantiles, key, format, cuts[c], cuts[c + 1] - cuts[c],
                                (char *)values + cuts[c] * n_bytes);
        for (size_t i = 0; i < N; i++) {
            double p = ((double)rng_quantile(key, i) + 0.5) / RNG_QUANTILES;
            float expected = rounded((float)(0.02 * rng_normal_quantile(p)), format);
            assert_true(value_at(values, format, i) == expected);
        }
        assert_true(value_at(values, format, N) == 0); // nothing behind the end
        free(values);
    }
}

static void values_are_normal_with_the_promised_deviation(void **state) {
    (void)state;
    static struct random_quantiles quantiles;
    random_quantiles_make(&quantiles);
    static float values[N];
    random_weights_draw(&quantiles, rng_key(5, 0, 0), TENSOR_F32, 0, N, values);
    double sum = 0, sum2 = 0;
    for (int i = 0; i < N; i++) sum += (double)values[i], sum2 += (double)values[i] * (double)values[i];
    double mean = sum / N, deviation = sqrt(sum2 / N - mean * mean);
    assert_true(fabs(mean) < 0.0008); // standard error: 0.02 / sqrt(25,000) = 0.00013
    assert_true(fabs(deviation - 0.02) < 0.0006);
}

static void the_cpu_makes_them_at_load(void **state) {
    (void)state;
    static struct random_quantiles quantiles;
    random_quantiles_make(&quantiles);
    static float expected[3 * 50000 + 1];
    struct backend *backend;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.n_threads = 2}, NULL), 0);
    for (enum tensor_format format = TENSOR_F32; format <= TENSOR_BF16; format++)
        for (enum weight_format wanted = WEIGHT_AS_IS; wanted <= WEIGHT_BF16; wanted++) {
            struct tensor tensor = {.format = format, .n_rows = 3, .n_cols = 50000, .random_key = 0x9e3779b97f4a7c15};
            assert_int_equal(backend_weight_load(backend, &tensor, wanted, NULL), 0);
            const struct tensor *made = tensor.handle;
            enum tensor_format kept = wanted == WEIGHT_BF16 ? TENSOR_BF16 : format;
            assert_int_equal(made->format, kept);
            random_weights_draw(&quantiles, 0x9e3779b97f4a7c15, kept, 0, 150000, expected);
            assert_memory_equal(made->data, expected, tensor_bytes(made));
        }
    struct backend_memory memory;
    backend_memory(backend, &memory);
    assert_int_equal(memory.weights_bytes, 150000 * (4 + 2 + 2 + 2 + 2 + 2));
    backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_a_function_of_key_and_index),
        cmocka_unit_test(values_are_normal_with_the_promised_deviation),
        cmocka_unit_test(the_cpu_makes_them_at_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
