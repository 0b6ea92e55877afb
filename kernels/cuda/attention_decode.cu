// Attention of few queries over many positions: decode, verification of drafts, and everything under deterministic.
//
// A thread block takes the queries of one item, padded to the 16 rows of an mma, and reads its positions of K and V
// once for all of them. Its four warps work apart: warp w takes the blocks of the cache with number w modulo 4, from a
// ring of its own in shared memory that asynchronous copies fill, and keeps maximum, sum and values of its positions;
// at the end of a split the four are joined in order. Bytes in flight on a multiprocessor: 3 thread blocks x 4 warps x
// up to 16 KiB.
#include "kernels/cuda/attention_device.h"

enum { WARPS = 4, THREADS = WARPS * WARP_LANES, QUERIES = ATTENTION_SLOT_QUERIES, RING_BYTES = 16 << 10, RING_MAX = 8 };

// Sizes of a head width and format. A ring holds halves (K or V) of blocks in turn.
template <int D, bool FP8> struct shape {
    static constexpr int ELEMENT_BYTES = FP8 ? 1 : 2;
    static constexpr int ROW_BYTES = D * ELEMENT_BYTES;
    static constexpr int DATA_BYTES = ATTENTION_BLOCK * ROW_BYTES;
    static constexpr int HALF_BYTES = DATA_BYTES + (FP8 ? ATTENTION_BLOCK * 4 : 0);
    static constexpr int HALVES = RING_BYTES / DATA_BYTES < RING_MAX ? RING_BYTES / DATA_BYTES : RING_MAX;
    static constexpr int QUERY_BYTES = QUERIES * D * 2;
    static constexpr int RINGS_BYTES = WARPS * HALVES * HALF_BYTES;
    // Behind queries and rings: maximum and sum of every query of every warp, and, where splits are fixed, what is
    // joined so far.
    static constexpr int SHARED_BYTES = QUERY_BYTES + RINGS_BYTES + 2 * WARPS * QUERIES * 4;
    static constexpr int TOTAL_BYTES = QUERIES * (D + 4) * 4;
    // Fragments of queries stay in registers unless the values of a wide head need them.
    static constexpr bool KEEPS_QUERIES = D <= 128;
    static constexpr int STEPS = D / 16;
    static_assert(RINGS_BYTES >= WARPS * QUERIES * D * 4, "the values of all warps take the place of the rings");
};

// What a thread block works on.
struct unit {
    struct attention_item item;
    const int32_t *blocks;
    int32_t kv_head, n_queries;
};

// What a warp has seen of its split: rows g = lane / 4 and g + 8 of the queries, columns as an mma leaves them.
template <int D> struct warp_state {
    float max[2], sum[2], values[D / 8][4];
    int32_t begin[2], end[2]; // positions that the two queries see
};

// ------------------------------------------------------------------------------------------------------- the ring

// Where a warp reads: its blocks first, first + 4, ... below end.
template <int D, bool FP8> struct reader {
    const unsigned char *kv; // of the key/value head
    int64_t block_bytes;
    const int32_t *blocks;
    int32_t first, n_blocks; // of this warp
    int32_t kv_end;
    int32_t next_block, next_slot; // what to copy next
    int32_t ids;                   // block numbers of the next 32 blocks, one a lane
    unsigned char *ring;
};

// Begins to copy the next half. Positions at and beyond kv_end become zero.
template <int D, bool FP8, int HALF> static __device__ __forceinline__ void copy_half(struct reader<D, FP8> *r) {
    using S = shape<D, FP8>;
    int lane = (int)(threadIdx.x % WARP_LANES);
    if (r->next_block < r->n_blocks) {
        int32_t block = r->first + r->next_block * WARPS;
        if (HALF == 0 && r->next_block % WARP_LANES == 0) {
            int32_t mine = r->next_block + lane;
            r->ids = mine < r->n_blocks ? r->blocks[r->first + mine * WARPS] : 0;
        }
        int32_t id = __shfl_sync(FULL_MASK, r->ids, r->next_block % WARP_LANES);
        const unsigned char *from = r->kv + id * r->block_bytes + HALF * S::HALF_BYTES;
        unsigned char *to = r->ring + r->next_slot * S::HALF_BYTES;
        int n_valid = r->kv_end - block * ATTENTION_BLOCK;
#pragma unroll
        for (int i = 0; i < S::DATA_BYTES / 16 / WARP_LANES; i++) {
            int at = lane + i * WARP_LANES, row = at / (S::ROW_BYTES / 16), part = at % (S::ROW_BYTES / 16);
            copy_async_16(to + swizzled<S::ROW_BYTES>(row, part), from + at * 16, row < n_valid);
        }
        if (FP8 && lane < 4) copy_async_16(to + S::DATA_BYTES + lane * 16, from + S::DATA_BYTES + lane * 16, true);
        if (HALF == 1) r->next_block++;
        r->next_slot = r->next_slot + 1 == S::HALVES ? 0 : r->next_slot + 1;
    }
    copy_async_commit();
}

