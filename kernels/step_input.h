// One step: the rows of a batch, how to draw from their logits, and what was drawn. Everything that changes from step
// to step.
//
// Letters in shapes as in kernels/backend.h.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// Temperatures below this one, 0 above all, take the largest logit.
#define SAMPLE_TEMPERATURE_MIN 1e-5f

// What to draw from one row of logits.
struct sample_params {
    float temperature;        // below SAMPLE_TEMPERATURE_MIN: the largest logit (lowest id on a tie)
    int32_t top_k;            // keep the k largest; 0: all
    float top_p;              // keep the smallest set whose probability reaches top_p; 1: all
    float min_p;              // keep tokens with p >= min_p * p_max; 0: all
    float repetition_penalty; // 1: none; divides positive logits and multiplies negative ones of tokens seen before
    float presence_penalty;   // subtracted once from tokens generated before
    float frequency_penalty;  // subtracted once per occurrence among generated tokens
    uint64_t seed;
    int32_t choice_index;
    int32_t position;               // absolute position of the token to be drawn: with seed and choice the noise's key
    int32_t n_top_logprobs;         // -1: no logprobs; 0..20: the token's and that many alternatives
    int32_t forced_token;           // >= 0: draw nothing, report this token's logprob (prompt logprobs); -1: draw
    int32_t edit_first, edit_count; // slice of step_input.edits: added to logits first (logit_bias, bans)
    int32_t seen_first, seen_count; // slice of step_input.seen: for the three penalties
};

struct logit_edit {
    int32_t token;
    float add; // -INFINITY bans the token
};

struct seen_token {
    int32_t token;
    int32_t n_generated; // occurrences among generated tokens; 0: only in the prompt
};

// Order: raw logprobs are taken; edits; repetition, presence, frequency penalties; temperature; min_p, top_k, top_p
// (each on the distribution that the one before left, renormalised); then Gumbel-max: the token with the largest
// scaled logit - log(rng_exponential(rng_key(seed, choice_index, position), token)). The draw depends on nothing else.

enum { TOP_LOGPROBS_MAX = 20 };

struct sample_result {
    int32_t token, n_top;                // n_top: entries below
    int32_t rank;                        // of token among all, from 1, in the order of the list below; 0: not asked for
    float logprob;                       // of token, natural logarithm, of the raw distribution; 0 when not asked for
    int32_t top_token[TOP_LOGPROBS_MAX]; // most probable first, lowest id first among equals
    float top_logprob[TOP_LOGPROBS_MAX];
};

struct step_sequence {
    int32_t row_first, row_count; // its rows of this step, neighbours, positions ascending by one
    int32_t kv_len;               // tokens in the cache after this step (= position of its last row + 1)
    int32_t block_first;          // its block table begins at block_table[block_first]; ceil(kv_len / B) entries
};

// Rows of one sequence are neighbours; sequences are in any order. `token` may be a reference to a result of the step
// submitted just before: STEP_TOKEN_REF(i) is what its logit row i drew.
#define STEP_TOKEN_REF(i) (-1 - (i))

struct step_input {
    int32_t n_rows, n_sequences, n_logit_rows, n_block_table, n_edits, n_seen;
    int32_t *token;                  // [R] or references
    int32_t *position;               // [R]
    int32_t *sequence;               // [R] index into sequences
    struct step_sequence *sequences; // [S]
    int32_t *block_table;            // [n_block_table] block numbers
    int32_t *logit_row;              // [L] row whose residual passes the head, ascending
    struct sample_params *sample;    // [L]
    struct logit_edit *edits;        // [n_edits]
    struct seen_token *seen;         // [n_seen]
};
