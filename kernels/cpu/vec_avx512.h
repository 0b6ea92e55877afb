// Vectors of 16 floats: the names that kernel templates use, in AVX-512 with VNNI and BF16.
#pragma once

#include "base/number.h"
#include "kernels/kernel_table.h"

#include <immintrin.h>

#define KERNEL(name) avx512_##name
#define VEC_INLINE static inline __attribute__((always_inline))

typedef __m512 vec;
enum { VEC_N = 16, TILE_WEIGHTS = 4, TILE_ROWS = 6 };

VEC_INLINE __mmask16 vec_mask(int32_t n) {
    return (__mmask16)((1u << n) - 1);
} // the first n < 16 lanes

VEC_INLINE vec vec_zero(void) {
    return _mm512_setzero_ps();
}
VEC_INLINE vec vec_all(float x) {
    return _mm512_set1_ps(x);
}
VEC_INLINE vec vec_load(const float *p) {
    return _mm512_loadu_ps(p);
}
VEC_INLINE void vec_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}
// The first n < VEC_N lanes; the others are zero and are not touched in memory.
VEC_INLINE vec vec_load_n(const float *p, int32_t n) {
    return _mm512_maskz_loadu_ps(vec_mask(n), p);
}
VEC_INLINE void vec_store_n(float *p, vec x, int32_t n) {
    _mm512_mask_storeu_ps(p, vec_mask(n), x);
}

VEC_INLINE vec vec_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
VEC_INLINE vec vec_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
VEC_INLINE vec vec_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
VEC_INLINE vec vec_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
VEC_INLINE vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
} // a * b + c
VEC_INLINE vec vec_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_ps(a, b, c);
} // c - a * b
VEC_INLINE vec vec_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}
VEC_INLINE vec vec_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}
VEC_INLINE vec vec_abs(vec x) {
    return _mm512_abs_ps(x);
}
VEC_INLINE vec vec_round(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x * 2^n for whole numbers n.
VEC_INLINE vec vec_scale(vec x, vec n) {
    return _mm512_scalef_ps(x, n);
}
// x where a < b, otherwise y.
VEC_INLINE vec vec_where_less(vec a, vec b, vec x, vec y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
// Bit i: a >= b in lane i.
VEC_INLINE uint32_t vec_bits_not_less(vec a, vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
// x = mantissa * 2^exponent with the mantissa in [1, 2), for positive x.
VEC_INLINE vec vec_exponent(vec x) {
    return _mm512_getexp_ps(x);
}
VEC_INLINE vec vec_mantissa(vec x) {
    return _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero);
}

VEC_INLINE vec vec_load_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16));
}
VEC_INLINE vec vec_load_bf16_n(const uint16_t *p, int32_t n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vec_mask(n), p)), 16));
}
VEC_INLINE vec vec_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
VEC_INLINE vec vec_load_f16_n(const uint16_t *p, int32_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vec_mask(n), p));
}
// Round to nearest even; NaN stays NaN. Written out, because vcvtneps2bf16 flushes subnormal numbers.
VEC_INLINE __m256i vec_to_bf16(vec x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
VEC_INLINE void vec_store_bf16(uint16_t *p, vec x) {
    _mm256_storeu_si256((__m256i *)(void *)p, vec_to_bf16(x));
}
VEC_INLINE void vec_store_bf16_n(uint16_t *p, vec x, int32_t n) {
    _mm256_mask_storeu_epi16(p, vec_mask(n), vec_to_bf16(x));
}

// FP8 numbers (E4M3), times 2^-8: their bits are those of an F16 number but for its lowest ones.
VEC_INLINE vec vec_load_fp8(const char *p) {
    __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x80)), 8);
    __m256i half = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7f)), 7);
    return _mm512_cvtph_ps(_mm256_or_si256(sign, half));
}
VEC_INLINE vec vec_load_fp8_n(const char *p, int32_t n) {
    char all[VEC_N] = {0};
    memcpy(all, p, (size_t)n);
    return vec_load_fp8(all);
}
// To the nearest, ties to even, of |x| <= 448.
VEC_INLINE void vec_store_fp8(char *p, vec x) {
    // The sum with a number this large rounds to multiples of an eighth of x's power of two, or of the least's.
    vec power = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7f800000)));
    vec large = vec_mul(vec_max(power, vec_all(0x1p-6f)), vec_all(0x1.8p20f));
    __m256i half = _mm512_cvtps_ph(vec_mul(vec_sub(vec_add(x, large), large), vec_all(0x1p-8f)), 0);
    __m256i sign = _mm256_and_si256(_mm256_srli_epi16(_mm512_cvtps_ph(x, 0), 8), _mm256_set1_epi16(0x80));
    __m256i code = _mm256_and_si256(_mm256_srli_epi16(half, 7), _mm256_set1_epi16(0x7f));
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtepi16_epi8(_mm256_or_si256(code, sign)));
}
// Whole numbers in -128 .. 127.
VEC_INLINE void vec_store_int8(char *p, vec x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

// Lane i + lane i+8, then 4, 2 and 1 apart: the same tree in both.
VEC_INLINE __m128 vec_sum4(vec a, vec b, vec c, vec d) {
    vec ab = vec_add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    vec cd = vec_add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    vec all = vec_add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    all = vec_add(all, _mm512_permute_ps(all, 0x4e));
    all = vec_add(all, _mm512_permute_ps(all, 0xb1));
    return _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, all));
}
VEC_INLINE float vec_sum(vec a) {
    return _mm_cvtss_f32(vec_sum4(a, a, a, a));
}
VEC_INLINE float vec_largest(vec a) {
    return _mm512_reduce_max_ps(a);
}

