// The emulation of a CUDA device itself: it does what a device does, and finds what a device leaves undefined.
#include "kernels/cuda/device.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

enum { N_SEEDS = 5 };

// Runs `work` in a child process; returns what it wrote to stderr, and asks that it did not end well.
static const char *words_of_death(void (*work)(void)) {
    static char words[8192];
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]), close(ends[1]);
        // cmocka would turn these into failed tests.
        signal(SIGSEGV, SIG_DFL), signal(SIGABRT, SIG_DFL);
        work();
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; n < sizeof words - 1 && (got = read(ends[0], words + n, sizeof words - 1 - n)) > 0;)
        n += (size_t)got;
    words[n] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return words;
}

static void assert_dies(void (*work)(void), const char *part) {
    const char *words = words_of_death(work);
    if (!strstr(words, part)) fail_msg("\"%s\" is not in: %s", part, words);
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
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) assert_int_equal(reverse_errors(true, seed), 0);
}

static void test_a_missing_barrier_is_seen(void **) {
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) assert_true(reverse_errors(false, seed) > 100);
}

static __global__ void order_kernel(int *order, int *n) {
    order[(*n)++] = (int)threadIdx.x;
}

static void test_a_seed_gives_an_order(void **) {
    int order[4][64];
    const uint64_t seeds[4] = {1, 1, 2, 3};
    for (int i = 0; i < 4; i++) {
        int n = 0;
        emulation_seed(seeds[i]);
        assert_int_equal(launch(order_kernel, dim3(1), dim3(64), 0, nullptr, false, order[i], &n), cudaSuccess);
        assert_int_equal(n, 64);
    }
    assert_memory_equal(order[0], order[1], sizeof order[0]);
    assert_memory_not_equal(order[0], order[2], sizeof order[0]);
    assert_memory_not_equal(order[2], order[3], sizeof order[0]);
}

static __global__ void index_kernel(int *seen) {
    unsigned in_block = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    seen[block * blockDim.x * blockDim.y * blockDim.z + in_block]++;
}

static void test_every_index_runs_once(void **) {
    int seen[2 * 3 * 4 * 8 * 4 * 2] = {};
    assert_int_equal(launch(index_kernel, dim3(2, 3, 4), dim3(8, 4, 2), 0, nullptr, false, seen), cudaSuccess);
    for (int n : seen) assert_int_equal(n, 1);
}

static __global__ void count_kernel(int *counts) {
    int i = (int)threadIdx.x;
    counts[3 * i] = __syncthreads_count(i < 10);
    counts[3 * i + 1] = __syncthreads_or(i == 77);
    counts[3 * i + 2] = __syncthreads_and(i < 95);
}

static void test_barriers_count(void **) {
    int counts[3 * 96];
    assert_int_equal(launch(count_kernel, dim3(1), dim3(96), 0, nullptr, false, counts), cudaSuccess);
    for (int i = 0; i < 96; i++) {
        assert_int_equal(counts[3 * i], 10);
        assert_int_equal(counts[3 * i + 1], 1);
        assert_int_equal(counts[3 * i + 2], 1 - 1);
    }
}

// Two producing warps fill, two others empty, and neither waits for the whole block.
static __global__ void named_kernel(int *out) {
    __shared__ int values[64];
    enum { FULL = 1, EMPTY = 2 };
    unsigned i = threadIdx.x % 64;
    bool produces = threadIdx.x < 64;
    for (int round = 0; round < 3; round++) {
        if (produces) {
            if (round > 0) barrier_sync(EMPTY, 128);
            values[i] = (int)i * 10 + round;
            barrier_arrive(FULL, 128);
        } else {
            barrier_sync(FULL, 128);
            out[64 * round + i] = values[63 - i];
            if (round < 2) barrier_arrive(EMPTY, 128);
        }
    }
}

static void test_named_barriers_pass_data(void **) {
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        int out[192];
        emulation_seed(seed);
        assert_int_equal(launch(named_kernel, dim3(1), dim3(128), 0, nullptr, false, out), cudaSuccess);
        for (int i = 0; i < 192; i++) assert_int_equal(out[i], (63 - i % 64) * 10 + i / 64);
    }
}

