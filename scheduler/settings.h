// What of the scheduler can be set, at the start and between two steps. None of it changes an answer.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct scheduler_settings {
    int32_t sequences_max; // that run at once, at most the engine's limit; 0: that
    int32_t chunk_max;     // rows of one prompt in one step; 0: no limit but rows_max
    int32_t admission;     // percent of its max_tokens for which blocks must be free when a sequence is admitted
    int32_t draft_tokens;  // guesses for each sequence and step; 0: as many as pay; -1: none
    bool no_prefix_cache;  // prefixes are shared within a request only
};
