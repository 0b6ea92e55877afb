// Integer products of many rows: a slice of a few parts of the weights is spread out once into lines of bytes and F32
// scales, which stay in the first-level cache while all rows pass it. Included by packed_integers.h.
#pragma once

enum {
    SLICE_PARTS = 2,
    SLICE_GROUPS = 16,
    SLICE_TILE_ROWS = VEC_N == 16 ? 6 : 2, // sums of integers and floats of a slice's parts fit into the registers
    SLICE_ROWS = 64
};

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

// Groups [group, group + n_groups) of n_parts parts. Where it fetches, what comes next is on its way meanwhile.
VEC_INLINE void slice_spread(struct slice *slice, const struct matmul *m, enum tensor_format format, int32_t part,
                             int32_t n_parts, int32_t group, int32_t n_groups, bool less_zero, bool fetches) {
    const size_t n_bytes = packed_group_bytes(format);
    const bool last = group + n_groups == packed_groups(m->weight->n_cols);
    for (int32_t i = 0; i < n_parts; i++) {
        const struct integer_part from = part_at(m, format, part + i);
        const char *lines = from.numbers + (size_t)group * n_bytes;
        const char *next = last ? part_at(m, format, part + i + n_parts).numbers : lines + (size_t)n_groups * n_bytes;
        for (int32_t g = 0; g < n_groups; g++) {
            for (size_t at = 0; at < n_bytes && fetches; at += PACKED_LINE)
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
        slice_spread(slice, m, format, part, n_parts, group, n_groups, false, true);
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
