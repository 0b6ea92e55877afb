// One row of packed weights as single-precision numbers: of an embedding table.
#pragma once

#include "base/number.h"
#include "kernels/packed.h"

static inline int32_t packed_code(const char *block, enum tensor_format format, int32_t output, int32_t k) {
    const uint8_t *group = (const uint8_t *)block + (size_t)(k / PACKED_GROUP) * packed_group_bytes(format);
    const int32_t quad = k % PACKED_GROUP / PACKED_QUAD, at = output * PACKED_QUAD + k % PACKED_QUAD;
    if (!tensor_format_is_int4(format)) return group[quad * PACKED_LINE + at];
    return group[quad / 2 * PACKED_LINE + at] >> (quad % 2 * 4) & 15;
}

static inline float packed_f16(const char *plane, int32_t g, int32_t output) {
    uint16_t half;
    memcpy(&half, plane + (size_t)(g * PACKED_OUTPUTS + output) * sizeof half, sizeof half);
    return f32_from_f16(half);
}

static inline float packed_f32(const char *plane, int32_t g, int32_t output) {
    float x;
    memcpy(&x, plane + (size_t)(g * PACKED_OUTPUTS + output) * sizeof x, sizeof x);
    return x;
}

static inline const char *packed_block_of(const struct tensor *t, int32_t row) {
    return (const char *)t->data + (size_t)(row / PACKED_OUTPUTS) * packed_block_bytes(t->format, t->n_cols);
}

// out[n_cols] = row * scale
static inline void packed_row(float *out, const struct tensor *t, int32_t row, float scale) {
    const enum tensor_format format = t->format;
    const int32_t n = t->n_cols, output = row % PACKED_OUTPUTS, zero = packed_zero(format);
    const char *block = packed_block_of(t, row), *scales = block + packed_scales_at(format, n);
    const char *offsets = block + packed_offsets_at(format, n);
    for (int32_t k = 0; k < n; k++) {
        float x;
        if (format == TENSOR_FP8)
            x = f32_from_e4m3((uint8_t)packed_code(block, format, output, k)) *
                packed_f32(scales, k / PACKED_FP8_GROUP, output);
        else
            x = (float)(packed_code(block, format, output, k) - zero) * packed_f16(scales, k / PACKED_GROUP, output);
        if (tensor_format_has_offsets(format)) x += packed_f16(offsets, k / PACKED_GROUP, output);
        out[k] = x * scale;
    }
}
