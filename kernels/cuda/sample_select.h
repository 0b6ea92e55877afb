// Which tokens of a row stay in the draw, without a sort. Blocks of chunks put the row into bins by the distance from
// its largest logit, with the number of tokens in each bin and their probability mass; the block of the row finds the
// bin in which a filter ends, lists the tokens down to there, and finds the last token that stays by bisection. Masses
// are integers, so that the order in which they are added does not matter.
//
// Functions that take a select_scratch are called by all threads of a block of SAMPLE_ROW_THREADS, which all have the
// result.
#pragma once

#include "kernels/cuda/sample_device.h"

enum { SELECT_BINS = 2048, SELECT_BINS_A_LOGIT = 64, SELECT_MASS_BITS = 40, SELECT_LIST_MAX = 4096 };

typedef unsigned long long select_sum_t; // of tokens or of masses

struct select_scratch {
    struct sample_best best[32];
    int32_t ints[32];
    float floats[32];
    select_sum_t sums[32], above;
    int32_t bin, n_list;
    float values[SELECT_LIST_MAX];
    int32_t tokens[SELECT_LIST_MAX];
};

struct select_row {
    const float *logits;
    int32_t vocab;
    float largest, temperature;
    const select_sum_t *counts, *masses; // [SELECT_BINS]
};

// Logits enter filters and draws as (logit - largest) / temperature.
static __device__ __forceinline__ float select_scaled(const struct select_row *row, float logit) {
    return (logit - row->largest) / row->temperature;
}

// Below 2^SELECT_MASS_BITS, so that a chunk's sums of either half fit into 32 bits.
static __device__ __forceinline__ select_sum_t select_mass(const struct select_row *row, float logit) {
    const select_sum_t one = 1ull << SELECT_MASS_BITS;
    const float scaled = select_scaled(row, logit);
    if (scaled < -28) return 0; // less than one
    const select_sum_t mass = (select_sum_t)(expf(scaled) * (float)one);
    return mass < one ? mass : one - 1;
}

