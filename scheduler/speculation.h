// Which sequences get drafts in a step: the scheduler's part of speculation.
//
// A sequence whose last token is known brings, beside that token's row, a row for each draft. Each of them draws. The
// draws are taken in order for as long as the draft behind is what was drawn: the generator's noise belongs to the
// position, so that they are the tokens of a server that never guesses.
#pragma once

#include "engine/proposer.h"
#include "scheduler/governor.h"
#include "scheduler/sequence.h"
#include <stdbool.h>
#include <stdint.h>

// Where nobody guesses: what prompt lookup would have guessed, of one sequence a step at most.
struct guess_watch {
    double credit_ns; // may be spent: a small part of the time that steps take
    uint64_t n_steps;
    uint64_t n_tokens, n_guesses, n_hits; // looked at; guesses for them; right ones
};

struct speculation {
    struct proposer *proposer;   // NULL: off
    int32_t draft_tokens;        // for each sequence; 0: as many as pay; -1: none
    bool awake;                  // sequences wait for their last token to be known, because drafts may follow it
    struct draft_query *queries; // [sequences_max] of the step that is being planned
    struct sequence **sequences; // [sequences_max] whose they are
    struct governor_candidate *candidates; // [sequences_max]
    int32_t n_queries;
    struct governor governor;
    struct governor_step committed; // of the step committed last
    uint64_t draft_ns;              // that proposing took for the step that is being planned
    uint64_t n_plans;
    int32_t n_idle; // plans in a row for which no draft paid
    struct guess_watch watch;
};

void speculation_open(struct speculation *speculation, struct proposer *proposer, int32_t sequences_max);
void speculation_close(struct speculation *speculation);
size_t speculation_bytes(const struct speculation *speculation, int32_t sequences_max); // of memory

// Which of the n sequences of a step is watched; -1: none.
int32_t speculation_watched(struct speculation *speculation, int32_t n);
// That one has drawn a token, which it does not know yet.
void speculation_watch(struct speculation *speculation, const struct sequence *sequence, int32_t token);
void speculation_pay_watch(struct speculation *speculation, uint64_t step_ns); // a step has taken so long

// Tells the proposer that a sequence has ended.
void speculation_end(struct speculation *speculation, const struct sequence *sequence);
