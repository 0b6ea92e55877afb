// Device memory for tests: filled from the host, read back, freed together.
#pragma once

#include <cuda_runtime_api.h>
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICE_BUFFERS_MAX = 64 };

struct device_buffers {
    void *buffer[DEVICE_BUFFERS_MAX];
    int count;
};

static inline void *device_bytes(struct device_buffers *all, size_t n_bytes) {
    assert(all->count < DEVICE_BUFFERS_MAX);
    void *buffer = NULL;
    cudaError_t error = cudaMalloc(&buffer, n_bytes ? n_bytes : 1);
    assert(error == cudaSuccess);
    (void)error;
    return all->buffer[all->count++] = buffer;
}

static inline void *device_upload(struct device_buffers *all, const void *host, size_t n_bytes) {
    void *buffer = device_bytes(all, n_bytes);
    cudaError_t error = cudaMemcpy(buffer, host, n_bytes, cudaMemcpyHostToDevice);
    assert(error == cudaSuccess);
    (void)error;
    return buffer;
}

// What was not written is NaN in every format of two and four bytes.
static inline void *device_poisoned(struct device_buffers *all, size_t n_bytes) {
    void *buffer = device_bytes(all, n_bytes);
    cudaMemset(buffer, 0xff, n_bytes);
    return buffer;
}

// Waits for the device; NULL when an earlier launch failed. The caller frees.
static inline void *device_download(const void *buffer, size_t n_bytes) {
    void *host = malloc(n_bytes ? n_bytes : 1);
    assert(host);
    if (cudaMemcpy(host, buffer, n_bytes, cudaMemcpyDeviceToHost) == cudaSuccess) return host;
    free(host);
    return NULL;
}

static inline void device_buffers_free(struct device_buffers *all) {
    while (all->count > 0) cudaFree(all->buffer[--all->count]);
}
