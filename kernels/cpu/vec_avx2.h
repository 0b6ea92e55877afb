// Vectors of 8 floats: the names that kernel templates use, in AVX2 with FMA and F16C.
#pragma once

#include "base/number.h"
#include "kernels/kernel_table.h"

#include <immintrin.h>

#define KERNEL(name) avx2_##name
#define VEC_INLINE static inline __attribute__((always_inline))

typedef __m256 vec;
enum { VEC_N = 8, TILE_WEIGHTS = 4, TILE_ROWS = 3 };

VEC_INLINE __m256i vec_mask(int32_t n) { // the first n < 8 lanes
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

VEC_INLINE vec vec_zero(void) {
    return _mm256_setzero_ps();
}
VEC_INLINE vec vec_all(float x) {
    return _mm256_set1_ps(x);
}
VEC_INLINE vec vec_load(const float *p) {
    return _mm256_loadu_ps(p);
}
VEC_INLINE void vec_store(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}
// The first n < VEC_N lanes; the others are zero and are not touched in memory.
VEC_INLINE vec vec_load_n(const float *p, int32_t n) {
    return _mm256_maskload_ps(p, vec_mask(n));
}
VEC_INLINE void vec_store_n(float *p, vec x, int32_t n) {
    _mm256_maskstore_ps(p, vec_mask(n), x);
}

VEC_INLINE vec vec_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}
VEC_INLINE vec vec_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}
VEC_INLINE vec vec_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}
VEC_INLINE vec vec_div(vec a, vec b) {
    return _mm256_div_ps(a, b);
}
VEC_INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
} // a * b + c
VEC_INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_ps(a, b, c);
} // c - a * b
VEC_INLINE vec vec_min(vec a, vec b) {
    return _mm256_min_ps(a, b);
}
VEC_INLINE vec vec_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}
VEC_INLINE vec vec_abs(vec x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
VEC_INLINE vec vec_round(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x * 2^n for whole numbers n with a normal result.
VEC_INLINE vec vec_scale(vec x, vec n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}
// x where a < b, otherwise y.
VEC_INLINE vec vec_where_less(vec a, vec b, vec x, vec y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
// Bit i: a >= b in lane i.
VEC_INLINE uint32_t vec_bits_not_less(vec a, vec b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ));
}
// x = mantissa * 2^exponent with the mantissa in [1, 2), for positive normal x.
VEC_INLINE vec vec_exponent(vec x) {
    __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(x), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
}
VEC_INLINE vec vec_mantissa(vec x) {
    __m256i fraction = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffff));
    return _mm256_castsi256_ps(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3f800000)));
}

// n <= 8 16-bit numbers, zeros behind them.
VEC_INLINE __m128i vec_load_u16_n(const uint16_t *p, int32_t n) {
    uint16_t all[8] = {0};
    memcpy(all, p, (size_t)n * sizeof *all);
    return _mm_loadu_si128((const __m128i *)(const void *)all);
}
VEC_INLINE vec vec_from_bf16(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
VEC_INLINE vec vec_load_bf16(const uint16_t *p) {
    return vec_from_bf16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
VEC_INLINE vec vec_load_bf16_n(const uint16_t *p, int32_t n) {
    return vec_from_bf16(vec_load_u16_n(p, n));
}
VEC_INLINE vec vec_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
VEC_INLINE vec vec_load_f16_n(const uint16_t *p, int32_t n) {
    return _mm256_cvtph_ps(vec_load_u16_n(p, n));
}
// Round to nearest even; NaN stays NaN. The 16 bits are the upper half of each lane; the lower half is zero.
VEC_INLINE vec vec_round_bf16(vec x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32((int)0xffff0000)));
}
VEC_INLINE __m128i vec_to_bf16(vec x) {
    __m256i high = _mm256_srli_epi32(_mm256_castps_si256(vec_round_bf16(x)), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
VEC_INLINE void vec_store_bf16(uint16_t *p, vec x) {
    _mm_storeu_si128((__m128i *)(void *)p, vec_to_bf16(x));
}
VEC_INLINE void vec_store_bf16_n(uint16_t *p, vec x, int32_t n) {
    uint16_t all[8];
    _mm_storeu_si128((__m128i *)(void *)all, vec_to_bf16(x));
    memcpy(p, all, (size_t)n * sizeof *all);
}

// FP8 numbers (E4M3), times 2^-8: their bits are those of an F16 number but for its lowest ones.
VEC_INLINE vec vec_load_fp8(const char *p) {
    __m128i x = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m128i sign = _mm_slli_epi16(_mm_and_si128(x, _mm_set1_epi16(0x80)), 8);
    __m128i half = _mm_slli_epi16(_mm_and_si128(x, _mm_set1_epi16(0x7f)), 7);
    return _mm256_cvtph_ps(_mm_or_si128(sign, half));
}
VEC_INLINE vec vec_load_fp8_n(const char *p, int32_t n) {
    char all[VEC_N] = {0};
    memcpy(all, p, (size_t)n);
    return vec_load_fp8(all);
}
// To the nearest, ties to even, of |x| <= 448.
VEC_INLINE void vec_store_fp8(char *p, vec x) {
    // The sum with a number this large rounds to multiples of an eighth of x's power of two, or of the least's.
    vec power = _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000)));
    vec large = vec_mul(vec_max(power, vec_all(0x1p-6f)), vec_all(0x1.8p20f));
    __m128i half = _mm256_cvtps_ph(vec_mul(vec_sub(vec_add(x, large), large), vec_all(0x1p-8f)), 0);
    __m128i sign = _mm_and_si128(_mm_srli_epi16(_mm256_cvtps_ph(x, 0), 8), _mm_set1_epi16(0x80));
    __m128i code = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(half, 7), _mm_set1_epi16(0x7f)), sign);
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(code, code));
}
// Whole numbers in -128 .. 127.
VEC_INLINE void vec_store_int8(char *p, vec x) {
    __m256i numbers = _mm256_cvtps_epi32(x);
    __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(half, half));
}

