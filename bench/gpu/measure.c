#include "bench/gpu/measure.h"

#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REPLAYS = 9, REPLAYS_TOY = 1, L2_TIMES = 4 };

void check_call(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return;
    fprintf(stderr, "bench_operations: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

_Noreturn void fail(const char *what) {
    fprintf(stderr, "bench_operations: %s\n", what);
    exit(1);
}

// ------------------------------------------------------------------------------------------------------------- memory

void *memory_take(struct bench *bench, size_t n_bytes) {
    void *memory = NULL;
    if (bench->n_memory == MEMORY_MAX) fail("too many buffers");
    if (cudaMalloc(&memory, n_bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    return bench->memory[bench->n_memory++] = memory;
}

void memory_release(struct bench *bench, int mark) {
    CHECK(cudaStreamSynchronize(bench->stream));
    while (bench->n_memory > mark) CHECK(cudaFree(bench->memory[--bench->n_memory]));
}

void *memory_upload(struct bench *bench, const void *host, size_t n_bytes) {
    void *memory = memory_take(bench, n_bytes);
    if (!memory) fail("no device memory");
    // Waited for: what is pageable may be gone, and the stream waits for no other.
    CHECK(cudaMemcpyAsync(memory, host, n_bytes, cudaMemcpyHostToDevice, bench->stream));
    CHECK(cudaStreamSynchronize(bench->stream));
    return memory;
}

void memory_open(struct bench *bench) {
    float host[RNG_QUANTILES];
    for (int i = 0; i < RNG_QUANTILES; i++) host[i] = (float)rng_normal_quantile((i + 0.5) / RNG_QUANTILES);
    bench->quantiles = memory_upload(bench, host, sizeof host);
}

void *memory_random(struct bench *bench, size_t n) {
    enum { WIDTH = 1024 };
    int32_t n_rows = (int32_t)((n + WIDTH - 1) / WIDTH);
    struct device_weight ignored;
    void *memory = memory_take(bench, device_weight_bytes(DEVICE_BF16, n_rows, WIDTH));
    if (memory)
        CHECK(device_weight_random(&ignored, DEVICE_BF16, n_rows, WIDTH, rng_key(7, 0, 0), bench->quantiles, memory,
                                   bench->stream));
    return memory;
}

int copies_beyond_l2(const struct bench *bench, size_t n_bytes) {
    size_t copies = L2_TIMES * bench->l2_bytes / n_bytes + 1;
    return bench->toy ? 2 : copies < 32 ? (int)copies : 32;
}

// --------------------------------------------------------------------------------------------------------------- time

static cudaError_t capture(const struct bench *bench, measured_run *run, void *context, int n_runs,
                           cudaGraphExec_t *out) {
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamBeginCapture(bench->stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) return error;
    for (int i = 0; i < n_runs && error == cudaSuccess; i++) error = run(context, i, bench->stream);
    cudaError_t end = cudaStreamEndCapture(bench->stream, &graph);
    if (error == cudaSuccess) error = end;
    if (error == cudaSuccess) error = cudaGraphInstantiate(out, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    return error;
}

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double median_ms(const struct bench *bench, cudaGraphExec_t graph) {
    float ms[REPLAYS];
    int n_replays = bench->toy ? REPLAYS_TOY : REPLAYS;
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    for (int i = 0; i < n_replays; i++) {
        // The replay before the clock keeps the device busy until the other is queued.
        CHECK(cudaGraphLaunch(graph, bench->stream));
        CHECK(cudaEventRecord(start, bench->stream));
        CHECK(cudaGraphLaunch(graph, bench->stream));
        CHECK(cudaEventRecord(stop, bench->stream));
        CHECK(cudaEventSynchronize(stop));
        CHECK(cudaEventElapsedTime(&ms[i], start, stop));
    }
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(stop));
    qsort(ms, (size_t)n_replays, sizeof *ms, compare_floats);
    return (double)ms[n_replays / 2];
}

double measure_us(const struct bench *bench, measured_run *run, void *context, int n_runs) {
    cudaGraphExec_t graph = NULL;
    // The first run loads code, which a capture must not.
    cudaError_t error = run(context, 0, bench->stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(bench->stream);
    if (error == cudaSuccess) error = capture(bench, run, context, n_runs, &graph);
    if (error != cudaSuccess) {
        fprintf(stderr, "bench_operations: %s\n", cudaGetErrorString(cudaGetLastError()));
        return NAN;
    }
    double ms = median_ms(bench, graph);
    CHECK(cudaGraphExecDestroy(graph));
    return ms * 1e3 / n_runs;
}

double least_us(const struct bench *bench, double n_bytes, double n_flops, double flops_per_s) {
    double by_memory = bench->read_bytes_per_s > 0 ? n_bytes / bench->read_bytes_per_s : 0;
    double by_arithmetic = flops_per_s > 0 ? n_flops / flops_per_s : 0;
    return 1e6 * fmax(by_memory, by_arithmetic);
}

// ------------------------------------------------------------------------------------------------------------- output

void print_head(const struct bench *bench) {
    printf("%-18s %-5s %-8s %-22s %5s %7s %10s %9s %9s %6s %9s\n", "operation", "form", "way", "shape", "rows",
           "context", "us", "GB/s", "TFLOP/s", "% lim", "differs");
    if (bench->csv)
        fprintf(bench->csv, "operation,format,way,shape,rows,context,us,gb_per_s,tflop_per_s,limit_us,percent_of_limit,"
                            "difference\n");
}

static const char *cell(char text[24], const char *format, double x, bool known) {
    if (known && isfinite(x))
        snprintf(text, 24, format, x);
    else
        text[0] = '\0';
    return text;
}

void print_figure(const struct bench *bench, const struct figure *f) {
    double gb = f->n_bytes / f->us * 1e-3, tflop = f->n_flops / f->us * 1e-6, percent = 100 * f->limit_us / f->us;
    bool has_bytes = f->n_bytes > 0, has_flops = f->n_flops > 0, has_limit = f->limit_us > 0;
    char text[6][24];
    printf("%-18s %-5s %-8s %-22s %5d %7d %10s %9s %9s %6s %9s\n", f->operation, f->format, f->way, f->shape, f->rows,
           f->context, isfinite(f->us) ? cell(text[0], "%.2f", f->us, true) : "failed",
           cell(text[1], "%.1f", gb, has_bytes), cell(text[2], "%.2f", tflop, has_flops),
           cell(text[3], "%.1f", percent, has_limit), cell(text[4], "%.1e", f->difference, true));
    fflush(stdout);
    if (!bench->csv) return;
    fprintf(bench->csv, "%s,%s,%s,%s,%d,%d,%s,%s,%s,%s,%s,%s\n", f->operation, f->format, f->way, f->shape, f->rows,
            f->context, cell(text[0], "%.4f", f->us, true), cell(text[1], "%.3f", gb, has_bytes),
            cell(text[2], "%.4f", tflop, has_flops), cell(text[3], "%.4f", f->limit_us, has_limit),
            cell(text[4], "%.2f", percent, has_limit), cell(text[5], "%.3e", f->difference, true));
    fflush(bench->csv);
}
