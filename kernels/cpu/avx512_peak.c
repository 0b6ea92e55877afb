#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/peak_template.h"

static void keep_integers(__m512i x) {
    __asm__ volatile("" : : "v"(x));
}

double avx512_peak_bf16(int32_t n) {
    __m512 sums[PEAK_CHAINS];
    for (int c = 0; c < PEAK_CHAINS; c++) sums[c] = _mm512_set1_ps((float)c);
    __m512bh a = (__m512bh)_mm512_set1_epi16(0x3e80), b = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int32_t i = 0; i < n; i++)
#pragma GCC unroll 12
        for (int c = 0; c < PEAK_CHAINS; c++) sums[c] = _mm512_dpbf16_ps(sums[c], a, b);
    for (int c = 0; c < PEAK_CHAINS; c++) keep(sums[c]);
    return 4.0 * VEC_N * PEAK_CHAINS * n;
}

double avx512_peak_int8(int32_t n) {
    __m512i sums[PEAK_CHAINS];
    for (int c = 0; c < PEAK_CHAINS; c++) sums[c] = _mm512_set1_epi32(c);
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
    for (int32_t i = 0; i < n; i++)
#pragma GCC unroll 12
        for (int c = 0; c < PEAK_CHAINS; c++) sums[c] = _mm512_dpbusd_epi32(sums[c], a, b);
    for (int c = 0; c < PEAK_CHAINS; c++) keep_integers(sums[c]);
    return 8.0 * VEC_N * PEAK_CHAINS * n;
}
