// What the kernels of sampling share.
#pragma once

#include "base/rng.h"
#include "kernels/cuda/quads.h"
#include "kernels/cuda/sample.h"

enum {
    SAMPLE_THREADS = 256, // of a block of the first passes
    SAMPLE_HELD = 16,     // logits that a thread keeps in registers
    SAMPLE_CHUNK = SAMPLE_THREADS * SAMPLE_HELD,
    SAMPLE_ROW_THREADS = 512, // of the block that finishes a row
    SAMPLE_ROW_CHUNK = SAMPLE_ROW_THREADS * SAMPLE_HELD,
};

// What one block found in its chunk.
struct sample_partial {
    float raw_max, raw_sum; // of the raw logits: the largest, and the sum of exp(logit - raw_max)
    float max;              // of the edited logits
    int32_t max_token;      // the lowest with it
    float score;            // the best of the draw
    int32_t score_token;
};

// A token with what it is chosen by; the lower token wins among equals.
struct sample_best {
    float value;
    int32_t token;
};

static __device__ __forceinline__ bool comes_before(struct sample_best a, struct sample_best b) {
    return a.value > b.value || (a.value == b.value && a.token < b.token);
}
static __device__ __forceinline__ struct sample_best better(struct sample_best a, struct sample_best b) {
    return comes_before(b, a) ? b : a;
}

// Over the block; every thread has the result. scratch: 32 values of shared memory.
static __device__ __forceinline__ struct sample_best block_best(struct sample_best best, struct sample_best *scratch) {
    const int lane = threadIdx.x % WARP_LANES, n_warps = blockDim.x / WARP_LANES;
#pragma unroll
    for (int distance = WARP_LANES / 2; distance > 0; distance /= 2) {
        struct sample_best other = {__shfl_xor_sync(FULL_MASK, best.value, distance),
                                    __shfl_xor_sync(FULL_MASK, best.token, distance)};
        best = better(best, other);
    }
    if (lane == 0) scratch[threadIdx.x / WARP_LANES] = best;
    __syncthreads();
    for (int i = 0; i < n_warps; i++) best = better(best, scratch[i]);
    __syncthreads();
    return best;
}

static __device__ __forceinline__ bool sample_is_edited(const struct sample_params *p) {
    return p->edit_count > 0 || p->seen_count > 0;
}
static __device__ __forceinline__ bool sample_is_drawn(const struct sample_params *p) {
    return p->forced_token < 0 && p->temperature >= SAMPLE_TEMPERATURE_MIN;
}
static __device__ __forceinline__ bool sample_is_filtered(const struct sample_params *p, int32_t vocab) {
    return p->min_p > 0 || (p->top_k > 0 && p->top_k < vocab) || p->top_p < 1;
}
static __device__ __forceinline__ bool sample_has_logprobs(const struct sample_params *p) {
    return p->n_top_logprobs >= 0 || p->forced_token >= 0;
}

static __device__ __forceinline__ uint64_t sample_key(const struct sample_params *p) {
    return rng_key(p->seed, (uint64_t)p->choice_index, (uint64_t)p->position);
}

// The score by which Gumbel-max chooses: `scaled` is (logit - largest) / temperature.
static __device__ __forceinline__ float sample_score(uint64_t key, int32_t token, float scaled) {
    return scaled - logf(rng_exponential(key, (uint64_t)token));
}

// The draw before any other token has been looked at. No token wins that scores less than the most probable one.
static __device__ __forceinline__ struct sample_best sample_first(uint64_t key, struct sample_best largest) {
    return {sample_score(key, largest.token, 0), largest.token};
}

// The better of `best` and a token. Most tokens are too improbable for the noise that their random number allows, which
// costs no logarithm to see: -log1p(-u) >= u >= 2^-(1 + leading zeros), and 0.694 is more than log(2).
static __device__ __forceinline__ struct sample_best sample_next(struct sample_best best, uint64_t key, int32_t token,
                                                                 float scaled) {
    const float most_zeros = 32;
    if (!(scaled + (most_zeros + 1) * 0.694f >= best.value)) return best;
    const int zeros = __clz((int)rng_u32(key, (uint64_t)token));
    if (scaled + (float)(zeros + 1) * 0.694f < best.value) return best;
    return better(best, {sample_score(key, token, scaled), token});
}

// Unsigned integers in the order of the floats, and back; both zeros are one.
static __device__ __forceinline__ uint32_t ordered_bits(float x) {
    uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
static __device__ __forceinline__ float float_of_ordered(uint32_t bits) {
    return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}
