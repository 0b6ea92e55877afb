// Speed of the matrix products of each format, beside the peaks measured in the same run. Every line was first compared
// with the plain kernels. Weights pass from memory: copies that together are larger than caches take turns.
// Usage: bench_products [-i instruction_set] [-t threads] [-f format,...] [-r rows,...] [-s outputs x inputs,...]
#include "base/mem.h"
#include "base/number.h"
#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/packed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { LIST_MAX = 16, REPEATS = 5, DISTINCT_BLOCKS = 16, CHECKED_ROWS = 40, CHECKED_OUTPUTS = 40 };
static const double LEAST_S = 0.03;

struct bench {
    struct backend *backend;
    struct backend_peaks peaks;
    const struct kernel_table *kernels, *plain;
    struct pool *pool;
    size_t copies_bytes;
    bool processor_time;
};

// One product: copies of a matrix, and rows.
struct product {
    const struct bench *bench;
    struct tensor weight;
    char *copies;
    size_t copy_bytes;
    int32_t n_copies, n_rows;
    float *x, *out;
    char *prepared;
    size_t stride;
    int32_t n_turns;
    _Atomic int32_t taken;
    int32_t chunk, n_chunks;
};

static volatile uint32_t keep; // sums that nobody needs

static _Noreturn void fail(const char *text) {
    fprintf(stderr, "bench_products: %s\n", text);
    exit(1);
}

static bool is_packed(enum tensor_format format) {
    return tensor_format_is_quantised(format);
}

// A matrix whose blocks of sixteen outputs repeat, so that quantising takes no time.
static void make_copy(struct product *p, char *to) {
    const struct tensor *w = &p->weight;
    const size_t n = (size_t)w->n_cols;
    const size_t block_bytes =
        is_packed(w->format) ? packed_block_bytes(w->format, w->n_cols) : PACKED_OUTPUTS * n * sizeof(uint16_t);
    float *rows = mem_alloc(PACKED_OUTPUTS * n * sizeof *rows);
    for (size_t b = 0; b * block_bytes < p->copy_bytes; b++) {
        char *block = to + b * block_bytes;
        if (b >= DISTINCT_BLOCKS) {
            size_t left = p->copy_bytes - b * block_bytes;
            memcpy(block, to + b % DISTINCT_BLOCKS * block_bytes, left < block_bytes ? left : block_bytes);
            continue;
        }
        for (size_t i = 0; i < PACKED_OUTPUTS * n; i++) {
            rows[i] = (rng_uniform(rng_key(1, b, 3), i) - 0.5f) / sqrtf((float)n);
            if (!is_packed(w->format)) ((uint16_t *)(void *)block)[i] = bf16_from_f32(rows[i]);
        }
        if (is_packed(w->format)) p->bench->kernels->weight_pack(block, rows, w->format, w->n_cols);
    }
    free(rows);
}

static void product_open(struct product *p, const struct bench *bench, enum tensor_format format, int32_t n_out,
                         int32_t n_in, int32_t rows_max) {
    *p = (struct product){.bench = bench, .weight = {.format = format, .n_rows = n_out, .n_cols = n_in}};
    p->copy_bytes = is_packed(format) ? packed_bytes(&p->weight) : tensor_bytes(&p->weight);
    p->copy_bytes = (p->copy_bytes + PACKED_LINE - 1) / PACKED_LINE * PACKED_LINE;
    p->n_copies = (int32_t)(bench->copies_bytes / p->copy_bytes) + 1;
    size_t n_bytes = p->copy_bytes * (size_t)p->n_copies;
    p->copies = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->copies == MAP_FAILED) fail("no memory");
    madvise(p->copies, n_bytes, MADV_HUGEPAGE);
    make_copy(p, p->copies);
    for (int32_t i = 1; i < p->n_copies; i++) memcpy(p->copies + (size_t)i * p->copy_bytes, p->copies, p->copy_bytes);
    size_t n_x = (size_t)rows_max * (size_t)n_in;
    p->x = mem_alloc(n_x * sizeof *p->x);
    for (size_t i = 0; i < n_x; i++) p->x[i] = rng_uniform(rng_key(2, 2, 2), i) - 0.5f;
    p->out = mem_alloc((size_t)rows_max * (size_t)n_out * sizeof *p->out);
}

static void product_close(struct product *p) {
    munmap(p->copies, p->copy_bytes * (size_t)p->n_copies);
    free(p->x);
    free(p->out);
}

static char *prepare(const struct kernel_table *kernels, const struct product *p, int32_t n_rows, size_t *stride) {
    const int32_t n = p->weight.n_cols;
    *stride = kernels->activation_bytes(p->weight.format, n);
    size_t n_padded = ((size_t)n_rows + ACTIVATION_ROWS - 1) / ACTIVATION_ROWS * ACTIVATION_ROWS;
    char *prepared = aligned_alloc(PACKED_LINE, (n_padded * *stride + PACKED_LINE) / PACKED_LINE * PACKED_LINE);
    if (!prepared) fail("no memory");
    for (int32_t r = 0; r < n_rows; r++)
        kernels->activation_prepare(prepared, r, p->x + (size_t)r * (size_t)n, p->weight.format, n, 0, n);
    return prepared;
}

