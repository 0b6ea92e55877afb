// Products of FP8 weights with activations rounded to BF16: the quads of a group are added in order of k, and then the
// groups. Included once for each instruction set, by packed_template.h.
//
// A row of activations is BF16 for AVX-512, the second and third number of each quad swapped, as the pairs of weights
// come out of the table; elsewhere it is F32. Behind the last input are zeros, to the end of its group.
#pragma once

#if defined(__AVX512F__)
#include "kernels/cpu/fp8_bf16.h"
#endif

enum {
    FP8_TILE_ROWS = VEC_N / 2,
    FP8_SUMS_MAX = VEC_N,
    FP8_CACHED_ROWS = 64,
    FP8_NUMBER_BYTES = VEC_N == 16 ? 2 : 4,
    FP8_QUAD_BYTES = PACKED_QUAD * FP8_NUMBER_BYTES,
    FP8_GROUP_QUADS = PACKED_FP8_GROUP / PACKED_QUAD
};

#if defined(__AVX512F__)
typedef struct fp8_pairs fp8_quad;

VEC_INLINE fp8_quad fp8_quad_load(const char *line) {
    return fp8_pairs_load(line);
}
VEC_INLINE __m512bh fp8_pair(const char *x) {
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}
VEC_INLINE vec fp8_quad_add(vec sum, const fp8_quad *quad, const char *x) {
    sum = _mm512_dpbf16_ps(sum, (__m512bh)quad->even, fp8_pair(x));
    return _mm512_dpbf16_ps(sum, (__m512bh)quad->odd, fp8_pair(x + 4));
}
static const float FP8_UNIT = 1;

// Sixteen numbers, four quads.
VEC_INLINE void fp8_store(char *to, vec x) {
    enum { SWAPPED = 0xd8 };
    const __m256i numbers = vec_to_bf16(x);
    _mm256_storeu_si256((__m256i *)(void *)to,
                        _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(numbers, SWAPPED), SWAPPED));
}
#else
typedef struct {
    vec inputs[PACKED_QUAD];
} fp8_quad;

// The numbers come out of eight neighbouring bytes, times 2^-8, which scales take in.
VEC_INLINE fp8_quad fp8_quad_load(const char *line) {
    const __m256i by_input = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5,
                                              9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m256i codes = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(const void *)line), by_input);
    char bytes[4 * VEC_N];
    _mm256_storeu_si256((__m256i *)(void *)bytes,
                        _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    fp8_quad quad;
#pragma GCC unroll 4
    for (int i = 0; i < PACKED_QUAD; i++) quad.inputs[i] = vec_load_fp8(bytes + i * VEC_N);
    return quad;
}
VEC_INLINE vec fp8_quad_add(vec sum, const fp8_quad *quad, const char *x) {
#pragma GCC unroll 4
    for (size_t i = 0; i < PACKED_QUAD; i++) {
        float number;
        memcpy(&number, x + i * sizeof number, sizeof number);
        sum = vec_fma(quad->inputs[i], vec_all(number), sum);
    }
    return sum;
}
static const float FP8_UNIT = 0x1p8f;

VEC_INLINE void fp8_store(char *to, vec x) {
    vec_store((float *)(void *)to, vec_round_bf16(x));
}
#endif

static size_t fp8_activation_bytes(int32_t n) {
    return ((size_t)packed_groups(n) * (PACKED_GROUP * FP8_NUMBER_BYTES / PACKED_LINE) | 1) * PACKED_LINE;
}

// Inputs [first, first + count), whole groups but for the end of the row.
static void fp8_activation(char *row, const float *x, int32_t n, int32_t first, int32_t count) {
    for (int32_t k = first; k < packed_groups(first + count) * PACKED_GROUP; k += VEC_N) {
        const int32_t left = n - k;
        fp8_store(row + (size_t)k * FP8_NUMBER_BYTES, left >= VEC_N ? vec_load(x + k)
                                                      : left > 0    ? vec_load_n(x + k, left)
                                                                    : vec_zero());
    }
}

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
// Where a part of the tile begins in its block's lines.
VEC_INLINE const char *tile_part(const struct fp8_tile *t, int32_t i) {
    return tile_block(t, i) + (size_t)((t->part + i) % PARTS) * PART_LINE;
}
VEC_INLINE vec tile_scales(const struct fp8_tile *t, int32_t i, int32_t g) {
    const size_t at = (size_t)g * PACKED_OUTPUTS + (size_t)((t->part + i) % PARTS) * VEC_N;
    return vec_load((const float *)(const void *)(tile_block(t, i) + packed_scales_at(TENSOR_FP8, t->n_in)) + at);
}

// The inputs of one scale.
VEC_INLINE void fp8_group(const struct fp8_tile *t, int32_t g, int32_t n_parts, int32_t n_rows, vec *sums) {
    const int32_t first = g * FP8_GROUP_QUADS, left = packed_groups(t->n_in) * (PACKED_GROUP / PACKED_QUAD) - first;
    const int32_t end = first + (left < FP8_GROUP_QUADS ? left : FP8_GROUP_QUADS);
    vec inner[FP8_SUMS_MAX];
#pragma GCC unroll 16
    for (int32_t i = 0; i < n_parts * n_rows; i++) inner[i] = vec_zero();
    for (int32_t q = first; q < end; q++) {
        const char *x = t->activations + (size_t)q * FP8_QUAD_BYTES;
#pragma GCC unroll 8
        for (int32_t i = 0; i < n_parts; i++) {
            const char *line = tile_part(t, i) + (size_t)q * PACKED_LINE;
            const fp8_quad quad = fp8_quad_load(line);
            _mm_prefetch(line + FETCH_BYTES, _MM_HINT_T0);
#pragma GCC unroll 8
            for (int32_t r = 0; r < n_rows; r++)
                inner[i * n_rows + r] =
                    fp8_quad_add(inner[i * n_rows + r], &quad, x + (size_t)r * t->activation_stride);
        }
    }
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts; i++) {
        const vec scales = vec_mul(tile_scales(t, i, g), vec_all(FP8_UNIT));
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
#pragma GCC unroll 16
    for (int32_t i = 0; i < n_parts * n_rows; i++) sums[i] = vec_zero();
    for (int32_t g = 0; g * PACKED_FP8_GROUP < t.n_in; g++) fp8_group(&t, g, n_parts, n_rows, sums);
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts; i++)
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++) part_store(m, part + i, row + r, sums[i * n_rows + r]);
}

// As many parts at once as keep the arithmetic busy, for n_rows rows.
VEC_INLINE void fp8_parts(const struct matmul *m, int32_t part, int32_t end, int32_t row, int32_t n_rows) {
    const int32_t together = n_rows == 1 ? 4 : VEC_N == 16 || n_rows <= FP8_TILE_ROWS / 2 ? 2 : 1;
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
    const int32_t cached = FP8_CACHED_ROWS / FP8_TILE_ROWS, block = n_tiles == 1 ? end - first : 2;
    for (int32_t tile = 0; tile < n_tiles; tile += cached)
        for (int32_t part = first; part < end; part += block)
            for (int32_t t = tile; t < tile + cached && t < n_tiles; t++) {
                int32_t row = (int32_t)((int64_t)m->n_rows * t / n_tiles);
                int32_t next = (int32_t)((int64_t)m->n_rows * (t + 1) / n_tiles);
                fp8_rows(m, part, part + block < end ? part + block : end, row, next - row);
            }
}
