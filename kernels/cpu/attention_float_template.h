// Scores and values of caches in F32, BF16 and FP8: numbers become floats as they are read. Included once for each
// instruction set, after its vectors.
#pragma once

#include "kernels/cpu/attention_tile_template.h"

enum {
    SCORE_VECS = 4, // vectors of positions that one query's scores take at once
    SCORE_QUERIES = VEC_N == 16 ? 4 : 2,
    VALUE_VECS = VEC_N == 16 ? 8 : 4, // vectors of a value that two queries sum at once
};

VEC_INLINE vec kv_load(const char *p, enum kv_format format) {
    if (format == KV_FP8) return vec_load_fp8(p);
    return format == KV_F32 ? vec_load((const float *)(const void *)p)
                            : vec_load_bf16((const uint16_t *)(const void *)p);
}
VEC_INLINE vec kv_load_n(const char *p, enum kv_format format, int32_t n) {
    if (format == KV_FP8) return vec_load_fp8_n(p, n);
    return format == KV_F32 ? vec_load_n((const float *)(const void *)p, n)
                            : vec_load_bf16_n((const uint16_t *)(const void *)p, n);
}

// ------------------------------------------------------------------------------------------------------------- scores

// Scores of n_queries queries with SCORE_VECS * VEC_N positions from vector `v` of the tile on.
VEC_INLINE void score_part(const struct attention_task *task, struct attention_tile_view *tile, enum kv_format format,
                           int32_t query, int32_t n_queries, int32_t v) {
    const int32_t head_dim = task->kv.head_dim;
    const float *queries[SCORE_QUERIES];
    const char *keys[SCORE_VECS];
    vec sums[SCORE_QUERIES][SCORE_VECS];
    for (int32_t q = 0; q < n_queries; q++) {
        queries[q] = task->query + (size_t)((query + q) / task->n_group) * task->query_stride +
                     (size_t)((query + q) % task->n_group) * (size_t)head_dim;
        for (int32_t i = 0; i < SCORE_VECS; i++) sums[q][i] = vec_zero();
    }
    for (int32_t i = 0; i < SCORE_VECS; i++)
        keys[i] = tile->keys[(v + i) / BLOCK_VECS] + (size_t)((v + i) % BLOCK_VECS) * VEC_N * kv_element_bytes(format);
    for (int32_t d = 0; d < head_dim; d++) {
        vec key[SCORE_VECS];
#pragma GCC unroll 4
        for (int32_t i = 0; i < SCORE_VECS; i++)
            key[i] = kv_load(keys[i] + (size_t)d * KV_BLOCK_TOKENS * kv_element_bytes(format), format);
#pragma GCC unroll 4
        for (int32_t q = 0; q < n_queries; q++) {
            vec x = vec_all(queries[q][d]);
#pragma GCC unroll 4
            for (int32_t i = 0; i < SCORE_VECS; i++) sums[q][i] = vec_fma(x, key[i], sums[q][i]);
        }
    }
    for (int32_t q = 0; q < n_queries; q++)
        for (int32_t i = 0; i < SCORE_VECS; i++) vec_store(&tile->scores[query + q][(v + i) * VEC_N], sums[q][i]);
}

VEC_INLINE void score_tile(const struct attention_task *task, struct attention_tile_view *tile, enum kv_format format) {
    int32_t n = task->n_rows * task->n_group;
    for (int32_t v = 0; v * VEC_N < tile->end; v += SCORE_VECS) {
        int32_t q = 0;
        for (; q + SCORE_QUERIES <= n; q += SCORE_QUERIES) score_part(task, tile, format, q, SCORE_QUERIES, v);
        for (; q + 2 <= n; q += 2) score_part(task, tile, format, q, 2, v);
        if (q < n) score_part(task, tile, format, q, 1, v);
    }
}

// ------------------------------------------------------------------------------------------------------------- values

