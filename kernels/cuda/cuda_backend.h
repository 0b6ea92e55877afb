// Inside the CUDA device: what its host files share. One stream does everything in order: the upload of a step's input,
// the step, the copy of its results; so two steps can be submitted and nothing between them waits for the host.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_comm.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/device_step.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/product.h"
#include "kernels/driver.h"
#include <cuda_runtime_api.h>

// DRAWN_MAX: the most that the second dimension of a grid can have, which counts rows with logits.
enum { STEPS_MAX = 2, DRAWN_MAX = 65535, BUCKETS_MAX = 160 };

struct cuda_program;

// A matrix on the device; tensor.handle points to it.
struct cuda_weight {
    struct device_weight device;
    struct cuda_weight *next;
};

// What loading needs beside the weights: two pinned buffers in turn, and room on the device for one matrix that is to
// be quantised. Freed when the cache is opened, for which loading must be over.
struct upload {
    struct pool *pool; // threads that copy; NULL: not open
    char *pinned[2];
    cudaEvent_t copied[2]; // the device has read the buffer
    int turn;
    void *source; // a matrix as the model has it
    size_t source_bytes;
};

// A submitted step.
struct cuda_step {
    struct cuda_program *program;
    int32_t n_logit_rows, n_padding_rows;
    bool is_sampled;           // its operations were timed
    cudaEvent_t begins, ended; // with times
};

struct cuda_backend {
    struct backend common;
    char hardware[112]; // the part of the description that is known before there is a program
    int device, n_processors;
    bool deterministic;
    cudaStream_t stream;
    struct err failure; // code 0, or why the device has failed
    struct device_memory weight_memory, kv_memory, common_memory;
    struct upload upload;
    struct cuda_weight *weights;
    const float *quantiles; // of random weights, or NULL
    struct device_kv kv;
    int32_t *drawn; // [DRAWN_MAX], tokens that the step before drew, by logit row
    struct cuda_step steps[STEPS_MAX];
    uint64_t n_submitted, n_collected;
    struct cuda_program *programs;     // that are open
    struct cuda_program *last_program; // of the step collected last, or NULL
};

// The experts of an operation.
struct cuda_experts {
    const struct device_weight *gate, *up, *down; // of the first
    const struct device_weight *all_in, *all_out; // device memory: [E, 2], gate and up, and [E], down
    enum operand_format in_format;                // of the rows that gate and up multiply
};

// An operation with what it needs resolved to device memory.
struct cuda_op {
    struct op op;
    const float *norm, *post_norm, *q_norm, *k_norm;
    const float *bias[PRODUCT_WEIGHTS_MAX];
    const struct device_weight *weight[PRODUCT_WEIGHTS_MAX];
    int n_weights;
    enum operand_format in_format, out_format; // of activations
    struct cuda_experts experts;               // of OP_MOE
};

// A vector of the model on the device, by its address on the host.
struct cuda_vector {
    const float *host;
    int32_t n;
    const float *device;
};

// One bucket: steps of at most n_rows rows and n_logit_rows logit rows that have the same kinds of attention items.
struct bucket {
    int32_t n_rows, n_logit_rows;
    bool has_decode, has_prefill;
};

struct cuda_graph {
    struct bucket bucket;
    cudaGraphExec_t exec; // NULL: not captured
    uint64_t n_runs;
    bool is_eager; // capture failed: its steps are launched one by one
};

// Where the parts of a step's input may lie: sizes, by which memory is taken.
struct pack_limits {
    int32_t block_table_max, edits_max, seen_max;
    struct attention_capacity attention;
    size_t n_bytes; // of the largest step
};

struct cuda_program {
    struct program common;
    struct cuda_backend *backend;
    struct cuda_program *next;
    struct err failure; // of program_add, which cannot return it
    struct cuda_op *ops;
    int n_ops, ops_capacity;
    struct cuda_vector *vectors;
    int n_vectors;
    int32_t n_heads; // of attention
    struct device_memory memory, vector_memory;
    struct product_engine *product_engine;
    struct device_comm *ranks; // NULL: one rank
    struct attention_limits attention_limits;
    struct pack_limits pack;

    int32_t row_buckets[BUCKETS_MAX], logit_buckets[BUCKETS_MAX]; // ascending; the last is the most
    int n_row_buckets, n_logit_buckets;
    struct cuda_graph *graphs;
    int n_graphs;

    // Device memory.
    struct device_step *step;
    float *residual, *qkv, *linear, *logits, *cosine[2], *sine[2];
    float *own_logits, *all_logits; // with ranks: [L, own_logits_stride] and [ranks, L, own_logits_stride]
    int32_t own_logits_stride;
    const float *frequency[2]; // of the ropes
    void *operand, *query, *attention, *mlp, *partials, *sample_workspace;
    // Of experts: logits [R, E], rows in the experts' format where that is another than the router's, what gate and up
    // make of slots [slots, F], and what down makes of that [slots, H].
    float *router, *expert_out;
    void *expert_in, *expert_middle;
    struct experts_slots slots;
    struct sample_result *results;
    uint64_t activation_bytes;

    // Pinned memory, one for each step in flight.
    struct device_step *staged[STEPS_MAX];
    struct sample_result *landed[STEPS_MAX];
    float *logits_on_host; // [logit_rows_max, V], when first asked for

    cudaEvent_t *marks; // [n_ops + 1]: before each operation and behind the last
    uint64_t n_steps;
};

// What the plugin exports.
__attribute__((visibility("default"))) backend_driver_function optima_backend_driver;

// Keeps the first error of the runtime and returns whether there is one, from now or before.
bool cuda_failed(struct cuda_backend *backend, cudaError_t error, const char *doing);
// The same for errors that end an opening: sets err, ERR_LIMIT where memory is short. 0: no error.
int cuda_check(cudaError_t error, const char *doing, struct err *err) __attribute__((warn_unused_result));
// Makes the calling thread's device this one.
cudaError_t cuda_enter(const struct cuda_backend *backend);

// weights.c
uint64_t cuda_weight_bytes(const struct tensor *tensor, enum weight_format format);
int cuda_weight_load(struct backend *backend, struct tensor *tensor, enum weight_format format, struct err *err);
void cuda_upload_close(struct cuda_backend *backend);
void cuda_weights_close(struct cuda_backend *backend);

// program_cuda.c
int cuda_program_open(struct program **out, struct backend *backend, const struct program_shape *shape,
                      struct err *err);
void cuda_program_add(struct program *program, const struct op *op);
int cuda_program_prepare(struct program *program, struct err *err);
void cuda_program_close(struct program *program);

// operations.c: queues operation i for a bucket, or asks the product engine to prepare for it.
cudaError_t cuda_op_run(struct cuda_program *program, int i, const struct bucket *bucket);
int cuda_op_prepare(struct cuda_program *program, int i, const struct bucket *bucket, struct err *err);

// graph.c
void cuda_buckets_choose(struct cuda_program *program);
int32_t cuda_padding_rows(const struct cuda_program *program, int32_t n_rows); // beside n_rows, in their bucket
// Queues a step of that many rows. *is_sampled: the marks tell how long each operation took.
cudaError_t cuda_step_queue(struct cuda_program *program, const struct device_step *step, bool *is_sampled);
void cuda_graphs_close(struct cuda_program *program);

// pack.c
void cuda_pack_limits(struct pack_limits *out, const struct program *program, const struct attention_limits *limits);
// Writes the step's input, with its plan of attention, into `out`, which has room for pack_limits.n_bytes.
void cuda_pack(const struct cuda_program *program, const struct step_input *input, struct device_step *out);
