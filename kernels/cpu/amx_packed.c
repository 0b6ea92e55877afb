// Products of INT8 and INT4 weights for many rows with AMX. A tile product gives the integers of one group, of sixteen
// rows and sixteen outputs, exactly; what follows is that of packed_integers.h, so the bits are those of all
// instruction sets. Codes are spread out less their zero point, so that sums start at 0.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/packed_integers.h"

enum {
    RING_GROUPS = 4, // whose integers wait in memory: what a tile wrote cannot be read at once
    PEAK_PRODUCTS = 4
};

// Tile registers: integers, activations and weights of two parts; and of the rows beside whole tiles.
#define SUM_0 0
#define SUM_1 1
#define ROWS 2
#define WEIGHTS_0 3
#define WEIGHTS_1 4
#define SUM_REST_0 5
#define SUM_REST_1 6
#define ROWS_REST 7

static void integer_tiles_open(int32_t n_rest) {
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < (n_rest ? 8 : SUM_REST_0); i++) {
        const bool is_weight = i == WEIGHTS_0 || i == WEIGHTS_1, is_rows = i == ROWS || i == ROWS_REST;
        config.n_rows[i] = is_weight ? PACKED_GROUP / PACKED_QUAD : i >= SUM_REST_0 ? (uint8_t)n_rest : TILE;
        config.row_bytes[i] = is_rows ? PACKED_GROUP : TILE_ROW_BYTES;
    }
    tile_config_load(&config);
}

// The instructions' names take numbers.
#define PRODUCT(sum, rows, weights, numbers, to)                                                                       \
    do {                                                                                                               \
        _tile_loadd(weights, numbers, TILE_ROW_BYTES);                                                                 \
        _tile_zero(sum);                                                                                               \
        if (has_offsets)                                                                                               \
            _tile_dpbsud(sum, rows, weights);                                                                          \
        else                                                                                                           \
            _tile_dpbssd(sum, rows, weights);                                                                          \
        _tile_stored(sum, to, TILE_ROW_BYTES);                                                                         \
    } while (0)

// The integers of [part][group of the ring][row][output].
struct ring {
    int32_t integers[SLICE_PARTS][RING_GROUPS][TILE * TILE] __attribute__((aligned(64)));
};

VEC_INLINE void group_integers(struct ring *ring, const struct slice *slice, int32_t g, const struct packed_group *x,
                               size_t stride, int32_t n_parts, bool whole, bool has_offsets) {
    int32_t *to[SLICE_PARTS] = {ring->integers[0][g % RING_GROUPS], ring->integers[1][g % RING_GROUPS]};
    if (whole) {
        _tile_loadd(ROWS, x, stride);
        PRODUCT(SUM_0, ROWS, WEIGHTS_0, slice->numbers[0][g], to[0]);
        if (n_parts == 2) PRODUCT(SUM_1, ROWS, WEIGHTS_1, slice->numbers[1][g], to[1]);
    } else {
        _tile_loadd(ROWS_REST, x, stride);
        PRODUCT(SUM_REST_0, ROWS_REST, WEIGHTS_0, slice->numbers[0][g], to[0]);
        if (n_parts == 2) PRODUCT(SUM_REST_1, ROWS_REST, WEIGHTS_1, slice->numbers[1][g], to[1]);
    }
}

// Adds groups [first, end) of a part to the sums of n_rows rows.
VEC_INLINE void integers_add(const struct ring *ring, const struct slice *slice, int32_t part, int32_t first,
                             int32_t end, const struct packed_group *x, size_t stride, bool has_offsets, vec *sums,
                             int32_t n_rows) {
    for (int32_t g = first; g < end; g++) {
        const int32_t *integers = ring->integers[part][g % RING_GROUPS];
        const vec scales = vec_load(slice->scales[part][g]);
        const vec offsets = has_offsets ? vec_load(slice->offsets[part][g]) : vec_zero();
#pragma GCC unroll 16
        for (int32_t r = 0; r < n_rows; r++) {
            const char *row = (const char *)x + (size_t)r * stride;
            const struct packed_group *group = (const struct packed_group *)(const void *)row + g;
            const vec sum = _mm512_cvtepi32_ps(_mm512_load_si512(integers + r * TILE));
            sums[r] = vec_fma(vec_mul(sum, vec_all(group->scale)), scales, sums[r]);
            if (has_offsets) sums[r] = vec_fma(offsets, vec_all(group->total), sums[r]);
        }
    }
}

