// Products with packed weights (kernels/packed.h), for the matmul and activation_prepare of an instruction set.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/packed.h"

void avx2_matmul_packed(const struct matmul *m);
void avx2_activation_pack(char *row, const float *x, int32_t n);
void avx512_matmul_packed(const struct matmul *m);
void avx512_activation_pack(char *row, const float *x, int32_t n);
