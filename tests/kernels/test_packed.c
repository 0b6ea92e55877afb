// Quantised weights: what kernels multiply is what the layout says, with the same bits for any number of rows and any
// range of outputs, those of integers also on every instruction set, and quantising is better than rounding to nearest.
#include "tests/test.h"

#include "kernels/cpu/cpu.h"
#include "kernels/packed.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/prepared.h"

#include <stdio.h>

// The first N_MADE are quantised here; the others are only read from files.
static const enum tensor_format formats[] = {TENSOR_FP8, TENSOR_INT8, TENSOR_INT4, TENSOR_INT8_OFFSET,
                                             TENSOR_INT4_OFFSET};
enum { N_FORMATS = sizeof formats / sizeof *formats, N_MADE = 3 };
static const char *const instruction_sets[] = {"ref", "avx2", "avx512", "amx"};

struct packed_case {
    enum tensor_format format;
    bool filled; // with codes and scales instead of being quantised
    int32_t n_out, n_in, n_rows;
    struct tensor weight;
    struct guarded w, x, bias; // row-major
    char *memory;
};

static void pack_blocks(const struct packed_case *c, const struct kernel_table *k) {
    const size_t n_in = (size_t)c->n_in, block_bytes = packed_block_bytes(c->format, c->n_in);
    float *rows = calloc(PACKED_OUTPUTS * n_in, sizeof *rows);
    for (int32_t first = 0; first < c->n_out; first += PACKED_OUTPUTS) {
        size_t left = (size_t)(c->n_out - first < PACKED_OUTPUTS ? c->n_out - first : PACKED_OUTPUTS);
        memset(rows, 0, PACKED_OUTPUTS * n_in * sizeof *rows);
        memcpy(rows, c->w.data + (size_t)first * n_in, left * n_in * sizeof *rows);
        k->weight_pack(c->memory + 64 + (size_t)(first / PACKED_OUTPUTS) * block_bytes, rows, c->format, c->n_in);
    }
    free(rows);
}

// Codes and scales as a file could hold them: scales and offsets that F16 holds, one a group of 128 for FP8.
static void draw_row(struct tensor_row *row, enum tensor_format format, int32_t n_in, uint64_t key) {
    const int32_t n_groups = tensor_groups(n_in), alike = packed_scale_inputs(format) / TENSOR_GROUP;
    for (int32_t i = 0; i < n_groups * TENSOR_GROUP; i++) {
        uint8_t code = (uint8_t)rng_u32(key, (uint64_t)i);
        if (format == TENSOR_FP8 && (code & 0x7f) == 0x7f) code = 0; // NaN
        row->codes[i] = tensor_format_is_int4(format) ? code & 15 : code;
    }
    for (int32_t g = 0; g < n_groups; g++) {
        const uint64_t drawn = 1000000 + (uint64_t)(g / alike);
        row->scales[g] = f32_from_f16(f16_from_f32(0.01f * rng_uniform(key, drawn)));
        row->offsets[g] = f32_from_f16(f16_from_f32(0.2f * rng_uniform(key, drawn + 500000) - 0.1f));
    }
}

static void fill_blocks(const struct packed_case *c, const struct kernel_table *k, uint64_t seed) {
    const size_t n_groups = (size_t)tensor_groups(c->n_in), block_bytes = packed_block_bytes(c->format, c->n_in);
    struct tensor_row rows[PACKED_OUTPUTS];
    for (int i = 0; i < PACKED_OUTPUTS; i++)
        rows[i] = (struct tensor_row){calloc(n_groups, TENSOR_GROUP), calloc(n_groups, sizeof(float)),
                                      calloc(n_groups, sizeof(float))};
    for (int32_t first = 0; first < c->n_out; first += PACKED_OUTPUTS) {
        for (int i = 0; i < PACKED_OUTPUTS; i++) {
            draw_row(&rows[i], c->format, c->n_in, rng_key(seed, 7, (uint64_t)(first + i)));
            if (first + i >= c->n_out) continue;
            float *values = c->w.data + (size_t)(first + i) * (size_t)c->n_in;
            tensor_row_values(&rows[i], c->format, c->n_in, values);
        }
        k->weight_fill(c->memory + 64 + (size_t)(first / PACKED_OUTPUTS) * block_bytes, rows, c->format, c->n_in);
    }
    for (int i = 0; i < PACKED_OUTPUTS; i++) free(rows[i].codes), free(rows[i].scales), free(rows[i].offsets);
}