// -------------------------------------------------------------------------------------------------------- shared
// memory

static __global__ void leftover_kernel(float *out) {
    __shared__ float values[32];
    DYNAMIC_SHARED(float, more);
    out[64 * blockIdx.x + threadIdx.x] = values[threadIdx.x];
    out[64 * blockIdx.x + 32 + threadIdx.x] = more[threadIdx.x];
    values[threadIdx.x] = more[threadIdx.x] = 1.0f;
}

static void test_shared_memory_begins_as_nan(void **) {
    float out[128];
    assert_int_equal(launch(leftover_kernel, dim3(2), dim3(32), 128, nullptr, false, out), cudaSuccess);
    for (float value : out) assert_true(isnan(value));
}

static __global__ void beyond_kernel(int n) {
    DYNAMIC_SHARED(char, bytes);
    bytes[n] = 1;
}

static void write_beyond_shared(void) {
    launch(beyond_kernel, dim3(1), dim3(32), 128, nullptr, false, 128);
}

static void test_a_write_behind_shared_memory_ends_the_process(void **) {
    words_of_death(write_beyond_shared);
}

static void test_launches_are_checked(void **) {
    int out;
    const struct {
        dim3 grid, block;
        size_t shared_bytes;
        cudaError_t error;
    } cases[] = {
        {dim3(1), dim3(1025), 0, cudaErrorInvalidConfiguration},
        {dim3(0), dim3(32), 0, cudaErrorInvalidConfiguration},
        {dim3(1, 65536), dim3(32), 0, cudaErrorInvalidConfiguration},
        {dim3(1), dim3(32), 227 * 1024 + 1, cudaErrorInvalidValue},
    };
    for (const auto &c : cases) {
        assert_int_equal(launch(count_kernel, c.grid, c.block, c.shared_bytes, nullptr, false, &out), c.error);
        assert_int_equal(cudaGetLastError(), c.error);
    }
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

// ----------------------------------------------------------------------------------------------------- asynchronous
// copies

// Copies 16 bytes a thread in two groups, of which the kernel waits for all but `PENDING`.
template <int PENDING> static __global__ void copy_kernel(const float *in, float *out) {
    __shared__ __align__(16) float values[2][128];
    unsigned i = threadIdx.x;
    for (int group = 0; group < 2; group++) {
        copy_async_16(&values[group][4 * i], &in[128 * group + 4 * i], i != 5);
        copy_async_commit();
    }
    copy_async_wait<PENDING>();
    __syncthreads();
    for (int j = 0; j < 8; j++) out[8 * i + j] = values[j / 4][4 * i + j % 4];
    copy_async_wait<0>();
}

static void test_copies_are_there_after_the_wait_and_not_before(void **) {
    alignas(16) float in[256], out[256];
    for (int i = 0; i < 256; i++) in[i] = (float)i;
    for (int pending = 0; pending <= 2; pending++) {
        auto kernel = pending == 0 ? copy_kernel<0> : pending == 1 ? copy_kernel<1> : copy_kernel<2>;
        assert_int_equal(launch(kernel, dim3(1), dim3(32), 0, nullptr, false, in, out), cudaSuccess);
        for (int i = 0; i < 256; i++) {
            int thread = i / 8, group = i / 4 % 2;
            float expected = thread == 5 ? 0 : (float)(128 * group + 4 * thread + i % 4);
            if (group < 2 - pending)
                assert_true(out[i] == expected);
            else
                assert_true(isnan(out[i]));
        }
    }
}

static __global__ void misaligned_kernel(const float *in) {
    __shared__ __align__(16) float values[8];
    copy_async_16(values, in + 1, true);
}

static void copy_misaligned(void) {
    alignas(16) float in[8] = {};
    launch(misaligned_kernel, dim3(1), dim3(1), 0, nullptr, false, in);
}

// --------------------------------------------------------------------------------------------------------- collectives

static __global__ void warp_kernel(int *out) {
    int lane = (int)threadIdx.x % 32, *mine = out + 12 * threadIdx.x;
    mine[0] = __shfl_xor_sync(FULL_MASK, lane * 3, 5);
    mine[1] = __shfl_sync(FULL_MASK, lane * 3, 7);
    mine[2] = __shfl_up_sync(FULL_MASK, lane, 4);
    mine[3] = __shfl_down_sync(FULL_MASK, lane, 4, 8);
    mine[4] = (int)__ballot_sync(FULL_MASK, lane % 3 == 0);
    mine[5] = __any_sync(FULL_MASK, lane == 9);
    mine[6] = __all_sync(FULL_MASK, lane < 31);
    mine[7] = warp_sum(lane);
    mine[8] = warp_max((lane * 7) % 32);
    mine[9] = warp_sum<4>(lane);
    // Halves of the warp go different ways.
    if (lane < 16)
        mine[10] = __shfl_xor_sync(0x0000ffffu, lane, 1);
    else
        mine[10] = (int)__ballot_sync(0xffff0000u, lane % 2);
    mine[11] = (int)__shfl_xor_sync(FULL_MASK, (unsigned long long)lane << 33, 2) != 0;
}

static void test_warps_exchange(void **) {
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        int out[12 * 64];
        emulation_seed(seed);
        assert_int_equal(launch(warp_kernel, dim3(1), dim3(64), 0, nullptr, false, out), cudaSuccess);
        for (int i = 0; i < 64; i++) {
            int lane = i % 32, first = lane / 4 * 4;
            const int expected[12] = {(lane ^ 5) * 3,
                                      21,
                                      lane < 4 ? lane : lane - 4,
                                      lane % 8 < 4 ? lane + 4 : lane,
                                      0x49249249,
                                      1,
                                      0,
                                      496,
                                      31,
                                      4 * first + 6,
                                      lane < 16 ? lane ^ 1 : (int)0xaaaa0000u,
                                      0};
            assert_memory_equal(out + 12 * i, expected, sizeof expected);
        }
    }
}

