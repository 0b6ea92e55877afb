// Products of INT8 and INT4 weights. Included once for each instruction set, by packed_template.h.
//
// With few rows the weights come from memory and are taken as they lie, several parts at once, from places of the range
// that are far apart: as many long streams, whose next lines are always worth fetching ahead. Where sums leave room for
// one part alone, the next block is fetched, as several streams too. For many rows see packed_slice.h.
#pragma once

#include "kernels/cpu/packed_part.h"
#include "kernels/cpu/packed_vectors.h"

enum {
    FEW_ROWS = 8, // pass the weights as they lie
    NEAR_BYTES = 512,
    PARTS_MAX = 4,
    TILE_SUMS_MAX = 12
};

// Where the first group of a part of the weights lies: its lines, scales and offsets.
struct integer_part {
    const char *numbers, *scales, *offsets;
};

struct integer_tile {
    struct integer_part parts[PARTS_MAX];
    const struct packed_group *rows[FEW_ROWS];
    int32_t n_groups;
    size_t next_rows;   // bytes from these rows to the next ones
    size_t block_bytes; // from this part to that of the next block
    bool spread;        // lines of bytes, and F32 scales and offsets, of one part alone
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

// Fetches what follows a pair of quads.
VEC_INLINE void pair_fetch(const struct integer_tile *t, enum tensor_format format, int32_t part, int32_t g,
                           int32_t pair, int32_t n_parts) {
    const int32_t n_lines = tensor_format_is_int4(format) ? 1 : 2;
    const char *numbers = t->parts[part].numbers, *next = numbers + t->block_bytes;
    const char *line = numbers + (size_t)g * packed_group_bytes(format);
#pragma GCC unroll 2
    for (int32_t i = pair * n_lines; i < (pair + 1) * n_lines; i++) {
        const char *at = line + (size_t)i * PACKED_LINE;
        _mm_prefetch(at + (n_parts == 1 ? NEAR_BYTES : FETCH_BYTES), _MM_HINT_T0);
        if (n_parts == 1) _mm_prefetch(next + (size_t)(i * t->n_groups + g) * PACKED_LINE, _MM_HINT_T1);
    }
    if (pair == 0)
        _mm_prefetch(t->parts[part].scales + t->block_bytes + (size_t)g * PACKED_OUTPUTS * sizeof(uint16_t),
                     _MM_HINT_T1);
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
            if (!t->spread) pair_fetch(t, format, i, g, pair, n_parts);
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
    struct integer_tile t = {.n_groups = packed_groups(m->weight->n_cols),
                             .block_bytes = packed_block_bytes(format, m->weight->n_cols)};
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

#include "kernels/cpu/packed_slice.h"

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
