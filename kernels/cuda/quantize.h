// Weights are quantised on the device as they are loaded, with scales that minimise the squared error.
#pragma once

#include "kernels/cuda/product.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { INT4_GROUP = 128 };

// Bytes that a weight needs in `format`: data, then scales, each 256-byte aligned.
size_t device_weight_bytes(enum device_format format, int32_t n_out, int32_t n_in);

// Makes `out` from source [n_out, n_in] (F32, F16 or BF16, device memory) in `memory` of device_weight_bytes. FP8: one
// scale an output. INT4: groups of INT4_GROUP, symmetric (n_in must be a multiple of it: ERR_INVALID otherwise is the
// caller's). F32, F16, BF16: copied or rounded.
cudaError_t device_weight_make(struct device_weight *out, enum device_format format, const void *source,
                               enum tensor_format source_format, int32_t n_out, int32_t n_in, void *memory,
                               cudaStream_t stream);

// Fills a weight with random values: a pure function of (seed, index), normally distributed with this deviation.
cudaError_t device_weight_random(struct device_weight *out, enum device_format format, int32_t n_out, int32_t n_in,
                                 uint64_t seed, float deviation, void *memory, cudaStream_t stream);

// Where input k of a row lies among the row's nibbles: the order in which the kernels unpack them. Host and device.
static inline int32_t int4_nibble(int32_t k) {
    // Eight inputs are one 32-bit word: even ones in the nibbles 0..3, odd ones in 4..7, so that word >> 4 j holds the
    // neighbours 2j and 2j+1 sixteen bits apart.
    int32_t i = k & 7;
    return (k & ~7) + (i >> 1) + (i & 1) * 4;
}

// A weight expanded to BF16 [count, n_in]: outputs first .. first + count - 1. FP8 and INT4 with their scales applied.
cudaError_t device_weight_expand(const struct device_weight *weight, int32_t first, int32_t count, void *bf16,
                                 cudaStream_t stream);

#ifdef __cplusplus
}
#endif
