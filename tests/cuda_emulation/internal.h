// Between the files of the emulation.
#pragma once

#include "emulation.h"

// Runs a grid to its end on this host thread.
void emulation_run_grid(const char *text, dim3 grid, dim3 block, size_t shared_bytes, bool overlap,
                        const std::function<void()> &kernel);

// Counts a call of the runtime; returns the injected failure when it is due.
cudaError_t emulation_call(void);

// Runs `work` now, or records it when the stream captures a graph.
cudaError_t emulation_enqueue(cudaStream_t stream, std::function<void()> work);
