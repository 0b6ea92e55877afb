// What a device can do at best, measured: reads from memory, F32 arithmetic, BF16 matrix products.
#pragma once

#include "kernels/backend.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct peaks_sizes {
    size_t read_bytes;      // streamed once a run, several times the L2; a multiple of 16
    int32_t n_blocks;       // of a launch
    int32_t multiply_turns; // of each thread, PEAKS_CHAINS multiplications and additions a turn
    int32_t product_size;   // rows, inputs and outputs of the matrix product, a multiple of 64
    int32_t n_runs;         // of each; the median counts
};
enum { PEAKS_THREADS = 256, PEAKS_CHAINS = 16 };

// Large enough for a device of so many multiprocessors: milliseconds each, 1 GiB to read on the largest.
struct peaks_sizes peaks_sizes_for(int32_t n_processors);

// sum = the wrapping sum of n_bytes / 4 words at `from`; both device memory, `sum` zeroed before.
cudaError_t peaks_read(const struct peaks_sizes *sizes, const void *from, uint32_t *sum, cudaStream_t stream);
// `out` [1] receives nothing that matters.
cudaError_t peaks_multiply(const struct peaks_sizes *sizes, float *out, cudaStream_t stream);

// One block that does nothing but wait for the launch before it; with `overlap` it may start before that one has ended.
cudaError_t peaks_nothing(bool overlap, cudaStream_t stream);

// Takes memory for the time of the call; what cannot be measured is 0. Waits for the stream.
void peaks_measure(const struct peaks_sizes *sizes, cudaStream_t stream, struct backend_peaks *out);

#ifdef __cplusplus
}
#endif
