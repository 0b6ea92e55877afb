#include "models/quantizer.h"

#include "base/mem.h"
#include "kernels/offline.h"
#include "kernels/packed_make.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    ROWS_TOGETHER = 8, // outputs that read a row of the factor once
    SWEEPS = 2,        // of refinement behind the first pass
    FP8_CANDIDATES = 8,
};
static const float DAMPING = 0.01f; // of the mean square of all inputs, added to each

static float scale_value(enum tensor_format format, uint16_t bits) {
    return format == TENSOR_BF16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

static uint16_t scale_bits(enum tensor_format format, float scale) {
    return format == TENSOR_BF16 ? bf16_from_f32(scale) : f16_from_f32(fmaxf(fminf(scale, 65504), -65504));
}

static float least_of(enum tensor_format format) {
    return format == TENSOR_INT4 ? -8 : -127;
}

static float most_of(enum tensor_format format) {
    return format == TENSOR_INT4 ? 7 : 127;
}

// The code nearest to x, which is in units of the scale.
static uint8_t code_of(enum tensor_format format, float x) {
    if (format == TENSOR_FP8) return e4m3_from_f32(x);
    x = fmaxf(fminf(x, most_of(format)), least_of(format));
    return (uint8_t)(packed_round(x) + (format == TENSOR_INT4 ? 8 : 128));
}

static float code_value(enum tensor_format format, uint8_t code) {
    if (format == TENSOR_FP8) return f32_from_e4m3(code);
    return (float)(code - (format == TENSOR_INT4 ? 8 : 128));
}

// ------------------------------------------------------------------------------------------------------------- scales

// FP8's steps grow with the number: candidates differ in where the largest value lies within a power of two.
static float search_fp8(const float *x, const float *importance, int32_t n) {
    const float largest = packed_largest(x, n);
    float best = INFINITY, scale = largest / 448;
    for (int c = 0; c < FP8_CANDIDATES && largest > 0x1p-110f; c++) {
        float tried = largest / (448 - 28 * (float)c), error = 0;
        for (int32_t k = 0; k < n; k++) {
            float e = x[k] - tried * f32_from_e4m3(e4m3_from_f32(x[k] / tried));
            error += (importance ? importance[k] : 1) * e * e;
        }
        if (error < best) best = error, scale = tried;
    }
    return scale;
}

// n: a multiple of PACK_LANES. Not finite where a value is not.
static float choose_scale(const struct quantizer_options *options, const float *x, const float *importance, int32_t n) {
    const enum tensor_format format = options->format;
    if (options->method == QUANTIZER_NEAREST)
        return packed_largest(x, n) / (format == TENSOR_FP8 ? 448 : format == TENSOR_INT4 ? 7.5f : 127);
    if (format == TENSOR_FP8) return search_fp8(x, importance, n);
    return pack_search(x, importance, (n + PACK_LANES - 1) / PACK_LANES * PACK_LANES, least_of(format),
                       most_of(format));
}

// ------------------------------------------------------------------------------------------------------------ moments

struct factoring {
    struct pool *pool;
    const struct kernel_table *kernels;
    float *matrix; // [n, n] upper triangle, becomes U of U^T U
    int32_t n;
    atomic_bool failed;
};

static void factor_worker(void *argument, int worker, int n_workers) {
    struct factoring *f = argument;
    const size_t n = (size_t)f->n;
    for (int32_t k = 0; k < f->n; k++) {
        float *pivot = f->matrix + (size_t)k * n;
        if (worker == k % n_workers) {
            if (!(pivot[k] > 0)) f->failed = true;
            const float root = pivot[k] > 0 ? sqrtf(pivot[k]) : 1;
            for (int32_t j = k; j < f->n; j++) pivot[j] /= root;
        }
        pool_barrier(f->pool, n_workers);
        for (int32_t i = k + 1; i < f->n; i++)
            if (i % n_workers == worker)
                offline_add(f->kernels, f->matrix + (size_t)i * n + i, pivot + i, -pivot[i], f->n - i);
        pool_barrier(f->pool, n_workers);
    }
}

// R with moments = R R^T: the Cholesky factor of the matrix with its inputs in the opposite order, turned round.
static bool factor(const struct quantizer_moments *m, struct pool *pool, const struct kernel_table *kernels) {
    const size_t n = (size_t)m->n;
    struct factoring f = {.pool = pool, .kernels = kernels, .n = m->n, .matrix = mem_alloc(n * n * sizeof(float))};
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) f.matrix[i * n + j] = m->moments[(n - 1 - i) * n + (n - 1 - j)];
    pool_run(pool, pool_size(pool), factor_worker, &f);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) m->factor[i * n + j] = f.matrix[(n - 1 - j) * n + (n - 1 - i)];
    free(f.matrix);
    return !f.failed;
}

