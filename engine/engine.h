// Runs steps: the rows of a batch in, drawn tokens and a step record out.
//
// The engine owns the backend's program and the packed inputs of the steps in flight. It knows nothing of requests.
// Thread: the step thread only. The model and the backend outlive the engine.
#pragma once

#include "base/err.h"
#include "engine/memory_ledger.h"
#include "engine/step_record.h"
#include "kernels/backend.h"
#include "models/model.h"
#include <stdint.h>

struct engine;
struct cost_model;

struct engine_options {
    struct comm *comm;       // ranks that compute the model together, each with its own engine; NULL: only this one
    int32_t context;         // longest sequence in tokens; 0: the model's
    int32_t rows_max;        // rows of one step (the token budget's upper end); 0: auto
    int32_t sequences_max;   // sequences of one step; 0: auto
    uint64_t kv_bytes;       // for the KV cache; 0: auto from free memory and need
    int32_t steps_in_flight; // 1 or 2; 0: what the backend prefers
    const char *kv_format;   // "auto", "f32", "bf16", "int8", "fp8"
    bool speculates;         // sequences bring drafts, which all need logits
    const char *weights;     // "auto" (as the model has them), "bf16", "fp8", "int8", "int4": see memory_plan.h
    // Called while weights are copied, from the calling thread; may be NULL. done and total in bytes.
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *progress_context;
};

// What the engine decided; all > 0.
struct engine_limits {
    int32_t context, rows_max, sequences_max, logit_rows_max;
    int32_t block_tokens, n_blocks, block_table_max; // block_table_max: entries of all tables of one step
    int32_t edits_max, seen_max;                     // per step
    int32_t steps_in_flight;
    int32_t vocab;
};

int engine_open(struct engine **out, struct model *model, struct backend *backend, const struct engine_options *options,
                struct err *err) __attribute__((warn_unused_result));
void engine_close(struct engine *engine);

const struct engine_limits *engine_limits(const struct engine *engine);
const struct kv_shape *engine_kv(const struct engine *engine);
const struct cost_model *engine_cost(const struct engine *engine); // engine/step_cost.h
// Adds what the engine, its backend and model take, and have touched by now. Any thread; some milliseconds.
void engine_list_memory(const struct engine *engine, struct memory_ledger *ledger);

// The input of the next step, empty, its arrays as large as the limits say. Fill it, then submit. Fewer than
// steps_in_flight steps may be in flight.
struct step_input *engine_next_input(struct engine *engine);

// Submits what engine_next_input returned; gives the step's ticket.
uint64_t engine_submit(struct engine *engine);

// Waits for the oldest step. *results: [n_logit_rows], valid until the next collect. An error means that the device has
// failed: *results and *record say nothing, and no further step may be submitted.
int engine_collect(struct engine *engine, const struct sample_result **results, struct step_record *record,
                   struct err *err) __attribute__((warn_unused_result));

// As backend_threads and backend_limit_threads, between steps.
int engine_threads(const struct engine *engine);
void engine_limit_threads(struct engine *engine, int n);

// As backend_measure_peaks; no step is in flight.
void engine_measure_peaks(struct engine *engine, struct backend_peaks *out);

// As backend_touch_kv.
bool engine_touch_kv(struct engine *engine, int32_t n_blocks);

int engine_n_ranks(const struct engine *engine);

// Rank 0, every ENGINE_CHECK_S while no step is in flight: an error says that another rank has gone, and then the
// device has failed. Without other ranks: 0.
enum { ENGINE_CHECK_S = 2 };
int engine_check_ranks(struct engine *engine, struct err *err) __attribute__((warn_unused_result));

// Ranks other than 0: runs the steps that rank 0 submits, until its engine is closed.
int engine_follow(struct engine *engine, struct err *err) __attribute__((warn_unused_result));

int32_t engine_n_in_flight(const struct engine *engine);

// Raw logits [V] of one logit row of the step collected last; for checks and evaluation.
const float *engine_logits(struct engine *engine, int32_t logit_row);
