// What one step did and how long it took: fixed size, one a step, kept in a ring for the advisor and the metrics.
#pragma once

#include "kernels/backend.h"
#include <stdint.h>

struct step_record {
    uint64_t ticket;       // counts steps from 1
    uint64_t submitted_ns; // clock_now_ns when planning had finished and the step was submitted
    uint64_t collected_ns; // clock_now_ns when its results were there
    uint64_t host_gap_ns;  // time since the step before was collected, in which the device had nothing to do
    int32_t n_rows;        // all rows
    int32_t n_prompt_rows; // rows of prompts; the others decode
    int32_t n_draft_rows;  // rows of drafts
    int32_t n_accepted;    // drafts that became tokens; known when the step was committed
    int32_t n_sequences;
    int32_t n_logit_rows;
    int64_t kv_tokens_read; // sum over sequences of rows * tokens that each row attends to
    struct step_times times;
};
