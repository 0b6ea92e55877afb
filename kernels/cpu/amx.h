// Processors with AMX: matrix products of BF16, FP8 and integers, and attention over a BF16 cache, in tiles of 16 x 16;
// everything else as with AVX-512.
#pragma once

#include "kernels/kernel_table.h"

#include <stdbool.h>

// Asks the kernel, once a process, for the tile registers.
bool amx_permitted(void);

size_t amx_activation_bytes(enum tensor_format format, int32_t n);
void amx_activation_prepare(void *out, int32_t row, const float *x, enum tensor_format format, int32_t n, int32_t first,
                            int32_t count);
void amx_matmul(const struct matmul *m);
void amx_matmul_packed(const struct matmul *m);
void amx_matmul_fp8(const struct matmul *m);
void amx_kv_write(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, const float *key,
                  const float *value);
void amx_attention_split(const struct attention_task *task, int32_t split, struct attention_partial *partial);
double amx_peak_bf16(int32_t n);
double amx_peak_int8(int32_t n);

extern const struct kernel_table amx_kernels;
