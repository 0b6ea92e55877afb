// The operations of the CUDA device, each beside its limit by what is measured in the same run.
// Usage: bench_operations [--toy] [--csv FILE] [products] [attention] [rows]
#include "bench/gpu/measure.h"

#include <stdlib.h>
#include <string.h>

static const struct part {
    const char *name;
    void (*run)(struct bench *bench);
} parts[] = {{"products", bench_products}, {"attention", bench_attention}, {"rows", bench_rows}};
enum { N_PARTS = sizeof parts / sizeof *parts };

static void open_device(struct bench *bench) {
    int device = 0, driver = 0;
    struct cudaDeviceProp properties;
    CHECK(cudaGetDevice(&device));
    CHECK(cudaGetDeviceProperties(&properties, device));
    CHECK(cudaDriverGetVersion(&driver));
    CHECK(cudaStreamCreateWithFlags(&bench->stream, cudaStreamNonBlocking));
    bench->n_processors = properties.multiProcessorCount;
    bench->l2_bytes = (size_t)properties.l2CacheSize;
    printf("device   %s, compute capability %d.%d, %d multiprocessors, %.0f MiB L2, driver for CUDA %d.%d\n",
           properties.name, properties.major, properties.minor, bench->n_processors,
           (double)bench->l2_bytes / (1 << 20), driver / 1000, driver % 1000 / 10);
}

int main(int argc, char **argv) {
    struct bench bench = {.csv = NULL};
    bool wanted[N_PARTS] = {false}, any = false;
    for (int i = 1; i < argc; i++) {
        bool known = false;
        if (!strcmp(argv[i], "--toy")) bench.toy = known = true;
        if (!strcmp(argv[i], "--csv") && i + 1 < argc) known = (bench.csv = fopen(argv[++i], "w")) != NULL;
        for (int p = 0; p < N_PARTS; p++)
            if (!strcmp(argv[i], parts[p].name)) wanted[p] = any = known = true;
        if (!known) fail("usage: bench_operations [--toy] [--csv FILE] [products] [attention] [rows]");
    }
    open_device(&bench);
    memory_open(&bench);
    bench_limits(&bench);
    for (int p = 0; p < N_PARTS; p++)
        if (wanted[p] || !any) parts[p].run(&bench);
    memory_release(&bench, 0);
    CHECK(cudaStreamDestroy(bench.stream));
    return bench.csv && fclose(bench.csv) != 0;
}
