// Attention through the paged cache: the plain definition.
#include "base/number.h"
#include "kernels/kernel_table.h"

#include <math.h>

static size_t element_of_block(const struct kv_layer *kv, int32_t block, int32_t kv_head) {
    size_t head_elements = 2 * (size_t)KV_BLOCK_TOKENS * (size_t)kv->head_dim;
    return ((size_t)block * (size_t)kv->n_kv_heads + (size_t)kv_head) * head_elements;
}

static size_t element_of_key(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, int32_t d) {
    return element_of_block(kv, block, kv_head) + (size_t)d * KV_BLOCK_TOKENS + (size_t)slot;
}

static size_t element_of_value(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, int32_t d) {
    size_t keys = (size_t)KV_BLOCK_TOKENS * (size_t)kv->head_dim;
    return element_of_block(kv, block, kv_head) + keys + (size_t)slot * (size_t)kv->head_dim + (size_t)d;
}

static float kv_load(const struct kv_layer *kv, size_t element) {
    if (kv->format == KV_F32) return ((const float *)kv->data)[element];
    return f32_from_bf16(((const uint16_t *)kv->data)[element]);
}

static void kv_store(const struct kv_layer *kv, size_t element, float x) {
    if (kv->format == KV_F32)
        ((float *)kv->data)[element] = x;
    else
        ((uint16_t *)kv->data)[element] = bf16_from_f32(x);
}

void ref_kv_write(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, const float *key,
                  const float *value) {
    for (int32_t d = 0; d < kv->head_dim; d++) {
        kv_store(kv, element_of_key(kv, block, kv_head, slot, d), key[d]);
        kv_store(kv, element_of_value(kv, block, kv_head, slot, d), value[d]);
    }
}

static float score(const struct attention_task *task, const float *query, int32_t position) {
    int32_t block = task->block_table[position / KV_BLOCK_TOKENS], slot = position % KV_BLOCK_TOKENS;
    float sum = 0;
    for (int32_t d = 0; d < task->kv.head_dim; d++)
        sum += query[d] * kv_load(&task->kv, element_of_key(&task->kv, block, task->kv_head, slot, d));
    sum *= task->scale;
    return task->soft_cap > 0 ? task->soft_cap * tanhf(sum / task->soft_cap) : sum;
}

static void accumulate(const struct attention_task *task, float *out, float weight, int32_t position) {
    int32_t block = task->block_table[position / KV_BLOCK_TOKENS], slot = position % KV_BLOCK_TOKENS;
    for (int32_t d = 0; d < task->kv.head_dim; d++) {
        size_t element = element_of_value(&task->kv, block, task->kv_head, slot, d);
        out[d] += weight * kv_load(&task->kv, element);
    }
}

void ref_attention_split(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    int32_t head_dim = task->kv.head_dim;
    for (int32_t i = 0; i < task->n_rows * task->n_group; i++) {
        int32_t row = i / task->n_group, position = task->position + row;
        const float *query =
            task->query + (size_t)row * task->query_stride + (size_t)(i % task->n_group) * (size_t)head_dim;
        float *out = partial->out + (size_t)i * (size_t)head_dim;
        int32_t first = split * ATTENTION_SPLIT_TOKENS, end = first + ATTENTION_SPLIT_TOKENS;
        if (task->window && first < position - task->window + 1) first = position - task->window + 1;
        if (end > position + 1) end = position + 1;
        partial->max[i] = -INFINITY;
        partial->sum[i] = 0;
        for (int32_t d = 0; d < head_dim; d++) out[d] = 0;
        for (int32_t j = first; j < end; j++) partial->max[i] = fmaxf(partial->max[i], score(task, query, j));
        for (int32_t j = first; j < end; j++) {
            float weight = expf(score(task, query, j) - partial->max[i]);
            partial->sum[i] += weight;
            accumulate(task, out, weight, j);
        }
    }
}

void ref_attention_merge(struct attention_partial *total, const struct attention_partial *next, int32_t n_queries,
                         int32_t head_dim) {
    for (int32_t i = 0; i < n_queries; i++) {
        if (next->max[i] == -INFINITY) continue;
        float largest = fmaxf(total->max[i], next->max[i]);
        float old_factor = expf(total->max[i] - largest), new_factor = expf(next->max[i] - largest);
        float *out = total->out + (size_t)i * (size_t)head_dim;
        const float *add = next->out + (size_t)i * (size_t)head_dim;
        for (int32_t d = 0; d < head_dim; d++) out[d] = out[d] * old_factor + add[d] * new_factor;
        total->sum[i] = total->sum[i] * old_factor + next->sum[i] * new_factor;
        total->max[i] = largest;
    }
}

void ref_attention_finish(const struct attention_task *task, const struct attention_partial *total, float *out,
                          size_t out_stride) {
    int32_t head_dim = task->kv.head_dim;
    for (int32_t i = 0; i < task->n_rows * task->n_group; i++) {
        float *to = out + (size_t)(i / task->n_group) * out_stride + (size_t)(i % task->n_group) * (size_t)head_dim;
        for (int32_t d = 0; d < head_dim; d++)
            to[d] = total->sum[i] > 0 ? total->out[(size_t)i * (size_t)head_dim + (size_t)d] / total->sum[i] : 0;
    }
}
