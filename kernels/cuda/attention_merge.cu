// Partial results of ranges of positions are joined, in order. A warp takes one query, a lane four elements.
#include "kernels/cuda/attention_device.h"

enum { WARPS = 4, HEAD_DIM_MAX = 256, CHUNKS = HEAD_DIM_MAX / (4 * WARP_LANES) };

static __device__ __forceinline__ void merge_query(const struct attention_task *task, const struct attention_merge *m,
                                                   int32_t kv_head, int32_t q) {
    int lane = (int)(threadIdx.x % WARP_LANES), n = task->head_dim;
    float max = -INFINITY, sum = 0;
    float4 values[CHUNKS] = {};
#pragma unroll 4
    for (int32_t i = 0; i < m->n_partials; i++) {
        const float *slot = slot_of(task, m->partial_first + i * m->partial_stride, kv_head);
        const float *stats = slot + ATTENTION_SLOT_QUERIES * n + q;
        struct join_factors f = join_factors_make(max, stats[0]);
        max = f.max;
        sum = join(f, sum, stats[ATTENTION_SLOT_QUERIES]);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            int d = 4 * (lane + c * WARP_LANES);
            if (d < n) values[c] = join(f, values[c], *reinterpret_cast<const float4 *>(slot + q * n + d));
        }
    }
    int64_t out = out_index(task, m->row_first, kv_head, m->query_first + q);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int d = 4 * (lane + c * WARP_LANES);
        if (d < n) store_out_4(task, out + d, scaled(values[c], reciprocal_or_zero(sum)));
    }
}

static __global__ void __launch_bounds__(WARPS *WARP_LANES) merge_kernel(struct attention_task task) {
    dependency_launch();
    dependency_wait();
    const struct attention_merge *merges = STEP_ARRAY(task.step, struct attention_merge, merges);
    int32_t per_merge = task.n_kv_heads * ATTENTION_SLOT_QUERIES, n_units = task.step->n_merges * per_merge;
    int32_t warp = (int32_t)(blockIdx.x * WARPS + threadIdx.x / WARP_LANES);
    for (int32_t i = warp; i < n_units; i += (int32_t)gridDim.x * WARPS) {
        struct attention_merge m = merges[i / per_merge];
        int32_t q = i % ATTENTION_SLOT_QUERIES;
        if (q < m.n_queries) merge_query(&task, &m, i % per_merge / ATTENTION_SLOT_QUERIES, q);
    }
}

cudaError_t attention_merge_launch(const struct attention_run *op, const struct attention_task *task, cudaStream_t s) {
    return launch(merge_kernel, dim3((unsigned)op->n_processors), dim3(WARPS * WARP_LANES), 0, s, true, *task);
}
