// Attention through the paged cache. Included once for each instruction set, after its vectors.
//
// Positions are taken in tiles of ATTENTION_TILE_TOKENS aligned to position 0: scores of all queries of the task (heads
// of a group and neighbouring rows share each load of K), then one step of the online softmax, then the sum over V.
// Within a tile each query adds up exactly its visible positions, in order: so its bits depend on nothing else.
#include "kernels/cpu/vec_math.h"

#include <math.h>

enum {
    TILE_BLOCKS = ATTENTION_TILE_TOKENS / KV_BLOCK_TOKENS,
    TILE_VECS = ATTENTION_TILE_TOKENS / VEC_N,
    BLOCK_VECS = KV_BLOCK_TOKENS / VEC_N,
    SCORE_VECS = 4, // vectors of positions that one query's scores take at once
    SCORE_QUERIES = VEC_N == 16 ? 4 : 2,
    VALUE_VECS = VEC_N == 16 ? 8 : 4, // vectors of a value that two queries sum at once
};

struct attention_tile_view {
    const char *keys[TILE_BLOCKS], *values[TILE_BLOCKS];
    int32_t first, end; // positions of the tile that some query sees, relative to the tile
    int32_t query_first[ATTENTION_QUERIES_MAX], query_end[ATTENTION_QUERIES_MAX];
    float scores[ATTENTION_QUERIES_MAX][ATTENTION_TILE_TOKENS]; // then weights
};

VEC_INLINE size_t kv_bytes(enum kv_format format) {
    return format == KV_F32 ? 4 : 2;
}

VEC_INLINE vec kv_load(const char *p, enum kv_format format) {
    return format == KV_F32 ? vec_load((const float *)(const void *)p)
                            : vec_load_bf16((const uint16_t *)(const void *)p);
}
VEC_INLINE vec kv_load_n(const char *p, enum kv_format format, int32_t n) {
    return format == KV_F32 ? vec_load_n((const float *)(const void *)p, n)
                            : vec_load_bf16_n((const uint16_t *)(const void *)p, n);
}

static char *kv_block(const struct kv_layer *kv, int32_t block, int32_t kv_head) {
    size_t head_bytes = 2 * (size_t)KV_BLOCK_TOKENS * (size_t)kv->head_dim * kv_bytes(kv->format);
    return (char *)kv->data + ((size_t)block * (size_t)kv->n_kv_heads + (size_t)kv_head) * head_bytes;
}

