#include "base/memory_resident.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES_AT_ONCE = 16384 };

uint64_t memory_resident_bytes(const void *data, size_t n_bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char pages[PAGES_AT_ONCE];
    const uintptr_t end = (uintptr_t)data + n_bytes;
    uint64_t n_resident = 0;
    for (uintptr_t at = ((uintptr_t)data + page - 1) / page * page; at < end; at += PAGES_AT_ONCE * page) {
        const size_t left = end - at, n = left < PAGES_AT_ONCE * page ? left : PAGES_AT_ONCE * page;
        if (mincore((void *)at, n, pages) != 0) break;
        for (size_t i = 0; i < (n + page - 1) / page; i++) n_resident += pages[i] & 1u;
    }
    return n_resident * page;
}

struct process_memory memory_of_process(void) {
    struct process_memory memory = {0};
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        unsigned long long kilobytes;
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1) memory.anonymous = kilobytes * 1024;
        if (sscanf(line, "RssFile: %llu", &kilobytes) == 1) memory.mapped = kilobytes * 1024;
    }
    if (file) fclose(file);
    return memory;
}
