// Products of INT8 and INT4 weights. Included once for each instruction set, by packed_template.h.
//
// With few rows the weights come from memory and are taken as they lie, several parts at once, from places of the range
// that are far apart: as many long streams, whose next lines are always worth fetching ahead. With many, a slice of a
// few parts is spread out once into bytes and F32 scales that stay in the first-level cache while all rows pass it.
#pragma once

#include "kernels/cpu/packed_part.h"
#include "kernels/cpu/packed_vectors.h"

enum {
    FEW_ROWS = 8,     // pass the weights as they lie
    FETCHED_ROWS = 8, // leave so much time that the processor would wait for memory
    PARTS_MAX = 4,
    TILE_SUMS_MAX = 12,
    SLICE_PARTS = 2,
    SLICE_GROUPS = 16,
    SLICE_TILE_ROWS = VEC_N == 16 ? 6 : 2, // sums of integers and floats of a slice's parts fit into the registers
    SLICE_ROWS = 64
};

// Where the first group of a part of the weights lies: its lines, scales and offsets.
struct integer_part {
    const char *numbers, *scales, *offsets;
};

struct integer_tile {
    struct integer_part parts[PARTS_MAX];
    const struct packed_group *rows[FEW_ROWS];
    int32_t n_groups;
    size_t next_rows; // bytes from these rows to the next ones
    bool spread;      // lines of bytes, and F32 scales and offsets, of one part alone
    bool fetch;
};

// Both quads of a pair.
VEC_INLINE void pair_load(ivec *quads, const char *at, enum tensor_format format, bool spread) {
    const ivec first = ivec_load(at);
    quads[0] = tensor_format_is_int4(format) && !spread ? ivec_low(first) : first;
    quads[1] = tensor_format_is_int4(format) && !spread ? ivec_high(first)
                                                        : ivec_load(at + (spread ? sizeof(ivec) : (size_t)PACKED_LINE));
}

// Scales or offsets.
VEC_INLINE vec scales_load(const struct integer_tile *t, const char *plane, int32_t g) {
    if (t->spread) return vec_load((const float *)(const void *)plane + (size_t)g * VEC_N);
    return vec_load_f16((const uint16_t *)(const void *)plane + (size_t)g * PACKED_OUTPUTS);
}

VEC_INLINE size_t group_bytes(const struct integer_tile *t, enum tensor_format format) {
    return t->spread ? (size_t)VEC_N * PACKED_GROUP : packed_group_bytes(format);
}

// One group of all parts and rows.
VEC_INLINE void integers_group(const struct integer_tile *t, enum tensor_format format, int32_t g, int32_t n_parts,
                               int32_t n_rows, vec *sums) {
    const size_t n_bytes = group_bytes(t, format), pair_bytes = n_bytes / (PACKED_GROUP / PACKED_QUAD / 2);
    ivec inner[TILE_SUMS_MAX];
#pragma GCC unroll 8
    for (int32_t r = 0; r < n_rows; r++) {
        const ivec begin = group_begin(&t->rows[r][g], format);
        if (t->spread) _mm_prefetch((const char *)&t->rows[r][g] + t->next_rows, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int32_t i = 0; i < n_parts; i++) inner[i * n_rows + r] = begin;
    }
#pragma GCC unroll 4
    for (int32_t pair = 0; pair < PACKED_GROUP / PACKED_QUAD / 2; pair++) {
        ivec weights[PARTS_MAX][2];
#pragma GCC unroll 4
        for (int32_t i = 0; i < n_parts; i++) {
            const char *line = t->parts[i].numbers + (size_t)g * n_bytes + (size_t)pair * pair_bytes;
            pair_load(weights[i], line, format, t->spread);
            if (t->fetch) _mm_prefetch(line + FETCH_BYTES, _MM_HINT_T0);
            if (t->fetch && !tensor_format_is_int4(format)) _mm_prefetch(line + FETCH_BYTES + PACKED_LINE, _MM_HINT_T0);
        }
#pragma GCC unroll 2
        for (int32_t q = 0; q < 2; q++)
#pragma GCC unroll 8
            for (int32_t r = 0; r < n_rows; r++) {
                const ivec quad = quad_load(t->rows[r][g].numbers + (2 * pair + q) * PACKED_QUAD);
#pragma GCC unroll 4
                for (int32_t i = 0; i < n_parts; i++)
                    inner[i * n_rows + r] =
                        quad_add(inner[i * n_rows + r], weights[i][q], quad, format, pair == 0 && q == 0);
            }
    }
#pragma GCC unroll 4
    for (int32_t i = 0; i < n_parts; i++) {
        const vec scales = scales_load(t, t->parts[i].scales, g);
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++)
            sums[i * n_rows + r] =
                vec_fma(group_end(inner[i * n_rows + r], &t->rows[r][g], format), scales, sums[i * n_rows + r]);
        if (!tensor_format_has_offsets(format)) continue;
        const vec offsets = scales_load(t, t->parts[i].offsets, g);
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++)
            sums[i * n_rows + r] = vec_fma(offsets, vec_all(t->rows[r][g].total), sums[i * n_rows + r]);
    }
}

