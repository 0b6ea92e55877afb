// What /metrics shows: vLLM's names and buckets, so that dashboards and routers made for it work unchanged.
//
// Histograms and HTTP counters are fed on the loop thread; gauges and token counters come from the step loop's
// snapshot. Labels never come from clients.
#pragma once

#include "base/str.h"
#include "scheduler/step_loop.h"
#include <stdint.h>

enum { HISTOGRAM_BOUNDS_MAX = 32, HTTP_COUNTERS_MAX = 128 };

struct histogram {
    const char *name, *help;
    double bounds[HISTOGRAM_BOUNDS_MAX]; // ascending
    int n_bounds;
    uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; // by bucket, not cumulative; the last is beyond all bounds
    double sum;
};

enum histogram_index {
    HISTOGRAM_TTFT,
    HISTOGRAM_ITL,
    HISTOGRAM_TPOT,
    HISTOGRAM_E2E,
    HISTOGRAM_QUEUE,
    HISTOGRAM_INFERENCE,
    HISTOGRAM_PREFILL,
    HISTOGRAM_DECODE,
    HISTOGRAM_PROMPT_TOKENS,
    HISTOGRAM_GENERATION_TOKENS,
    HISTOGRAM_MAX_GENERATION_TOKENS,
    HISTOGRAM_PARAMS_MAX_TOKENS,
    HISTOGRAM_PARAMS_N,
    N_HISTOGRAMS,
};

struct http_counter {
    const char *handler; // a route's path, or NULL
    char method[8];
    int status_class; // 2: 2xx
    uint64_t count;
};

struct metrics {
    struct histogram histograms[N_HISTOGRAMS];
    uint64_t n_finished[FINISH_ERROR + 1]; // choices, by reason
    uint64_t n_rejected;                   // requests refused because the queue was full
    struct http_counter http[HTTP_COUNTERS_MAX];
    int n_http;
};

void metrics_open(struct metrics *metrics);
void metrics_observe(struct metrics *metrics, enum histogram_index index, double value);
void metrics_count_http(struct metrics *metrics, const char *handler, const char *method, int status);

// One choice that ended: times in clock_now_ns; 0 where the moment never came.
struct choice_record {
    enum finish_reason finish;
    uint64_t arrived_ns, scheduled_ns, first_token_ns, last_token_ns, finished_ns;
    int32_t n_prompt, n_generated, n_max, n_choices;
};
void metrics_observe_choice(struct metrics *metrics, const struct choice_record *record);

struct report;
struct server_activity;
struct metrics_view {
    const char *model_name;
    const struct step_loop_stats *stats;    // NULL while loading
    const struct report *report;            // of the advisor; NULL: none yet
    const struct server_activity *activity; // NULL: not told
    int32_t n_deferred;                     // prompts of batches that wait outside of the step loop's queue
};
void metrics_print(const struct metrics *metrics, const struct metrics_view *view, struct str *out);