static __global__ void block_kernel(float *out) {
    __shared__ float scratch[32];
    float x = (float)threadIdx.x;
    float sum = block_sum(x, scratch);
    out[threadIdx.x] = sum + block_max(-x - 1, scratch) * 1000000.0f;
}

static void test_blocks_reduce(void **) {
    float out[320];
    assert_int_equal(launch(block_kernel, dim3(1), dim3(320), 0, nullptr, false, out), cudaSuccess);
    for (float value : out) assert_true(value == 320 * 319 / 2 - 1000000.0f);
}

static __global__ void atomic_kernel(int *sum, unsigned long long *wide, unsigned *largest, float *total) {
    __shared__ int here;
    if (threadIdx.x == 0) here = 0;
    __syncthreads();
    atomicAdd(&here, 2);
    atomicAdd(wide, 1ull << 40);
    atomicMax(largest, threadIdx.x);
    atomicAdd(total, 0.5f);
    __syncthreads();
    if (threadIdx.x == 0) *sum = here;
}

static void test_atomics(void **) {
    int sum;
    unsigned long long wide = 0;
    unsigned largest = 5;
    float total = 0;
    cudaError_t error = launch(atomic_kernel, dim3(1), dim3(128), 0, nullptr, false, &sum, &wide, &largest, &total);
    assert_int_equal(error, cudaSuccess);
    assert_int_equal(sum, 256);
    assert_true(wide == 128ull << 40);
    assert_int_equal(largest, 127);
    assert_true(total == 64);
}

// ------------------------------------------------------------------------------------------------- what ends a process

