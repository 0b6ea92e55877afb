// Attention on plain arithmetic in F32, for shapes and formats that the tensor-core kernels do not serve. A thread
// block takes one query; its warps take tiles of 32 positions in turn, a lane a position for scores, then lanes go over
// the head for the sum of values. Every query is summed in the one order that its own position gives.
#include "kernels/cuda/attention_device.h"

enum { WARPS = 4, TILE = WARP_LANES, LANE_ELEMENTS = HEAD_DIM_MAX / WARP_LANES };

// Four neighbouring elements.
template <enum kv_format FORMAT> static __device__ __forceinline__ float4 load_4(const unsigned char *half, int index) {
    if constexpr (FORMAT == KV_F32) return *reinterpret_cast<const float4 *>(half + (int64_t)index * 4);
    if constexpr (FORMAT == KV_BF16) {
        uint2 pairs = *reinterpret_cast<const uint2 *>(half + (int64_t)index * 2);
        return {bf16_low(pairs.x), bf16_high(pairs.x), bf16_low(pairs.y), bf16_high(pairs.y)};
    }
    uint32_t four = *reinterpret_cast<const uint32_t *>(half + index);
    return {e4m3_to_float((uint8_t)four), e4m3_to_float((uint8_t)(four >> 8)), e4m3_to_float((uint8_t)(four >> 16)),
            e4m3_to_float((uint8_t)(four >> 24))};
}

template <enum kv_format FORMAT> static __device__ __forceinline__ float load_1(const unsigned char *half, int index) {
    if constexpr (FORMAT == KV_F32) return reinterpret_cast<const float *>(half)[index];
    if constexpr (FORMAT == KV_BF16) return to_float(reinterpret_cast<const struct bf16 *>(half)[index]);
    return e4m3_to_float(half[index]);
}

// What FP8 keeps behind the half.
template <enum kv_format FORMAT>
static __device__ __forceinline__ float load_scale(const unsigned char *half, int slot, int head_dim) {
    if constexpr (FORMAT != KV_FP8) return 1.0f;
    return reinterpret_cast<const float *>(half + ATTENTION_BLOCK * head_dim)[slot];
}

struct warp_state {
    float max, sum, values[LANE_ELEMENTS];
};

struct any_query {
    const float *query; // [D], shared memory
    const int32_t *blocks;
    int32_t begin, end; // positions that it sees
    int32_t kv_head;
};

template <enum kv_format FORMAT>
static __device__ __forceinline__ float score_of(const struct attention_task *task, const struct any_query *q,
                                                 int32_t position) {
    size_t half_bytes = attention_half_bytes(FORMAT, task->head_dim);
    int32_t block = q->blocks[position / ATTENTION_BLOCK], slot = position % ATTENTION_BLOCK;
    const unsigned char *half = kv_half(task->kv, task->n_kv_heads, half_bytes, block, q->kv_head, 0);
    float sum = 0;
    for (int d = 0; d < task->head_dim; d += 4) {
        float4 key = load_4<FORMAT>(half, slot * task->head_dim + d);
        sum += q->query[d] * key.x + q->query[d + 1] * key.y + q->query[d + 2] * key.z + q->query[d + 3] * key.w;
    }
    sum *= load_scale<FORMAT>(half, slot, task->head_dim);
    if (task->has_cap) sum = task->cap * tanhf(sum * task->cap_scale);
    return sum * task->score_scale;
}

template <enum kv_format FORMAT>
static __device__ __forceinline__ void attend_tile(const struct attention_task *task, const struct any_query *q,
                                                   int32_t first, float *weights, struct warp_state *state) {
    int lane = (int)(threadIdx.x % WARP_LANES), position = first + lane;
    bool is_seen = position >= q->begin && position < q->end;
    float score = is_seen ? score_of<FORMAT>(task, q, position) : -INFINITY;
    float largest = fmaxf(state->max, warp_max(score));
    if (largest == -INFINITY) return;
    float factor = exp2_fast(state->max - largest), weight = exp2_fast(score - largest);
    state->max = largest;
    state->sum = state->sum * factor + warp_sum(weight);
    __syncwarp();
    weights[lane] = weight;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < LANE_ELEMENTS; i++) state->values[i] *= factor;
    int32_t from = max(first, q->begin), end = min(first + TILE, q->end);
    size_t half_bytes = attention_half_bytes(FORMAT, task->head_dim);
    for (int32_t p = from; p < end; p++) {
        int32_t block = q->blocks[p / ATTENTION_BLOCK], slot = p % ATTENTION_BLOCK;
        const unsigned char *half = kv_half(task->kv, task->n_kv_heads, half_bytes, block, q->kv_head, 1);
        float w = weights[p - first] * load_scale<FORMAT>(half, slot, task->head_dim);
#pragma unroll
        for (int i = 0; i < LANE_ELEMENTS; i++) {
            int d = lane + i * WARP_LANES;
            if (d < task->head_dim) state->values[i] += w * load_1<FORMAT>(half, slot * task->head_dim + d);
        }
    }
}