// The scale of a position of FP8; what was never written may hold anything.
static __device__ __forceinline__ float scale_of(const unsigned char *scales, int32_t slot, int32_t n_valid) {
    return slot < n_valid ? reinterpret_cast<const float *>(scales)[slot] : 0.0f;
}

// ------------------------------------------------------------------------------------------------- one block of K, V

// Queries 0 .. 15 at 16 elements of the head: an A fragment. FP8 keys come four neighbours to a lane, so the columns of
// the step change places: 2t, 2t+1, 2t+8, 2t+9 are the elements 4t .. 4t+3, the same for queries and keys.
template <int D, bool FP8>
static __device__ __forceinline__ void load_queries(uint32_t a[4], const unsigned char *queries, int step) {
    int lane = (int)(threadIdx.x % WARP_LANES);
    if constexpr (!FP8) {
        ldmatrix_x4(a, queries + swizzled<D * 2>(lane % 16, 2 * step + lane / 16));
    } else {
        int g = lane / 4, t = lane % 4;
        uint2 low = *reinterpret_cast<const uint2 *>(queries + swizzled<D * 2>(g, 2 * step + t / 2) + t % 2 * 8);
        uint2 high = *reinterpret_cast<const uint2 *>(queries + swizzled<D * 2>(g + 8, 2 * step + t / 2) + t % 2 * 8);
        a[0] = low.x;
        a[1] = high.x;
        a[2] = low.y;
        a[3] = high.y;
    }
}

// Two steps of 16 elements, positions 0 .. 7 (b[.][0]) and 8 .. 15 (b[.][1]) of a block of K.
template <int D, bool FP8>
static __device__ __forceinline__ void load_keys(uint32_t b[2][2][2], const unsigned char *keys, int step) {
    using S = shape<D, FP8>;
    int lane = (int)(threadIdx.x % WARP_LANES), matrix = lane / 8, r = lane % 8;
    uint32_t x[4];
    if constexpr (FP8) {
        ldmatrix_x4(x, keys + swizzled<S::ROW_BYTES>(matrix % 2 * 8 + r, step + matrix / 2));
        e4m3x4_to_bf16(x[0], b[0][0]);
        e4m3x4_to_bf16(x[1], b[0][1]);
        e4m3x4_to_bf16(x[2], b[1][0]);
        e4m3x4_to_bf16(x[3], b[1][1]);
    } else {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            ldmatrix_x4(x, keys + swizzled<S::ROW_BYTES>(matrix / 2 * 8 + r, 2 * (step + i) + matrix % 2));
            b[i][0][0] = x[0];
            b[i][0][1] = x[1];
            b[i][1][0] = x[2];
            b[i][1][1] = x[3];
        }
    }
}

