// The stand-ins of cuBLASLt and NCCL: products against doubles, and the refusals that a device would give.
#include "base/number.h"
#include "emulation_control.h"

#include <cublasLt.h>
#include <math.h>
#include <nccl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { M = 32, N = 5, K = 48, WORKSPACE_BYTES = 1 << 20 };

struct product {
    cudaDataType in, out;
    cublasOperation_t trans_a, trans_b;
    bool has_vectors; // of scales
    float beta;
    int i_algorithm;
};

// The operands of all cases: small multiples of 1/8, exact in every format.
static float value_of(int matrix, int i, int j) {
    return (float)((i * 31 + j * 17 + matrix * 7) % 25 - 12) / 8.0f;
}

static size_t store(void *data, cudaDataType type, size_t i, float value) {
    if (type == CUDA_R_32F)
        ((float *)data)[i] = value;
    else if (type == CUDA_R_16BF)
        ((uint16_t *)data)[i] = bf16_from_f32(value);
    else if (type == CUDA_R_16F)
        ((uint16_t *)data)[i] = f16_from_f32(value);
    else
        ((uint8_t *)data)[i] = e4m3_from_f32(value);
    return i;
}

static float load(const void *data, cudaDataType type, size_t i) {
    if (type == CUDA_R_32F) return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return type == CUDA_R_16BF ? f32_from_bf16(bits) : f32_from_f16(bits);
}

static _Alignas(16) unsigned char a[M * K * 4], b[N * K * 4], d[M * N * 4], workspace[WORKSPACE_BYTES];
static float scales_a[M], scales_b[N];

static void fill(const struct product *p) {
    for (int m = 0; m < M; m++)
        for (int k = 0; k < K; k++)
            store(a, p->in, (size_t)(p->trans_a == CUBLAS_OP_T ? m * K + k : k * M + m), value_of(0, m, k));
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++)
            store(b, p->in, (size_t)(p->trans_b == CUBLAS_OP_N ? n * K + k : k * N + n), value_of(1, n, k));
    for (int i = 0; i < M * N; i++) store(d, p->out, (size_t)i, 3.0f);
    for (int m = 0; m < M; m++) scales_a[m] = p->has_vectors ? 0.5f + (float)m : 2.0f;
    for (int n = 0; n < N; n++) scales_b[n] = p->has_vectors ? 0.25f * (float)n : 4.0f;
}

static double expected(const struct product *p, int m, int n) {
    double sum = 0;
    for (int k = 0; k < K; k++) sum += (double)value_of(0, m, k) * value_of(1, n, k);
    if (p->in == CUDA_R_8F_E4M3) sum *= (double)scales_a[p->has_vectors ? m : 0] * scales_b[p->has_vectors ? n : 0];
    return 0.5 * sum + p->beta * 3.0;
}

static void set_scales(cublasLtMatmulDesc_t how, bool has_vectors) {
    const float *pointers[] = {scales_a, scales_b};
    int32_t mode = has_vectors ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
    const cublasLtMatmulDescAttributes_t names[] = {
        CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
        CUBLASLT_MATMUL_DESC_B_SCALE_MODE};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cublasLtMatmulDescSetAttribute(how, names[i], &pointers[i], sizeof pointers[i]), 0);
        assert_int_equal(cublasLtMatmulDescSetAttribute(how, names[2 + i], &mode, sizeof mode), 0);
    }
}

// Asks the heuristic and multiplies with the algorithm of the case.
static cublasStatus_t multiply(const struct product *p, cudaStream_t stream) {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t how;
    cublasLtMatrixLayout_t layouts[3];
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[4];
    float alpha = 0.5f;
    int n_found = 0;
    uint64_t workspace_bytes = WORKSPACE_BYTES;
    bool a_is_t = p->trans_a == CUBLAS_OP_T, b_is_t = p->trans_b == CUBLAS_OP_T;
    assert_int_equal(cublasLtCreate(&handle), 0);
    assert_int_equal(cublasLtMatmulDescCreate(&how, CUBLAS_COMPUTE_32F, CUDA_R_32F), 0);
    assert_int_equal(cublasLtMatmulDescSetAttribute(how, CUBLASLT_MATMUL_DESC_TRANSA, &p->trans_a, sizeof(int32_t)), 0);
    assert_int_equal(cublasLtMatmulDescSetAttribute(how, CUBLASLT_MATMUL_DESC_TRANSB, &p->trans_b, sizeof(int32_t)), 0);
    if (p->in == CUDA_R_8F_E4M3) set_scales(how, p->has_vectors);
    assert_int_equal(cublasLtMatrixLayoutCreate(&layouts[0], p->in, a_is_t ? K : M, a_is_t ? M : K, a_is_t ? K : M), 0);
    assert_int_equal(cublasLtMatrixLayoutCreate(&layouts[1], p->in, b_is_t ? N : K, b_is_t ? K : N, b_is_t ? N : K), 0);
    assert_int_equal(cublasLtMatrixLayoutCreate(&layouts[2], p->out, M, N, M), 0);
    assert_int_equal(cublasLtMatmulPreferenceCreate(&preference), 0);
    assert_int_equal(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                          &workspace_bytes, sizeof workspace_bytes),
                     0);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, how, layouts[0], layouts[1], layouts[2], layouts[2],
                                                           preference, 4, found, &n_found);
    if (status == CUBLAS_STATUS_SUCCESS) {
        assert_int_equal(n_found, 2);
        status = cublasLtMatmul(handle, how, &alpha, a, layouts[0], b, layouts[1], &p->beta, d, layouts[2], d,
                                layouts[2], &found[p->i_algorithm].algo, workspace, sizeof workspace, stream);
    }
    for (int i = 0; i < 3; i++) assert_int_equal(cublasLtMatrixLayoutDestroy(layouts[i]), 0);
    assert_int_equal(cublasLtMatmulPreferenceDestroy(preference), 0);
    assert_int_equal(cublasLtMatmulDescDestroy(how), 0);
    assert_int_equal(cublasLtDestroy(handle), 0);
    return status;
}

