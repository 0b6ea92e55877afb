// The twins of the PTX instructions and the conversions, against plain arithmetic, over all codes where there are few.
#include "kernels/cuda/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

extern "C" {
#include "base/number.h"
#include <cmocka.h>
}

static uint32_t random_state = 1;

static uint32_t random_bits(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

static float random_small(void) {
    return (float)(int)(random_bits() % 257) / 64.0f - 2.0f;
}

// ----------------------------------------------------------------------------------------------------- tensor products

enum { M = 32, N = 16, K = 48 };

// C[M, N] = A[M, K] B[N, K]^T through shared memory, ldmatrix and mma; one warp. B's fragments come from rows of B^T by
// ldmatrix_x2, or from B stored as [K, N] by ldmatrix_x2_trans.
template <bool IS_BF16, bool B_IS_TRANSPOSED>
static __global__ void product_kernel(const uint16_t *a, const uint16_t *b, float *c) {
    __shared__ __align__(16) uint16_t shared_a[M * K], shared_b[N * K];
    int lane = (int)threadIdx.x;
    for (int i = lane; i < M * K; i += 32) shared_a[i] = a[i];
    for (int i = lane; i < N * K; i += 32) shared_b[i] = b[i];
    __syncthreads();
    for (int m = 0; m < M; m += 16) {
        for (int n = 0; n < N; n += 8) {
            float d[4] = {};
            for (int k = 0; k < K; k += 16) {
                uint32_t a_registers[4], b_registers[2];
                ldmatrix_x4(a_registers, &shared_a[(m + lane % 16) * K + k + lane / 16 * 8]);
                if (B_IS_TRANSPOSED)
                    ldmatrix_x2_trans(b_registers, &shared_b[(k + lane % 16) * N + n]);
                else
                    ldmatrix_x2(b_registers, &shared_b[(n + lane % 8) * K + k + lane / 8 % 2 * 8]);
                if (IS_BF16)
                    mma_bf16(d, a_registers, b_registers);
                else
                    mma_f16(d, a_registers, b_registers);
            }
            for (int i = 0; i < 4; i++) c[(m + lane / 4 + i / 2 * 8) * N + n + lane % 4 * 2 + i % 2] = d[i];
        }
    }
}

template <bool IS_BF16, bool B_IS_TRANSPOSED> static void check_product(void) {
    static float a[M * K], b[N * K], c[M * N];
    static uint16_t a_bits[M * K], b_bits[N * K];
    for (int i = 0; i < M * K; i++) a[i] = random_small();
    for (int i = 0; i < N * K; i++) b[i] = random_small();
    for (int i = 0; i < M * K; i++) a_bits[i] = IS_BF16 ? bf16_from_f32(a[i]) : f16_from_f32(a[i]);
    for (int n = 0; n < N; n++) {
        for (int k = 0; k < K; k++) {
            uint16_t bits = IS_BF16 ? bf16_from_f32(b[n * K + k]) : f16_from_f32(b[n * K + k]);
            b_bits[B_IS_TRANSPOSED ? k * N + n : n * K + k] = bits;
        }
    }
    auto kernel = product_kernel<IS_BF16, B_IS_TRANSPOSED>;
    assert_int_equal(launch(kernel, dim3(1), dim3(32), 0, nullptr, false, a_bits, b_bits, c), cudaSuccess);
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < N; n++) {
            double sum = 0;
            for (int k = 0; k < K; k++) {
                float x = IS_BF16 ? f32_from_bf16(bf16_from_f32(a[m * K + k])) : a[m * K + k];
                float y = IS_BF16 ? f32_from_bf16(bf16_from_f32(b[n * K + k])) : b[n * K + k];
                sum += (double)x * y;
            }
            assert_true(fabs(c[m * N + n] - sum) < 1e-4);
        }
    }
}

static void test_products_of_fragments(void **) {
    check_product<true, false>();
    check_product<true, true>();
    check_product<false, false>();
    check_product<false, true>();
}

// Element e of row r of matrix i is 256 i + 16 r + e.
static __global__ void matrices_kernel(uint32_t *out) {
    __shared__ __align__(16) uint16_t elements[4][8][8];
    int lane = (int)threadIdx.x;
    for (int i = lane; i < 256; i += 32)
        elements[i / 64][i / 8 % 8][i % 8] = (uint16_t)(i / 64 * 256 + i / 8 % 8 * 16 + i % 8);
    __syncwarp();
    ldmatrix_x4(out + 8 * lane, elements[lane / 8][lane % 8]);
    ldmatrix_x4_trans(out + 8 * lane + 4, elements[lane / 8][lane % 8]);
}

static void test_matrices_are_dealt_to_lanes(void **) {
    uint32_t out[256];
    assert_int_equal(launch(matrices_kernel, dim3(1), dim3(32), 0, nullptr, false, out), cudaSuccess);
    for (uint32_t lane = 0; lane < 32; lane++) {
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t row = lane / 4, column = lane % 4 * 2, first = 256 * i + 16 * row + column;
            assert_int_equal(out[8 * lane + i], first | (first + 1) << 16);
            uint32_t transposed = 256 * i + 16 * column + row;
            assert_int_equal(out[8 * lane + 4 + i], transposed | (transposed + 16) << 16);
        }
    }
}

// --------------------------------------------------------------------------------------------------------- conversions

static void assert_same_float(float a, float b) {
    if (isnan(b))
        assert_true(isnan(a));
    else
        assert_int_equal(f32_bits(a), f32_bits(b));
}

