// How much of a mapping, and of this process, is in memory.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Bytes of the pages that begin in [data, data + n_bytes) and are resident, as the system counts them. data: within
// what mmap returned.
uint64_t memory_resident_bytes(const void *data, size_t n_bytes);

// What of this process is in memory: pages of its own, and pages of files. 0: not known.
struct process_memory {
    uint64_t anonymous, mapped;
};
struct process_memory memory_of_process(void);
