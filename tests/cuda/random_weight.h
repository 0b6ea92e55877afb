// Weights of any format with the numbers that they stand for, for tests of what reads them.
#pragma once

#include "base/number.h"
#include "base/rng.h"
#include "kernels/cuda/quantize.h"
#include "tests/cuda/device_buffer.h"

struct random_weight {
    struct device_weight device;
    double *value; // [n_out, n_in], exact
};

struct weight_kind {
    enum device_format format;
    int32_t group; // FP8: 0 is one scale an output
    bool zeros;    // INT4 with zero points
};

static inline float random_normal(uint64_t key, uint64_t index) {
    return (float)rng_normal_quantile((rng_quantile(rng_key(key, 0, 0), index) + 0.5) / RNG_QUANTILES);
}

// Rounded to the format; its bytes at `at` of `to`.
static inline double store_float(enum operand_format format, void *to, size_t at, float x) {
    uint16_t half = format == OPERAND_BF16 ? bf16_from_f32(x) : f16_from_f32(x);
    if (format == OPERAND_F32) {
        ((float *)to)[at] = x;
        return (double)x;
    }
    ((uint16_t *)to)[at] = half;
    return (double)(format == OPERAND_BF16 ? f32_from_bf16(half) : f32_from_f16(half));
}

// Codes and scales of the quantised formats are drawn, not made from numbers: all codes come.
static inline struct random_weight random_weight_make(struct device_buffers *buffers, struct weight_kind kind,
                                                      int32_t n_out, int32_t n_in, uint64_t key) {
    size_t n = (size_t)n_out * (size_t)n_in;
    int32_t group = kind.group ? kind.group : n_in, n_groups = (n_in + group - 1) / group;
    size_t n_scales = (size_t)n_out * (size_t)n_groups;
    struct random_weight w = {.device = {.format = kind.format, .n_out = n_out, .n_in = n_in, .group = group},
                              .value = malloc(n * sizeof(double))};
    uint8_t *data = calloc(n, 4), *zero = malloc(n_scales);
    float *scale = malloc(n_scales * sizeof(float));
    uint16_t *scale_f16 = malloc(n_scales * 2);
    w.device.multiplier = 0x1p-7f;
    for (size_t i = 0; i < n_scales; i++) {
        scale[i] = (0.5f + rng_uniform(rng_key(key, 2, 0), i)) * 0.01f;
        scale_f16[i] = f16_from_f32(scale[i] * 128 * (i % 3 ? 1.0f : -1.0f));
        zero[i] = (uint8_t)(kind.zeros ? rng_u32(rng_key(key, 4, 0), i) % 16 : 8);
    }
    for (size_t i = 0; i < n; i++) {
        size_t row = i / (size_t)n_in, k = i % (size_t)n_in, s = row * (size_t)n_groups + k / (size_t)group;
        uint32_t code = rng_u32(rng_key(key, 6, 0), i);
        if (kind.format == DEVICE_INT4) {
            size_t nibble = row * (size_t)n_in + (size_t)int4_nibble((int32_t)k);
            data[nibble / 2] = (uint8_t)(data[nibble / 2] | (code % 16) << nibble % 2 * 4);
            w.value[i] = ((double)(code % 16) - zero[s]) * (double)f32_from_f16(scale_f16[s]) / 128;
        } else if (kind.format == DEVICE_FP8) {
            data[i] = (uint8_t)(code % 128 == 127 ? code - 1 : code); // no NaN
            w.value[i] = (double)f32_from_e4m3(data[i]) * (double)scale[s];
        } else {
            w.value[i] = store_float(operand_format_for(kind.format), data, i, 0.05f * random_normal(key, i));
        }
    }
    size_t bytes = kind.format == DEVICE_INT4  ? n / 2
                   : kind.format == DEVICE_FP8 ? n
                   : kind.format == DEVICE_F32 ? n * 4
                                               : n * 2;
    w.device.data = device_upload(buffers, data, bytes);
    if (kind.format == DEVICE_FP8) w.device.scale = device_upload(buffers, scale, n_scales * sizeof(float));
    if (kind.format == DEVICE_INT4) w.device.scale_f16 = device_upload(buffers, scale_f16, n_scales * 2);
    if (kind.zeros) w.device.zero = device_upload(buffers, zero, n_scales);
    free(data), free(zero), free(scale), free(scale_f16);
    return w;
}
