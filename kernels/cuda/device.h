// The ground under every .cu file, and the only header that knows which compiler it is: nvcc, or the host's C++
// compiler under the emulation of tests/cuda_emulation/ (OPTIMA_CUDA_EMULATION). Behind it lie ptx.h (inline PTX with
// host twins), convert.h (formats of numbers) and warp.h (reductions).
//
// Kernels are CUDA C: threadIdx, __syncthreads(), __shfl_*_sync(FULL_MASK, ...), __shared__, atomics on int, unsigned,
// unsigned long long and float. Kernels and device functions are static; blocks are whole warps; grids have no order.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(OPTIMA_CUDA_EMULATION)
#include "emulation.h"
#else
#include <cuda_runtime.h>
#endif

#define FULL_MASK 0xffffffffu

enum { WARP_LANES = 32, SHARED_BYTES_DEFAULT = 48 << 10 };

// Storage of 16-bit numbers; convert.h computes with them.
struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

// launch(kernel, grid, block, shared_bytes, stream, overlap, arguments...) -> cudaError_t. `shared_bytes` is dynamic
// shared memory, up to what the device has. With `overlap` the kernel may begin while the one before it in the stream
// still runs (programmatic dependent launch, 9.0 and up): it must call dependency_wait() before it reads anything that
// an earlier kernel wrote, or writes anything that an earlier one reads.
#if defined(OPTIMA_CUDA_EMULATION)

#define launch(...) emulation_launch(#__VA_ARGS__, __VA_ARGS__)
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emulation_dynamic_shared())

#else

static inline bool launch_can_overlap() {
    static int major = 0;
    int device;
    if (major == 0 && (cudaGetDevice(&device) != cudaSuccess ||
                       cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess))
        return false;
    return major >= 9;
}

template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                                 cudaStream_t stream, bool overlap, Arguments... arguments) {
    if (shared_bytes > SHARED_BYTES_DEFAULT) {
        cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (error != cudaSuccess) return error;
    }
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = overlap && launch_can_overlap() ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// On 128 bytes. All kernels of a file share the one symbol behind it.
#define DYNAMIC_SHARED(type, name)                                                                                     \
    extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];                                             \
    type *name = reinterpret_cast<type *>(dynamic_shared_bytes)

#endif

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/warp.h"
