// What the operations of a step share: workers take items of a stage from a counter, and a barrier ends the stage.
#pragma once

#include "kernels/cpu/cpu.h"

struct step {
    struct cpu_program *program;
    const struct step_input *input;
    const struct sample_result *before;
    struct step_times *times; // NULL: not sampled
    int32_t n_tiles;          // of rows that attend together
    int32_t n_splits;         // 1, or ranges of positions that workers share out
};

// One worker's way through a step.
struct run {
    const struct step *step;
    struct cpu_program *program;
    const struct op *op; // running, one of the program's
    const struct kernel_table *kernels;
    const struct step_input *input;
    int worker, n_workers;
    int32_t stage;
};

// Takes up to `chunk` of n items: true and [*first, *first + *count), or false when none are left in this stage.
static inline bool take(const struct run *run, int32_t n, int32_t chunk, int32_t *first, int32_t *count) {
    int32_t taken = atomic_fetch_add_explicit(&run->program->taken[run->stage], chunk, memory_order_relaxed);
    *first = taken;
    *count = taken + chunk <= n ? chunk : n - taken;
    return taken < n;
}

static inline void stage_end(struct run *run) {
    pool_barrier(run->program->backend->pool, run->n_workers);
    run->stage++;
}

// How many rows a worker takes at once.
static inline int32_t chunk_rows(const struct run *run, int32_t n) {
    int32_t chunk = n / (4 * run->n_workers);
    return chunk < 1 ? 1 : chunk;
}

enum { MATMUL_ROUND = ACTIVATION_INPUTS, MATMUL_CHUNK = 64 }; // matrix rows are taken in multiples of the first

// Takes rows of a matrix, fewer and fewer, so that workers end together: as `take`.
static inline bool take_outputs(const struct run *run, int32_t n, int32_t *first, int32_t *count) {
    _Atomic int32_t *next = &run->program->taken[run->stage];
    int32_t taken = atomic_load_explicit(next, memory_order_relaxed), chunk;
    do {
        if (taken >= n) return false;
        chunk = run->n_workers == 1 ? n : (n - taken) / (2 * run->n_workers) / MATMUL_ROUND * MATMUL_ROUND;
        if (chunk < MATMUL_CHUNK) chunk = MATMUL_CHUNK;
        if (chunk > n - taken) chunk = n - taken;
    } while (!atomic_compare_exchange_weak_explicit(next, &taken, taken + chunk, memory_order_relaxed,
                                                    memory_order_relaxed));
    *first = taken;
    *count = chunk;
    return true;
}

// Rows that matrices multiply, optionally normed, in the forms that their formats need.
struct operand {
    const float *source; // F32 rows
    const int32_t *rows; // which, NULL: 0 .. n_rows-1
    const float *norm_weight;
    float norm_eps;
    int32_t n_rows, n;
    bool forms[ROW_FORMS]; // in which the matrices take rows
    const char *made;      // rows that are prepared already, or NULL
    const float *exact;    // result: F32 rows, contiguous
};

void operand_serve(struct operand *operand, const struct tensor *weight);

// The rows as `multiply` needs them; a stage where there is something to do.
void operand_make(struct run *run, struct operand *operand);

// Shows the rows to who wants to see the inputs of this matrix.
void observe(const struct run *run, const struct operand *operand, const struct tensor *weight);

struct output {
    const struct tensor *weight;
    const float *bias;
    float *to;      // [n_rows, stride]
    int32_t stride; // 0: n_out
};

// Outputs [first, first + count) of all rows.
void multiply(const struct run *run, const struct operand *operand, const struct output *output, int32_t first,
              int32_t count);

// Adds up what all ranks have in values[n]; a stage.
void meet_sum(struct run *run, float *values, size_t n);

void run_moe(struct run *run, const struct op_moe *op);
