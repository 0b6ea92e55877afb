// Attention through the paged cache: the plain definition.
#include "base/number.h"
#include "kernels/kernel_table.h"

#include <math.h>

static size_t element_of_key(int32_t slot, int32_t d) {
    return (size_t)d * KV_BLOCK_TOKENS + (size_t)slot;
}

static size_t element_of_value(const struct kv_layer *kv, int32_t slot, int32_t d) {
    return (size_t)slot * (size_t)kv->head_dim + (size_t)d;
}

static float kv_load(const struct kv_layer *kv, char *half, size_t element, int32_t slot) {
    switch (kv->format) {
    case KV_F32:
        return ((const float *)(void *)half)[element];
    case KV_BF16:
        return f32_from_bf16(((const uint16_t *)(void *)half)[element]);
    case KV_FP8:
        return f32_from_e4m3((uint8_t)half[element]) * kv_scales(kv, half)[slot];
    case KV_INT8:
        return (float)((int8_t *)half)[element] * kv_scales(kv, half)[slot];
    }
    return 0;
}

// The largest magnitude becomes the largest number of the format. What is not finite makes the scale a NaN.
static float scale_of(const struct kv_layer *kv, const float *x, float *factor) {
    const float most = kv->format == KV_FP8 ? 448 : 127;
    float largest = 0;
    for (int32_t d = 0; d < kv->head_dim && !isnan(largest); d++)
        largest = isfinite(x[d]) ? fmaxf(largest, fabsf(x[d])) : NAN;
    *factor = largest > 0x1p-110f ? most / largest : 0;
    return largest / most;
}

static void kv_store(const struct kv_layer *kv, char *half, size_t element, float x) {
    if (kv->format == KV_F32)
        ((float *)(void *)half)[element] = x;
    else if (kv->format == KV_BF16)
        ((uint16_t *)(void *)half)[element] = bf16_from_f32(x);
    else if (kv->format == KV_FP8)
        half[element] = (char)e4m3_from_f32(x);
    else
        half[element] = (char)nearbyintf(x);
}

// The factor that maps a row to the numbers of the format.
static float store_scale(const struct kv_layer *kv, char *half, int32_t slot, const float *x) {
    float factor = 1;
    if (kv_has_scales(kv->format)) kv_scales(kv, half)[slot] = scale_of(kv, x, &factor);
    return factor;
}

void ref_kv_write(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, const float *key,
                  const float *value) {
    char *keys = kv_keys(kv, block, kv_head), *values = kv_values(kv, block, kv_head);
    const float of_key = store_scale(kv, keys, slot, key), of_value = store_scale(kv, values, slot, value);
    for (int32_t d = 0; d < kv->head_dim; d++) {
        kv_store(kv, keys, element_of_key(slot, d), of_key != 0 ? key[d] * of_key : 0);
        kv_store(kv, values, element_of_value(kv, slot, d), of_value != 0 ? value[d] * of_value : 0);
    }
}

static float score(const struct attention_task *task, const float *query, int32_t position) {
    int32_t block = task->block_table[position / KV_BLOCK_TOKENS], slot = position % KV_BLOCK_TOKENS;
    char *keys = kv_keys(&task->kv, block, task->kv_head);
    float sum = 0;
    for (int32_t d = 0; d < task->kv.head_dim; d++)
        sum += query[d] * kv_load(&task->kv, keys, element_of_key(slot, d), slot);
    sum *= task->scale;
    return task->soft_cap > 0 ? task->soft_cap * tanhf(sum / task->soft_cap) : sum;
}

static void accumulate(const struct attention_task *task, float *out, float weight, int32_t position) {
    int32_t block = task->block_table[position / KV_BLOCK_TOKENS], slot = position % KV_BLOCK_TOKENS;
    char *values = kv_values(&task->kv, block, task->kv_head);
    for (int32_t d = 0; d < task->kv.head_dim; d++)
        out[d] += weight * kv_load(&task->kv, values, element_of_value(&task->kv, slot, d), slot);
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
