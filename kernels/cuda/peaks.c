#include "kernels/cuda/peaks.h"

#include "base/rng.h"
#include "kernels/cuda/quantize.h"

#include <stdlib.h>

enum { BLOCKS_PER_PROCESSOR = 8, RUNS_MAX = 32, BUFFERS_MAX = 8 };

struct peaks_sizes peaks_sizes_for(int32_t n_processors) {
    return (struct peaks_sizes){.read_bytes = (size_t)n_processors * (8 << 20),
                                .n_blocks = n_processors * BLOCKS_PER_PROCESSOR,
                                .multiply_turns = 2048,
                                .product_size = n_processors * 64,
                                .n_runs = 5};
}

// What one measurement runs, with the memory that it took.
struct peak {
    const struct peaks_sizes *sizes;
    void *buffer[BUFFERS_MAX];
    int n_buffers;
    struct product_engine *engine;
    struct product product;
};

typedef cudaError_t peak_run(struct peak *peak, cudaStream_t stream);

static void *take(void *context, size_t n_bytes) {
    struct peak *peak = context;
    void *buffer = NULL;
    if (peak->n_buffers == BUFFERS_MAX || cudaMalloc(&buffer, n_bytes) != cudaSuccess) return NULL;
    return peak->buffer[peak->n_buffers++] = buffer;
}

static void close_peak(struct peak *peak) {
    product_engine_close(peak->engine);
    while (peak->n_buffers > 0) cudaFree(peak->buffer[--peak->n_buffers]);
    (void)cudaGetLastError(); // memory that there was not is no failure of the device
}

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// Seconds of one run, the median of those after the first, which loads code; 0 when one fails.
static double seconds_of(peak_run *run, struct peak *peak, cudaStream_t stream) {
    float ms[RUNS_MAX];
    int n = peak->sizes->n_runs < RUNS_MAX ? peak->sizes->n_runs : RUNS_MAX;
    cudaEvent_t start = NULL, stop = NULL;
    bool good = cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&stop) == cudaSuccess &&
                run(peak, stream) == cudaSuccess;
    for (int i = 0; good && i < n; i++)
        good = cudaEventRecord(start, stream) == cudaSuccess && run(peak, stream) == cudaSuccess &&
               cudaEventRecord(stop, stream) == cudaSuccess && cudaEventSynchronize(stop) == cudaSuccess &&
               cudaEventElapsedTime(&ms[i], start, stop) == cudaSuccess;
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    if (!good || n == 0) return 0;
    qsort(ms, (size_t)n, sizeof *ms, compare_floats);
    return (double)ms[n / 2] * 1e-3;
}

static double rate(double amount, double seconds) {
    return seconds > 0 ? amount / seconds : 0;
}

static cudaError_t run_read(struct peak *peak, cudaStream_t stream) {
    return peaks_read(peak->sizes, peak->buffer[0], peak->buffer[1], stream);
}

static double measure_read(const struct peaks_sizes *sizes, cudaStream_t stream) {
    struct peak peak = {.sizes = sizes};
    double seconds = 0;
    if (take(&peak, sizes->read_bytes) && take(&peak, sizeof(uint32_t)) &&
        cudaMemsetAsync(peak.buffer[0], 0x5a, sizes->read_bytes, stream) == cudaSuccess)
        seconds = seconds_of(run_read, &peak, stream);
    close_peak(&peak);
    return rate((double)sizes->read_bytes, seconds);
}

static cudaError_t run_multiply(struct peak *peak, cudaStream_t stream) {
    return peaks_multiply(peak->sizes, peak->buffer[0], stream);
}

static double measure_multiply(const struct peaks_sizes *sizes, cudaStream_t stream) {
    struct peak peak = {.sizes = sizes};
    double seconds = take(&peak, sizeof(float)) ? seconds_of(run_multiply, &peak, stream) : 0;
    close_peak(&peak);
    return rate(2.0 * PEAKS_CHAINS * PEAKS_THREADS * sizes->n_blocks * sizes->multiply_turns, seconds);
}

static cudaError_t run_product(struct peak *peak, cudaStream_t stream) {
    return product_run(peak->engine, &peak->product, stream);
}

// A matrix of normal random numbers: on zeros a device is faster than on what comes in earnest.
static bool make_matrix(struct peak *peak, struct device_weight *out, int32_t n, uint64_t key, const float *quantiles,
                        cudaStream_t stream) {
    void *memory = take(peak, device_weight_bytes(DEVICE_BF16, n, n));
    return memory && device_weight_random(out, DEVICE_BF16, n, n, key, quantiles, memory, stream) == cudaSuccess;
}

static bool open_product(struct peak *peak, struct device_weight matrix[2], cudaStream_t stream) {
    float host[RNG_QUANTILES];
    for (int i = 0; i < RNG_QUANTILES; i++) host[i] = (float)rng_normal_quantile((i + 0.5) / RNG_QUANTILES);
    const int32_t n = peak->sizes->product_size;
    const struct product_engine_options options = {.format = DEVICE_BF16, .rows_max = n, .n_in_max = n, .n_out_max = n};
    struct err err = {0};
    float *quantiles = take(peak, sizeof host);
    void *out = take(peak, (size_t)n * (size_t)n * sizeof(float));
    if (!quantiles || !out ||
        cudaMemcpyAsync(quantiles, host, sizeof host, cudaMemcpyHostToDevice, stream) != cudaSuccess ||
        !make_matrix(peak, &matrix[0], n, rng_key(1, 0, 0), quantiles, stream) ||
        !make_matrix(peak, &matrix[1], n, rng_key(2, 0, 0), quantiles, stream) ||
        cudaStreamSynchronize(stream) != cudaSuccess || // products read weights before they wait
        product_engine_open(&peak->engine, &options, take, peak, stream, &err))
        return false;
    peak->product = (struct product){.output = PRODUCT_STORE_F32,
                                     .n_weights = 1,
                                     .weight = {&matrix[0]},
                                     .x = matrix[1].data,
                                     .n_rows = n,
                                     .out = out,
                                     .out_stride = n,
                                     .scale = 1};
    return product_prepare(peak->engine, &peak->product, &err) == 0;
}

static double measure_product(const struct peaks_sizes *sizes, cudaStream_t stream) {
    struct peak peak = {.sizes = sizes};
    struct device_weight matrix[2];
    double n = sizes->product_size, seconds = 0;
    if (open_product(&peak, matrix, stream)) seconds = seconds_of(run_product, &peak, stream);
    close_peak(&peak);
    return rate(2 * n * n * n, seconds);
}

void peaks_measure(const struct peaks_sizes *sizes, cudaStream_t stream, struct backend_peaks *out) {
    *out = (struct backend_peaks){.read_bytes_per_s = measure_read(sizes, stream),
                                  .f32_flops_per_s = measure_multiply(sizes, stream),
                                  .bf16_flops_per_s = measure_product(sizes, stream)};
}
