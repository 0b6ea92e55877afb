// Proof: one knob, two values, randomised pairs of blocks in turn on live traffic, until a confidence sequence decides.
//
// Plain data and no clock: experiment_tick is told the time and what happened since, and says which value the knob
// shall have now. Guard rails are checked at every tick and end it at once.
#pragma once

#include "advisor/figure.h"
#include "advisor/knob.h"
#include "base/err.h"
#include "base/rng.h"
#include "base/statistics.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum { EXPERIMENT_PAIRS_MAX = 60 };

enum experiment_metric {
    METRIC_OUTPUT_RATE,
    METRIC_ITL_P50,
    METRIC_ITL_P99,
    METRIC_TTFT_P50,
    METRIC_TTFT_P95,
    METRICS
};
const char *experiment_metric_name(enum experiment_metric metric);
int experiment_metric_find(const char *name); // -1: there is none

struct experiment_plan {
    char id[16];     // chosen by the caller: "x17"
    char finding[8]; // "R1", or empty
    enum knob_id knob;
    int64_t value_now, value_new;
    enum experiment_metric metric;
    double block_s;                           // 0: 20, or longer where a block has fewer than 200 steps
    int32_t pairs_max;                        // 0: 40
    double min_effect;                        // 0: 0.02
    struct range predicted;                   // factor of the metric; NAN: none
    double guard_itl_p99_s, guard_ttft_p99_s; // 0: 1.5 times what is measured in the blocks of the present value
    uint64_t seed;
};

// What happened since the last tick, and what the server is like.
struct experiment_sample {
    double at_s, since_s;
    int64_t n_steps, n_output_tokens, n_errors, n_preempted;
    double offered_tokens; // of requests that arrived: the load that a block had
    double predicted_s;    // time that the step model gives for these steps: takes changes of the mix out
    double busy_s;
    double kv_occupancy;
    // Latencies that ended since; seconds.
    const float *itl, *ttft;
    int32_t n_itl, n_ttft;
    bool throttled;
};

enum experiment_phase {
    EXPERIMENT_RUNNING,
    EXPERIMENT_KEPT,
    EXPERIMENT_WORSE,
    EXPERIMENT_NO_DIFFERENCE,
    EXPERIMENT_UNDECIDED,
    EXPERIMENT_GUARDED,
    EXPERIMENT_STOPPED
};
const char *experiment_phase_name(enum experiment_phase phase);

struct experiment; // opaque: blocks, pairs, guards

int experiment_open(struct experiment **out, const struct experiment_plan *plan, struct err *err)
    __attribute__((warn_unused_result)); // ERR_INVALID: a value or length that makes no sense
void experiment_close(struct experiment *experiment);

// Returns the value that the knob shall have from now on.
int64_t experiment_tick(struct experiment *experiment, const struct experiment_sample *sample);
void experiment_stop(struct experiment *experiment); // by the operator: back to the present value

struct experiment_state {
    struct experiment_plan plan;
    enum experiment_phase phase;
    int32_t n_pairs;
    struct interval factor;   // new over now, of the metric; confidence sequence of 95 %
    double sign_flip_p;       // exact check
    double regression_chance; // that it is worse by more than min_effect
    double began_s, ended_s;
    char reason[200]; // why it ended: "guard: itl p99 41 ms above 30 ms for 3 s"
    double log_ratio[EXPERIMENT_PAIRS_MAX];
};
void experiment_state(const struct experiment *experiment, struct experiment_state *out);
// A JSON object and a comma behind it (base/json_write.h): "experiment" in tests/advisor/schema.json.
void experiment_json(const struct experiment_state *state, struct str *out);
