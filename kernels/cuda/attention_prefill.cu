// Attention of prompts: a thread block takes a tile of rows of one sequence with all query heads of a group, so that K
// and V are read once for the group, and goes over the positions that the tile sees in tiles of 64.
//
// Four warps of 32 queries (16 for heads of 256): scores, weights and values stay in registers, queries and one tile
// each of K and V in shared memory. While scores are computed V is on its way, and while values are added the next K
// is; the second thread block of the multiprocessor fills what is left.
//
// Per tile at a width of 128, for both thread blocks of a multiprocessor of Hopper: products of fragments 3,300 cycles
// (2,048 of 16x8x16 at the 620 TFLOP/s of mma.sync), ldmatrix 2,560 (128 bytes a cycle; 16 queries a warp would double
// it), other instructions about 1,000 on each scheduler. 350 to 400 TFLOP/s are expected.
#include "kernels/cuda/attention_device.h"

enum { WARPS = 4, THREADS = WARPS * WARP_LANES, TILE = ATTENTION_TILE };

template <int D, bool FP8> struct shape {
    static constexpr int QUERIES = D > 128 ? 64 : 128;
    static constexpr int PARTS = QUERIES / WARPS / 16; // of a warp, 16 queries each
    static constexpr int STEPS = D / 16;
    static constexpr int ROW_BYTES = D * 2; // of queries, K and V as the tensor cores read them
    static constexpr int TILE_BYTES = TILE * ROW_BYTES;
    static constexpr int QUERY_BYTES = QUERIES * ROW_BYTES;
    // BF16: K and V. FP8: one tile for both, codes of K and of V, and scales of K and V for two tiles in turn.
    static constexpr int CODE_BYTES = TILE * D, SCALES = 2 * TILE;
    static constexpr int SHARED_BYTES =
        QUERY_BYTES + (FP8 ? TILE_BYTES + 2 * CODE_BYTES + 2 * SCALES * 4 : 2 * TILE_BYTES);
};

// What a thread block works on: in shared memory, because registers are full.
struct unit {
    struct attention_item item;
    const int32_t *blocks;
    const unsigned char *kv; // of the key/value head
    int32_t kv_head, n_queries;
    int32_t begin, end;      // positions that some query sees
    int32_t warp_end[WARPS]; // the same of a warp's queries; 0: it has none
};

template <int PARTS, int D> struct warp_state { float max[PARTS][2], sum[PARTS][2], values[PARTS][D / 8][4]; };

// ------------------------------------------------------------------------------------------------------ K and V

// Begins to copy positions first .. first + 63 of K (half 0) or V (half 1) as they lie in the cache: rows of BF16, or
// codes of FP8. Positions at and beyond the end become zero.
template <int D, bool FP8>
static __device__ __forceinline__ void copy_tile(const struct attention_task *task, const struct unit *u, int half,
                                                 int32_t first, unsigned char *to) {
    constexpr int ROW_BYTES = FP8 ? D : D * 2, UNITS = ROW_BYTES / 16;
    constexpr int HALF_BYTES = ATTENTION_BLOCK * ROW_BYTES + (FP8 ? ATTENTION_BLOCK * 4 : 0);
    int64_t block_bytes = (int64_t)task->n_kv_heads * 2 * HALF_BYTES;
    const unsigned char *from = u->kv + half * HALF_BYTES;
    int thread = opaque((int)threadIdx.x);
#pragma unroll 4
    for (int i = 0; i < TILE * UNITS / THREADS; i++) {
        int at = thread + i * THREADS, row = at / UNITS, part = at % UNITS;
        int32_t position = first + row;
        bool is_valid = position < u->end;
        int64_t block = u->blocks[(is_valid ? position : u->end - 1) / ATTENTION_BLOCK];
        copy_async_16(to + (FP8 ? at * 16 : swizzled<ROW_BYTES>(row, part)),
                      from + block * block_bytes + (row % ATTENTION_BLOCK * UNITS + part) * 16, is_valid);
    }
}

// Begins to copy the scales of K and V, [2][TILE]. Scales of positions at and beyond the end, which nobody wrote,
// become zero when the copies are there: clear_scales, by the same threads, a call of its own because registers are
// full.
enum { SCALE_THREADS = 2 * TILE / 4 };

