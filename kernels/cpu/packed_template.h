// Matrix products of packed weights (kernels/packed.h) with any number of rows. Included once for each instruction set.
//
// A vector holds outputs: VEC_N of a block of sixteen, a part. Integers are exact within a group and groups are added
// in order of k, one output a lane; FP8 adds the inputs of a group in order of k, and then the groups. So bits are the
// same in every tile shape, on any instruction set. With many rows, PACKED_TILE_ROWS of them share each weight; with
// few, several parts are in flight.
#include "kernels/cpu/packed.h"
#include "kernels/packed_make.h"

enum {
    PARTS = PACKED_OUTPUTS / VEC_N,
    PART_LINE = PACKED_LINE / PARTS,
    PACKED_TILE_ROWS = VEC_N / 2, // their sums, of integers and floats, fill half of the registers
    PACKED_TILE_MAX = 8,
    CACHED_ROWS = 64, // pass a block of weights while it is in the first-level cache
    FEW_ROWS = 2,
    FETCH_BYTES = 2048
};

struct packed_tile {
    const char *weights; // the block of the first part
    size_t block_bytes;
    int32_t part; // the first, of all parts of the matrix
    const char *activations;
    size_t activation_stride;
    int32_t n_in;
};

VEC_INLINE const char *tile_block(const struct packed_tile *t, int32_t i) {
    return t->weights + (size_t)((t->part + i) / PARTS - t->part / PARTS) * t->block_bytes;
}
// Which of the block's lines' parts.
VEC_INLINE size_t tile_lane(const struct packed_tile *t, int32_t i) {
    return (size_t)((t->part + i) % PARTS);
}

VEC_INLINE int32_t load_i32(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
VEC_INLINE float load_f32(const void *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

#if defined(__AVX512F__)
typedef __m512i ivec;
VEC_INLINE ivec ivec_all(int32_t x) {
    return _mm512_set1_epi32(x);
}
VEC_INLINE vec vec_from_ivec(ivec x) {
    return _mm512_cvtepi32_ps(x);
}
VEC_INLINE ivec ivec_load(const char *p) {
    return _mm512_loadu_si512(p);
}
VEC_INLINE ivec ivec_low(ivec x) {
    return _mm512_and_si512(x, _mm512_set1_epi8(15));
}
VEC_INLINE ivec ivec_high(ivec x) {
    return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15));
}
// sum + weights, four unsigned bytes a lane, times a quad of activations.
VEC_INLINE ivec quad_step(ivec sum, ivec weights, const int8_t *quad, enum tensor_format format) {
    (void)format;
    return _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(load_i32(quad)));
}
VEC_INLINE vec vec_load_fp8(const char *p) {
    __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x80)), 8);
    __m256i half = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7f)), 7);
    return _mm512_cvtph_ps(_mm256_or_si256(sign, half));
}
#else
typedef __m256i ivec;
VEC_INLINE ivec ivec_all(int32_t x) {
    return _mm256_set1_epi32(x);
}
VEC_INLINE vec vec_from_ivec(ivec x) {
    return _mm256_cvtepi32_ps(x);
}
VEC_INLINE ivec ivec_load(const char *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
VEC_INLINE ivec ivec_low(ivec x) {
    return _mm256_and_si256(x, _mm256_set1_epi8(15));
}
VEC_INLINE ivec ivec_high(ivec x) {
    return _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(15));
}
// sum + weights, four unsigned bytes a lane, times a quad of activations. Pairs of products of nibbles fit into 16
// bits; bytes are widened first.
VEC_INLINE ivec quad_step(ivec sum, ivec weights, const int8_t *quad, enum tensor_format format) {
    const __m256i x = _mm256_set1_epi32(load_i32(quad));
    if (tensor_format_is_int4(format))
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(weights, x), _mm256_set1_epi16(1)));
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(weights, _mm256_set1_epi16(0xff)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(weights, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
VEC_INLINE vec vec_load_fp8(const char *p) {
    __m128i x = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m128i sign = _mm_slli_epi16(_mm_and_si128(x, _mm_set1_epi16(0x80)), 8);
    __m128i half = _mm_slli_epi16(_mm_and_si128(x, _mm_set1_epi16(0x7f)), 7);
    return _mm256_cvtph_ps(_mm_or_si128(sign, half));
}
#endif

// One group of all parts and rows.
VEC_INLINE void integers_group(const struct packed_tile *t, enum tensor_format format, int32_t g, int32_t n_parts,
                               int32_t n_rows, vec *sums) {
    const bool is_int4 = tensor_format_is_int4(format), has_offsets = tensor_format_has_offsets(format);
    const int32_t n_groups = packed_groups(t->n_in);
    const size_t group_bytes = packed_group_bytes(format), scales_at = packed_scales_at(format, t->n_in);
    const size_t offsets_at = packed_offsets_at(format, t->n_in) - scales_at;
    const size_t row_scales = (size_t)n_groups * PACKED_GROUP, starts = row_scales + (size_t)n_groups * sizeof(float);
    ivec inner[PACKED_TILE_MAX];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts * n_rows; i++)
        inner[i] = ivec_all(packed_start(
            load_i32(t->activations + (size_t)(i % n_rows) * t->activation_stride + starts + (size_t)g * 4), format));
#pragma GCC unroll 4
    for (int32_t pair = 0; pair < PACKED_GROUP / PACKED_QUAD / 2; pair++) {
        const size_t line = (size_t)(is_int4 ? pair : 2 * pair) * PACKED_LINE;
#pragma GCC unroll 8
        for (int32_t i = 0; i < n_parts; i++) {
            const char *at = tile_block(t, i) + (size_t)g * group_bytes + line + tile_lane(t, i) * PART_LINE;
            const ivec first = ivec_load(at), low = is_int4 ? ivec_low(first) : first;
            const ivec high = is_int4 ? ivec_high(first) : ivec_load(at + PACKED_LINE);
            if (n_rows <= FEW_ROWS) _mm_prefetch(at + FETCH_BYTES, _MM_HINT_T0);
            if (n_rows <= FEW_ROWS && !is_int4) _mm_prefetch(at + FETCH_BYTES + PACKED_LINE, _MM_HINT_T0);
#pragma GCC unroll 8
            for (int32_t r = 0; r < n_rows; r++) {
                const int8_t *x = (const int8_t *)t->activations + (size_t)r * t->activation_stride +
                                  (size_t)g * PACKED_GROUP + (size_t)pair * 2 * PACKED_QUAD;
                ivec sum = quad_step(inner[i * n_rows + r], low, x, format);
                inner[i * n_rows + r] = quad_step(sum, high, x + PACKED_QUAD, format);
            }
        }
    }
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts; i++) {
        const char *at = tile_block(t, i) + scales_at + ((size_t)g * PACKED_OUTPUTS + tile_lane(t, i) * VEC_N) * 2;
        const vec scales = vec_load_f16((const uint16_t *)(const void *)at);
        const vec offsets = has_offsets ? vec_load_f16((const uint16_t *)(const void *)(at + offsets_at)) : vec_zero();
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++) {
            const char *row = t->activations + (size_t)r * t->activation_stride + row_scales + (size_t)g * 4;
            const float scale = load_f32(row);
            vec sum =
                vec_fma(vec_from_ivec(inner[i * n_rows + r]), vec_mul(scales, vec_all(scale)), sums[i * n_rows + r]);
            if (has_offsets) {
                const float total = (float)load_i32(row - row_scales + starts) * (-1.0f / PACKED_START_FACTOR);
                sum = vec_fma(offsets, vec_all(scale * total), sum);
            }
            sums[i * n_rows + r] = sum;
        }
    }
}

