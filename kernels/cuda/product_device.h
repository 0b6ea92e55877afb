// What the kernels of matrix products share: the arguments on the device and the end of a product.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/product_parts.h"

static __device__ __forceinline__ float activate(float x, enum activation activation) {
    if (activation == ACTIVATION_SILU) return x / (1 + expf(-x));
    const float sqrt_2_over_pi = 0.79788456f;
    return 0.5f * x * (1 + tanhf(sqrt_2_over_pi * (x + 0.044715f * x * x * x)));
}

static __device__ __forceinline__ void store_operand(void *out, int64_t index, enum operand_format format,
                                                     float value) {
    if (format == OPERAND_F32)
        ((float *)out)[index] = value;
    else if (format == OPERAND_BF16)
        ((struct bf16 *)out)[index] = from_float<struct bf16>(value);
    else
        // Saturated, an activation beyond 65504 is wrong by a factor; as infinity it would be the end of the row.
        ((uint16_t *)out)[index] = (uint16_t)pack_f16_saturating(value, 0);
}

// Rows first .. end - 1 of the output, which a block computes. Those of experts have weights of their own, of the same
// sizes and format, and stand anywhere in x: row i is row[i], or i where `row` is NULL.
struct product_rows {
    const struct device_weight *weights;
    int32_t first, end;
    const int32_t *row;
};

static __device__ __forceinline__ int32_t row_of_x(const struct product_rows *rows, int32_t i) {
    return rows->row ? rows->row[i] : i;
}

// The end of STORE and ADD for one element; `value` is x w + bias.
static __device__ __forceinline__ void store_output(const struct product *p, int32_t row, int64_t column, float value) {
    float *out = (float *)p->out + row * p->out_stride + column;
    value *= p->scale;
    *out = p->output == PRODUCT_ADD_F32 ? *out + value : value;
}

// Nibbles `place` and `place` + 4 of eight INT4 codes as the BF16 pair code - zero point, exact: 0x4300 | code is
// 128 + code. `zero`: minus 128 minus the zero point, twice, in BF16.
static __device__ __forceinline__ uint32_t int4_pair_to_bf16(uint32_t eight, int place, uint32_t zero) {
    return fma_bf16x2((eight >> 4 * place & 0x000f000fu) | 0x43004300u, 0x3f803f80u, zero);
}