// Ascends as logits descend; the last bin has all that lie far away.
static __device__ __forceinline__ int32_t select_bin(const struct select_row *row, float logit) {
    const float distance = (row->largest - logit) * SELECT_BINS_A_LOGIT;
    return distance < SELECT_BINS - 1 ? (int32_t)distance : SELECT_BINS - 1;
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
static __device__ __forceinline__ struct select_cut tighter(struct select_cut a, struct select_cut b) {
    return a.key > b.key || (a.key == b.key && a.last_token < b.last_token) ? a : b;
}

// The lowest ordered bits of logits in bins up to `bin`; with a negative bin: of those whose scaled value is `least`
// or more. Rounding is monotone, so that both are an interval that ends at the largest logit.
static __device__ uint32_t select_lowest(const struct select_row *row, int32_t bin, float least) {
    uint32_t low = ordered_bits(-INFINITY), high = ordered_bits(row->largest);
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const float logit = float_of_ordered(middle);
        if (bin >= 0 ? select_bin(row, logit) <= bin : select_scaled(row, logit) >= least)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

// --------------------------------------------------------------------------------------------------------------- bins

// The sum of the bins before `end`.
static __device__ select_sum_t select_before(const select_sum_t *bins, int32_t end, struct select_scratch *s) {
    select_sum_t sum = 0;
    for (int32_t i = threadIdx.x; i < end; i += SAMPLE_ROW_THREADS) sum += bins[i];
    return block_sum(sum, s->sums);
}

// The first bin at which the sum of the bins reaches `wanted`; *before: the sum of those before it.
static __device__ int32_t select_place(const select_sum_t *bins, select_sum_t wanted, select_sum_t *before,
                                       struct select_scratch *s) {
    enum { OWN = SELECT_BINS / SAMPLE_ROW_THREADS };
    const int lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    select_sum_t own[OWN], sum = 0;
#pragma unroll
    for (int i = 0; i < OWN; i++) sum += own[i] = bins[threadIdx.x * OWN + i];
#pragma unroll
    for (int distance = 1; distance < WARP_LANES; distance *= 2) {
        const select_sum_t left = __shfl_up_sync(FULL_MASK, sum, distance);
        if (lane >= distance) sum += left;
    }
    if (lane == WARP_LANES - 1) s->sums[warp] = sum;
    if (threadIdx.x == 0) s->bin = SELECT_BINS - 1, s->above = 0;
    __syncthreads();
    for (int i = 0; i < warp; i++) sum += s->sums[i];
#pragma unroll
    for (int i = OWN - 1; i >= 0; i--) {
        if (sum >= wanted && sum - own[i] < wanted) s->bin = threadIdx.x * OWN + i, s->above = sum - own[i];
        sum -= own[i];
    }
    __syncthreads();
    const int32_t bin = s->bin;
    *before = s->above;
    __syncthreads();
    return bin;
}

// --------------------------------------------------------------------------------------------------------------- list

// Tokens in bins from first_bin to last_bin: all of them, perhaps with others. tokens NULL: token i at i.
struct select_list {
    const float *values;
    const int32_t *tokens;
    int32_t n, first_bin, last_bin;
};

static __device__ __forceinline__ int32_t select_token(const struct select_list *list, int32_t i) {
    return list->tokens ? list->tokens[i] : i;
}

// Makes `list` have the bins from `needed` (0 or `bin`) to `bin`: where all up to `bin` fit it has them, else `bin`
// alone, and where what is needed does not fit the list is the row itself.
static __device__ void select_list_bins(const struct select_row *row, int32_t needed, int32_t bin,
                                        struct select_list *list, struct select_scratch *s) {
    if (list->tokens && list->first_bin <= needed && bin <= list->last_bin) return;
    const select_sum_t own = row->counts[bin], all = own + select_before(row->counts, bin, s);
    if ((needed < bin ? all : own) > SELECT_LIST_MAX) {
        *list = {row->logits, nullptr, row->vocab, 0, SELECT_BINS - 1};
        return;
    }
    const int32_t first_bin = all <= SELECT_LIST_MAX ? 0 : bin;
    const float least = float_of_ordered(select_lowest(row, bin, 0));
    if (threadIdx.x == 0) s->n_list = 0;
    __syncthreads();
    for (int32_t first = 0; first < row->vocab; first += SAMPLE_ROW_CHUNK) {
        float x[SAMPLE_HELD];
        read_quads<SAMPLE_ROW_THREADS>(x, row->logits, first, row->vocab, -INFINITY);
#pragma unroll
        for (int i = 0; i < SAMPLE_HELD; i++) {
            const int32_t token = first + quad_offset<SAMPLE_ROW_THREADS>(i);
            // Written so that NaN, which is in no bin up to `bin` but the last, is left out: the list has no room for
            // it.
            if (!(x[i] >= least) || token >= row->vocab || select_bin(row, x[i]) < first_bin) continue;
            const int32_t at = atomicAdd(&s->n_list, 1);
            s->values[at] = x[i];
            s->tokens[at] = token;
        }
    }
    __syncthreads();
    *list = {s->values, s->tokens, s->n_list, first_bin, bin};
}

// How many tokens of one bin of the list a cut keeps, or their mass.
static __device__ select_sum_t select_sum(const struct select_row *row, const struct select_list *list, int32_t bin,
                                          struct select_cut cut, bool by_mass, struct select_scratch *s) {
    select_sum_t sum = 0;
    for (int32_t i = threadIdx.x; i < list->n; i += SAMPLE_ROW_THREADS) {
        const float x = list->values[i];
        if (!select_keeps(cut, x, select_token(list, i)) || select_bin(row, x) != bin) continue;
        sum += by_mass ? select_mass(row, x) : 1;
    }
    return block_sum(sum, s->sums);
}

// The tightest cut, at least as tight as `cut`, that keeps `wanted` tokens of the bin, or mass.
static __device__ struct select_cut select_reach(const struct select_row *row, const struct select_list *list,
                                                 int32_t bin, struct select_cut cut, bool by_mass, select_sum_t wanted,
                                                 struct select_scratch *s) {
    uint32_t low = select_lowest(row, bin, 0);
    uint32_t high = bin > 0 ? select_lowest(row, bin - 1, 0) - 1 : ordered_bits(row->largest);
    while (low < high) {
        const uint32_t middle = high - (high - low) / 2;
        if (select_sum(row, list, bin, tighter(cut, {middle, row->vocab}), by_mass, s) >= wanted)
            low = middle;
        else
            high = middle - 1;
    }
    const select_sum_t all = select_sum(row, list, bin, tighter(cut, {low, row->vocab}), by_mass, s);
    int32_t first = 0, last = row->vocab;
    if (all < wanted + (by_mass ? select_mass(row, float_of_ordered(low)) : 1)) first = last; // no token is too many
    while (first < last) {
        const int32_t middle = (first + last) / 2;
        if (select_sum(row, list, bin, tighter(cut, {low, middle}), by_mass, s) >= wanted)
            last = middle;
        else
            first = middle + 1;
    }
    return tighter(cut, {low, last});
}

// ------------------------------------------------------------------------------------------------------------ filters

static __device__ struct select_cut select_top_k(const struct select_row *row, int32_t top_k, struct select_cut cut,
                                                 struct select_list *list, struct select_scratch *s) {
    const struct select_cut nothing_cut = {0, row->vocab};
    select_sum_t before;
    const int32_t bin = select_place(row->counts, (select_sum_t)top_k, &before, s);
    select_list_bins(row, bin, bin, list, s);
    return tighter(cut, select_reach(row, list, bin, nothing_cut, false, (select_sum_t)top_k - before, s));
}

static __device__ struct select_cut select_top_p(const struct select_row *row, float top_p, struct select_cut cut,
                                                 struct select_list *list, struct select_scratch *s) {
    int32_t bin = SELECT_BINS;
    select_sum_t total, before;
    if (cut.key > 0) bin = select_bin(row, float_of_ordered(cut.key));
    total = select_before(row->masses, bin, s);
    if (cut.key > 0) {
        select_list_bins(row, bin, bin, list, s);
        total += select_sum(row, list, bin, cut, true, s);
    }
    select_sum_t wanted = (select_sum_t)ceil((double)top_p * (double)total);
    if (wanted == 0) wanted = 1;
    bin = select_place(row->masses, wanted, &before, s);
    select_list_bins(row, bin, bin, list, s);
    return select_reach(row, list, bin, cut, true, wanted - before, s);
}

// min_p, top_k, top_p, each on what the one before left; `list` then has all tokens that stay.
static __device__ struct select_cut select_kept(const struct select_row *row, const struct sample_params *p,
                                                struct select_list *list, struct select_scratch *s) {
    struct select_cut cut = {0, row->vocab};
    *list = {};
    if (p->min_p > 0) cut.key = select_lowest(row, -1, logf(p->min_p));
    if (p->top_k > 0 && p->top_k < row->vocab) cut = select_top_k(row, p->top_k, cut, list, s);
    if (p->top_p < 1) cut = select_top_p(row, p->top_p, cut, list, s);
    select_list_bins(row, 0, select_bin(row, float_of_ordered(cut.key)), list, s);
    return cut;
}