// The 16 positions of a block of V for four fragments of 8 elements, from element 32 * step. FP8: a register holds two
// positions of two neighbouring elements; the even elements make one fragment and the odd ones the next.
template <int D, bool FP8>
static __device__ __forceinline__ void load_values(uint32_t b[4][2], const unsigned char *values, int step) {
    using S = shape<D, FP8>;
    int lane = (int)(threadIdx.x % WARP_LANES), matrix = lane / 8, r = lane % 8;
    uint32_t x[4], even_odd[2];
    if constexpr (FP8) {
        ldmatrix_x4_trans(x, values + swizzled<S::ROW_BYTES>(matrix % 2 * 8 + r, 2 * step + matrix / 2));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            e4m3x4_to_bf16(__byte_perm(x[i], 0, 0x3120), even_odd);
            b[i / 2 * 2][i % 2] = even_odd[0];
            b[i / 2 * 2 + 1][i % 2] = even_odd[1];
        }
    } else {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            ldmatrix_x4_trans(x, values + swizzled<S::ROW_BYTES>(matrix % 2 * 8 + r, 4 * step + 2 * i + matrix / 2));
            b[2 * i][0] = x[0];
            b[2 * i][1] = x[1];
            b[2 * i + 1][0] = x[2];
            b[2 * i + 1][1] = x[3];
        }
    }
}

template <int D, bool FP8>
static __device__ __forceinline__ void scores_of(float s[2][4], const uint32_t (*kept)[4], const unsigned char *queries,
                                                 const unsigned char *keys) {
    using S = shape<D, FP8>;
#pragma unroll
    for (int step = 0; step < S::STEPS; step += 2) {
        uint32_t b[2][2][2];
        load_keys<D, FP8>(b, keys, step);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t a[4];
            if constexpr (S::KEEPS_QUERIES)
                for (int j = 0; j < 4; j++) a[j] = kept[step + i][j];
            else
                load_queries<D, FP8>(a, queries, step + i);
            mma_bf16(s[0], a, b[i][0]);
            mma_bf16(s[1], a, b[i][1]);
        }
    }
}

// From scores of 16 positions from `first` on to weights, in s; maximum, sum and values follow.
template <int D>
static __device__ __forceinline__ void soften(const struct attention_task *task, struct warp_state<D> *state,
                                              float s[2][4], int32_t first) {
    int t = (int)(threadIdx.x % 4);
    if (task->has_cap)
#pragma unroll
        for (int i = 0; i < 8; i++) s[i / 4][i % 4] = capped(task, s[i / 4][i % 4]);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int32_t position = first + i / 4 * 8 + 2 * t + i % 2, row = i % 4 / 2;
        if (position < state->begin[row] || position >= state->end[row]) s[i / 4][i % 4] = -INFINITY;
    }
    float factor[2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float max = fmaxf(fmaxf(s[0][2 * row], s[0][2 * row + 1]), fmaxf(s[1][2 * row], s[1][2 * row + 1]));
        max = fmaxf(state->max[row], warp_max<4>(max));
        float base = finite_or_zero(max) * task->score_scale;
        factor[row] = exp2_fast(__fmaf_rn(state->max[row], task->score_scale, -base));
        state->max[row] = max;
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float *weight = &s[i / 2][2 * row + i % 2];
            *weight = exp2_fast(__fmaf_rn(*weight, task->score_scale, -base));
            sum += *weight;
        }
        state->sum[row] = __fmaf_rn(state->sum[row], factor[row], sum);
    }
    if (!__any_sync(FULL_MASK, factor[0] != 1.0f || factor[1] != 1.0f)) return;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) state->values[n][i] *= factor[i / 2];
}

template <int D, bool FP8>
static __device__ __forceinline__ void add_values(struct warp_state<D> *state, const float s[2][4],
                                                  const unsigned char *values) {
    uint32_t a[4] = {pack_bf16(s[0][0], s[0][1]), pack_bf16(s[0][2], s[0][3]), pack_bf16(s[1][0], s[1][1]),
                     pack_bf16(s[1][2], s[1][3])};
#pragma unroll
    for (int step = 0; step < D / 32; step++) {
        uint32_t b[4][2];
        load_values<D, FP8>(b, values, step);
#pragma unroll
        for (int i = 0; i < 4; i++) mma_bf16(state->values[4 * step + i], a, b[i]);
    }
}

static __device__ __forceinline__ void scale_scores(float s[2][4], const unsigned char *scales, int32_t n_valid) {
    int t = (int)(threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float scale = scale_of(scales, i / 2 * 8 + 2 * t + i % 2, n_valid);
        s[i / 2][i % 2] *= scale;
        s[i / 2][2 + i % 2] *= scale;
    }
}

