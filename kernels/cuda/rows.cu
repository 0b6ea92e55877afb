// Operations that go over rows: one block a row, F32 in, the format of the product that follows out.
#include "kernels/cuda/device.h"
#include "kernels/cuda/quads.h"
#include "kernels/cuda/rows.h"

enum { THREADS = 256 };

static __device__ __forceinline__ float weight_at(const struct device_weight *weight, int64_t at) {
    if (weight->format == DEVICE_F32) return ((const float *)weight->data)[at];
    return weight->format == DEVICE_BF16 ? to_float(((const struct bf16 *)weight->data)[at])
                                         : to_float(((const struct f16 *)weight->data)[at]);
}

// Four neighbours of a weight of 16 bits, the first at a multiple of 4.
static __device__ __forceinline__ void read_halves(float (&x)[4], const struct device_weight *weight, int64_t at) {
    const uint2 four = *(const uint2 *)((const uint16_t *)weight->data + at);
    const bool is_bf16 = weight->format == DEVICE_BF16;
    x[0] = is_bf16 ? bf16_low(four.x) : f16_low(four.x);
    x[1] = is_bf16 ? bf16_high(four.x) : f16_high(four.x);
    x[2] = is_bf16 ? bf16_low(four.y) : f16_low(four.y);
    x[3] = is_bf16 ? bf16_high(four.y) : f16_high(four.y);
}

// ------------------------------------------------------------------------------------------------------------- embed

static __device__ void make_rope(const struct rows_rope *rope, int32_t row, int32_t position) {
    const int32_t half = rope->n_dims / 2;
    for (int32_t i = threadIdx.x; i < half; i += THREADS) {
        float angle = (float)position * rope->inverse_frequency[i];
        rope->cosine[(int64_t)row * half + i] = cosf(angle) * rope->scale;
        rope->sine[(int64_t)row * half + i] = sinf(angle) * rope->scale;
    }
}

static __global__ void embed_kernel(const __grid_constant__ struct rows_embed op,
                                    const __grid_constant__ struct device_weight table) {
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.x, n = table.n_in;
    const bool padding = row >= op.step->n_rows;
    float *out = op.residual + (int64_t)row * n;
    int32_t token = padding ? 0 : STEP_ARRAY(op.step, int32_t, token)[row];
    if (token < 0) token = op.drawn[-1 - token];
    token -= op.first_token;
    const bool elsewhere = padding || token < 0 || token >= table.n_out;
    if (n % 4 == 0 && table.format != DEVICE_F32 && !elsewhere) {
#pragma unroll 4
        for (int32_t i = 4 * threadIdx.x; i < n; i += 4 * THREADS) {
            float x[4];
            read_halves(x, &table, (int64_t)token * n + i);
            store_16(out + i, {__float_as_uint(x[0] * op.scale), __float_as_uint(x[1] * op.scale),
                               __float_as_uint(x[2] * op.scale), __float_as_uint(x[3] * op.scale)});
        }
    } else {
        for (int32_t i = threadIdx.x; i < n; i += THREADS)
            out[i] = elsewhere ? 0.0f : weight_at(&table, (int64_t)token * n + i) * op.scale;
    }
    if (padding) return;
    const int32_t position = STEP_ARRAY(op.step, int32_t, position)[row];
    if (op.n_ropes > 0) make_rope(&op.ropes[0], row, position);
    if (op.n_ropes > 1) make_rope(&op.ropes[1], row, position);
}

cudaError_t rows_embed(const struct rows_embed *op, cudaStream_t stream) {
    return launch(embed_kernel, dim3((unsigned)op->n_rows), dim3(THREADS), 0, stream, true, *op, *op->table);
}

// -------------------------------------------------------------------------------------------------------------- norm

// A block holds NORM_SPAN elements of a row in registers; wider rows are read twice.
enum { NORM_THREADS = 512, NORM_HELD = 16, NORM_SPAN = NORM_THREADS * NORM_HELD };

// 1 / the root of the mean square of from[n], with `eps` inside; x: its first NORM_SPAN elements.
static __device__ __forceinline__ float inverse_rms(float (&x)[NORM_HELD], const float *from, int32_t n, float eps,
                                                    float *scratch) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < NORM_HELD; i++) sum += x[i] * x[i];
    for (int32_t i = NORM_SPAN + threadIdx.x; i < n; i += NORM_THREADS) sum += from[i] * from[i];
    return 1.0f / sqrtf(block_sum(sum, scratch) / (float)n + eps);
}

static __global__ void __launch_bounds__(NORM_THREADS) norm_kernel(const __grid_constant__ struct rows_norm op) {
    __shared__ float scratch[32];
    const int32_t row = blockIdx.x, n = op.n;
    float x[NORM_HELD], weight[NORM_HELD];
    dependency_launch();
    if (op.weight) read_quads<NORM_THREADS>(weight, op.weight, 0, n, 0);
    dependency_wait();
    const bool padding = row >= (op.logit_rows ? op.step->n_logit_rows : op.step->n_rows);
    const int32_t from = padding || !op.logit_rows ? row : STEP_ARRAY(op.step, int32_t, logit_row)[row];
    const float *row_x = op.x + (int64_t)from * n;
    float factor = 0;
    for (int32_t first = 0; first < n; first += NORM_SPAN) {
        read_quads<NORM_THREADS>(x, row_x, first, padding ? 0 : n, 0);
        if (op.weight && first == 0 && !padding) factor = inverse_rms(x, row_x, n, op.eps, scratch);
        if (op.weight && first > 0) read_quads<NORM_THREADS>(weight, op.weight, first, n, 0);
        if (op.weight)
#pragma unroll
            for (int i = 0; i < NORM_HELD; i++) x[i] = x[i] * factor * weight[i];
        write_quads<NORM_THREADS>(op.out, row, n, op.format, x, first);
    }
}