// The inputs of one scale. The value of a byte is that of the F16 with the same bits, times 2^8: scales take it in.
VEC_INLINE void fp8_group(const struct packed_tile *t, int32_t g, int32_t n_parts, int32_t n_rows, vec *sums) {
    const int32_t first = g * PACKED_FP8_GROUP, left = t->n_in - first;
    const int32_t end = first + (left < PACKED_FP8_GROUP ? left : PACKED_FP8_GROUP);
    vec inner[PACKED_TILE_MAX];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts * n_rows; i++) inner[i] = vec_zero();
    for (int32_t k = first; k < end; k++) {
#pragma GCC unroll 8
        for (int32_t i = 0; i < n_parts; i++) {
            const char *at = tile_block(t, i) + (size_t)k * PACKED_OUTPUTS + tile_lane(t, i) * VEC_N;
            const vec weights = vec_load_fp8(at);
            if (n_rows <= FEW_ROWS && k % 4 == 0) _mm_prefetch(at + FETCH_BYTES, _MM_HINT_T0);
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

// What of a part lies in the range of outputs.
VEC_INLINE void part_store(const struct matmul *m, int32_t part, int32_t row, vec sum) {
    const int32_t first = part * VEC_N, end = m->out_first + m->out_count;
    float *to = m->out + (size_t)row * m->out_stride;
    if (first >= m->out_first && first + VEC_N <= end) {
        vec_store(to + first, m->bias ? vec_add(sum, vec_load(m->bias + first)) : sum);
        return;
    }
    float lanes[VEC_N];
    vec_store(lanes, sum);
    for (int32_t i = 0; i < VEC_N; i++)
        if (first + i >= m->out_first && first + i < end)
            to[first + i] = m->bias ? lanes[i] + m->bias[first + i] : lanes[i];
}

VEC_INLINE void tile_run(const struct matmul *m, enum tensor_format format, int32_t part, int32_t row, int32_t n_parts,
                         int32_t n_rows) {
    struct packed_tile t = {.block_bytes = packed_block_bytes(format, m->weight->n_cols),
                            .part = part,
                            .activations = (const char *)m->activations + (size_t)row * m->activation_stride,
                            .activation_stride = m->activation_stride,
                            .n_in = m->weight->n_cols};
    t.weights = (const char *)m->weight->data + (size_t)(part / PARTS) * t.block_bytes;
    vec sums[PACKED_TILE_MAX];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts * n_rows; i++) sums[i] = vec_zero();
    if (format == TENSOR_FP8)
        for (int32_t g = 0; g * PACKED_FP8_GROUP < t.n_in; g++) fp8_group(&t, g, n_parts, n_rows, sums);
    else
        for (int32_t g = 0; g < packed_groups(t.n_in); g++) integers_group(&t, format, g, n_parts, n_rows, sums);
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_parts; i++)
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++) part_store(m, part + i, row + r, sums[i * n_rows + r]);
}

