#include "base/number.h"

#include <math.h>

float f32_from_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16;
    uint32_t exponent = x >> 10 & 31, mantissa = x & 1023;
    if (exponent == 31) return f32_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float value = (float)mantissa * 0x1p-24f;
    return sign ? -value : value;
}

uint16_t f16_from_f32(float x) {
    uint32_t bits = f32_bits(x);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); // rounds to 65536 or more
    if (magnitude >= 0x38800000u) {                                 // normal
        uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
        return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
    }
    // Subnormal: in units of 2^-24; the float addition of 2^23 rounds to nearest even.
    float scaled = f32_from_bits(magnitude) * 0x1p24f + 0x1p23f;
    return (uint16_t)(sign | (f32_bits(scaled) & 0x7ff));
}

float f32_from_e4m3(uint8_t x) {
    int exponent = x >> 3 & 15, mantissa = x & 7;
    if (exponent == 15 && mantissa == 7) return NAN;
    float value = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    return x & 0x80 ? -value : value;
}

uint8_t e4m3_from_f32(float x) {
    uint8_t sign = (uint8_t)(f32_bits(x) >> 24 & 0x80);
    float magnitude = fabsf(x);
    if (isnan(x)) return (uint8_t)(sign | 0x7f);
    if (magnitude >= 448.0f) return (uint8_t)(sign | 0x7e);
    if (magnitude < 0x1p-6f) return (uint8_t)(sign | (uint8_t)nearbyintf(magnitude * 512.0f));
    int exponent;
    float fraction = frexpf(magnitude, &exponent); // magnitude = fraction * 2^exponent, fraction in [0.5, 1)
    int mantissa = (int)nearbyintf(fraction * 16.0f);
    if (mantissa == 16) mantissa = 8, exponent++;
    return (uint8_t)(sign | (exponent + 6) << 3 | (mantissa - 8));
}
