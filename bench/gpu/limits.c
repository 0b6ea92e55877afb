// The limits of the device: reading against copying, arithmetic, and what a launch costs inside a graph.
#include "bench/gpu/measure.h"

#include "kernels/cuda/product_parts.h"

#include <math.h>

enum { CHAIN = 200 };

struct streams {
    const struct peaks_sizes *sizes;
    char *from, *to;
    uint32_t *sum;
    bool overlap;
};

static cudaError_t run_read(void *context, int turn, cudaStream_t stream) {
    const struct streams *s = context;
    (void)turn;
    return peaks_read(s->sizes, s->from, s->sum, stream);
}

static cudaError_t run_copy(void *context, int turn, cudaStream_t stream) {
    const struct streams *s = context;
    (void)turn;
    return cudaMemcpyAsync(s->to, s->from, s->sizes->read_bytes, cudaMemcpyDeviceToDevice, stream);
}

static cudaError_t run_nothing(void *context, int turn, cudaStream_t stream) {
    const struct streams *s = context;
    (void)turn;
    return peaks_nothing(s->overlap, stream);
}

static void print_memory(struct bench *bench, const struct peaks_sizes *sizes) {
    int mark = bench->n_memory;
    double n_bytes = (double)sizes->read_bytes;
    struct streams streams = {.sizes = sizes,
                              .from = memory_take(bench, sizes->read_bytes),
                              .to = memory_take(bench, sizes->read_bytes),
                              .sum = memory_take(bench, sizeof(uint32_t))};
    if (!streams.from || !streams.to || !streams.sum) fail("no device memory");
    CHECK(cudaMemsetAsync(streams.from, 0x5a, sizes->read_bytes, bench->stream));
    struct figure read = {.operation = "read", .format = "", .way = "", .n_bytes = n_bytes, .difference = NAN};
    snprintf(read.shape, sizeof read.shape, "%.0f MiB", n_bytes / (1 << 20));
    read.us = measure_us(bench, run_read, &streams, 2);
    print_figure(bench, &read);
    bench->read_bytes_per_s = 1e6 * n_bytes / read.us;
    struct figure copy = read;
    copy.operation = "copy";
    copy.way = "r+w";
    copy.n_bytes = 2 * n_bytes;
    copy.us = measure_us(bench, run_copy, &streams, 2);
    print_figure(bench, &copy);
    for (int overlap = 0; overlap < 2; overlap++) {
        streams.overlap = overlap;
        struct figure gap = {.operation = "graph node", .format = "", .way = overlap ? "overlap" : "serial"};
        gap.difference = NAN;
        gap.us = measure_us(bench, run_nothing, &streams, bench->toy ? 20 : CHAIN);
        print_figure(bench, &gap);
    }
    memory_release(bench, mark);
}

// ------------------------------------------------------------------------------------------------------ FP8 products

struct fp8_peak {
    struct library *library;
    struct library_product product;
};

static cudaError_t run_fp8(void *context, int turn, cudaStream_t stream) {
    struct fp8_peak *peak = context;
    (void)turn;
    return library_run(peak->library, &peak->product, false, stream);
}

// 0: the library does not multiply FP8 on this device.
static double measure_fp8(struct bench *bench, int32_t n) {
    struct err err = {0};
    struct fp8_peak peak = {.library = NULL};
    int mark = bench->n_memory;
    double us = NAN;
    const size_t n_elements = (size_t)n * (size_t)n;
    void *workspace = memory_take(bench, LIBRARY_WORKSPACE_BYTES), *random = memory_random(bench, n_elements);
    void *matrix[2] = {memory_take(bench, n_elements), memory_take(bench, n_elements)};
    float *scale[2] = {memory_take(bench, (size_t)n * 4), memory_take(bench, (size_t)n * 4)};
    void *out = memory_take(bench, n_elements * 2);
    if (!workspace || !random || !matrix[0] || !matrix[1] || !scale[0] || !scale[1] || !out) fail("no device memory");
    if (library_open(&peak.library, workspace, &err)) fail(err.text);
    for (int i = 0; i < 2; i++) CHECK(product_quantize_rows(matrix[i], scale[i], random, n, n, bench->stream));
    peak.product = (struct library_product){.format = DEVICE_FP8,
                                            .weight = matrix[0],
                                            .x = matrix[1],
                                            .weight_scale = scale[0],
                                            .x_scale = scale[1],
                                            .n_out = n,
                                            .n_in = n,
                                            .n_rows = n,
                                            .out = out,
                                            .out_stride = n,
                                            .out_bf16 = true,
                                            .alpha = 1};
    if (library_has_fp8(peak.library, workspace, bench->stream) &&
        library_run(peak.library, &peak.product, true, bench->stream) == cudaSuccess)
        us = measure_us(bench, run_fp8, &peak, 2);
    library_close(peak.library);
    memory_release(bench, mark);
    return isfinite(us) ? 2e6 * pow(n, 3) / us : 0;
}

void bench_limits(struct bench *bench) {
    struct peaks_sizes sizes = peaks_sizes_for(bench->n_processors);
    if (bench->toy) sizes.read_bytes = 1 << 20, sizes.multiply_turns = 16, sizes.product_size = 64, sizes.n_runs = 1;
    struct backend_peaks peaks;
    peaks_measure(&sizes, bench->stream, &peaks);
    bench->read_bytes_per_s = peaks.read_bytes_per_s;
    bench->bf16_flops_per_s = peaks.bf16_flops_per_s;
    bench->fp8_flops_per_s = measure_fp8(bench, sizes.product_size);
    printf("limits   %.1f GB/s read, %.2f TFLOP/s f32, %.2f TFLOP/s bf16, %.2f TFLOP/s fp8 (product of %d)\n\n",
           peaks.read_bytes_per_s * 1e-9, peaks.f32_flops_per_s * 1e-12, peaks.bf16_flops_per_s * 1e-12,
           bench->fp8_flops_per_s * 1e-12, sizes.product_size);
    print_head(bench);
    const double rates[] = {peaks.f32_flops_per_s, peaks.bf16_flops_per_s, bench->fp8_flops_per_s};
    static const char *const formats[] = {"f32", "bf16", "fp8"};
    for (int i = 0; i < 3; i++) {
        if (rates[i] <= 0) continue;
        struct figure peak = {.operation = "arithmetic", .format = formats[i], .way = "", .difference = NAN};
        peak.n_flops = 2 * pow(sizes.product_size, 3);
        peak.us = 1e6 * peak.n_flops / rates[i];
        print_figure(bench, &peak);
    }
    print_memory(bench, &sizes);
}
