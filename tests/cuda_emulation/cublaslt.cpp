// cuBLASLt for the emulated device: plain loops, and the rules that a device has about formats, alignment and scales,
// so that what is refused there is refused here.
#include "internal.h"

#include <cublasLt.h>
#include <vector>

extern "C" {
#include "base/number.h"
}

namespace {

struct matmul {
    cublasComputeType_t compute_type;
    cudaDataType_t scale_type;
    cublasOperation_t trans_a, trans_b;
    cublasLtPointerMode_t pointer_mode;
    cublasLtEpilogue_t epilogue;
    int8_t fast_accumulation;
    const float *scale_a, *scale_b;
    cublasLtMatmulMatrixScale_t mode_a, mode_b;
};

struct layout {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t ld;
    cublasLtOrder_t order;
    int32_t n_batches;
};

struct preference {
    uint64_t workspace_bytes;
};

struct product {
    matmul how;
    layout a_layout, b_layout, c_layout, d_layout;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
    const float *alpha_pointer, *beta_pointer; // on the device, or NULL
    float alpha, beta;
};

const size_t WORKSPACE_BYTES = 1 << 16; // of the second algorithm
const uint64_t ALGORITHM = 0x6c74616c676f0000u;

matmul *of(cublasLtMatmulDesc_t handle) {
    return reinterpret_cast<matmul *>(handle);
}
layout *of(cublasLtMatrixLayout_t handle) {
    return reinterpret_cast<layout *>(handle);
}
preference *of(cublasLtMatmulPreference_t handle) {
    return reinterpret_cast<preference *>(handle);
}

bool is_fp8(cudaDataType type) {
    return type == CUDA_R_8F_E4M3;
}

size_t bytes_of(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : is_fp8(type) ? 1 : 2;
}

float element(const void *data, cudaDataType type, size_t i) {
    switch (type) {
    case CUDA_R_32F:
        return static_cast<const float *>(data)[i];
    case CUDA_R_16BF:
        return f32_from_bf16(static_cast<const uint16_t *>(data)[i]);
    case CUDA_R_16F:
        return f32_from_f16(static_cast<const uint16_t *>(data)[i]);
    default:
        return f32_from_e4m3(static_cast<const uint8_t *>(data)[i]);
    }
}

void element_set(void *data, cudaDataType type, size_t i, float value) {
    if (type == CUDA_R_32F)
        static_cast<float *>(data)[i] = value;
    else if (type == CUDA_R_16BF)
        static_cast<uint16_t *>(data)[i] = bf16_from_f32(value);
    else
        static_cast<uint16_t *>(data)[i] = f16_from_f32(value);
}

// op(matrix) as floats, the inner dimension contiguous: inner_is_rows says that the stored rows are it.
std::vector<float> operand(const void *data, const layout &shape, bool inner_is_rows) {
    uint64_t n_inner = inner_is_rows ? shape.rows : shape.columns, n_outer = inner_is_rows ? shape.columns : shape.rows;
    size_t ld = (size_t)shape.ld, inner_step = inner_is_rows ? 1 : ld, outer_step = inner_is_rows ? ld : 1;
    std::vector<float> values(n_inner * n_outer);
    for (uint64_t outer = 0; outer < n_outer; outer++)
        for (uint64_t inner = 0; inner < n_inner; inner++)
            values[outer * n_inner + inner] = element(data, shape.type, outer * outer_step + inner * inner_step);
    return values;
}

float dot(const float *x, const float *y, size_t n) {
    float sums[8] = {};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++) sums[j] += x[i + j] * y[i + j];
    for (; i < n; i++) sums[i % 8] += x[i] * y[i];
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

float scale_of(const float *scales, cublasLtMatmulMatrixScale_t mode, uint64_t i) {
    if (!scales) return 1.0f;
    return scales[mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F ? i : 0];
}

void multiply(const product &p) {
    bool a_inner_is_rows = p.how.trans_a != CUBLAS_OP_N, b_inner_is_rows = p.how.trans_b == CUBLAS_OP_N;
    std::vector<float> a = operand(p.a, p.a_layout, a_inner_is_rows), b = operand(p.b, p.b_layout, b_inner_is_rows);
    uint64_t k = b_inner_is_rows ? p.b_layout.rows : p.b_layout.columns;
    float alpha = p.alpha_pointer ? *p.alpha_pointer : p.alpha, beta = p.beta_pointer ? *p.beta_pointer : p.beta;
    // What an algorithm leaves in its workspace is its own affair.
    if (p.workspace_bytes) memset(p.workspace, 0xff, p.workspace_bytes);
    for (uint64_t column = 0; column < p.d_layout.columns; column++) {
        for (uint64_t row = 0; row < p.d_layout.rows; row++) {
            float sum = alpha * dot(&a[row * k], &b[column * k], k);
            sum *= scale_of(p.how.scale_a, p.how.mode_a, row) * scale_of(p.how.scale_b, p.how.mode_b, column);
            if (beta != 0) sum += beta * element(p.c, p.c_layout.type, row + column * (size_t)p.c_layout.ld);
            element_set(p.d, p.d_layout.type, row + column * (size_t)p.d_layout.ld, sum);
        }
    }
}

bool are_formats_supported(const matmul &how, const layout &a, const layout &b, const layout &c, const layout &d) {
    if (how.scale_type != CUDA_R_32F || how.epilogue != CUBLASLT_EPILOGUE_DEFAULT || a.type != b.type) return false;
    if (c.type != d.type) return false;
    switch (a.type) {
    case CUDA_R_32F:
        return d.type == CUDA_R_32F;
    case CUDA_R_16BF:
        return d.type == CUDA_R_16BF || d.type == CUDA_R_32F;
    case CUDA_R_16F:
        return d.type == CUDA_R_16F || d.type == CUDA_R_32F;
    case CUDA_R_8F_E4M3:
        return d.type == CUDA_R_16BF || d.type == CUDA_R_16F || d.type == CUDA_R_32F;
    default:
        return false;
    }
}

bool is_aligned(uint64_t n_elements, cudaDataType type) {
    return n_elements * bytes_of(type) % 16 == 0;
}

// FP8: 8.9 and up, A transposed, everything on 16 bytes; vectors of scales on both sides, and only on 9.0.
bool is_fp8_supported(const matmul &how, const layout &a, const layout &b, const layout &d) {
    struct emulation_device device = emulation_device_get();
    bool is_vector = how.mode_a == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    if (device.major * 10 + device.minor < 89 || how.trans_a != CUBLAS_OP_T || how.trans_b != CUBLAS_OP_N) return false;
    if (!is_aligned(a.rows, a.type) || !is_aligned((uint64_t)a.ld, a.type) || !is_aligned((uint64_t)b.ld, b.type) ||
        !is_aligned(d.rows, d.type) || !is_aligned((uint64_t)d.ld, d.type))
        return false;
    if (how.mode_a != how.mode_b) return false;
    if (is_vector) return device.major == 9 && how.scale_a && how.scale_b;
    return how.mode_a == CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
}

cublasStatus_t check(const matmul &how, const layout &a, const layout &b, const layout &c, const layout &d) {
    for (const layout *shape : {&a, &b, &c, &d}) {
        if (shape->ld < (int64_t)shape->rows) return CUBLAS_STATUS_INVALID_VALUE;
        if (shape->n_batches != 1 || shape->order != CUBLASLT_ORDER_COL) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    uint64_t m = how.trans_a == CUBLAS_OP_N ? a.rows : a.columns, ka = how.trans_a == CUBLAS_OP_N ? a.columns : a.rows;
    uint64_t n = how.trans_b == CUBLAS_OP_N ? b.columns : b.rows, kb = how.trans_b == CUBLAS_OP_N ? b.rows : b.columns;
    if (ka != kb || d.rows != m || d.columns != n || c.rows != m || c.columns != n) return CUBLAS_STATUS_INVALID_VALUE;
    if (!are_formats_supported(how, a, b, c, d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (is_fp8(a.type)) return is_fp8_supported(how, a, b, d) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    bool has_scales = how.scale_a || how.scale_b;
    return has_scales ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

bool are_pointers_aligned(const product &p) {
    for (const void *pointer : {p.a, p.b, p.c, const_cast<const void *>(p.d)})
        if ((uintptr_t)pointer % 16) return false;
    return true;
}

// Copies an attribute whose size must be the field's.
template <typename T> cublasStatus_t set(T *field, const void *value, size_t n_bytes) {
    if (n_bytes != sizeof *field) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    if (emulation_call() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = reinterpret_cast<cublasLtHandle_t>(new char);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete reinterpret_cast<char *>(handle);
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}
const char *cublasLtGetStatusString(cublasStatus_t status) {
    return cublasLtGetStatusName(status);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale) {
    matmul *how = new matmul();
    how->compute_type = compute, how->scale_type = scale;
    how->trans_a = how->trans_b = CUBLAS_OP_N;
    how->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(how);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) {
    delete of(handle);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t n_bytes) {
    matmul *how = of(handle);
    int32_t ignored;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&how->trans_a, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&how->trans_b, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return set(&how->pointer_mode, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&how->epilogue, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM:
        return set(&how->fast_accumulation, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
        return set(&how->scale_a, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
        return set(&how->scale_b, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE:
        return set(&how->mode_a, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE:
        return set(&how->mode_b, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET:
        return set(&ignored, value, n_bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(new layout{type, rows, columns, ld, CUBLASLT_ORDER_COL, 1});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) {
    delete of(handle);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t n_bytes) {
    layout *shape = of(handle);
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return set(&shape->type, value, n_bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return set(&shape->order, value, n_bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return set(&shape->rows, value, n_bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return set(&shape->columns, value, n_bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return set(&shape->ld, value, n_bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set(&shape->n_batches, value, n_bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new preference());
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) {
    delete of(handle);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t n_bytes) {
    uint32_t ignored;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&of(handle)->workspace_bytes, value, n_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&ignored, value, n_bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t how, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t wanted, int n_wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *n_results) {
    if (emulation_call() != cudaSuccess) return CUBLAS_STATUS_INTERNAL_ERROR;
    *n_results = 0;
    cublasStatus_t status = check(*of(how), *of(a), *of(b), *of(c), *of(d));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    int n_algorithms = wanted && of(wanted)->workspace_bytes >= WORKSPACE_BYTES ? 2 : 1;
    for (int i = 0; i < n_algorithms && i < n_wanted; i++) {
        results[i] = {};
        results[i].algo.data[0] = ALGORITHM + (uint64_t)i;
        results[i].workspaceSize = i == 1 ? WORKSPACE_BYTES : 0;
        results[i].state = CUBLAS_STATUS_SUCCESS;
        results[i].wavesCount = 1.0f;
        ++*n_results;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t how, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    if (emulation_call() != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!a || !b || !c || !d || !alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = check(*of(how), *of(a_layout), *of(b_layout), *of(c_layout), *of(d_layout));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    product p = {*of(how),
                 *of(a_layout),
                 *of(b_layout),
                 *of(c_layout),
                 *of(d_layout),
                 a,
                 b,
                 c,
                 d,
                 workspace,
                 0,
                 nullptr,
                 nullptr,
                 0,
                 0};
    if (is_fp8(p.a_layout.type) && !are_pointers_aligned(p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (algorithm) {
        uint64_t i = algorithm->data[0] - ALGORITHM;
        if (i > 1) return CUBLAS_STATUS_INVALID_VALUE;
        p.workspace_bytes = i == 1 ? WORKSPACE_BYTES : 0;
        if (p.workspace_bytes > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (p.how.pointer_mode == CUBLASLT_POINTER_MODE_HOST) {
        p.alpha = *static_cast<const float *>(alpha), p.beta = *static_cast<const float *>(beta);
    } else {
        p.alpha_pointer = static_cast<const float *>(alpha), p.beta_pointer = static_cast<const float *>(beta);
    }
    emulation_enqueue(stream, WORK_KERNEL, [p] { multiply(p); });
    return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
