// What the peaks' kernels read is what there is, and every peak is measured and leaves nothing behind.
#include "tests/test.h"

#include "base/rng.h"
#include "kernels/cuda/peaks.h"
#include "tests/cuda/device_buffer.h"

#include <math.h>

static void every_word_is_read_once(void **state) {
    (void)state;
    static const size_t counts[] = {1, 255, 2048, 2049, 20000}; // of 16 bytes
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct peaks_sizes sizes = {.read_bytes = counts[i] * 16, .n_blocks = 3};
        uint32_t *words = malloc(sizes.read_bytes), expected = 0;
        for (size_t j = 0; j < counts[i] * 4; j++) words[j] = rng_u32(rng_key(7, 0, 0), j), expected += words[j];
        struct device_buffers all = {0};
        const void *from = device_upload(&all, words, sizes.read_bytes);
        uint32_t *sum = device_bytes(&all, sizeof *sum);
        assert_int_equal(cudaMemset(sum, 0, sizeof *sum), cudaSuccess);
        assert_int_equal(peaks_read(&sizes, from, sum, NULL), cudaSuccess);
        uint32_t *got = device_download(sum, sizeof *sum);
        assert_non_null(got);
        assert_int_equal(*got, expected);
        free(got), free(words);
        device_buffers_free(&all);
    }
}

static void peaks_are_rates(void **state) {
    (void)state;
    const struct peaks_sizes sizes = {
        .read_bytes = 1 << 20, .n_blocks = 8, .multiply_turns = 64, .product_size = 64, .n_runs = 3};
    struct backend_peaks peaks;
    peaks_measure(&sizes, NULL, &peaks);
    assert_true(peaks.read_bytes_per_s > 0 && isfinite(peaks.read_bytes_per_s));
    assert_true(peaks.f32_flops_per_s > 0 && isfinite(peaks.f32_flops_per_s));
    assert_true(peaks.bf16_flops_per_s > 0 && isfinite(peaks.bf16_flops_per_s));
    assert_true(peaks.int8_ops_per_s == 0);
}

static void what_needs_too_much_memory_is_not_measured(void **state) {
    (void)state;
    struct peaks_sizes sizes = {
        .read_bytes = (size_t)1 << 50, .n_blocks = 8, .multiply_turns = 8, .product_size = 64, .n_runs = 1};
    struct backend_peaks peaks;
    peaks_measure(&sizes, NULL, &peaks);
    assert_true(peaks.read_bytes_per_s == 0);
    assert_true(peaks.f32_flops_per_s > 0 && peaks.bf16_flops_per_s > 0);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_word_is_read_once),
        cmocka_unit_test(peaks_are_rates),
        cmocka_unit_test(what_needs_too_much_memory_is_not_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
