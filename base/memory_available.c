#include "base/memory_available.h"

#include <stdio.h>

// One number from a file; 0 when it is not there or says "max".
static uint64_t read_number(const char *path, const char *format) {
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    char line[256];
    unsigned long long value = 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, format, &value) == 1) break;
    fclose(file);
    return value;
}

uint64_t memory_available_bytes(void) {
    uint64_t available = read_number("/proc/meminfo", "MemAvailable: %llu kB") * 1024;
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max", "%llu");
    uint64_t used = read_number("/sys/fs/cgroup/memory.current", "%llu");
    if (!limit) return available;
    // Pages of files that nobody uses are counted as used, but make room.
    const uint64_t idle = read_number("/sys/fs/cgroup/memory.stat", "inactive_file %llu");
    used = used > idle ? used - idle : 0;
    const uint64_t left = limit > used ? limit - used : 0;
    return left < available ? left : available;
}
