#include "kernels/random_weights.h"

#include "base/number.h"

void random_quantiles_make(struct random_quantiles *out) {
    for (int i = 0; i < RNG_QUANTILES; i++) {
        out->f32[i] = (float)(RANDOM_WEIGHTS_DEVIATION * rng_normal_quantile((i + 0.5) / RNG_QUANTILES));
        out->bits16[0][i] = f16_from_f32(out->f32[i]);
        out->bits16[1][i] = bf16_from_f32(out->f32[i]);
    }
}

// One draw gives two quantiles, as rng_quantile says.
void random_weights_draw(const struct random_quantiles *quantiles, uint64_t key, enum tensor_format format,
                         size_t first, size_t n, void *out) {
    const uint16_t *table16 = quantiles->bits16[format == TENSOR_BF16];
    for (size_t i = 0; i < n; i += 2) {
        uint32_t bits = rng_u32(key, (first + i) / 2);
        uint32_t a = bits & (RNG_QUANTILES - 1), b = bits >> 16 & (RNG_QUANTILES - 1);
        bool pair = i + 1 < n;
        if (format == TENSOR_F32) {
            float *to = (float *)out + i;
            to[0] = quantiles->f32[a];
            if (pair) to[1] = quantiles->f32[b];
        } else {
            uint16_t *to = (uint16_t *)out + i;
            to[0] = table16[a];
            if (pair) to[1] = table16[b];
        }
    }
}
