// Weights become FP8 or INT4 on the device: for each scale a few candidates are tried on all of its values, and the one
// with the smallest squared error is kept. Round-to-nearest by the largest value is always among them.
#include "kernels/cuda/quantize.h"
#include "base/rng.h"
#include "kernels/cuda/device.h"

#include <math.h>

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    SOURCE_RANDOM = 3, // beside enum tensor_format
    FP8_CANDIDATES = 12,
};

struct source {
    const void *data; // or random numbers:
    uint64_t key;
    const float *quantiles;
};

template <int SOURCE> static __device__ __forceinline__ float source_value(const struct source *source, int64_t at) {
    if (SOURCE == TENSOR_F32) return ((const float *)source->data)[at];
    if (SOURCE == TENSOR_F16) return to_float(((const struct f16 *)source->data)[at]);
    if (SOURCE == TENSOR_BF16) return to_float(((const struct bf16 *)source->data)[at]);
    return source->quantiles[rng_quantile(source->key, (uint64_t)at)];
}

// What the quantised formats begin with: random numbers are those of a BF16 checkpoint.
template <int SOURCE> static __device__ __forceinline__ float source_weight(const struct source *source, int64_t at) {
    float value = source_value<SOURCE>(source, at);
    return SOURCE == SOURCE_RANDOM ? to_float(from_float<struct bf16>(value)) : value;
}

// ------------------------------------------------------------------------------------------------------- F32, F16,
// BF16

template <int SOURCE>
static __global__ void float_kernel(void *out, enum device_format format, struct source source, int64_t n) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        float value = source_value<SOURCE>(&source, i);
        if (format == DEVICE_F32)
            ((float *)out)[i] = value;
        else if (format == DEVICE_F16)
            ((struct f16 *)out)[i] = from_float<struct f16>(value);
        else
            ((struct bf16 *)out)[i] = from_float<struct bf16>(value);
    }
}

// ----------------------------------------------------------------------------------------------------------------- FP8

// A block takes one output. Scales from a little below the largest value / 448, which cuts off what few values lie
// above, to nearly twice that: beyond, the grid of numbers repeats.
static __device__ __forceinline__ float fp8_candidate(float largest, int i) {
    return fmaxf(largest / 448, 0x1p-100f) * exp2f((i - 3) * 0.125f);
}

static __device__ __forceinline__ float fp8_error(float value, float scale, float reciprocal) {
    uint8_t code = (uint8_t)e4m3x2_from_float(value * reciprocal, 0);
    float error = value - e4m3_to_float(code) * scale;
    return error * error;
}

template <int SOURCE>
static __global__ void __launch_bounds__(THREADS)
    fp8_kernel(uint8_t *out, float *scales, struct source source, int32_t n_in) {
    __shared__ float scratch[32], errors[FP8_CANDIDATES][WARPS];
    const int64_t first = (int64_t)blockIdx.x * n_in;
    float largest = 0;
    for (int32_t k = threadIdx.x; k < n_in; k += THREADS)
        largest = fmaxf(largest, fabsf(source_weight<SOURCE>(&source, first + k)));
    largest = block_max(largest, scratch);
    float scale[FP8_CANDIDATES], reciprocal[FP8_CANDIDATES], error[FP8_CANDIDATES] = {};
#pragma unroll
    for (int i = 0; i < FP8_CANDIDATES; i++) scale[i] = fp8_candidate(largest, i), reciprocal[i] = 1 / scale[i];
    for (int32_t k = threadIdx.x; k < n_in; k += THREADS) {
        float value = source_weight<SOURCE>(&source, first + k);
#pragma unroll
        for (int i = 0; i < FP8_CANDIDATES; i++) error[i] += fp8_error(value, scale[i], reciprocal[i]);
    }
#pragma unroll
    for (int i = 0; i < FP8_CANDIDATES; i++) {
        float sum = warp_sum(error[i]);
        if (threadIdx.x % 32 == 0) errors[i][threadIdx.x / 32] = sum;
    }
    __syncthreads();
    int best = 0;
    float least = INFINITY;
    for (int i = 0; i < FP8_CANDIDATES; i++) {
        float sum = 0;
        for (int warp = 0; warp < WARPS; warp++) sum += errors[i][warp];
        if (sum < least) least = sum, best = i;
    }
    const float chosen = fp8_candidate(largest, best), factor = 1 / chosen;
    if (threadIdx.x == 0) scales[blockIdx.x] = chosen;
    for (int32_t k = threadIdx.x; k < n_in; k += THREADS)
        out[first + k] = (uint8_t)e4m3x2_from_float(source_weight<SOURCE>(&source, first + k) * factor, 0);
}

// ---------------------------------------------------------------------------------------------------------------- INT4