static void run_range(const struct kernel_table *kernels, const struct product *p, int32_t copy, int32_t n_rows,
                      const char *prepared, size_t stride, int32_t first, int32_t count) {
    struct tensor weight = p->weight;
    weight.data = p->copies + (size_t)copy * p->copy_bytes;
    kernels->matmul(&(struct matmul){.weight = &weight,
                                     .activations = prepared,
                                     .activation_stride = stride,
                                     .out = p->out,
                                     .out_stride = (size_t)weight.n_rows,
                                     .n_rows = n_rows,
                                     .out_first = first,
                                     .out_count = count});
}

// The largest difference from the plain kernels, as a share of the largest output.
static double difference(const struct product *p) {
    const int32_t n_rows = p->n_rows < CHECKED_ROWS ? p->n_rows : CHECKED_ROWS;
    const size_t n_out = (size_t)p->weight.n_rows;
    float *fast = mem_alloc((size_t)n_rows * CHECKED_OUTPUTS * sizeof *fast);
    double worst = 0, largest = 0;
    for (int plain = 0; plain < 2; plain++) {
        const struct kernel_table *kernels = plain ? p->bench->plain : p->bench->kernels;
        size_t stride;
        char *prepared = prepare(kernels, p, p->n_rows, &stride);
        run_range(kernels, p, 0, plain ? n_rows : p->n_rows, prepared, stride, 0, CHECKED_OUTPUTS);
        for (size_t i = 0; i < (size_t)n_rows * CHECKED_OUTPUTS; i++) {
            float out = p->out[i / CHECKED_OUTPUTS * n_out + i % CHECKED_OUTPUTS];
            if (plain) worst = fmax(worst, fabs((double)(out - fast[i]))), largest = fmax(largest, fabs((double)out));
            fast[i] = out;
        }
        free(prepared);
    }
    free(fast);
    return worst / largest;
}

// As an operation of a step: workers take ranges of outputs from a counter, and meet behind each matrix.
static void turns(void *argument, int worker, int n_workers) {
    struct product *p = argument;
    for (int32_t turn = 0; turn < p->n_turns; turn++) {
        for (int32_t chunk; (chunk = atomic_fetch_add(&p->taken, 1)) < p->n_chunks;) {
            int32_t first = chunk * p->chunk, left = p->weight.n_rows - first;
            run_range(p->bench->kernels, p, turn % p->n_copies, p->n_rows, p->prepared, p->stride, first,
                      left < p->chunk ? left : p->chunk);
        }
        pool_barrier(p->bench->pool, n_workers);
        if (worker == 0) p->taken = 0;
        pool_barrier(p->bench->pool, n_workers);
    }
}

