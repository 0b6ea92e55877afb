// How much of a mapping is in memory.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Bytes of the pages that begin in [data, data + n_bytes) and are resident, as the system counts them. data: within
// what mmap returned.
uint64_t memory_resident_bytes(const void *data, size_t n_bytes);
