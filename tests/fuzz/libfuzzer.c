// Hands a target's seeds to libFuzzer, which reads seeds from files: they are written into its first corpus folder.
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <sys/stat.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);

static void write_seed(const char *folder, size_t i, const struct fuzz_seed *seed) {
    char path[4096];
    snprintf(path, sizeof path, "%s/seed-%04zu", folder, i);
    FILE *file = fopen(path, "wb");
    if (!file) return;
    fwrite(seed->bytes, 1, seed->n_bytes, file);
    fclose(file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *folder = NULL;
    for (int i = 1; i < *argc && !folder; i++)
        if ((*argv)[i][0] != '-') folder = (*argv)[i];
    struct stat entry;
    if (!folder || (stat(folder, &entry) == 0 && !S_ISDIR(entry.st_mode))) return 0; // one input to run again
    mkdir(folder, 0777);
    fuzz_seed_vec seeds = {0};
    fuzz_seeds_collect(&seeds);
    for (size_t i = 0; i < seeds.count; i++) write_seed(folder, i, &seeds.items[i]);
    fuzz_seeds_free(&seeds);
    return 0;
}
