// cuBLASLt, as far as the products of a step need it. Its matrices are column-major: our [n_out, n_in] weight is its
// transposed A, our [n_rows, n_in] x its B, and our [n_rows, n_out] output its D.
#include "base/mem.h"
#include "base/number.h"
#include "base/rng.h"
#include "kernels/cuda/product_parts.h"

#include <cublasLt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALGORITHMS_MAX = 8, TIMED_RUNS = 5 };

// Everything that an algorithm is chosen by.
struct plan_key {
    int32_t format, n_out, n_in, n_rows;
    int64_t out_stride;
    int32_t out_bf16, add;
    uint32_t align_weight, align_x, align_out, padding;
};

struct plan {
    struct plan_key key;
    cublasLtMatmulDesc_t how;
    cublasLtMatrixLayout_t weight, x, out;
    cublasLtMatmulAlgo_t algorithm;
};

struct library {
    cublasLtHandle_t handle;
    void *workspace;
    VEC_OF(struct plan) plans;
};

int library_open(struct library **out, void *workspace, struct err *err) {
    cublasLtHandle_t handle;
    cublasStatus_t status = cublasLtCreate(&handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return err_set(err, ERR_IO, "cuBLASLt does not start: %s", cublasLtGetStatusName(status));
    struct library *library = mem_alloc(sizeof *library);
    *library = (struct library){.handle = handle, .workspace = workspace};
    *out = library;
    return 0;
}

static void plan_close(struct plan *plan) {
    if (plan->how) cublasLtMatmulDescDestroy(plan->how);
    if (plan->weight) cublasLtMatrixLayoutDestroy(plan->weight);
    if (plan->x) cublasLtMatrixLayoutDestroy(plan->x);
    if (plan->out) cublasLtMatrixLayoutDestroy(plan->out);
}

void library_close(struct library *library) {
    if (!library) return;
    for (size_t i = 0; i < library->plans.count; i++) plan_close(&library->plans.items[i]);
    vec_free(&library->plans);
    cublasLtDestroy(library->handle);
    free(library);
}

static cudaError_t error_of(cublasStatus_t status) {
    if (status == CUBLAS_STATUS_SUCCESS) return cudaSuccess;
    return status == CUBLAS_STATUS_NOT_SUPPORTED ? cudaErrorNotSupported : cudaErrorUnknown;
}

static cudaDataType type_of(enum device_format format) {
    return format == DEVICE_F32    ? CUDA_R_32F
           : format == DEVICE_F16  ? CUDA_R_16F
           : format == DEVICE_BF16 ? CUDA_R_16BF
                                   : CUDA_R_8F_E4M3;
}

// The largest power of two up to 256 that divides the address.
static uint32_t alignment(const void *pointer) {
    uintptr_t bits = (uintptr_t)pointer | 256;
    return (uint32_t)(bits & -bits);
}

static struct plan_key key_of(const struct library_product *op) {
    return (struct plan_key){.format = (int32_t)op->format,
                             .n_out = op->n_out,
                             .n_in = op->n_in,
                             .n_rows = op->n_rows,
                             .out_stride = op->out_stride,
                             .out_bf16 = op->out_bf16,
                             .add = op->add,
                             .align_weight = alignment(op->weight),
                             .align_x = alignment(op->x),
                             .align_out = alignment(op->out)};
}

static cublasStatus_t set_scales(const struct plan *plan, const struct library_product *op) {
    if (op->format != DEVICE_FP8) return CUBLAS_STATUS_SUCCESS;
    cublasStatus_t status = cublasLtMatmulDescSetAttribute(plan->how, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
                                                           &op->weight_scale, sizeof op->weight_scale);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return cublasLtMatmulDescSetAttribute(plan->how, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &op->x_scale,
                                          sizeof op->x_scale);
}

static cublasStatus_t describe(struct plan *plan, const struct library_product *op) {
    // F32 stays F32: TF32 is another compute type.
    cublasStatus_t status = cublasLtMatmulDescCreate(&plan->how, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(plan->how, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (op->format == DEVICE_FP8) {
        const cublasLtMatmulMatrixScale_t vector = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
        // Sums of 22 bits: their error is below that of activations in E4M3, at twice the speed.
        const int8_t fast = 1;
        const struct {
            cublasLtMatmulDescAttributes_t name;
            const void *value;
            size_t n_bytes;
        } attributes[] = {{CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &vector, sizeof vector},
                          {CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &vector, sizeof vector},
                          {CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast}};
        for (size_t i = 0; i < sizeof attributes / sizeof *attributes && status == CUBLAS_STATUS_SUCCESS; i++)
            status = cublasLtMatmulDescSetAttribute(plan->how, attributes[i].name, attributes[i].value,
                                                    attributes[i].n_bytes);
    }
    if (status == CUBLAS_STATUS_SUCCESS) status = set_scales(plan, op);
    uint64_t n_in = (uint64_t)op->n_in, n_out = (uint64_t)op->n_out, n_rows = (uint64_t)op->n_rows;
    cudaDataType type = type_of(op->format);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&plan->weight, type, n_in, n_out, op->n_in);
    if (status == CUBLAS_STATUS_SUCCESS) status = cublasLtMatrixLayoutCreate(&plan->x, type, n_in, n_rows, op->n_in);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&plan->out, op->out_bf16 ? CUDA_R_16BF : CUDA_R_32F, n_out, n_rows,
                                            op->out_stride);
    return status;
}

static cublasStatus_t multiply(struct library *library, const struct plan *plan, const struct library_product *op,
                               cudaStream_t stream) {
    const float beta = op->add ? 1.0f : 0.0f;
    cublasStatus_t status = set_scales(plan, op);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return cublasLtMatmul(library->handle, plan->how, &op->alpha, op->weight, plan->weight, op->x, plan->x, &beta,
                          op->out, plan->out, op->out, plan->out, &plan->algorithm, library->workspace,
                          LIBRARY_WORKSPACE_BYTES, stream);
}

// The library's choices, best first by its own estimate.
static cublasStatus_t candidates(struct library *library, const struct plan *plan,
                                 cublasLtMatmulHeuristicResult_t out[ALGORITHMS_MAX], int *n_out) {
    cublasLtMatmulPreference_t wanted;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&wanted);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const uint64_t workspace_bytes = LIBRARY_WORKSPACE_BYTES;
    status = cublasLtMatmulPreferenceSetAttribute(wanted, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                                  sizeof workspace_bytes);
    // Parts of a sum must not meet in BF16, the output's format.
    const uint32_t in_f32 = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    if (status == CUBLAS_STATUS_SUCCESS && plan->key.out_bf16)
        status = cublasLtMatmulPreferenceSetAttribute(wanted, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &in_f32,
                                                      sizeof in_f32);
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        uint32_t value;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, plan->key.align_weight},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, plan->key.align_x},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, plan->key.align_out},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, plan->key.align_out}};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments && status == CUBLAS_STATUS_SUCCESS; i++)
        status = cublasLtMatmulPreferenceSetAttribute(wanted, alignments[i].name, &alignments[i].value,
                                                      sizeof alignments[i].value);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulAlgoGetHeuristic(library->handle, plan->how, plan->weight, plan->x, plan->out, plan->out,
                                                wanted, ALGORITHMS_MAX, out, n_out);
    cublasLtMatmulPreferenceDestroy(wanted);
    return status == CUBLAS_STATUS_SUCCESS && *n_out == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status;
}

