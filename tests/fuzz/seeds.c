// The seeds of a fuzz target, in memory.
#include "tests/fuzz/fuzz.h"

#include "base/file_map.h"
#include "base/mem.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED_BYTES_MAX = 1 << 20 };

static fuzz_seed_vec *collected; // where a target's fuzz_seeds puts them

void fuzz_add_seed(const void *bytes, size_t n_bytes) {
    if (n_bytes > SEED_BYTES_MAX) n_bytes = SEED_BYTES_MAX;
    struct fuzz_seed seed = {mem_copy_string(bytes, n_bytes), n_bytes};
    vec_push(collected, seed);
}

void fuzz_add_seed_file(const char *path) {
    struct file_map map;
    if (file_map_open(&map, path, NULL) != 0) return; // seeds that are not here are left out
    if (map.data) fuzz_add_seed(map.data, map.n_bytes);
    file_map_close(&map);
}

void fuzz_add_seed_folder(const char *folder, const char *suffix) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        size_t n = strlen(entry->d_name), m = strlen(suffix);
        if (n < m || strcmp(entry->d_name + n - m, suffix) != 0) continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        fuzz_add_seed_file(path);
    }
    closedir(dir);
}

void fuzz_seeds_collect(fuzz_seed_vec *seeds) {
    collected = seeds;
    fuzz_seeds();
    if (!seeds->count) fuzz_add_seed("", 0);
}

void fuzz_seeds_free(fuzz_seed_vec *seeds) {
    for (size_t i = 0; i < seeds->count; i++) free(seeds->items[i].bytes);
    vec_free(seeds);
}
