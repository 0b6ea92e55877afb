// One element of a weight matrix, as a float. Weights come from mapped files and may lie at any address.
#pragma once

#include "base/number.h"
#include "kernels/tensor.h"

static inline float ref_weight(const struct tensor *weight, size_t index) {
    const char *at = (const char *)weight->data + index * tensor_format_bytes(weight->format);
    float single;
    uint16_t half;
    switch (weight->format) {
    case TENSOR_F32:
        memcpy(&single, at, sizeof single);
        return single;
    case TENSOR_F16:
        memcpy(&half, at, sizeof half);
        return f32_from_f16(half);
    case TENSOR_BF16:
        memcpy(&half, at, sizeof half);
        return f32_from_bf16(half);
    default:
        return 0;
    }
}
