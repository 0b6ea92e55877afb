// Products of FP8 weights with F32 activations: the inputs of a group are added in order of k, and then the groups.
// Included once for each instruction set, by packed_template.h.
#pragma once

enum { FP8_TILE_ROWS = VEC_N / 2, FP8_SUMS_MAX = 8, FP8_CACHED_ROWS = 64, FP8_FETCHED_ROWS = 2 };

struct fp8_tile {
    const char *weights; // the block of the first part
    size_t block_bytes;
    int32_t part; // the first, of all parts of the matrix
    const char *activations;
    size_t activation_stride;
    int32_t n_in;
};

VEC_INLINE const char *tile_block(const struct fp8_tile *t, int32_t i) {
    return t->weights + (size_t)((t->part + i) / PARTS - t->part / PARTS) * t->block_bytes;
}
// Which of the block's lines' parts.
VEC_INLINE size_t tile_lane(const struct fp8_tile *t, int32_t i) {
    return (size_t)((t->part + i) % PARTS);
}
VEC_INLINE float load_f32(const void *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

// The inputs of one scale. The value of a byte is that of the F16 with the same bits, times 2^8: scales take it in.
VEC_INLINE void fp8_group(const struct fp8_tile *t, int32_t g, int32_t n_parts, int32_t n_rows, vec *sums) {
    const int32_t first = g * PACKED_FP8_GROUP, left = t->n_in - first;
    const int32_t end = first + (left < PACKED_FP8_GROUP ? left : PACKED_FP8_GROUP);
    vec inner[FP8_SUMS_MAX];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts * n_rows; i++) inner[i] = vec_zero();
    for (int32_t k = first; k < end; k++) {
#pragma GCC unroll 8
        for (int32_t i = 0; i < n_parts; i++) {
            const char *at = tile_block(t, i) + (size_t)k * PACKED_OUTPUTS + tile_lane(t, i) * VEC_N;
            const vec weights = vec_load_fp8(at);
            if (n_rows <= FP8_FETCHED_ROWS && k % 4 == 0) _mm_prefetch(at + FETCH_BYTES, _MM_HINT_T0);
#pragma GCC unroll 8
            for (int32_t r = 0; r < n_rows; r++) {
                const char *x = t->activations + (size_t)r * t->activation_stride + (size_t)k * sizeof(float);
                inner[i * n_rows + r] = vec_fma(weights, vec_all(load_f32(x)), inner[i * n_rows + r]);
            }
        }
    }
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts; i++) {
        const char *at = tile_block(t, i) + packed_scales_at(TENSOR_FP8, t->n_in) +
                         ((size_t)g * PACKED_OUTPUTS + tile_lane(t, i) * VEC_N) * sizeof(float);
        const vec scales = vec_mul(vec_load((const float *)(const void *)at), vec_all(0x1p8f));
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++)
            sums[i * n_rows + r] = vec_fma(inner[i * n_rows + r], scales, sums[i * n_rows + r]);
    }
}

VEC_INLINE void fp8_tile_run(const struct matmul *m, int32_t part, int32_t row, int32_t n_parts, int32_t n_rows) {
    struct fp8_tile t = {.block_bytes = packed_block_bytes(TENSOR_FP8, m->weight->n_cols),
                         .part = part,
                         .activations = (const char *)m->activations + (size_t)row * m->activation_stride,
                         .activation_stride = m->activation_stride,
                         .n_in = m->weight->n_cols};
    t.weights = (const char *)m->weight->data + (size_t)(part / PARTS) * t.block_bytes;
    vec sums[FP8_SUMS_MAX];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts * n_rows; i++) sums[i] = vec_zero();
    for (int32_t g = 0; g * PACKED_FP8_GROUP < t.n_in; g++) fp8_group(&t, g, n_parts, n_rows, sums);
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts; i++)
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++) part_store(m, part + i, row + r, sums[i * n_rows + r]);
}

// As many parts at once as keep the arithmetic busy, for n_rows rows.
VEC_INLINE void fp8_parts(const struct matmul *m, int32_t part, int32_t end, int32_t row, int32_t n_rows) {
    const int32_t together = n_rows == 1 ? 4 : n_rows <= FP8_TILE_ROWS / 2 ? 2 : 1;
    for (; part + together <= end; part += together) fp8_tile_run(m, part, row, together, n_rows);
    for (; part < end; part++) fp8_tile_run(m, part, row, 1, n_rows);
}

VEC_INLINE void fp8_rows(const struct matmul *m, int32_t part, int32_t end, int32_t row, int32_t n_rows) {
    switch (n_rows) {
    case 1:
        fp8_parts(m, part, end, row, 1);
        break;
    case 2:
        fp8_parts(m, part, end, row, 2);
        break;
    case 3:
        fp8_parts(m, part, end, row, 3);
        break;
    case 4:
        fp8_parts(m, part, end, row, 4);
        break;
#if defined(__AVX512F__)
    case 5:
        fp8_parts(m, part, end, row, 5);
        break;
    case 6:
        fp8_parts(m, part, end, row, 6);
        break;
    case 7:
        fp8_parts(m, part, end, row, 7);
        break;
    case 8:
        fp8_parts(m, part, end, row, 8);
        break;
#endif
    default:
        break;
    }
}

static void matmul_fp8(const struct matmul *m) {
    const int32_t first = m->out_first / VEC_N, end = (m->out_first + m->out_count + VEC_N - 1) / VEC_N;
    const int32_t n_tiles = (m->n_rows + FP8_TILE_ROWS - 1) / FP8_TILE_ROWS;
    const int32_t cached = FP8_CACHED_ROWS / FP8_TILE_ROWS, block = n_tiles == 1 ? end - first : PARTS;
    for (int32_t tile = 0; tile < n_tiles; tile += cached)
        for (int32_t part = first; part < end; part += block)
            for (int32_t t = tile; t < tile + cached && t < n_tiles; t++) {
                int32_t row = (int32_t)((int64_t)m->n_rows * t / n_tiles);
                int32_t next = (int32_t)((int64_t)m->n_rows * (t + 1) / n_tiles);
                fp8_rows(m, part, part + block < end ? part + block : end, row, next - row);
            }
}
