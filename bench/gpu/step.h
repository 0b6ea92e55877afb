// A step on the device as the program would upload it: sequences of equal length, with rows at their ends.
#pragma once

#include "bench/gpu/measure.h"
#include "kernels/cuda/attention.h"

struct bench_step {
    int32_t n_rows;
    bool has_decode, has_prefill;
    const struct device_step *device;
    void *partials; // of attention
};

struct bench_model {
    int32_t hidden, n_heads, n_kv_heads, head_dim, vocab;
    enum kv_format kv_format;
};

// A cache with room for the step, of as many layers as are needed to be beyond the L2, filled. data NULL: no memory.
struct device_kv kv_make(struct bench *bench, const struct bench_model *model, int32_t n_sequences, int32_t context);

// Every sequence has `context` tokens after the step, n_rows of them in it, and draws from its last row by `sampling`.
void step_make(struct bench *bench, const struct bench_model *model, const struct kv_shape *kv, int32_t n_sequences,
               int32_t context, int32_t n_rows, const struct sample_params *sampling, struct bench_step *out);
