// The parts of which the engine of matrix products is made: launchers of kernels, and cuBLASLt.
#pragma once

#include "kernels/cuda/product.h"

#ifdef __cplusplus
extern "C" {
#endif

// Outputs of all weights side by side; those of GATE count once.
static inline int32_t product_n_out(const struct product *p) {
    int32_t n = p->weight[0]->n_out;
    for (int i = 1; i < p->n_weights && p->output != PRODUCT_GATE; i++) n += p->weight[i]->n_out;
    return n;
}

// Whether rows of the weight are made of whole 16-byte loads, as the tensor-core kernel wants them.
bool product_own_fits(const struct device_weight *weight);
// For 1 row as for many: an element depends only on its row of x, and on the sizes of the weights.
cudaError_t product_own(const struct product *product, cudaStream_t stream);

// Every size and format but INT4, without tensor cores; F32 stays F32. Elements as above.
cudaError_t product_plain(const struct product *product, cudaStream_t stream);

// What cuBLASLt leaves to do.

// out[r][i] = activation(both[r][i]) * both[r][n + i], i < n; both in BF16 or F32.
struct product_gate {
    const void *both; // [n_rows, 2 n]
    enum operand_format both_format;
    const float *gate_bias, *up_bias; // [n] or NULL
    int32_t n_rows, n;
    void *out; // [n_rows, out_stride]
    int64_t out_stride;
    enum operand_format out_format;
    enum activation activation;
};
cudaError_t product_gate(const struct product_gate *op, cudaStream_t stream);

// out[r][i] += scale * bias[i]
cudaError_t product_add_bias(float *out, int64_t out_stride, const float *bias, float scale, int32_t n_rows, int32_t n,
                             cudaStream_t stream);

// x [n_rows, n] BF16 to E4M3 with a scale for each row: its largest value is 448.
cudaError_t product_quantize_rows(void *e4m3, float *scale, const void *x, int32_t n_rows, int32_t n,
                                  cudaStream_t stream);

// cuBLASLt: descriptors and the chosen algorithm are kept for each size.
struct library;

// `fp8` says whether the device multiplies E4M3 with a scale for each output and row; tried on a small product, for
// which `scratch` (64 KiB) is used. `workspace` (LIBRARY_WORKSPACE_BYTES) must live as long as the library.
enum { LIBRARY_WORKSPACE_BYTES = 32 << 20, LIBRARY_PROBE_BYTES = 64 << 10 };
int library_open(struct library **out, void *workspace, struct err *err) __attribute__((warn_unused_result));
void library_close(struct library *library);
bool library_has_fp8(struct library *library, void *scratch, cudaStream_t stream);

// out[r][i] = alpha * x[r] . weight[i], or added to what is there.
struct library_product {
    enum device_format format; // of weight and x: F32, F16, BF16 or FP8
    const void *weight;        // [n_out, n_in]
    const void *x;             // [n_rows, n_in]
    const float *weight_scale; // FP8: [n_out]
    const float *x_scale;      // FP8: [n_rows]
    int32_t n_out, n_in, n_rows;
    void *out; // [n_rows, out_stride], F32 or BF16
    int64_t out_stride;
    bool out_bf16, add;
    float alpha;
};

// With `measure`, a size that is new has its algorithms timed, on these buffers; otherwise it takes the library's first
// choice.
cudaError_t library_run(struct library *library, const struct library_product *op, bool measure, cudaStream_t stream);

// Milliseconds of one run, from several on the device; negative when one fails.
float product_time(cudaError_t (*run)(void *context, cudaStream_t stream), void *context, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
