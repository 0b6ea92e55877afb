// Scores and values of a cache in INT8. Included once for each instruction set, after its vectors.
//
// Both are sums of products of bytes with whole numbers of 16 bits, NUMBER_MAX at most: a query's elements, with one
// scale, and its weights of a tile, with one scale. They are exact, so their order does not matter. Bytes are stored
// 128 larger than they are, and in quads: four neighbours of a sum lie together, as the instructions take them:
//
//     K of a block: [D/4][B][4]         V of a block: [B/4][D][4]
#pragma once

#include "kernels/cpu/attention_tile_template.h"

enum {
    QUAD_BYTES = 8,      // of four numbers of 16 bits
    NUMBER_MAX = 0x7f7f, // both halves of a number, from -128 to 127, are bytes
    BYTE_ZERO = 128,
    QUAD_LINES = VEC_N == 16 ? 4 : 2, // vectors of sums that a query has in flight
    QUAD_QUERIES = 2,
    QUADS_AT_ONCE = 4,
    TILE_QUADS = ATTENTION_TILE_TOKENS / KV_QUAD,
};

#if defined(__AVX512F__)
// Numbers are upper halves and lower halves, each with its own sum: 256 * upper + lower.
typedef __m512i lanes;
VEC_INLINE lanes lanes_all(int32_t x) {
    return _mm512_set1_epi32(x);
}
VEC_INLINE lanes lanes_load(const char *p) {
    return _mm512_loadu_si512(p);
}
VEC_INLINE lanes lanes_first(lanes line) {
    return line;
}
VEC_INLINE lanes lanes_second(lanes line) {
    return line;
}
VEC_INLINE lanes lanes_step(lanes sum, lanes line, lanes numbers) {
    return _mm512_dpbusd_epi32(sum, line, numbers);
}
VEC_INLINE vec lanes_total(lanes first, lanes second, int32_t start) {
    return _mm512_cvtepi32_ps(
        _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(first, 8), second), lanes_all(start)));
}
// VEC_N whole numbers as quads.
VEC_INLINE void quads_store(char *to, vec numbers) {
    const __m512i x = _mm512_cvtps_epi32(numbers);
    const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(128)), 8);
    const __m128i first = _mm512_cvtepi32_epi8(upper), second = _mm512_cvtepi32_epi8(x);
    _mm_storeu_si128((__m128i *)(void *)to, _mm_unpacklo_epi32(first, second));
    _mm_storeu_si128((__m128i *)(void *)(to + 16), _mm_unpackhi_epi32(first, second));
}
#else
// Bytes become 16 bits wide: those in even places have one sum, those in odd places the other.
typedef __m256i lanes;
VEC_INLINE lanes lanes_all(int32_t x) {
    return _mm256_set1_epi32(x);
}
VEC_INLINE lanes lanes_load(const char *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
VEC_INLINE lanes lanes_first(lanes line) {
    return _mm256_and_si256(line, _mm256_set1_epi16(0xff));
}
VEC_INLINE lanes lanes_second(lanes line) {
    return _mm256_srli_epi16(line, 8);
}
VEC_INLINE lanes lanes_step(lanes sum, lanes line, lanes numbers) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(line, numbers));
}
VEC_INLINE vec lanes_total(lanes first, lanes second, int32_t start) {
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(first, second), lanes_all(start)));
}
// VEC_N whole numbers as quads.
VEC_INLINE void quads_store(char *to, vec numbers) {
    const __m256i x = _mm256_cvtps_epi32(numbers);
    const __m128i all = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i even_first = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    _mm_storeu_si128((__m128i *)(void *)to, _mm_shuffle_epi8(all, even_first));
}
#endif

VEC_INLINE lanes lanes_spread(const char *half_of_quad) {
    int32_t x;
    memcpy(&x, half_of_quad, sizeof x);
    return lanes_all(x);
}

// A row of numbers: as quads, what one of them stands for, and where sums with it start, because of the 128.
struct quads {
    float scale;
    int32_t start;
};