struct quantizer_moments quantizer_moments_make(const float *sums, int32_t n, size_t n_rows, struct pool *pool,
                                                const struct kernel_table *kernels) {
    const size_t width = (size_t)n;
    struct quantizer_moments m = {.n = n,
                                  .moments = mem_alloc_zero(width * width, sizeof(float)),
                                  .factor = mem_alloc_zero(width * width, sizeof(float))};
    double mean = 0;
    for (size_t i = 0; i < width; i++) mean += (double)sums[i * width + i] / (double)width;
    const bool known = n_rows > 0 && mean > 0 && isfinite(mean);
    const float scale = known ? (float)(1 / mean) : 0; // in units of the mean square, where damping is one number
    for (size_t i = 0; known && i < width; i++)
        for (size_t j = 0; j <= i; j++)
            m.moments[i * width + j] = m.moments[j * width + i] = sums[i * width + j] * scale;
    for (float damping = DAMPING;; damping *= 4) {
        for (size_t i = 0; i < width; i++) m.moments[i * width + i] += damping;
        if (factor(&m, pool, kernels)) return m;
    }
}

void quantizer_moments_free(struct quantizer_moments *moments) {
    free(moments->moments);
    free(moments->factor);
    *moments = (struct quantizer_moments){0};
}

// --------------------------------------------------------------------------------------------------------------- rows

struct quantizing {
    struct quantized *out;
    const struct tensor *weight;
    const struct quantizer_options *options;
    const struct quantizer_moments *moments;
    const struct kernel_table *kernels;
    atomic_int taken; // rows
};

// Memory of one worker.
struct scratch {
    float *values;     // [ROWS_TOGETHER, n] weights
    float *sums;       // [ROWS_TOGETHER, n] what later values must take up; then moments times errors
    float *errors;     // [ROWS_TOGETHER, n] values less what they were rounded to
    float *target;     // [n and lanes] of a group
    float *importance; // [n and lanes]
};

static uint16_t *scale_at(const struct quantized *q, int32_t row, int32_t g) {
    return &q->scales[(size_t)row * (size_t)q->n_groups + (size_t)g];
}

static uint8_t *codes_of(const struct quantized *q, int32_t row) {
    return q->codes + (size_t)row * (size_t)q->n_cols;
}

static float reciprocal(float scale) {
    return fabsf(scale) > 0x1p-110f ? 1 / scale : 0;
}

static void set_scale(const struct quantizing *z, const struct scratch *scratch, int32_t row, int32_t g,
                      const float *importance) {
    const struct quantized *q = z->out;
    *scale_at(q, row, g) = scale_bits(q->scale_format, choose_scale(z->options, scratch->target, importance, q->group));
}

// Without moments: group after group.
static void quantize_row(const struct quantizing *z, struct scratch *scratch, int32_t row) {
    const struct quantized *q = z->out;
    tensor_values(z->weight, row, scratch->values);
    for (int32_t g = 0; g < q->n_groups; g++) {
        const float *x = scratch->values + g * q->group;
        memcpy(scratch->target, x, (size_t)q->group * sizeof *x);
        set_scale(z, scratch, row, g, NULL);
        const float factor = reciprocal(scale_value(q->scale_format, *scale_at(q, row, g)));
        uint8_t *codes = codes_of(q, row) + g * q->group;
        for (int32_t k = 0; k < q->group; k++) codes[k] = code_of(q->format, x[k] * factor);
    }
}

