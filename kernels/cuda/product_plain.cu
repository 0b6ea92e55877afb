// Matrix products without tensor cores: exact F32, and rows that are not made of whole 16-byte loads. A warp computes
// one output for eight rows; lane l sums inputs l, l + 32, ... in order, then the lanes meet.
#include "kernels/cuda/experts_device.h"

enum { WARPS = 8, ROWS = 8 };

struct plain_arguments {
    struct product p;
    struct device_weight weight[PRODUCT_WEIGHTS_MAX];
    int32_t n_out; // all columns of the output
};

template <int FORMAT> static __device__ float plain_weight(const struct device_weight *w, int32_t output, int32_t k) {
    int64_t at = (int64_t)output * w->n_in + k;
    if (FORMAT == DEVICE_F32) return ((const float *)w->data)[at];
    if (FORMAT == DEVICE_F16) return to_float(((const struct f16 *)w->data)[at]);
    if (FORMAT == DEVICE_BF16) return to_float(((const struct bf16 *)w->data)[at]);
    return e4m3_to_float(((const uint8_t *)w->data)[at]) * w->scale[output * (w->n_in / w->group) + k / w->group];
}

template <int FORMAT> static __device__ float plain_operand(const void *x, int64_t at) {
    if (FORMAT == DEVICE_F32) return ((const float *)x)[at];
    if (FORMAT == DEVICE_F16) return to_float(((const struct f16 *)x)[at]);
    return to_float(((const struct bf16 *)x)[at]);
}

// x w + bias of one output for ROWS of the block's rows, from `first` on; all lanes have the results.
template <int FORMAT>
static __device__ void plain_sums(float sum[ROWS], const struct plain_arguments *a, int32_t weight, int32_t output,
                                  const struct product_rows *rows, int32_t first) {
    const struct device_weight *w = &rows->weights[weight];
    int64_t x_at[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        sum[r] = 0;
        x_at[r] = first + r < rows->end ? (int64_t)row_of_x(rows, first + r) * w->n_in : 0;
    }
    for (int32_t k = threadIdx.x % 32; k < w->n_in; k += 32) {
        float value = plain_weight<FORMAT>(w, output, k);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (first + r < rows->end) sum[r] = fmaf(value, plain_operand<FORMAT>(a->p.x, x_at[r] + k), sum[r]);
    }
    float bias = a->p.bias[weight] ? a->p.bias[weight][output] : 0;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (first + r < rows->end) sum[r] = warp_sum(sum[r]) + bias;
}

// One column of the output for the block's rows.
template <int FORMAT>
static __device__ __forceinline__ void plain_column(const struct plain_arguments *a, const struct product_rows *rows,
                                                    int32_t column) {
    if (column >= a->n_out) return;
    int32_t weight = 0, output = column;
    const bool gate = a->p.output == PRODUCT_GATE;
    while (!gate && output >= a->weight[weight].n_out) output -= a->weight[weight++].n_out;
#pragma unroll 1
    for (int32_t first = rows->first; first < rows->end; first += ROWS) {
        float sum[ROWS], up[ROWS];
        plain_sums<FORMAT>(sum, a, weight, output, rows, first);
        if (gate) plain_sums<FORMAT>(up, a, 1, output, rows, first);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (first + r >= rows->end || (int)(threadIdx.x % 32) != r) continue;
            if (gate)
                store_operand(a->p.out, (first + r) * a->p.out_stride + column, a->p.out_format,
                              activate(sum[r], a->p.activation) * up[r]);
            else
                store_output(&a->p, first + r, column, sum[r]);
        }
    }
}

template <int FORMAT>
static __global__ void __launch_bounds__(WARPS * 32) plain_kernel(const __grid_constant__ struct plain_arguments a) {
    dependency_launch();
    dependency_wait();
    const int32_t first = blockIdx.y * ROWS;
    const struct product_rows rows = {a.weight, first, min(first + ROWS, a.p.n_rows), nullptr};
    plain_column<FORMAT>(&a, &rows, blockIdx.x * WARPS + threadIdx.x / 32);
}

template <int FORMAT>
static __global__ void __launch_bounds__(WARPS * 32)
    experts_plain_kernel(const __grid_constant__ struct plain_arguments a,
                         const __grid_constant__ struct experts_view experts) {
    __shared__ struct device_weight weights[EXPERT_WEIGHTS];
    struct product_rows rows;
    dependency_launch();
    dependency_wait();
    if (!expert_tile_take(&rows, weights, &experts)) return;
    plain_column<FORMAT>(&a, &rows, blockIdx.y * WARPS + threadIdx.x / 32);
}

template <int FORMAT> static cudaError_t plain_launch(const struct plain_arguments *a, cudaStream_t stream) {
    dim3 grid((unsigned)((a->n_out + WARPS - 1) / WARPS), (unsigned)((a->p.n_rows + ROWS - 1) / ROWS));
    return launch(plain_kernel<FORMAT>, grid, dim3(WARPS * 32), 0, stream, true, *a);
}

template <int FORMAT>
static cudaError_t experts_plain_launch(const struct plain_arguments *a, const struct experts_product *op,
                                        cudaStream_t stream) {
    dim3 grid((unsigned)op->n_tiles_max, (unsigned)((a->n_out + WARPS - 1) / WARPS));
    return launch(experts_plain_kernel<FORMAT>, grid, dim3(WARPS * 32), 0, stream, true, *a, experts_view_of(op));
}

static void plain_fill(struct plain_arguments *a, const struct product *p) {
    *a = plain_arguments{};
    a->p = *p;
    a->n_out = product_n_out(p);
    for (int i = 0; i < p->n_weights; i++) a->weight[i] = *p->weight[i];
}

cudaError_t product_plain(const struct product *p, cudaStream_t stream) {
    struct plain_arguments a;
    plain_fill(&a, p);
    switch (p->weight[0]->format) {
    case DEVICE_F32:
        return plain_launch<DEVICE_F32>(&a, stream);
    case DEVICE_F16:
        return plain_launch<DEVICE_F16>(&a, stream);
    case DEVICE_BF16:
        return plain_launch<DEVICE_BF16>(&a, stream);
    case DEVICE_FP8:
        return plain_launch<DEVICE_FP8>(&a, stream);
    case DEVICE_INT4:
        break;
    }
    return cudaErrorInvalidValue;
}

cudaError_t experts_plain(const struct experts_product *op, cudaStream_t stream) {
    struct plain_arguments a;
    plain_fill(&a, &op->product);
    switch (op->product.weight[0]->format) {
    case DEVICE_F32:
        return experts_plain_launch<DEVICE_F32>(&a, op, stream);
    case DEVICE_F16:
        return experts_plain_launch<DEVICE_F16>(&a, op, stream);
    case DEVICE_BF16:
        return experts_plain_launch<DEVICE_BF16>(&a, op, stream);
    case DEVICE_FP8:
        return experts_plain_launch<DEVICE_FP8>(&a, op, stream);
    case DEVICE_INT4:
        break;
    }
    return cudaErrorInvalidValue;
}