template <int D>
static __device__ __forceinline__ void copy_scales(const struct attention_task *task, const struct unit *u,
                                                   int32_t first, float *to) {
    constexpr int HALF_BYTES = ATTENTION_BLOCK * (D + 4);
    int at = opaque((int)threadIdx.x) * 4, row = at % TILE;
    if (at >= 2 * TILE) return;
    bool is_valid = first + row < u->end;
    int64_t block = u->blocks[(is_valid ? first + row : u->end - 1) / ATTENTION_BLOCK];
    const unsigned char *half = u->kv + (block * task->n_kv_heads * 2 + at / TILE) * HALF_BYTES;
    copy_async_16(to + at, half + ATTENTION_BLOCK * D + row % ATTENTION_BLOCK * 4, is_valid);
}

static __device__ __forceinline__ void clear_scales(int32_t n_valid, float *scales) {
    int at = (int)threadIdx.x * 4;
    for (int i = at; i < at + 4; i++)
        if (i % TILE >= n_valid) scales[i] = 0;
}

// Codes of FP8 become BF16.
template <int D> static __device__ __forceinline__ void expand_tile(const unsigned char *codes, unsigned char *to) {
    constexpr int UNITS = D / 16;
    int thread = opaque((int)threadIdx.x);
#pragma unroll 2
    for (int i = 0; i < TILE * UNITS / THREADS; i++) {
        int at = thread + i * THREADS, row = at / UNITS, part = at % UNITS;
        uint4 x = load_16(codes + at * 16);
        uint32_t a[4], b[4];
        e4m3x4_to_bf16(x.x, a);
        e4m3x4_to_bf16(x.y, a + 2);
        e4m3x4_to_bf16(x.z, b);
        e4m3x4_to_bf16(x.w, b + 2);
        store_16(to + swizzled<D * 2>(row, 2 * part), {a[0], a[1], a[2], a[3]});
        store_16(to + swizzled<D * 2>(row, 2 * part + 1), {b[0], b[1], b[2], b[3]});
    }
}

// -------------------------------------------------------------------------------------------------------- one tile

template <int D, int PARTS>
static __device__ __forceinline__ void scores_of(float s[PARTS][TILE / 8][4], const unsigned char *queries,
                                                 const unsigned char *keys) {
    int warp = (int)(threadIdx.x / WARP_LANES);
    int query = opaque(rows_first<D * 2>(warp * PARTS * 16)), key = opaque(units_first<D * 2>(0));
#pragma unroll
    for (int p = 0; p < PARTS; p++)
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[p][n][i] = 0;
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        uint32_t a[PARTS][4];
#pragma unroll
        for (int p = 0; p < PARTS; p++) ldmatrix_x4(a[p], queries + swizzled_step<D * 2>(query, step) + p * 16 * D * 2);
#pragma unroll
        for (int n = 0; n < TILE / 8; n += 2) {
            uint32_t b[4];
            ldmatrix_x4(b, keys + swizzled_step<D * 2>(key, step) + n * 8 * D * 2);
#pragma unroll
            for (int p = 0; p < PARTS; p++) {
                mma_bf16(s[p][n], a[p], b);
                mma_bf16(s[p][n + 1], a[p], b + 2);
            }
        }
    }
}

// The query of a part and half of an mma's rows.
template <int PARTS> static __device__ __forceinline__ int query_of(int part, int half) {
    int lane = (int)(threadIdx.x % WARP_LANES), warp = (int)(threadIdx.x / WARP_LANES);
    return (warp * PARTS + part) * 16 + half * 8 + lane / 4;
}

// Hides the positions that a query does not see.
template <int PARTS>
static __device__ __forceinline__ void mask(const struct attention_task *task, const struct unit *u,
                                            float s[PARTS][TILE / 8][4], int32_t first) {
    int t = (int)(threadIdx.x % 4);
#pragma unroll
    for (int p = 0; p < PARTS; p++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int32_t last = u->item.position + query_of<PARTS>(p, half) / task->group - first - 2 * t;
            int32_t begin = last - task->window; // this one is not seen either
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (8 * n + i > last || 8 * n + i <= begin) s[p][n][2 * half + i] = -INFINITY;
        }
}