// The bits of positive floats have the order of the floats.
template <int SOURCE>
static __global__ void __launch_bounds__(THREADS)
    largest_kernel(unsigned *largest_bits, struct source source, int64_t n) {
    __shared__ float scratch[32];
    float largest = 0;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS)
        largest = fmaxf(largest, fabsf(source_weight<SOURCE>(&source, i)));
    largest = block_max(largest, scratch);
    if (threadIdx.x == 0) atomicMax(largest_bits, __float_as_uint(largest));
}

static __device__ __forceinline__ int int4_code(float value, float reciprocal) {
    return (int)fminf(fmaxf(rintf(value * reciprocal), -8.0f), 7.0f) + 8;
}

// Codes reach from -8 to 7, so a scale may be negative: the longer side goes where it is of use. Candidate i is the
// largest value / 7 .. / 10.75, both signs. f16, never subnormal.
static __device__ __forceinline__ struct f16 int4_candidate(float largest, float multiplier, int i) {
    float scale = largest / (7 + (i >> 1) * 0.25f) / multiplier;
    return from_float<struct f16>(fmaxf(scale, 0x1p-14f) * (i & 1 ? -1.0f : 1.0f));
}

// A warp takes one group; a lane tries one candidate on all of its values.
template <int SOURCE>
static __global__ void __launch_bounds__(THREADS)
    int4_kernel(uint32_t *out, struct f16 *scales, struct source source, int64_t n_groups, float multiplier) {
    __shared__ float shared[WARPS][INT4_GROUP];
    const int lane = threadIdx.x % 32;
    const int64_t group = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (group >= n_groups) return;
    float *values = shared[threadIdx.x / 32], largest = 0;
    for (int i = lane; i < INT4_GROUP; i += 32) {
        values[i] = source_weight<SOURCE>(&source, group * INT4_GROUP + i);
        largest = fmaxf(largest, fabsf(values[i]));
    }
    __syncwarp();
    largest = warp_max(largest);
    struct f16 candidate = int4_candidate(largest, multiplier, lane);
    float scale = to_float(candidate) * multiplier, reciprocal = 1 / scale, error = 0;
    for (int i = 0; i < INT4_GROUP; i++) {
        float difference = values[i] - (float)(int4_code(values[i], reciprocal) - 8) * scale;
        error += difference * difference;
    }
    int best = lane;
    for (int distance = 16; distance > 0; distance /= 2) {
        float other = __shfl_xor_sync(FULL_MASK, error, distance);
        int other_best = __shfl_xor_sync(FULL_MASK, best, distance);
        if (other < error || (other == error && other_best < best)) error = other, best = other_best;
    }
    candidate = int4_candidate(largest, multiplier, best);
    if (lane == 0) scales[group] = candidate;
    reciprocal = 1 / (to_float(candidate) * multiplier);
    if (lane >= INT4_GROUP / 8) return;
    // The inverse of int4_nibble for one word.
    uint32_t word = 0;
    for (int i = 0; i < 8; i++) {
        int code = int4_code(values[lane % 4 * 32 + lane / 4 * 8 + i], reciprocal);
        word |= (uint32_t)code << 4 * ((i >> 1) + (i & 1) * 4);
    }
    out[group * (INT4_GROUP / 8) + lane] = word;
}

// A power of two with which the largest scale is at most 2^15: scales down to 2^-29 of it are normal numbers of f16.
static float int4_multiplier(float largest) {
    int exponent = 15;
    if (largest > 0 && isfinite(largest)) frexpf(largest / 7, &exponent);
    return ldexpf(1, exponent - 15);
}

// ---------------------------------------------------------------------------------------------------------- expansion

// A thread takes eight neighbouring inputs of an output.
static __global__ void __launch_bounds__(THREADS)
    expand_kernel(const __grid_constant__ struct device_weight w, int32_t first, int64_t n_eights, void *bf16) {
    dependency_launch();
    dependency_wait();
    const int64_t eight = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (eight >= n_eights) return;
    const int32_t eights_per_row = w.n_in / 8, k = (int32_t)(eight % eights_per_row) * 8;
    const int64_t row = first + eight / eights_per_row, group = row * (w.n_in / w.group) + k / w.group;
    float value[8], scale;
    if (w.format == DEVICE_FP8) {
        const uint8_t *codes = (const uint8_t *)w.data + row * w.n_in + k;
        scale = w.scale[group];
#pragma unroll
        for (int i = 0; i < 8; i++) value[i] = e4m3_to_float(codes[i]);
    } else {
        const uint32_t word = ((const uint32_t *)w.data)[(row * w.n_in + (int4_nibble(k) & ~7)) / 8];
        const int zero = w.zero ? w.zero[group] : 8;
        scale = to_float(((const struct f16 *)w.scale_f16)[group]) * w.multiplier;
#pragma unroll
        for (int i = 0; i < 8; i++) value[i] = (float)((int)(word >> 4 * ((i >> 1) + (i & 1) * 4) & 15) - zero);
    }
    uint32_t pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++) pair[i] = pack_bf16(value[2 * i] * scale, value[2 * i + 1] * scale);
    store_16((uint16_t *)bf16 + eight * 8, make_uint4(pair[0], pair[1], pair[2], pair[3]));
}

