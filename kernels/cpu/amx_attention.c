// Attention over a BF16 cache with AMX.
//
// The cache lies as the second operand of the tile product needs it, pairs of summed elements side by side:
//
//     K of a block: [D/2][B][2]         V of a block: [D/16][B/2][16][2]
//
// Queries and softmax weights are the first operand. Each is the sum of two BF16 numbers, which keeps 16 bits of it;
// the products of both are summed apart and added at the end, so an element's bits do not depend on where the two lie.
// Sums run along the head for scores and along the positions of a tile for values, in one order for any queries.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/vec_math.h"

#include <math.h>
#include <string.h>

enum {
    TILE_BLOCKS = ATTENTION_TILE_TOKENS / KV_BLOCK_TOKENS,
    TILE_VECS = ATTENTION_TILE_TOKENS / VEC_N,
    KEY_ELEMENTS = 32, // of a head, in one tile product
    PAIR_ROWS = KV_BLOCK_TOKENS / 2,
    VALUE_TILE_BYTES = PAIR_ROWS * TILE_ROW_BYTES,
    ROWS_MAX = 2 * ATTENTION_QUERIES_MAX,
};
_Static_assert((int)KV_BLOCK_TOKENS == (int)TILE && (int)VEC_N == (int)TILE && (int)ATTENTION_QUERIES_MAX == (int)TILE,
               "tiles");

// Tile registers. The instructions' names take numbers.
#define SUM_0 0
#define SUM_1 1
#define SUM_2 2
#define SUM_3 3
#define QUERY 4
#define KEY 5
#define WEIGHT 6
#define VALUE 7

// One task's operands. Upper halves are rows [0, n) of an operand; lower halves are rows [n, 2n) when both fit into one
// tile, or a second tile, rows [16, 16 + n).
struct attention {
    const struct attention_task *task;
    int32_t n, low;                                                       // queries; first row of the lower halves
    uint16_t query[ROWS_MAX * HEAD_DIM_MAX] __attribute__((aligned(64))); // [rows, D]
    float sums[ROWS_MAX * HEAD_DIM_MAX] __attribute__((aligned(64)));     // [rows, positions or D]
    uint16_t weight[ROWS_MAX * ATTENTION_TILE_TOKENS] __attribute__((aligned(64))); // [rows, positions]
    char last_values[KV_BLOCK_TOKENS * HEAD_DIM_MAX * 2] __attribute__((aligned(64)));
};

static bool fits(const struct kv_layer *kv) {
    return kv->format == KV_BF16 && kv->head_dim % KEY_ELEMENTS == 0;
}

void amx_kv_write(const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, const float *key,
                  const float *value) {
    if (!fits(kv)) {
        avx512_kv_write(kv, block, kv_head, slot, key, value);
        return;
    }
    uint16_t *keys = (uint16_t *)(void *)kv_keys(kv, block, kv_head);
    uint16_t *values = (uint16_t *)(void *)kv_values(kv, block, kv_head);
    for (int32_t d = 0; d < kv->head_dim; d += VEC_N) {
        uint16_t k[VEC_N], v[VEC_N];
        vec_store_bf16(k, vec_load(key + d));
        vec_store_bf16(v, vec_load(value + d));
        uint16_t *key_to = keys + (size_t)d * KV_BLOCK_TOKENS + (size_t)slot * 2;
        uint16_t *value_to = values + (size_t)d * KV_BLOCK_TOKENS + (size_t)(slot / 2) * 2 * TILE + slot % 2;
        for (int32_t i = 0; i < VEC_N / 2; i++) memcpy(key_to + (size_t)i * 2 * KV_BLOCK_TOKENS, k + 2 * i, 4);
        for (int32_t i = 0; i < VEC_N; i++) value_to[2 * i] = v[i];
    }
}

// x as the sum of two BF16 vectors.
VEC_INLINE void split_store(uint16_t *high, uint16_t *low, vec x) {
    __m256bh upper = _mm512_cvtneps_pbh(x);
    vec rest = vec_sub(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)upper), 16)));
    _mm256_storeu_si256((__m256i *)(void *)high, (__m256i)upper);
    _mm256_storeu_si256((__m256i *)(void *)low, (__m256i)_mm512_cvtneps_pbh(rest));
}