// The scale with which the largest magnitude of x[n] becomes `most`; *factor: its inverse. What is not finite makes it
// a NaN, and the factor 0.
VEC_INLINE float row_scale(const float *x, int32_t n, float most, float *factor) {
    vec largest = vec_zero(), total = vec_zero();
    for (int32_t i = 0; i < n; i += VEC_N) {
        const vec size = vec_abs(vec_load_part(x + i, n - i));
        largest = vec_max(largest, size), total = vec_fma(size, vec_zero(), total); // NaN times 0 is one, and so is inf
    }
    const bool finite = vec_bits_not_less(total, total) == (1u << VEC_N) - 1;
    const float of_all = finite ? vec_largest(largest) : NAN;
    *factor = of_all > 0x1p-110f ? most / of_all : 0;
    return of_all / most;
}

// n numbers, a multiple of KV_QUAD; zeros up to a full vector.
VEC_INLINE struct quads quads_make(char *to, const float *x, int32_t n) {
    float factor;
    const float scale = row_scale(x, n, NUMBER_MAX, &factor);
    vec sum = vec_zero(); // exact: HEAD_DIM_MAX numbers of 15 bits
    for (int32_t i = 0; i < n; i += VEC_N) {
        const vec scaled = factor != 0 ? vec_mul(vec_load_part(x + i, n - i), vec_all(factor)) : vec_zero();
        const vec numbers = vec_round(scaled);
        sum = vec_add(sum, numbers);
        quads_store(to + (size_t)i * (QUAD_BYTES / KV_QUAD), numbers);
    }
    return (struct quads){.scale = scale, .start = -BYTE_ZERO * (int32_t)vec_sum(sum)};
}

// The numbers of a task.
struct attention_numbers {
    struct quads query[ATTENTION_QUERIES_MAX], weight[ATTENTION_QUERIES_MAX];
    char queries[ATTENTION_QUERIES_MAX][HEAD_DIM_MAX / KV_QUAD * QUAD_BYTES] __attribute__((aligned(64)));
    char weights[ATTENTION_QUERIES_MAX][TILE_QUADS * QUAD_BYTES] __attribute__((aligned(64)));
};

static void make_query_numbers(const struct attention_task *task, struct attention_numbers *numbers) {
    for (int32_t q = 0; q < task->n_rows * task->n_group; q++) {
        const float *query = task->query + (size_t)(q / task->n_group) * task->query_stride +
                             (size_t)(q % task->n_group) * (size_t)task->kv.head_dim;
        numbers->query[q] = quads_make(numbers->queries[q], query, task->kv.head_dim);
    }
}

struct quad_sums {
    lanes first[QUAD_QUERIES][QUAD_LINES], second[QUAD_QUERIES][QUAD_LINES];
};

// Adds the products of n_quads quads of each query and each line. n_last > 0: a line has so few lanes. next: lines to
// fetch meanwhile, when `fetches`.
VEC_INLINE void quads_add(struct quad_sums *sums, const char *const *lines, const char *const *next, size_t stride,
                          const char *const *numbers, int32_t n_quads, int32_t n_queries, int32_t n_lines,
                          int32_t n_last, bool fetches) {
#pragma GCC unroll 4
    for (int32_t quad = 0; quad < n_quads; quad++) {
        lanes line[QUAD_LINES];
#pragma GCC unroll 4
        for (int32_t i = 0; i < n_lines; i++) {
            const char *at = lines[i] + (size_t)quad * stride;
            if (fetches) fetch(next[i] + (size_t)quad * stride);
            if (n_last) {
                char part[sizeof(lanes)] = {0};
                memcpy(part, at, (size_t)n_last * KV_QUAD);
                line[i] = lanes_load(part);
            } else {
                line[i] = lanes_load(at);
            }
        }
#pragma GCC unroll 2
        for (int32_t q = 0; q < n_queries; q++) {
            const char *at = numbers[q] + (size_t)quad * QUAD_BYTES;
            const lanes first = lanes_spread(at), second = lanes_spread(at + QUAD_BYTES / 2);
#pragma GCC unroll 4
            for (int32_t i = 0; i < n_lines; i++) {
                sums->first[q][i] = lanes_step(sums->first[q][i], lanes_first(line[i]), first);
                sums->second[q][i] = lanes_step(sums->second[q][i], lanes_second(line[i]), second);
            }
        }
    }
}

