// The advisor of a running server: measures, locates, suggests, verifies.
//
// It has a thread of its own, which wakes ten times a second, takes new step records and once a second reads the
// machine. It costs under a hundredth of the time. Nothing here is on the path of a step. All functions: any thread.
#pragma once

#include "advisor/experiment.h"
#include "advisor/report.h"
#include "base/err.h"
#include "engine/step_record.h"
#include "kernels/backend.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct advisor;

// What the server's counters said at one moment; those with _total only grow.
struct advisor_sample {
    int32_t n_running, n_waiting, n_blocks_used, n_connections;
    uint64_t n_rejected_total, n_failed_total, n_preemptions_total;
    uint64_t n_prompt_tokens_total, n_cached_tokens_total, n_generated_tokens_total, n_recomputed_tokens_total;
    uint64_t n_prefix_queries_total, n_prefix_hits_total, n_prefix_ideal_total, n_prefix_evicted_total;
    uint64_t n_events_total, n_streams_total, n_streams_blocked_total;
    uint64_t loop_busy_ns_total, text_busy_ns_total; // of the HTTP thread and of the text workers
    int32_t n_text_threads;
    uint64_t idle_ns_total;    // time in which the step loop rested without work; grows while it rests
    int64_t n_slots, n_tokens; // of the blocks that sequences use: places, and those that hold a token
    // Prompts that were looked up in the prefix cache; of these, those that differ from an earlier prompt within its
    // first 256 tokens after sharing a block with it; and where that is, of late (NAN: not known).
    uint64_t n_lookups_total, n_early_divergences_total;
    double divergence_token;
    // An n-gram proposer that only watches: decoded tokens that it saw, its guesses for them, and right ones.
    uint64_t n_shadow_tokens_total, n_shadow_guesses_total, n_shadow_hits_total;
    double speculation_gain, speculation_gain_best; // NAN: not known
};

// Where the numbers come from: the server's parts behind a table.
struct advisor_source {
    void *context;
    // Step records newer than those taken before, oldest first; adds to *n_lost those that the ring no longer had.
    size_t (*take_records)(void *context, struct step_record *out, size_t n, uint64_t *n_lost);
    void (*sample)(void *context, struct advisor_sample *out); // once a second
    // Peaks of the device, which the step loop measures once it has had nothing to do for a second; the first call asks
    // for that, and requests that come meanwhile wait. False: not measured yet. NULL: this device cannot.
    bool (*measure_peaks)(void *context, struct backend_peaks *out);
    struct knob_driver knobs;
};

enum self_tune { SELF_TUNE_OFF, SELF_TUNE_SUGGEST, SELF_TUNE_AUTO };

struct advisor_options {
    struct setup setup; // prices and objectives included
    struct advisor_source source;
    const char *record_path; // append-only record of decisions, JSON lines; NULL: in memory only
    const char *peaks_path;  // where measured peaks are kept; NULL: in the user's cache folder; empty: nowhere
    enum self_tune self_tune;
};

int advisor_open(struct advisor **out, const struct advisor_options *options, struct err *err)
    __attribute__((warn_unused_result)); // starts the thread
void advisor_close(struct advisor *advisor);

// What a choice lived through. Times: clock_now_ns; 0: that moment never came.
struct request_trace {
    uint64_t arrived_ns, scheduled_ns, first_token_ns, last_token_ns, finished_ns;
    int32_t n_prompt, n_cached, n_generated, n_max;
    bool failed;
};
// A refused request is not a trace: the sample counts it.
void advisor_note_request(struct advisor *advisor, const struct request_trace *trace);
void advisor_note_gap(struct advisor *advisor, uint64_t gap_ns, bool with_prompt,
                      int32_t n_tokens); // between tokens of a stream

// The report over the last window_s seconds (10 .. 600). False: nothing was measured yet. Takes under 2 ms.
bool advisor_report(struct advisor *advisor, double window_s, struct report *out);

// One point of history; the last 600 seconds, a point a second, oldest first. Returns how many were written.
struct history_point {
    double age_s, output_rate, input_rate, ttft_p50, itl_p50, itl_p99, running, waiting, kv_occupancy, mfu, mbu, watts;
};
size_t advisor_history(struct advisor *advisor, struct history_point *out, size_t n);

// Whether experiments may be asked for. ERR_UNSUPPORTED: --self-tune is off.
int advisor_experiment_check(const struct advisor *advisor, struct err *err) __attribute__((warn_unused_result));
// Begins an experiment on live traffic. plan->id is filled in. ERR_INVALID: the reason; ERR_BUSY: one is running;
// ERR_UNSUPPORTED: --self-tune is off.
int advisor_experiment_begin(struct advisor *advisor, struct experiment_plan *plan, struct err *err)
    __attribute__((warn_unused_result));
int advisor_experiment_stop(struct advisor *advisor, const char *id, struct err *err) // back to the value before
    __attribute__((warn_unused_result));
// The running or else the last ones, newest first. Returns how many were written.
size_t advisor_experiments(struct advisor *advisor, struct experiment_state *out, size_t n);
