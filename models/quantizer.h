// Quantises matrices of weights offline: scales and codes that make the error of a layer's outputs small.
//
// The error of an output is e^T H e, where e is what rounding changed in its weights and H [n_in, n_in] are the second
// moments of the matrix's inputs on some text: the mean of x x^T. Without moments all inputs count alike and are
// independent.
// Any thread may call; each matrix is shared out over the pool.
#pragma once

#include "base/pool.h"
#include "kernels/tensor.h"
#include <stdbool.h>
#include <stdint.h>

struct kernel_table;

enum quantizer_method {
    QUANTIZER_NEAREST,  // the largest value of a group at the end of the range, the others rounded to the nearest
    QUANTIZER_SEARCHED, // the scale of some with the least squared error
    QUANTIZER_MEASURED, // by moments: each value takes up what those before it were rounded by
};

struct quantizer_options {
    enum quantizer_method method;
    enum tensor_format format;       // TENSOR_INT4 (-8 .. 7), TENSOR_INT8 (-127 .. 127) or TENSOR_FP8
    int32_t group;                   // inputs that share a scale, a multiple of TENSOR_GROUP; 0: all of an output
    enum tensor_format scale_format; // TENSOR_BF16 or TENSOR_F16
};

// Codes as in struct tensor_row. All memory is the struct's.
struct quantized {
    enum tensor_format format, scale_format;
    int32_t n_rows, n_cols, group, n_groups; // group and n_groups of a row
    uint8_t *codes;                          // [n_rows, n_cols]
    uint16_t *scales;                        // [n_rows, n_groups] in scale_format
};

// What QUANTIZER_MEASURED needs of one input, shared by the matrices that have it.
struct quantizer_moments {
    int32_t n;
    float *moments; // [n, n] symmetric, damped
    float *factor;  // [n, n] upper triangle R of moments = R R^T
};
// From sums over n_rows inputs, whose lower triangle is given. The caller keeps the sums.
struct quantizer_moments quantizer_moments_make(const float *sums, int32_t n, size_t n_rows, struct pool *pool,
                                                const struct kernel_table *kernels);
void quantizer_moments_free(struct quantizer_moments *moments);

// weight: not random; n_cols a multiple of TENSOR_GROUP and of the group. moments: of QUANTIZER_MEASURED alone.
void quantizer_run(struct quantized *out, const struct tensor *weight, const struct quantizer_options *options,
                   const struct quantizer_moments *moments, struct pool *pool, const struct kernel_table *kernels);
void quantized_free(struct quantized *quantized);

// False: some weight, and so a scale, was not finite.
bool quantized_is_finite(const struct quantized *quantized);

// Values [n_cols] of a row.
void quantized_values(const struct quantized *quantized, int32_t row, float *out);

// Root of the squared error of all outputs over their squares, on inputs with these sums (as for
// quantizer_moments_make; n_rows does not matter).
double quantizer_error(const struct quantized *quantized, const struct tensor *weight, const float *sums,
                       struct pool *pool, const struct kernel_table *kernels);