static void attention_open(struct attention *a, const struct attention_task *task) {
    const int32_t head_dim = task->kv.head_dim;
    a->task = task;
    a->n = task->n_rows * task->n_group;
    a->low = 2 * a->n <= TILE ? a->n : TILE;
    for (int32_t q = 0; q < a->n; q++) {
        const float *from = task->query + (size_t)(q / task->n_group) * task->query_stride +
                            (size_t)(q % task->n_group) * (size_t)head_dim;
        uint16_t *high = a->query + (size_t)q * (size_t)head_dim, *low = high + (size_t)a->low * (size_t)head_dim;
        for (int32_t d = 0; d < head_dim; d += VEC_N) split_store(high + d, low + d, vec_load(from + d));
    }
    struct tile_config config = {.palette = 1};
    uint8_t n_rows = (uint8_t)(a->low == TILE ? a->n : 2 * a->n);
    for (int i = SUM_0; i <= VALUE; i++) {
        config.row_bytes[i] = i == WEIGHT ? PAIR_ROWS * 4 : TILE_ROW_BYTES;
        config.n_rows[i] = i == KEY ? TILE : i == VALUE ? PAIR_ROWS : n_rows;
    }
    tile_config_load(&config);
}

// Lines that the next tile of positions reads.
VEC_INLINE void fetch(const char *p, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i += TILE_ROW_BYTES) _mm_prefetch(p + i, _MM_HINT_T1);
}

// ------------------------------------------------------------------------------------------------------------- scores

// sums[row, position] of the tile's positions, of all rows of the operand: one tile of them or two.
VEC_INLINE void score_tile(struct attention *a, const char *const *keys, const char *const *next, bool two_tiles) {
    const size_t stride = (size_t)a->task->kv.head_dim * sizeof(uint16_t);
    const char *rows = (const char *)a->query, *more = rows + TILE * stride;
    enum { SUM_STRIDE = ATTENTION_TILE_TOKENS * sizeof(float) };
    for (int32_t b = 0; b < TILE_BLOCKS; b += two_tiles ? 2 : 4) {
        _tile_zero(SUM_0);
        _tile_zero(SUM_1);
        _tile_zero(SUM_2);
        _tile_zero(SUM_3);
        for (size_t at = 0; at < stride; at += TILE_ROW_BYTES) {
            const size_t key_at = at * KV_BLOCK_TOKENS;
            for (int32_t i = 0; i < (two_tiles ? 2 : 4); i++) fetch(next[b + i] + key_at, TILE_BYTES);
            _tile_loadd(QUERY, rows + at, stride);
            _tile_loadd(KEY, keys[b] + key_at, TILE_ROW_BYTES);
            _tile_dpbf16ps(SUM_0, QUERY, KEY);
            if (two_tiles) {
                _tile_loadd(QUERY, more + at, stride);
                _tile_dpbf16ps(SUM_1, QUERY, KEY);
                _tile_loadd(KEY, keys[b + 1] + key_at, TILE_ROW_BYTES);
                _tile_dpbf16ps(SUM_3, QUERY, KEY);
                _tile_loadd(QUERY, rows + at, stride);
                _tile_dpbf16ps(SUM_2, QUERY, KEY);
                continue;
            }
            _tile_loadd(KEY, keys[b + 1] + key_at, TILE_ROW_BYTES);
            _tile_dpbf16ps(SUM_1, QUERY, KEY);
            _tile_loadd(KEY, keys[b + 2] + key_at, TILE_ROW_BYTES);
            _tile_dpbf16ps(SUM_2, QUERY, KEY);
            _tile_loadd(KEY, keys[b + 3] + key_at, TILE_ROW_BYTES);
            _tile_dpbf16ps(SUM_3, QUERY, KEY);
        }
        float *to = a->sums + b * TILE, *below = to + TILE * ATTENTION_TILE_TOKENS;
        _tile_stored(SUM_0, to, SUM_STRIDE);
        _tile_stored(SUM_1, two_tiles ? below : to + TILE, SUM_STRIDE);
        _tile_stored(SUM_2, two_tiles ? to + TILE : to + 2 * TILE, SUM_STRIDE);
        _tile_stored(SUM_3, two_tiles ? below + TILE : to + 3 * TILE, SUM_STRIDE);
    }
}

