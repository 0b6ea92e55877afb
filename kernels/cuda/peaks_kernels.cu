// Kernels that do one thing as fast as the device can.
#include "kernels/cuda/device.h"
#include "kernels/cuda/peaks.h"

enum { LOADS = 8 }; // 16-byte loads of a thread in flight

static __device__ __forceinline__ uint32_t sum_of(uint4 v) {
    return v.x + v.y + v.z + v.w;
}

static __global__ void __launch_bounds__(PEAKS_THREADS) peaks_read_kernel(const uint4 *from, size_t n, uint32_t *sum) {
    __shared__ uint32_t scratch[WARP_LANES];
    dependency_wait();
    size_t stride = (size_t)gridDim.x * PEAKS_THREADS * LOADS;
    uint32_t mine = 0;
    for (size_t i = (size_t)blockIdx.x * PEAKS_THREADS * LOADS + threadIdx.x; i < n; i += stride) {
        uint4 value[LOADS];
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            value[j] = load_streaming_16_if(i + (size_t)j * PEAKS_THREADS < n, from + i + (size_t)j * PEAKS_THREADS);
#pragma unroll
        for (int j = 0; j < LOADS; j++) mine += sum_of(value[j]);
    }
    mine = block_sum(mine, scratch);
    if (threadIdx.x == 0) atomicAdd(sum, mine);
}

// Chains that do not depend on each other hide the latency of one.
static __global__ void __launch_bounds__(PEAKS_THREADS) peaks_multiply_kernel(int32_t n_turns, float by, float *out) {
    float chain[PEAKS_CHAINS];
#pragma unroll
    for (int i = 0; i < PEAKS_CHAINS; i++) chain[i] = (float)(threadIdx.x + i);
#pragma unroll 8
    for (int32_t turn = 0; turn < n_turns; turn++)
#pragma unroll
        for (int i = 0; i < PEAKS_CHAINS; i++) chain[i] = chain[i] * by + 1.0f;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < PEAKS_CHAINS; i++) sum += chain[i];
    if (sum == -1.0f) *out = sum; // never: all that is added is positive
}

static __global__ void peaks_nothing_kernel(void) {
    dependency_launch();
    dependency_wait();
}

cudaError_t peaks_read(const struct peaks_sizes *sizes, const void *from, uint32_t *sum, cudaStream_t stream) {
    return launch(peaks_read_kernel, dim3((unsigned)sizes->n_blocks), dim3(PEAKS_THREADS), 0, stream, false,
                  static_cast<const uint4 *>(from), sizes->read_bytes / sizeof(uint4), sum);
}

cudaError_t peaks_multiply(const struct peaks_sizes *sizes, float *out, cudaStream_t stream) {
    return launch(peaks_multiply_kernel, dim3((unsigned)sizes->n_blocks), dim3(PEAKS_THREADS), 0, stream, false,
                  sizes->multiply_turns, 0.5f, out);
}

cudaError_t peaks_nothing(bool overlap, cudaStream_t stream) {
    return launch(peaks_nothing_kernel, dim3(1), dim3(WARP_LANES), 0, stream, overlap);
}
