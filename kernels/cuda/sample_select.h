// Which tokens of a row stay in the draw, without a sort: the block finds, by the digits of the logits' ordered bits,
// the logit behind which everything falls away. All functions are called by all threads of a block of
// SAMPLE_ROW_THREADS.
#pragma once

#include "kernels/cuda/sample_device.h"

enum { SELECT_BINS = 256, SELECT_DIGIT_BITS = 8, SELECT_MASS_BITS = 44 };

struct select_scratch {
    struct sample_best best[32], top[TOP_LOGPROBS_MAX];
    int32_t ints[32];
    int32_t equal[SAMPLE_ROW_THREADS];
    int32_t counts[SELECT_BINS];
    unsigned long long masses[SELECT_BINS]; // fixed-point sums: their order does not matter
    uint32_t key;
    int32_t left, last_token, n_top;
    unsigned long long mass;
};

// Logits enter filters and draws as (logit - largest) / temperature.
struct select_scale {
    float largest, temperature;
};
static __device__ __forceinline__ float select_scaled(struct select_scale scale, float logit) {
    return (logit - scale.largest) / scale.temperature;
}

// What stays: ordered bits above `key`, and those equal to it up to last_token.
struct select_cut {
    uint32_t key;
    int32_t last_token;
};
static __device__ __forceinline__ bool select_keeps(struct select_cut cut, float logit, int32_t token) {
    const uint32_t bits = ordered_bits(logit);
    return bits > cut.key || (bits == cut.key && token <= cut.last_token);
}

// ---------------------------------------------------------------------------------------------------------- by count

// The n-th largest logit's bits; *n_equal: how many equal to it are among the n.
static __device__ uint32_t select_nth(const float *logits, int32_t vocab, int32_t n, int32_t *n_equal,
                                      struct select_scratch *s) {
    uint32_t key = 0, mask = 0;
    int32_t left = n;
    for (int shift = 32 - SELECT_DIGIT_BITS; shift >= 0; shift -= SELECT_DIGIT_BITS) {
        for (int32_t i = threadIdx.x; i < SELECT_BINS; i += SAMPLE_ROW_THREADS) s->counts[i] = 0;
        __syncthreads();
        for (int32_t i = threadIdx.x; i < vocab; i += SAMPLE_ROW_THREADS) {
            const uint32_t bits = ordered_bits(logits[i]);
            if ((bits & mask) == key) atomicAdd(&s->counts[bits >> shift & (SELECT_BINS - 1)], 1);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int32_t bin = SELECT_BINS - 1;
            while (bin > 0 && s->counts[bin] < left) left -= s->counts[bin--];
            s->key = key | (uint32_t)bin << shift;
            s->left = left;
        }
        __syncthreads();
        key = s->key;
        left = s->left;
        mask |= (uint32_t)(SELECT_BINS - 1) << shift;
    }
    *n_equal = left;
    return key;
}

// The token of the n-th logit with these bits, from the lowest token on.
static __device__ int32_t select_nth_equal(const float *logits, int32_t vocab, uint32_t key, int32_t n,
                                           struct select_scratch *s) {
    const int32_t length = (vocab + SAMPLE_ROW_THREADS - 1) / SAMPLE_ROW_THREADS;
    const int32_t first = threadIdx.x * length, end = min(first + length, vocab);
    int32_t count = 0;
    for (int32_t i = first; i < end; i++) count += ordered_bits(logits[i]) == key;
    s->equal[threadIdx.x] = count;
    if (threadIdx.x == 0) s->last_token = vocab;
    __syncthreads();
    int32_t before = 0;
    for (int32_t i = 0; i < (int32_t)threadIdx.x; i++) before += s->equal[i];
    if (before < n && before + count >= n)
        for (int32_t i = first; i < end; i++)
            if (ordered_bits(logits[i]) == key && ++before == n) s->last_token = i;
    __syncthreads();
    return s->last_token;
}

// ----------------------------------------------------------------------------------------------------------- by mass

static __device__ __forceinline__ unsigned long long select_mass(struct select_scale scale, float logit) {
    return (unsigned long long)((double)expf(select_scaled(scale, logit)) * (double)(1ull << SELECT_MASS_BITS));
}

