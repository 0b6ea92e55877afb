// How long steps take, and from that, how many rows of prompts may share a step with sequences that decode.
#pragma once

#include "engine/step_record.h"
#include <stdint.h>

// A running mean over some eight samples; 0: no sample yet.
static inline void duration_smooth(double *mean_ns, double sample_ns) {
    *mean_ns = *mean_ns > 0 ? *mean_ns + (sample_ns - *mean_ns) / 8 : sample_ns;
}

// Smoothed durations; 0: not measured yet.
struct step_time {
    double decode_ns;     // a step without prompt rows
    double prompt_row_ns; // what one prompt row adds
};

// duration_ns: how long the step kept the device busy.
void step_time_learn(struct step_time *time, const struct step_record *record, uint64_t duration_ns);

// Prompts may make a step longer by 100 ms or, where steps are longer than that without them, double it. At least 16
// rows, because fewer are not worth reading the weights; 64 while nothing is known; at most rows_max.
int32_t step_time_prompt_rows(const struct step_time *time, int32_t rows_max);