template <int PARTS>
static __device__ __forceinline__ void scale_positions(float s[PARTS][TILE / 8][4], const float *scales) {
    int t = opaque((int)threadIdx.x) % 4;
#pragma unroll
    for (int n = 0; n < TILE / 8; n++) {
        float2 scale = *reinterpret_cast<const float2 *>(scales + 8 * n + 2 * t);
#pragma unroll
        for (int p = 0; p < PARTS; p++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[p][n][i] *= i % 2 ? scale.y : scale.x;
    }
}

// From scores to weights, in s.
template <int PARTS, int D>
static __device__ __forceinline__ void soften(const struct attention_task *task, struct warp_state<PARTS, D> *state,
                                              float s[PARTS][TILE / 8][4]) {
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = -INFINITY;
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
                largest = fmaxf(largest, fmaxf(s[p][n][2 * half], s[p][n][2 * half + 1]));
            largest = fmaxf(state->max[p][half], warp_max<4>(largest));
            float base = finite_or_zero(largest) * task->score_scale;
            factor[half] = exp2_fast(__fmaf_rn(state->max[p][half], task->score_scale, -base));
            state->max[p][half] = largest;
            float sum = 0;
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float weight = exp2_fast(__fmaf_rn(s[p][n][2 * half + i], task->score_scale, -base));
                    s[p][n][2 * half + i] = weight;
                    sum += weight;
                }
            state->sum[p][half] = __fmaf_rn(state->sum[p][half], factor[half], sum);
        }
        if (!__any_sync(FULL_MASK, factor[0] != 1.0f || factor[1] != 1.0f)) continue;
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) state->values[p][n][i] *= factor[i / 2];
    }
}

// Weights as A fragments: the fragments of scores are those already.
template <int PARTS>
static __device__ __forceinline__ void pack_weights(uint32_t a[PARTS][TILE / 16][4],
                                                    const float s[PARTS][TILE / 8][4]) {
#pragma unroll
    for (int p = 0; p < PARTS; p++)
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
            a[p][n / 2][n % 2 * 2] = pack_bf16(s[p][n][0], s[p][n][1]);
            a[p][n / 2][n % 2 * 2 + 1] = pack_bf16(s[p][n][2], s[p][n][3]);
        }
}

template <int PARTS, int D>
static __device__ __forceinline__ void add_values(struct warp_state<PARTS, D> *state,
                                                  const uint32_t weights[PARTS][TILE / 16][4],
                                                  const unsigned char *values) {
    int value = opaque(rows_first<D * 2>(0));
#pragma unroll
    for (int step = 0; step < TILE / 16; step++)
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, values + swizzled_step<D * 2>(value, n / 2) + step * 16 * D * 2);
#pragma unroll
            for (int p = 0; p < PARTS; p++) {
                mma_bf16(state->values[p][n], weights[p][step], b);
                mma_bf16(state->values[p][n + 1], weights[p][step], b + 2);
            }
        }
}

// Cap and mask of a tile's scores, then weights.
template <int PARTS, int D>
static __device__ __forceinline__ void weigh(const struct attention_task *task, const struct unit *u,
                                             struct warp_state<PARTS, D> *state, float s[PARTS][TILE / 8][4],
                                             int32_t first) {
    if (task->has_cap)
#pragma unroll
        for (int p = 0; p < PARTS; p++)
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) s[p][n][i] = capped(task, s[p][n][i]);
    int32_t last = u->item.position + u->item.n_rows - 1;
    if (first + TILE > u->item.position + 1 || first <= last - task->window) mask<PARTS>(task, u, s, first);
    soften<PARTS, D>(task, state, s);
}

// --------------------------------------------------------------------------------------------------------- an item

