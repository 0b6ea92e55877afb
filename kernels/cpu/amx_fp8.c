// Products of FP8 weights with AMX. The weights of a slice, some parts and the inputs of one scale, are kept as BF16
// tiles in the first-level cache while a block of rows passes them; meanwhile the next slice becomes BF16, piece by
// piece between the tile products. A tile of sums is [row][output]. The sums of a scale's inputs begin at 0, so that
// their order is one for all numbers of rows.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/fp8_bf16.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/packed_part.h"

enum {
    STEP_INPUTS = PACKED_GROUP, // of a tile product
    STEPS_MAX = PACKED_FP8_GROUP / STEP_INPUTS,
    STEP_LINES = STEP_INPUTS / PACKED_QUAD,
    SLICE_PARTS = 4,
    BLOCK_ROWS = 256
};

// Tile registers behind the sums of (tile of rows, part).
#define ROWS_0 4
#define ROWS_1 5
#define PART_0 6
#define PART_1 7

// Tiles of fewer rows take less time.
static void fp8_tiles_open(int32_t n_rows) {
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < N_TILES; i++) {
        config.row_bytes[i] = TILE_ROW_BYTES;
        config.n_rows[i] = i == PART_0 || i == PART_1 || n_rows > TILE ? TILE : (uint8_t)n_rows;
    }
    tile_config_load(&config);
}

// --------------------------------------------------------------------------------------------------------- slices

// Up to SLICE_PARTS parts, and the inputs of one scale.
struct slice {
    int32_t part, n_parts, group, n_steps;
};

static int32_t group_steps(const struct matmul *m, int32_t group) {
    const int32_t left = packed_groups(m->weight->n_cols) - group * STEPS_MAX;
    return left < STEPS_MAX ? left : STEPS_MAX;
}

// With the first inputs. Behind the range of outputs it has no parts.
static struct slice slice_first(const struct matmul *m, int32_t part) {
    const int32_t left = (m->out_first + m->out_count + TILE - 1) / TILE - part;
    return (struct slice){part, left < SLICE_PARTS ? left : SLICE_PARTS, 0, group_steps(m, 0)};
}

static bool slice_is_last(const struct matmul *m, const struct slice *s) {
    return group_steps(m, s->group + 1) <= 0; // of its parts
}

// The next inputs, or the next parts.
static struct slice slice_next(const struct matmul *m, const struct slice *s) {
    if (slice_is_last(m, s)) return slice_first(m, s->part + s->n_parts);
    return (struct slice){s->part, s->n_parts, s->group + 1, group_steps(m, s->group + 1)};
}

static const char *part_block(const struct matmul *m, int32_t part) {
    return (const char *)m->weight->data + (size_t)part * packed_block_bytes(TENSOR_FP8, m->weight->n_cols);
}

static const char *slice_lines(const struct matmul *m, const struct slice *s, int32_t i, int32_t step) {
    return part_block(m, s->part + i) + (size_t)(s->group * STEPS_MAX + step) * STEP_LINES * PACKED_LINE;
}

static vec slice_scales(const struct matmul *m, const struct slice *s, int32_t i) {
    const char *plane = part_block(m, s->part + i) + packed_scales_at(TENSOR_FP8, m->weight->n_cols);
    return vec_load((const float *)(const void *)plane + (size_t)s->group * PACKED_OUTPUTS);
}

// ------------------------------------------------------------------------------------------------------ its products

// Products of two tiles of rows and two parts that are not added up yet: what a tile wrote cannot be read at once.
struct pending {
    struct slice slice;
    int32_t part, row, n_rows; // parts from here of the slice, rows of the block; no rows: there is nothing
    float (*inner)[2][TILE * TILE];
};

struct passing {
    const struct matmul *m;
    int32_t row, n_rows; // the block
    struct slice now, next, ahead;
    int32_t n_spread, spread_at_once; // of the next slice: steps of parts
    int which;                        // of the weights is now
    struct pending pending;
    char weights[2][SLICE_PARTS][STEPS_MAX][TILE_BYTES] __attribute__((aligned(64)));
    float inner[2][2][2][TILE * TILE] __attribute__((aligned(64)));
    float sums[SLICE_PARTS][BLOCK_ROWS][TILE] __attribute__((aligned(64)));
};

// One step of one part to BF16, and what comes `ahead` on its way.
VEC_INLINE void lines_spread(char *tile, const char *lines, const char *ahead) {
#pragma GCC unroll 8
    for (size_t q = 0; q < STEP_LINES; q++) {
        _mm_prefetch(ahead + q * PACKED_LINE, _MM_HINT_T0);
        const struct fp8_pairs pairs = fp8_pairs_load(lines + q * PACKED_LINE);
        _mm512_store_si512(tile + 2 * q * TILE_ROW_BYTES, pairs.even);
        _mm512_store_si512(tile + (2 * q + 1) * TILE_ROW_BYTES, pairs.odd);
    }
}

// The next n of the next slice.
static void spread_some(struct passing *p, int32_t n) {
    const struct slice *next = &p->next;
    for (; n > 0 && p->n_spread < next->n_parts * next->n_steps; n--, p->n_spread++) {
        const int32_t i = p->n_spread % next->n_parts, step = p->n_spread / next->n_parts;
        lines_spread(p->weights[!p->which][i][step], slice_lines(p->m, next, i, step),
                     slice_lines(p->m, &p->ahead, i, step));
    }
    tile_memory_written(p);
}

