// Weights made of random numbers, on any device: normal with deviation RANDOM_WEIGHTS_DEVIATION, as quantiles in a
// table. Value i of a tensor with a random_key is f32[rng_quantile(random_key, i)], rounded to the format in which it
// is loaded; formats below BF16 quantise what the BF16 weight would be.
#pragma once

#include "base/rng.h"
#include "kernels/tensor.h"

#define RANDOM_WEIGHTS_DEVIATION 0.02

struct random_quantiles {
    float f32[RNG_QUANTILES];
    uint16_t bits16[2][RNG_QUANTILES]; // F16, BF16
};
void random_quantiles_make(struct random_quantiles *out);

// Values first .. first+n-1 of a tensor, in `format`. `first` is even.
void random_weights_draw(const struct random_quantiles *quantiles, uint64_t key, enum tensor_format format,
                         size_t first, size_t n, void *out);