// Blocks between bytes that are NaN as scales and as FP8.
static void case_make(struct packed_case *c, const struct kernel_table *k, uint64_t seed) {
    c->w = guarded_random((size_t)c->n_out * (size_t)c->n_in, 1, 0.1f, seed);
    c->x = guarded_random((size_t)c->n_rows * (size_t)c->n_in, 3, 2, seed + 1);
    c->bias = guarded_random((size_t)c->n_out, 1, 1, seed + 2);
    c->weight = (struct tensor){.format = c->format, .n_rows = c->n_out, .n_cols = c->n_in};
    size_t n_bytes = packed_bytes(&c->weight);
    c->memory = aligned_alloc(64, n_bytes + 128);
    memset(c->memory, 0xff, n_bytes + 128);
    c->weight.data = c->memory + 64;
    if (c->filled)
        fill_blocks(c, k, seed);
    else
        pack_blocks(c, k);
}

static void case_free(struct packed_case *c) {
    guarded_free(&c->w), guarded_free(&c->x), guarded_free(&c->bias);
    free(c->memory);
}

// Outputs [first, first + count) of rows [row, row + n_rows) into out [n_rows, n_out].
static void case_run(const struct packed_case *c, const struct kernel_table *k, int32_t row, int32_t n_rows,
                     int32_t first, int32_t count, float *out) {
    const size_t stride = k->activation_bytes(c->format, c->n_in);
    // Rows beyond the last are there, but whatever they hold changes nothing.
    const size_t n_padded = ((size_t)n_rows + ACTIVATION_ROWS - 1) / ACTIVATION_ROWS * ACTIVATION_ROWS;
    const size_t n_bytes = (stride * n_padded + 127) / 64 * 64;
    char *prepared = aligned_alloc(64, n_bytes);
    memset(prepared, 0xff, n_bytes);
    for (int32_t r = 0; r < n_rows; r++)
        prepare_in_parts(k, prepared, r, c->x.data + (size_t)(row + r) * (size_t)c->n_in, c->format, c->n_in);
    struct matmul m = {&c->weight, c->bias.data, prepared, stride, out, (size_t)c->n_out, n_rows, first, count};
    k->matmul(&m);
    free(prepared);
}

static struct packed_case case_random(enum tensor_format format, uint64_t seed) {
    static const int32_t widths[] = {1, 5, 31, 32, 33, 64, 100, 257, 1024};
    uint64_t key = rng_key(seed, 9, 9);
    return (struct packed_case){.format = format,
                                .filled = tensor_format_has_offsets(format) || seed % 2,
                                .n_in = widths[rng_u32(key, 1) % (sizeof widths / sizeof *widths)],
                                .n_out = 1 + (int32_t)(rng_u32(key, 2) % 100),
                                .n_rows = 1 + (int32_t)(rng_u32(key, 3) % (seed % 4 ? 17 : 300))};
}

// Integers have one order of sums everywhere; in FP8, a vector's or a tile's is its own.
static void check_outputs(const struct packed_case *c, const struct kernel_table *k, const float *expected,
                          const float *got) {
    const size_t n = (size_t)c->n_rows * (size_t)c->n_out;
    if (c->format != TENSOR_FP8 || k == cpu_kernels_find("avx2")) {
        assert_memory_equal(expected, got, n * sizeof *got);
        return;
    }
    double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        const double difference = (double)got[i] - (double)expected[i];
        error += difference * difference, square += (double)expected[i] * (double)expected[i];
    }
    if (!(sqrt(error / square) < 1e-6)) fail_msg("%s: error %g", k->name, sqrt(error / square));
}

static void check_set(const struct kernel_table *k) {
    for (size_t f = 0; f < N_FORMATS; f++)
        for (uint64_t seed = 1; seed <= 24; seed++) {
            struct packed_case c = case_random(formats[f], seed), own = c;
            case_make(&c, &ref_kernels, seed), case_make(&own, k, seed);
            assert_memory_equal(c.weight.data, own.weight.data, packed_bytes(&c.weight));
            struct guarded expected = guarded_make((size_t)c.n_rows * (size_t)c.n_out, 0),
                           got = guarded_make(expected.n, 5);
            case_run(&c, &ref_kernels, 0, c.n_rows, 0, c.n_out, expected.data);
            case_run(&c, k, 0, c.n_rows, 0, c.n_out, got.data);
            check_outputs(&c, k, expected.data, got.data);
            int32_t first = (int32_t)(seed % (uint64_t)c.n_out), count = (c.n_out - first + 1) / 2;
            struct guarded part = guarded_make(expected.n, 2), before = guarded_copy(&part, 2);
            for (int32_t r = 0; r < c.n_rows; r++)
                case_run(&c, k, r, 1, first, count, part.data + (size_t)r * (size_t)c.n_out);
            for (size_t i = 0; i < part.n; i++) {
                int32_t output = (int32_t)(i % (size_t)c.n_out);
                bool inside = output >= first && output < first + count;
                assert_int_equal(f32_bits(part.data[i]), f32_bits(inside ? got.data[i] : before.data[i]));
            }
            guarded_free(&expected), guarded_free(&got), guarded_free(&part), guarded_free(&before);
            case_free(&c), case_free(&own);
        }
}

