// The only door to the mathematics: a backend is a device that holds weights and a paged KV cache and runs programs.
//
// The engine says what is computed (operations, in order, once per model); the backend decides how. Everything that
// changes from step to step is in `struct step_input`. The engine never touches device memory.
//
// Life: backend_open -> backend_weight_load for each tensor -> backend_kv_open -> program_open, program_add...,
// program_prepare -> backend_submit / backend_collect, step after step -> program_close -> backend_close.
// Thread: all calls come from one thread, the step thread, which is also worker 0 of the CPU backend's pool.
//
// Letters in shapes: R rows of the step, S sequences of the step, L rows with logits, H hidden width, A query heads,
// G key/value heads, D head width, F feed-forward width (of an expert where there are experts), E experts, V
// vocabulary, B tokens in a KV block.
#pragma once

#include "base/err.h"
#include "kernels/step_input.h"
#include "kernels/tensor.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct backend;
struct program;
struct comm;

// ---------------------------------------------------------------------------------------------- open and close

// Sees what matrices multiply while steps run: for calibration, on the CPU alone.
struct input_observer {
    // rows [n_rows, n] in F32 are the inputs of the matrix with this handle and of those that share them: k and v with
    // q, up with gate, all experts with their router. An expert's second matrix sees the rows that hit it. All
    // n_workers threads of the step call it, each for its share of the work.
    void (*see)(void *context, const void *handle, const float *rows, int32_t n_rows, int32_t n, int worker,
                int n_workers);
    void *context;
};

struct backend_options {
    const char *device; // "auto" (cuda, else cpu), "cpu", "cuda", "cuda:1", or the path of a plugin; NULL: "cpu"
    const char *instruction_set; // CPU: "auto" (the best), "ref" (plain C), "avx2", "avx512", "amx"
    int n_threads;               // CPU: 0 = one a physical core
    int device_index;            // which of several equal devices
    struct backend *beside; // an open one of the same options: the new one is for another model on the same device,
                            // shares its threads and is closed first; steps run in turn. NULL: none
    bool deterministic;     // a row's bits depend on nothing else in its step; the CPU always keeps this
    const struct input_observer *observer; // NULL: none; outlives the backend
};

int backend_open(struct backend **out, const struct backend_options *options, struct err *err)
    __attribute__((warn_unused_result));
void backend_close(struct backend *backend);
// For people: "cpu, avx512, 2 threads"; behind "auto" also why there is no other: "..., because there is no ...".
const char *backend_description(const struct backend *backend);
// How many steps to keep submitted: 1 where host and device share the cores, 2 where a device works beside the host.
int backend_steps_in_flight(const struct backend *backend);
int backend_threads(const struct backend *backend);         // of the host, that compute; 0: a device does
void backend_limit_threads(struct backend *backend, int n); // from the next step on

// Whether weights are copied when they are loaded. If not, their data must outlive the backend.
bool backend_holds_weights(const struct backend *backend);
uint64_t backend_memory_available(const struct backend *backend); // free for weights, KV cache and activations

// The form in which a device keeps a weight. AS_IS: as the model has it, or, where a device has no such form, in BF16.
// FP8 (E4M3, one scale an output), INT8 and INT4 (groups of 128 inputs; on the CPU 32) are quantised at load, with
// scales that minimise the error, unless the model has them in as many bits.
enum weight_format { WEIGHT_AS_IS, WEIGHT_BF16, WEIGHT_FP8, WEIGHT_INT8, WEIGHT_INT4 };
const char *weight_format_name(enum weight_format format); // "auto", "bf16", ...: as the option --weights takes it

bool backend_keeps_int8(const struct backend *backend); // INT8 can be loaded
uint64_t backend_weight_bytes(const struct backend *backend, const struct tensor *tensor, enum weight_format format);
// Hands a weight over; sets tensor->handle. ERR_INVALID: the device does not have this format; ERR_FORMAT: a scale of
// the matrix is no number; ERR_LIMIT: no memory.
int backend_weight_load(struct backend *backend, struct tensor *tensor, enum weight_format format, struct err *err)
    __attribute__((warn_unused_result));

// Bytes that the backend uses, by purpose, for the memory ledger.
struct backend_memory {
    uint64_t weights_bytes;    // copies and packed forms
    uint64_t mapped_bytes;     // weights that are used where the model has mapped them
    uint64_t kv_bytes;         // reserved for the KV cache
    uint64_t activation_bytes; // activations and logits of all programs
    uint64_t workspace_bytes;  // everything else: scratch, sampling, pool
    uint64_t driver_bytes;     // of a device, beyond these: of its driver, its libraries and other programs
    uint64_t kv_resident_bytes, activation_resident_bytes, workspace_resident_bytes; // of them, touched by now
};
void backend_memory(const struct backend *backend, struct backend_memory *out);