VEC_INLINE void tile_rows(struct integer_tile *t, const struct matmul *m, int32_t row, int32_t group, int32_t n_rows) {
    for (int32_t r = 0; r < n_rows; r++) {
        const char *x = (const char *)m->activations + (size_t)(row + r) * m->activation_stride;
        t->rows[r] = (const struct packed_group *)(const void *)x + group;
    }
}

// ------------------------------------------------------------------------------------------------ weights as they lie

VEC_INLINE struct integer_part part_at(const struct matmul *m, enum tensor_format format, int32_t part) {
    const char *block =
        (const char *)m->weight->data + (size_t)(part / PARTS) * packed_block_bytes(format, m->weight->n_cols);
    const size_t lane = (size_t)(part % PARTS), scale = lane * VEC_N * sizeof(uint16_t);
    return (struct integer_part){.numbers = block + lane * PART_LINE,
                                 .scales = block + packed_scales_at(format, m->weight->n_cols) + scale,
                                 .offsets = block + packed_offsets_at(format, m->weight->n_cols) + scale};
}

// Parts part, part + spacing, ... of all rows.
VEC_INLINE void few_tile(const struct matmul *m, enum tensor_format format, int32_t part, int32_t spacing,
                         int32_t n_parts, int32_t n_rows) {
    struct integer_tile t = {.n_groups = packed_groups(m->weight->n_cols), .fetch = n_rows <= FETCHED_ROWS};
    tile_rows(&t, m, 0, 0, n_rows);
    vec sums[TILE_SUMS_MAX];
#pragma GCC unroll 4
    for (int32_t i = 0; i < n_parts; i++) t.parts[i] = part_at(m, format, part + i * spacing);
#pragma GCC unroll 12
    for (int32_t i = 0; i < n_parts * n_rows; i++) sums[i] = vec_zero();
    for (int32_t g = 0; g < t.n_groups; g++) integers_group(&t, format, g, n_parts, n_rows, sums);
#pragma GCC unroll 4
    for (int32_t i = 0; i < n_parts; i++)
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++) part_store(m, part + i * spacing, r, sums[i * n_rows + r]);
}

VEC_INLINE void few_rows(const struct matmul *m, enum tensor_format format, int32_t n_rows) {
    const int32_t n_parts = n_rows == 1 ? 4 : n_rows <= TILE_SUMS_MAX / 2 ? 2 : 1;
    int32_t part = m->out_first / VEC_N, end = (m->out_first + m->out_count + VEC_N - 1) / VEC_N;
    const int32_t length = (end - part) / n_parts;
    for (int32_t i = 0; i < length; i++) few_tile(m, format, part + i, length, n_parts, n_rows);
    for (part += length * n_parts; part < end; part++) few_tile(m, format, part, 1, 1, n_rows);
}

