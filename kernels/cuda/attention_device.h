// What the attention kernels share: where K and V lie, which positions a query sees, how partial results are joined.
#pragma once

#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/device.h"

// The arguments of every attention kernel, made once by attention_task_make.
struct attention_task {
    const struct device_step *step;
    const void *query;
    const unsigned char *kv; // of the layer
    int32_t n_heads, n_kv_heads, group, head_dim;
    int32_t window;       // positions a query sees, at most; without a window, more than there are
    float score_scale;    // scores times this are powers of two ...
    float cap, cap_scale; // ... and with a soft cap, cap * tanh(score * cap_scale) takes the score's place first
    bool has_cap;
    bool has_fixed_splits; // deterministic: partial results of fixed splits are joined in order
    float *partials;
    void *out;
    enum operand_format out_format;
};

// The launchers, each in the file of its kernel.
cudaError_t attention_any_launch(const struct attention_run *op, const struct attention_task *task, cudaStream_t s);
cudaError_t attention_decode_launch(const struct attention_run *op, const struct attention_task *task, cudaStream_t s);
cudaError_t attention_prefill_launch(const struct attention_run *op, const struct attention_task *task, cudaStream_t s);

// ---------------------------------------------------------------------------------------------------- K and V

// The half (K: 0, V: 1) of a block for one head.
static __device__ __forceinline__ const unsigned char *
kv_half(const unsigned char *kv, int32_t n_kv_heads, size_t half_bytes, int32_t block, int32_t head, int half) {
    return kv + (((int64_t)block * n_kv_heads + head) * 2 + half) * (int64_t)half_bytes;
}

// Shared memory holds rows of ROW_BYTES in units of 16 bytes. Eight rows that are read at one unit, as ldmatrix does,
// must lie in different banks: where a row does not move on by an odd number of units, its units change places.
template <int ROW_BYTES> static __device__ __forceinline__ int swizzled(int row, int unit) {
    constexpr int UNITS = ROW_BYTES / 16;
    if constexpr (UNITS % 8 == 0)
        unit ^= row & 7;
    else if constexpr (UNITS % 4 == 0)
        unit ^= row >> 1 & 3;
    else if constexpr (UNITS % 2 == 0)
        unit ^= row >> 2 & 1;
    return row * ROW_BYTES + unit * 16;
}

// Units that lie 2 * `step` units behind the one at `offset`, which is even or odd: what changes places keeps pairs of
// units together, so that an address costs one operation.
template <int ROW_BYTES> static __device__ __forceinline__ int swizzled_step(int offset, int step) {
    constexpr int UNITS = ROW_BYTES / 16, SPAN = UNITS % 8 == 0 ? 4 : UNITS % 4 == 0 ? 2 : 1;
    return (offset ^ step % SPAN * 32) + step / SPAN * (SPAN * 32);
}

// Where a lane reads what ldmatrix_x4 loads, from the row and unit of the first matrix: matrices follow each other by 8
// rows and then by a unit, or by a unit and then by 8 rows.
template <int ROW_BYTES> static __device__ __forceinline__ int rows_first(int row) {
    int lane = (int)(threadIdx.x % WARP_LANES);
    return swizzled<ROW_BYTES>(row + lane % 16, lane / 16);
}
template <int ROW_BYTES> static __device__ __forceinline__ int units_first(int row) {
    int lane = (int)(threadIdx.x % WARP_LANES);
    return swizzled<ROW_BYTES>(row + lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

// The queries of an item as rows of BF16 in shared memory; those beyond n_queries are zero. By the whole block.
template <int D>
static __device__ __forceinline__ void copy_queries(const struct attention_task *task,
                                                    const struct attention_item *item, int kv_head, int n_queries,
                                                    int n_rows, unsigned char *shared) {
    constexpr int UNITS = D / 8;
    const struct bf16 *query = static_cast<const struct bf16 *>(task->query);
    for (int i = threadIdx.x; i < n_rows * UNITS; i += blockDim.x) {
        int q = i / UNITS, unit = i % UNITS, row = q < n_queries ? q / task->group : 0;
        int head = kv_head * task->group + (q < n_queries ? q % task->group : 0);
        const struct bf16 *from = query + ((int64_t)(item->row_first + row) * task->n_heads + head) * D + unit * 8;
        copy_async_16(shared + swizzled<D * 2>(q, unit), from, q < n_queries);
    }
}

// ---------------------------------------------------------------------------------------------------- softmax

// The soft cap: cap * tanh(score * cap_scale), off by a few 1e-7 of the cap.
static __device__ __forceinline__ float capped(const struct attention_task *task, float score) {
    const float twice_log2_e = 2.88539008f;
    return task->cap - __fdividef(2.0f * task->cap, exp2_fast(score * task->cap_scale * twice_log2_e) + 1.0f);
}

// 2^(score * scale - max * scale) for scores and maxima that may be -infinity.
static __device__ __forceinline__ float finite_or_zero(float max) {
    return max == -INFINITY ? 0.0f : max;
}

// Joins a sum with the next one, each relative to a power of two: new = old * old_factor + next * next_factor. Spelled
// out, so that it is the same operation wherever it is done.
struct join_factors {
    float max, old_factor, next_factor;
};
static __device__ __forceinline__ struct join_factors join_factors_make(float old_max, float next_max) {
    float max = fmaxf(old_max, next_max), base = finite_or_zero(max);
    return {max, exp2_fast(old_max - base), exp2_fast(next_max - base)};
}
static __device__ __forceinline__ float join(struct join_factors f, float old_value, float next_value) {
    return __fmaf_rn(old_value, f.old_factor, __fmul_rn(next_value, f.next_factor));
}
static __device__ __forceinline__ float4 join(struct join_factors f, float4 a, float4 b) {
    return {join(f, a.x, b.x), join(f, a.y, b.y), join(f, a.z, b.z), join(f, a.w, b.w)};
}

static __device__ __forceinline__ float4 scaled(float4 x, float by) {
    return {__fmul_rn(x.x, by), __fmul_rn(x.y, by), __fmul_rn(x.z, by), __fmul_rn(x.w, by)};
}

static __device__ __forceinline__ float reciprocal_or_zero(float sum) {
    return sum > 0 ? __fdiv_rn(1.0f, sum) : 0.0f;
}

// ---------------------------------------------------------------------------------------------------- results

static __device__ __forceinline__ void store_out_2(const struct attention_task *task, int64_t index, float x, float y) {
    if (task->out_format == OPERAND_F32)
        *reinterpret_cast<float2 *>(static_cast<float *>(task->out) + index) = {x, y};
    else
        *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(task->out) + index) =
            task->out_format == OPERAND_BF16 ? pack_bf16(x, y) : pack_f16_saturating(x, y);
}

static __device__ __forceinline__ void store_out_4(const struct attention_task *task, int64_t index, float4 x) {
    store_out_2(task, index, x.x, x.y);
    store_out_2(task, index + 2, x.z, x.w);
}

// Where query q of rows that begin at row_first has its output.
static __device__ __forceinline__ int64_t out_index(const struct attention_task *task, int32_t row_first,
                                                    int32_t kv_head, int32_t q) {
    int32_t head = kv_head * task->group + q % task->group;
    return ((int64_t)(row_first + q / task->group) * task->n_heads + head) * task->head_dim;
}

// The sums of values of a slot; maxima and sums follow (attention_slot_floats).
static __device__ __forceinline__ float *slot_of(const struct attention_task *task, int32_t slot, int32_t kv_head) {
    return task->partials +
           ((int64_t)slot * task->n_kv_heads + kv_head) * (int64_t)attention_slot_floats(task->head_dim);
}
