// Quantised matrix products: the plain definitions.
#include "kernels/kernel_table.h"
#include "kernels/packed_make.h"
#include "kernels/packed_read.h"
#include "kernels/ref/ref_load.h"
#include "kernels/ref/ref_packed.h"

void ref_weight_pack(void *block, const float *rows, enum tensor_format format, int32_t n) {
    pack_block(block, rows, format, n);
}

void ref_weight_fill(void *block, const struct tensor_row *rows, enum tensor_format format, int32_t n) {
    fill_block(block, rows, format, n);
}

// Groups are added in order of k: their integer sum, exact as a float, times both scales; then the offset times what
// the activations of the group add up to.
static float product_integers(const struct matmul *m, const char *block, int32_t output, const char *row) {
    const enum tensor_format format = m->weight->format;
    const int32_t n_in = m->weight->n_cols, zero = packed_zero(format);
    const struct packed_group *groups = (const struct packed_group *)(const void *)row;
    const char *weight_scales = block + packed_scales_at(format, n_in);
    const char *offsets = block + packed_offsets_at(format, n_in);
    float sum = 0;
    for (int32_t g = 0; g < packed_groups(n_in); g++) {
        int32_t inner = 0, total = 0;
        for (int32_t k = 0; k < PACKED_GROUP; k++) {
            inner += (packed_code(block, format, output, g * PACKED_GROUP + k) - zero) * groups[g].numbers[k];
            total += groups[g].numbers[k];
        }
        float part = (float)inner * groups[g].scale;
        sum = fmaf(part, packed_f16(weight_scales, g, output), sum);
        if (tensor_format_has_offsets(format))
            sum = fmaf(packed_f16(offsets, g, output), (float)total * groups[g].scale, sum);
    }
    return sum;
}

static float product_fp8(const struct matmul *m, const char *block, int32_t output, const float *x) {
    const int32_t n = m->weight->n_cols;
    float sum = 0, group = 0;
    for (int32_t k = 0; k < n; k++) {
        group = fmaf(f32_from_e4m3((uint8_t)packed_code(block, TENSOR_FP8, output, k)), x[k], group);
        if ((k + 1) % PACKED_FP8_GROUP && k + 1 < n) continue;
        sum = fmaf(group, packed_f32(block + packed_scales_at(TENSOR_FP8, n), k / PACKED_FP8_GROUP, output), sum);
        group = 0;
    }
    return sum;
}

void ref_matmul_packed(const struct matmul *m) {
    const enum tensor_format format = m->weight->format;
    for (int32_t r = 0; r < m->n_rows; r++) {
        const char *row = (const char *)m->activations + (size_t)r * m->activation_stride;
        for (int32_t i = m->out_first; i < m->out_first + m->out_count; i++) {
            const char *block = packed_block_of(m->weight, i);
            float sum = format == TENSOR_FP8
                            ? product_fp8(m, block, i % PACKED_OUTPUTS, (const float *)(const void *)row)
                            : product_integers(m, block, i % PACKED_OUTPUTS, row);
            m->out[(size_t)r * m->out_stride + (size_t)i] = m->bias ? sum + m->bias[i] : sum;
        }
    }
}
