// Matrix products of a step: activations times weights, with what follows them fused where a kernel of ours computes.
//
// Few rows, and all rows when deterministic, take our own kernel: weights stream from memory once into tensor-core
// fragments; every output element is reduced in one order that does not depend on the number of rows. Up to
// PRODUCT_OWN_ROWS, what was faster when it was prepared is taken; more rows take cuBLASLt: FP8 with per-channel and
// per-token scales where a probe at start shows that the library and the device can, otherwise quantised weights are
// expanded to BF16, slice by slice. What the library refuses when it is prepared takes our own kernel.
//
// Thread: the step thread. Nothing here allocates after product_engine_open.
#pragma once

#include "base/err.h"
#include "kernels/backend.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PRODUCT_OWN_ROWS = 64, PRODUCT_WEIGHTS_MAX = 3 };

// How a weight lies in device memory. INT4 and FP8 keep one scale for `group` neighbouring inputs of one output.
enum device_format { DEVICE_F32, DEVICE_F16, DEVICE_BF16, DEVICE_FP8, DEVICE_INT4 };

struct device_weight {
    enum device_format format;
    int32_t n_out, n_in;   // [n_out, n_in], inputs contiguous
    int32_t group;         // FP8: n_in (one scale an output) or 128; INT4: 32, 64 or 128
    const void *data;      // 16-byte aligned. INT4: two a byte, in the order that int4_nibble (quantize.h) defines
    const float *scale;    // FP8: [n_out, n_in / group]
    const void *scale_f16; // INT4: f16 [n_out, n_in / group], times `multiplier`
    const uint8_t *zero;   // INT4: [n_out, n_in / group], 0..15; NULL: 8 everywhere
    float multiplier;      // INT4
};

// What activations must be for a weight: F32, F16 or BF16. Rows are contiguous, n_in elements.
enum operand_format { OPERAND_F32, OPERAND_F16, OPERAND_BF16 };
enum operand_format operand_format_for(enum device_format format);
size_t operand_bytes(enum operand_format format); // of one element

enum product_output {
    PRODUCT_STORE_F32, // out[r][i] = scale * (x w + bias)
    PRODUCT_ADD_F32,   // out[r][i] += scale * (x w + bias)
    PRODUCT_GATE,      // out[r][i] = activation(x w0 + bias0) * (x w1 + bias1), in out_format
};

struct product {
    enum product_output output;
    int n_weights; // STORE: outputs side by side; GATE: gate and up; ADD: 1
    // Equal n_in and format. They are read before the kernel waits for the one before it: who makes weights by kernels
    // waits for the stream before the first product.
    const struct device_weight *weight[PRODUCT_WEIGHTS_MAX];
    const float *bias[PRODUCT_WEIGHTS_MAX]; // device memory, or NULL
    const void *x;                          // [n_rows, n_in] in operand_format_for(weight)
    int32_t n_rows;                         // rows of the bucket; all are computed
    void *out;                              // [n_rows, out_stride]
    int64_t out_stride;                     // elements
    enum operand_format out_format;         // of GATE
    float scale;
    enum activation activation;
};

struct product_engine;

struct product_engine_options {
    bool deterministic;
    enum device_format format;             // of the weights: FP8 and INT4 need room for what cuBLASLt is given
    int32_t rows_max, n_in_max, n_out_max; // largest product to come: sizes of workspaces
    int32_t mlp_width;                     // of GATE
};

// `allocate` gives device memory that lives until the engine is closed (NULL: none left).
int product_engine_open(struct product_engine **out, const struct product_engine_options *options,
                        void *(*allocate)(void *context, size_t n_bytes), void *context, cudaStream_t stream,
                        struct err *err) __attribute__((warn_unused_result));
void product_engine_close(struct product_engine *engine);

// Chooses and keeps the best algorithm for products of these sizes: call for every (weights, rows) that will come,
// before graphs are captured. Runs on the device and writes to product->out, several times.
int product_prepare(struct product_engine *engine, const struct product *product, struct err *err)
    __attribute__((warn_unused_result));

// Queues the product. Errors are those of a launch or of the library.
cudaError_t product_run(struct product_engine *engine, const struct product *product, cudaStream_t stream);

// "cuBLASLt 13.1, FP8 by channel and token" or why not: for people.
const char *product_engine_description(const struct product_engine *engine);

#ifdef __cplusplus
}
#endif
