// What one step did and how long it took: fixed size, one a step, kept in a ring for the advisor and the metrics.
#pragma once

#include "kernels/backend.h"
#include <stdint.h>

// Time between two steps is host_gap_ns, where work was waiting for the host, or idle_ns, where nobody asked for
// anything; both are timed, not what is left over. With two steps in flight they are mostly 0.
struct step_record {
    uint64_t ticket;       // counts steps from 1
    uint64_t submitted_ns; // clock_now_ns when planning had finished and the step was submitted
    uint64_t collected_ns; // clock_now_ns when its results were there
    uint64_t host_gap_ns;  // time since the step before was collected, in which the device had nothing to do
    uint64_t idle_ns;      // of the time since the step before was collected: resting, without work
    uint64_t draft_ns;     // spent on guessing tokens for this step; part of host_gap_ns where the device waited for it
    int32_t n_rows;        // all rows that belong to a sequence
    int32_t n_prompt_rows; // rows of prompts; the others decode
    int32_t n_recomputed_rows; // of these: computed before, lost to a preemption
    int32_t n_padding_rows;    // beside n_rows: of a captured step's size, for nobody
    int32_t n_draft_rows;      // rows of drafts
    int32_t n_accepted;        // drafts that became tokens; known when the step was committed
    int32_t n_sequences;
    int32_t n_decoding; // of these: without prompt rows
    int32_t n_logit_rows;
    int32_t n_running, n_waiting, n_blocks_used; // in the scheduler, when the step was planned
    int32_t n_preempted;                         // sequences that lost their blocks to this step
    int64_t kv_tokens_read;                      // sum over sequences of rows * tokens that each row attends to
    int64_t decode_context;                      // sum over decoding sequences of their tokens
    // What it read and computed, as engine/step_cost.h counts; _decode: the part of rows that decode.
    double weight_bytes, head_bytes, kv_bytes, kv_bytes_decode;
    double linear_flops, attention_flops, attention_flops_decode, head_flops;
    double attention_flops_palm; // as if each row attended to all tokens of its sequence after this step
    struct step_times times;
};