// With moments = R R^T the error of an output is the sum over k of (e_k R_kk + sum over i < k of e_i R_ik)^2: each
// value in turn is rounded to where its term is the least, given those before it.
static void round_in_turn(const struct quantizing *z, struct scratch *scratch, int32_t first, int32_t count,
                          int32_t g) {
    const struct quantized *q = z->out;
    const size_t n = (size_t)q->n_cols;
    for (int32_t k = g * q->group; k < (g + 1) * q->group; k++) {
        const float *factor = z->moments->factor + (size_t)k * n;
        for (int32_t r = 0; r < count; r++) {
            const size_t at = (size_t)r * n + (size_t)k;
            const float scale = scale_value(q->scale_format, *scale_at(q, first + r, g));
            const uint8_t code =
                code_of(q->format, (scratch->values[at] + scratch->sums[at] / factor[k]) * reciprocal(scale));
            codes_of(q, first + r)[k] = code;
            scratch->errors[at] = scratch->values[at] - scale * code_value(q->format, code);
            offline_add(z->kernels, scratch->sums + at, factor + k, scratch->errors[at], q->n_cols - k);
        }
    }
}

static void quantize_in_turn(const struct quantizing *z, struct scratch *scratch, int32_t first, int32_t count) {
    const struct quantized *q = z->out;
    const size_t n = (size_t)q->n_cols;
    memset(scratch->sums, 0, (size_t)count * n * sizeof *scratch->sums);
    for (int32_t g = 0; g < q->n_groups; g++) {
        for (int32_t k = 0; k < q->group; k++) {
            const size_t at = (size_t)(g * q->group + k);
            const float root = z->moments->factor[at * n + at];
            scratch->importance[k] = root * root;
        }
        for (int32_t r = 0; r < count; r++) {
            for (int32_t k = 0; k < q->group; k++) {
                const size_t column = (size_t)(g * q->group + k), at = (size_t)r * n + column;
                scratch->target[k] = scratch->values[at] + scratch->sums[at] / z->moments->factor[column * n + column];
            }
            set_scale(z, scratch, first + r, g, scratch->importance);
        }
        round_in_turn(z, scratch, first, count, g);
    }
}

// errors[k] -= change, and with it the moments times the errors.
static void change_value(const struct quantizing *z, float *errors, float *slopes, int32_t k, float change) {
    const int32_t n = z->out->n_cols;
    errors[k] -= change;
    offline_add(z->kernels, slopes, z->moments->moments + (size_t)k * (size_t)n, -change, n);
}

// The best scale of a group for its codes, all else as it is.
static void refine_scale(const struct quantizing *z, struct scratch *scratch, int32_t row, int32_t g, float *errors,
                         float *slopes) {
    const struct quantized *q = z->out;
    const size_t n = (size_t)q->n_cols, first = (size_t)(g * q->group);
    float *codes = scratch->target, *products = scratch->importance; // products: moments times codes
    double down = 0, curve = 0;
    memset(products, 0, (size_t)q->group * sizeof *products);
    for (int32_t k = 0; k < q->group; k++) codes[k] = code_value(q->format, codes_of(q, row)[first + (size_t)k]);
    for (int32_t k = 0; k < q->group; k++)
        offline_add(z->kernels, products, z->moments->moments + (first + (size_t)k) * n + first, codes[k], q->group);
    for (int32_t k = 0; k < q->group; k++) {
        down += (double)codes[k] * (double)slopes[first + (size_t)k];
        curve += (double)codes[k] * (double)products[k];
    }
    if (!(curve > 0)) return;
    const float before = scale_value(q->scale_format, *scale_at(q, row, g));
    const uint16_t bits = scale_bits(q->scale_format, before + (float)(down / curve));
    const float change = scale_value(q->scale_format, bits) - before;
    if (change == 0) return;
    *scale_at(q, row, g) = bits;
    for (int32_t k = 0; k < q->group; k++)
        if (codes[k] != 0) change_value(z, errors, slopes, (int32_t)first + k, change * codes[k]);
}

