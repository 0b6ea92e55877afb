// Embedding, residual addition, gated activations, logit caps and rotary embedding: the plain definitions.
#include "kernels/kernel_table.h"
#include "kernels/packed_read.h"
#include "kernels/ref/ref_load.h"

#include <math.h>

void ref_embed_row(float *out, const struct tensor *table, int32_t token, float scale) {
    if (tensor_format_is_quantised(table->format)) {
        packed_row(out, table, token, scale);
        return;
    }
    size_t row = (size_t)token * (size_t)table->n_cols;
    for (int32_t i = 0; i < table->n_cols; i++) out[i] = ref_weight(table, row + (size_t)i) * scale;
}

void ref_add_scaled(float *x, const float *y, float scale, int32_t n) {
    for (int32_t i = 0; i < n; i++) x[i] += y[i] * scale;
}

static float silu(float x) {
    return x / (1 + expf(-x));
}

static float gelu_tanh(float x) {
    const float sqrt_2_over_pi = 0.79788456f;
    return 0.5f * x * (1 + tanhf(sqrt_2_over_pi * (x + 0.044715f * x * x * x)));
}

static float swiglu_clamped(float gate, float up) {
    const float limit = 7, g = fminf(gate, limit);
    return g / (1 + expf(-1.702f * g)) * (fminf(fmaxf(up, -limit), limit) + 1);
}

void ref_gate_mul(float *gate, const float *up, enum activation activation, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        gate[i] = activation == ACTIVATION_SILU        ? silu(gate[i]) * up[i]
                  : activation == ACTIVATION_GELU_TANH ? gelu_tanh(gate[i]) * up[i]
                                                       : swiglu_clamped(gate[i], up[i]);
}

void ref_scale_cap(float *x, float scale, float cap, int32_t n) {
    for (int32_t i = 0; i < n; i++) x[i] = cap > 0 ? cap * tanhf(x[i] * scale / cap) : x[i] * scale;
}

void ref_rope_head(float *x, const float *cosine, const float *sine, int32_t n_dims, bool interleaved) {
    int32_t half = n_dims / 2;
    for (int32_t i = 0; i < half; i++) {
        float *a = interleaved ? &x[2 * i] : &x[i];
        float *b = interleaved ? &x[2 * i + 1] : &x[i + half];
        float first = *a, second = *b;
        *a = first * cosine[i] - second * sine[i];
        *b = second * cosine[i] + first * sine[i];
    }
}