// Peaks of this machine, measured now (takes about a second): the denominators of MFU and MBU.
struct backend_peaks {
    double read_bytes_per_s, f32_flops_per_s; // streaming reads from memory; multiply and add count as two
    double bf16_flops_per_s, int8_ops_per_s;  // 0: no such instructions
    int32_t n_read_curve;                     // 0: no threads of the host compute
    double read_curve[64];                    // reads with 1 .. n threads
};
void backend_measure_peaks(struct backend *backend, struct backend_peaks *out);

// ---------------------------------------------------------------------------------------------------- KV cache

// FP8 (E4M3) and INT8 (-127 .. 127) have one F32 scale for each token and head, of K and of V.
enum kv_format { KV_F32, KV_BF16, KV_FP8, KV_INT8 };
const char *kv_format_name(enum kv_format format);
static inline bool kv_has_scales(enum kv_format format) {
    return format == KV_FP8 || format == KV_INT8;
}
struct kv_shape {
    int32_t n_layers, n_kv_heads, head_dim; // head_dim of K and V
    int32_t block_tokens;                   // B: 16
    int32_t n_blocks;                       // block numbers are 0 .. n_blocks-1
    enum kv_format format;
};

uint64_t kv_bytes_per_block(const struct kv_shape *shape); // on every device: nothing is padded

// Reserves the cache. Its inner layout is the backend's. ERR_INVALID or ERR_UNSUPPORTED: the device does not have this
// format or head width; ERR_LIMIT or ERR_IO: no memory.
int backend_kv_open(struct backend *backend, const struct kv_shape *shape, struct err *err)
    __attribute__((warn_unused_result));
// On the CPU memory comes as it is used; this readies some MiB of blocks [0, n_blocks) before. False: nothing is left
// to do, or memory is short. No step is in flight.
bool backend_touch_kv(struct backend *backend, int32_t n_blocks);
// --------------------------------------------------------------------------------------------------- programs
//
// With ranks (kernels/comm.h) the numbers of heads, A*D, G*D and F are this rank's share. Every rank runs the same
// steps; they meet where an embedding, a projection into RESIDUAL or the logits need what the others have.
//
// norm(x) = x * rsqrt(mean(x^2) + eps) * weight; families with 1+w add the 1 at load.
// Activations live in the backend: the residual stream [R, H] in F32, queries [R, A*D], attention output [R, A*D],
// feed-forward activations [R, F], logits [L, V]. The operations below name them in capitals.

// Rotary tables: angle of pair i at position p is p * inverse_frequency[i]; cos and sin are multiplied by scale.
struct rope_spec {
    int32_t n_dims;                 // rotated dimensions of each head (even, <= D); the rest pass unchanged
    bool interleaved;               // pairs (2i, 2i+1); false: pairs (i, i + n_dims/2)
    float scale;                    // attention factor (yarn, longrope); 1 otherwise
    const float *inverse_frequency; // [n_dims/2], owned by the model
};

struct program_shape {
    int32_t rows_max, sequences_max, logit_rows_max;
    int32_t hidden, q_width, kv_width, mlp_width, vocab; // H, A*D, G*D, F, V; mlp_width 0: no op_mlp_in
    int32_t n_experts, n_hit, expert_width;              // of every op_moe: E, experts a row hits, F; 0: no op_moe
    int32_t n_ropes;                                     // 0..2
    const struct rope_spec *ropes;                       // [n_ropes], copied
    int32_t context, edits_max, seen_max; // of the longest sequence, in tokens (0: what the cache holds); of one step
    struct comm *comm;                    // ranks that compute this model together; NULL: only this one
    int32_t vocab_first, vocab_rows;      // rows of the embedding and head that this rank holds
};

// SWIGLU_CLAMPED is gpt-oss': g = min(gate, 7), u = up within -7 and 7; instead of activation(gate) * up it is
// g / (1 + e^(-1.702 g)) * (u + 1).
enum activation { ACTIVATION_SILU, ACTIVATION_GELU_TANH, ACTIVATION_SWIGLU_CLAMPED };

// RESIDUAL[r] = table[token[r]] * scale; prepares the rotary tables for the positions of this step.
struct op_embed {
    struct tensor table; // [vocab_rows, H]
    float scale;
};

// n = norm(RESIDUAL); q, k, v = n Wq^T + bq, ...; per-head norm of q and k where given; rotary embedding; QUERY = q;
// K and V into the cache at (layer, block_table, position).
struct op_attention_in {
    int32_t layer; // index in the KV cache
    int32_t n_heads, n_kv_heads, head_dim;
    const float *norm_weight; // [H] or NULL: no norm
    float norm_eps;
    struct tensor wq, wk, wv;     // [A*D, H], [G*D, H], [G*D, H]
    const float *bq, *bk, *bv;    // [A*D], [G*D], [G*D] or NULL
    const float *q_norm, *k_norm; // [D] each (per head, before rope) or NULL
    int32_t rope;                 // index into program_shape.ropes; -1: no rotation
    bool norms_all_heads;         // q_norm and k_norm are [A*D] and [G*D]: they norm all heads of a row together
};