static __global__ void exited_kernel(int *out) {
    if (threadIdx.x == 3) return;
    out[threadIdx.x] = __shfl_xor_sync(FULL_MASK, 1, 1);
}
static __global__ void different_kernel(int *out) {
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_xor_sync(FULL_MASK, 1, 1);
    else
        out[threadIdx.x] = __any_sync(FULL_MASK, 1);
}
static __global__ void outside_kernel(int *out) {
    out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1, 1);
}
static __global__ void unread_kernel(int *out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 20);
}
static __global__ void stuck_kernel(int *out) {
    if (threadIdx.x < 32)
        barrier_sync(3, 64);
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
static __global__ void half_kernel(int *out) {
    if (threadIdx.x < 16)
        __syncwarp();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
static __global__ void hasty_kernel(int *out) {
    out[threadIdx.x] = 1;
}

template <void (*KERNEL)(int *), bool OVERLAP = false> static void run_one(void) {
    int out[64];
    launch(KERNEL, dim3(1), dim3(64), 0, nullptr, OVERLAP, out);
}

// Copies `in` before it waits, or writes to `in`.
static __global__ void early_kernel(int *in, int *out, bool writes) {
    int value = writes ? (*in = 1) : *in;
    dependency_wait();
    *out = value;
}
static __global__ void one_kernel(int *out) {
    dependency_wait();
    *out = 1;
}

// What a kernel that overlaps does before it waits, behind another kernel, which has or has not written to it.
static void run_early(bool waits_on_host, bool writes) {
    int *memory[2];
    for (int i = 0; i < 2; i++) cudaMalloc(reinterpret_cast<void **>(&memory[i]), sizeof(int));
    launch(one_kernel, dim3(1), dim3(1), 0, nullptr, true, memory[0]);
    launch(one_kernel, dim3(1), dim3(1), 0, nullptr, true, memory[1]);
    if (waits_on_host) cudaDeviceSynchronize();
    launch(early_kernel, dim3(2), dim3(1), 0, nullptr, true, memory[0], memory[1], writes);
    for (int i = 0; i < 2; i++) cudaFree(memory[i]);
}
static void read_early(void) {
    run_early(false, false);
}
static void write_early(void) {
    run_early(true, true);
}
static void touch_on_host(void) {
    int *memory;
    cudaMalloc(reinterpret_cast<void **>(&memory), sizeof *memory);
    *memory = 1;
}

static void test_kernels_that_overlap_wait_for_what_others_wrote(void **) {
    run_early(true, false); // constants may be read
    assert_dies(read_early, "before dependency_wait a kernel touches what an earlier one has written");
    assert_dies(write_early, "before dependency_wait a kernel writes to device memory");
    words_of_death(touch_on_host);
}

static void test_undefined_behaviour_ends_the_process_with_words(void **) {
    assert_dies(run_one<exited_kernel>, "exit");
    assert_dies(run_one<different_kernel>, "of the same warp at");
    assert_dies(run_one<outside_kernel>, "in which it is not");
    assert_dies(run_one<unread_kernel>, "which is not in mask 0000ffff");
    assert_dies(run_one<stuck_kernel>, "no thread can go on");
    assert_dies(run_one<stuck_kernel>, "lanes ffffffff: barrier 3 (32 have arrived)");
    assert_dies(run_one<half_kernel>, "lanes 0000ffff: __syncwarp of mask ffffffff");
    assert_dies(run_one<hasty_kernel, true>, "never calls dependency_wait");
    assert_dies(copy_misaligned, "must be multiples of 16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barriers_order_threads),
        cmocka_unit_test(test_a_missing_barrier_is_seen),
        cmocka_unit_test(test_a_seed_gives_an_order),
        cmocka_unit_test(test_every_index_runs_once),
        cmocka_unit_test(test_barriers_count),
        cmocka_unit_test(test_named_barriers_pass_data),
        cmocka_unit_test(test_shared_memory_begins_as_nan),
        cmocka_unit_test(test_a_write_behind_shared_memory_ends_the_process),
        cmocka_unit_test(test_launches_are_checked),
        cmocka_unit_test(test_copies_are_there_after_the_wait_and_not_before),
        cmocka_unit_test(test_warps_exchange),
        cmocka_unit_test(test_blocks_reduce),
        cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_kernels_that_overlap_wait_for_what_others_wrote),
        cmocka_unit_test(test_undefined_behaviour_ends_the_process_with_words),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
