// Runs made of given times, for tests of what is said about runs.
#pragma once

#include "bench/measurement.h"

// Appends a completed request: due at due_s, its first event ttft_s later, then n_gaps gaps of gap_s, each event with
// tokens_per_event tokens.
void synthetic_add(struct run_record *run, uint64_t session, double due_s, double ttft_s, uint32_t n_gaps, double gap_s,
                   int tokens_per_event);
void synthetic_add_failed(struct run_record *run, uint64_t session, double due_s, enum outcome outcome);
// n requests, one every 50 ms, with autocorrelated latencies: 40 ms to the first event and 10 ms a gap at the median,
// times `factor`. A request's own work is the same in every run; the server's slow moods differ with `key`.
void synthetic_measurement(struct measurement *out, size_t n, uint64_t key, double factor);