// 0, n, 2n, ...
VEC_INLINE __m512i vec_multiples(int32_t n) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_mullo_epi32(lane, _mm512_set1_epi32(n));
}
// 16 floats, `stride` apart.
VEC_INLINE vec vec_load_strided(const float *p, int32_t stride) {
    return _mm512_i32gather_ps(vec_multiples(stride), p, 4);
}

// Transposes 16 x 16 floats in place; p is 64-byte aligned.
VEC_INLINE void vec_transpose(float *p) {
    vec a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = _mm512_load_ps(p + 16 * i);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        _mm512_store_ps(p + 16 * i, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
        _mm512_store_ps(p + 16 * (i + 4), _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0x88));
        _mm512_store_ps(p + 16 * (i + 8), _mm512_shuffle_f32x4(b[i], b[i + 8], 0xdd));
        _mm512_store_ps(p + 16 * (i + 12), _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0xdd));
    }
}

// Dot products take BF16 in pairs: 32 elements a step, even and odd products into the lane of their pair.
VEC_INLINE int32_t dot_elements(enum tensor_format format) {
    return format == TENSOR_BF16 ? 32 : 16;
}

VEC_INLINE vec dot_load_pairs(const void *p) {
    return _mm512_castsi512_ps(_mm512_loadu_si512(p));
}
VEC_INLINE vec dot_load_pairs_n(const void *p, int32_t n) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((1u << n) - 1, p));
}

VEC_INLINE vec dot_load_weight(const char *p, enum tensor_format format) {
    if (format == TENSOR_BF16) return dot_load_pairs(p);
    return format == TENSOR_F16 ? vec_load_f16((const uint16_t *)(const void *)p)
                                : vec_load((const float *)(const void *)p);
}
VEC_INLINE vec dot_load_weight_n(const char *p, enum tensor_format format, int32_t n) {
    if (format == TENSOR_BF16) return dot_load_pairs_n(p, n);
    return format == TENSOR_F16 ? vec_load_f16_n((const uint16_t *)(const void *)p, n)
                                : vec_load_n((const float *)(const void *)p, n);
}
VEC_INLINE vec dot_load_activation(const char *p, enum tensor_format format) {
    return format == TENSOR_BF16 ? dot_load_pairs(p) : vec_load((const float *)(const void *)p);
}
VEC_INLINE vec dot_load_activation_n(const char *p, enum tensor_format format, int32_t n) {
    return format == TENSOR_BF16 ? dot_load_pairs_n(p, n) : vec_load_n((const float *)(const void *)p, n);
}
VEC_INLINE size_t dot_activation_bytes(enum tensor_format format) {
    return format == TENSOR_BF16 ? 2 : 4;
}

VEC_INLINE vec dot_step(vec sum, vec weight, vec activation, enum tensor_format format) {
    if (format == TENSOR_BF16)
        return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(weight), (__m512bh)_mm512_castps_si512(activation));
    return vec_fma(weight, activation, sum);
}

// Activations as dot_load_activation reads them.
VEC_INLINE void dot_store_rounded(void *out, int32_t at, vec x, int32_t n) {
    uint16_t *to = (uint16_t *)out + at;
    if (n < VEC_N)
        vec_store_bf16_n(to, x, n);
    else
        vec_store_bf16(to, x);
}
