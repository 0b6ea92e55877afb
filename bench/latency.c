#include "bench/latency.h"

#include <math.h>

static const double NS = 1e9;

const char *latency_name(enum latency latency) {
    static const char *const names[LATENCIES] = {"ttft", "tpot", "itl", "e2e", "dispatch"};
    return names[latency];
}

const char *latency_title(enum latency latency) {
    static const char *const titles[LATENCIES] = {"first token (TTFT)", "token to token (TPOT)", "between tokens (ITL)",
                                                  "whole answer (E2E)", "client's lag"};
    return titles[latency];
}

bool request_counts(const struct request_record *r) {
    return r->outcome == OUTCOME_OK && !r->slow;
}

bool request_is_due(const struct request_record *r, double from_s, double to_s) {
    const double at = (double)r->scheduled_ns / NS;
    return at >= from_s && at <= to_s;
}

int64_t request_tokens(const struct request_record *r) {
    return r->n_output > 0 ? r->n_output : (int64_t)r->n_events;
}

bool request_latency(const struct request_record *r, enum latency latency, double *out) {
    const double due = (double)r->scheduled_ns;
    switch (latency) {
    case LATENCY_TTFT:
        *out = ((double)r->first_ns - due) / NS;
        return r->n_events > 0;
    case LATENCY_TPOT:
        *out = (double)(r->last_ns - r->first_ns) / NS / (double)(request_tokens(r) - 1);
        return r->n_events > 1 && request_tokens(r) > 1;
    case LATENCY_E2E:
        *out = ((double)r->ended_ns - due) / NS;
        return true;
    case LATENCY_DISPATCH:
        *out = ((double)r->started_ns - due) / NS;
        return true;
    default:
        return false;
    }
}

void request_gap(const struct run_record *run, const struct request_record *r, uint32_t i, struct token_gap *gap) {
    const double seconds = (double)run->gaps.items[r->gap_first + i] * GAP_NS / NS;
    const double n_tokens = fmax((double)(request_tokens(r) - 1) / (double)(r->n_events - 1), 1);
    gap->at_s = (i ? gap->at_s : (double)r->first_ns / NS) + seconds;
    gap->seconds = seconds / n_tokens;
    gap->n_tokens = (size_t)llround(n_tokens);
}
