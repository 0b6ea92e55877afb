// The step loop: the one thread that touches engine and scheduler. Everyone else talks to it through this header.
//
// Requests go in through a bounded queue; events come out through a buffer that the receiver drains. `wake` is called
// from the step thread when the buffer was empty and no longer is.
#pragma once

#include "advisor/knob.h"
#include "base/err.h"
#include "engine/engine.h"
#include "engine/proposer.h"
#include "scheduler/generation.h"
#include "scheduler/settings.h"
#include <stdbool.h>
#include <stdint.h>

struct step_loop;

struct step_loop_options {
    int32_t queue_max;                  // sequences waiting; 0: auto
    struct scheduler_settings settings; // at the beginning
    int32_t prompt_rows;                // of all prompts in a step, beside sequences that decode; 0: auto
    struct proposer *proposer; // guesses tokens; NULL: nobody does. Outlives the loop, whose thread alone calls it
    void (*wake)(void *context);
    void *wake_context;
};

int step_loop_open(struct step_loop **out, struct engine *engine, const struct step_loop_options *options,
                   struct err *err) __attribute__((warn_unused_result)); // starts the thread
void step_loop_close(struct step_loop *loop);                            // aborts what lives, joins the thread

// Adds what the scheduler, its requests and the queues between the threads take. Any thread.
void step_loop_list_memory(struct step_loop *loop, struct memory_ledger *ledger);

// Any thread. ERR_BUSY: the queue is full (step_loop_retry_after_s says when to try again); ERR_LIMIT: it could never
// fit into the KV cache; ERR_CLOSED: shutting down, or the device has failed.
int step_loop_submit(struct step_loop *loop, const struct generation *generation, struct err *err)
    __attribute__((warn_unused_result));
// Any thread. The choice's (or, with choice -1, all choices') rows are gone before the next step. Its EVENT_FINISHED
// comes with FINISH_ABORT unless it had finished before. Unknown ids are ignored.
void step_loop_cancel(struct step_loop *loop, uint64_t id, int32_t choice);

// Whether a step has failed, and why. Everything that lived then ended with FINISH_ERROR, and nothing can run any more.
// `wake` is called when it happens. Any thread.
bool step_loop_has_failed(struct step_loop *loop, struct err *why);

// Seconds after which a refused request may find room, from the measured rate: 1..60. Any thread.
int step_loop_retry_after_s(struct step_loop *loop);

// One receiver thread. Hands over all events since the last call; *events is valid until the next call.
size_t step_loop_take_events(struct step_loop *loop, const struct generation_event **events);

// A snapshot for /metrics and /health. Any thread.
enum { ITERATION_BUCKETS = 13 }; // upper bounds 1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384, then +Inf
struct step_loop_stats {
    int32_t n_running, n_waiting;
    int32_t n_blocks, n_blocks_used, block_tokens; // cached blocks that nobody uses count as free
    uint64_t n_steps, n_preemptions;
    uint64_t n_prompt_tokens, n_prompt_tokens_cached, n_generated_tokens; // counted when scheduled or drawn
    uint64_t n_prefix_queries, n_prefix_hits;                             // tokens
    uint64_t n_prefix_ideal, n_prefix_evicted, n_recomputed_tokens;       // as in struct scheduler_counters
    uint64_t n_lookups, n_early_divergences;
    double divergence_token;
    int64_t n_slots, n_slot_tokens;
    uint64_t n_shadow_tokens, n_shadow_guesses, n_shadow_hits;
    uint64_t n_drafts, n_draft_tokens, n_draft_tokens_accepted; // as in struct scheduler_counters
    uint64_t n_accepted_at[DRAFTS_MAX];
    double speculation_gain;
    int32_t draft_tokens_max;                       // 0: no speculation
    uint64_t iteration_rows[ITERATION_BUCKETS + 1]; // steps by number of rows, not cumulative
    uint64_t iteration_rows_sum;
    uint64_t last_step_ns; // clock_now_ns of the last collected step; 0: none yet
    uint64_t busy_ns;      // time in which a step was in flight
    uint64_t idle_ns;      // time in which the loop rested, because there was no work; grows while it rests
};
void step_loop_stats(struct step_loop *loop, struct step_loop_stats *out);

// The last n step records, newest last; returns how many were written. Any thread.
size_t step_loop_records(struct step_loop *loop, struct step_record *out, size_t n);
// At most n step records that were not taken yet, oldest first; *n_lost grows by those that were overwritten before.
// One reader, any thread, at least ten times a second to lose none.
size_t step_loop_take_records(struct step_loop *loop, struct step_record *out, size_t n, uint64_t *n_lost);

// Peaks of the device (kernels/backend.h), which the loop measures once it has had nothing to do for a second; the
// first call asks for that, and a request that comes meanwhile waits for it. False: not measured yet. Any thread.
bool step_loop_measure_peaks(struct step_loop *loop, struct backend_peaks *out);

// What can be changed while it runs; the next step obeys. No knob changes an answer. Any thread.
void step_loop_read_knobs(struct step_loop *loop, struct knobs *out);
void step_loop_set_knob(struct step_loop *loop, enum knob_id id, int64_t value); // within its bounds