void KERNEL(kv_write)(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, const float *key,
                      const float *value) {
    char *keys = kv_block(kv, block, kv_head);
    int32_t n = kv->head_dim;
    char *values = keys + (size_t)KV_BLOCK_TOKENS * (size_t)n * kv_bytes(kv->format);
    values += (size_t)slot * (size_t)n * kv_bytes(kv->format);
    if (kv->format == KV_F32) {
        float *to = (float *)(void *)keys + slot;
        for (int32_t d = 0; d < n; d++) to[(size_t)d * KV_BLOCK_TOKENS] = key[d];
        memcpy(values, value, (size_t)n * sizeof *value);
        return;
    }
    uint16_t *to = (uint16_t *)(void *)keys + slot;
    for (int32_t d = 0; d < n; d++) to[(size_t)d * KV_BLOCK_TOKENS] = bf16_from_f32(key[d]);
    for (int32_t d = 0; d < n; d += VEC_N) {
        uint16_t *at = (uint16_t *)(void *)values + d;
        if (n - d >= VEC_N)
            vec_store_bf16(at, vec_load(value + d));
        else
            vec_store_bf16_n(at, vec_load_n(value + d, n - d), n - d);
    }
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
        keys[i] = tile->keys[(v + i) / BLOCK_VECS] + (size_t)((v + i) % BLOCK_VECS) * VEC_N * kv_bytes(format);
    for (int32_t d = 0; d < head_dim; d++) {
        vec key[SCORE_VECS];
#pragma GCC unroll 4
        for (int32_t i = 0; i < SCORE_VECS; i++)
            key[i] = kv_load(keys[i] + (size_t)d * KV_BLOCK_TOKENS * kv_bytes(format), format);
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

// ------------------------------------------------------------------------------------------------------------ softmax

static float exp_one(float x) {
    float all[VEC_N];
    vec_store(all, vec_exp(vec_all(x)));
    return all[0];
}

// Turns a query's scores into weights and rescales what it has summed so far.
static void softmax_step(const struct attention_task *task, struct attention_tile_view *tile, int32_t query,
                         struct attention_partial *partial) {
    float *scores = tile->scores[query];
    const int32_t first = tile->query_first[query], end = tile->query_end[query], head_dim = task->kv.head_dim;
    if (first >= end) return;
    for (int32_t v = 0; v < TILE_VECS; v++) {
        vec s = vec_mul(vec_load(scores + v * VEC_N), vec_all(task->scale));
        if (task->soft_cap > 0) s = vec_mul(vec_all(task->soft_cap), vec_tanh(vec_div(s, vec_all(task->soft_cap))));
        vec_store(scores + v * VEC_N, s);
    }
    for (int32_t j = 0; j < first; j++) scores[j] = -INFINITY;
    for (int32_t j = end; j < ATTENTION_TILE_TOKENS; j++) scores[j] = -INFINITY;
    vec largest = vec_load(scores);
    for (int32_t v = 1; v < TILE_VECS; v++) largest = vec_max(largest, vec_load(scores + v * VEC_N));
    float old = partial->max[query], now = vec_largest(largest);
    if (now > old) {
        float factor = exp_one(old - now), *out = partial->out + (size_t)query * (size_t)head_dim;
        partial->max[query] = now;
        partial->sum[query] *= factor;
        for (int32_t d = 0; d < head_dim; d += VEC_N)
            vec_store_part(out + d, vec_mul(vec_load_part(out + d, head_dim - d), vec_all(factor)), head_dim - d);
    }
    vec sum = vec_zero(), shift = vec_all(partial->max[query]);
    for (int32_t v = 0; v < TILE_VECS; v++) {
        vec weight = vec_exp(vec_sub(vec_load(scores + v * VEC_N), shift));
        vec_store(scores + v * VEC_N, weight);
        sum = vec_add(sum, weight);
    }
    partial->sum[query] += vec_sum(sum);
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
                            ((size_t)(j % KV_BLOCK_TOKENS) * head_dim + (size_t)d) * kv_bytes(format);
        vec weight[2];
#pragma GCC unroll 2
        for (int32_t q = 0; q < n_queries; q++) weight[q] = vec_all(tile->scores[query + q][j]);
#pragma GCC unroll 8
        for (int32_t i = 0; i < n_vecs; i++) {
            const char *at = value + (size_t)i * VEC_N * kv_bytes(format);
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

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}
static int32_t most(int32_t a, int32_t b) {
    return a > b ? a : b;
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

// ------------------------------------------------------------------------------------------------------------ the task

// Which positions of the tile that begins at `begin` each query sees, and where the blocks lie. False: none.
static bool tile_open(const struct attention_task *task, int32_t begin, struct attention_tile_view *tile) {
    tile->first = ATTENTION_TILE_TOKENS;
    tile->end = 0;
    for (int32_t q = 0; q < task->n_rows * task->n_group; q++) {
        int32_t position = task->position + q / task->n_group;
        int32_t oldest = task->window ? position - task->window + 1 : 0;
        tile->query_first[q] = most(oldest - begin, 0);
        tile->query_end[q] = least(position + 1 - begin, ATTENTION_TILE_TOKENS);
        if (tile->query_first[q] >= tile->query_end[q]) continue;
        tile->first = least(tile->first, tile->query_first[q]);
        tile->end = most(tile->end, tile->query_end[q]);
    }
    if (tile->first >= tile->end) return false;
    int32_t low = tile->first / KV_BLOCK_TOKENS, high = (tile->end - 1) / KV_BLOCK_TOKENS;
    for (int32_t b = 0; b < TILE_BLOCKS; b++) {
        // Blocks that nobody sees are replaced by one that is there; their scores are not used.
        int32_t index = begin / KV_BLOCK_TOKENS + most(low, least(b, high));
        tile->keys[b] = kv_block(&task->kv, task->block_table[index], task->kv_head);
        tile->values[b] =
            tile->keys[b] + (size_t)KV_BLOCK_TOKENS * (size_t)task->kv.head_dim * kv_bytes(task->kv.format);
    }
    return true;
}

VEC_INLINE void attend_split(const struct attention_task *task, int32_t split, struct attention_partial *partial,
                             enum kv_format format) {
    const int32_t n = task->n_rows * task->n_group;
    struct attention_tile_view tile;
    for (int32_t q = 0; q < n; q++) partial->max[q] = -INFINITY, partial->sum[q] = 0;
    memset(partial->out, 0, (size_t)n * (size_t)task->kv.head_dim * sizeof(float));
    int32_t begin = split * ATTENTION_SPLIT_TOKENS;
    int32_t end = least(begin + ATTENTION_SPLIT_TOKENS, task->position + task->n_rows);
    if (task->window)
        begin = most(begin, (task->position - task->window + 1) / ATTENTION_TILE_TOKENS * ATTENTION_TILE_TOKENS);
    for (; begin < end; begin += ATTENTION_TILE_TOKENS) {
        if (!tile_open(task, begin, &tile)) continue;
        score_tile(task, &tile, format);
        for (int32_t q = 0; q < n; q++) softmax_step(task, &tile, q, partial);
        value_tile(task, &tile, format, partial->out);
    }
}

// One function a format, so that the compiler sees each as a constant.
static void attend_split_f32(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    attend_split(task, split, partial, KV_F32);
}
static void attend_split_bf16(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    attend_split(task, split, partial, KV_BF16);
}

void KERNEL(attention_split)(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    if (task->kv.format == KV_F32)
        attend_split_f32(task, split, partial);
    else
        attend_split_bf16(task, split, partial);
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
