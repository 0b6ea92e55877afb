// Products of INT8 and INT4 weights for many rows with AMX. A tile product gives the integers of one group, of sixteen
// rows and sixteen outputs, exactly; what follows is that of packed_integers.h, so the bits are those of all
// instruction sets. Codes are spread out less their zero point, so that sums start at 0.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/packed_integers.h"

enum {
    AHEAD_GROUPS = 3, // what a tile wrote cannot be read at once: meanwhile the next groups are multiplied
    RING_GROUPS = 4,
    RUN_GROUPS = 8, // whose activations and weights stay in the first-level cache
    HALF_TILE = TILE / 2,
    PEAK_PRODUCTS = 4
};

// Tile registers.
#define SUM 0
#define ROWS 1
#define WEIGHTS 2

static void integer_tiles_open(void) {
    struct tile_config config = {.palette = 1};
    config.n_rows[SUM] = config.n_rows[ROWS] = TILE;
    config.n_rows[WEIGHTS] = PACKED_GROUP / PACKED_QUAD;
    config.row_bytes[SUM] = config.row_bytes[WEIGHTS] = TILE_ROW_BYTES;
    config.row_bytes[ROWS] = PACKED_GROUP;
    tile_config_load(&config);
}

// The integers of some groups: [row][output]. As large as a page, so that no read looks like one of what is just
// being written.
struct ring {
    int32_t integers[RING_GROUPS][TILE * TILE] __attribute__((aligned(64)));
};

// A part of a slice, sixteen rows, and where the next slice's part lies, to be fetched meanwhile, or NULL.
struct part_run {
    const struct slice *slice;
    const struct packed_group *rows;
    const char *next_numbers, *next_scales;
    size_t stride;
    int32_t part, n_groups;
};

VEC_INLINE void group_multiply(struct ring *ring, const struct part_run *run, int32_t g, bool has_offsets) {
    _tile_loadd(ROWS, run->rows + g, run->stride);
    _tile_loadd(WEIGHTS, run->slice->numbers[run->part][g], TILE_ROW_BYTES);
    _tile_zero(SUM);
    if (has_offsets)
        _tile_dpbsud(SUM, ROWS, WEIGHTS);
    else
        _tile_dpbssd(SUM, ROWS, WEIGHTS);
    _tile_stored(SUM, ring->integers[g % RING_GROUPS], TILE_ROW_BYTES);
    tile_memory_written(ring);
}

// Keeps the compiler from holding an address a row in registers.
VEC_INLINE const char *rows_behind(const char *row, size_t n_bytes) {
    row += n_bytes;
    __asm__("" : "+r"(row));
    return row;
}

// Adds a group to the sums of n_rows rows.
VEC_INLINE void group_add(const struct ring *ring, const struct part_run *run, int32_t g, bool has_offsets, vec *sums,
                          int32_t n_rows) {
    const int32_t *integers = ring->integers[g % RING_GROUPS];
    const char *four_rows = (const char *)(run->rows + g);
    const vec scales = vec_load(run->slice->scales[run->part][g]);
    const vec offsets = has_offsets ? vec_load(run->slice->offsets[run->part][g]) : vec_zero();
#pragma GCC unroll 16
    for (int32_t r = 0; r < n_rows; r++) {
        if (r > 0 && r % 4 == 0) four_rows = rows_behind(four_rows, 4 * run->stride);
        const struct packed_group *group =
            (const struct packed_group *)(const void *)(four_rows + (size_t)(r % 4) * run->stride);
        const vec sum = _mm512_cvtepi32_ps(_mm512_load_si512(integers + r * TILE));
        sums[r] = vec_fma(vec_mul(sum, vec_all(group->scale)), scales, sums[r]);
        if (has_offsets) sums[r] = vec_fma(offsets, vec_all(group->total), sums[r]);
    }
}

VEC_INLINE void group_fetch(const struct part_run *run, int32_t g, enum tensor_format format) {
    if (!run->next_numbers) return;
    const size_t n_bytes = packed_group_bytes(format);
    for (size_t at = 0; at < n_bytes; at += PACKED_LINE)
        _mm_prefetch(run->next_numbers + (size_t)g * n_bytes + at, _MM_HINT_T1);
    _mm_prefetch(run->next_scales + (size_t)g * PACKED_OUTPUTS * sizeof(uint16_t), _MM_HINT_T1);
}

// Adds the groups to what is kept of n_rows rows' sums; nothing is before the first slice.
VEC_INLINE void part_run(const struct part_run *run, enum tensor_format format, vec *kept, bool is_first,
                         int32_t n_rows) {
    const bool has_offsets = tensor_format_has_offsets(format);
    struct ring ring;
    vec sums[TILE];
#pragma GCC unroll 16
    for (int32_t r = 0; r < n_rows; r++) sums[r] = is_first ? vec_zero() : kept[r];
    for (int32_t g = 0; g < AHEAD_GROUPS && g < run->n_groups; g++) group_multiply(&ring, run, g, has_offsets);
    for (int32_t g = 0; g < run->n_groups; g++) {
        group_fetch(run, g, format);
        if (g + AHEAD_GROUPS < run->n_groups) group_multiply(&ring, run, g + AHEAD_GROUPS, has_offsets);
        group_add(&ring, run, g, has_offsets, sums, n_rows);
    }
#pragma GCC unroll 16
    for (int32_t r = 0; r < n_rows; r++) kept[r] = sums[r];
}