cudaError_t device_weight_expand(const struct device_weight *weight, int32_t first, int32_t count, void *bf16,
                                 cudaStream_t stream) {
    int64_t n_eights = (int64_t)count * weight->n_in / 8;
    dim3 grid((unsigned)((n_eights + THREADS - 1) / THREADS));
    return launch(expand_kernel, grid, dim3(THREADS), 0, stream, true, *weight, first, n_eights, bf16);
}

// ------------------------------------------------------------------------------------------------------------- making

static size_t align_256(size_t n_bytes) {
    return (n_bytes + 255) & ~(size_t)255;
}

static size_t data_bytes(enum device_format format, int32_t n_out, int32_t n_in) {
    size_t n = (size_t)n_out * (size_t)n_in;
    return format == DEVICE_INT4 ? n / 2 : format == DEVICE_FP8 ? n : format == DEVICE_F32 ? n * 4 : n * 2;
}

size_t device_weight_bytes(enum device_format format, int32_t n_out, int32_t n_in) {
    size_t scales = format == DEVICE_FP8    ? (size_t)n_out * sizeof(float)
                    : format == DEVICE_INT4 ? (size_t)n_out * (size_t)(n_in / INT4_GROUP) * sizeof(struct f16)
                                            : 0;
    return align_256(data_bytes(format, n_out, n_in)) + align_256(scales);
}

static dim3 grid_for(int64_t n) {
    int64_t blocks = (n + THREADS - 1) / THREADS;
    return dim3((unsigned)(blocks < 4096 ? blocks : 4096));
}

template <int SOURCE>
static cudaError_t make_int4(struct device_weight *out, struct source source, void *scales, cudaStream_t stream) {
    const int64_t n = (int64_t)out->n_out * out->n_in, n_groups = n / INT4_GROUP;
    // The largest value passes through the first codes before they are written.
    unsigned bits = 0;
    void *data = const_cast<void *>(out->data);
    cudaError_t error = cudaMemsetAsync(data, 0, sizeof bits, stream);
    if (error == cudaSuccess)
        error =
            launch(largest_kernel<SOURCE>, grid_for(n), dim3(THREADS), 0, stream, false, (unsigned *)data, source, n);
    if (error == cudaSuccess) error = cudaMemcpyAsync(&bits, data, sizeof bits, cudaMemcpyDeviceToHost, stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    if (error != cudaSuccess) return error;
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    out->multiplier = int4_multiplier(largest);
    dim3 grid((unsigned)((n_groups + WARPS - 1) / WARPS));
    return launch(int4_kernel<SOURCE>, grid, dim3(THREADS), 0, stream, false, (uint32_t *)data, (struct f16 *)scales,
                  source, n_groups, out->multiplier);
}

template <int SOURCE>
static cudaError_t make(struct device_weight *out, enum device_format format, struct source source, int32_t n_out,
                        int32_t n_in, void *memory, cudaStream_t stream) {
    void *scales = (char *)memory + align_256(data_bytes(format, n_out, n_in));
    *out = device_weight{};
    out->format = format;
    out->n_out = n_out;
    out->n_in = n_in;
    out->data = memory;
    out->group = format == DEVICE_INT4 ? (int32_t)INT4_GROUP : n_in;
    if (format == DEVICE_INT4) {
        out->scale_f16 = scales;
        return make_int4<SOURCE>(out, source, scales, stream);
    }
    if (format == DEVICE_FP8) {
        out->scale = (const float *)scales;
        return launch(fp8_kernel<SOURCE>, dim3((unsigned)n_out), dim3(THREADS), 0, stream, false, (uint8_t *)memory,
                      (float *)scales, source, n_in);
    }
    const int64_t n = (int64_t)n_out * n_in;
    return launch(float_kernel<SOURCE>, grid_for(n), dim3(THREADS), 0, stream, false, memory, format, source, n);
}

cudaError_t device_weight_make(struct device_weight *out, enum device_format format, const void *source,
                               enum tensor_format source_format, int32_t n_out, int32_t n_in, void *memory,
                               cudaStream_t stream) {
    struct source from = {source, 0, nullptr};
    switch (source_format) {
    case TENSOR_F32:
        return make<TENSOR_F32>(out, format, from, n_out, n_in, memory, stream);
    case TENSOR_F16:
        return make<TENSOR_F16>(out, format, from, n_out, n_in, memory, stream);
    case TENSOR_BF16:
        return make<TENSOR_BF16>(out, format, from, n_out, n_in, memory, stream);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t device_weight_random(struct device_weight *out, enum device_format format, int32_t n_out, int32_t n_in,
                                 uint64_t key, const float *quantiles, void *memory, cudaStream_t stream) {
    return make<SOURCE_RANDOM>(out, format, {nullptr, key, quantiles}, n_out, n_in, memory, stream);
}