// Time that passes, or, of one thread on a busy machine, time on the processor.
static double now_s(const struct bench *bench) {
    struct timespec now;
    clock_gettime(bench->processor_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// The limits of one thread, by its time on the processor.
static void measure_peaks(struct bench *bench) {
    enum { BURST = 1000000, READ_MB = 512 };
    double (*const bursts[])(int32_t) = {bench->kernels->peak_f32, bench->kernels->peak_bf16,
                                         bench->kernels->peak_int8};
    double *const rates[] = {&bench->peaks.f32_flops_per_s, &bench->peaks.bf16_flops_per_s,
                             &bench->peaks.int8_ops_per_s};
    for (int i = 0; i < 3; i++) {
        double start = now_s(bench), operations = bursts[i](BURST);
        *rates[i] = operations / (now_s(bench) - start);
    }
    char *data = mem_alloc((size_t)READ_MB << 20);
    memset(data, 1, (size_t)READ_MB << 20);
    double start = now_s(bench);
    for (size_t at = 0; at < READ_MB; at++) keep += bench->kernels->peak_read(data + (at << 20), 1 << 20);
    bench->peaks.read_bytes_per_s = (double)((size_t)READ_MB << 20) / (now_s(bench) - start);
    free(data);
}

static double seconds_a_turn(struct product *p, int32_t n_turns) {
    p->n_turns = n_turns;
    p->taken = 0;
    double start = now_s(p->bench);
    pool_run(p->bench->pool, pool_size(p->bench->pool), turns, p);
    return (now_s(p->bench) - start) / n_turns;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct product *p, const char *name, int32_t n_rows) {
    const struct bench *bench = p->bench;
    const int n_threads = pool_size(bench->pool);
    p->n_rows = n_rows;
    double error = difference(p);
    const bool exact = tensor_format_is_integer(p->weight.format); // one order of sums everywhere
    if (!(error < (exact ? 1e-9 : 1e-5))) {
        fprintf(stderr, "%s, %d rows: %g\n", name, n_rows, error);
        fail("products are not those of plain C");
    }
    p->prepared = prepare(bench->kernels, p, n_rows, &p->stride);
    p->chunk = n_threads == 1 ? p->weight.n_rows : (p->weight.n_rows / (4 * n_threads) / 16 + 1) * 16;
    p->n_chunks = (p->weight.n_rows + p->chunk - 1) / p->chunk;
    int32_t n_turns = (int32_t)(LEAST_S / seconds_a_turn(p, 1)) + 1;
    if (n_turns < p->n_copies && n_rows <= 8) n_turns = p->n_copies;
    double times[REPEATS];
    for (int i = 0; i < REPEATS; i++) times[i] = seconds_a_turn(p, n_turns);
    qsort(times, REPEATS, sizeof *times, compare);
    double s = times[REPEATS / 2], best = times[0], n_bytes = (double)p->copy_bytes;
    double ops = 2.0 * n_rows * p->weight.n_rows * p->weight.n_cols;
    const bool integers = tensor_format_is_integer(p->weight.format);
    double peak = integers                          ? bench->peaks.int8_ops_per_s
                  : p->weight.format == TENSOR_BF16 ? bench->peaks.bf16_flops_per_s
                                                    : bench->peaks.f32_flops_per_s;
    printf("%-5s %6d x %-5d %4d rows  %8.1f us (best %8.1f)  %6.2f GB/s %4.0f %%  %7.1f GOP/s %4.0f %%\n", name,
           p->weight.n_rows, p->weight.n_cols, n_rows, s * 1e6, best * 1e6, n_bytes / s * 1e-9,
           100 * n_bytes / s / bench->peaks.read_bytes_per_s, ops / s * 1e-9, peak > 0 ? 100 * ops / s / peak : NAN);
    fflush(stdout);
    free(p->prepared);
}

static int read_list(const char *text, int32_t *out) {
    int n = 0;
    for (char *end; n < LIST_MAX; text = end + 1) {
        out[n] = (int32_t)strtol(text, &end, 10);
        if (end == text || out[n++] < 1) fail("a list is numbers with commas between them");
        if (!*end) return n;
    }
    fail("a list is too long");
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        enum tensor_format format;
    } formats[] = {{"int4", TENSOR_INT4}, {"int8", TENSOR_INT8}, {"fp8", TENSOR_FP8}, {"bf16", TENSOR_BF16}};
    struct backend_options options = {.device = "cpu", .instruction_set = "auto"};
    const char *wanted = "int4,int8,fp8,bf16", *row_list = "1,2,4,8,16,32,128,512", *shape = NULL;
    bool processor_time = false;
    size_t copies_mb = 600;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "-i"))
            options.instruction_set = argv[i + 1];
        else if (!strcmp(argv[i], "-t"))
            options.n_threads = (int)strtol(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "-f"))
            wanted = argv[i + 1];
        else if (!strcmp(argv[i], "-r"))
            row_list = argv[i + 1];
        else if (!strcmp(argv[i], "-m"))
            copies_mb = (size_t)strtol(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "-c"))
            processor_time = !strcmp(argv[i + 1], "processor");
        else if (!strcmp(argv[i], "-s"))
            shape = argv[i + 1];
        else
            fail("-i, -t, -f, -r or -s, each with a value");
    }
    int32_t rows[LIST_MAX], n_rows = read_list(row_list, rows), rows_max = 0;
    for (int i = 0; i < n_rows; i++) rows_max = rows[i] > rows_max ? rows[i] : rows_max;
    int32_t shapes[LIST_MAX] = {1024, 1024, 3072, 1024, 1024, 3072, 50257, 1024}, n_shapes = 8;
    if (shape) n_shapes = read_list(shape, shapes);
    struct bench bench = {
        .plain = cpu_kernels_find("ref"), .copies_bytes = copies_mb << 20, .processor_time = processor_time};
    struct err err;
    if (backend_open(&bench.backend, &options, &err) != 0) fail(err.text);
    bench.kernels = ((struct cpu_backend *)bench.backend)->kernels;
    bench.pool = ((struct cpu_backend *)bench.backend)->pool;
    backend_measure_peaks(bench.backend, &bench.peaks);
    if (processor_time) measure_peaks(&bench);
    printf("%s\nlimits: read %.1f GB/s, f32 %.0f, bf16 %.0f, int8 %.0f GOP/s\n", backend_description(bench.backend),
           bench.peaks.read_bytes_per_s / 1e9, bench.peaks.f32_flops_per_s / 1e9, bench.peaks.bf16_flops_per_s / 1e9,
           bench.peaks.int8_ops_per_s / 1e9);
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (int32_t s = 0; s + 1 < n_shapes && strstr(wanted, formats[f].name); s += 2) {
            struct product p;
            product_open(&p, &bench, formats[f].format, shapes[s], shapes[s + 1], rows_max);
            for (int i = 0; i < n_rows; i++) measure(&p, formats[f].name, rows[i]);
            product_close(&p);
        }
    backend_close(bench.backend);
    return 0;
}