// Each code of a group in turn to where the whole error is the least, all else as it is.
static void refine_codes(const struct quantizing *z, int32_t row, int32_t g, float *errors, float *slopes) {
    const struct quantized *q = z->out;
    const size_t n = (size_t)q->n_cols;
    const float scale = scale_value(q->scale_format, *scale_at(q, row, g)), factor = reciprocal(scale);
    uint8_t *codes = codes_of(q, row);
    for (int32_t k = g * q->group; k < (g + 1) * q->group; k++) {
        const float value = scale * code_value(q->format, codes[k]);
        const float best = value + slopes[k] / z->moments->moments[(size_t)k * n + (size_t)k];
        const uint8_t code = code_of(q->format, best * factor);
        const float change = scale * code_value(q->format, code) - value;
        // Of two codes equally near, the one that is there stays.
        if (change == 0 || fabsf(best - value - change) >= fabsf(best - value)) continue;
        codes[k] = code;
        change_value(z, errors, slopes, k, change);
    }
}

static void refine_row(const struct quantizing *z, struct scratch *scratch, int32_t row, float *errors, float *slopes) {
    const struct quantized *q = z->out;
    const size_t n = (size_t)q->n_cols;
    memset(slopes, 0, n * sizeof *slopes);
    for (int32_t k = 0; k < q->n_cols; k++)
        offline_add(z->kernels, slopes, z->moments->moments + (size_t)k * n, errors[k], q->n_cols);
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (int32_t g = 0; g < q->n_groups; g++) {
            refine_scale(z, scratch, row, g, errors, slopes);
            refine_codes(z, row, g, errors, slopes);
        }
}

static void quantize_rows(const struct quantizing *z, struct scratch *scratch, int32_t first, int32_t count) {
    if (z->options->method != QUANTIZER_MEASURED) {
        for (int32_t row = first; row < first + count; row++) quantize_row(z, scratch, row);
        return;
    }
    const size_t n = (size_t)z->out->n_cols;
    for (int32_t r = 0; r < count; r++) tensor_values(z->weight, first + r, scratch->values + (size_t)r * n);
    quantize_in_turn(z, scratch, first, count);
    for (int32_t r = 0; r < count; r++)
        refine_row(z, scratch, first + r, scratch->errors + (size_t)r * n, scratch->sums + (size_t)r * n);
}

static void quantize_worker(void *argument, int worker, int n_workers) {
    (void)worker, (void)n_workers;
    struct quantizing *z = argument;
    const size_t n = (size_t)z->out->n_cols, n_rows = ROWS_TOGETHER;
    float *memory = mem_alloc_zero((3 * n_rows + 2) * n + 2 * PACK_LANES, sizeof *memory);
    struct scratch scratch = {.values = memory,
                              .sums = memory + n_rows * n,
                              .errors = memory + 2 * n_rows * n,
                              .target = memory + 3 * n_rows * n,
                              .importance = memory + (3 * n_rows + 1) * n + PACK_LANES};
    int32_t first;
    while ((first = atomic_fetch_add(&z->taken, ROWS_TOGETHER)) < z->out->n_rows) {
        const int32_t left = z->out->n_rows - first;
        quantize_rows(z, &scratch, first, left < ROWS_TOGETHER ? left : ROWS_TOGETHER);
    }
    free(memory);
}