float product_time(cudaError_t (*run)(void *context, cudaStream_t stream), void *context, cudaStream_t stream) {
    cudaEvent_t start = NULL, stop = NULL;
    float milliseconds = -1;
    // The first run loads code.
    bool good = run(context, stream) == cudaSuccess && cudaEventCreate(&start) == cudaSuccess &&
                cudaEventCreate(&stop) == cudaSuccess && cudaEventRecord(start, stream) == cudaSuccess;
    for (int i = 0; i < TIMED_RUNS && good; i++) good = run(context, stream) == cudaSuccess;
    good = good && cudaEventRecord(stop, stream) == cudaSuccess && cudaEventSynchronize(stop) == cudaSuccess &&
           cudaEventElapsedTime(&milliseconds, start, stop) == cudaSuccess;
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    return good ? milliseconds / TIMED_RUNS : -1;
}

struct trial {
    struct library *library;
    const struct plan *plan;
    const struct library_product *op;
};

static cudaError_t run_trial(void *context, cudaStream_t stream) {
    const struct trial *trial = context;
    return error_of(multiply(trial->library, trial->plan, trial->op, stream));
}

static cublasStatus_t choose(struct library *library, struct plan *plan, const struct library_product *op, bool measure,
                             cudaStream_t stream) {
    cublasLtMatmulHeuristicResult_t found[ALGORITHMS_MAX];
    int n_found = 0, best = -1;
    cublasStatus_t status = candidates(library, plan, found, &n_found);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    float least = 0;
    for (int i = 0; i < n_found && measure; i++) {
        if (found[i].state != CUBLAS_STATUS_SUCCESS) continue;
        plan->algorithm = found[i].algo;
        struct trial trial = {library, plan, op};
        float milliseconds = product_time(run_trial, &trial, stream);
        if (milliseconds >= 0 && (best < 0 || milliseconds < least)) best = i, least = milliseconds;
    }
    if (measure && best < 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    plan->algorithm = found[measure ? best : 0].algo;
    return CUBLAS_STATUS_SUCCESS;
}

cudaError_t library_run(struct library *library, const struct library_product *op, bool measure, cudaStream_t stream) {
    const struct plan_key key = key_of(op);
    for (size_t i = 0; i < library->plans.count; i++)
        if (!memcmp(&library->plans.items[i].key, &key, sizeof key))
            return error_of(multiply(library, &library->plans.items[i], op, stream));
    struct plan plan = {.key = key};
    cublasStatus_t status = describe(&plan, op);
    if (status == CUBLAS_STATUS_SUCCESS) status = choose(library, &plan, op, measure, stream);
    if (status == CUBLAS_STATUS_SUCCESS) status = multiply(library, &plan, op, stream);
    if (status == CUBLAS_STATUS_SUCCESS)
        vec_push(&library->plans, plan);
    else
        plan_close(&plan);
    return error_of(status);
}

// ----------------------------------------------------------------------------------------------------- FP8, by trying

enum { PROBE_OUT = 64, PROBE_IN = 128, PROBE_ROWS = 16 };

struct probe {
    uint8_t weight[PROBE_OUT * PROBE_IN], x[PROBE_ROWS * PROBE_IN];
    float weight_scale[PROBE_OUT], x_scale[PROBE_ROWS], out[PROBE_ROWS * PROBE_OUT];
};

static void probe_fill(struct probe *probe) {
    const uint64_t key = rng_key(1, 2, 3);
    for (size_t i = 0; i < sizeof probe->weight; i++) probe->weight[i] = e4m3_from_f32(rng_uniform(key, i) - 0.4f);
    for (size_t i = 0; i < sizeof probe->x; i++) probe->x[i] = e4m3_from_f32(rng_uniform(key + 2, i) * 8 - 3);
    for (int i = 0; i < PROBE_OUT; i++) probe->weight_scale[i] = 0.01f * (float)(i + 1);
    for (int i = 0; i < PROBE_ROWS; i++) probe->x_scale[i] = 1.0f / (float)(i + 1);
    for (int i = 0; i < PROBE_ROWS * PROBE_OUT; i++) probe->out[i] = 0;
}

// Whether `out` is a whole number of times the product, but for the rounding of sums.
static bool probe_is_right(const struct probe *probe, const float *out, float times) {
    double error = 0, norm = 0;
    for (int row = 0; row < PROBE_ROWS; row++)
        for (int i = 0; i < PROBE_OUT; i++) {
            double sum = 0;
            for (int k = 0; k < PROBE_IN; k++)
                sum += (double)f32_from_e4m3(probe->x[row * PROBE_IN + k]) *
                       (double)f32_from_e4m3(probe->weight[i * PROBE_IN + k]);
            sum *= (double)(times * probe->x_scale[row] * probe->weight_scale[i]);
            double difference = (double)out[row * PROBE_OUT + i] - sum;
            error += difference * difference, norm += sum * sum;
        }
    return error <= 1e-4 * norm;
}

bool library_has_fp8(struct library *library, void *scratch, cudaStream_t stream) {
    _Static_assert(sizeof(struct probe) <= LIBRARY_PROBE_BYTES, "the probe fits");
    struct probe *host = mem_alloc(sizeof *host), *device = scratch;
    float out[PROBE_ROWS * PROBE_OUT];
    probe_fill(host);
    bool good = cudaMemcpyAsync(device, host, sizeof *host, cudaMemcpyHostToDevice, stream) == cudaSuccess;
    for (int add = 0; add < 2 && good; add++) {
        struct library_product op = {.format = DEVICE_FP8,
                                     .weight = device->weight,
                                     .x = device->x,
                                     .weight_scale = device->weight_scale,
                                     .x_scale = device->x_scale,
                                     .n_out = PROBE_OUT,
                                     .n_in = PROBE_IN,
                                     .n_rows = PROBE_ROWS,
                                     .out = device->out,
                                     .out_stride = PROBE_OUT,
                                     .add = add,
                                     .alpha = 1};
        good = library_run(library, &op, false, stream) == cudaSuccess &&
               cudaMemcpyAsync(out, device->out, sizeof out, cudaMemcpyDeviceToHost, stream) == cudaSuccess &&
               cudaStreamSynchronize(stream) == cudaSuccess && probe_is_right(host, out, (float)(add + 1));
    }
    free(host);
    // A refusal must not look like the failure of a launch to come.
    (void)cudaGetLastError();
    return good;
}
