// Chooses how many drafts each sequence brings to a step, so that the most tokens a second come out: none when they do
// not pay.
//
// What it knows is measured: how long steps take, by the number of sequences that decode and of drafts for each; how
// many drafts are kept, by how sure the proposer was and by sequence; what drafting costs. What it does not know it
// tries, but spends at most a hundredth of the time on trials that lose. Plain data: no clock, no device.
// Thread: the step thread.
#pragma once

#include "base/typical.h"
#include "engine/proposer.h"
#include <stdbool.h>
#include <stdint.h>

enum { GOVERNOR_LOADS = 24, GOVERNOR_LEVELS = 12 };

// Drafts that were kept, of those that stood behind kept ones; both decayed.
struct acceptance {
    float kept, tried;
};

// Steps with about as many drafts for each sequence.
struct step_cell {
    struct typical ns;
    double drafts_each; // a running mean
    int64_t last_step;
};

struct governor {
    struct step_cell cells[GOVERNOR_LOADS][GOVERNOR_LEVELS]; // by sequences that decode, and drafts for each
    struct acceptance by_strength[DRAFT_STRENGTHS];          // of all sequences
    double draft_row_ns; // what a draft's row adds to a step, at the load where that was seen last; 0: never
    double saved_ns;     // may be lost on trials
    int64_t n_steps;     // learned from
    int64_t n_trials;
    // Decayed sums for the gain: tokens and time as they were, and the time of steps without drafts by the model, each
    // of which gives every sequence a token.
    double tokens, ns, plain_tokens, plain_ns;
};

struct governor_candidate {
    int32_t n_max; // drafts that it could have
    double rate;   // probability that a draft behind kept ones is kept
    int32_t lag;   // rows that the proposer must compute before it can draft for this sequence
    int32_t n;     // out: drafts that it shall have
};

// What a proposer that runs steps takes.
struct draft_cost {
    double (*round_ns)(const void *context, int32_t n_sequences); // one draft for each of n sequences; NULL: nothing
    double row_ns;                                                // a row that lags behind
    const void *context;
};

// n_sequences: that decode in this step, candidates or not. Sets n of every candidate.
void governor_choose(struct governor *governor, struct governor_candidate *candidates, int32_t n_candidates,
                     int32_t n_sequences, const struct draft_cost *cost);

// The rate of a sequence's drafts of some strength: its own, and as long as it has few, that of all.
double governor_rate(const struct governor *governor, const struct acceptance *own, int32_t strength);
// n_kept of n_drafts drafts were kept.
void governor_learn_drafts(struct governor *governor, struct acceptance *own, int32_t strength, int32_t n_drafts,
                           int32_t n_kept);

struct governor_step {
    int32_t n_sequences, n_drafts, n_tokens; // that decoded, beside them, and what came out
    bool has_prompts;
    uint64_t step_ns, draft_ns;
};
void governor_learn_step(struct governor *governor, const struct governor_step *step);

// Time of a step of n_sequences that decode with n_drafts drafts in all, as far as is known; 0: nothing is.
double governor_step_ns(const struct governor *governor, int32_t n_sequences, int32_t n_drafts);

// Tokens a second with speculation over tokens a second without, lately; 1: nothing is known.
double governor_gain(const struct governor *governor);
