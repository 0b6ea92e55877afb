// A step with its queries and a filled cache in device memory, and what attention must make of it, in doubles.
#pragma once

#include "kernels/cuda/attention.h"
#include "tests/cuda/device_buffer.h"

enum { WORLD_SEQUENCES_MAX = 8 };

struct world_shape {
    int32_t head_dim, group, n_kv_heads;
    enum kv_format format;
    int32_t window;
    float soft_cap;
    int32_t n_processors;
    bool deterministic;
    enum operand_format out_format;
};

// Tokens in the cache after the step, and rows of the step. With `shares`, all blocks but those that the rows write are
// the blocks of the sequence before.
struct world_sequence {
    int32_t kv_len, n_rows;
    bool shares;
};

struct world {
    struct world_shape shape;
    struct device_buffers buffers;
    struct step_input input;
    int32_t n_rows_bucket; // more than rows: padding
    struct kv_shape kv_shape;
    double *query;       // [rows, heads, D], exact, as are keys and values
    double *key, *value; // [block, kv head, slot, D]
    struct attention_work work;
    struct attention_capacity capacity;
    struct device_step *step; // device memory
    struct attention_run run;
};

// `key` draws numbers: equal keys and positions of a sequence give equal queries, keys and values.
void world_open(struct world *world, const struct world_shape *shape, const struct world_sequence *sequences,
                int32_t n_sequences, uint64_t key);
void world_close(struct world *world);

// Runs attention; [rows of the bucket, heads, D], which the caller frees. Padding rows keep NaN.
float *world_run(struct world *world);

// The definition. The caller frees.
double *world_expected(const struct world *world);

// || out - expected || / || expected || over n numbers; NaN counts as infinity.
double relative_error(const float *out, const double *expected, size_t n);
