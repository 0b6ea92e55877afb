// The small floating-point formats, converted one value at a time. These are the plain definitions that the
// vector versions are tested against.
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float f32_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float f32_from_bf16(uint16_t x) {
    return f32_from_bits((uint32_t)x << 16);
}

// Round to nearest, ties to even; NaN stays NaN (made quiet).
static inline uint16_t bf16_from_f32(float x) {
    uint32_t bits = f32_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float f32_from_f16(uint16_t x);
uint16_t f16_from_f32(float x); // round to nearest even; overflow gives infinity
float f32_from_e4m3(uint8_t x); // OCP FP8 E4M3FN: no infinity, NaN = 0x7f and 0xff
uint8_t e4m3_from_f32(float x); // round to nearest even, saturating at +-448
