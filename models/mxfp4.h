// MXFP4 (OCP Microscaling Formats 1.0): 32 numbers of E2M1 share a scale, which is a power of two (E8M0).
//
// As codes of kernels the numbers are doubled, so that they are whole, and the scales are halved.
#pragma once

#include "base/mem.h"
#include "kernels/tensor.h"
#include "models/stored_tensor.h"

enum { MXFP4_GROUP = 32 };

extern const uint8_t mxfp4_codes[16]; // of TENSOR_INT8
float mxfp4_scale(uint8_t exponent);  // NaN for 255

// Rows first, first + step, first + 2 step, ... of a tensor.
struct mxfp4_range {
    int32_t first, step;
};

// Rows as safetensors have them: 16 bytes for 32 numbers, the low half of a byte before the high one, and their scales
// in a tensor of their own. n_rows of range are there. Lives in the arena.
const struct tensor_rows *mxfp4_open(struct arena *arena, const struct stored_tensor *blocks,
                                     const struct stored_tensor *scales, int32_t n_rows, int32_t n_cols,
                                     const struct mxfp4_range *range);