static void test_16_bits_to_float(void **) {
    for (uint32_t code = 0; code < 65536; code++) {
        bf16 b = {(uint16_t)code};
        f16 h = {(uint16_t)code};
        uint32_t pair = code | (code ^ 0x1234) << 16;
        assert_same_float(to_float(b), f32_from_bf16((uint16_t)code));
        assert_same_float(to_float(h), f32_from_f16((uint16_t)code));
        assert_same_float(bf16_low(pair), f32_from_bf16((uint16_t)code));
        assert_same_float(bf16_high(pair), f32_from_bf16((uint16_t)(code ^ 0x1234)));
        assert_same_float(f16_low(pair), f32_from_f16((uint16_t)code));
        assert_same_float(f16_high(pair), f32_from_f16((uint16_t)(code ^ 0x1234)));
    }
}

static void test_float_to_16_bits(void **) {
    for (int i = 0; i < 100000; i++) {
        float x = f32_from_bits(random_bits() << 8 ^ random_bits()), y = random_small();
        if (isnan(x)) continue;
        assert_int_equal(pack_bf16(x, y), bf16_from_f32(x) | (uint32_t)bf16_from_f32(y) << 16);
        assert_int_equal(pack_f16(x, y), f16_from_f32(x) | (uint32_t)f16_from_f32(y) << 16);
        assert_int_equal(from_float<bf16>(x).bits, bf16_from_f32(x));
        assert_int_equal(from_float<f16>(x).bits, f16_from_f32(x));
    }
    // The largest finite f16 is 65504.
    assert_int_equal(pack_f16_saturating(1e6f, -INFINITY), 0x7bffu | 0xfbffu << 16);
    assert_int_equal(pack_f16_saturating(65504.0f, -2.0f), 0x7bffu | 0xc000u << 16);
    assert_true(isnan(f16_low(pack_f16_saturating(NAN, 0.0f))));
}

static void test_e4m3_to_bf16_is_exact(void **) {
    for (uint32_t code = 0; code < 256; code++) {
        float expected = f32_from_e4m3((uint8_t)code);
        if (isnan(expected)) continue; // documented as +-480
        uint32_t pairs[2], other = code ^ 0x55;
        e4m3x4_to_bf16(code | other << 8 | other << 16 | code << 24, pairs);
        assert_same_float(bf16_low(pairs[0]), expected);
        assert_same_float(bf16_high(pairs[1]), expected);
        assert_same_float(e4m3_to_float((uint8_t)code), expected);
        if (isnan(f32_from_e4m3((uint8_t)other))) continue;
        assert_same_float(bf16_high(pairs[0]), f32_from_e4m3((uint8_t)other));
        assert_same_float(bf16_low(pairs[1]), f32_from_e4m3((uint8_t)other));
    }
}

static void check_to_e4m3(float x) {
    uint32_t code = e4m3_from_float_integer(x), expected = e4m3_from_f32(x);
    if (isnan(x))
        assert_int_equal(code & 0x7f, 0x7f);
    else
        assert_int_equal(code, expected);
}

static void test_float_to_e4m3_rounds_to_nearest_even(void **) {
    for (uint32_t code = 0; code < 256; code++) {
        float x = f32_from_e4m3((uint8_t)code), y = f32_from_e4m3((uint8_t)((code & 0x80) | ((code + 1) & 0x7f)));
        if (isnan(x) || isnan(y)) continue;
        // Every code, every tie between neighbours, and both sides of the tie.
        float tie = (x + y) / 2;
        check_to_e4m3(x);
        check_to_e4m3(tie);
        check_to_e4m3(nextafterf(tie, INFINITY));
        check_to_e4m3(nextafterf(tie, -INFINITY));
    }
    for (int i = 0; i < 100000; i++) check_to_e4m3(f32_from_bits(random_bits() << 8 ^ random_bits()));
    for (float x : {0.0f, -0.0f, 448.0f, 464.0f, 1e30f, -INFINITY, NAN}) check_to_e4m3(x);
    assert_int_equal(e4m3x4_from_float(1.0f, -2.0f, 0.5f, 448.0f), 0x7e30c038u);
}

static void test_int4_to_bf16_is_exact(void **) {
    for (uint32_t place = 0; place < 8; place++) {
        for (uint32_t code = 0; code < 16; code++) {
            uint32_t pairs[4], others = random_bits() << 16 ^ random_bits();
            int4x8_to_bf16((others & ~(15u << 4 * place)) | code << 4 * place, pairs);
            float value = place < 4 ? bf16_low(pairs[place]) : bf16_high(pairs[place - 4]);
            assert_true(value == (float)((int)code - 8));
        }
    }
}

static void test_exp2_fast(void **) {
    for (int i = -1300; i < 1280; i++) {
        float x = (float)i / 10.0f, got = exp2_fast(x);
        double exact = exp2((double)x);
        if (x < -126)
            assert_true(got == 0);
        else
            assert_true(fabs(got - exact) <= exact * 0x1p-22);
    }
    assert_true(exp2_fast(-INFINITY) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_of_fragments), cmocka_unit_test(test_matrices_are_dealt_to_lanes),
        cmocka_unit_test(test_16_bits_to_float),      cmocka_unit_test(test_float_to_16_bits),
        cmocka_unit_test(test_e4m3_to_bf16_is_exact), cmocka_unit_test(test_float_to_e4m3_rounds_to_nearest_even),
        cmocka_unit_test(test_int4_to_bf16_is_exact), cmocka_unit_test(test_exp2_fast),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
