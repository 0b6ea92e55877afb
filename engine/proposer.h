// Guesses which tokens a sequence draws next, so that one step can check several of them.
//
// A guess costs rows, never a token: it is kept only where it is what the target model draws by itself. So a proposer
// may propose anything, and what it proposes needs no other tests than whether it helps. Thread: the step thread.
#pragma once

#include "kernels/step_input.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DRAFTS_MAX = 15,         // for one sequence in one step
    DRAFT_STRENGTHS = 8,     // how sure a proposer is of a guess: 0 .. DRAFT_STRENGTHS - 1
    DRAFT_LOOK_BACK = 65536, // tokens of a sequence, from its end, that a proposer looks at
};

// A sequence that is known up to its last token, which is not computed yet, and what is proposed behind it.
struct draft_query {
    uint64_t id;          // of the request; unique among the living
    int32_t choice;       // of the request; together they name the sequence
    uint64_t owner, salt; // only sequences of one owner and salt may learn from each other
    const int32_t *prompt, *generated;
    int32_t n_prompt, n_generated;
    const struct sample_params *sampling; // how the target draws; position, slices and forced_token say nothing
    int32_t n_max;                        // 1..DRAFTS_MAX
    int32_t n;                            // proposed; in: 0
    int32_t strength;                     // of the proposed ones
    int32_t tokens[DRAFTS_MAX];
};

struct proposer {
    const char *name; // "ngram", ...
    bool runs_steps;  // proposing takes time on the device, so that one asks only for what will be used
    // Of a proposer that runs steps: what one draft for each of n sequences takes, and one row that it lags behind.
    double (*round_ns)(const void *proposer, int32_t n_sequences);
    double row_ns;
    uint64_t steps_ns; // that the last call of propose took, less what disturbed it
    // Rows that it must compute before it can draft for this sequence, -1: it cannot. NULL: none.
    int32_t (*lag)(const struct proposer *proposer, const struct draft_query *query);
    // Fills n, strength and tokens of each query. What is outside the vocabulary is a programming error.
    void (*propose)(struct proposer *proposer, struct draft_query *queries, int32_t n_queries);
    // The sequence is over, after these tokens; n, n_max and tokens say nothing. NULL: nobody cares.
    void (*end)(struct proposer *proposer, const struct draft_query *query);
    size_t (*bytes)(const struct proposer *proposer); // of memory
    void (*close)(struct proposer *proposer);
};

// Prompt lookup: what followed the last occurrence of the sequence's end in the sequence itself, the longest such end
// first. Any model.
struct proposer *ngram_proposer_open(void);

// The same over the sequence and the answers that ended lately for its owner; memory is bounded.
struct proposer *suffix_proposer_open(void);

static inline int32_t draft_query_n_known(const struct draft_query *query) {
    return query->n_prompt + query->n_generated;
}

static inline int32_t draft_query_token(const struct draft_query *query, int32_t position) {
    return position < query->n_prompt ? query->prompt[position] : query->generated[position - query->n_prompt];
}

static inline void proposer_close(struct proposer *proposer) {
    if (proposer) proposer->close(proposer);
}
