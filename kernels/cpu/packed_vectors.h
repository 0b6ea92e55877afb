// Vectors of integers for products of packed weights: a lane is an output. Included once for each instruction set.
#pragma once

#if defined(__AVX512F__)
typedef __m512i ivec;
VEC_INLINE ivec ivec_all(int32_t x) {
    return _mm512_set1_epi32(x);
}
VEC_INLINE ivec ivec_load(const void *p) {
    return _mm512_loadu_si512(p);
}
VEC_INLINE void ivec_store(void *p, ivec x) {
    _mm512_storeu_si512(p, x);
}
VEC_INLINE ivec ivec_low(ivec x) {
    return _mm512_and_si512(x, _mm512_set1_epi8(15));
}
VEC_INLINE ivec ivec_less_8(ivec x) {
    return _mm512_sub_epi8(x, _mm512_set1_epi8(8));
}
VEC_INLINE ivec ivec_xor(ivec a, ivec b) {
    return _mm512_xor_si512(a, b);
}
VEC_INLINE ivec ivec_high(ivec x) {
    return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15));
}
#else
typedef __m256i ivec;
VEC_INLINE ivec ivec_all(int32_t x) {
    return _mm256_set1_epi32(x);
}
VEC_INLINE ivec ivec_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
VEC_INLINE void ivec_store(void *p, ivec x) {
    _mm256_storeu_si256((__m256i *)p, x);
}
VEC_INLINE ivec ivec_low(ivec x) {
    return _mm256_and_si256(x, _mm256_set1_epi8(15));
}
VEC_INLINE ivec ivec_less_8(ivec x) {
    return _mm256_sub_epi8(x, _mm256_set1_epi8(8));
}
VEC_INLINE ivec ivec_xor(ivec a, ivec b) {
    return _mm256_xor_si256(a, b);
}
VEC_INLINE ivec ivec_high(ivec x) {
    return _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(15));
}
#endif

// A quad of activations in every lane.
VEC_INLINE ivec quad_load(const int8_t *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return ivec_all(x);
}

// What a group of one row begins with, what a quad adds, and the group's sum times the activations' scale.
#if defined(__AVX512F__)
VEC_INLINE ivec group_begin(const struct packed_group *x, enum tensor_format format) {
    if (tensor_format_has_offsets(format)) return ivec_all(PACKED_START);
    return ivec_all(format == TENSOR_INT4 ? x->start_int4 : x->start_int8);
}
VEC_INLINE ivec quad_add(ivec sum, ivec weights, ivec quad, enum tensor_format format, bool first) {
    (void)format, (void)first;
    return _mm512_dpbusd_epi32(sum, weights, quad);
}
VEC_INLINE vec group_end(ivec sum, const struct packed_group *x, enum tensor_format format) {
    (void)format;
    return vec_fma(_mm512_castsi512_ps(sum), vec_all(x->scale), vec_all(x->shift));
}
#else
VEC_INLINE ivec group_begin(const struct packed_group *x, enum tensor_format format) {
    // Bytes are multiplied as signed numbers.
    return format == TENSOR_INT8_OFFSET ? ivec_all(PACKED_START - x->start_int8) : _mm256_setzero_si256();
}
// Products of nibbles add up in 16 bits, two and two, over a whole group: 8 * 2 * 15 * 127 < 2^15. Those of bytes fit
// there in pairs when the first factor is unsigned: the weight's magnitude times the activation with its sign.
VEC_INLINE ivec quad_add(ivec sum, ivec weights, ivec quad, enum tensor_format format, bool first) {
    if (tensor_format_is_int4(format)) {
        const ivec pairs = _mm256_maddubs_epi16(weights, quad);
        return first ? pairs : _mm256_add_epi16(sum, pairs);
    }
    const ivec number = _mm256_xor_si256(weights, _mm256_set1_epi8((char)0x80));
    const ivec pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(number), _mm256_sign_epi8(quad, number));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
VEC_INLINE vec group_end(ivec sum, const struct packed_group *x, enum tensor_format format) {
    if (tensor_format_is_int4(format)) sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
    if (format == TENSOR_INT4) sum = _mm256_add_epi32(sum, ivec_all(x->start_int4 - PACKED_START));
    return vec_mul(_mm256_cvtepi32_ps(sum), vec_all(x->scale));
}
#endif
