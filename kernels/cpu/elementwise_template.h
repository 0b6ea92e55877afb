// Norms, embedding, residual addition, gated activations, logit caps and rotary embedding. Included once for each
// instruction set, after its vectors.
#include "kernels/cpu/vec_math.h"
#include "kernels/packed_read.h"

#include <math.h>

enum { NORM_CHAINS = 4 };

void KERNEL(norm_rms)(float *out, const float *x, const float *weight, float eps, int32_t n) {
    vec sums[NORM_CHAINS] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};
    for (int32_t i = 0, chain = 0; i < n; i += VEC_N, chain = (chain + 1) % NORM_CHAINS) {
        vec v = vec_load_part(x + i, n - i);
        sums[chain] = vec_fma(v, v, sums[chain]);
    }
    float sum = vec_sum(vec_add(vec_add(sums[0], sums[1]), vec_add(sums[2], sums[3])));
    vec factor = vec_all(1 / sqrtf(sum / (float)n + eps));
    for (int32_t i = 0; i < n; i += VEC_N) {
        vec v = vec_mul(vec_mul(vec_load_part(x + i, n - i), factor), vec_load_part(weight + i, n - i));
        vec_store_part(out + i, v, n - i);
    }
}

VEC_INLINE vec load_weights(const struct tensor *table, size_t at, int32_t left) {
    const char *p = (const char *)table->data + at * tensor_format_bytes(table->format);
    const uint16_t *half = (const uint16_t *)(const void *)p;
    switch (table->format) {
    case TENSOR_F16:
        return left >= VEC_N ? vec_load_f16(half) : vec_load_f16_n(half, left);
    case TENSOR_BF16:
        return left >= VEC_N ? vec_load_bf16(half) : vec_load_bf16_n(half, left);
    default:
        break;
    }
    return vec_load_part((const float *)(const void *)p, left);
}

void KERNEL(embed_row)(float *out, const struct tensor *table, int32_t token, float scale) {
    if (tensor_format_is_quantised(table->format)) {
        packed_row(out, table, token, scale);
        return;
    }
    size_t row = (size_t)token * (size_t)table->n_cols;
    for (int32_t i = 0; i < table->n_cols; i += VEC_N) {
        vec v = load_weights(table, row + (size_t)i, table->n_cols - i);
        vec_store_part(out + i, vec_mul(v, vec_all(scale)), table->n_cols - i);
    }
}

void KERNEL(add_scaled)(float *x, const float *y, float scale, int32_t n) {
    for (int32_t i = 0; i < n; i += VEC_N) {
        vec v = vec_fma(vec_load_part(y + i, n - i), vec_all(scale), vec_load_part(x + i, n - i));
        vec_store_part(x + i, v, n - i);
    }
}

static void silu_mul(float *gate, const float *up, int32_t n) {
    for (int32_t i = 0; i < n; i += VEC_N) {
        vec g = vec_load_part(gate + i, n - i);
        vec_store_part(gate + i, vec_mul(vec_gated(g, g), vec_load_part(up + i, n - i)), n - i);
    }
}

// (1 + tanh(y)) / 2 is 1 / (1 + e^-2y).
static void gelu_tanh_mul(float *gate, const float *up, int32_t n) {
    const vec two_sqrt_2_over_pi = vec_all(1.59576912f), cubic = vec_all(0.044715f);
    for (int32_t i = 0; i < n; i += VEC_N) {
        vec g = vec_load_part(gate + i, n - i);
        vec y = vec_mul(two_sqrt_2_over_pi, vec_fma(vec_mul(vec_mul(g, g), g), cubic, g));
        vec_store_part(gate + i, vec_mul(vec_gated(g, y), vec_load_part(up + i, n - i)), n - i);
    }
}

static void swiglu_clamped(float *gate, const float *up, int32_t n) {
    const vec limit = vec_all(7), slope = vec_all(1.702f);
    for (int32_t i = 0; i < n; i += VEC_N) {
        vec g = vec_min(vec_load_part(gate + i, n - i), limit);
        vec u = vec_max(vec_min(vec_load_part(up + i, n - i), limit), vec_sub(vec_zero(), limit));
        vec_store_part(gate + i, vec_mul(vec_gated(g, vec_mul(slope, g)), vec_add(u, vec_all(1))), n - i);
    }
}

void KERNEL(gate_mul)(float *gate, const float *up, enum activation activation, int32_t n) {
    if (activation == ACTIVATION_SILU)
        silu_mul(gate, up, n);
    else if (activation == ACTIVATION_GELU_TANH)
        gelu_tanh_mul(gate, up, n);
    else
        swiglu_clamped(gate, up, n);
}

void KERNEL(scale_cap)(float *x, float scale, float cap, int32_t n) {
    const vec factor = vec_all(cap > 0 ? scale / cap : scale);
    for (int32_t i = 0; i < n; i += VEC_N) {
        vec v = vec_mul(vec_load_part(x + i, n - i), factor);
        vec_store_part(x + i, cap > 0 ? vec_mul(vec_all(cap), vec_tanh(v)) : v, n - i);
    }
}

static void rope_pairs(float *x, const float *cosine, const float *sine, int32_t half) {
    for (int32_t i = 0; i < half; i++) {
        float first = x[2 * i], second = x[2 * i + 1];
        x[2 * i] = first * cosine[i] - second * sine[i];
        x[2 * i + 1] = second * cosine[i] + first * sine[i];
    }
}

void KERNEL(rope_head)(float *x, const float *cosine, const float *sine, int32_t n_dims, bool interleaved) {
    int32_t half = n_dims / 2;
    if (interleaved) {
        rope_pairs(x, cosine, sine, half);
        return;
    }
    for (int32_t i = 0; i < half; i += VEC_N) {
        vec c = vec_load_part(cosine + i, half - i), s = vec_load_part(sine + i, half - i);
        vec first = vec_load_part(x + i, half - i), second = vec_load_part(x + half + i, half - i);
        vec_store_part(x + i, vec_sub(vec_mul(first, c), vec_mul(second, s)), half - i);
        vec_store_part(x + half + i, vec_add(vec_mul(second, c), vec_mul(first, s)), half - i);
    }
}
