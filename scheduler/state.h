// The scheduler's inside, shared by its source files: who runs, who waits, what is in flight.
#pragma once

#include "base/map.h"
#include "scheduler/block_pool.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/prefix_shadow.h"
#include "scheduler/queue.h"
#include "scheduler/scheduler.h"
#include "scheduler/speculation.h"

enum { STEPS_PLANNED_MAX = 2, BLOCK_TOKENS_MAX = 256 };

// The rows of one sequence in a planned step, and what to do with their results.
struct planned_rows {
    struct sequence *sequence;
    int32_t logit_first; // its first result
    int32_t n_forced;    // results that report prompt[forced_first ..]
    int32_t forced_first;
    int32_t n_draws;            // results behind these: the next token, and one more behind each draft
    int32_t drafts[DRAFTS_MAX]; // [n_draws - 1]
    int32_t draft_strength;
};

struct planned_step {
    struct planned_rows *rows;     // [sequences_max]
    int32_t n_rows;                // entries, one a sequence
    struct governor_step governed; // what the governor learns from it
};

struct scheduler {
    struct engine_limits limits;
    struct scheduler_settings settings; // sequences_max and chunk_max filled in
    int32_t prompt_rows_max;
    struct block_pool pool;
    struct prefix_cache cache;
    struct prefix_shadow shadow;
    struct queue queue;
    struct map by_id;             // id -> struct request *
    struct request *requests;     // living
    struct sequence **running;    // [n_running] oldest first
    struct sequence **preempted;  // [n_preempted] oldest first
    struct sequence **candidates; // [sequences_max] scratch of the prompt pass
    int32_t n_running, n_preempted, n_held;
    int32_t n_draining, n_resuming; // n_resuming of the draining ones come back
    uint64_t last_age, last_owner;
    struct sequence *turn; // found no room for its draw and comes first in the next step; or NULL
    struct planned_step steps[STEPS_PLANNED_MAX]; // a ring
    bool commits_prompts;                         // the step that is being committed has rows of prompts
    int32_t first_step, n_in_flight;
    uint64_t n_changes;         // of anything that may let a waiting sequence in
    uint64_t n_changes_refused; // when admission last found no room
    bool blocks_short;          // it was for lack of blocks
    struct speculation speculation;
    struct scheduler_counters counters;
    int32_t *refs_expected; // [n_blocks] scratch of the integrity check
};

// Makes the full blocks whose rows were planned known to the prefix cache.
void scheduler_publish(struct scheduler *scheduler, struct sequence *sequence);

// Where the leading blocks of a sequence may come from the cache: tokens that need not be computed, at most.
int32_t scheduler_reuse_max(const struct sequence *sequence);

// The cached block that follows the published ones of a sequence, -1: none. *id: its entry.
int32_t scheduler_find_next_block(const struct scheduler *scheduler, const struct sequence *sequence, uint64_t *id);

// A block with one owner, -1: none is available.
int32_t scheduler_take_block(struct scheduler *scheduler);

// Lets waiting sequences in while blocks and places last.
void scheduler_admit(struct scheduler *scheduler);

// Chooses which running sequences get how many drafts in the step that is being planned, and makes room for them.
void scheduler_speculate(struct scheduler *scheduler);

// The draft of a sequence in that step; NULL: none.
const struct draft_query *scheduler_draft_of(const struct scheduler *scheduler, const struct sequence *sequence);

// Says what became of the drafts of a committed step, n_kept of them.
void scheduler_learn_drafts(struct scheduler *scheduler, struct sequence *sequence, const struct planned_rows *planned,
                            int32_t n_kept);

// Gives back the blocks behind those that the known tokens need.
void scheduler_trim_blocks(struct scheduler *scheduler, struct sequence *sequence);

// The next draw, and those behind it, must not take a stop token: how many are banned, biases included, for the
// generated token with this index.
int32_t scheduler_count_edits(const struct sequence *sequence, int32_t index);

// Takes a sequence out of the running ones; its blocks go when no step in flight uses them. resumes: it was preempted.
void scheduler_stop(struct scheduler *scheduler, struct sequence *sequence, bool resumes);

// The prompt of a request was computed, and reported where asked for: its held siblings may go on.
void scheduler_release_held(struct scheduler *scheduler, struct request *request, struct generation_events *events);

// Called when the last step in flight that uses a draining sequence was committed. May free its request.
void scheduler_drained(struct scheduler *scheduler, struct sequence *sequence);

void scheduler_emit(struct generation_events *events, const struct sequence *sequence, enum generation_event_kind kind,
                    enum finish_reason finish, const struct sample_result *sample, uint64_t now_ns);