// Behind the last inputs of its parts the outputs are done.
static void pending_add(struct passing *p) {
    const struct pending *done = &p->pending;
    const bool first = done->slice.group == 0, last = slice_is_last(p->m, &done->slice);
    const int32_t n_parts = done->slice.n_parts - done->part < 2 ? 1 : 2;
    for (int32_t j = 0; j < n_parts && done->n_rows > 0; j++) {
        const vec scales = slice_scales(p->m, &done->slice, done->part + j);
        float(*sums)[TILE] = &p->sums[done->part + j][done->row];
        for (int32_t r = 0; r < done->n_rows; r++) {
            const vec inner = vec_load(&done->inner[r / TILE][j][r % TILE * TILE]);
            const vec sum = vec_fma(inner, scales, first ? vec_zero() : vec_load(sums[r]));
            if (last)
                part_store(p->m, done->slice.part + done->part + j, p->row + done->row + r, sum);
            else
                vec_store(sums[r], sum);
        }
    }
}

// The product of a step for each pair of tiles of rows and parts.
VEC_INLINE void step_multiply(const char *rows, size_t stride, const char *tile, int32_t n_tiles, int32_t n_parts) {
    _tile_loadd(ROWS_0, rows, stride);
    _tile_loadd(PART_0, tile, TILE_ROW_BYTES);
    _tile_dpbf16ps(SUM_00, ROWS_0, PART_0);
    if (n_parts == 2) _tile_loadd(PART_1, tile + STEPS_MAX * TILE_BYTES, TILE_ROW_BYTES);
    if (n_parts == 2) _tile_dpbf16ps(SUM_01, ROWS_0, PART_1);
    if (n_tiles == 1) return;
    _tile_loadd(ROWS_1, rows + TILE * stride, stride);
    _tile_dpbf16ps(SUM_10, ROWS_1, PART_0);
    if (n_parts == 2) _tile_dpbf16ps(SUM_11, ROWS_1, PART_1);
}

VEC_INLINE void sums_keep(float (*inner)[2][TILE * TILE], int32_t n_tiles, int32_t n_parts) {
    _tile_stored(SUM_00, inner[0][0], TILE_ROW_BYTES);
    if (n_parts == 2) _tile_stored(SUM_01, inner[0][1], TILE_ROW_BYTES);
    if (n_tiles == 2) _tile_stored(SUM_10, inner[1][0], TILE_ROW_BYTES);
    if (n_tiles == 2 && n_parts == 2) _tile_stored(SUM_11, inner[1][1], TILE_ROW_BYTES);
    tile_memory_written(inner);
}

// n_parts parts from `part` of the slice, n_tiles tiles of rows from `row` of the block.
VEC_INLINE void tiles_multiply(struct passing *p, int32_t part, int32_t row, int32_t n_tiles, int32_t n_parts) {
    const struct matmul *m = p->m;
    const char *rows = (const char *)m->activations + (size_t)(p->row + row) * m->activation_stride +
                       (size_t)p->now.group * STEPS_MAX * TILE_ROW_BYTES;
    float(*inner)[2][TILE * TILE] = p->inner[p->pending.inner == p->inner[0]];
    sums_zero();
    for (int32_t step = 0; step < p->now.n_steps; step++) {
        step_multiply(rows + (size_t)step * TILE_ROW_BYTES, m->activation_stride, p->weights[p->which][part][step],
                      n_tiles, n_parts);
        if (step == 0) pending_add(p);
        spread_some(p, p->spread_at_once);
    }
    sums_keep(inner, n_tiles, n_parts);
    const int32_t left = p->n_rows - row, n_rows = left < n_tiles * TILE ? left : n_tiles * TILE;
    p->pending = (struct pending){p->now, part, row, n_rows, inner};
}

static void slice_multiply(struct passing *p) {
    for (int32_t row = 0; row < p->n_rows; row += 2 * TILE)
        for (int32_t part = 0; part < p->now.n_parts; part += 2) {
            const bool two_tiles = p->n_rows - row > TILE, two_parts = p->now.n_parts - part > 1;
            if (two_tiles && two_parts)
                tiles_multiply(p, part, row, 2, 2);
            else if (two_tiles)
                tiles_multiply(p, part, row, 2, 1);
            else if (two_parts)
                tiles_multiply(p, part, row, 1, 2);
            else
                tiles_multiply(p, part, row, 1, 1);
        }
}

static int32_t divide_up(int32_t a, int32_t b) {
    return (a + b - 1) / b;
}

static void passing_advance(struct passing *p) {
    spread_some(p, SLICE_PARTS * STEPS_MAX);
    p->now = p->next, p->next = p->ahead, p->ahead = slice_next(p->m, &p->next);
    p->which = !p->which;
    p->n_spread = 0;
    const int32_t n_products = divide_up(p->n_rows, 2 * TILE) * divide_up(p->now.n_parts, 2) * p->now.n_steps;
    if (p->now.n_parts > 0) p->spread_at_once = divide_up(p->next.n_parts * p->next.n_steps, n_products);
}

void amx_matmul_fp8(const struct matmul *m) {
    struct passing p;
    fp8_tiles_open(m->n_rows);
    p.m = m;
    for (p.row = 0; p.row < m->n_rows; p.row += BLOCK_ROWS) {
        p.n_rows = m->n_rows - p.row < BLOCK_ROWS ? m->n_rows - p.row : BLOCK_ROWS;
        p.next = slice_first(m, m->out_first / TILE), p.ahead = slice_next(m, &p.next);
        p.n_spread = p.which = 0;
        p.pending = (struct pending){0};
        for (passing_advance(&p); p.now.n_parts > 0; passing_advance(&p)) slice_multiply(&p);
        pending_add(&p);
    }
    _tile_release(); // idle tiles would slow down every switch of threads
}