// Lane i + lane i+4, then 2 and 1 apart: the same tree in both.
VEC_INLINE __m128 vec_sum4(vec a, vec b, vec c, vec d) {
    vec ab = vec_add(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    vec cd = vec_add(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
    vec all = vec_add(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee)); // a a c c | b b d d
    all = vec_add(all, _mm256_permute_ps(all, 0xb1));
    __m128 ac = _mm256_castps256_ps128(all), bd = _mm256_extractf128_ps(all, 1);
    return _mm_unpacklo_ps(_mm_permute_ps(ac, 0x08), _mm_permute_ps(bd, 0x08));
}
VEC_INLINE float vec_sum(vec a) {
    return _mm_cvtss_f32(vec_sum4(a, a, a, a));
}
VEC_INLINE float vec_largest(vec a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_permute_ps(x, 0x4e));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_permute_ps(x, 0xb1)));
}

// Dot products take 8 elements a step; BF16 activations are kept as rounded floats.
VEC_INLINE int32_t dot_elements(enum tensor_format format) {
    (void)format;
    return VEC_N;
}
VEC_INLINE vec dot_load_weight(const char *p, enum tensor_format format) {
    const uint16_t *half = (const uint16_t *)(const void *)p;
    if (format == TENSOR_F32) return vec_load((const float *)(const void *)p);
    return format == TENSOR_BF16 ? vec_load_bf16(half) : vec_load_f16(half);
}
VEC_INLINE vec dot_load_weight_n(const char *p, enum tensor_format format, int32_t n) {
    const uint16_t *half = (const uint16_t *)(const void *)p;
    if (format == TENSOR_F32) return vec_load_n((const float *)(const void *)p, n);
    return format == TENSOR_BF16 ? vec_load_bf16_n(half, n) : vec_load_f16_n(half, n);
}
VEC_INLINE vec dot_load_activation(const char *p, enum tensor_format format) {
    (void)format;
    return vec_load((const float *)(const void *)p);
}
VEC_INLINE vec dot_load_activation_n(const char *p, enum tensor_format format, int32_t n) {
    (void)format;
    return vec_load_n((const float *)(const void *)p, n);
}
VEC_INLINE size_t dot_activation_bytes(enum tensor_format format) {
    (void)format;
    return sizeof(float);
}
VEC_INLINE vec dot_step(vec sum, vec weight, vec activation, enum tensor_format format) {
    (void)format;
    return vec_fma(weight, activation, sum);
}

// Activations as dot_load_activation reads them.
VEC_INLINE void dot_store_rounded(void *out, int32_t at, vec x, int32_t n) {
    float *to = (float *)out + at;
    if (n < VEC_N)
        vec_store_n(to, vec_round_bf16(x), n);
    else
        vec_store(to, vec_round_bf16(x));
}