// ------------------------------------------------------------------------------------------- weights that are spread
// out

struct slice {
    char numbers[SLICE_PARTS][SLICE_GROUPS][VEC_N * PACKED_GROUP] __attribute__((aligned(64)));
    float scales[SLICE_PARTS][SLICE_GROUPS][VEC_N] __attribute__((aligned(64)));
    float offsets[SLICE_PARTS][SLICE_GROUPS][VEC_N] __attribute__((aligned(64)));
    vec sums[SLICE_ROWS * SLICE_PARTS];
};

// A group of a part as lines of bytes: codes, or codes less the zero point.
VEC_INLINE void group_spread(char *to, const char *lines, enum tensor_format format, bool less_zero) {
    const bool is_int4 = tensor_format_is_int4(format);
    const ivec flip = ivec_all((int32_t)0x80808080);
#pragma GCC unroll 4
    for (int32_t pair = 0; pair < PACKED_GROUP / PACKED_QUAD / 2; pair++, to += 2 * sizeof(ivec)) {
        ivec quads[2];
        pair_load(quads, lines + (size_t)(is_int4 ? pair : 2 * pair) * PACKED_LINE, format, false);
#pragma GCC unroll 2
        for (int32_t q = 0; q < 2; q++) {
            if (less_zero) quads[q] = is_int4 ? ivec_less_8(quads[q]) : ivec_xor(quads[q], flip);
            ivec_store(to + (size_t)q * sizeof(ivec), quads[q]);
        }
    }
}

// Groups [group, group + n_groups) of n_parts parts. What comes next is on its way meanwhile.
VEC_INLINE void slice_spread(struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t part,
                             int32_t n_parts, int32_t group, int32_t n_groups, bool less_zero) {
    const size_t n_bytes = packed_group_bytes(format);
    const bool last = group + n_groups == packed_groups(m->weight->n_cols);
    for (int32_t i = 0; i < n_parts; i++) {
        const struct integer_part from = part_at(m, format, part + i);
        const char *lines = from.numbers + (size_t)group * n_bytes;
        const char *next = last ? part_at(m, format, part + i + n_parts).numbers : lines + (size_t)n_groups * n_bytes;
        for (int32_t g = 0; g < n_groups; g++) {
            for (size_t at = 0; at < n_bytes; at += PACKED_LINE)
                _mm_prefetch(next + (size_t)g * n_bytes + at, _MM_HINT_T1);
            group_spread(slice->numbers[i][g], lines + (size_t)g * n_bytes, format, less_zero);
            const size_t at = (size_t)(group + g) * PACKED_OUTPUTS * sizeof(uint16_t);
            vec_store(slice->scales[i][g], vec_load_f16((const uint16_t *)(const void *)(from.scales + at)));
            if (tensor_format_has_offsets(format))
                vec_store(slice->offsets[i][g], vec_load_f16((const uint16_t *)(const void *)(from.offsets + at)));
        }
    }
}

// Adds a slice's groups to the sums of rows [row, row + n_rows), [part][row].
VEC_INLINE void slice_tile(const struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t row,
                           int32_t group, int32_t n_groups, vec *kept, int32_t n_parts, int32_t n_rows) {
    struct integer_tile t = {.n_groups = n_groups, .spread = true, .next_rows = (size_t)n_rows * m->activation_stride};
    tile_rows(&t, m, row, group, n_rows);
    vec sums[TILE_SUMS_MAX];
#pragma GCC unroll 4
    for (int32_t i = 0; i < n_parts; i++)
        t.parts[i] = (struct integer_part){slice->numbers[i][0], (const char *)slice->scales[i][0],
                                           (const char *)slice->offsets[i][0]};
#pragma GCC unroll 12
    for (int32_t i = 0; i < n_parts * n_rows; i++) sums[i] = kept[i];
    for (int32_t g = 0; g < n_groups; g++) integers_group(&t, format, g, n_parts, n_rows, sums);
#pragma GCC unroll 12
    for (int32_t i = 0; i < n_parts * n_rows; i++) kept[i] = sums[i];
}

