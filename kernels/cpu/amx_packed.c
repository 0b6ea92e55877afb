// Products of INT8 and INT4 weights for many rows with AMX. A tile product gives the integers of one group, of sixteen
// rows and sixteen outputs, exactly; what follows is that of packed_integers.h, so the bits are those of all
// instruction sets. Codes are spread out less their zero point, so that sums start at 0.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/packed_integers.h"

enum {
    RING_GROUPS = 8, // whose integers wait in memory: what a tile wrote cannot be read at once
    PEAK_PRODUCTS = 4
};

// Tile registers: integers, activations and weights of two groups in turn; and of the rows beside whole tiles.
#define SUM_0 0
#define SUM_1 1
#define ROWS_0 2
#define ROWS_1 3
#define WEIGHTS_0 4
#define WEIGHTS_1 5
#define SUM_REST 6
#define ROWS_REST 7

static void integer_tiles_open(int32_t n_rest) {
    struct tile_config config = {.palette = 1};
    for (int i = SUM_0; i <= SUM_1; i++) config.n_rows[i] = TILE, config.row_bytes[i] = TILE_ROW_BYTES;
    for (int i = ROWS_0; i <= ROWS_1; i++) config.n_rows[i] = TILE, config.row_bytes[i] = PACKED_GROUP;
    for (int i = WEIGHTS_0; i <= WEIGHTS_1; i++)
        config.n_rows[i] = PACKED_GROUP / PACKED_QUAD, config.row_bytes[i] = TILE_ROW_BYTES;
    if (n_rest) {
        config.n_rows[SUM_REST] = config.n_rows[ROWS_REST] = (uint8_t)n_rest;
        config.row_bytes[SUM_REST] = TILE_ROW_BYTES, config.row_bytes[ROWS_REST] = PACKED_GROUP;
    }
    tile_config_load(&config);
}

// The instructions' names take numbers.
#define PRODUCT(sum, rows, weights)                                                                                    \
    do {                                                                                                               \
        _tile_loadd(rows, activations, stride);                                                                        \
        _tile_loadd(weights, numbers, TILE_ROW_BYTES);                                                                 \
        _tile_zero(sum);                                                                                               \
        if (has_offsets)                                                                                               \
            _tile_dpbsud(sum, rows, weights);                                                                          \
        else                                                                                                           \
            _tile_dpbssd(sum, rows, weights);                                                                          \
        _tile_stored(sum, to, TILE_ROW_BYTES);                                                                         \
    } while (0)

VEC_INLINE void group_integers(int32_t *to, const void *activations, size_t stride, const char *numbers, bool odd,
                               bool whole, bool has_offsets) {
    if (!whole)
        PRODUCT(SUM_REST, ROWS_REST, WEIGHTS_0);
    else if (odd)
        PRODUCT(SUM_1, ROWS_1, WEIGHTS_1);
    else
        PRODUCT(SUM_0, ROWS_0, WEIGHTS_0);
}

// Adds the slice's groups of one part to sums[row].
VEC_INLINE void rows_add(const struct slice *slice, int32_t part, const struct packed_group *x, size_t stride,
                         int32_t n_groups, enum tensor_format format, vec *sums, int32_t n_rows, bool whole) {
    int32_t integers[RING_GROUPS][TILE * TILE] __attribute__((aligned(64)));
    const bool has_offsets = tensor_format_has_offsets(format);
    for (int32_t first = 0; first < n_groups; first += RING_GROUPS) {
        const int32_t end = n_groups - first < RING_GROUPS ? n_groups : first + RING_GROUPS;
        for (int32_t g = first; g < end; g++)
            group_integers(integers[g - first], x + g, stride, slice->numbers[part][g], g % 2, whole, has_offsets);
        tile_memory_written(integers);
        for (int32_t g = first; g < end; g++) {
            const vec scales = vec_load(slice->scales[part][g]);
            const vec offsets = has_offsets ? vec_load(slice->offsets[part][g]) : vec_zero();
#pragma GCC unroll 16
            for (int32_t r = 0; r < n_rows; r++) {
                const struct packed_group *group =
                    (const struct packed_group *)(const void *)((const char *)x + (size_t)r * stride) + g;
                const vec sum = _mm512_cvtepi32_ps(_mm512_load_si512(integers[g - first] + r * TILE));
                sums[r] = vec_fma(vec_mul(sum, vec_all(group->scale)), scales, sums[r]);
                if (has_offsets) sums[r] = vec_fma(offsets, vec_all(group->total), sums[r]);
            }
        }
        tile_memory_written(integers);
    }
}

VEC_INLINE void rows_add_whole(const struct slice *slice, int32_t part, const struct packed_group *x, size_t stride,
                               int32_t n_groups, enum tensor_format format, vec *kept) {
    vec sums[TILE];
#pragma GCC unroll 16
    for (int32_t r = 0; r < TILE; r++) sums[r] = kept[r];
    rows_add(slice, part, x, stride, n_groups, format, sums, TILE, true);
#pragma GCC unroll 16
    for (int32_t r = 0; r < TILE; r++) kept[r] = sums[r];
}

// n_parts parts of rows [row, row + n_rows), at most SLICE_ROWS; sums are [part][SLICE_ROWS].
VEC_INLINE void parts_product(struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t part,
                              int32_t row, int32_t n_rows, int32_t n_parts) {
    const int32_t all = packed_groups(m->weight->n_cols);
    const size_t stride = m->activation_stride;
    for (int32_t i = 0; i < SLICE_ROWS * SLICE_PARTS; i++) slice->sums[i] = vec_zero();
    for (int32_t group = 0; group < all; group += SLICE_GROUPS) {
        const int32_t n_groups = all - group < SLICE_GROUPS ? all - group : SLICE_GROUPS;
        slice_spread(slice, m, format, part, n_parts, group, n_groups, !tensor_format_has_offsets(format));
        tile_memory_written(slice);
        for (int32_t r = 0; r < n_rows; r += TILE) {
            const char *at = (const char *)m->activations + (size_t)(row + r) * stride;
            const struct packed_group *x = (const struct packed_group *)(const void *)at + group;
            for (int32_t i = 0; i < n_parts; i++) {
                vec *sums = slice->sums + i * SLICE_ROWS + r;
                if (n_rows - r >= TILE)
                    rows_add_whole(slice, i, x, stride, n_groups, format, sums);
                else
                    rows_add(slice, i, x, stride, n_groups, format, sums, n_rows - r, false);
            }
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
        for (int32_t part = begin; part < end; part += SLICE_PARTS)
            parts_product(&slice, m, format, part, row, n_rows, end - part < SLICE_PARTS ? end - part : SLICE_PARTS);
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
        _tile_dpbssd(ROWS_0, WEIGHTS_0, WEIGHTS_1);
        _tile_dpbssd(ROWS_1, WEIGHTS_0, WEIGHTS_1);
    }
    _tile_release();
    return 2.0 * PEAK_PRODUCTS * TILE * TILE * TILE_ROW_BYTES * (n / 8);
}