// All positions of [begin, end) that fall to this warp.
template <int D, bool FP8>
static __device__ __forceinline__ void attend_split(const struct attention_task *task, const struct unit *u,
                                                    const unsigned char *queries, unsigned char *rings,
                                                    struct warp_state<D> *state, int32_t begin, int32_t end) {
    using S = shape<D, FP8>;
    int warp = (int)(threadIdx.x / WARP_LANES);
    int32_t first = begin / ATTENTION_BLOCK;
    first += (warp - first) & (WARPS - 1);
    int32_t end_block = (end + ATTENTION_BLOCK - 1) / ATTENTION_BLOCK;
    struct reader<D, FP8> r = {
        .kv = task->kv + (int64_t)u->kv_head * 2 * S::HALF_BYTES,
        .block_bytes = (int64_t)task->n_kv_heads * 2 * S::HALF_BYTES, .blocks = u->blocks, .first = first,
        .n_blocks = first < end_block ? (end_block - first + WARPS - 1) / WARPS : 0, .kv_end = end, .next_block = 0,
        .next_slot = 0, .ids = 0, .ring = rings + warp * S::HALVES * S::HALF_BYTES,
    };
#pragma unroll
    for (int h = 0; h < S::HALVES; h++) {
        if (h % 2 == 0)
            copy_half<D, FP8, 0>(&r);
        else
            copy_half<D, FP8, 1>(&r);
    }
    copy_async_wait<S::HALVES>(); // the queries, which were copied before
    __syncthreads();
    uint32_t kept[S::KEEPS_QUERIES ? S::STEPS : 1][4];
    if constexpr (S::KEEPS_QUERIES)
#pragma unroll
        for (int step = 0; step < S::STEPS; step++) load_queries<D, FP8>(kept[step], queries, step);

    int32_t slot = 0;
    for (int32_t i = 0; i < r.n_blocks; i++) {
        int32_t position = (first + i * WARPS) * ATTENTION_BLOCK, n_valid = end - position;
        const unsigned char *half = r.ring + slot * S::HALF_BYTES;
        slot = slot + 1 == S::HALVES ? 0 : slot + 1;
        copy_async_wait<S::HALVES - 1>();
        __syncwarp();
        float s[2][4] = {};
        scores_of<D, FP8>(s, kept, queries, half);
        if (FP8) scale_scores(s, half + S::DATA_BYTES, n_valid);
        __syncwarp();
        // An odd ring's slot holds K and V in turn: what comes next into it is of the other kind.
        if constexpr (S::HALVES % 2 == 0)
            copy_half<D, FP8, 0>(&r);
        else
            copy_half<D, FP8, 1>(&r);
        soften<D>(task, state, s, position);

        half = r.ring + slot * S::HALF_BYTES;
        slot = slot + 1 == S::HALVES ? 0 : slot + 1;
        copy_async_wait<S::HALVES - 1>();
        __syncwarp();
        if (FP8) scale_scores(s, half + S::DATA_BYTES, n_valid);
        add_values<D, FP8>(state, s, half);
        __syncwarp();
        if constexpr (S::HALVES % 2 == 0)
            copy_half<D, FP8, 1>(&r);
        else
            copy_half<D, FP8, 0>(&r);
    }
    copy_async_wait<0>();
}

// --------------------------------------------------------------------------------------------------------- results

// Shared memory of a thread block.
struct places {
    unsigned char *queries, *rings;
    float *values;      // [WARPS][QUERIES][D], where the rings were
    float *max, *sum;   // [WARPS][QUERIES]; maxima as powers of two
    float *total;       // [QUERIES][D] of fixed splits so far
    float *total_stats; // [2][2][QUERIES]: before and after a split, maxima and sums
};

// Lanes write eight rows at once: their columns change places so that the rows lie in different banks.
static __device__ __forceinline__ int value_column(int q, int d) {
    return d ^ (q & 3) << 3;
}

