// What one request's record says in seconds, by the definitions of summary.h.
#pragma once

#include "bench/record.h"

enum latency { LATENCY_TTFT, LATENCY_TPOT, LATENCY_ITL, LATENCY_E2E, LATENCY_DISPATCH, LATENCIES };
const char *latency_name(enum latency latency);  // "ttft"
const char *latency_title(enum latency latency); // "first token (TTFT)"

bool request_counts(const struct request_record *request); // for latencies: completed, not read slowly
bool request_is_due(const struct request_record *request, double from_s, double to_s);
int64_t request_tokens(const struct request_record *request); // by usage, else events
// False: the request does not have this latency. Never has it ITL, which is one value a token.
bool request_latency(const struct request_record *request, enum latency latency, double *seconds);

// The gap in front of a token. An event that brings several tokens counts its gap in equal parts for each.
struct token_gap {
    double at_s, seconds; // when the event came; a token's part
    size_t n_tokens;      // of the event
};
// The request's gap i of n_events - 1; asked for in order from 0, with the same *gap.
void request_gap(const struct run_record *run, const struct request_record *request, uint32_t i, struct token_gap *gap);