template <int D>
static __device__ __forceinline__ void attend_bf16(const struct attention_task *task, const struct unit *u,
                                                   struct warp_state<shape<D, false>::PARTS, D> *state,
                                                   unsigned char *shared) {
    using S = shape<D, false>;
    unsigned char *keys = shared + S::QUERY_BYTES, *values = keys + S::TILE_BYTES;
    copy_tile<D, false>(task, u, 0, u->begin, keys);
    copy_async_commit();
    for (int32_t first = u->begin; first < u->end; first += TILE) {
        copy_async_wait<0>();
        __syncthreads(); // K is there, and nobody reads the V before
        copy_tile<D, false>(task, u, 1, first, values);
        copy_async_commit();
        bool is_seen = first < u->warp_end[threadIdx.x / WARP_LANES];
        uint32_t weights[S::PARTS][TILE / 16][4];
        if (is_seen) {
            float s[S::PARTS][TILE / 8][4];
            scores_of<D, S::PARTS>(s, shared, keys);
            weigh<S::PARTS, D>(task, u, state, s, first);
            pack_weights<S::PARTS>(weights, s);
        }
        copy_async_wait<0>();
        __syncthreads(); // V is there, and nobody reads K
        if (first + TILE < u->end) copy_tile<D, false>(task, u, 0, first + TILE, keys);
        copy_async_commit();
        if (is_seen) add_values<S::PARTS, D>(state, weights, values);
    }
}

template <int D>
static __device__ __forceinline__ void attend_fp8(const struct attention_task *task, const struct unit *u,
                                                  struct warp_state<shape<D, true>::PARTS, D> *state,
                                                  unsigned char *shared) {
    using S = shape<D, true>;
    unsigned char *tile = shared + S::QUERY_BYTES, *keys = tile + S::TILE_BYTES, *values = keys + S::CODE_BYTES;
    float *all_scales = reinterpret_cast<float *>(values + S::CODE_BYTES);
    copy_tile<D, true>(task, u, 0, u->begin, keys);
    copy_scales<D>(task, u, u->begin, all_scales + u->begin / TILE % 2 * S::SCALES);
    copy_async_commit();
    copy_tile<D, true>(task, u, 1, u->begin, values);
    copy_async_commit();
    for (int32_t first = u->begin; first < u->end; first += TILE) {
        float *scales = all_scales + first / TILE % 2 * S::SCALES;
        copy_async_wait<1>();
        if (first + TILE > u->end && threadIdx.x < SCALE_THREADS) clear_scales(u->end - first, scales);
        __syncthreads(); // codes of K are there, and nobody reads the tile of V before
        expand_tile<D>(keys, tile);
        __syncthreads();
        if (first + TILE < u->end) {
            copy_tile<D, true>(task, u, 0, first + TILE, keys);
            copy_scales<D>(task, u, first + TILE, all_scales + (first / TILE + 1) % 2 * S::SCALES);
        }
        copy_async_commit();
        bool is_seen = first < u->warp_end[threadIdx.x / WARP_LANES];
        uint32_t weights[S::PARTS][TILE / 16][4];
        if (is_seen) {
            float s[S::PARTS][TILE / 8][4];
            scores_of<D, S::PARTS>(s, shared, tile);
            scale_positions<S::PARTS>(s, scales);
            weigh<S::PARTS, D>(task, u, state, s, first);
            scale_positions<S::PARTS>(s, scales + TILE);
            pack_weights<S::PARTS>(weights, s);
        }
        copy_async_wait<1>();
        __syncthreads(); // codes of V are there, and nobody reads the tile of K
        expand_tile<D>(values, tile);
        __syncthreads();
        if (first + TILE < u->end) copy_tile<D, true>(task, u, 1, first + TILE, values);
        copy_async_commit();
        if (is_seen) add_values<S::PARTS, D>(state, weights, tile);
    }
}

