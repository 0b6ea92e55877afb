// Random numbers without state: a number is a function of a key and a counter, so that any draw can be
// repeated in any order, on any thread.
//
// The generator is "squares" (Widynski, arXiv 2004.06278, 4 rounds): 32 bits from a 64-bit counter and a 64-bit
// key. Keys pass rng_key first, which spreads any seed over irregular bits.
#pragma once

#include <math.h>
#include <stdint.h>

// SplitMix64's finaliser: a bijection that mixes all bits.
static inline uint64_t rng_mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

// The key of one draw: which seed, which of the request's choices, which position of the sequence.
static inline uint64_t rng_key(uint64_t seed, uint64_t choice_index, uint64_t position) {
    uint64_t key = rng_mix64(seed);
    key = rng_mix64(key ^ choice_index);
    key = rng_mix64(key ^ position);
    return key | 1;
}

static inline uint32_t rng_u32(uint64_t key, uint64_t counter) {
    uint64_t x = counter * key, y = x, z = y + key;
    x = x * x + y, x = x >> 32 | x << 32;
    x = x * x + z, x = x >> 32 | x << 32;
    x = x * x + y, x = x >> 32 | x << 32;
    return (uint32_t)((x * x + z) >> 32);
}

// Uniform in (0, 1], fine near 0.
static inline float rng_uniform(uint64_t key, uint64_t counter) {
    return ((float)rng_u32(key, counter) + 0.5f) * 0x1p-32f;
}

// Exponential with mean 1, fine near 0, where the smallest of many decides a draw; -logf of it is Gumbel noise.
static inline float rng_exponential(uint64_t key, uint64_t counter) {
    return -log1pf(-rng_uniform(key, counter));
}
