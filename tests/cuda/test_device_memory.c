// Device memory is handed out in order and aligned, in few pieces, to the last page, and given back as a whole.
#include "tests/test.h"

#include "kernels/cuda/device_memory.h"

static void neighbours_lie_side_by_side(void **state) {
    (void)state;
    struct device_memory memory = DEVICE_MEMORY_INIT;
    struct err err = {0};
    static const size_t sizes[] = {1, 256, 257, 100000};
    assert_int_equal(device_memory_reserve(&memory, 1 << 20, &err), 0);
    char *next = device_memory_take(&memory, 0, &err);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *at = device_memory_take(&memory, sizes[i], &err);
        assert_ptr_equal(at, next);
        assert_int_equal((uintptr_t)at % DEVICE_ALIGN, 0);
        next = at + (sizes[i] + DEVICE_ALIGN - 1) / DEVICE_ALIGN * DEVICE_ALIGN;
    }
    assert_int_equal(memory.n_pieces, 1);
    device_memory_close(&memory);
    assert_int_equal(memory.n_bytes, 0);
}

// Small allocations fill the device nearly to its end, and what they took is what the driver counts.
static void the_device_can_be_filled(void **state) {
    (void)state;
    enum { TAKEN_BYTES = 8 << 20, LEFT_BYTES = 64 << 20 };
    size_t free_before, free_full, free_after, total;
    assert_int_equal(cudaMemGetInfo(&free_before, &total), cudaSuccess);
    // A real device is too large for a test: all but a little is taken at once.
    struct device_memory most = DEVICE_MEMORY_INIT, memory = DEVICE_MEMORY_INIT;
    struct err err = {0};
    assert_int_equal(device_memory_reserve(&most, free_before - LEFT_BYTES, &err), 0);
    size_t n_taken = 0;
    while (device_memory_take(&memory, TAKEN_BYTES, &err)) n_taken++;
    assert_int_equal(err.code, ERR_LIMIT);
    assert_non_null(strstr(err.text, "no room"));
    assert_true(n_taken >= LEFT_BYTES / TAKEN_BYTES - 2 && n_taken <= LEFT_BYTES / TAKEN_BYTES + 1);
    assert_int_equal(cudaMemGetInfo(&free_full, &total), cudaSuccess);
    double counted = (double)(most.n_bytes + memory.n_bytes), driver = (double)(free_before - free_full);
    assert_true(counted > 0.98 * driver && counted < 1.02 * driver);
    device_memory_close(&memory);
    device_memory_close(&most);
    assert_int_equal(cudaMemGetInfo(&free_after, &total), cudaSuccess);
    assert_true(free_after + LEFT_BYTES / 8 >= free_before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_lie_side_by_side),
        cmocka_unit_test(the_device_can_be_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