VEC_INLINE void quad_sums_clear(struct quad_sums *sums, int32_t n_queries, int32_t n_lines) {
#pragma GCC unroll 2
    for (int32_t q = 0; q < n_queries; q++)
#pragma GCC unroll 4
        for (int32_t i = 0; i < n_lines; i++) sums->first[q][i] = sums->second[q][i] = lanes_all(0);
}

// ------------------------------------------------------------------------------------------------------------- scores

VEC_INLINE void score_advance(const char **lines, const char **next, const char **queries, int32_t n_queries,
                              int32_t n_quads) {
    for (int32_t i = 0; i < QUAD_LINES; i++) {
        lines[i] += (size_t)n_quads * KV_BLOCK_TOKENS * KV_QUAD;
        next[i] += (size_t)n_quads * KV_BLOCK_TOKENS * KV_QUAD;
    }
    for (int32_t q = 0; q < n_queries; q++) queries[q] += (size_t)n_quads * QUAD_BYTES;
}

VEC_INLINE void score_quads_part(int32_t head_dim, struct attention_tile_view *tile,
                                 const struct attention_numbers *numbers, int32_t query, int32_t n_queries, int32_t v,
                                 bool fetches) {
    struct quad_sums sums;
    const char *lines[QUAD_LINES], *next[QUAD_LINES], *queries[QUAD_QUERIES];
    for (int32_t i = 0; i < QUAD_LINES; i++) {
        const size_t at = (size_t)((v + i) % BLOCK_VECS) * VEC_N * KV_QUAD;
        lines[i] = tile->keys[(v + i) / BLOCK_VECS] + at;
        next[i] = tile->next_keys[(v + i) / BLOCK_VECS] + at;
    }
    for (int32_t q = 0; q < n_queries; q++) queries[q] = numbers->queries[query + q];
    quad_sums_clear(&sums, n_queries, QUAD_LINES);
    int32_t quad = 0;
    for (; quad + QUADS_AT_ONCE <= head_dim / KV_QUAD; quad += QUADS_AT_ONCE) {
        quads_add(&sums, lines, next, (size_t)KV_BLOCK_TOKENS * KV_QUAD, queries, QUADS_AT_ONCE, n_queries, QUAD_LINES,
                  0, fetches);
        score_advance(lines, next, queries, n_queries, QUADS_AT_ONCE);
    }
    for (; quad < head_dim / KV_QUAD; quad++) {
        quads_add(&sums, lines, next, (size_t)KV_BLOCK_TOKENS * KV_QUAD, queries, 1, n_queries, QUAD_LINES, 0, fetches);
        score_advance(lines, next, queries, n_queries, 1);
    }
#pragma GCC unroll 2
    for (int32_t q = 0; q < n_queries; q++) {
        const struct quads *x = &numbers->query[query + q];
#pragma GCC unroll 4
        for (int32_t i = 0; i < QUAD_LINES; i++)
            vec_store(&tile->scores[query + q][(v + i) * VEC_N],
                      vec_mul(lanes_total(sums.first[q][i], sums.second[q][i], x->start), vec_all(x->scale)));
    }
}

VEC_INLINE void score_quads(const struct attention_task *task, struct attention_tile_view *tile,
                            const struct attention_numbers *numbers) {
    const int32_t n = task->n_rows * task->n_group, head_dim = task->kv.head_dim;
    for (int32_t v = 0; v * VEC_N < tile->end; v += QUAD_LINES) {
        int32_t q = QUAD_QUERIES;
        if (n < QUAD_QUERIES) {
            score_quads_part(head_dim, tile, numbers, 0, 1, v, true);
            continue;
        }
        score_quads_part(head_dim, tile, numbers, 0, QUAD_QUERIES, v, true);
        for (; q + QUAD_QUERIES <= n; q += QUAD_QUERIES)
            score_quads_part(head_dim, tile, numbers, q, QUAD_QUERIES, v, false);
        if (q < n) score_quads_part(head_dim, tile, numbers, q, 1, v, false);
    }
}

// ------------------------------------------------------------------------------------------------------------- values