VEC_INLINE void integers_add_whole(const struct ring *ring, const struct slice *slice, int32_t part, int32_t first,
                                   int32_t end, const struct packed_group *x, size_t stride, bool has_offsets,
                                   vec *kept) {
    vec sums[TILE];
#pragma GCC unroll 16
    for (int32_t r = 0; r < TILE; r++) sums[r] = kept[r];
    integers_add(ring, slice, part, first, end, x, stride, has_offsets, sums, TILE);
#pragma GCC unroll 16
    for (int32_t r = 0; r < TILE; r++) kept[r] = sums[r];
}

// Adds the slice's groups to the sums [part][SLICE_ROWS] of at most sixteen rows.
VEC_INLINE void rows_add(const struct slice *slice, const struct packed_group *x, size_t stride, int32_t n_groups,
                         enum tensor_format format, vec *sums, int32_t n_rows, int32_t n_parts) {
    const bool has_offsets = tensor_format_has_offsets(format), whole = n_rows == TILE;
    struct ring ring;
    for (int32_t first = 0; first < n_groups; first += RING_GROUPS) {
        const int32_t end = n_groups - first < RING_GROUPS ? n_groups : first + RING_GROUPS;
        if (whole)
            for (int32_t g = first; g < end; g++)
                group_integers(&ring, slice, g, x + g, stride, n_parts, true, has_offsets);
        else
            for (int32_t g = first; g < end; g++)
                group_integers(&ring, slice, g, x + g, stride, n_parts, false, has_offsets);
        tile_memory_written(&ring);
        for (int32_t i = 0; i < n_parts; i++)
            if (whole)
                integers_add_whole(&ring, slice, i, first, end, x, stride, has_offsets, sums + i * SLICE_ROWS);
            else
                integers_add(&ring, slice, i, first, end, x, stride, has_offsets, sums + i * SLICE_ROWS, n_rows);
        tile_memory_written(&ring);
    }
}

// n_parts parts of rows [row, row + n_rows), at most SLICE_ROWS.
VEC_INLINE void parts_product(struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t part,
                              int32_t row, int32_t n_rows, int32_t n_parts) {
    const int32_t all = packed_groups(m->weight->n_cols);
    const size_t stride = m->activation_stride;
    for (int32_t i = 0; i < n_parts; i++)
        for (int32_t r = 0; r < n_rows; r++) slice->sums[i * SLICE_ROWS + r] = vec_zero();
    for (int32_t group = 0; group < all; group += SLICE_GROUPS) {
        const int32_t n_groups = all - group < SLICE_GROUPS ? all - group : SLICE_GROUPS;
        slice_spread(slice, m, format, part, n_parts, group, n_groups, !tensor_format_has_offsets(format));
        tile_memory_written(slice);
        for (int32_t r = 0; r < n_rows; r += TILE) {
            const char *at = (const char *)m->activations + (size_t)(row + r) * stride;
            const struct packed_group *x = (const struct packed_group *)(const void *)at + group;
            rows_add(slice, x, stride, n_groups, format, slice->sums + r, n_rows - r < TILE ? n_rows - r : TILE,
                     n_parts);
        }
    }
    for (int32_t i = 0; i < n_parts; i++)
        for (int32_t r = 0; r < n_rows; r++) part_store(m, part + i, row + r, slice->sums[i * SLICE_ROWS + r]);
}

VEC_INLINE void rows_product(const struct matmul *m, enum tensor_format format) {
    const int32_t begin = m->out_first / VEC_N, end = (m->out_first + m->out_count + VEC_N - 1) / VEC_N;
    struct slice slice;
    integer_tiles_open(m->n_rows % TILE); // SLICE_ROWS are whole tiles
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
    if (m->n_rows <= FEW_ROWS || !tensor_format_is_integer(format))
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
    _tile_loadd(WEIGHTS_0, zeros, TILE_ROW_BYTES);
    _tile_loadd(WEIGHTS_1, zeros, TILE_ROW_BYTES);
    for (int32_t i = 0; i < n / 8; i++) {
        _tile_dpbssd(SUM_0, WEIGHTS_0, WEIGHTS_1);
        _tile_dpbssd(SUM_1, WEIGHTS_0, WEIGHTS_1);
        _tile_dpbssd(SUM_REST_0, WEIGHTS_0, WEIGHTS_1);
        _tile_dpbssd(SUM_REST_1, WEIGHTS_0, WEIGHTS_1);
    }
    _tile_release();
    return 2.0 * PEAK_PRODUCTS * TILE * TILE * TILE_ROW_BYTES * (n / 8);
}
