// A request as the scheduler holds it, and its sequences: one stream of tokens for each choice.
//
// A request and everything in it is one arena, filled by request_open on the thread of the caller and from then on
// touched by the step thread only.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "scheduler/generation.h"
#include "scheduler/governor.h"
#include <stdbool.h>
#include <stdint.h>

enum sequence_state {
    SEQUENCE_HELD,      // waits for a sibling that computes their prompt
    SEQUENCE_QUEUED,    // waits in the queue of its key
    SEQUENCE_RUNNING,   // has blocks; steps compute its rows
    SEQUENCE_PREEMPTED, // lost its blocks to an older sequence; comes back before the queue is served
    SEQUENCE_DRAINING,  // over or preempted, but steps in flight still use its blocks
    SEQUENCE_ENDED,
};

struct sequence {
    struct request *request;
    struct sequence *next, *previous; // in the queue of its key
    enum sequence_state state;
    int32_t choice;
    uint64_t age;       // order of first admission, from 1; 0: never admitted
    int32_t *generated; // [max_tokens] tokens drawn and collected
    int32_t n_generated;
    int32_t n_drawing;      // tokens that the steps in flight draw at least
    int32_t n_drafting;     // drafts in flight: until they are collected, nobody knows where it goes on
    int32_t draw_logit_row; // where the last planned step draws its token
    int32_t n_computed;     // positions whose rows were planned since it got its blocks, those of drafts in flight too
    int32_t n_in_flight;    // steps in flight that have rows of it
    bool resumes;           // draining because it was preempted
    bool was_preempted;
    int32_t n_lost;  // positions that had been computed when it was preempted
    int32_t *blocks; // [n_blocks] its block table
    int32_t n_blocks;
    int32_t n_published;     // leading blocks that the prefix cache knows by content
    uint64_t last_entry;     // prefix cache entry of the last of them
    struct seen_token *seen; // [n_seen] ascending by token; NULL without penalties
    int32_t n_seen;
    struct acceptance acceptance[DRAFT_STRENGTHS]; // of its drafts, by how sure the proposer was
    uint64_t scheduled_ns;
};

struct request {
    struct generation generation; // its pointers lead into the arena
    struct arena arena;
    struct request *next, *previous;    // in the list of living requests; next also in the mailbox
    struct sequence *choices;           // [n_choices]
    struct sequence *leader;            // computes the prompt while the others are held
    int32_t n_open;                     // choices that have not ended
    int32_t n_prompt_reported;          // prompt logprobs handed out
    bool prompt_done;                   // the prompt was computed once and its logprobs reported
    int32_t n_cached;                   // prompt tokens that the leader took from the prefix cache
    int32_t key_index;                  // in the queue
    uint64_t prefix_owner, prefix_salt; // of its prefix cache entries
};

// Copies and checks a generation. ERR_INVALID: a value is out of range; ERR_LIMIT: longer than the context or with more
// biases than a step can take. Any thread.
int request_open(struct request **out, const struct generation *generation, const struct engine_limits *limits,
                 struct err *err) __attribute__((warn_unused_result));
void request_close(struct request *request);
size_t request_bytes_max(const struct engine_limits *limits); // of memory, for each of its sequences, biases left aside

static inline int32_t sequence_n_known(const struct sequence *sequence) {
    return sequence->request->generation.n_prompt + sequence->n_generated;
}

// The token at a position below sequence_n_known.
static inline int32_t sequence_token(const struct sequence *sequence, int32_t position) {
    const struct generation *g = &sequence->request->generation;
    return position < g->n_prompt ? g->prompt[position] : sequence->generated[position - g->n_prompt];
}

// Rows that can be planned now, up to and with the row that draws the next token.
int32_t sequence_rows_left(const struct sequence *sequence);

// True when tokens drawn before must be known on the host to draw the next one.
static inline bool sequence_has_penalties(const struct sequence *sequence) {
    return sequence->seen != NULL;
}

// Counts a token among n_seen ascending ones, with room for one more; returns how many they are then.
int32_t seen_count(struct seen_token *seen, int32_t n_seen, int32_t token);

// Appends a drawn token; FINISH_STOP or FINISH_LENGTH when it is the last one.
enum finish_reason sequence_append(struct sequence *sequence, int32_t token);

// True when stop tokens are banned for the token with this index among the generated ones.
bool request_bans_stops(const struct request *request, int32_t index);

// True when prompt[1..] must be reported with logprobs and some have not been.
bool request_reports_prompt(const struct request *request);