// As many parts at once as keep the arithmetic busy, for n_rows rows.
VEC_INLINE void parts_run(const struct matmul *m, enum tensor_format format, int32_t part, int32_t end, int32_t row,
                          int32_t n_rows) {
    const int32_t together = n_rows == 1 ? 4 : n_rows <= PACKED_TILE_ROWS / 2 ? 2 : 1;
    for (; part + together <= end; part += together) tile_run(m, format, part, row, together, n_rows);
    for (; part < end; part++) tile_run(m, format, part, row, 1, n_rows);
}

VEC_INLINE void rows_run(const struct matmul *m, enum tensor_format format, int32_t part, int32_t end, int32_t row,
                         int32_t n_rows) {
    switch (n_rows) {
    case 1:
        parts_run(m, format, part, end, row, 1);
        break;
    case 2:
        parts_run(m, format, part, end, row, 2);
        break;
    case 3:
        parts_run(m, format, part, end, row, 3);
        break;
    case 4:
        parts_run(m, format, part, end, row, 4);
        break;
#if defined(__AVX512F__)
    case 5:
        parts_run(m, format, part, end, row, 5);
        break;
    case 6:
        parts_run(m, format, part, end, row, 6);
        break;
    case 7:
        parts_run(m, format, part, end, row, 7);
        break;
    case 8:
        parts_run(m, format, part, end, row, 8);
        break;
#endif
    default:
        break;
    }
}

VEC_INLINE void matmul_packed_format(const struct matmul *m, enum tensor_format format) {
    const int32_t first = m->out_first / VEC_N, end = (m->out_first + m->out_count + VEC_N - 1) / VEC_N;
    const int32_t n_tiles = (m->n_rows + PACKED_TILE_ROWS - 1) / PACKED_TILE_ROWS;
    const int32_t cached = CACHED_ROWS / PACKED_TILE_ROWS, block = n_tiles == 1 ? end - first : PARTS;
    for (int32_t tile = 0; tile < n_tiles; tile += cached)
        for (int32_t part = first; part < end; part += block)
            for (int32_t t = tile; t < tile + cached && t < n_tiles; t++) {
                int32_t row = (int32_t)((int64_t)m->n_rows * t / n_tiles);
                int32_t next = (int32_t)((int64_t)m->n_rows * (t + 1) / n_tiles);
                rows_run(m, format, part, part + block < end ? part + block : end, row, next - row);
            }
}

// One function a format, so that the compiler sees each as a constant.
static void matmul_fp8(const struct matmul *m) {
    matmul_packed_format(m, TENSOR_FP8);
}
static void matmul_int8(const struct matmul *m) {
    matmul_packed_format(m, TENSOR_INT8);
}
static void matmul_int4(const struct matmul *m) {
    matmul_packed_format(m, TENSOR_INT4);
}

static void matmul_int8_offset(const struct matmul *m) {
    matmul_packed_format(m, TENSOR_INT8_OFFSET);
}
static void matmul_int4_offset(const struct matmul *m) {
    matmul_packed_format(m, TENSOR_INT4_OFFSET);
}

void KERNEL(matmul_packed)(const struct matmul *m) {
    switch (m->weight->format) {
    case TENSOR_FP8:
        matmul_fp8(m);
        break;
    case TENSOR_INT8:
        matmul_int8(m);
        break;
    case TENSOR_INT4:
        matmul_int4(m);
        break;
    case TENSOR_INT8_OFFSET:
        matmul_int8_offset(m);
        break;
    case TENSOR_INT4_OFFSET:
        matmul_int4_offset(m);
        break;
    default:
        break;
    }
}

void KERNEL(activation_pack)(char *row, const float *x, int32_t n) {
    packed_activation(row, x, n);
}

void KERNEL(weight_pack)(void *block, const float *rows, enum tensor_format format, int32_t n) {
    pack_block(block, rows, format, n);
}

void KERNEL(weight_fill)(void *block, const struct tensor_row *rows, enum tensor_format format, int32_t n) {
    fill_block(block, rows, format, n);
}