// Weights of positions that a query does not see are zeros, so that what lies there does not matter.
static void make_weight_numbers(const struct attention_task *task, const struct attention_tile_view *tile,
                                struct attention_numbers *numbers) {
    for (int32_t q = 0; q < task->n_rows * task->n_group; q++)
        if (tile->query_first[q] < tile->query_end[q])
            numbers->weight[q] = quads_make(numbers->weights[q], tile->scores[q], ATTENTION_TILE_TOKENS);
}

// The queries `query`, a list, add lines [d / VEC_N, +n_lines) of V; or the last lanes of it when n_last > 0.
VEC_INLINE void value_quads_part(const struct attention_task *task, const struct attention_tile_view *tile,
                                 const struct attention_numbers *numbers, const int32_t *query, int32_t n_queries,
                                 int32_t d, int32_t n_lines, int32_t n_last, bool fetches, float *out) {
    const size_t head_dim = (size_t)task->kv.head_dim;
    struct quad_sums sums;
    quad_sums_clear(&sums, n_queries, n_lines);
    for (int32_t b = tile->first / KV_BLOCK_TOKENS; b * KV_BLOCK_TOKENS < tile->end; b++) {
        const char *lines[QUAD_LINES], *next[QUAD_LINES], *weights[QUAD_QUERIES];
        for (int32_t i = 0; i < n_lines; i++) {
            lines[i] = tile->values[b] + (size_t)(d + i * VEC_N) * KV_QUAD;
            next[i] = tile->next_values[b] + (size_t)(d + i * VEC_N) * KV_QUAD;
        }
        for (int32_t q = 0; q < n_queries; q++)
            weights[q] = numbers->weights[query[q]] + b * (KV_BLOCK_TOKENS / KV_QUAD) * QUAD_BYTES;
        quads_add(&sums, lines, next, head_dim * KV_QUAD, weights, KV_BLOCK_TOKENS / KV_QUAD, n_queries, n_lines,
                  n_last, fetches);
    }
#pragma GCC unroll 2
    for (int32_t q = 0; q < n_queries; q++) {
        // Blocks that are left out hold zeros of weights: the start is that of all.
        const struct quads *x = &numbers->weight[query[q]];
#pragma GCC unroll 4
        for (int32_t i = 0; i < n_lines; i++) {
            float *to = out + (size_t)query[q] * head_dim + (size_t)(d + i * VEC_N);
            const int32_t left = n_last ? n_last : VEC_N;
            const vec sum = lanes_total(sums.first[q][i], sums.second[q][i], x->start);
            vec_store_part(to, vec_fma(sum, vec_all(x->scale), vec_load_part(to, left)), left);
        }
    }
}

VEC_INLINE void value_quads_of(const struct attention_task *task, const struct attention_tile_view *tile,
                               const struct attention_numbers *numbers, const int32_t *query, int32_t n_queries,
                               bool fetches, float *out) {
    const int32_t head_dim = task->kv.head_dim;
    int32_t d = 0;
    for (; d + QUAD_LINES * VEC_N <= head_dim; d += QUAD_LINES * VEC_N)
        value_quads_part(task, tile, numbers, query, n_queries, d, QUAD_LINES, 0, fetches, out);
    for (; d + VEC_N <= head_dim; d += VEC_N)
        value_quads_part(task, tile, numbers, query, n_queries, d, 1, 0, fetches, out);
    if (d < head_dim) value_quads_part(task, tile, numbers, query, n_queries, d, 1, head_dim - d, fetches, out);
}

VEC_INLINE void value_quads(const struct attention_task *task, const struct attention_tile_view *tile,
                            const struct attention_numbers *numbers, float *out) {
    int32_t seeing[ATTENTION_QUERIES_MAX], n = 0, i = QUAD_QUERIES;
    for (int32_t q = 0; q < task->n_rows * task->n_group; q++)
        if (tile->query_first[q] < tile->query_end[q]) seeing[n++] = q;
    if (n < QUAD_QUERIES) {
        value_quads_of(task, tile, numbers, seeing, 1, true, out);
        return;
    }
    value_quads_of(task, tile, numbers, seeing, QUAD_QUERIES, true, out);
    for (; i + QUAD_QUERIES <= n; i += QUAD_QUERIES)
        value_quads_of(task, tile, numbers, seeing + i, QUAD_QUERIES, false, out);
    if (i < n) value_quads_of(task, tile, numbers, seeing + i, 1, false, out);
}