static void products_are_those_of_plain_c(void **state) {
    (void)state;
    for (size_t i = 1; i < sizeof instruction_sets / sizeof *instruction_sets; i++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
        if (k)
            check_set(k);
        else
            printf("%s is not here\n", instruction_sets[i]);
    }
}

// Products in double precision of the weights as they were.
static void plain_products_are_near_the_exact_ones(void **state) {
    (void)state;
    static const double limits[] = {0.035, 0.01, 0.11}; // of the root mean square, by format
    for (size_t f = 0; f < N_FORMATS; f++)
        for (uint64_t seed = 1; seed <= 8; seed++) {
            struct packed_case c = case_random(formats[f], seed);
            c.n_rows = 5, c.n_out = 70, c.n_in = 257;
            const double limit = !c.filled ? limits[f] : formats[f] == TENSOR_FP8 ? 0.004 : 0.01;
            case_make(&c, &ref_kernels, seed);
            float *got = calloc(350, sizeof *got);
            case_run(&c, &ref_kernels, 0, 5, 0, 70, got);
            double error = 0, square = 0;
            for (int32_t i = 0; i < 350; i++) {
                double sum = 0;
                for (int32_t j = 0; j < 257; j++)
                    sum += (double)c.x.data[i / 70 * 257 + j] * (double)c.w.data[i % 70 * 257 + j];
                double difference = (double)(got[i] - c.bias.data[i % 70]) - sum;
                error += difference * difference, square += sum * sum;
            }
            if (!(sqrt(error / square) < limit)) fail_msg("format %zu: error %g", f, sqrt(error / square));
            free(got), case_free(&c);
        }
}

// What a row of 32 weights is after packing: the product with unit vectors.
static double squared_error(const float *x, enum tensor_format format) {
    float rows[PACKED_OUTPUTS * PACKED_GROUP] = {0};
    memcpy(rows, x, PACKED_GROUP * sizeof *x);
    char block[2048] __attribute__((aligned(64)));
    assert_true(packed_block_bytes(format, PACKED_GROUP) <= sizeof block);
    ref_weight_pack(block, rows, format, PACKED_GROUP);
    struct tensor weight = {.format = format, .n_rows = 1, .n_cols = PACKED_GROUP, .data = block};
    double error = 0;
    for (int32_t k = 0; k < PACKED_GROUP; k++) {
        float unit[PACKED_GROUP] = {0}, out;
        char row[256] __attribute__((aligned(64)));
        unit[k] = 1;
        ref_activation_prepare(row, 0, unit, format, PACKED_GROUP, 0, PACKED_GROUP);
        struct matmul m = {&weight, NULL, row, ref_activation_bytes(format, PACKED_GROUP), &out, 1, 1, 0, 1};
        ref_matmul(&m);
        error += pow((double)(out - x[k]), 2);
    }
    return error;
}

static void scales_are_better_than_rounding_to_nearest(void **state) {
    (void)state;
    for (size_t f = 1; f < N_MADE; f++) {
        double error = 0, nearest = 0;
        float end = formats[f] == TENSOR_INT8 ? 127 : 7;
        for (uint64_t seed = 1; seed <= 400; seed++) {
            float x[PACKED_GROUP], largest = 0;
            for (uint64_t k = 0; k < PACKED_GROUP; k++) {
                double uniform = (double)rng_uniform(rng_key(seed, 5, 5), k);
                x[k] = (float)rng_normal_quantile(uniform);
                largest = fmaxf(largest, fabsf(x[k]));
            }
            error += squared_error(x, formats[f]);
            for (int k = 0; k < PACKED_GROUP; k++) {
                double step = (double)(largest / end);
                nearest += pow(rint((double)x[k] / step) * step - (double)x[k], 2);
            }
        }
        printf("format %zu: error %.4f of rounding to nearest\n", f, error / nearest);
        assert_true(error < nearest * (formats[f] == TENSOR_INT8 ? 1.001 : 0.85));
    }
}

