// The last ten minutes in tallies of about a second each: fixed memory, whatever the load.
//
// A second ends when tally_close_second is called. Steps that cross its end, or come late, count where they ran; so a
// window ends with the last second of which everything is known. Times are clock_now_ns. Thread: one at a time.
#pragma once

#include "advisor/advisor.h"
#include "advisor/machine.h"
#include "advisor/sketch.h"
#include "advisor/time_ledger.h"

enum { TALLY_SECONDS = 600, TALLY_REQUESTS = 8192 };

// Steps of one kind, added up.
struct step_sums {
    double n_steps, step_s; // step_s: each step's time as the oldest on the device
    double rows, prompt_rows, recomputed_rows, draft_rows, accepted, sequences, decoding, logit_rows, context;
    double weight_bytes, head_bytes, kv_bytes, kv_bytes_decode;
    double linear_flops, attention_flops, attention_flops_decode, head_flops, palm_flops;
};

// Sums over a second, or over a window.
struct tally_sums {
    double wall_s, lost_s; // lost_s: of wall_s, time whose records were lost
    double seconds[TIME_LINES];
    struct step_sums steps[STEP_KINDS];
    double steps_full;                       // that ran as many sequences as may run
    double drafted_steps, drafted_sequences; // decoding steps with drafts, and sequences that decode in them
    double draft_s, gap_s;
    double running_s, waiting_s, queued_s; // sequences times seconds; seconds in which some waited
    double blocks_s, busy_s;               // blocks in use times seconds; seconds with work
    double blocks_max;
    double n_preempted;
    double n_finished, n_failed, residence_s;
    double good_tokens, n_good; // of requests that met the objectives
    double n_gap_tokens;
};

struct tally;
struct tally *tally_open(uint64_t now_ns); // never NULL
void tally_close(struct tally *tally);
size_t tally_bytes(void);

struct tally_limits {
    double sequences;                     // that may run at once
    double objective_ttft, objective_itl; // seconds; NAN: none
};

// One more step, in the order of tickets. n_lost: records before it that were lost. Returns the seconds for which it
// was the oldest step on the device.
double tally_step(struct tally *tally, struct time_split *split, const struct step_record *record, uint64_t n_lost,
                  const struct tally_limits *limits);
void tally_request(struct tally *tally, const struct request_trace *trace, const struct tally_limits *limits);
// gaps: counts since the last call, of steps without and with prompt rows.
void tally_gaps(struct tally *tally, const uint32_t gaps[2][SKETCH_BUCKETS], double n_tokens);

// Ends the present second. A sample without sequences says that no step is running.
void tally_close_second(struct tally *tally, uint64_t now_ns, const struct advisor_sample *sample,
                        const struct machine_counters *machine);

// The last seconds of which everything is known, at most about window_s.
struct tally_window {
    int32_t n_seconds, first; // of them; which is the first, for tally_second
    double begin_s, end_s;    // since tally_open
    struct tally_sums sums;
    struct advisor_sample sample_before, sample_after;
    struct machine_counters machine_before, machine_after;
    struct sketch gaps[2], ttft, e2e, queue;
};
bool tally_window(const struct tally *tally, double window_s, struct tally_window *out); // false: there are none

// Second i of a window: 0 .. n_seconds-1, and -1 for the one before.
struct tally_second {
    double begin_s, end_s;
    struct tally_sums sums;
    struct advisor_sample sample; // at its end
    struct machine_counters machine;
    uint32_t gaps[2][SKETCH_BUCKETS];
    uint16_t ttft[SKETCH_BUCKETS], e2e[SKETCH_BUCKETS], queue[SKETCH_BUCKETS];
    double ttft_sum, n_ttft;
};
const struct tally_second *tally_second(const struct tally *tally, const struct tally_window *window, int32_t i);

// Requests that ended within the window, newest first, at most n; those beyond the last TALLY_REQUESTS are forgotten.
size_t tally_requests(const struct tally *tally, const struct tally_window *window, struct request_trace *out,
                      size_t n);
