// The emulation of a CUDA device itself: it does what a device does, and finds what a device leaves undefined.
#include "kernels/cuda/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

// ------------------------------------------------------------------------------------------------ blocks and barriers

static __global__ void reverse_kernel(const int *in, int *out, bool has_barrier) {
    __shared__ int values[256];
    dependency_wait();
    unsigned i = threadIdx.x, at = blockIdx.x * blockDim.x;
    values[i] = in[at + i];
    if (has_barrier) __syncthreads();
    out[at + i] = values[blockDim.x - 1 - i];
}

static int reverse_errors(bool has_barrier, uint64_t seed) {
    int in[512], out[512], n_errors = 0;
    for (int i = 0; i < 512; i++) in[i] = i;
    emulation_seed(seed);
    assert_int_equal(launch(reverse_kernel, dim3(2), dim3(256), 0, nullptr, true, in, out, has_barrier), cudaSuccess);
    for (int i = 0; i < 512; i++) n_errors += out[i] != i / 256 * 256 + 255 - i % 256;
    return n_errors;
}

static void test_barriers_order_threads(void **) {
    for (uint64_t seed = 1; seed <= 5; seed++) assert_int_equal(reverse_errors(true, seed), 0);
}

static void test_a_missing_barrier_is_seen(void **) {
    for (uint64_t seed = 1; seed <= 5; seed++) assert_true(reverse_errors(false, seed) > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barriers_order_threads),
        cmocka_unit_test(test_a_missing_barrier_is_seen),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