void quantizer_run(struct quantized *out, const struct tensor *weight, const struct quantizer_options *options,
                   const struct quantizer_moments *moments, struct pool *pool, const struct kernel_table *kernels) {
    const int32_t group = options->group ? options->group : weight->n_cols;
    assert(weight->n_cols % group == 0);
    assert((options->method == QUANTIZER_MEASURED) == (moments != NULL));
    *out = (struct quantized){.format = options->format,
                              .scale_format = options->scale_format,
                              .n_rows = weight->n_rows,
                              .n_cols = weight->n_cols,
                              .group = group,
                              .n_groups = weight->n_cols / group};
    out->codes = mem_alloc((size_t)out->n_rows * (size_t)out->n_cols);
    out->scales = mem_alloc((size_t)out->n_rows * (size_t)out->n_groups * sizeof *out->scales);
    struct quantizing z = {.out = out, .weight = weight, .options = options, .moments = moments, .kernels = kernels};
    pool_run(pool, pool_size(pool), quantize_worker, &z);
}

void quantized_free(struct quantized *quantized) {
    free(quantized->codes);
    free(quantized->scales);
    *quantized = (struct quantized){0};
}

bool quantized_is_finite(const struct quantized *q) {
    for (size_t i = 0; i < (size_t)q->n_rows * (size_t)q->n_groups; i++)
        if (!isfinite(scale_value(q->scale_format, q->scales[i]))) return false;
    return true;
}

void quantized_values(const struct quantized *q, int32_t row, float *out) {
    const uint8_t *codes = codes_of(q, row);
    for (int32_t k = 0; k < q->n_cols; k++)
        out[k] = scale_value(q->scale_format, *scale_at(q, row, k / q->group)) * code_value(q->format, codes[k]);
}

// -------------------------------------------------------------------------------------------------------------- error

struct measuring {
    const struct quantized *quantized;
    const struct tensor *weight;
    const float *sums;
    const struct kernel_table *kernels;
    atomic_int taken;         // rows
    double *errors, *squares; // [n_rows]
};

// x^T sums x; products [n]: scratch.
static double square_of(const struct measuring *m, const float *x, float *products, int32_t n) {
    double square = 0;
    memset(products, 0, (size_t)n * sizeof *products);
    for (int32_t i = 0; i < n; i++) offline_add(m->kernels, products, m->sums + (size_t)i * (size_t)n, x[i], i + 1);
    for (int32_t i = 0; i < n; i++) {
        const double own = (double)m->sums[(size_t)i * (size_t)n + (size_t)i] * (double)x[i];
        square += (2 * (double)products[i] - own) * (double)x[i];
    }
    return square > 0 ? square : 0;
}

static void measure_worker(void *argument, int worker, int n_workers) {
    (void)worker, (void)n_workers;
    struct measuring *m = argument;
    const int32_t n = m->weight->n_cols;
    float *values = mem_alloc(3 * (size_t)n * sizeof *values), *errors = values + n, *products = errors + n;
    int32_t row;
    while ((row = atomic_fetch_add(&m->taken, 1)) < m->weight->n_rows) {
        tensor_values(m->weight, row, values);
        quantized_values(m->quantized, row, errors);
        for (int32_t k = 0; k < n; k++) errors[k] = values[k] - errors[k];
        m->errors[row] = square_of(m, errors, products, n);
        m->squares[row] = square_of(m, values, products, n);
    }
    free(values);
}

double quantizer_error(const struct quantized *quantized, const struct tensor *weight, const float *sums,
                       struct pool *pool, const struct kernel_table *kernels) {
    const size_t n_rows = (size_t)weight->n_rows;
    struct measuring m = {.quantized = quantized, .weight = weight, .sums = sums, .kernels = kernels};
    m.errors = mem_alloc_zero(2 * n_rows, sizeof *m.errors);
    m.squares = m.errors + n_rows;
    pool_run(pool, pool_size(pool), measure_worker, &m);
    double error = 0, square = 0;
    for (size_t r = 0; r < n_rows; r++) error += m.errors[r], square += m.squares[r];
    free(m.errors);
    return square > 0 ? sqrt(error / square) : 0;
}
