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
// scale an output. INT4: groups of INT4_GROUP, zero point 8 (n_in must be a multiple of it: the caller checks).
// F32, F16, BF16: copied or rounded. Waits for the stream when the format is INT4.
cudaError_t device_weight_make(struct device_weight *out, enum device_format format, const void *source,
                               enum tensor_format source_format, int32_t n_out, int32_t n_in, void *memory,
                               cudaStream_t stream);

// Fills a weight with random numbers, quantiles[rng_quantile(key, index)]: a pure function of key and index, the same
// as a checkpoint of random numbers on the host. `quantiles`: float [RNG_QUANTILES], device memory. FP8 and INT4
// quantise what the BF16 weight would be.
cudaError_t device_weight_random(struct device_weight *out, enum device_format format, int32_t n_out, int32_t n_in,
                                 uint64_t key, const float *quantiles, void *memory, cudaStream_t stream);

// Where input k of a row lies among the row's nibbles: the order in which the kernels read and unpack them.
#ifdef __CUDACC__
static __host__ __device__ inline int32_t int4_nibble(int32_t k);
#endif
static inline int32_t int4_nibble(int32_t k) {
    // 128 inputs are 64 bytes, 16 for each of four lanes; lane t holds inputs 8 t .. 8 t + 7 of every 32, one 32-bit
    // word each. In a word the even inputs are the nibbles 0..3 and the odd ones 4..7, so that word >> 4 j holds the
    // neighbours 2 j and 2 j + 1 sixteen bits apart.
    int32_t word = (k & ~127) / 8 + (k >> 3 & 3) * 4 + (k >> 5 & 3), i = k & 7;
    return word * 8 + (i >> 1) + (i & 1) * 4;
}

// A weight expanded to BF16 [count, n_in]: outputs first .. first + count - 1. FP8 and INT4 with their scales applied,
// so rounded to BF16 once. n_in is a multiple of 8.
cudaError_t device_weight_expand(const struct device_weight *weight, int32_t first, int32_t count, void *bf16,
                                 cudaStream_t stream);

#ifdef __cplusplus
}
#endif
