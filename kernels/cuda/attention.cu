// Which kernels attend: the rows of a step, decode and prompts mixed.
#include "kernels/cuda/attention_device.h"

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
    if (error == cudaSuccess && (op->has_decode || op->has_prefill)) error = attention_merge_launch(op, &task, stream);
    return error;
}