static __device__ __forceinline__ float float_of_ordered(uint32_t bits) {
    return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

// Adds up the masses of the bins of one digit. Logits above `floor_key` count, and n_floor of those equal to it.
static __device__ void select_add_masses(const float *logits, int32_t vocab, struct select_scale scale,
                                         uint32_t floor_key, int32_t n_floor, uint32_t key, uint32_t mask, int shift,
                                         struct select_scratch *s) {
    for (int32_t i = threadIdx.x; i < SELECT_BINS; i += SAMPLE_ROW_THREADS) s->masses[i] = 0;
    __syncthreads();
    for (int32_t i = threadIdx.x; i < vocab; i += SAMPLE_ROW_THREADS) {
        const uint32_t bits = ordered_bits(logits[i]);
        if (bits > floor_key && (bits & mask) == key)
            atomicAdd(&s->masses[bits >> shift & (SELECT_BINS - 1)], select_mass(scale, logits[i]));
    }
    if (threadIdx.x == 0 && n_floor > 0 && (floor_key & mask) == key)
        atomicAdd(&s->masses[floor_key >> shift & (SELECT_BINS - 1)],
                  (unsigned long long)n_floor * select_mass(scale, float_of_ordered(floor_key)));
    __syncthreads();
}

// Among logits above floor_key and n_floor of those equal to it: the smallest number of the largest whose mass reaches
// top_p of all. Returns the last one's bits; *n_equal: how many equal to it belong to them.
static __device__ uint32_t select_top_p(const float *logits, int32_t vocab, struct select_scale scale, float top_p,
                                        uint32_t floor_key, int32_t n_floor, int32_t *n_equal,
                                        struct select_scratch *s) {
    uint32_t key = 0, mask = 0;
    unsigned long long target = 0, before = 0; // mass wanted; mass of the bins above
    for (int shift = 32 - SELECT_DIGIT_BITS; shift >= 0; shift -= SELECT_DIGIT_BITS) {
        select_add_masses(logits, vocab, scale, floor_key, n_floor, key, mask, shift, s);
        if (threadIdx.x == 0) {
            if (mask == 0) {
                unsigned long long total = 0;
                for (int i = 0; i < SELECT_BINS; i++) total += s->masses[i];
                target = (unsigned long long)ceil((double)top_p * (double)total);
                if (target == 0) target = 1;
            }
            int32_t bin = SELECT_BINS - 1, last = bin;
            for (; bin >= 0 && before + s->masses[bin] < target; bin--)
                if (s->masses[bin] > 0) last = bin, before += s->masses[bin];
            if (bin < 0) bin = last, before -= s->masses[last]; // rounding: everything is wanted
            s->key = key | (uint32_t)bin << shift;
        }
        __syncthreads();
        key = s->key;
        mask |= (uint32_t)(SELECT_BINS - 1) << shift;
    }
    if (threadIdx.x == 0) {
        const unsigned long long one = select_mass(scale, float_of_ordered(key));
        const unsigned long long n = one > 0 ? (target - before + one - 1) / one : 1;
        s->left = n < 1 ? 1 : n > (unsigned long long)vocab ? vocab : (int32_t)n;
    }
    __syncthreads();
    *n_equal = key == floor_key ? min(s->left, n_floor) : s->left;
    return key;
}

// ------------------------------------------------------------------------------------------------------------- users

static __device__ int32_t select_count_min_p(const float *logits, int32_t vocab, struct select_scale scale, float min_p,
                                             struct select_scratch *s) {
    const float least = logf(min_p);
    int32_t n = 0;
    for (int32_t i = threadIdx.x; i < vocab; i += SAMPLE_ROW_THREADS) n += select_scaled(scale, logits[i]) >= least;
    return max(block_sum(n, s->ints), 1);
}

// min_p, top_k, top_p, each on what the one before left.
static __device__ struct select_cut select_kept(const float *logits, int32_t vocab, struct select_scale scale,
                                                const struct sample_params *p, struct select_scratch *s) {
    int32_t n = vocab;
    if (p->min_p > 0) n = select_count_min_p(logits, vocab, scale, p->min_p, s);
    if (p->top_k > 0) n = min(n, p->top_k);
    uint32_t key = 0;
    int32_t n_equal = 0;
    if (n < vocab) key = select_nth(logits, vocab, n, &n_equal, s);
    if (p->top_p < 1) key = select_top_p(logits, vocab, scale, p->top_p, key, n_equal, &n_equal, s);
    struct select_cut cut = {key, vocab};
    if (key > 0) cut.last_token = select_nth_equal(logits, vocab, key, n_equal, s);
    return cut;
}

// scratch->top[n] = the n largest logits, sorted, for thread 0; n is at most TOP_LOGPROBS_MAX.
static __device__ void select_top(const float *logits, int32_t vocab, int32_t n, struct select_scratch *s) {
    if (n == 0) return;
    int32_t n_equal;
    struct select_cut cut;
    cut.key = select_nth(logits, vocab, n, &n_equal, s);
    cut.last_token = select_nth_equal(logits, vocab, cut.key, n_equal, s);
    if (threadIdx.x == 0) s->n_top = 0;
    __syncthreads();
    for (int32_t i = threadIdx.x; i < vocab; i += SAMPLE_ROW_THREADS)
        if (select_keeps(cut, logits[i], i)) s->top[atomicAdd(&s->n_top, 1)] = {logits[i], i};
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int32_t i = 1; i < n; i++)
        for (int32_t j = i; j > 0 && better(s->top[j - 1], s->top[j]).token == s->top[j].token; j--) {
            const struct sample_best swap = s->top[j];
            s->top[j] = s->top[j - 1];
            s->top[j - 1] = swap;
        }
}
