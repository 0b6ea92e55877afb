// The emulated runtime keeps the rules of a device that the plugin's host code relies on.
#include "emulation_control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_memory_is_poisoned_counted_and_limited(void **state) {
    (void)state;
    const struct emulation_device device = {1, 9, 0, 4, 1 << 20}, before = emulation_device_get();
    emulation_device_set(&device);
    uint64_t n_before = emulation_n_allocations();
    unsigned char *data;
    void *too_much;
    size_t n_free, n_total;
    assert_int_equal(cudaMalloc((void **)&data, 1000), cudaSuccess);
    assert_int_equal((uintptr_t)data % 256, 0);
    unsigned char on_host[1000];
    assert_int_equal(cudaMemcpy(on_host, data, sizeof on_host, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < 1000; i++) assert_int_equal(on_host[i], 0xff);
    assert_int_equal(cudaMemGetInfo(&n_free, &n_total), cudaSuccess);
    assert_int_equal(n_total - n_free, 1000);
    assert_int_equal(cudaMalloc(&too_much, 1 << 20), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(emulation_n_allocations(), n_before + 1);
    assert_int_equal(cudaFreeHost(data), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(data), cudaSuccess);
    assert_int_equal(emulation_n_allocations(), n_before);
    emulation_device_set(&before);
    (void)cudaGetLastError();
}

static void test_streams_do_at_once(void **state) {
    (void)state;
    cudaStream_t stream;
    cudaEvent_t start, end;
    int from = 7, to = 0;
    float ms = -1;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&start, cudaEventDefault), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&end, cudaEventDefault), cudaSuccess);
    assert_int_equal(cudaEventElapsedTime(&ms, start, end), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaEventRecord(start, stream), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(&to, &from, sizeof to, cudaMemcpyDefault, stream), cudaSuccess);
    assert_int_equal(cudaEventRecord(end, stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(cudaEventElapsedTime(&ms, start, end), cudaSuccess);
    assert_true(ms >= 0);
    assert_int_equal(to, 7);
    assert_int_equal(cudaEventDestroy(start), cudaSuccess);
    assert_int_equal(cudaEventDestroy(end), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    (void)cudaGetLastError();
}

// A second stream joins a capture by an event; what both do is done when the graph is launched, and not before.
static void test_a_graph_replays_what_streams_captured(void **state) {
    (void)state;
    cudaStream_t streams[2];
    cudaEvent_t fork_event, join_event;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    int from = 1, middle = 0, to = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&fork_event, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&join_event, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(&middle, &from, sizeof from, cudaMemcpyDefault, streams[0]), cudaSuccess);
    assert_int_equal(cudaEventRecord(fork_event, streams[0]), cudaSuccess);
    assert_int_equal(cudaStreamWaitEvent(streams[1], fork_event, 0), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(&to, &middle, sizeof to, cudaMemcpyDefault, streams[1]), cudaSuccess);
    assert_int_equal(cudaEventRecord(join_event, streams[1]), cudaSuccess);
    assert_int_equal(cudaStreamWaitEvent(streams[0], join_event, 0), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(streams[0], &graph), cudaSuccess);
    assert_int_equal(to, 0);
    assert_int_equal(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    for (from = 5; from < 8; from++) {
        assert_int_equal(cudaGraphLaunch(executable, streams[0]), cudaSuccess);
        assert_int_equal(to, from);
    }
    assert_int_equal(cudaGraphExecDestroy(executable), cudaSuccess);
    for (int i = 0; i < 2; i++) assert_int_equal(cudaStreamDestroy(streams[i]), cudaSuccess);
    assert_int_equal(cudaEventDestroy(fork_event), cudaSuccess);
    assert_int_equal(cudaEventDestroy(join_event), cudaSuccess);
}

static void test_waiting_or_allocating_spoils_a_capture(void **state) {
    (void)state;
    cudaStream_t stream;
    cudaGraph_t graph;
    void *memory;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
        cudaError_t error = i == 0   ? cudaStreamSynchronize(stream)
                            : i == 1 ? cudaMalloc(&memory, 16)
                                     : cudaMemcpy(&stream, &stream, sizeof stream, cudaMemcpyDefault);
        assert_int_equal(error, cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
    }
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    (void)cudaGetLastError();
}

static void test_failures_can_be_asked_for(void **state) {
    (void)state;
    int device;
    emulation_fail_after(2, cudaErrorLaunchFailure, false);
    const cudaError_t once[] = {cudaSuccess, cudaSuccess, cudaErrorLaunchFailure, cudaSuccess};
    for (int i = 0; i < 4; i++) assert_int_equal(cudaGetDevice(&device), once[i]);
    emulation_fail_after(1, cudaErrorIllegalAddress, true);
    const cudaError_t always[] = {cudaSuccess, cudaErrorIllegalAddress, cudaErrorIllegalAddress};
    for (int i = 0; i < 3; i++) assert_int_equal(cudaGetDevice(&device), always[i]);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    assert_string_equal(cudaGetErrorName(cudaGetLastError()), "cudaErrorIllegalAddress");
    emulation_fail_after(0, cudaSuccess, false);
    assert_int_equal(cudaGetDevice(&device), cudaSuccess);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

static void test_a_device_says_what_it_was_told_to_be(void **state) {
    (void)state;
    const struct emulation_device before = emulation_device_get(), none = {0, 9, 0, 4, 1 << 20},
                                  ampere = {2, 8, 6, 3, 1 << 20};
    struct cudaDeviceProp properties;
    int value;
    emulation_device_set(&none);
    assert_int_equal(cudaGetDeviceCount(&value), cudaErrorNoDevice);
    emulation_device_set(&ampere);
    assert_int_equal(cudaGetDeviceCount(&value), cudaSuccess);
    assert_int_equal(value, 2);
    assert_int_equal(cudaSetDevice(2), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetDeviceProperties(&properties, 1), cudaSuccess);
    assert_string_equal(properties.name, "emulated");
    assert_int_equal(properties.multiProcessorCount, 3);
    assert_int_equal(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMinor, 0), cudaSuccess);
    assert_int_equal(value, 6);
    assert_int_equal(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
    assert_int_equal(value, 99 << 10);
    emulation_device_set(&before);
    (void)cudaGetLastError();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_poisoned_counted_and_limited),
        cmocka_unit_test(test_streams_do_at_once),
        cmocka_unit_test(test_a_graph_replays_what_streams_captured),
        cmocka_unit_test(test_waiting_or_allocating_spoils_a_capture),
        cmocka_unit_test(test_failures_can_be_asked_for),
        cmocka_unit_test(test_a_device_says_what_it_was_told_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
