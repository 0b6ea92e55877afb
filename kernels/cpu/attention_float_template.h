// Scores and values of caches in F32, BF16 and FP8: numbers become floats as they are read. Included once for each
// instruction set, after its vectors.
#pragma once

#include "kernels/cpu/attention_tile_template.h"

enum {
    SCORE_VECS = 4, // vectors of positions that one query's scores take at once
    SCORE_QUERIES = VEC_N == 16 ? 6 : 2,
    VALUE_SUMS = VEC_N == 16 ? 16 : 8, // vectors of sums that some queries have in flight
    VALUE_QUERIES = 4,
    FETCH_BYTES = 64,
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
                           int32_t query, int32_t n_queries, int32_t v, bool fetches) {
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
    const size_t line = (size_t)KV_BLOCK_TOKENS * kv_element_bytes(format); // of positions
    for (int32_t d = 0; d < head_dim; d++) {
        vec key[SCORE_VECS];
        if (fetches && (size_t)d * line % FETCH_BYTES == 0)
            for (int32_t i = 0; i < SCORE_VECS; i += BLOCK_VECS)
                fetch(tile->next_keys[(v + i) / BLOCK_VECS] + (size_t)d * line);
#pragma GCC unroll 4
        for (int32_t i = 0; i < SCORE_VECS; i++) key[i] = kv_load(keys[i] + (size_t)d * line, format);
#pragma GCC unroll 6
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
        int32_t q = n < 2 ? 1 : 2;
        if (n < 2)
            score_part(task, tile, format, 0, 1, v, true);
        else
            score_part(task, tile, format, 0, 2, v, true);
        for (; q + SCORE_QUERIES <= n; q += SCORE_QUERIES) score_part(task, tile, format, q, SCORE_QUERIES, v, false);
        for (; q + 4 <= n && SCORE_QUERIES > 4; q += 4) score_part(task, tile, format, q, 4, v, false);
        for (; q + 2 <= n; q += 2) score_part(task, tile, format, q, 2, v, false);
        if (q < n) score_part(task, tile, format, q, 1, v, false);
    }
}

// ------------------------------------------------------------------------------------------------------------- values

// out of n_queries queries += weights[first, end) * V, for n_vecs vectors of V from element d on, or the last
// elements (fewer than a vector) when n_last > 0.
VEC_INLINE void value_part(const struct attention_task *task, const struct attention_tile_view *tile,
                           enum kv_format format, int32_t query, int32_t n_queries, int32_t first, int32_t end,
                           float *out, int32_t d, int32_t n_vecs, int32_t n_last, bool fetches) {
    const size_t head_dim = (size_t)task->kv.head_dim, vec_bytes = (size_t)VEC_N * kv_element_bytes(format);
    vec sums[VALUE_SUMS];
#pragma GCC unroll 16
    for (int32_t i = 0; i < n_queries * n_vecs; i++) {
        const float *from = out + (size_t)(query + i / n_vecs) * head_dim + d + i % n_vecs * VEC_N;
        sums[i] = n_last ? vec_load_n(from, n_last) : vec_load(from);
    }
    for (int32_t j = first; j < end; j++) {
        const size_t at = ((size_t)(j % KV_BLOCK_TOKENS) * head_dim + (size_t)d) * kv_element_bytes(format);
        const char *value = tile->values[j / KV_BLOCK_TOKENS] + at;
        if (fetches)
            for (size_t i = 0; i < (size_t)n_vecs * vec_bytes; i += FETCH_BYTES)
                fetch(tile->next_values[j / KV_BLOCK_TOKENS] + at + i);
        vec weight[VALUE_QUERIES];
#pragma GCC unroll 4
        for (int32_t q = 0; q < n_queries; q++) weight[q] = vec_all(tile->scores[query + q][j]);
#pragma GCC unroll 16
        for (int32_t i = 0; i < n_vecs; i++) {
            const char *from = value + (size_t)i * vec_bytes;
            vec v = n_last ? kv_load_n(from, format, n_last) : kv_load(from, format);
#pragma GCC unroll 4
            for (int32_t q = 0; q < n_queries; q++) sums[q * n_vecs + i] = vec_fma(weight[q], v, sums[q * n_vecs + i]);
        }
    }
#pragma GCC unroll 16
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
                            bool fetches, float *out) {
    if (first >= end) return;
    const int32_t n_vecs = task->kv.head_dim / VEC_N, n_last = task->kv.head_dim % VEC_N;
    const int32_t most_vecs = VALUE_SUMS / (n_queries < 2 ? 2 : n_queries);
    int32_t i = 0;
    for (; i + most_vecs <= n_vecs; i += most_vecs)
        value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, most_vecs, 0, fetches);
    for (; i + 2 <= n_vecs; i += 2)
        value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, 2, 0, fetches);
    for (; i < n_vecs; i++) value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, 1, 0, fetches);
    if (n_last) value_part(task, tile, format, query, n_queries, first, end, out, i * VEC_N, 1, n_last, fetches);
}

// Queries share the loads of V where all of them see it; what only some see comes before or after.
VEC_INLINE void value_group(const struct attention_task *task, const struct attention_tile_view *tile,
                            enum kv_format format, int32_t query, int32_t n_queries, bool fetches, float *out) {
    int32_t first = 0, end = ATTENTION_TILE_TOKENS;
    for (int32_t q = query; q < query + n_queries; q++) {
        first = most(first, tile->query_first[q]);
        end = least(end, tile->query_end[q]);
    }
    if (first >= end) first = end = ATTENTION_TILE_TOKENS;
    for (int32_t q = query; q < query + n_queries; q++)
        value_range(task, tile, format, q, 1, tile->query_first[q], least(first, tile->query_end[q]), false, out);
    value_range(task, tile, format, query, n_queries, first, end, fetches, out);
    for (int32_t q = query; q < query + n_queries; q++)
        value_range(task, tile, format, q, 1, end, tile->query_end[q], false, out);
}

VEC_INLINE void value_tile(const struct attention_task *task, const struct attention_tile_view *tile,
                           enum kv_format format, float *out) {
    const int32_t n = task->n_rows * task->n_group;
    int32_t q = n < 2 ? 1 : 2;
    if (n < 2)
        value_range(task, tile, format, 0, 1, tile->query_first[0], tile->query_end[0], true, out);
    else
        value_group(task, tile, format, 0, 2, true, out);
    for (; q + VALUE_QUERIES <= n; q += VALUE_QUERIES) value_group(task, tile, format, q, VALUE_QUERIES, false, out);
    for (; q + 2 <= n; q += 2) value_group(task, tile, format, q, 2, false, out);
    if (q < n) value_range(task, tile, format, q, 1, tile->query_first[q], tile->query_end[q], false, out);
}
