// Device memory that is taken in large pieces and handed out in order: what is handed out one after another lies side
// by side. Nothing is given back before the end.
#pragma once

#include "base/err.h"
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

enum { DEVICE_ALIGN = 256, DEVICE_PIECES_MAX = 4096 };

struct device_memory {
    void **pieces; // of cudaMalloc
    int n_pieces;
    char *last; // the piece that is being handed out
    size_t last_bytes, last_used;
    uint64_t n_bytes; // of all pieces: what the driver gave
};

#define DEVICE_MEMORY_INIT                                                                                             \
    { 0 }

// Takes a piece of at least n_bytes now, so that what follows needs no other. ERR_LIMIT: the device has no room.
int device_memory_reserve(struct device_memory *memory, size_t n_bytes, struct err *err)
    __attribute__((warn_unused_result));
// Aligned to DEVICE_ALIGN. NULL, with ERR_LIMIT in `err`: the device has no room.
void *device_memory_take(struct device_memory *memory, size_t n_bytes, struct err *err)
    __attribute__((warn_unused_result));
void device_memory_close(struct device_memory *memory);

// What an allocation of n_bytes takes of the device: whole pages of the driver.
size_t device_page_ceil(size_t n_bytes);
