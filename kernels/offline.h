// The CPU's vector kernels for work beside steps: sums over calibration data, quantisation that takes its time.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct kernel_table;

// Those of the best instruction set of this processor.
const struct kernel_table *offline_kernels(void);

// x[n] += y[n] * scale
void offline_add(const struct kernel_table *kernels, float *x, const float *y, float scale, int32_t n);

enum { OFFLINE_BLOCK = 64 };

// sums[i][j] += the sum over rows of row[i] * row[j], for j <= i and i in blocks first, first + step, ... of
// OFFLINE_BLOCK; what stands above the diagonal is undefined. rows: [n_rows, n]; sums: [n, n].
void offline_add_products(const struct kernel_table *kernels, float *sums, const float *rows, int32_t n_rows, int32_t n,
                          int32_t first, int32_t step);
