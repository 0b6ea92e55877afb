// What tests set on the emulated device. For C and C++.
#pragma once

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The order of threads of all launches from now on. Tests run several seeds.
void emulation_seed(uint64_t seed);

// What the device says that it is. Default: 1 device, 9.0, 4 multiprocessors, 1 GiB.
struct emulation_device {
    int n_devices, major, minor, n_multiprocessors;
    size_t memory_bytes;
};
void emulation_device_set(const struct emulation_device *device);
struct emulation_device emulation_device_get(void);

// From now on, the call to the runtime after `n_calls` more fails with `error`; `sticky`: and all calls after it, as
// after a fault on the device. cudaSuccess takes an injected failure back.
void emulation_fail_after(int n_calls, cudaError_t error, bool sticky);

// Calls of the runtime so far that could have failed, and allocations not yet freed.
uint64_t emulation_n_calls(void);
uint64_t emulation_n_allocations(void);

#ifdef __cplusplus
}
#endif
