// Rows of F32 in and out of registers, four values a thread at a time.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/product_device.h"

// Where a block of THREADS that begins at `first` keeps what a thread holds in x[i]: first + quad_offset<THREADS>(i).
template <int THREADS> static __device__ __forceinline__ int32_t quad_offset(int i) {
    return 4 * (i / 4 * THREADS + (int32_t)threadIdx.x) + i % 4;
}

// x[i] = from[first + quad_offset(i)], `fill` at `end` and beyond; all loads are under way at once. `first` is a
// multiple of 4.
template <int THREADS, int N>
static __device__ __forceinline__ void read_quads(float (&x)[N], const float *from, int32_t first, int32_t end,
                                                  float fill) {
    if ((uintptr_t)from % 16 == 0 && end % 4 == 0) {
        uint4 quads[N / 4];
#pragma unroll
        for (int q = 0; q < N / 4; q++) {
            const int32_t at = first + quad_offset<THREADS>(4 * q);
            quads[q] = load_16_if(at < end, from + at);
        }
#pragma unroll
        for (int q = 0; q < N / 4; q++) {
            const bool inside = first + quad_offset<THREADS>(4 * q) < end;
            x[4 * q] = inside ? __uint_as_float(quads[q].x) : fill;
            x[4 * q + 1] = inside ? __uint_as_float(quads[q].y) : fill;
            x[4 * q + 2] = inside ? __uint_as_float(quads[q].z) : fill;
            x[4 * q + 3] = inside ? __uint_as_float(quads[q].w) : fill;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int32_t at = first + quad_offset<THREADS>(i);
        x[i] = at < end ? from[at] : fill;
    }
}

// out[row * n + first + quad_offset(i)] = x[i], where that is inside the row of n. `out` begins on 16 bytes.
template <int THREADS, int N>
static __device__ __forceinline__ void write_quads(void *out, int32_t row, int32_t n, enum operand_format format,
                                                   const float (&x)[N], int32_t first) {
#pragma unroll
    for (int q = 0; q < N; q += 4) {
        const int32_t at = first + quad_offset<THREADS>(q);
        const int64_t index = (int64_t)row * n + at;
        if (n % 4 != 0) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (at + i < n) store_operand(out, index + i, format, x[q + i]);
        } else if (at >= n) {
            continue;
        } else if (format == OPERAND_F32) {
            store_16((float *)out + index, {__float_as_uint(x[q]), __float_as_uint(x[q + 1]), __float_as_uint(x[q + 2]),
                                            __float_as_uint(x[q + 3])});
        } else {
            const uint2 four = format == OPERAND_BF16 ? uint2{pack_bf16(x[q], x[q + 1]), pack_bf16(x[q + 2], x[q + 3])}
                                                      : uint2{pack_f16_saturating(x[q], x[q + 1]),
                                                              pack_f16_saturating(x[q + 2], x[q + 3])};
            *(uint2 *)((uint16_t *)out + index) = four;
        }
    }
}
