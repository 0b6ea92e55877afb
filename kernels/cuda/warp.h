// Reductions over the lanes of a warp and the threads of a block, in one fixed order. Included by device.h.
#pragma once

// Over groups of WIDTH neighbouring lanes (32: the warp); every lane has the result. All lanes of the warp take part.
template <int WIDTH = 32, typename T> static __device__ __forceinline__ T warp_sum(T value) {
#if defined(OPTIMA_CUDA_EMULATION)
    return emulation_reduce<T, WIDTH, false>::run(value);
#else
#pragma unroll
    for (int distance = WIDTH / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_MASK, value, distance);
    return value;
#endif
}

template <int WIDTH = 32, typename T> static __device__ __forceinline__ T warp_max(T value) {
#if defined(OPTIMA_CUDA_EMULATION)
    return emulation_reduce<T, WIDTH, true>::run(value);
#else
#pragma unroll
    for (int distance = WIDTH / 2; distance > 0; distance /= 2)
        value = max(value, __shfl_xor_sync(FULL_MASK, value, distance));
    return value;
#endif
}

// Over a block of up to 1,024 threads in one dimension; every thread has the result. `scratch` is shared memory for 32
// values, which may be used again as soon as the call returns.
template <typename T> static __device__ __forceinline__ T block_sum(T value, T *scratch) {
    int lane = threadIdx.x % WARP_LANES, n_warps = (blockDim.x + WARP_LANES - 1) / WARP_LANES;
    value = warp_sum(value);
    if (lane == 0) scratch[threadIdx.x / WARP_LANES] = value;
    __syncthreads();
    value = warp_sum(lane < n_warps ? scratch[lane] : T(0));
    __syncthreads();
    return value;
}

template <typename T> static __device__ __forceinline__ T block_max(T value, T *scratch) {
    int lane = threadIdx.x % WARP_LANES, n_warps = (blockDim.x + WARP_LANES - 1) / WARP_LANES;
    value = warp_max(value);
    if (lane == 0) scratch[threadIdx.x / WARP_LANES] = value;
    __syncthreads();
    value = warp_max(scratch[lane < n_warps ? lane : 0]);
    __syncthreads();
    return value;
}
