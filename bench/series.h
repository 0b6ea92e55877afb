// A run over time: what each interval of it saw, and how long the gaps between tokens were in it.
#pragma once

#include "base/mem.h"
#include "bench/latency.h"

// Rows of the map of gaps: equal steps of the logarithm.
enum { SERIES_PARTS_MAX = 80, SERIES_ROWS = 24 };

struct series_part {
    double at_s; // its beginning
    size_t n_due, n_completed, n_failed;
    double in_flight, output_rate; // on average
    double ttft_p50, ttft_p95;     // of requests due in it; NAN: none
    double itl_p50, itl_p95, itl_largest;
    uint32_t gaps[SERIES_ROWS]; // tokens by the gap in front of them
};

struct series {
    double width_s; // of a part: 1, 2 or 5 times a power of ten
    double end_s;   // of the run, and of the last part
    double row_first_s, row_factor;
    VEC_OF(struct series_part) parts;
};

void series_make(struct series *out, const struct run_record *run);
void series_close(struct series *series);
