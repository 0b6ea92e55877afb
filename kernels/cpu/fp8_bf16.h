// Codes of E4M3 as BF16 numbers, by table: AVX-512 with VBMI looks up 64 codes at once. Included by files that are
// compiled for it.
#pragma once

#include "kernels/cpu/vec_avx512.h"

// What the code of a positive number is in BF16; the numbers below 2^-6 have no leading 1.
#define FP8_BF16(c)                                                                                                    \
    ((c) >= 8   ? ((c) << 4) + (120 << 7)                                                                              \
     : (c) >= 4 ? (120 << 7) + ((c)-4) * 32                                                                            \
     : (c) >= 2 ? (119 << 7) + ((c)-2) * 64                                                                            \
                : (c) * (118 << 7))
#define FP8_TABLE_4(part, c) part(FP8_BF16(c)), part(FP8_BF16(c + 1)), part(FP8_BF16(c + 2)), part(FP8_BF16(c + 3))
#define FP8_TABLE_16(part, c)                                                                                          \
    FP8_TABLE_4(part, c), FP8_TABLE_4(part, c + 4), FP8_TABLE_4(part, c + 8), FP8_TABLE_4(part, c + 12)
#define FP8_TABLE_64(part, c)                                                                                          \
    FP8_TABLE_16(part, c), FP8_TABLE_16(part, c + 16), FP8_TABLE_16(part, c + 32), FP8_TABLE_16(part, c + 48)
#define FP8_HIGH(bits) ((bits) >> 8)
#define FP8_LOW(bits) ((bits)&255)

// High and low bytes of the BF16 numbers of all codes without sign.
static const uint8_t fp8_table[4][64] __attribute__((aligned(64))) = {
    {FP8_TABLE_64(FP8_HIGH, 0)}, {FP8_TABLE_64(FP8_HIGH, 64)}, {FP8_TABLE_64(FP8_LOW, 0)}, {FP8_TABLE_64(FP8_LOW, 64)}};

// A quad of sixteen outputs, a lane each: inputs 0 and 2, and inputs 1 and 3.
struct fp8_pairs {
    __m512i even, odd;
};

VEC_INLINE struct fp8_pairs fp8_pairs_load(const char *line) {
    const __m512i codes = _mm512_loadu_si512(line);
    const __m512i low =
        _mm512_permutex2var_epi8(_mm512_load_si512(fp8_table[2]), codes, _mm512_load_si512(fp8_table[3]));
    __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(fp8_table[0]), codes, _mm512_load_si512(fp8_table[1]));
    enum { A_OR_B_AND_C = 0xf8 };
    high = _mm512_ternarylogic_epi32(high, codes, _mm512_set1_epi8((char)0x80), A_OR_B_AND_C);
    return (struct fp8_pairs){
        .even = _mm512_ternarylogic_epi32(_mm512_slli_epi16(high, 8), low, _mm512_set1_epi16(0xff), A_OR_B_AND_C),
        .odd =
            _mm512_ternarylogic_epi32(_mm512_srli_epi16(low, 8), high, _mm512_set1_epi16((short)0xff00), A_OR_B_AND_C)};
}