struct any_shared {
    float query[HEAD_DIM_MAX], weights[WARPS][TILE];
    float max[WARPS], sum[WARPS], values[WARPS][HEAD_DIM_MAX];
};

// Joins what the warps have, in their order.
static __device__ __forceinline__ void finish_query(const struct attention_task *task, struct any_shared *shared,
                                                    const struct warp_state *state, int64_t out) {
    int lane = (int)(threadIdx.x % WARP_LANES), warp = (int)(threadIdx.x / WARP_LANES);
    if (lane == 0) {
        shared->max[warp] = state->max;
        shared->sum[warp] = state->sum;
    }
#pragma unroll
    for (int i = 0; i < LANE_ELEMENTS; i++) shared->values[warp][lane + i * WARP_LANES] = state->values[i];
    __syncthreads();
    for (int d = 2 * (int)threadIdx.x; d < task->head_dim; d += 2 * WARPS * WARP_LANES) {
        float max = -INFINITY, sum = 0, x = 0, y = 0;
        for (int w = 0; w < WARPS; w++) {
            struct join_factors f = join_factors_make(max, shared->max[w]);
            max = f.max;
            sum = join(f, sum, shared->sum[w]);
            x = join(f, x, shared->values[w][d]);
            y = join(f, y, shared->values[w][d + 1]);
        }
        float inverse = reciprocal_or_zero(sum);
        store_out_2(task, out + d, x * inverse, y * inverse);
    }
}

template <enum kv_format FORMAT>
static __global__ void __launch_bounds__(WARPS *WARP_LANES) any_kernel(struct attention_task task) {
    __shared__ struct any_shared shared;
    dependency_launch();
    dependency_wait();
    int row = (int)blockIdx.x, head = (int)blockIdx.y, warp = (int)(threadIdx.x / WARP_LANES);
    if (row >= task.step->n_rows) return;
    int64_t at = ((int64_t)row * task.n_heads + head) * task.head_dim;
    for (int d = (int)threadIdx.x; d < task.head_dim; d += WARPS * WARP_LANES)
        shared.query[d] = FORMAT == KV_F32 ? static_cast<const float *>(task.query)[at + d]
                                           : to_float(static_cast<const struct bf16 *>(task.query)[at + d]);
    __syncthreads();

    int32_t position = STEP_ARRAY(task.step, int32_t, position)[row];
    int32_t sequence = STEP_ARRAY(task.step, int32_t, sequence)[row];
    int32_t block_first = STEP_ARRAY(task.step, struct step_sequence, sequences)[sequence].block_first;
    struct any_query q = {.query = shared.query,
                          .blocks = STEP_ARRAY(task.step, int32_t, block_table) + block_first,
                          .begin = max(0, position - task.window + 1),
                          .end = position + 1,
                          .kv_head = head / task.group};
    struct warp_state state = {-INFINITY, 0, {}};
    for (int32_t first = warp * TILE; first < q.end; first += WARPS * TILE)
        if (first + TILE > q.begin) attend_tile<FORMAT>(&task, &q, first, shared.weights[warp], &state);
    finish_query(&task, &shared, &state, at);
}

cudaError_t attention_any_launch(const struct attention_run *op, const struct attention_task *task, cudaStream_t s) {
    if (op->kv.shape.head_dim % 4 != 0 || op->kv.shape.head_dim > HEAD_DIM_MAX) return cudaErrorInvalidValue;
    dim3 grid((unsigned)op->n_rows, (unsigned)op->n_heads), block(WARPS * WARP_LANES);
    switch (op->kv.shape.format) {
    case KV_F32:
        return launch(any_kernel<KV_F32>, grid, block, 0, s, true, *task);
    case KV_BF16:
        return launch(any_kernel<KV_BF16>, grid, block, 0, s, true, *task);
    case KV_FP8:
        return launch(any_kernel<KV_FP8>, grid, block, 0, s, true, *task);
    case KV_INT8: // is refused when the cache is opened
        break;
    }
    return cudaErrorInvalidValue;
}