static void assert_product(const struct product *p) {
    for (int n = 0; n < N; n++) {
        for (int m = 0; m < M; m++) {
            double exact = expected(p, m, n), step = p->out == CUDA_R_32F ? 1e-6 : p->out == CUDA_R_16F ? 5e-4 : 4e-3;
            double got = (double)load(d, p->out, (size_t)(m + n * M));
            assert_true(fabs(got - exact) <= step * (fabs(exact) + 1));
        }
    }
}

static const struct product supported[] = {
    {CUDA_R_32F, CUDA_R_32F, CUBLAS_OP_N, CUBLAS_OP_N, false, 0, 0},
    {CUDA_R_32F, CUDA_R_32F, CUBLAS_OP_N, CUBLAS_OP_T, false, 2, 1},
    {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_OP_T, CUBLAS_OP_N, false, 1, 1},
    {CUDA_R_16BF, CUDA_R_32F, CUBLAS_OP_T, CUBLAS_OP_N, false, 0, 0},
    {CUDA_R_16F, CUDA_R_16F, CUBLAS_OP_T, CUBLAS_OP_T, false, 1, 0},
    {CUDA_R_8F_E4M3, CUDA_R_16BF, CUBLAS_OP_T, CUBLAS_OP_N, false, 0, 0},
    {CUDA_R_8F_E4M3, CUDA_R_32F, CUBLAS_OP_T, CUBLAS_OP_N, true, 1, 1},
};

static void test_products(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof supported / sizeof *supported; i++) {
        fill(&supported[i]);
        assert_int_equal(multiply(&supported[i], NULL), CUBLAS_STATUS_SUCCESS);
        assert_product(&supported[i]);
    }
}

static void test_a_captured_product_runs_with_the_graph(void **state) {
    (void)state;
    const struct product *p = &supported[2];
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    fill(p);
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(multiply(p, stream), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_true(load(d, p->out, 0) == 3.0f);
    assert_int_equal(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphLaunch(executable, stream), cudaSuccess);
    assert_product(p);
    assert_int_equal(cudaGraphExecDestroy(executable), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
}

static void test_what_a_device_refuses_is_refused(void **state) {
    (void)state;
    const struct emulation_device before = emulation_device_get(), ada = {1, 8, 9, 4, 1 << 30},
                                  ampere = {1, 8, 0, 4, 1 << 30};
    const struct {
        struct product product;
        struct emulation_device device;
    } cases[] = {
        {{CUDA_R_8F_E4M3, CUDA_R_32F, CUBLAS_OP_N, CUBLAS_OP_N, false, 0, 0}, before}, // only A transposed
        {{CUDA_R_16BF, CUDA_R_16F, CUBLAS_OP_T, CUBLAS_OP_N, false, 0, 0}, before},
        {{CUDA_R_8F_E4M3, CUDA_R_32F, CUBLAS_OP_T, CUBLAS_OP_N, true, 0, 0}, ada}, // vectors of scales: 9.0
        {{CUDA_R_8F_E4M3, CUDA_R_32F, CUBLAS_OP_T, CUBLAS_OP_N, false, 0, 0}, ampere},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emulation_device_set(&cases[i].device);
        assert_int_equal(multiply(&cases[i].product, NULL), CUBLAS_STATUS_NOT_SUPPORTED);
    }
    emulation_device_set(&before);
}

static void test_one_rank_communicates_with_itself(void **state) {
    (void)state;
    ncclUniqueId id;
    ncclComm_t comm;
    float from[3] = {1, 2, 3}, to[3] = {0};
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    assert_int_equal(ncclCommInitRank(&comm, 2, id, 0), ncclInvalidUsage);
    assert_int_equal(ncclCommInitRank(&comm, 1, id, 0), ncclSuccess);
    assert_int_equal(ncclAllReduce(from, to, 2, ncclFloat32, ncclSum, comm, NULL), ncclSuccess);
    assert_true(to[0] == 1 && to[1] == 2 && to[2] == 0);
    assert_int_equal(ncclAllGather(from, to, 3, ncclFloat32, comm, NULL), ncclSuccess);
    assert_memory_equal(from, to, sizeof to);
    assert_int_equal(ncclCommDestroy(comm), ncclSuccess);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_a_captured_product_runs_with_the_graph),
        cmocka_unit_test(test_what_a_device_refuses_is_refused),
        cmocka_unit_test(test_one_rank_communicates_with_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