// ------------------------------------------------------------------------------------------------------------ softmax

static float exp_one(float x) {
    float all[VEC_N];
    vec_store(all, vec_exp(vec_all(x)));
    return all[0];
}

// Bit i: position `at` + i lies in [first, end).
VEC_INLINE __mmask16 lanes_of(int32_t first, int32_t end, int32_t at) {
    uint32_t below_end = end - at >= VEC_N ? 0xffff : end > at ? (1u << (end - at)) - 1 : 0;
    uint32_t below_first = first - at >= VEC_N ? 0xffff : first > at ? (1u << (first - at)) - 1 : 0;
    return (__mmask16)(below_end & ~below_first);
}

// Turns a query's scores into weights of the positions [first, end) that it sees. Returns the factor by which what it
// has summed before shrinks.
VEC_INLINE float weigh(struct attention *a, int32_t query, int32_t first, int32_t end,
                       struct attention_partial *partial) {
    const struct attention_task *task = a->task;
    const float *high = a->sums + (size_t)query * ATTENTION_TILE_TOKENS;
    const float *low = high + (size_t)a->low * ATTENTION_TILE_TOKENS;
    uint16_t *weight = a->weight + (size_t)query * ATTENTION_TILE_TOKENS;
    vec scores[TILE_VECS], largest = vec_all(-INFINITY);
#pragma GCC unroll 4
    for (int32_t v = 0; v < TILE_VECS; v++) {
        vec s = vec_mul(vec_add(vec_load(high + v * VEC_N), vec_load(low + v * VEC_N)), vec_all(task->scale));
        if (task->soft_cap > 0) s = vec_mul(vec_all(task->soft_cap), vec_tanh(vec_div(s, vec_all(task->soft_cap))));
        scores[v] = _mm512_mask_mov_ps(vec_all(-INFINITY), lanes_of(first, end, v * VEC_N), s);
        largest = vec_max(largest, scores[v]);
    }
    float old = partial->max[query], now = vec_largest(largest), factor = 1;
    if (now > old) {
        factor = exp_one(old - now);
        partial->max[query] = now;
        partial->sum[query] *= factor;
    }
    vec sum = vec_zero(), shift = vec_all(partial->max[query]);
#pragma GCC unroll 4
    for (int32_t v = 0; v < TILE_VECS; v++) {
        vec w = vec_exp(vec_sub(scores[v], shift));
        split_store(weight + v * VEC_N, weight + (size_t)a->low * ATTENTION_TILE_TOKENS + v * VEC_N, w);
        sum = vec_add(sum, w);
    }
    partial->sum[query] += vec_sum(sum);
    return factor;
}

// ------------------------------------------------------------------------------------------------------------- values

// sums[row, element] over the positions of blocks [first, end) of the tile.
VEC_INLINE void value_tile(struct attention *a, const char *const *values, const char *const *next, int32_t first,
                           int32_t end, bool two_tiles) {
    const int32_t n_parts = a->task->kv.head_dim / TILE, head_dim = a->task->kv.head_dim;
    const size_t sum_stride = (size_t)head_dim * sizeof(float), half_bytes = kv_half_bytes(KV_BF16, head_dim);
    enum { STRIDE = ATTENTION_TILE_TOKENS * sizeof(uint16_t) };
    for (int32_t part = 0; part < n_parts; part += 2) {
        _tile_zero(SUM_0);
        _tile_zero(SUM_1);
        _tile_zero(SUM_2);
        _tile_zero(SUM_3);
        for (int32_t b = 0; b < TILE_BLOCKS; b++)
            fetch(next[b] + half_bytes + (size_t)part * VALUE_TILE_BYTES, 2 * VALUE_TILE_BYTES);
        for (int32_t b = first; b < end; b++) {
            const uint16_t *rows = a->weight + b * KV_BLOCK_TOKENS, *more = rows + TILE * ATTENTION_TILE_TOKENS;
            const char *value = values[b] + (size_t)part * VALUE_TILE_BYTES;
            _tile_loadd(WEIGHT, rows, STRIDE);
            _tile_loadd(VALUE, value, TILE_ROW_BYTES);
            _tile_dpbf16ps(SUM_0, WEIGHT, VALUE);
            if (two_tiles) {
                _tile_loadd(WEIGHT, more, STRIDE);
                _tile_dpbf16ps(SUM_1, WEIGHT, VALUE);
            }
            _tile_loadd(VALUE, value + VALUE_TILE_BYTES, TILE_ROW_BYTES);
            if (two_tiles) {
                _tile_dpbf16ps(SUM_3, WEIGHT, VALUE);
                _tile_loadd(WEIGHT, rows, STRIDE);
            }
            _tile_dpbf16ps(SUM_2, WEIGHT, VALUE);
        }
        float *to = a->sums + part * TILE;
        _tile_stored(SUM_0, to, sum_stride);
        _tile_stored(SUM_2, to + TILE, sum_stride);
        if (!two_tiles) continue;
        _tile_stored(SUM_1, to + TILE * (size_t)head_dim, sum_stride);
        _tile_stored(SUM_3, to + TILE * (size_t)head_dim + TILE, sum_stride);
    }
}

