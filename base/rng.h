// Random numbers without state: a number is a function of a key and a counter, so that any draw can be
// repeated in any order, on any thread.
//
// The generator is "squares" (Widynski, arXiv 2004.06278, 4 rounds): 32 bits from a 64-bit counter and a 64-bit
// key. Keys pass rng_key first, which spreads any seed over irregular bits.
#pragma once

#include <math.h>
#include <stdint.h>

// Kernels of a GPU draw the same numbers.
#ifdef __CUDACC__
#define RNG_FUNCTION static __host__ __device__ inline
#else
#define RNG_FUNCTION static inline
#endif

// SplitMix64's finaliser: a bijection that mixes all bits.
RNG_FUNCTION uint64_t rng_mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

// The key of one draw: which seed, which of the request's choices, which position of the sequence.
RNG_FUNCTION uint64_t rng_key(uint64_t seed, uint64_t choice_index, uint64_t position) {
    uint64_t key = rng_mix64(seed);
    key = rng_mix64(key ^ choice_index);
    key = rng_mix64(key ^ position);
    return key | 1;
}

RNG_FUNCTION uint32_t rng_u32(uint64_t key, uint64_t counter) {
    uint64_t x = counter * key, y = x, z = y + key;
    x = x * x + y, x = x >> 32 | x << 32;
    x = x * x + z, x = x >> 32 | x << 32;
    x = x * x + y, x = x >> 32 | x << 32;
    return (uint32_t)((x * x + z) >> 32);
}

// Uniform in (0, 1], fine near 0.
RNG_FUNCTION float rng_uniform(uint64_t key, uint64_t counter) {
    return ((float)rng_u32(key, counter) + 0.5f) * 0x1p-32f;
}

// Exponential with mean 1, fine near 0, where the smallest of many decides a draw; -logf of it is Gumbel noise.
RNG_FUNCTION float rng_exponential(uint64_t key, uint64_t counter) {
    return -log1pf(-rng_uniform(key, counter));
}

#ifdef __cplusplus
extern "C" {
#endif

// x such that a normal number (mean 0, deviation 1) is below it with probability p.
double rng_normal_quantile(double p);

#ifdef __cplusplus
}
#endif

// Normal numbers in bulk take one of this many equally probable quantiles, those of (i + 0.5) / RNG_QUANTILES.
enum { RNG_QUANTILES = 4096 };

// Which quantile number `index` of a sequence takes: two neighbours share one draw.
RNG_FUNCTION uint32_t rng_quantile(uint64_t key, uint64_t index) {
    return rng_u32(key, index >> 1) >> (index & 1) * 16 & (RNG_QUANTILES - 1);
}
