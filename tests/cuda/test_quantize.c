// Quantised weights: codes and scales mean what the kernels read, and the error is never above round-to-nearest.
#include "tests/test.h"

#include "tests/cuda/random_weight.h"

#include <math.h>

static const float deviation = 0.02f;

// The numbers that a weight stands for, from its bytes. The caller frees.
static double *decode(const struct device_weight *w) {
    size_t n = (size_t)w->n_out * (size_t)w->n_in, n_scales = n / (size_t)w->group;
    double *values = malloc(n * sizeof *values);
    size_t bytes = w->format == DEVICE_INT4  ? n / 2
                   : w->format == DEVICE_FP8 ? n
                   : w->format == DEVICE_F32 ? n * 4
                                             : n * 2;
    uint8_t *data = device_download(w->data, bytes);
    float *scale = w->scale ? device_download(w->scale, n_scales * sizeof(float)) : NULL;
    uint16_t *scale_f16 = w->scale_f16 ? device_download(w->scale_f16, n_scales * 2) : NULL;
    for (size_t i = 0; i < n; i++) {
        size_t s = i / (size_t)w->group, row = i / (size_t)w->n_in;
        size_t nibble = row * (size_t)w->n_in + (size_t)int4_nibble((int32_t)(i % (size_t)w->n_in));
        uint16_t half = 0;
        if (w->format == DEVICE_F16 || w->format == DEVICE_BF16) memcpy(&half, data + 2 * i, 2);
        switch (w->format) {
        case DEVICE_F32:
            values[i] = (double)((float *)(void *)data)[i];
            break;
        case DEVICE_F16:
            values[i] = (double)f32_from_f16(half);
            break;
        case DEVICE_BF16:
            values[i] = (double)f32_from_bf16(half);
            break;
        case DEVICE_FP8:
            values[i] = (double)f32_from_e4m3(data[i]) * (double)scale[s];
            break;
        case DEVICE_INT4:
            assert_true(fabsf(f32_from_f16(scale_f16[s])) >= 0x1p-14f && fabsf(f32_from_f16(scale_f16[s])) <= 32768);
            values[i] = ((data[nibble / 2] >> nibble % 2 * 4 & 15) - 8) * (double)f32_from_f16(scale_f16[s]) *
                        (double)w->multiplier;
            break;
        }
    }
    free(data), free(scale), free(scale_f16);
    return values;
}

static double squared_error(const float *x, const double *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    return sum;
}

// Round to nearest with the largest value at the end of the grid: 448, or 7.
static double nearest_error(const float *x, size_t n, bool fp8) {
    float largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(x[i]));
    float scale = largest / (fp8 ? 448 : 7);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double to = fp8 ? (double)f32_from_e4m3(e4m3_from_f32(x[i] / scale)) : (double)rintf(x[i] / scale);
        sum += ((double)x[i] - to * (double)scale) * ((double)x[i] - to * (double)scale);
    }
    return sum;
}

static void fill_normal(float *x, size_t n, uint64_t key, bool outliers) {
    for (size_t i = 0; i < n; i++) x[i] = random_normal(key, i) * deviation * (outliers && i % 97 == 5 ? 50 : 1);
}

static void errors_are_below_round_to_nearest(void **state) {
    (void)state;
    enum { N_OUT = 6, N_IN = 384 };
    static float x[N_OUT * N_IN];
    for (int outliers = 0; outliers < 2; outliers++) {
        fill_normal(x, N_OUT * N_IN, 3, outliers);
        for (int fp8 = 0; fp8 < 2; fp8++) {
            struct device_buffers buffers = {0};
            enum device_format format = fp8 ? DEVICE_FP8 : DEVICE_INT4;
            void *source = device_upload(&buffers, x, sizeof x);
            void *memory = device_poisoned(&buffers, device_weight_bytes(format, N_OUT, N_IN));
            struct device_weight w;
            assert_int_equal(device_weight_make(&w, format, source, TENSOR_F32, N_OUT, N_IN, memory, NULL),
                             cudaSuccess);
            double *values = decode(&w), error = 0, nearest = 0;
            for (size_t i = 0; i < N_OUT * N_IN; i += (size_t)w.group) {
                double mine = squared_error(x + i, values + i, (size_t)w.group);
                double theirs = nearest_error(x + i, (size_t)w.group, fp8);
                // An f16 scale is rounded, by 2^-11 at most.
                assert_true(mine <= theirs * (fp8 ? 1.0001 : 1.01));
                error += mine, nearest += theirs;
            }
            // Both formats gain: INT4 from cutting off and from the longer side, FP8 little.
            assert_true(error < nearest * (fp8 ? 0.999 : outliers ? 0.99 : 0.92));
            free(values);
            device_buffers_free(&buffers);
        }
    }
}

