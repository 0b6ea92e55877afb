// Quantised matrix products: the plain definitions.
#include "kernels/kernel_table.h"
#include "kernels/packed_make.h"
#include "kernels/ref/ref_load.h"
#include "kernels/ref/ref_packed.h"

void ref_weight_pack(void *block, const float *rows, enum tensor_format format, int32_t n) {
    pack_block(block, rows, format, n);
}

static int32_t number_at(const char *block, enum tensor_format format, int32_t output, int32_t k) {
    const uint8_t *group = (const uint8_t *)block + (size_t)(k / PACKED_GROUP) * packed_group_bytes(format);
    int32_t quad = k % PACKED_GROUP / PACKED_QUAD, at = output * PACKED_QUAD + k % PACKED_QUAD;
    if (format == TENSOR_INT8) return group[quad * PACKED_LINE + at];
    return group[quad / 2 * PACKED_LINE + at] >> (quad % 2 * 4) & 15;
}

// Groups are added in order of k: their integer sum, exact as a float, times both scales.
static float product_integers(const struct matmul *m, const char *block, int32_t output, const char *row) {
    const enum tensor_format format = m->weight->format;
    const int32_t n_groups = packed_groups(m->weight->n_cols);
    const int8_t *x = (const int8_t *)row;
    const char *weight_scales = block + packed_scales_at(format, m->weight->n_cols);
    const float *scales = (const float *)(const void *)(row + (size_t)n_groups * PACKED_GROUP);
    const int32_t *starts = (const int32_t *)(const void *)(scales + n_groups);
    float sum = 0;
    for (int32_t g = 0; g < n_groups; g++) {
        int32_t inner = starts[g];
        for (int32_t k = g * PACKED_GROUP; k < (g + 1) * PACKED_GROUP; k++)
            inner += number_at(block, format, output, k) * x[k];
        uint16_t scale;
        memcpy(&scale, weight_scales + (size_t)(g * PACKED_OUTPUTS + output) * 2, sizeof scale);
        sum = fmaf((float)inner, f32_from_f16(scale) * scales[g], sum);
    }
    return sum;
}

static float product_fp8(const struct matmul *m, const char *block, int32_t output, const float *x) {
    const int32_t n = m->weight->n_cols;
    float sum = 0, scale;
    for (int32_t k = 0; k < n; k++) sum = fmaf(f32_from_e4m3((uint8_t)block[k * PACKED_OUTPUTS + output]), x[k], sum);
    memcpy(&scale, block + packed_scales_at(TENSOR_FP8, n) + (size_t)output * sizeof scale, sizeof scale);
    return sum * scale;
}

void ref_matmul_packed(const struct matmul *m) {
    const enum tensor_format format = m->weight->format;
    for (int32_t r = 0; r < m->n_rows; r++) {
        const char *row = (const char *)m->activations + (size_t)r * m->activation_stride;
        for (int32_t i = m->out_first; i < m->out_first + m->out_count; i++) {
            const char *block = (const char *)m->weight->data +
                                (size_t)(i / PACKED_OUTPUTS) * packed_block_bytes(format, m->weight->n_cols);
            float sum = format == TENSOR_FP8
                            ? product_fp8(m, block, i % PACKED_OUTPUTS, (const float *)(const void *)row)
                            : product_integers(m, block, i % PACKED_OUTPUTS, row);
            m->out[(size_t)r * m->out_stride + (size_t)i] = m->bias ? sum + m->bias[i] : sum;
        }
    }
}
