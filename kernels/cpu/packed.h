// Products with packed weights (kernels/packed.h), for the matmul and activation_prepare of an instruction set.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/packed.h"

// Rows for integers and for FP8.
void avx2_matmul_packed(const struct matmul *m);
size_t avx2_activation_packed_bytes(enum tensor_format format, int32_t n);
void avx2_activation_pack(char *row, const float *x, enum tensor_format format, int32_t n, int32_t first,
                          int32_t count);
void avx512_matmul_packed(const struct matmul *m);
size_t avx512_activation_packed_bytes(enum tensor_format format, int32_t n);
void avx512_activation_pack(char *row, const float *x, enum tensor_format format, int32_t n, int32_t first,
                            int32_t count);