// out = out * factor + the tile's sums.
VEC_INLINE void value_add(const struct attention *a, int32_t query, float factor, float *out) {
    const int32_t head_dim = a->task->kv.head_dim;
    const float *high = a->sums + (size_t)query * (size_t)head_dim, *low = high + (size_t)a->low * (size_t)head_dim;
    for (int32_t d = 0; d < head_dim; d += VEC_N) {
        vec sum = vec_add(vec_load(high + d), vec_load(low + d));
        vec_store(out + d, vec_fma(vec_load(out + d), vec_all(factor), sum));
    }
}

// ------------------------------------------------------------------------------------------------------------ the task

static int32_t least(int32_t x, int32_t y) {
    return x < y ? x : y;
}
static int32_t most(int32_t x, int32_t y) {
    return x > y ? x : y;
}

// Positions from slot n on may hold anything, and a weight of zero does not silence a NaN: in a copy they are zeros.
static const char *first_values(struct attention *a, const char *values, int32_t n) {
    const int32_t n_parts = a->task->kv.head_dim / TILE;
    const __mmask32 even = 0x55555555; // of the pairs of positions in a row
    for (int32_t part = 0; part < n_parts; part++)
        for (int32_t pair = 0; pair < PAIR_ROWS; pair++) {
            const size_t at = (size_t)part * VALUE_TILE_BYTES + (size_t)pair * TILE_ROW_BYTES;
            const __mmask32 seen = 2 * pair + 1 < n ? (__mmask32)~0u : 2 * pair < n ? even : 0;
            _mm512_store_si512(a->last_values + at, _mm512_maskz_loadu_epi16(seen, values + at));
        }
    return a->last_values;
}

// Where the blocks of the tile behind the one at `begin` lie, or those of the next task's first tile. The last block
// of a sequence stands for those that it lacks.
static void find_next(const struct attention_task *task, int32_t begin, const char **blocks) {
    begin += ATTENTION_TILE_TOKENS;
    if (begin >= task->position + task->n_rows && task->next) {
        task = task->next;
        begin = task->window ? most(task->position - task->window + 1, 0) / ATTENTION_TILE_TOKENS : 0;
        begin *= ATTENTION_TILE_TOKENS;
    }
    const int32_t last = (task->position + task->n_rows - 1) / KV_BLOCK_TOKENS;
    for (int32_t b = 0; b < TILE_BLOCKS; b++)
        blocks[b] = kv_keys(&task->kv, task->block_table[least(begin / KV_BLOCK_TOKENS + b, last)], task->kv_head);
}

