// What the benchmarks of operations share: device memory, times of graph replays, and lines of a table beside their
// limits.
#pragma once

#include "kernels/cuda/peaks.h"
#include "kernels/cuda/quantize.h"
#include <stdio.h>

enum { MEMORY_MAX = 64 };

struct bench {
    bool toy; // sizes that the emulation can run
    cudaStream_t stream;
    int n_processors;
    size_t l2_bytes;
    FILE *csv; // or NULL
    // Limits, measured first.
    double read_bytes_per_s, bf16_flops_per_s, fp8_flops_per_s;
    const float *quantiles; // of normal random numbers, device memory
    void *memory[MEMORY_MAX];
    int n_memory;
};

// Ends the program with one line when a call has failed.
#define CHECK(call) check_call((call), #call)
void check_call(cudaError_t error, const char *what);
_Noreturn void fail(const char *what);

void memory_open(struct bench *bench);
// Device memory until memory_release(bench, mark), where mark was bench->n_memory. NULL: there is not so much.
void *memory_take(struct bench *bench, size_t n_bytes);
void memory_release(struct bench *bench, int mark);
void *memory_upload(struct bench *bench, const void *host, size_t n_bytes);
// n random BF16 numbers of normal distribution.
void *memory_random(struct bench *bench, size_t n);

// Copies of `n_bytes` that are read in turn so that none is in the L2 when its turn comes.
int copies_beyond_l2(const struct bench *bench, size_t n_bytes);

// Run number `turn` of many; its launches are captured.
typedef cudaError_t measured_run(void *context, int turn, cudaStream_t stream);

// Microseconds of one run: the median of replays of a graph of n_runs runs. NAN: it could not be run.
double measure_us(const struct bench *bench, measured_run *run, void *context, int n_runs);

// One line: what was measured, and the work that it did. `limit_us` is the least time by the measured limits; 0: none.
struct figure {
    const char *operation, *format, *way;
    char shape[48];
    int rows, context;
    double us, n_bytes, n_flops, limit_us;
    double difference; // from another way of computing the same; NAN: not compared
};
void print_head(const struct bench *bench);
void print_figure(const struct bench *bench, const struct figure *figure);
// By bytes over the read bandwidth, or operations over the rate: whichever takes longer.
double least_us(const struct bench *bench, double n_bytes, double n_flops, double flops_per_s);

// Each is a part of the program, by its name on the command line.
void bench_limits(struct bench *bench); // always first: the others' limits
void bench_products(struct bench *bench);
void bench_attention(struct bench *bench);
void bench_rows(struct bench *bench);
