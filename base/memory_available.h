// How much memory there is to use.
#pragma once

#include <stdint.h>

// Memory that the system can give without swapping, in bytes (MemAvailable, bounded by the cgroup's limit); 0: unknown.
uint64_t memory_available_bytes(void);
