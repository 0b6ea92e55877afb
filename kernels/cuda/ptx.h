// All inline PTX of the project, each instruction behind a name and with a twin for the host. Included by device.h.
#pragma once

#if defined(OPTIMA_CUDA_EMULATION)
#define PTX_OR_TWIN(ptx, twin) twin
#else
#define PTX_OR_TWIN(ptx, twin) ptx
#endif

#if !defined(OPTIMA_CUDA_EMULATION)
static __device__ __forceinline__ uint32_t shared_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}
#endif

// ------------------------------------------------------------------------------ kernels that overlap (device.h,
// launch)

// Waits until the kernels before this one in the stream have ended and their writes can be seen.
static __device__ __forceinline__ void dependency_wait() {
#if defined(OPTIMA_CUDA_EMULATION)
    emulation_dependency_wait();
#elif __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel in the stream begin as soon as every block has said so or has ended.
static __device__ __forceinline__ void dependency_launch() {
#if !defined(OPTIMA_CUDA_EMULATION) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// -------------------------------------------------------------------------------------------------- loads and stores

// 16 bytes of device memory, on 16 bytes.
static __device__ __forceinline__ uint4 load_16(const void *from) {
    return *static_cast<const uint4 *>(from);
}
static __device__ __forceinline__ void store_16(void *to, uint4 value) {
    *static_cast<uint4 *>(to) = value;
}

// For what is read once and never written by a kernel that may still run: weights. Passes L1 by.
static __device__ __forceinline__ uint4 load_streaming_16(const void *from) {
#if defined(OPTIMA_CUDA_EMULATION)
    return load_16(from);
#else
    uint4 value;
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(from));
    return value;
#endif
}

// The same where `valid`, else zeros, without a branch.
static __device__ __forceinline__ uint4 load_16_if(bool valid, const void *from) {
    uint4 value = {0, 0, 0, 0};
#if defined(OPTIMA_CUDA_EMULATION)
    if (valid) value = load_16(from);
#else
    asm volatile("{ .reg .pred valid; setp.ne.s32 valid, %5, 0; @valid ld.global.v4.u32 {%0, %1, %2, %3}, [%4]; }"
                 : "+r"(value.x), "+r"(value.y), "+r"(value.z), "+r"(value.w)
                 : "l"(from), "r"((int)valid)
                 : "memory");
#endif
    return value;
}
static __device__ __forceinline__ uint4 load_streaming_16_if(bool valid, const void *from) {
#if defined(OPTIMA_CUDA_EMULATION)
    return load_16_if(valid, from);
#else
    uint4 value = {0, 0, 0, 0};
    asm volatile("{ .reg .pred valid; setp.ne.s32 valid, %5, 0; "
                 "@valid ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4]; }"
                 : "+r"(value.x), "+r"(value.y), "+r"(value.z), "+r"(value.w)
                 : "l"(from), "r"((int)valid));
    return value;
#endif
}

// Asks for the cache line of an address of device memory; changes nothing.
static __device__ __forceinline__ void prefetch_l2(const void *address) {
#if defined(OPTIMA_CUDA_EMULATION)
    (void)address;
#else
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

// ---------------------------------------------------------------------------------------------- asynchronous copies

// Begins to copy 16 bytes from device memory to shared memory, or, where not `valid`, to write 16 zero bytes without
// reading. The bytes are there for this thread after copy_async_wait, for others after a barrier that follows it.
static __device__ __forceinline__ void copy_async_16(void *shared, const void *global, bool valid) {
#if defined(OPTIMA_CUDA_EMULATION)
    emulation_copy_async(shared, global, valid);
#else
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
#endif
}

// Closes a group of this thread's copies.
static __device__ __forceinline__ void copy_async_commit() {
    PTX_OR_TWIN(asm volatile("cp.async.commit_group;" ::: "memory"), emulation_copy_async_commit());
}

// Waits until at most PENDING of the newest groups are not done.
template <int PENDING> static __device__ __forceinline__ void copy_async_wait() {
    PTX_OR_TWIN(asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"), emulation_copy_async_wait(PENDING));
}

// ---------------------------------------------------------------------------------------------------------- barriers

// Barriers 1 to 15, for some warps of a block; n_threads is a multiple of 32 and counts arrivals and waiters.
static __device__ __forceinline__ void barrier_sync(int id, int n_threads) {
    PTX_OR_TWIN(asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads)
                             : "memory"),
                emulation_barrier((unsigned)id, (unsigned)n_threads, false));
}
static __device__ __forceinline__ void barrier_arrive(int id, int n_threads) {
    PTX_OR_TWIN(asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(n_threads)
                             : "memory"),
                emulation_barrier_arrive((unsigned)id, (unsigned)n_threads));
}

// --------------------------------------------------------------------------------- matrices of 8 x 8 16-bit elements

