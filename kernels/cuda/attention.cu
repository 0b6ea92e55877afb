// The rows of a step attend, decode and prompts mixed: which kernels run, and how partial results of ranges of
// positions are joined, in order: a warp takes one query, a lane four elements.
#include "kernels/cuda/attention_device.h"

enum { WARPS = 4, CHUNKS = HEAD_DIM_MAX / (4 * WARP_LANES) };

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

static struct attention_task attention_task_make(const struct attention_run *op) {
    const float log2_e = 1.44269504f;
    const int32_t no_window = 1 << 30; // a sum with a position does not overflow
    const struct kv_shape *shape = &op->kv.shape;
    bool has_cap = op->soft_cap > 0;
    struct attention_task task = {};
    task.step = op->step;
    task.query = op->query;
    task.kv = static_cast<const unsigned char *>(op->kv.data) + (size_t)op->layer * op->kv.layer_bytes;
    task.n_heads = op->n_heads;
    task.n_kv_heads = shape->n_kv_heads;
    task.group = op->n_heads / shape->n_kv_heads;
    task.head_dim = shape->head_dim;
    task.window = op->window > 0 ? op->window : no_window;
    task.score_scale = (has_cap ? 1.0f : op->scale) * log2_e;
    task.has_cap = has_cap;
    task.cap = op->soft_cap;
    task.cap_scale = has_cap ? op->scale / op->soft_cap : 0.0f;
    task.has_fixed_splits = op->deterministic;
    task.partials = static_cast<float *>(op->partials);
    task.out = op->out;
    task.out_format = op->out_format;
    return task;
}

static cudaError_t launch_merge(const struct attention_run *op, const struct attention_task *task,
                                cudaStream_t stream) {
    return launch(merge_kernel, dim3((unsigned)op->n_processors), dim3(WARPS * WARP_LANES), 0, stream, true, *task);
}

extern "C" cudaError_t attention_run(const struct attention_run *op, cudaStream_t stream) {
    const struct kv_shape *shape = &op->kv.shape;
    if (shape->block_tokens != ATTENTION_BLOCK || op->n_heads % shape->n_kv_heads != 0) return cudaErrorInvalidValue;
    struct attention_task task = attention_task_make(op);
    if (!attention_has_items(shape->format, shape->head_dim, task.group, op->deterministic))
        return attention_any_launch(op, &task, stream);
    cudaError_t error = cudaSuccess;
    if (op->has_decode) error = attention_decode_launch(op, &task, stream);
    if (error == cudaSuccess && op->has_prefill) error = attention_prefill_launch(op, &task, stream);
    // Without decode and without prompts there is nothing to join; both can leave partial results.
    if (error == cudaSuccess && (op->has_decode || op->has_prefill)) error = launch_merge(op, &task, stream);
    return error;
}
