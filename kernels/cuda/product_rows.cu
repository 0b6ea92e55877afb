// What remains around cuBLASLt: activations of gate and up, biases, activations quantised to FP8.
#include "kernels/cuda/product_device.h"

enum { THREADS = 256 };

static __device__ __forceinline__ float load_float(const void *from, int64_t at, enum operand_format format) {
    if (format == OPERAND_F32) return ((const float *)from)[at];
    return format == OPERAND_BF16 ? to_float(((const struct bf16 *)from)[at])
                                  : to_float(((const struct f16 *)from)[at]);
}

static __global__ void gate_kernel(const __grid_constant__ struct product_gate op) {
    dependency_launch();
    dependency_wait();
    const int64_t row = blockIdx.y;
    const int32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= op.n) return;
    float gate = load_float(op.both, row * 2 * op.n + i, op.both_format);
    float up = load_float(op.both, row * 2 * op.n + op.n + i, op.both_format);
    if (op.gate_bias) gate += op.gate_bias[i];
    if (op.up_bias) up += op.up_bias[i];
    store_operand(op.out, row * op.out_stride + i, op.out_format, activate(gate, op.activation) * up);
}

cudaError_t product_gate(const struct product_gate *op, cudaStream_t stream) {
    dim3 grid((unsigned)((op->n + THREADS - 1) / THREADS), (unsigned)op->n_rows);
    return launch(gate_kernel, grid, dim3(THREADS), 0, stream, true, *op);
}

static __global__ void add_bias_kernel(float *out, int64_t out_stride, const float *bias, float scale, int32_t n) {
    dependency_launch();
    dependency_wait();
    const int32_t i = blockIdx.y * THREADS + threadIdx.x;
    if (i < n) out[blockIdx.x * out_stride + i] += scale * bias[i];
}

cudaError_t product_add_bias(float *out, int64_t out_stride, const float *bias, float scale, int32_t n_rows, int32_t n,
                             cudaStream_t stream) {
    dim3 grid((unsigned)n_rows, (unsigned)((n + THREADS - 1) / THREADS));
    return launch(add_bias_kernel, grid, dim3(THREADS), 0, stream, true, out, out_stride, bias, scale, n);
}

// n is a multiple of 8. A block takes a row; it reads it twice, the second time from the cache.
static __global__ void quantize_rows_kernel(void *e4m3, float *scale, const void *x, int32_t n) {
    __shared__ float scratch[32];
    dependency_launch();
    dependency_wait();
    const uint16_t *row = (const uint16_t *)x + (int64_t)blockIdx.x * n;
    float largest = 0;
    for (int32_t i = threadIdx.x * 8; i < n; i += THREADS * 8) {
        uint4 eight = load_16(row + i);
        const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int j = 0; j < 4; j++)
            largest = fmaxf(largest, fmaxf(fabsf(bf16_low(pairs[j])), fabsf(bf16_high(pairs[j]))));
    }
    largest = block_max(largest, scratch);
    // Rows of zeros take any scale; tiny ones keep their reciprocal finite.
    float row_scale = fmaxf(largest / 448, 0x1p-100f), factor = 1 / row_scale;
    if (threadIdx.x == 0) scale[blockIdx.x] = row_scale;
    uint8_t *out = (uint8_t *)e4m3 + (int64_t)blockIdx.x * n;
    for (int32_t i = threadIdx.x * 8; i < n; i += THREADS * 8) {
        uint4 eight = load_16(row + i);
        const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
        float v[8];
#pragma unroll
        for (int j = 0; j < 4; j++) v[2 * j] = bf16_low(pairs[j]) * factor, v[2 * j + 1] = bf16_high(pairs[j]) * factor;
        *(uint2 *)(void *)(out + i) =
            make_uint2(e4m3x4_from_float(v[0], v[1], v[2], v[3]), e4m3x4_from_float(v[4], v[5], v[6], v[7]));
    }
}

cudaError_t product_quantize_rows(void *e4m3, float *scale, const void *x, int32_t n_rows, int32_t n,
                                  cudaStream_t stream) {
    return launch(quantize_rows_kernel, dim3((unsigned)n_rows), dim3(THREADS), 0, stream, true, e4m3, scale, x, n);
}

enum operand_format operand_format_for(enum device_format format) {
    return format == DEVICE_F32 ? OPERAND_F32 : format == DEVICE_F16 ? OPERAND_F16 : OPERAND_BF16;
}

size_t operand_bytes(enum operand_format format) {
    return format == OPERAND_F32 ? 4 : 2;
}
