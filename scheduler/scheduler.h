// Decides what each step contains, and keeps account of sequences, blocks and cached prefixes.
//
// Plain data and integers: no clock, no device, no model. Life of a step: scheduler_plan fills its input, somebody
// runs it, scheduler_commit takes its results; steps are committed in the order of planning, and up to
// limits.steps_in_flight may be planned and not committed. What is planned never changes which tokens a request gets.
// Thread: the step thread only.
#pragma once

#include "engine/engine.h"
#include "engine/proposer.h"
#include "scheduler/generation.h"
#include "scheduler/sequence.h"
#include "scheduler/settings.h"
#include <stdbool.h>
#include <stdint.h>

struct scheduler;

struct scheduler_options {
    const struct engine_limits *limits; // copied
    struct proposer *proposer;          // guesses tokens; NULL: nobody does. Outlives the scheduler
    struct scheduler_settings settings;
};

struct scheduler *scheduler_open(const struct scheduler_options *options);
void scheduler_close(struct scheduler *scheduler);         // with all requests that live
size_t scheduler_bytes(const struct scheduler *scheduler); // of memory, without requests

void scheduler_set(struct scheduler *scheduler, const struct scheduler_settings *settings);

// Takes ownership of the request. What ends at once (nothing to draw or to report) is answered in *events.
void scheduler_submit(struct scheduler *scheduler, struct request *request, struct generation_events *events);

// Ends a choice (-1: all) with FINISH_ABORT, in whatever phase it is. Its rows in flight are dropped, and
// its blocks are free when the last step that uses them is committed. Unknown ids and ended choices are ignored.
void scheduler_cancel(struct scheduler *scheduler, uint64_t id, int32_t choice, struct generation_events *events);
// Everything that lives, with FINISH_ABORT or FINISH_ERROR.
void scheduler_cancel_all(struct scheduler *scheduler, enum finish_reason finish, struct generation_events *events);

// Fills the empty input of the next step: decoding sequences first, then prompt chunks. False: there is nothing to
// run now; then either a step is in flight or nobody waits. True: the step must be run and committed.
bool scheduler_plan(struct scheduler *scheduler, struct step_input *input, uint64_t now_ns);

// results: of the oldest step that was planned and not committed, [n_logit_rows]. NULL: it failed, and everything that
// lived has been cancelled.
void scheduler_commit(struct scheduler *scheduler, const struct sample_result *results, uint64_t now_ns,
                      struct generation_events *events);

// How long the step committed last kept the device busy: what the choice of drafts goes by.
void scheduler_learn_time(struct scheduler *scheduler, uint64_t step_ns);

// The longest chunk of prompts that one step may hold in all while other sequences decode, >= 1.
void scheduler_set_prompt_rows_max(struct scheduler *scheduler, int32_t n_rows);

struct scheduler_counters {
    int32_t n_running, n_waiting; // sequences; preempted ones wait
    int32_t n_places;             // sequences that can run: as many as do when blocks are short
    int32_t n_blocks_used;        // owned by sequences
    int32_t n_blocks_touched;     // the first of the cache, which were ever owned
    uint64_t n_finished;          // sequences that ended, aborted ones included
    uint64_t n_preemptions;
    uint64_t n_prompt_tokens; // of admitted sequences, n_prompt_tokens_cached of them from the prefix cache
    uint64_t n_prompt_tokens_cached;
    uint64_t n_generated_tokens;
    uint64_t n_prefix_queries, n_prefix_hits;  // tokens looked up, once a sequence, and found
    uint64_t n_prefix_ideal, n_prefix_evicted; // found by a cache without bounds; lost from this one
    uint64_t n_lookups, n_early_divergences;   // prompts, and those of scheduler/prefix_shadow.h
    double divergence_token;                   // where they part, on average of late
    uint64_t n_recomputed_tokens;              // rows that a preemption made necessary again
    int64_t n_slots, n_slot_tokens;            // of the blocks of running sequences: places, and those with a token
    uint64_t draft_ns;                         // spent on guessing for the step planned last
    uint64_t n_drafts;                         // times that a sequence had drafts in a step
    uint64_t n_draft_tokens, n_draft_tokens_accepted;
    uint64_t n_accepted_at[DRAFTS_MAX]; // of the first draft of a step, of the second, ...
    // An n-gram proposer that only watches: tokens that it looked at, guesses for them, right ones.
    uint64_t n_shadow_tokens, n_shadow_guesses, n_shadow_hits;
    double speculation_gain; // tokens a second over those without drafts, by governor_gain
};
void scheduler_counters(const struct scheduler *scheduler, struct scheduler_counters *out);

// Asserts that every block, sequence, queue and sum is as it must be. Linear in the number of blocks.
void scheduler_check_integrity(const struct scheduler *scheduler);