// ATTENTION[r] = softmax(scale * q K^T, causal, within window) V, through the cache, for each row of each sequence.
struct op_attention {
    int32_t layer, n_heads, n_kv_heads, head_dim;
    float scale;
    int32_t window;     // key j is visible from position i iff i - window < j <= i; 0: no window
    float soft_cap;     // s = cap * tanh(s / cap) before the mask; 0: none
    const float *sinks; // [A]: one more score of each head, whose value is 0; or NULL
};

enum op_source { SOURCE_ATTENTION, SOURCE_MLP };

// RESIDUAL += scale * post_norm(source W^T + bias).
struct op_linear_add {
    enum op_source source;
    struct tensor weight;          // [H, A*D] or [H, F]
    const float *bias;             // [H] or NULL
    const float *post_norm_weight; // [H] or NULL
    float post_norm_eps;
    float scale; // 1 for most
};

// n = norm(RESIDUAL); MLP = activation(n Wgate^T + bgate) * (n Wup^T + bup).
struct op_mlp_in {
    const float *norm_weight; // [H] or NULL
    float norm_eps;
    struct tensor gate, up;           // [F, H]
    const float *gate_bias, *up_bias; // [F] or NULL
    enum activation activation;
};

enum { EXPERTS_MAX = 1024 };

struct expert {
    struct tensor gate, up, down; // [F, H], [F, H], [H, F]
};

// n = norm(RESIDUAL); p = softmax(n Wrouter^T + brouter) over all experts. A row hits the n_hit experts with the
// largest p, the lowest number first among equals; their weights are these p, divided by their sum when `renormalised`
// (which is the softmax over the logits of these experts alone). RESIDUAL += sum over the experts hit, in order of
// their numbers, of weight * ((activation(n Wgate^T + bgate) * (n Wup^T + bup)) Wdown^T + bdown).
struct op_moe {
    const float *norm_weight; // [H] or NULL
    float norm_eps;
    struct tensor router; // [E, H]
    int32_t n_experts, n_hit;
    bool renormalised;
    const struct expert *experts; // [E], read by program_add; all gate and up in one format, all down in one
    enum activation activation;
    const float *router_bias;                     // [E] or NULL
    const float *gate_bias, *up_bias, *down_bias; // [E, F], [E, F], [E, H], each or NULL
};

// LOGITS[l] = softcap(norm(RESIDUAL[logit_row[l]]) W^T * scale).
struct op_head {
    const float *norm_weight; // [H]
    float norm_eps;
    struct tensor weight; // [V, H]
    float soft_cap;       // 0: none
    float scale;          // 1 for most
};

// RESULTS[l] from LOGITS[l] by sample[l].
struct op_sample {
    int32_t vocab; // ids at and beyond it (padding rows of the head) are never drawn and have no probability
};

enum op_kind {
    OP_EMBED,
    OP_ATTENTION_IN,
    OP_ATTENTION,
    OP_LINEAR_ADD,
    OP_MLP_IN,
    OP_MOE,
    OP_HEAD,
    OP_SAMPLE,
    OP_KINDS
};

struct op {
    enum op_kind kind;
    union {
        struct op_embed embed;
        struct op_attention_in attention_in;
        struct op_attention attention;
        struct op_linear_add linear_add;
        struct op_mlp_in mlp_in;
        struct op_moe moe;
        struct op_head head;
        struct op_sample sample;
    };
};

const char *op_kind_name(enum op_kind kind);

int program_open(struct program **out, struct backend *backend, const struct program_shape *shape, struct err *err)
    __attribute__((warn_unused_result));
// Appends a copy of op. Shapes are checked here, once, with assertions: a wrong one is a programming error.
void program_add(struct program *program, const struct op *op);
// After the last program_add: whatever the device must choose, reserve or capture before the first step.
int program_prepare(struct program *program, struct err *err) __attribute__((warn_unused_result));
void program_close(struct program *program);

// ------------------------------------------------------------------------------------------------------- run

struct step_times {
    uint64_t total_ns;
    uint64_t op_ns[OP_KINDS]; // by kind of operation, wall time; all 0 when this step was not sampled
    int32_t n_padding_rows;   // computed beside those of the input, for nobody
    int32_t n_experts_hit;    // whose matrices were read, over all operations; 0: not counted
};

// Submits one step. `input` and its arrays stay unchanged until the step is collected. At most two steps may be
// submitted and not collected.
void backend_submit(struct backend *backend, struct program *program, const struct step_input *input);
// Waits for the oldest submitted step. results: [n_logit_rows] of that step, filled in the order of its logit rows.
// An error, also one that arose at submit, means that the device has failed: every step after it fails too.
int backend_collect(struct backend *backend, struct sample_result *results, struct step_times *times, struct err *err)
    __attribute__((warn_unused_result));
// The logits of row l of the step collected last, [V] floats in host memory, valid until the next submit. For checks
// against other implementations and for evaluation, not for serving.
const float *backend_logits(struct backend *backend, int32_t logit_row);

#ifdef __cplusplus
}
#endif