cudaError_t rows_norm(const struct rows_norm *op, cudaStream_t stream) {
    return launch(norm_kernel, dim3((unsigned)op->n_rows), dim3(NORM_THREADS), 0, stream, true, *op);
}

static __global__ void __launch_bounds__(NORM_THREADS)
    norm_heads_kernel(const __grid_constant__ struct rows_norm_heads op) {
    __shared__ float scratch[32];
    const int32_t row = blockIdx.x, is_key = blockIdx.y, n = is_key ? op.n_k : op.n_q;
    const float *weight = is_key ? op.k_weight : op.q_weight;
    float *x = op.qkv + (int64_t)row * op.stride + (is_key ? op.n_q : 0), sum = 0;
    dependency_launch();
    dependency_wait();
    if (row >= op.step->n_rows) return;
    for (int32_t i = threadIdx.x; i < n; i += NORM_THREADS) sum += x[i] * x[i];
    const float factor = 1.0f / sqrtf(block_sum(sum, scratch) / (float)n + op.eps);
    for (int32_t i = threadIdx.x; i < n; i += NORM_THREADS) x[i] = x[i] * factor * weight[i];
}

cudaError_t rows_norm_heads(const struct rows_norm_heads *op, cudaStream_t stream) {
    return launch(norm_heads_kernel, dim3((unsigned)op->n_rows, 2), dim3(NORM_THREADS), 0, stream, true, *op);
}

static __global__ void __launch_bounds__(NORM_THREADS) add_kernel(const __grid_constant__ struct rows_add op) {
    __shared__ float scratch[32];
    const int32_t row = blockIdx.x, n = op.n;
    float x[NORM_HELD], weight[NORM_HELD], residual[NORM_HELD];
    dependency_launch();
    if (op.weight) read_quads<NORM_THREADS>(weight, op.weight, 0, n, 0);
    dependency_wait();
    if (row >= op.step->n_rows) return;
    const float *row_x = op.x + (int64_t)row * n;
    float factor = 1;
    for (int32_t first = 0; first < n; first += NORM_SPAN) {
        read_quads<NORM_THREADS>(x, row_x, first, n, 0);
        read_quads<NORM_THREADS>(residual, op.residual + (int64_t)row * n, first, n, 0);
        if (op.weight && first == 0) factor = inverse_rms(x, row_x, n, op.eps, scratch);
        if (op.weight && first > 0) read_quads<NORM_THREADS>(weight, op.weight, first, n, 0);
#pragma unroll
        for (int i = 0; i < NORM_HELD; i++) residual[i] += op.scale * (op.weight ? x[i] * factor * weight[i] : x[i]);
        write_quads<NORM_THREADS>(op.residual, row, n, OPERAND_F32, residual, first);
    }
}

cudaError_t rows_add(const struct rows_add *op, cudaStream_t stream) {
    return launch(add_kernel, dim3((unsigned)op->n_rows), dim3(NORM_THREADS), 0, stream, true, *op);
}

static __global__ void scale_cap_kernel(const struct device_step *step, int32_t n, float *logits, float scale,
                                        float cap) {
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.y, i = blockIdx.x * THREADS + threadIdx.x;
    if (row >= step->n_logit_rows || i >= n) return;
    float *x = logits + (int64_t)row * n + i;
    *x = cap > 0 ? cap * tanhf(*x * scale / cap) : *x * scale;
}

cudaError_t rows_scale_cap(const struct device_step *step, int32_t n_rows, int32_t n, float *logits, float scale,
                           float cap, cudaStream_t stream) {
    dim3 grid((unsigned)((n + THREADS - 1) / THREADS), (unsigned)n_rows);
    return launch(scale_cap_kernel, grid, dim3(THREADS), 0, stream, true, step, n, logits, scale, cap);
}

static __global__ void join_logits_kernel(const __grid_constant__ struct rows_join_logits op) {
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.y, i = blockIdx.x * THREADS + threadIdx.x;
    if (row >= op.step->n_logit_rows || i >= op.vocab) return;
    const int64_t part = i / op.n_part, from = part * op.n_rows + row;
    op.logits[(int64_t)row * op.vocab + i] = op.parts[from * op.n_part + i % op.n_part];
}

cudaError_t rows_join_logits(const struct rows_join_logits *op, cudaStream_t stream) {
    dim3 grid((unsigned)((op->vocab + THREADS - 1) / THREADS), (unsigned)op->n_rows);
    return launch(join_logits_kernel, grid, dim3(THREADS), 0, stream, true, *op);
}
