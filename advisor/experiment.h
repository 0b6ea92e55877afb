// Proof: one knob, two values, randomised pairs of blocks in turn on live traffic, until a confidence sequence decides.
//
// Plain data and no clock: experiment_tick is told the time and what happened since, and says which value the knob
// shall have now. Guard rails are checked at every tick and end it at once.
//
// A block begins with time that does not count (15 % of it, at least twice the p95 of whole requests), so that tokens
// count for the value under which they were made. After each pair a confidence sequence over the log ratios decides:
// kept or worse when 0 is outside and the mean is beyond min_effect, no difference when the whole sequence lies within
// +-min_effect. Its bounds hold at every look; the signs' exact test, and for tails a bootstrap, must agree.
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
    double block_s;                           // 0: 20; blocks are longer until they have 200 steps
    int32_t pairs_max;                        // 0: 40
    double min_effect;                        // 0: 0.02
    double alpha;                             // of the confidence sequence; 0: 0.05
    double exposure_max_s;                    // time at value_new, in all; 0: 1800
    struct range predicted;                   // factor of the metric; NAN: none
    double guard_itl_p99_s, guard_ttft_p99_s; // 0: see experiment_before
    uint64_t seed;
};

// What the server was like before, at the present value. NAN: not known. Where the plan sets no guard, p99 latencies
// may not exceed 1.5 times what they are at the present value, nor the objective, whichever is more; without an
// objective it is 50 ms between tokens and half a second to the first, which nobody takes for slow.
struct experiment_before {
    double itl_p99_s, ttft_p99_s, e2e_p95_s, kv_occupancy_max;
    double objective_itl_s, objective_ttft_s;
    double prompt_token_s, output_token_s; // what a token of a prompt and of output takes
};

// What happened since the last tick, and what the server is like.
struct experiment_sample {
    double at_s, since_s;
    int64_t n_steps, n_output_tokens, n_errors;
    double kv_occupancy;
    // Latencies that ended since; seconds.
    const float *itl, *ttft;
    int32_t n_itl, n_ttft;
    // Of requests that ended since: what was asked of the server. A setting does not change it, so that differences
    // between blocks in it can be taken out, which would be wrong of anything that the setting changes.
    int64_t n_ended, n_prompt_tokens, n_answer_tokens;
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

// ERR_INVALID: a value or length that makes no sense, or a guard that the present value breaks already.
int experiment_open(struct experiment **out, const struct experiment_plan *plan, const struct experiment_before *before,
                    struct err *err) __attribute__((warn_unused_result));
void experiment_close(struct experiment *experiment);

// Returns the value that the knob shall have from now on. The first call begins it; what its sample tells was before.
int64_t experiment_tick(struct experiment *experiment, const struct experiment_sample *sample);
void experiment_stop(struct experiment *experiment); // by the operator: back to the present value

struct experiment_state {
    struct experiment_plan plan;
    enum experiment_phase phase;
    int32_t n_pairs;
    struct interval factor;   // new over now, of the metric; confidence sequence of 95 %
    double sign_flip_p;       // exact check of a difference that is claimed; NAN: none is
    double regression_chance; // that it is worse by more than min_effect
    double began_s, ended_s;  // on the clock of the samples
    double exposure_s;        // of it: at value_new
    char reason[200];         // why it ended: "guard: itl p99 41 ms above 30 ms for 3 s"
    double log_ratio[EXPERIMENT_PAIRS_MAX];
    float path_low[EXPERIMENT_PAIRS_MAX], path_high[EXPERIMENT_PAIRS_MAX]; // of `factor` after each pair
};
bool experiment_is_running(const struct experiment *experiment);
void experiment_state(const struct experiment *experiment, struct experiment_state *out);
// A JSON object and a comma behind it (base/json_write.h): "experiment" in tests/advisor/schema.json.
void experiment_json(const struct experiment_state *state, struct str *out);
