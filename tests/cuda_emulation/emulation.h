// CUDA kernels on the host: the vocabulary of CUDA C for the host's C++ compiler. Every CUDA thread is a fiber of one
// host thread; the threads of a block run in a seeded random order, each until its next barrier or warp collective.
// Blocks run one after another. What the hardware leaves undefined ends the process with a message that says where:
// a lane that a mask names but that has exited, lanes at different collectives, threads that wait for ever, an
// asynchronous copy to a misaligned address, a host that touches device memory, a kernel that reads before
// dependency_wait what another one wrote. Shared memory begins every block as NaN bytes, and an asynchronous copy
// leaves NaN bytes in its place until somebody waits for it.
//
// Included by kernels/cuda/device.h only. Thread: any; launches of several host threads take turns.
#pragma once

#include "emulation_control.h"
#include <cuda_runtime_api.h>
#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <tuple>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
// All static shared variables lie in one section, so that it can be poisoned between blocks.
#define __shared__ static __attribute__((section("optima_shared")))
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct emulation_thread {
    uint3 index;
    unsigned lane; // of its warp
};
extern struct emulation_thread *emulation_thread_now;
extern uint3 emulation_block_index;
extern dim3 emulation_block_size, emulation_grid_size;
#define threadIdx (emulation_thread_now->index)
#define blockIdx emulation_block_index
#define blockDim emulation_block_size
#define gridDim emulation_grid_size
static const int warpSize = 32;

// ------------------------------------------------------------------------------------------------------- launches

// Checks the configuration as a device would, then runs or captures. `text` names the launch in messages.
cudaError_t emulation_launch_closure(const char *text, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                                     bool overlap, std::function<void()> kernel);

template <typename... Parameters, typename... Arguments>
cudaError_t emulation_launch(const char *text, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                             size_t shared_bytes, cudaStream_t stream, bool overlap, Arguments... arguments) {
    // Arguments become the kernel's parameters now, as the driver copies them at the launch.
    std::tuple<Parameters...> parameters(static_cast<Parameters>(arguments)...);
    return emulation_launch_closure(text, grid, block, shared_bytes, stream, overlap,
                                    [kernel, parameters] { std::apply(kernel, parameters); });
}

void *emulation_dynamic_shared(void);
void emulation_dependency_wait(void);
[[noreturn]] void emulation_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ------------------------------------------------------------------------------------------------------- barriers

// n_threads 0: all live threads of the block. Returns how many arrived with `predicate` set.
int emulation_barrier(unsigned id, unsigned n_threads, bool predicate);
void emulation_barrier_arrive(unsigned id, unsigned n_threads);

static inline void __syncthreads() {
    emulation_barrier(0, 0, false);
}
static inline int __syncthreads_count(int predicate) {
    return emulation_barrier(0, 0, predicate != 0);
}
static inline int __syncthreads_or(int predicate) {
    return emulation_barrier(0, 0, predicate != 0) != 0;
}
static inline int __syncthreads_and(int predicate) {
    return emulation_barrier(0, 0, predicate == 0) == 0;
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

// ----------------------------------------------------------------------------------------------- warp collectives

// The last lane of `mask` to arrive calls `operation` once for all of them with every lane's argument; the arguments
// of lanes outside the mask are not set. `name` is for messages.
typedef void emulation_operation(void *const arguments[32], unsigned mask);
void emulation_collective(emulation_operation *operation, const char *name, unsigned mask, void *argument);

// Asks that lane `source`, which lane `reader` reads, takes part.
static inline void emulation_check_source(unsigned mask, unsigned source, unsigned reader) {
    if (!(mask >> source & 1)) emulation_fail("lane %u reads lane %u, which is not in mask %08x", reader, source, mask);
}

template <typename T> struct emulation_shuffle {
    T value, result;
    unsigned source;
    static void complete(void *const arguments[32], unsigned mask) {
        for (unsigned lane = 0; lane < 32; lane++) {
            if (!(mask >> lane & 1)) continue;
            emulation_shuffle *shuffle = static_cast<emulation_shuffle *>(arguments[lane]);
            emulation_check_source(mask, shuffle->source, lane);
            shuffle->result = static_cast<emulation_shuffle *>(arguments[shuffle->source])->value;
        }
    }
    static T run(unsigned mask, T value, unsigned source) {
        emulation_shuffle shuffle = {value, value, source};
        emulation_collective(complete, "a shuffle", mask, &shuffle);
        return shuffle.result;
    }
};

template <typename T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    unsigned lane = emulation_thread_now->lane, in_segment = (unsigned)source & (unsigned)(width - 1);
    return emulation_shuffle<T>::run(mask, value, (lane & ~(unsigned)(width - 1)) + in_segment);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
    unsigned lane = emulation_thread_now->lane, source = lane ^ (unsigned)lane_mask;
    bool beyond = source > (lane | (unsigned)(width - 1));
    return emulation_shuffle<T>::run(mask, value, beyond ? lane : source);
}
template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    unsigned lane = emulation_thread_now->lane, in_segment = lane & (unsigned)(width - 1);
    return emulation_shuffle<T>::run(mask, value, in_segment < delta ? lane : lane - delta);
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    unsigned lane = emulation_thread_now->lane, in_segment = lane & (unsigned)(width - 1);
    return emulation_shuffle<T>::run(mask, value, in_segment + delta >= (unsigned)width ? lane : lane + delta);
}

unsigned __ballot_sync(unsigned mask, int predicate);
static inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, !predicate) == 0;
}
void __syncwarp(unsigned mask = 0xffffffffu);

// The tree of __shfl_xor_sync over WIDTH lanes, largest distance first, as one collective.
template <typename T, int WIDTH, bool IS_MAX> struct emulation_reduce {
    static void complete(void *const arguments[32], unsigned) {
        T value[32], next[32];
        for (int lane = 0; lane < 32; lane++) value[lane] = *static_cast<T *>(arguments[lane]);
        for (int distance = WIDTH / 2; distance > 0; distance /= 2) {
            for (int lane = 0; lane < 32; lane++) {
                T a = value[lane], b = value[lane ^ distance];
                next[lane] = IS_MAX ? (a > b || b != b ? a : b) : a + b;
            }
            memcpy(value, next, sizeof value);
        }
        for (int lane = 0; lane < 32; lane++) *static_cast<T *>(arguments[lane]) = value[lane];
    }
    static T run(T value) {
        emulation_collective(complete, IS_MAX ? "warp_max" : "warp_sum", 0xffffffffu, &value);
        return value;
    }
};

// From base/number.h, which is C.
uint16_t emulation_bf16_from_f32(float x);
uint16_t emulation_f16_from_f32(float x);
float emulation_f32_from_f16(uint16_t x);

void emulation_ldmatrix(uint32_t *registers, const void *row, int n_matrices, bool transposed);
void emulation_mma(float d[4], const uint32_t a[4], const uint32_t b[2], bool is_bf16);

// --------------------------------------------------------------------------------------------- asynchronous copies

void emulation_copy_async(void *shared, const void *global, bool valid);
void emulation_copy_async_commit(void);
void emulation_copy_async_wait(unsigned n_groups_pending);

#include "emulation_builtins.h"
