// The seam between fuzz targets and whatever drives them.
#pragma once

#include "base/mem.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes); // must not crash, hang or leak; returns 0
void fuzz_seeds(void);                                            // adds the target's seeds

void fuzz_add_seed(const void *bytes, size_t n_bytes);
void fuzz_add_seed_file(const char *path); // ignored when the file is not there
void fuzz_add_seed_folder(const char *folder, const char *suffix);

struct fuzz_seed {
    char *bytes;
    size_t n_bytes;
};
typedef VEC_OF(struct fuzz_seed) fuzz_seed_vec;
void fuzz_seeds_collect(fuzz_seed_vec *seeds); // at least one; seeds outlives the calls of fuzz_add_seed
void fuzz_seeds_free(fuzz_seed_vec *seeds);