template <int PARTS, int D>
static __device__ __forceinline__ void store_state(const struct attention_task *task, const struct unit *u,
                                                   const struct warp_state<PARTS, D> *state) {
    int t = (int)(threadIdx.x % 4);
#pragma unroll
    for (int p = 0; p < PARTS; p++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int q = query_of<PARTS>(p, half), in_slot = q % ATTENTION_SLOT_QUERIES;
            float sum = warp_sum<4>(state->sum[p][half]);
            if (q >= u->n_queries) continue;
            if (u->item.partial < 0) {
                float inverse = reciprocal_or_zero(sum);
                int64_t out = out_index(task, u->item.row_first, u->kv_head, q) + 2 * t;
#pragma unroll
                for (int n = 0; n < D / 8; n++)
                    store_out_2(task, out + 8 * n, state->values[p][n][2 * half] * inverse,
                                state->values[p][n][2 * half + 1] * inverse);
                continue;
            }
            float *slot = slot_of(task, u->item.partial + q / ATTENTION_SLOT_QUERIES, u->kv_head);
            float *stats = slot + ATTENTION_SLOT_QUERIES * D + in_slot;
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                *reinterpret_cast<float2 *>(slot + in_slot * D + 8 * n + 2 * t) = {state->values[p][n][2 * half],
                                                                                   state->values[p][n][2 * half + 1]};
            if (t == 0) {
                stats[0] = state->max[p][half] * task->score_scale;
                stats[ATTENTION_SLOT_QUERIES] = sum;
            }
        }
}

template <int D, bool FP8>
static __device__ __forceinline__ void attend_item(const struct attention_task *task, const struct unit *u,
                                                   unsigned char *shared) {
    using S = shape<D, FP8>;
    struct warp_state<S::PARTS, D> state;
#pragma unroll
    for (int p = 0; p < S::PARTS; p++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            state.max[p][half] = -INFINITY;
            state.sum[p][half] = 0;
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) state.values[p][n][i] = 0;
    }
    if (u->begin < u->end) {
        copy_queries<D>(task, &u->item, u->kv_head, u->n_queries, S::QUERIES, shared);
        if constexpr (FP8)
            attend_fp8<D>(task, u, &state, shared);
        else
            attend_bf16<D>(task, u, &state, shared);
        copy_async_wait<0>();
        __syncthreads();
    }
    store_state<S::PARTS, D>(task, u, &state);
}

template <int D, bool FP8>
static __global__ void __launch_bounds__(THREADS, ATTENTION_PREFILL_RESIDENT)
    prefill_kernel(struct attention_task task) {
    constexpr int HALF_BYTES = ATTENTION_BLOCK * (FP8 ? D + 4 : D * 2), QUERIES = shape<D, FP8>::QUERIES;
    DYNAMIC_SHARED(unsigned char, shared);
    __shared__ struct unit u;
    dependency_launch();
    dependency_wait();
    const struct attention_item *items = STEP_ARRAY(task.step, struct attention_item, prefill_items);
    int32_t n_units = task.step->n_prefill_items * task.n_kv_heads;
    for (int32_t i = (int32_t)blockIdx.x; i < n_units; i += (int32_t)gridDim.x) {
        __syncthreads();
        if (threadIdx.x == 0) {
            u.item = items[i / task.n_kv_heads];
            u.kv_head = i % task.n_kv_heads;
            u.blocks = STEP_ARRAY(task.step, int32_t, block_table) + u.item.block_first;
            u.kv = task.kv + (int64_t)u.kv_head * 2 * HALF_BYTES;
            u.n_queries = u.item.n_rows * task.group;
            u.begin = max(u.item.kv_begin, max(0, u.item.position - task.window + 1) / TILE * TILE);
            u.end = u.item.kv_end;
            for (int w = 0; w < WARPS; w++) {
                int first = w * QUERIES / WARPS, last = min(first + QUERIES / WARPS, u.n_queries) - 1;
                u.warp_end[w] = first <= last ? u.item.position + last / task.group + 1 : 0;
            }
        }
        __syncthreads();
        attend_item<D, FP8>(&task, &u, shared);
    }
}

template <int D, bool FP8>
static cudaError_t launch_shape(const struct attention_run *op, const struct attention_task *task, cudaStream_t s) {
    // Tiles differ in length: several thread blocks for every place on the device, so that whoever is done takes the
    // next.
    int32_t n = op->n_processors * ATTENTION_PREFILL_RESIDENT * 4;
    return launch(prefill_kernel<D, FP8>, dim3((unsigned)n), dim3(THREADS), shape<D, FP8>::SHARED_BYTES, s, true,
                  *task);
}

cudaError_t attention_prefill_launch(const struct attention_run *op, const struct attention_task *task,
                                     cudaStream_t s) {
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
