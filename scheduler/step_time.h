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

// How many prompt rows a step may hold in which sequences decode: as many as end it within 250 ms (four tokens a
// second, about as fast as people read) or take twice as long as decoding, whichever is more. A prompt of given length
// takes the same time from the others in small chunks as in large ones, or more, because small products are less
// efficient: so chunks are as large as the wait for the next token bears. At least 32 rows; 64 while nothing is known;
// at most rows_max.
int32_t step_time_prompt_rows(const struct step_time *time, int32_t rows_max);
