// Between the files of the emulation.
#pragma once

#include "emulation.h"

// Runs a grid to its end on this host thread.
void emulation_run_grid(const char *text, dim3 grid, dim3 block, size_t shared_bytes, bool overlap,
                        const std::function<void()> &kernel);

// Counts a call of the runtime; returns the injected failure when it is due.
cudaError_t emulation_call(void);

// What is queued: a mark orders nothing; work of the host touches no device memory; copies and kernels come after all
// that was queued before, but for kernels that overlap, which do so from their dependency_wait on.
enum emulation_work { WORK_MARK, WORK_HOST, WORK_COPY, WORK_KERNEL, WORK_OVERLAP };

// Runs `work` now, or records it when the stream captures a graph.
cudaError_t emulation_enqueue(cudaStream_t stream, enum emulation_work kind, std::function<void()> work);

// Device memory, whole pages, which only works may touch (access.cpp).
void emulation_access_add(void *start, size_t n_bytes);
void emulation_access_remove(void *start);
void emulation_access_order(void); // the host has waited for everything
void emulation_access_before_wait(bool is_before);
void emulation_work_run(enum emulation_work kind, const std::function<void()> &work);
