// What a run says: rates, latencies and their intervals over its steady part, and whether the run can be trusted.
//
// Definitions (`optima bench --explain` prints them beside those of other clients):
//   TTFT     first event that brought something - scheduled time
//   ITL      gaps between such events, each divided over the tokens that it brings, pooled over tokens
//   TPOT     (last event - first event) / (tokens - 1), one value a request
//   E2E      end of the answer - scheduled time
//   dispatch start of a request - scheduled time: the client's own lag
// Latencies are those of completed requests that were not read slowly on purpose.
#pragma once

#include "base/statistics.h"
#include "base/str.h"
#include "bench/latency.h"

enum { PERCENTILES = 5 };
extern const double percentile_of[PERCENTILES]; // 50, 90, 95, 99, 99.9

// Quantiles at equal steps of the share, from the smallest value to the largest.
enum { CURVE_POINTS = 161 };

struct latency_summary {
    size_t n;                                // values
    double n_effective;                      // as many independent values say as much
    struct interval mean;                    // seconds
    struct interval percentile[PERCENTILES]; // `mean` is the percentile; NAN: the sample does not support it
    double largest, curve[CURVE_POINTS];
    double band; // of shares: the true distribution lies within +- band of the curve's with 95 % (DKW)
};

// Objectives in seconds; 0: none.
struct objectives {
    double ttft, itl, e2e;
};

struct summary {
    double from_s, to_s;                                                       // the steady part: requests due in it
    size_t n_requests, n_by_outcome[OUTCOMES], n_slow, n_retried, n_uncounted; // uncounted: without usage
    struct interval request_rate, output_rate, input_rate; // completed in the steady part, per second
    double offered_rate;                                   // requests/s due in the steady part
    double mean_prompt, mean_cached, mean_output;          // tokens a request
    struct latency_summary latency[LATENCIES];
    struct interval goodput;         // share of requests that meet all objectives, of all that were due
    double in_flight;                // on average
    double client_share;             // of one processor
    bool has_objectives, overloaded; // overloaded: of an open loop, whose latencies grow through the steady part
    struct str invalid;              // reasons why the run does not count, a line each; empty: it does
    struct str notes;                // what one should know, a line each
};

// open_loop: the schedule did not wait for answers. warm_up_s < 0: found by MSER-5 on the latencies.
void summary_make(struct summary *out, const struct run_record *run, const struct objectives *objectives,
                  bool open_loop, double warm_up_s);
// Whether a request was completed within all objectives.
bool objectives_met(const struct objectives *objectives, const struct request_record *request);
bool objectives_given(const struct objectives *objectives);
void summary_close(struct summary *summary);