// Lane l names row l % 8 of matrix l / 8 (16 bytes of shared memory, on 16 bytes) and receives, of every matrix, the
// elements 2 (l % 4) and the next one of row l / 4; _trans: of column l / 4. _x2 reads the names of lanes 0 to 15.
static __device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *shared_row) {
    PTX_OR_TWIN(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                             : "r"(shared_address(shared_row))
                             : "memory"),
                emulation_ldmatrix(r, shared_row, 4, false));
}
static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *shared_row) {
    PTX_OR_TWIN(asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                             : "r"(shared_address(shared_row))
                             : "memory"),
                emulation_ldmatrix(r, shared_row, 4, true));
}
static __device__ __forceinline__ void ldmatrix_x2(uint32_t r[2], const void *shared_row) {
    PTX_OR_TWIN(asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                             : "=r"(r[0]), "=r"(r[1])
                             : "r"(shared_address(shared_row))
                             : "memory"),
                emulation_ldmatrix(r, shared_row, 2, false));
}
static __device__ __forceinline__ void ldmatrix_x2_trans(uint32_t r[2], const void *shared_row) {
    PTX_OR_TWIN(asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                             : "=r"(r[0]), "=r"(r[1])
                             : "r"(shared_address(shared_row))
                             : "memory"),
                emulation_ldmatrix(r, shared_row, 2, true));
}

// D[16, 8] += A[16, 16] B[16, 8], accumulated in F32, by all lanes of a warp. Lane l, with g = l / 4 and t = l % 4:
//   a[0], a[1]: rows g and g + 8 of A, columns 2 t and 2 t + 1 (the first in the low half)
//   a[2], a[3]: the same rows, columns 2 t + 8 and 2 t + 9
//   b[0], b[1]: column g of B, rows 2 t, 2 t + 1 and 2 t + 8, 2 t + 9
//   d[0], d[1]: row g, columns 2 t and 2 t + 1; d[2], d[3]: row g + 8
static __device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    PTX_OR_TWIN(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                             "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                             : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])),
                emulation_mma(d, a, b, true));
}
static __device__ __forceinline__ void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    PTX_OR_TWIN(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                             "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                             : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])),
                emulation_mma(d, a, b, false));
}

// -------------------------------------------------------------------------------------------------------- arithmetic

// The value, of which the compiler knows nothing: what follows from it is computed where it is used, instead of once
// before a loop in registers that are then missing.
static __device__ __forceinline__ int32_t opaque(int32_t value) {
    asm volatile("" : "+r"(value));
    return value;
}

// 2^x within 2 units in the last place; results and arguments too small to be normal count as zero.
static __device__ __forceinline__ float exp2_fast(float x) {
#if defined(OPTIMA_CUDA_EMULATION)
    float result = exp2f(x);
    return result < 0x1p-126f ? 0.0f : result;
#else
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#endif
}

// Two floats to 16 bits each, round to nearest even, `low` in the low half.
static __device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
#if defined(OPTIMA_CUDA_EMULATION)
    return emulation_bf16_from_f32(low) | (uint32_t)emulation_bf16_from_f32(high) << 16;
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}
static __device__ __forceinline__ uint32_t pack_f16(float low, float high) {
#if defined(OPTIMA_CUDA_EMULATION)
    return emulation_f16_from_f32(low) | (uint32_t)emulation_f16_from_f32(high) << 16;
#else
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

static __device__ __forceinline__ float f32_from_f16_bits(uint16_t bits) {
#if defined(OPTIMA_CUDA_EMULATION)
    return emulation_f32_from_f16(bits);
#else
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(bits));
    return result;
#endif
}

// Two bf16 at once: x * factor + addend, rounded once. The emulation's twin rounds through F32, which is the same
// where the result is exact, as in convert.h.
static __device__ __forceinline__ uint32_t fma_bf16x2(uint32_t x, uint32_t factor, uint32_t addend) {
#if defined(OPTIMA_CUDA_EMULATION)
    uint32_t result = 0;
    for (int shift = 0; shift < 32; shift += 16) {
        float value = __uint_as_float(x >> shift << 16), by = __uint_as_float(factor >> shift << 16);
        float sum = fmaf(value, by, __uint_as_float(addend >> shift << 16));
        result |= (uint32_t)emulation_bf16_from_f32(sum) << shift;
    }
    return result;
#else
    uint32_t result;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(x), "r"(factor), "r"(addend));
    return result;
#endif
}

#if !defined(OPTIMA_CUDA_EMULATION) && __CUDA_ARCH__ >= 890
// Two floats to two e4m3, `low` in the low byte; convert.h has the twin, which older devices run too.
static __device__ __forceinline__ uint16_t ptx_e4m3x2_from_float(float low, float high) {
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}
#endif
