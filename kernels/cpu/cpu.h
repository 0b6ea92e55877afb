// What the files of the CPU backend share.
#pragma once

#include "base/pool.h"
#include "kernels/backend.h"
#include "kernels/kernel_table.h"

#include <stdatomic.h>

enum {
    STEPS_SUBMITTED_MAX = 2,
    SPLIT_TILES_PER_WORKER = 2, // with fewer tiles of attention, their positions are split over the workers
};

struct submitted_step {
    struct program *program;
    const struct step_input *input;
};

// One for each worker: used between two barriers, by that worker alone.
struct worker_scratch {
    struct attention_partial partial, total;
    struct sample_scratch sample;
};

struct backend {
    const struct kernel_table *kernels;
    struct pool *pool;
    char description[96];
    struct kv_shape kv;
    void *kv_data;
    uint64_t kv_bytes, activation_bytes, workspace_bytes;
    struct submitted_step steps[STEPS_SUBMITTED_MAX];
    uint64_t n_submitted, n_collected;
    const struct program *last_program; // of the step collected last: its logits and drawn tokens are valid
};

// The kernels of an instruction set, or NULL when this processor lacks it. "auto": the best.
const struct kernel_table *cpu_kernels_find(const char *instruction_set);

struct kv_layer cpu_kv_layer(const struct backend *backend, int32_t layer);

// Neighbouring rows of one sequence that attend together, for each key/value head.
struct attention_tile {
    int32_t sequence, row_first, n_rows;
};

// A program's operations, activations and scratch. Activation rows are contiguous.
struct program {
    struct backend *backend;
    struct program_shape shape;
    struct rope_spec ropes[2];
    struct op *ops;
    _Atomic int32_t *taken; // [n_ops * STAGES_MAX] items handed out in each stage of the running step
    int32_t n_ops, ops_capacity;
    int32_t group_max;   // query heads a key/value head, the most of all layers
    double weight_bytes; // of all matrices, each read once a step
    double row_flops;    // of one row, without attention
    void *memory;        // all arrays below
    size_t memory_bytes, activation_bytes;

    int32_t *token;        // [R] references resolved
    float *rope_cosine[2]; // [R, n_dims/2]
    float *rope_sine[2];
    float *residual;                    // [R, H]
    float *normed;                      // [R, H]
    char *rounded;                      // [R] rows prepared for BF16 weights, as wide as the widest input
    float *query;                       // [R, A*D]
    float *key, *value;                 // [R, G*D]
    float *attention;                   // [R, A*D]
    float *gate, *up;                   // [R, F]; gate becomes the activations
    float *linear;                      // [R, H] before it is added to the residual
    float *logits;                      // [L, V]
    struct sample_result *results;      // [L]
    struct attention_tile *tiles;       // [R]
    struct attention_partial *partials; // [n_partials] of tiles whose positions are split over workers
    int32_t n_partials;
    struct worker_scratch *scratch; // [n_threads]
    uint64_t n_steps;
};

// Operations have at most this many stages with a barrier behind each.
enum { STAGES_MAX = 4 };

// Runs one step to its end; leaves logits and results in the program. `before`: what the step before drew.
void program_run(struct program *program, const struct step_input *input, const struct sample_result *before,
                 struct step_times *times);
