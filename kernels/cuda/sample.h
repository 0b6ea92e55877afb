// Drawing tokens on the device, without a sort and without copying logits to the host. The meaning is that of
// kernels/ref/ref_sample.c: the same parameters, the same order, the same counter-based noise, lowest token on ties.
#pragma once

#include "kernels/cuda/device_step.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

// Device memory that sampling needs beside the logits: edited copies and what passes hand on.
size_t sample_workspace_bytes(int32_t logit_rows_max, int32_t vocab);

struct sample_run {
    const struct device_step *step;
    int32_t n_rows;      // logit rows of the bucket
    const float *logits; // [n_rows, stride]
    int64_t stride;
    int32_t vocab; // ids at and beyond it are never drawn and have no probability
    void *workspace;
    int32_t *drawn;                // [n_rows]: tokens, for references of the next step
    struct sample_result *results; // [n_rows]
};
cudaError_t sample_run(const struct sample_run *op, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
