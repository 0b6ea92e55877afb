// Matrix products, norms and the preparation of activations: the plain definitions.
#include "kernels/kernel_table.h"
#include "kernels/packed_make.h"
#include "kernels/ref/ref_load.h"
#include "kernels/ref/ref_packed.h"

#include <math.h>

size_t ref_activation_bytes(enum tensor_format format, int32_t n) {
    if (tensor_format_is_integer(format)) return packed_activation_bytes(n);
    return ((size_t)n * sizeof(float) + 63) / 64 * 64;
}

// Activations for BF16 and FP8 stay floats here, rounded.
void ref_activation_prepare(void *out, int32_t row, const float *x, enum tensor_format format, int32_t n, int32_t first,
                            int32_t count) {
    char *to = (char *)out + (size_t)row * ref_activation_bytes(format, n);
    if (tensor_format_is_integer(format)) {
        packed_activation(to, x, n, first, count);
        return;
    }
    float *rounded = (float *)(void *)to;
    const bool rounds = format == TENSOR_BF16 || format == TENSOR_FP8;
    for (int32_t i = first; i < first + count; i++) rounded[i] = rounds ? f32_from_bf16(bf16_from_f32(x[i])) : x[i];
}

void ref_matmul(const struct matmul *m) {
    if (tensor_format_is_quantised(m->weight->format)) {
        ref_matmul_packed(m);
        return;
    }
    int32_t n_in = m->weight->n_cols;
    for (int32_t r = 0; r < m->n_rows; r++) {
        const float *x = (const float *)((const char *)m->activations + (size_t)r * m->activation_stride);
        for (int32_t i = m->out_first; i < m->out_first + m->out_count; i++) {
            size_t row = (size_t)i * (size_t)n_in;
            float sum = 0;
            for (int32_t k = 0; k < n_in; k++) sum += ref_weight(m->weight, row + (size_t)k) * x[k];
            m->out[(size_t)r * m->out_stride + (size_t)i] = m->bias ? sum + m->bias[i] : sum;
        }
    }
}

void ref_norm_rms(float *out, const float *x, const float *weight, float eps, int32_t n) {
    float sum = 0;
    for (int32_t i = 0; i < n; i++) sum += x[i] * x[i];
    float factor = 1 / sqrtf(sum / (float)n + eps);
    for (int32_t i = 0; i < n; i++) out[i] = x[i] * factor * weight[i];
}
