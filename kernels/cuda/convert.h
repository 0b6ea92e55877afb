// The small formats of numbers on the device: bf16, f16, e4m3 (FP8) and INT4. base/number.h has the plain definitions
// for the host, which these are tested against over all codes. Included by device.h.
#pragma once

static __device__ __forceinline__ float to_float(float x) {
    return x;
}
static __device__ __forceinline__ float to_float(bf16 x) {
    return __uint_as_float((uint32_t)x.bits << 16);
}
static __device__ __forceinline__ float to_float(f16 x) {
    return f32_from_f16_bits(x.bits);
}

// from_float<T>(x): round to nearest even.
template <typename T> static __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return {(uint16_t)pack_bf16(x, 0.0f)};
}
template <> __device__ __forceinline__ f16 from_float<f16>(float x) {
    return {(uint16_t)pack_f16(x, 0.0f)};
}

// A pair of 16-bit numbers in a register, the first in the low half.
static __device__ __forceinline__ float bf16_low(uint32_t pair) {
    return __uint_as_float(pair << 16);
}
static __device__ __forceinline__ float bf16_high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}
static __device__ __forceinline__ float f16_low(uint32_t pair) {
    return f32_from_f16_bits((uint16_t)pair);
}
static __device__ __forceinline__ float f16_high(uint32_t pair) {
    return f32_from_f16_bits((uint16_t)(pair >> 16));
}

// The largest finite number instead of infinity.
static __device__ __forceinline__ uint32_t pack_f16_saturating(float low, float high) {
    // fminf and fmaxf would turn NaN into a number.
    low = low > 65504.0f ? 65504.0f : low < -65504.0f ? -65504.0f : low;
    high = high > 65504.0f ? 65504.0f : high < -65504.0f ? -65504.0f : high;
    return pack_f16(low, high);
}

// ------------------------------------------------------------------------------------------------- e4m3 (OCP FP8 E4M3)

// Four e4m3 to bf16, exact: out[0] holds elements 0 and 1, out[1] elements 2 and 3. Shifted into bf16's fields the
// exponent's bias is off by 120. The NaN codes 0x7f and 0xff become +-480.
static __device__ __forceinline__ void e4m3x4_to_bf16(uint32_t four, uint32_t out[2]) {
    const uint32_t two_to_120 = 0x7b807b80u, minus_zero = 0x80008000u;
    uint32_t low = __byte_perm(four, 0, 0x1404),
             high = __byte_perm(four, 0, 0x3424); // each in the upper byte of a half
    out[0] = fma_bf16x2((low & 0x80008000u) | (low >> 4 & 0x07f007f0u), two_to_120, minus_zero);
    out[1] = fma_bf16x2((high & 0x80008000u) | (high >> 4 & 0x07f007f0u), two_to_120, minus_zero);
}

static __device__ __forceinline__ float e4m3_to_float(uint8_t code) {
    uint32_t fields = (uint32_t)(code & 0x80) << 24 | (uint32_t)(code & 0x7f) << 20;
    return __uint_as_float(fields) * 0x1p120f;
}

// Round to nearest even, saturating at +-448; NaN stays NaN. In integers, for devices before 8.9.
static __device__ __forceinline__ uint32_t e4m3_from_float_integer(float x) {
    uint32_t bits = __float_as_uint(x), sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7f;
    if (magnitude >= 0x43e00000u) return sign | 0x7e;
    // Below 2^-6 in units of 2^-9: the sum with 2^14 is rounded to them.
    if (magnitude < 0x3c800000u)
        return sign | (__float_as_uint(__uint_as_float(magnitude) + 0x1p14f) - __float_as_uint(0x1p14f));
    return sign | (((magnitude + 0x7ffff + (magnitude >> 20 & 1)) >> 20) - (120 << 3));
}

// Two floats to two e4m3, `low` in the low byte.
static __device__ __forceinline__ uint16_t e4m3x2_from_float(float low, float high) {
#if !defined(OPTIMA_CUDA_EMULATION) && __CUDA_ARCH__ >= 890
    return ptx_e4m3x2_from_float(low, high);
#else
    return (uint16_t)(e4m3_from_float_integer(low) | e4m3_from_float_integer(high) << 8);
#endif
}
static __device__ __forceinline__ uint32_t e4m3x4_from_float(float x0, float x1, float x2, float x3) {
    return e4m3x2_from_float(x0, x1) | (uint32_t)e4m3x2_from_float(x2, x3) << 16;
}

// --------------------------------------------------------------------------------------------------------------- INT4

// Nibbles PLACE and PLACE + 4 (0 to 3) of eight INT4 codes 0..15, as the bf16 pair code - 8, exact: 0x4300 | code is
// 128 + code.
template <int PLACE> static __device__ __forceinline__ uint32_t int4_pair_to_bf16(uint32_t eight) {
    const uint32_t one = 0x3f803f80u, minus_136 = 0xc308c308u;
    return fma_bf16x2((eight >> 4 * PLACE & 0x000f000fu) | 0x43004300u, one, minus_136);
}

// All eight: out[i] holds nibbles i and i + 4.
static __device__ __forceinline__ void int4x8_to_bf16(uint32_t eight, uint32_t out[4]) {
    out[0] = int4_pair_to_bf16<0>(eight);
    out[1] = int4_pair_to_bf16<1>(eight);
    out[2] = int4_pair_to_bf16<2>(eight);
    out[3] = int4_pair_to_bf16<3>(eight);
}
