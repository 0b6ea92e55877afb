#include "kernels/cuda/device_memory.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

// The driver maps memory in pages of this size; asking for whole ones makes our sums equal to its own.
static const size_t PAGE_BYTES = (size_t)2 << 20;
static const size_t PIECE_BYTES_MAX = (size_t)256 << 20;

size_t device_page_ceil(size_t n_bytes) {
    return (n_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

int device_memory_reserve(struct device_memory *memory, size_t n_bytes, struct err *err) {
    if (memory->last_bytes - memory->last_used >= n_bytes) return 0;
    size_t piece_bytes = device_page_ceil(n_bytes);
    void *piece;
    assert(memory->n_pieces < DEVICE_PIECES_MAX);
    cudaError_t error = cudaMalloc(&piece, piece_bytes);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return err_set(err, ERR_LIMIT, "the device has no room for %.1f MiB more: %s", (double)piece_bytes / 0x1p20,
                       cudaGetErrorString(error));
    }
    memory->pieces = mem_grow(memory->pieces, (size_t)memory->n_pieces + 1, sizeof *memory->pieces);
    memory->pieces[memory->n_pieces++] = memory->last = piece;
    memory->last_bytes = piece_bytes;
    memory->last_used = 0;
    memory->n_bytes += piece_bytes;
    return 0;
}

void *device_memory_take(struct device_memory *memory, size_t n_bytes, struct err *err) {
    size_t aligned = (n_bytes + DEVICE_ALIGN - 1) / DEVICE_ALIGN * DEVICE_ALIGN;
    if (memory->last_bytes - memory->last_used < aligned) {
        // Pieces grow with what was taken, so that they are few and what the last one wastes is little. Near the end of
        // the device's memory they are as small as can be.
        size_t piece_bytes = memory->n_bytes / 16 < PIECE_BYTES_MAX ? (size_t)memory->n_bytes / 16 : PIECE_BYTES_MAX;
        if ((piece_bytes <= aligned || device_memory_reserve(memory, piece_bytes, NULL)) &&
            device_memory_reserve(memory, aligned, err))
            return NULL;
    }
    void *at = memory->last + memory->last_used;
    memory->last_used += aligned;
    return at;
}

void device_memory_close(struct device_memory *memory) {
    for (int i = 0; i < memory->n_pieces; i++) cudaFree(memory->pieces[i]);
    free((void *)memory->pieces);
    *memory = (struct device_memory)DEVICE_MEMORY_INIT;
}