// Puts what this warp has into shared memory.
template <int D, bool FP8>
static __device__ __forceinline__ void put_state(const struct places *p, struct warp_state<D> *state, float scale) {
    int lane = (int)(threadIdx.x % WARP_LANES), warp = (int)(threadIdx.x / WARP_LANES), g = lane / 4, t = lane % 4;
#pragma unroll
    for (int row = 0; row < 2; row++) {
        int q = g + 8 * row;
        float sum = warp_sum<4>(state->sum[row]);
        if (t == 0) {
            p->max[warp * QUERIES + q] = state->max[row] * scale;
            p->sum[warp * QUERIES + q] = sum;
        }
        float *to = p->values + (warp * QUERIES + q) * D;
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            const float *even = &state->values[n][2 * row], *odd = &state->values[n + 1][2 * row];
            if constexpr (FP8) {
                *reinterpret_cast<float4 *>(to + value_column(q, 8 * n + 4 * t)) = {even[0], odd[0], even[1], odd[1]};
            } else {
                *reinterpret_cast<float2 *>(to + value_column(q, 8 * n + 2 * t)) = {even[0], even[1]};
                *reinterpret_cast<float2 *>(to + value_column(q, 8 * n + 8 + 2 * t)) = {odd[0], odd[1]};
            }
        }
    }
}

struct joined {
    float max, sum;
    float4 values;
};

// The four warps' results for four elements of one query.
template <int D> static __device__ __forceinline__ struct joined join_warps(const struct places *p, int q, int d) {
    struct joined j = {-INFINITY, 0, {0, 0, 0, 0}};
#pragma unroll
    for (int w = 0; w < WARPS; w++) j.max = fmaxf(j.max, p->max[w * QUERIES + q]);
    float base = finite_or_zero(j.max);
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
        struct join_factors f = {0, 1.0f, exp2_fast(p->max[w * QUERIES + q] - base)};
        j.sum = join(f, j.sum, p->sum[w * QUERIES + q]);
        j.values = join(f, j.values,
                        *reinterpret_cast<const float4 *>(p->values + (w * QUERIES + q) * D + value_column(q, d)));
    }
    return j;
}

// What becomes of the results of a split: a partial result in `slot`, or part of the total, or, where it is the last
// one and there is no slot, the output. `i_split` counts the splits of this item.
template <int D>
static __device__ __forceinline__ void finish_split(const struct attention_task *task, const struct unit *u,
                                                    const struct places *p, int32_t slot, int i_split, bool is_last) {
    // Threads that share a query read the old ones while others write the new ones.
    const float *old_stats = p->total_stats + (i_split & 1) * 2 * QUERIES;
    float *new_stats = p->total_stats + (~i_split & 1) * 2 * QUERIES;
    for (int i = (int)threadIdx.x; i < u->n_queries * (D / 4); i += THREADS) {
        int q = i / (D / 4), d = i % (D / 4) * 4;
        struct joined j = join_warps<D>(p, q, d);
        if (slot >= 0) {
            float *to = slot_of(task, slot, u->kv_head);
            *reinterpret_cast<float4 *>(to + q * D + d) = j.values;
            if (d == 0) {
                to[QUERIES * D + q] = j.max;
                to[QUERIES * D + QUERIES + q] = j.sum;
            }
            continue;
        }
        float4 *total = reinterpret_cast<float4 *>(p->total + q * D + d);
        if (i_split > 0) {
            struct join_factors f = join_factors_make(old_stats[q], j.max);
            j = {f.max, join(f, old_stats[QUERIES + q], j.sum), join(f, *total, j.values)};
        }
        if (is_last) {
            store_out_4(task, out_index(task, u->item.row_first, u->kv_head, q) + d,
                        scaled(j.values, reciprocal_or_zero(j.sum)));
            continue;
        }
        *total = j.values;
        new_stats[q] = j.max;
        new_stats[QUERIES + q] = j.sum;
    }
}