// Values on the grid come back as they were: zeros, a group of zeros, both ends, tiny and huge groups.
static void values_of_the_grid_are_kept(void **state) {
    (void)state;
    enum { N_OUT = 4, N_IN = 256 };
    static float x[N_OUT * N_IN];
    for (size_t i = 0; i < N_OUT * N_IN; i++) {
        static const float sizes[] = {0x1p-20f, 1, 0, 0x1p4f, 1, 0x1p-3f, 0x1p-10f, 1};
        int code = (int)(i * 7 % 16) - 8;
        x[i] = sizes[i / 128] * (float)(i / 128 % 2 ? -code : code);
    }
    struct device_buffers buffers = {0};
    struct device_weight w;
    void *source = device_upload(&buffers, x, sizeof x);
    void *memory = device_poisoned(&buffers, device_weight_bytes(DEVICE_INT4, N_OUT, N_IN));
    assert_int_equal(device_weight_make(&w, DEVICE_INT4, source, TENSOR_F32, N_OUT, N_IN, memory, NULL), cudaSuccess);
    double *values = decode(&w);
    for (size_t i = 0; i < N_OUT * N_IN; i++) assert_true(values[i] == (double)x[i]);
    free(values);
    device_buffers_free(&buffers);
}

static void random_weights_are_those_of_the_host(void **state) {
    (void)state;
    enum { N_OUT = 3, N_IN = 256, N = N_OUT * N_IN };
    static float quantiles[RNG_QUANTILES], expected[N];
    static uint16_t rounded[N];
    for (int i = 0; i < RNG_QUANTILES; i++)
        quantiles[i] = (float)((double)deviation * rng_normal_quantile((i + 0.5) / RNG_QUANTILES));
    for (size_t i = 0; i < N; i++)
        expected[i] = quantiles[rng_quantile(77, i)], rounded[i] = bf16_from_f32(expected[i]);
    struct device_buffers buffers = {0};
    const float *table = device_upload(&buffers, quantiles, sizeof quantiles);
    const void *source = device_upload(&buffers, rounded, sizeof rounded);
    for (int format = DEVICE_F32; format <= DEVICE_INT4; format++) {
        size_t bytes = device_weight_bytes((enum device_format)format, N_OUT, N_IN);
        struct device_weight random, made;
        assert_int_equal(device_weight_random(&random, (enum device_format)format, N_OUT, N_IN, 77, table,
                                              device_poisoned(&buffers, bytes), NULL),
                         cudaSuccess);
        assert_int_equal(device_weight_make(&made, (enum device_format)format, source, TENSOR_BF16, N_OUT, N_IN,
                                            device_poisoned(&buffers, bytes), NULL),
                         cudaSuccess);
        double *values = decode(&random), *from_source = decode(&made);
        for (size_t i = 0; i < N; i++) {
            if (format == DEVICE_F32) assert_true(values[i] == (double)expected[i]);
            if (format == DEVICE_F16) assert_true(values[i] == (double)f32_from_f16(f16_from_f32(expected[i])));
            if (format >= DEVICE_BF16) assert_true(values[i] == from_source[i]);
        }
        free(values), free(from_source);
    }
    device_buffers_free(&buffers);
}

static void expanded_weights_are_rounded_once(void **state) {
    (void)state;
    static const struct weight_kind kinds[] = {
        {DEVICE_FP8, 0, false}, {DEVICE_FP8, 128, false}, {DEVICE_INT4, 128, false}, {DEVICE_INT4, 32, true}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        enum { N_OUT = 9, N_IN = 256, FIRST = 2, COUNT = 5 };
        struct device_buffers buffers = {0};
        struct random_weight w = random_weight_make(&buffers, kinds[i], N_OUT, N_IN, 40 + i);
        void *bf16 = device_poisoned(&buffers, COUNT * N_IN * 2);
        assert_int_equal(device_weight_expand(&w.device, FIRST, COUNT, bf16, NULL), cudaSuccess);
        uint16_t *got = device_download(bf16, COUNT * N_IN * 2);
        for (size_t j = 0; j < COUNT * N_IN; j++)
            assert_int_equal(got[j], bf16_from_f32((float)w.value[FIRST * N_IN + j]));
        free(got), free(w.value);
        device_buffers_free(&buffers);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_below_round_to_nearest),
        cmocka_unit_test(values_of_the_grid_are_kept),
        cmocka_unit_test(random_weights_are_those_of_the_host),
        cmocka_unit_test(expanded_weights_are_rounded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