// The groups of a slice and all rows.
struct slice_range {
    int32_t row, n_rows, group, n_groups;
};

// Part i of the slice that begins with `part`.
VEC_INLINE void slice_part(struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t part,
                           int32_t n_parts, int32_t i, const struct slice_range *range) {
    const int32_t behind = range->group + range->n_groups,
                  next = behind < packed_groups(m->weight->n_cols) ? behind : 0;
    const struct integer_part from = part_at(m, format, part + i + (next ? 0 : n_parts));
    const char *x = (const char *)m->activations + (size_t)range->row * m->activation_stride;
    struct part_run run = {.slice = slice,
                           .rows = (const struct packed_group *)(const void *)x + range->group,
                           .next_numbers = from.numbers + (size_t)next * packed_group_bytes(format),
                           .next_scales = from.scales + (size_t)next * PACKED_OUTPUTS * sizeof(uint16_t),
                           .stride = m->activation_stride,
                           .part = i,
                           .n_groups = range->n_groups};
    for (int32_t r = 0; r < range->n_rows; r += TILE) {
        vec *sums = slice->sums + i * SLICE_ROWS + r;
        if (range->n_rows - r > HALF_TILE)
            part_run(&run, format, sums, range->group == 0, TILE);
        else
            part_run(&run, format, sums, range->group == 0, HALF_TILE);
        run.rows = (const struct packed_group *)(const void *)((const char *)run.rows + TILE * run.stride);
        run.next_numbers = NULL;
    }
}

// n_parts parts of rows [row, row + n_rows), at most SLICE_ROWS. Rows beyond the last are multiplied, too: prepared
// rows are a multiple of a tile's.
VEC_INLINE void parts_product(struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t part,
                              int32_t row, int32_t n_rows, int32_t n_parts) {
    const int32_t all = packed_groups(m->weight->n_cols);
    struct slice_range range = {.row = row, .n_rows = n_rows};
    for (; range.group < all; range.group += RUN_GROUPS) {
        range.n_groups = all - range.group < RUN_GROUPS ? all - range.group : RUN_GROUPS;
        slice_spread(slice, m, format, part, n_parts, range.group, range.n_groups, !tensor_format_has_offsets(format),
                     false);
        tile_memory_written(slice);
        for (int32_t i = 0; i < n_parts; i++) slice_part(slice, m, format, part, n_parts, i, &range);
    }
    for (int32_t i = 0; i < n_parts; i++)
        for (int32_t r = 0; r < n_rows; r++) part_store(m, part + i, row + r, slice->sums[i * SLICE_ROWS + r]);
}

VEC_INLINE void rows_product(const struct matmul *m, enum tensor_format format) {
    const int32_t begin = m->out_first / VEC_N, end = (m->out_first + m->out_count + VEC_N - 1) / VEC_N;
    struct slice slice;
    integer_tiles_open();
    for (int32_t row = 0; row < m->n_rows; row += SLICE_ROWS) {
        const int32_t n_rows = m->n_rows - row < SLICE_ROWS ? m->n_rows - row : SLICE_ROWS;
        int32_t part = begin;
        for (; part + SLICE_PARTS <= end; part += SLICE_PARTS)
            parts_product(&slice, m, format, part, row, n_rows, SLICE_PARTS);
        for (; part < end; part++) parts_product(&slice, m, format, part, row, n_rows, 1);
    }
    _tile_release(); // idle tiles would slow down every switch of threads
}

// One function a format, so that the compiler sees each as a constant.
static void product_int8(const struct matmul *m) {
    rows_product(m, TENSOR_INT8);
}
static void product_int4(const struct matmul *m) {
    rows_product(m, TENSOR_INT4);
}
static void product_int8_offset(const struct matmul *m) {
    rows_product(m, TENSOR_INT8_OFFSET);
}
static void product_int4_offset(const struct matmul *m) {
    rows_product(m, TENSOR_INT4_OFFSET);
}

void amx_matmul_packed(const struct matmul *m) {
    const enum tensor_format format = m->weight->format;
    if (format == TENSOR_FP8)
        amx_matmul_fp8(m);
    else if (m->n_rows <= FEW_ROWS)
        avx512_matmul_packed(m);
    else if (format == TENSOR_INT8)
        product_int8(m);
    else if (format == TENSOR_INT4)
        product_int4(m);
    else if (format == TENSOR_INT8_OFFSET)
        product_int8_offset(m);
    else
        product_int4_offset(m);
}

double amx_peak_int8(int32_t n) {
    static const char zeros[TILE_BYTES] __attribute__((aligned(64)));
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.n_rows[i] = TILE, config.row_bytes[i] = TILE_ROW_BYTES;
    tile_config_load(&config);
    _tile_loadd(6, zeros, TILE_ROW_BYTES);
    _tile_loadd(7, zeros, TILE_ROW_BYTES);
    for (int32_t i = 0; i < n / 8; i++) {
        _tile_dpbssd(0, 6, 7);
        _tile_dpbssd(1, 6, 7);
        _tile_dpbssd(2, 6, 7);
        _tile_dpbssd(3, 6, 7);
    }
    _tile_release();
    return 2.0 * PEAK_PRODUCTS * TILE * TILE * TILE_ROW_BYTES * (n / 8);
}