template <int D, bool FP8>
static __device__ __forceinline__ void attend_item(const struct attention_task *task, const struct unit *u,
                                                   const struct places *p) {
    const struct attention_item *item = &u->item;
    int g = (int)(threadIdx.x % WARP_LANES) / 4;
    copy_queries<D>(task, item, u->kv_head, u->n_queries, QUERIES, p->queries);
    copy_async_commit();
    int32_t seen_from = max(0, item->position - task->window + 1);
    int32_t slot = item->partial;
    for (int32_t begin = item->kv_begin, end, i_split = 0; begin < item->kv_end; begin = end) {
        end = task->has_fixed_splits ? min(attention_split_end(begin), item->kv_end) : item->kv_end;
        if (end <= seen_from && slot < 0) continue; // to join nothing changes nothing
        struct warp_state<D> state = {
            {-INFINITY, -INFINITY}, {0, 0}, {}, {0, 0}, { 0, 0 }
        };
#pragma unroll
        for (int row = 0; row < 2; row++) {
            int32_t position = item->position + min(g + 8 * row, u->n_queries - 1) / task->group;
            state.begin[row] = max(0, position - task->window + 1);
            state.end[row] = position + 1;
        }
        attend_split<D, FP8>(task, u, p->queries, p->rings, &state, max(begin, seen_from), end);
        __syncthreads();
        put_state<D, FP8>(p, &state, task->score_scale);
        __syncthreads();
        finish_split<D>(task, u, p, slot, i_split, end == item->kv_end);
        __syncthreads();
        if (slot >= 0) slot++;
        i_split++;
    }
}

template <int D, bool FP8>
static __global__ void __launch_bounds__(THREADS, D > 128 ? 2 : ATTENTION_DECODE_RESIDENT)
    decode_kernel(struct attention_task task) {
    using S = shape<D, FP8>;
    DYNAMIC_SHARED(unsigned char, shared);
    dependency_launch();
    dependency_wait();
    float *stats = reinterpret_cast<float *>(shared + S::QUERY_BYTES + S::RINGS_BYTES);
    float *total = stats + 2 * WARPS * QUERIES;
    struct places p = {.queries = shared,
                       .rings = shared + S::QUERY_BYTES,
                       .values = reinterpret_cast<float *>(shared + S::QUERY_BYTES),
                       .max = stats,
                       .sum = stats + WARPS * QUERIES,
                       .total = total,
                       .total_stats = total + QUERIES * D};
    const struct attention_item *items = STEP_ARRAY(task.step, struct attention_item, decode_items);
    int32_t n_units = task.step->n_decode_items * task.n_kv_heads;
    for (int32_t i = (int32_t)blockIdx.x; i < n_units; i += (int32_t)gridDim.x) {
        struct unit u = {
            .item = items[i / task.n_kv_heads], .blocks = nullptr, .kv_head = i % task.n_kv_heads, .n_queries = 0};
        u.blocks = STEP_ARRAY(task.step, int32_t, block_table) + u.item.block_first;
        u.n_queries = u.item.n_rows * task.group;
        attend_item<D, FP8>(&task, &u, &p);
    }
}

template <int D, bool FP8>
static cudaError_t launch_shape(const struct attention_run *op, const struct attention_task *task, cudaStream_t s) {
    using S = shape<D, FP8>;
    // Enough thread blocks for a piece of every row, not many more than the device holds at once: the rest takes turns.
    int32_t resident = op->n_processors * ATTENTION_DECODE_RESIDENT, most = op->n_processors * 16;
    int32_t n = op->n_rows * task->n_kv_heads;
    if (n < resident) n = resident;
    if (n > most) n = most;
    size_t shared_bytes = S::SHARED_BYTES + (task->has_fixed_splits ? S::TOTAL_BYTES : 0);
    return launch(decode_kernel<D, FP8>, dim3((unsigned)n), dim3(THREADS), shared_bytes, s, true, *task);
}

cudaError_t attention_decode_launch(const struct attention_run *op, const struct attention_task *task, cudaStream_t s) {
    bool is_fp8 = op->kv.shape.format == KV_FP8;
    switch (op->kv.shape.head_dim) {
    case 64:
        return is_fp8 ? launch_shape<64, true>(op, task, s) : launch_shape<64, false>(op, task, s);
    case 96:
        return is_fp8 ? launch_shape<96, true>(op, task, s) : launch_shape<96, false>(op, task, s);
    case 128:
        return is_fp8 ? launch_shape<128, true>(op, task, s) : launch_shape<128, false>(op, task, s);
    case 256:
        return is_fp8 ? launch_shape<256, true>(op, task, s) : launch_shape<256, false>(op, task, s);
    }
    return cudaErrorInvalidValue;
}
