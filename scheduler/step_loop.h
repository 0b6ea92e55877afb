// The step loop: the one thread that touches engine and scheduler. Everyone else talks to it through this header.
//
// Requests go in through a bounded queue; events come out through a buffer that the receiver drains. `wake` is called
// from the step thread when the buffer was empty and no longer is.
#pragma once

#include "base/err.h"
#include "engine/engine.h"
#include <stdbool.h>
#include <stdint.h>

struct step_loop;

enum { GENERATION_CHOICES_MAX = 128, GENERATION_STOP_TOKENS_MAX = 32 };

// One request: a prompt and n sequences that continue it. Copied by step_loop_submit.
struct generation {
    uint64_t id;           // chosen by the caller, unique among living requests
    const int32_t *prompt; // [n_prompt], n_prompt >= 1
    int32_t n_prompt;
    int32_t n_choices;  // 1..GENERATION_CHOICES_MAX; choice i draws with choice_index i
    int32_t max_tokens; // per choice, >= 0; n_prompt + max_tokens <= context
    int32_t min_tokens; // stop tokens are banned before that many tokens
    bool ignore_eos;    // stop tokens do not stop (and are not banned)
    int32_t n_stop_tokens;
    int32_t stop_tokens[GENERATION_STOP_TOKENS_MAX];
    struct sample_params sampling; // temperature .. frequency_penalty, seed, n_top_logprobs; the rest is ignored
    const struct logit_edit *bias; // [n_bias]
    int32_t n_bias;
    int32_t n_prompt_top_logprobs; // -1: none; >= 0: logprobs of prompt tokens 1.. with that many alternatives
    uint64_t key_id;               // whose request: fairness between keys, and the salt of the prefix cache
    uint64_t arrived_ns;           // clock_now_ns at arrival, for the queue's statistics
};

enum finish_reason { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_ABORT, FINISH_ERROR };

enum generation_event_kind {
    EVENT_PROMPT_LOGPROB, // logprob of prompt token `index` (1-based position in the prompt), once, before any token
    EVENT_TOKEN,          // token `index` (from 0) of a choice was drawn; finish says whether it was the last
    EVENT_FINISHED,       // the choice ended without a token (max_tokens 0, abort, error)
};

struct generation_event {
    uint64_t id;
    enum generation_event_kind kind;
    enum finish_reason finish; // FINISH_NONE while the choice goes on
    int32_t choice;
    int32_t index;
    int32_t n_cached; // prompt tokens taken from the prefix cache; set with the first token
    bool has_logprobs;
    struct sample_result sample; // token; logprobs when has_logprobs
    uint64_t scheduled_ns;       // when its first row was planned
    uint64_t at_ns;              // when the step that made it was collected
};

struct step_loop_options {
    int32_t queue_max; // sequences waiting; 0: auto
    bool no_prefix_cache;
    int32_t chunk_max; // rows of one prompt in one step; 0: auto
    void (*wake)(void *context);
    void *wake_context;
};

int step_loop_open(struct step_loop **out, struct engine *engine, const struct step_loop_options *options,
                   struct err *err) __attribute__((warn_unused_result)); // starts the thread
void step_loop_close(struct step_loop *loop);                            // aborts what lives, joins the thread

// Any thread. ERR_BUSY: the queue is full (step_loop_retry_after_s says when to try again); ERR_LIMIT: it could never
// fit into the KV cache; ERR_CLOSED: shutting down.
int step_loop_submit(struct step_loop *loop, const struct generation *generation, struct err *err)
    __attribute__((warn_unused_result));
// Any thread. The choice's (or, with choice -1, all choices') rows are gone before the next step. Its EVENT_FINISHED
// comes with FINISH_ABORT unless it had finished before. Unknown ids are ignored.
void step_loop_cancel(struct step_loop *loop, uint64_t id, int32_t choice);

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
    uint64_t iteration_rows[ITERATION_BUCKETS + 1];                       // steps by number of rows, not cumulative
    uint64_t iteration_rows_sum;
    uint64_t last_step_ns; // clock_now_ns of the last collected step; 0: none yet
    uint64_t busy_ns;      // time in which a step was in flight
};
void step_loop_stats(struct step_loop *loop, struct step_loop_stats *out);

// The last n step records, newest last; returns how many were written. Any thread.
size_t step_loop_records(struct step_loop *loop, struct step_record *out, size_t n);
