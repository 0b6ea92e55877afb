// Measures what this machine can do, with the loops that do nothing else.
#include "base/clock.h"
#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { READ_CHUNK_BYTES = 1 << 20, ROUNDS = 3, BURST = 100000 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const size_t READ_BYTES = (size_t)64 << 20; // shadow memory takes several times as much
#else
static const size_t READ_BYTES = (size_t)1 << 30; // beyond most last-level caches
#endif
static const double BURST_NS = 30e6;

struct measurement {
    struct cpu_backend *backend;
    const char *data;
    size_t n_bytes;
    double (*burst)(int32_t n); // NULL: reads
    _Atomic size_t taken;
    _Atomic uint32_t checksum;
    _Atomic uint64_t operations;
};

static void measure_read(void *argument, int worker, int n_workers) {
    (void)worker;
    (void)n_workers;
    struct measurement *m = argument;
    uint32_t sum = 0;
    for (size_t at; (at = atomic_fetch_add(&m->taken, READ_CHUNK_BYTES)) < m->n_bytes;)
        sum ^= m->backend->kernels->peak_read(m->data + at, READ_CHUNK_BYTES);
    atomic_fetch_xor(&m->checksum, sum);
}

static void measure_burst(void *argument, int worker, int n_workers) {
    (void)worker;
    (void)n_workers;
    struct measurement *m = argument;
    uint64_t start = clock_now_ns();
    double operations = 0;
    do operations += m->burst(BURST);
    while (operations > 0 && (double)(clock_now_ns() - start) < BURST_NS);
    atomic_fetch_add(&m->operations, (uint64_t)operations);
}

static double rate_of(struct measurement *m, pool_task *task, int n_threads, int n_rounds) {
    double best = 0;
    for (int i = 0; i < n_rounds; i++) {
        m->taken = 0;
        m->operations = 0;
        uint64_t start = clock_now_ns();
        pool_run(m->backend->pool, n_threads, task, m);
        double seconds = (double)(clock_now_ns() - start) * 1e-9;
        double rate = (m->burst ? (double)m->operations : (double)m->n_bytes) / seconds;
        if (rate > best) best = rate;
    }
    return best;
}

// The curve's points read a part each, another one than the point before, so that no cache helps the next.
static void measure_curve(struct measurement *m, int n_threads, struct backend_peaks *out) {
    enum { PARTS = 4 };
    const char *data = m->data;
    const size_t n_bytes = m->n_bytes;
    m->n_bytes = n_bytes / PARTS;
    const int n_max = sizeof out->read_curve / sizeof *out->read_curve;
    out->n_read_curve = n_threads < n_max ? n_threads : n_max;
    for (int i = 0; i < out->n_read_curve; i++) {
        m->data = data + (size_t)(i % PARTS) * m->n_bytes;
        out->read_curve[i] = rate_of(m, measure_read, i + 1, ROUNDS);
    }
    if (out->n_read_curve == n_threads) out->read_curve[n_threads - 1] = out->read_bytes_per_s;
}

static void measure_reads(struct measurement *m, int n_threads, struct backend_peaks *out) {
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t n_bytes = READ_BYTES;
    while (n_bytes > READ_CHUNK_BYTES && n_bytes / (size_t)page > (size_t)pages / 4) n_bytes /= 2;
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return;
    memset(data, 1, n_bytes); // fresh pages would all be one page of zeros
    m->data = data;
    m->n_bytes = n_bytes;
    out->read_bytes_per_s = rate_of(m, measure_read, n_threads, ROUNDS);
    measure_curve(m, n_threads, out);
    munmap(data, n_bytes);
}

void cpu_measure_peaks(struct backend *common, struct backend_peaks *out) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    struct measurement m = {.backend = backend};
    const int n_threads = pool_size(backend->pool);
    measure_reads(&m, n_threads, out);
    double (*const bursts[])(int32_t) = {backend->kernels->peak_f32, backend->kernels->peak_bf16,
                                         backend->kernels->peak_int8};
    double *const rates[] = {&out->f32_flops_per_s, &out->bf16_flops_per_s, &out->int8_ops_per_s};
    for (int i = 0; i < 3; i++) {
        m.burst = bursts[i];
        *rates[i] = rate_of(&m, measure_burst, n_threads, ROUNDS);
    }
}
