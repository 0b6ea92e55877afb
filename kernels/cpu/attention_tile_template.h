// A tile of positions: where its blocks lie, who sees what of it, and how scores become weights. Included once for each
// instruction set, after its vectors.
#pragma once

#include "kernels/cpu/vec_math.h"

#include <math.h>

enum {
    TILE_BLOCKS = ATTENTION_TILE_TOKENS / KV_BLOCK_TOKENS,
    TILE_VECS = ATTENTION_TILE_TOKENS / VEC_N,
    BLOCK_VECS = KV_BLOCK_TOKENS / VEC_N,
};

struct attention_tile_view {
    const char *keys[TILE_BLOCKS], *values[TILE_BLOCKS];
    const char *next_keys[TILE_BLOCKS], *next_values[TILE_BLOCKS]; // of the tile behind, to be fetched meanwhile
    int32_t first, end; // positions of the tile that some query sees, relative to the tile
    int32_t query_first[ATTENTION_QUERIES_MAX], query_end[ATTENTION_QUERIES_MAX];
    float scores[ATTENTION_QUERIES_MAX][ATTENTION_TILE_TOKENS]; // then weights
};

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}
static int32_t most(int32_t a, int32_t b) {
    return a > b ? a : b;
}

// A line that the next tile reads.
VEC_INLINE void fetch(const char *p) {
    _mm_prefetch(p, _MM_HINT_T1);
}

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
        tile->keys[b] = kv_keys(&task->kv, task->block_table[index], task->kv_head);
        tile->values[b] = kv_values(&task->kv, task->block_table[index], task->kv_head);
        // The last block stands for those behind it.
        int32_t next = least(index + TILE_BLOCKS, (task->position + task->n_rows - 1) / KV_BLOCK_TOKENS);
        tile->next_keys[b] = kv_keys(&task->kv, task->block_table[next], task->kv_head);
        tile->next_values[b] = kv_values(&task->kv, task->block_table[next], task->kv_head);
    }
    return true;
}

static float exp_one(float x) {
    float all[VEC_N];
    vec_store(all, vec_exp(vec_all(x)));
    return all[0];
}

// The scale of numbers in FP8 as kv_load reads them and in INT8, of VEC_N positions of the tile.
VEC_INLINE vec tile_scales(const char *const *halves, const struct kv_layer *kv, int32_t v) {
    const char *half = halves[v / BLOCK_VECS] + kv_elements_bytes(kv->format, kv->head_dim);
    vec scales = vec_load((const float *)(const void *)half + v % BLOCK_VECS * VEC_N);
    return kv->format == KV_FP8 ? vec_mul(scales, vec_all(0x1p8f)) : scales;
}

// Turns a query's scores into weights and rescales what it has summed so far.
VEC_INLINE void softmax_step(const struct attention_task *task, struct attention_tile_view *tile, int32_t query,
                             enum kv_format format, struct attention_partial *partial) {
    float *scores = tile->scores[query];
    const int32_t first = tile->query_first[query], end = tile->query_end[query], head_dim = task->kv.head_dim;
    if (first >= end) return;
    for (int32_t v = 0; v < TILE_VECS; v++) {
        vec s = vec_mul(vec_load(scores + v * VEC_N), vec_all(task->scale));
        if (kv_has_scales(format)) s = vec_mul(s, tile_scales(tile->keys, &task->kv, v));
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
        sum = vec_add(sum, weight);
        if (kv_has_scales(format)) { // those of positions that are not seen may be no numbers
            vec scaled = vec_mul(weight, tile_scales(tile->values, &task->kv, v));
            weight = vec_where_less(vec_zero(), weight, scaled, vec_zero());
        }
        vec_store(scores + v * VEC_N, weight);
    }
    partial->sum[query] += vec_sum(sum);
}