// Where the blocks of positions [oldest, newest) of the tile that begins at `begin` lie. Blocks that nobody sees are
// replaced by one that is there; their scores are not used.
static void find_blocks(struct attention *a, int32_t begin, int32_t oldest, int32_t newest, const char **keys,
                        const char **values) {
    const struct attention_task *task = a->task;
    const int32_t low = oldest / KV_BLOCK_TOKENS, high = (newest - 1) / KV_BLOCK_TOKENS;
    for (int32_t b = 0; b < TILE_BLOCKS; b++) {
        int32_t index = begin / KV_BLOCK_TOKENS + most(low, least(b, high));
        keys[b] = kv_keys(&task->kv, task->block_table[index], task->kv_head);
        values[b] = kv_values(&task->kv, task->block_table[index], task->kv_head);
    }
    if (newest % KV_BLOCK_TOKENS) values[high] = first_values(a, values[high], newest % KV_BLOCK_TOKENS);
}

// The weights of all queries; false in `sees` for those that see nothing of the tile.
static void weigh_all(struct attention *a, int32_t begin, struct attention_partial *partial, bool *sees,
                      float *factors) {
    const struct attention_task *task = a->task;
    for (int32_t q = 0; q < a->n; q++) {
        int32_t position = task->position + q / task->n_group - begin;
        int32_t first = task->window ? most(position - task->window + 1, 0) : 0;
        int32_t end = least(position + 1, ATTENTION_TILE_TOKENS);
        sees[q] = first < end;
        if (sees[q]) {
            factors[q] = weigh(a, q, first, end, partial);
            continue;
        }
        uint16_t *weight = a->weight + (size_t)q * ATTENTION_TILE_TOKENS;
        memset(weight, 0, ATTENTION_TILE_TOKENS * sizeof *weight);
        memset(weight + (size_t)a->low * ATTENTION_TILE_TOKENS, 0, ATTENTION_TILE_TOKENS * sizeof *weight);
    }
    tile_memory_written(a->weight);
}

// Adds the tile of positions that begins at `begin`.
static void attend_tile(struct attention *a, int32_t begin, struct attention_partial *partial) {
    const struct attention_task *task = a->task;
    const int32_t oldest = task->window ? most(task->position - task->window + 1 - begin, 0) : 0;
    const int32_t newest = least(task->position + task->n_rows - begin, ATTENTION_TILE_TOKENS);
    if (oldest >= newest) return;
    const int32_t first_block = oldest / KV_BLOCK_TOKENS, end_block = (newest - 1) / KV_BLOCK_TOKENS + 1;
    const char *keys[TILE_BLOCKS], *values[TILE_BLOCKS], *next[TILE_BLOCKS];
    find_next(task, begin, next);
    find_blocks(a, begin, oldest, newest, keys, values);
    bool sees[ATTENTION_QUERIES_MAX];
    float factors[ATTENTION_QUERIES_MAX];
    // One function a case, so that the compiler sees it as a constant.
    if (a->low == TILE) {
        score_tile(a, keys, next, true);
        weigh_all(a, begin, partial, sees, factors);
        value_tile(a, values, next, first_block, end_block, true);
    } else {
        score_tile(a, keys, next, false);
        weigh_all(a, begin, partial, sees, factors);
        value_tile(a, values, next, first_block, end_block, false);
    }
    for (int32_t q = 0; q < a->n; q++)
        if (sees[q]) value_add(a, q, factors[q], partial->out + (size_t)q * (size_t)task->kv.head_dim);
}

void amx_attention_split(const struct attention_task *task, int32_t split, struct attention_partial *partial) {
    if (!fits(&task->kv)) {
        avx512_attention_split(task, split, partial);
        return;
    }
    struct attention a;
    attention_open(&a, task);
    for (int32_t q = 0; q < a.n; q++) partial->max[q] = -INFINITY, partial->sum[q] = 0;
    memset(partial->out, 0, (size_t)a.n * (size_t)task->kv.head_dim * sizeof *partial->out);
    int32_t begin = split * ATTENTION_SPLIT_TOKENS;
    int32_t end = least(begin + ATTENTION_SPLIT_TOKENS, task->position + task->n_rows);
    if (task->window)
        begin = most(begin, (task->position - task->window + 1) / ATTENTION_TILE_TOKENS * ATTENTION_TILE_TOKENS);
    for (; begin < end; begin += ATTENTION_TILE_TOKENS) attend_tile(&a, begin, partial);
    _tile_release(); // idle tiles would slow down every switch of threads
}