static void numbers_that_are_not_finite_stay_so(void **state) {
    (void)state;
    for (size_t f = 1; f < N_MADE; f++)
        for (int which = 0; which < 4; which++) {
            struct packed_case c = {.format = formats[f], .n_out = 3, .n_in = 40, .n_rows = 2};
            case_make(&c, &ref_kernels, 1);
            c.x.data[7] = which == 0 ? NAN : which == 1 ? INFINITY : 0;
            for (int i = 0; i < 40 && which == 3; i++) c.x.data[i] = 0;
            float out[6];
            case_run(&c, &ref_kernels, 0, 2, 0, 3, out);
            for (int i = 0; i < 3; i++) assert_int_equal(isfinite(out[i]) != 0, which >= 2);
            for (int i = 3; i < 6; i++) assert_true(isfinite(out[i]));
            for (int i = 0; i < 3 && which == 3; i++) assert_true(out[i] == c.bias.data[i]);
            case_free(&c);
        }
}

// The rows of an embedding table are what was packed.
static void rows_are_the_values_that_were_packed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof instruction_sets / sizeof *instruction_sets; i++)
        for (size_t f = 0; f < N_FORMATS; f++) {
            const struct kernel_table *k = cpu_kernels_find(instruction_sets[i]);
            if (!k) continue;
            struct packed_case c = {.format = formats[f], .filled = true, .n_out = 21, .n_in = 161, .n_rows = 1};
            case_make(&c, k, 3 + f);
            for (int32_t row = 0; row < c.n_out; row++) {
                float out[161];
                k->embed_row(out, &c.weight, row, 3);
                for (int32_t n = 0; n < c.n_in; n++)
                    assert_true(out[n] == 3 * c.w.data[(size_t)row * (size_t)c.n_in + (size_t)n]);
            }
            case_free(&c);
        }
}

// Unit vectors bring out every code of E4M3 but NaN.
static void fp8_codes_are_their_values(void **state) {
    (void)state;
    enum { N = 16 };
    struct tensor_row rows[PACKED_OUTPUTS];
    for (int i = 0; i < PACKED_OUTPUTS; i++) {
        rows[i] = (struct tensor_row){calloc(TENSOR_GROUP, 1), calloc(1, sizeof(float)), calloc(1, sizeof(float))};
        rows[i].scales[0] = 1;
        for (int k = 0; k < N; k++) rows[i].codes[k] = (uint8_t)((i * N + k) & 0x7f) == 0x7f ? 0 : (uint8_t)(i * N + k);
    }
    struct packed_case c = {.format = TENSOR_FP8, .n_out = PACKED_OUTPUTS, .n_in = N, .n_rows = N};
    c.weight = (struct tensor){.format = c.format, .n_rows = c.n_out, .n_cols = c.n_in};
    c.w = guarded_make(0, 0), c.x = guarded_make(N * N, 0), c.bias = guarded_make(PACKED_OUTPUTS, 0);
    for (int i = 0; i < PACKED_OUTPUTS; i++) c.bias.data[i] = 0;
    for (int i = 0; i < N * N; i++) c.x.data[i] = i % (N + 1) == 0;
    c.weight.data = c.memory = aligned_alloc(64, packed_bytes(&c.weight));
    for (size_t s = 0; s < sizeof instruction_sets / sizeof *instruction_sets; s++) {
        const struct kernel_table *k = cpu_kernels_find(instruction_sets[s]);
        float out[N * PACKED_OUTPUTS];
        if (!k) continue;
        k->weight_fill(c.memory, rows, c.format, N);
        case_run(&c, k, 0, N, 0, PACKED_OUTPUTS, out);
        for (int row = 0; row < N; row++)
            for (int i = 0; i < PACKED_OUTPUTS; i++)
                assert_true(out[row * PACKED_OUTPUTS + i] == f32_from_e4m3(rows[i].codes[row]));
    }
    for (int i = 0; i < PACKED_OUTPUTS; i++) free(rows[i].codes), free(rows[i].scales), free(rows[i].offsets);
    case_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_are_those_of_plain_c),
                                       cmocka_unit_test(fp8_codes_are_their_values),
                                       cmocka_unit_test(rows_are_the_values_that_were_packed),
                                       cmocka_unit_test(plain_products_are_near_the_exact_ones),
                                       cmocka_unit_test(scales_are_better_than_rounding_to_nearest),
                                       cmocka_unit_test(numbers_that_are_not_finite_stay_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
