// What the files of the CPU backend share.
#pragma once

#include "base/pool.h"
#include "kernels/comm.h"
#include "kernels/cpu/workers.h"
#include "kernels/driver.h"
#include "kernels/kernel_table.h"

#include <stdatomic.h>

enum {
    STEPS_SUBMITTED_MAX = 2,
    SPLIT_TILES_PER_WORKER = 2, // with fewer tiles of attention, their positions are split over the workers
};

struct submitted_step {
    struct cpu_program *program;
    const struct step_input *input;
};

// One for each worker: used between two barriers, by that worker alone.
struct worker_scratch {
    struct attention_partial partial, total;
    struct sample_scratch sample;
};

struct cpu_backend {
    struct backend common;
    const struct kernel_table *kernels;
    const struct input_observer *observer; // NULL: none
    struct pool *pool;
    bool shares_pool; // another backend closes it
    int *threads_max; // that a step takes; all backends of a pool share it
    int own_threads_max;
    struct cpu_weights *weights;
    struct cpu_region *regions;         // their memory, where it is the backend's
    struct random_quantiles *quantiles; // NULL until a weight is random
    void *kv_data;
    int32_t kv_blocks_touched, kv_layers_touched; // blocks of all layers; layers of those that follow
    uint64_t weights_bytes, mapped_bytes, kv_bytes, activation_bytes, workspace_bytes;
    struct submitted_step steps[STEPS_SUBMITTED_MAX];
    uint64_t n_submitted, n_collected;
    struct cpu_program *programs;           // open ones
    const struct cpu_program *last_program; // of the step collected last: its logits and drawn tokens are valid
};

// The kernels of an instruction set, or NULL when this processor lacks it. "auto": the best.
const struct kernel_table *cpu_kernels_find(const char *instruction_set);

struct kv_layer cpu_kv_layer(const struct cpu_backend *backend, int32_t layer);

// Weights in the form in which kernels read them: tensor->handle is a `const struct tensor *` that lives until
// cpu_weights_close. A quantised matrix whose scales F16 does not hold becomes BF16.
uint64_t cpu_weight_bytes(const struct tensor *tensor, enum weight_format format);
int cpu_weight_load(struct backend *backend, struct tensor *tensor, enum weight_format format, struct err *err);
void cpu_weights_close(struct cpu_backend *backend);

// Neighbouring rows of one sequence that attend together, for each key/value head.
struct attention_tile {
    int32_t sequence, row_first, n_rows;
    int32_t first, count; // all tiles of the sequence
};

// What op_moe needs, of the running operation. Slots: a row at one expert it hits, sorted by expert.
struct cpu_moe {
    float *router;          // [R, E] logits, then probabilities
    int32_t *expert;        // [R, n_hit] ascending
    float *weight;          // [R, n_hit]
    int32_t *slot;          // [R, n_hit]
    int32_t *first, *count; // [E] slots of an expert that is hit
    int32_t *hit, n_hit;    // [E] experts that some row hits
    char *input, *middle;   // [slots] rows prepared for gate and up, for down
    float *gate, *up, *out; // [slots, F], [slots, F], [slots, H]
};

// Forms in which matrices take their input, by the format of the weights.
enum row_form { ROWS_EXACT, ROWS_BF16, ROWS_FP8, ROWS_INTEGERS, ROW_FORMS };

static inline enum row_form row_form(enum tensor_format format) {
    if (tensor_format_is_integer(format)) return ROWS_INTEGERS;
    return format == TENSOR_FP8 ? ROWS_FP8 : format == TENSOR_BF16 ? ROWS_BF16 : ROWS_EXACT;
}

// A format that takes rows of this form.
static inline enum tensor_format row_form_format(enum row_form form) {
    static const enum tensor_format formats[ROW_FORMS] = {TENSOR_F32, TENSOR_BF16, TENSOR_FP8, TENSOR_INT8};
    return formats[form];
}

// A program's operations, activations and scratch. Activation rows are contiguous.
struct cpu_program {
    struct program common;
    struct cpu_backend *backend;
    struct cpu_program *next; // of backend->programs
    struct op *ops;           // tensors as kernels read them
    _Atomic int32_t *taken;   // [n_ops, STAGES_MAX] items handed out in each stage of the running step
    int32_t n_ops, ops_capacity;
    bool experts_differ; // in what rows they take: those of one layer must not
    int32_t group_max;   // query heads a key/value head, the most of all layers
    double weight_bytes; // of all matrices, each read once a step
    double row_flops;    // of one row, without attention
    void *memory;        // all arrays below
    size_t memory_bytes, activation_bytes;

    int32_t *token;        // [R] references resolved
    float *rope_cosine[2]; // [R, n_dims/2]
    float *rope_sine[2];
    float *residual;       // [R, H]
    float *normed;         // [R, H]
    char *rows[ROW_FORMS]; // [R] prepared, of RESIDUAL or heads; none of ROWS_EXACT
    char *made;            // [R] prepared by attention or an MLP's first half for the matrix behind it
    float *query;          // [R, A*D]
    float *key, *value;    // [R, G*D]
    float *attention;      // [R, A*D]
    float *gate, *up;      // [R, F]; gate becomes the activations
    struct cpu_moe moe;
    float *linear;                      // [R, H] before it is added to the residual
    float *logits;                      // [L, V]
    float *own_logits, *all_logits;     // with ranks: [L, ceil(V / ranks)] and [ranks, L, ceil(V / ranks)]
    struct sample_result *results;      // [L]
    struct attention_tile *tiles;       // [R]
    struct attention_partial *partials; // [n_partials] of tiles whose positions are split over workers
    int32_t n_partials;
    struct worker_scratch *scratch; // [n_threads]
    uint64_t n_steps;
    int32_t n_experts_hit; // of the running step
    struct worker_choice workers;
    struct err comm_err; // why ranks could not meet in this step; code 0: they did
};

// Operations have at most this many stages with a barrier behind each.
enum { STAGES_MAX = 11 };

int cpu_program_open(struct program **out, struct backend *backend, const struct program_shape *shape, struct err *err);
void cpu_program_add(struct program *program, const struct op *op);
int cpu_program_prepare(struct program *program, struct err *err);
void cpu_program_close(struct program *program);

// Runs one step to its end; leaves logits and results in the program. `before`: what the step before drew.
void cpu_program_run(struct cpu_program *program, const struct step_input *input, const struct sample_result *before,
                     struct step_times *times);

void cpu_measure_peaks(struct backend *backend, struct backend_peaks *out);
