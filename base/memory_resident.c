#include "base/memory_resident.h"

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
