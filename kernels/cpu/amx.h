// Processors with AMX: BF16 matrix products in tiles of 16 x 16; everything else as with AVX-512.
#pragma once

#include "kernels/kernel_table.h"

#include <stdbool.h>

// Asks the kernel, once a process, for the tile registers.
bool amx_permitted(void);

size_t amx_activation_bytes(enum tensor_format format, int32_t n);
void amx_activation_prepare(void *out, int32_t row, const float *x, enum tensor_format format, int32_t n);
void amx_matmul(const struct matmul *m);
double amx_peak_bf16(int32_t n);

extern const struct kernel_table amx_kernels;
