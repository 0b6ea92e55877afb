// What the plan and the kernels of attention agree on. Read by C and by CUDA files.
#pragma once

#include "kernels/cuda/attention.h"

#if defined(__CUDACC__) || defined(OPTIMA_CUDA_EMULATION)
#define HOST_AND_DEVICE static __host__ __device__ __forceinline__
#else
#define HOST_AND_DEVICE static inline
#endif

enum {
    ATTENTION_BLOCK = 16,        // positions in a block of the cache
    HEAD_DIM_MAX = 256,          // heads are as wide as a multiple of 4
    ATTENTION_TILE = 64,         // positions that kernels take at once, aligned to position 0
    ATTENTION_SLOT_QUERIES = 16, // queries of one slot of partial results, and of a decode item
    ATTENTION_SPLIT = 512,       // shortest fixed split
    ATTENTION_DECODE_RESIDENT = 3,
    ATTENTION_PREFILL_RESIDENT = 2, // thread blocks of each kernel that a multiprocessor holds
};

// Queries of a prompt tile.
HOST_AND_DEVICE int32_t attention_tile_queries(int32_t head_dim) {
    return head_dim > 128 ? 64 : 128;
}

// The end of the fixed split that begins at `begin`: splits of 512 positions up to 8,192, then 8 in every power of two,
// so that few partial results serve the longest context. A row's bits under `deterministic` follow from these ends.
HOST_AND_DEVICE int32_t attention_split_end(int32_t begin) {
    int32_t length = ATTENTION_SPLIT;
    while (begin / 16 >= length) length *= 2;
    return begin - begin % length + length;
}

// Bytes of one half (K or V) of one head in one block; FP8 has the scales behind it.
HOST_AND_DEVICE size_t attention_half_bytes(enum kv_format format, int32_t head_dim) {
    size_t elements = (size_t)ATTENTION_BLOCK * (size_t)head_dim;
    if (format == KV_F32) return elements * 4;
    if (format == KV_BF16) return elements * 2;
    return elements + ATTENTION_BLOCK * sizeof(float);
}

// Floats of one slot for one key/value head: [queries][D] sums of values, then [queries] maxima, then [queries] sums.
// The slots of all heads lie together: slot s of head h is number s * n_kv_heads + h.
HOST_AND_DEVICE size_t attention_slot_floats(int32_t head_dim) {
    return (size_t)ATTENTION_SLOT_QUERIES * ((size_t)head_dim + 2);
}

// Whether the tensor cores serve this shape, else attention_any does.
HOST_AND_DEVICE bool attention_has_items(enum kv_format format, int32_t head_dim, int32_t group, bool deterministic) {
    if (format == KV_F32 || (head_dim != 64 && head_dim != 96 && head_dim != 128 && head_dim != 256)) return false;
    return group <= (deterministic ? ATTENTION_SLOT_QUERIES : attention_tile_queries(head_dim));
}