// out of n_queries queries += weights[first, end) * V, for n_vecs vectors of V from element d on, or the last
// elements (fewer than a vector) when n_last > 0.
VEC_INLINE void value_part(const struct attention_task *task, const struct attention_tile_view *tile,
                           enum kv_format format, int32_t query, int32_t n_queries, int32_t first, int32_t end,
                           float *out, int32_t d, int32_t n_vecs, int32_t n_last) {
    const size_t head_dim = (size_t)task->kv.head_dim;
    vec sums[2 * VALUE_VECS];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_queries * n_vecs; i++) {
        const float *from = out + (size_t)(query + i / n_vecs) * head_dim + d + i % n_vecs * VEC_N;
        sums[i] = n_last ? vec_load_n(from, n_last) : vec_load(from);
    }
    for (int32_t j = first; j < end; j++) {
        const char *value = tile->values[j / KV_BLOCK_TOKENS] +
                            ((size_t)(j % KV_BLOCK_TOKENS) * head_dim + (size_t)d) * kv_element_bytes(format);
        vec weight[2];
#pragma GCC unroll 2
        for (int32_t q = 0; q < n_queries; q++) weight[q] = vec_all(tile->scores[query + q][j]);
#pragma GCC unroll 8
        for (int32_t i = 0; i < n_vecs; i++) {
            const char *at = value + (size_t)i * VEC_N * kv_element_bytes(format);
            vec v = n_last ? kv_load_n(at, format, n_last) : kv_load(at, format);
#pragma GCC unroll 2
            for (int32_t q = 0; q < n_queries; q++) sums[q * n_vecs + i] = vec_fma(weight[q], v, sums[q * n_vecs + i]);
        }
    }
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_queries * n_vecs; i++) {
        float *to = out + (size_t)(query + i / n_vecs) * head_dim + d + i % n_vecs * VEC_N;
        if (n_last)
            vec_store_n(to, sums[i], n_last);
        else
            vec_store(to, sums[i]);
    }
}

VEC_INLINE void value_range(const struct attention_task *task, const struct attention_tile_view *tile,
                            enum kv_format format, int32_t query, int32_t n_queries, int32_t first, int32_t end,
                            float *out) {
    if (first >= end) return;
    const int32_t n_vecs = task->kv.head_dim / VEC_N, n_last = task->kv.head_dim % VEC_N;
    int32_t i = 0;
    for (; i + VALUE_VECS <= n_vecs; i += VALUE_VECS)
        value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, VALUE_VECS, 0);
    for (; i + 2 <= n_vecs; i += 2) value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, 2, 0);
    for (; i < n_vecs; i++) value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, 1, 0);
    if (n_last) value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, 1, n_last);
}

// Two queries share the loads of V where both see it; what only one sees comes before or after.
VEC_INLINE void value_pair(const struct attention_task *task, const struct attention_tile_view *tile,
                           enum kv_format format, int32_t query, float *out) {
    int32_t first = most(tile->query_first[query], tile->query_first[query + 1]);
    int32_t end = least(tile->query_end[query], tile->query_end[query + 1]);
    if (first >= end) {
        for (int32_t q = query; q < query + 2; q++)
            value_range(task, tile, format, q, 1, tile->query_first[q], tile->query_end[q], out);
        return;
    }
    for (int32_t q = query; q < query + 2; q++) value_range(task, tile, format, q, 1, tile->query_first[q], first, out);
    value_range(task, tile, format, query, 2, first, end, out);
    for (int32_t q = query; q < query + 2; q++) value_range(task, tile, format, q, 1, end, tile->query_end[q], out);
}

VEC_INLINE void value_tile(const struct attention_task *task, const struct attention_tile_view *tile,
                           enum kv_format format, float *out) {
    int32_t n = task->n_rows * task->n_group, q = 0;
    for (; q + 2 <= n; q += 2) value_pair(task, tile, format, q, out);
    if (q < n) value_range(task, tile, format, q, 1, tile->query_first[q], tile->query_end[q], out);
}
