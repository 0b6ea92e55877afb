// Attention through the paged cache. Included once for each instruction set, after its vectors.
//
// Positions are taken in tiles of ATTENTION_TILE_TOKENS aligned to position 0: scores of all queries of the task (heads
// of a group and neighbouring rows share each load of K), then one step of the online softmax, then the sum over V.
// Within a tile each query adds up exactly its visible positions, in order: so its bits depend on nothing else.
#include "kernels/cpu/attention_float_template.h"
#include "kernels/cpu/attention_int8_template.h"
#include "kernels/cpu/kv_write_template.h"

// ------------------------------------------------------------------------------------------------------------ the task

VEC_INLINE void attend_split(const struct attention_task *task, int32_t split, struct attention_partial *partial,
                             enum kv_format format) {
    const int32_t n = task->n_rows * task->n_group;
    struct attention_tile_view tile;
    struct attention_numbers numbers;
    for (int32_t q = 0; q < n; q++) partial->max[q] = -INFINITY, partial->sum[q] = 0;
    memset(partial->out, 0, (size_t)n * (size_t)task->kv.head_dim * sizeof(float));
    if (format == KV_INT8) make_query_numbers(task, &numbers);
    int32_t begin = split * ATTENTION_SPLIT_TOKENS;
    int32_t end = least(begin + ATTENTION_SPLIT_TOKENS, task->position + task->n_rows);
    if (task->window)
        begin = most(begin, (task->position - task->window + 1) / ATTENTION_TILE_TOKENS * ATTENTION_TILE_TOKENS);
    for (; begin < end; begin += ATTENTION_TILE_TOKENS) {
        if (!tile_open(task, begin, &tile)) continue;
        if (format == KV_INT8)
            score_quads(task, &tile, &numbers);
        else
            score_tile(task, &tile, format);
        for (int32_t q = 0; q < n; q++) softmax_step(task, &tile, q, format, partial);
        if (format == KV_INT8) {
            make_weight_numbers(task, &tile, &numbers);
            value_quads(task, &tile, &numbers, partial->out);
        } else {
            value_tile(task, &tile, format, partial->out);
        }
    }
}

// One function a format, so that the compiler sees each as a constant.
static void attend_split_f32(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    attend_split(task, split, partial, KV_F32);
}
static void attend_split_bf16(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    attend_split(task, split, partial, KV_BF16);
}
static void attend_split_fp8(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    attend_split(task, split, partial, KV_FP8);
}
static void attend_split_int8(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    attend_split(task, split, partial, KV_INT8);
}

void KERNEL(attention_split)(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    switch (task->kv.format) {
    case KV_F32:
        attend_split_f32(task, split, partial);
        break;
    case KV_BF16:
        attend_split_bf16(task, split, partial);
        break;
    case KV_FP8:
        attend_split_fp8(task, split, partial);
        break;
    case KV_INT8:
        attend_split_int8(task, split, partial);
    }
}

void KERNEL(attention_merge)(struct attention_partial *total, const struct attention_partial *next, int32_t n_queries,
                             int32_t head_dim) {
    for (int32_t q = 0; q < n_queries; q++) {
        if (next->max[q] == -INFINITY) continue;
        float largest = fmaxf(total->max[q], next->max[q]);
        float old_factor = exp_one(total->max[q] - largest), new_factor = exp_one(next->max[q] - largest);
        float *out = total->out + (size_t)q * (size_t)head_dim;
        const float *add = next->out + (size_t)q * (size_t)head_dim;
        for (int32_t d = 0; d < head_dim; d += VEC_N) {
            vec sum = vec_mul(vec_load_part(out + d, head_dim - d), vec_all(old_factor));
            sum = vec_fma(vec_load_part(add + d, head_dim - d), vec_all(new_factor), sum);
            vec_store_part(out + d, sum, head_dim - d);
        }
        total->sum[q] = total->sum[q] * old_factor + next->sum[q] * new_factor;
        total->max[q] = largest;
    }
}

void KERNEL(attention_finish)(const struct attention_task *task, const struct attention_partial *total, float *out,
                              size_t out_stride) {
    const int32_t head_dim = task->kv.head_dim;
    for (int32_t q = 0; q < task->n_rows * task->n_group; q++) {
        float *to = out + (size_t)(q / task->n_group) * out_stride + (size_t)(q % task->n_group) * (size_t)head_dim;
        const float *from = total->out + (size_t)q * (size_t)head_dim;
        vec factor = vec_all(total->sum[q] > 0 ? 1 / total->sum[q] : 0);
        for (int32_t d = 0; d < head_dim; d += VEC_N)
            vec_store_part(to + d, vec_mul(vec_load_part(from + d, head_dim - d), factor), head_dim - d);
    }
}