VEC_INLINE void slice_rows(const struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t row,
                           int32_t group, int32_t n_groups, vec *kept, int32_t n_parts, int32_t n_rows) {
    switch (n_rows) {
    case 1:
        slice_tile(slice, m, format, row, group, n_groups, kept, n_parts, 1);
        break;
    case 2:
        slice_tile(slice, m, format, row, group, n_groups, kept, n_parts, 2);
        break;
#if defined(__AVX512F__)
    case 3:
        slice_tile(slice, m, format, row, group, n_groups, kept, n_parts, 3);
        break;
    case 4:
        slice_tile(slice, m, format, row, group, n_groups, kept, n_parts, 4);
        break;
    case 5:
        slice_tile(slice, m, format, row, group, n_groups, kept, n_parts, 5);
        break;
    case 6:
        slice_tile(slice, m, format, row, group, n_groups, kept, n_parts, 6);
        break;
#endif
    default:
        break;
    }
}

// n_parts parts of rows [row, row + n_rows), at most SLICE_ROWS, in even tiles.
VEC_INLINE void slice_run(struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t part,
                          int32_t row, int32_t n_rows, int32_t n_parts) {
    const int32_t all = packed_groups(m->weight->n_cols), n_tiles = (n_rows + SLICE_TILE_ROWS - 1) / SLICE_TILE_ROWS;
    for (int32_t i = 0; i < n_rows * n_parts; i++) slice->sums[i] = vec_zero();
    for (int32_t group = 0; group < all; group += SLICE_GROUPS) {
        const int32_t n_groups = all - group < SLICE_GROUPS ? all - group : SLICE_GROUPS;
        slice_spread(slice, m, format, part, n_parts, group, n_groups, false);
        for (int32_t t = 0; t < n_tiles; t++) {
            const int32_t first = n_rows * t / n_tiles, next = n_rows * (t + 1) / n_tiles;
            slice_rows(slice, m, format, row + first, group, n_groups, slice->sums + first * n_parts, n_parts,
                       next - first);
        }
    }
    for (int32_t t = 0; t < n_tiles; t++) {
        const int32_t first = n_rows * t / n_tiles, count = n_rows * (t + 1) / n_tiles - first;
        for (int32_t i = 0; i < n_parts; i++)
            for (int32_t r = 0; r < count; r++)
                part_store(m, part + i, row + first + r, slice->sums[first * n_parts + i * count + r]);
    }
}

VEC_INLINE void many_rows(const struct matmul *m, enum tensor_format format) {
    const int32_t begin = m->out_first / VEC_N, end = (m->out_first + m->out_count + VEC_N - 1) / VEC_N;
    struct slice slice;
    for (int32_t row = 0; row < m->n_rows; row += SLICE_ROWS) {
        const int32_t n_rows = m->n_rows - row < SLICE_ROWS ? m->n_rows - row : SLICE_ROWS;
        int32_t part = begin;
        for (; part + SLICE_PARTS <= end; part += SLICE_PARTS)
            slice_run(&slice, m, format, part, row, n_rows, SLICE_PARTS);
        for (; part < end; part++) slice_run(&slice, m, format, part, row, n_rows, 1);
    }
}

VEC_INLINE void integers_run(const struct matmul *m, enum tensor_format format) {
    switch (m->n_rows) {
    case 1:
        few_rows(m, format, 1);
        break;
    case 2:
        few_rows(m, format, 2);
        break;
    case 3:
        few_rows(m, format, 3);
        break;
    case 4:
        few_rows(m, format, 4);
        break;
#if defined(__AVX512F__)
    case 5:
        few_rows(m, format, 5);
        break;
    case 6:
        few_rows(m, format, 6);
        break;
    case 7:
        few_rows(m, format, 7);
        break;
    case 8:
        few_rows(m, format, 8);
        break;
#endif
    default:
        many_rows(m, format);
        break;
    }
}
