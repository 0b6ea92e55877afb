// Stores keys and values in the cache. Included once for each instruction set, after its vectors.
#pragma once

#include "kernels/cpu/attention_int8_template.h"

// x[n] as numbers of the format; `to` has room for whole vectors.
VEC_INLINE float store_numbers(char *to, const float *x, int32_t n, enum kv_format format) {
    float factor;
    const float scale = row_scale(x, n, format == KV_FP8 ? 448 : 127, &factor);
    for (int32_t i = 0; i < n; i += VEC_N) {
        const vec scaled = factor != 0 ? vec_mul(vec_load_part(x + i, n - i), vec_all(factor)) : vec_zero();
        if (format == KV_FP8)
            vec_store_fp8(to + i, scaled);
        else
            vec_store_int8(to + i, scaled);
    }
    return scale;
}

static void write_f32(char *keys, char *values, int32_t slot, const float *key, const float *value, int32_t n) {
    float *to = (float *)(void *)keys + slot;
    for (int32_t d = 0; d < n; d++) to[(size_t)d * KV_BLOCK_TOKENS] = key[d];
    memcpy(values + (size_t)slot * (size_t)n * sizeof *value, value, (size_t)n * sizeof *value);
}

static void write_bf16(char *keys, char *values, int32_t slot, const float *key, const float *value, int32_t n) {
    uint16_t *to = (uint16_t *)(void *)keys + slot, *row = (uint16_t *)(void *)values + (size_t)slot * (size_t)n;
    for (int32_t d = 0; d < n; d++) to[(size_t)d * KV_BLOCK_TOKENS] = bf16_from_f32(key[d]);
    for (int32_t d = 0; d < n; d += VEC_N) {
        if (n - d >= VEC_N)
            vec_store_bf16(row + d, vec_load(value + d));
        else
            vec_store_bf16_n(row + d, vec_load_n(value + d, n - d), n - d);
    }
}

static void write_fp8(const struct kv_layer *kv, char *keys, char *values, int32_t slot, const float *key,
                      const float *value) {
    const int32_t n = kv->head_dim;
    char numbers[HEAD_DIM_MAX];
    kv_scales(kv, keys)[slot] = store_numbers(numbers, key, n, KV_FP8);
    for (int32_t d = 0; d < n; d++) keys[d * KV_BLOCK_TOKENS + slot] = numbers[d];
    kv_scales(kv, values)[slot] = store_numbers(numbers, value, n, KV_FP8);
    memcpy(values + (size_t)slot * (size_t)n, numbers, (size_t)n);
}

static void write_int8(const struct kv_layer *kv, char *keys, char *values, int32_t slot, const float *key,
                       const float *value) {
    const int32_t n = kv->head_dim;
    char numbers[HEAD_DIM_MAX];
    kv_scales(kv, keys)[slot] = store_numbers(numbers, key, n, KV_INT8);
    for (int32_t d = 0; d < n; d++) numbers[d] = (char)(numbers[d] ^ BYTE_ZERO);
    for (int32_t d = 0; d < n; d += KV_QUAD) memcpy(keys + d * KV_BLOCK_TOKENS + slot * KV_QUAD, numbers + d, KV_QUAD);
    kv_scales(kv, values)[slot] = store_numbers(numbers, value, n, KV_INT8);
    char *to = values + slot / KV_QUAD * KV_QUAD * n + slot % KV_QUAD;
    for (int32_t d = 0; d < n; d++) to[d * KV_QUAD] = (char)(numbers[d] ^ BYTE_ZERO);
}

void KERNEL(kv_write)(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, const float *key,
                      const float *value) {
    char *keys = kv_keys(kv, block, kv_head), *values = kv_values(kv, block, kv_head);
    switch (kv->format) {
    case KV_F32:
        write_f32(keys, values, slot, key, value, kv->head_dim);
        break;
    case KV_BF16:
        write_bf16(keys, values, slot, key, value, kv->head_dim);
        break;
    case KV_FP8:
        write_fp8(kv, keys, values, slot, key, value);
        break;
    case KV_INT8:
        write_int8(kv, keys, values, slot, key, value);
    }
}
