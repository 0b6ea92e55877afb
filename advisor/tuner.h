// Who runs experiments on this server: one at a time, only when the server is in a state that can tell something, with
// a budget a day, and with every value back where it was unless it proved better.
//
// off: refuses. suggest: runs what it is asked for. auto: takes the first finding that a live setting would answer,
// keeps what proved better and tests it again at least an hour later.
//
// It is fed with what the server does and ticked once a second; there is no clock inside. Thread: one at a time.
#pragma once

#include "advisor/advisor.h"
#include "advisor/decisions.h"
#include "advisor/finding.h"
#include "engine/step_record.h"

struct tuner;

struct tuner_options {
    enum self_tune mode;
    struct knob_driver knobs;
    const char *record_path;              // NULL: in memory only
    double objective_ttft, objective_itl; // seconds; NAN: none
    int32_t n_blocks;                     // of the KV cache
};

// ERR_IO: the record cannot be read or written.
int tuner_open(struct tuner **out, const struct tuner_options *options, struct err *err)
    __attribute__((warn_unused_result));
void tuner_close(struct tuner *tuner); // an experiment that runs is stopped, its value goes back

// What happened since the last tick.
void tuner_note_steps(struct tuner *tuner, const struct step_record *records, size_t n);
void tuner_note_requests(struct tuner *tuner, const struct request_trace *traces, size_t n);
void tuner_note_gaps(struct tuner *tuner, const float *seconds, size_t n);

// Once a second. at_s: any steady clock; wall_s: since 1970.
void tuner_tick(struct tuner *tuner, double at_s, double wall_s, const struct advisor_sample *sample, bool throttled);

// What the rules say now: with auto, the next experiment may begin.
void tuner_consider(struct tuner *tuner, const struct diagnosis *diagnosis);

int tuner_check_mode(enum self_tune mode, struct err *err) __attribute__((warn_unused_result)); // ERR_UNSUPPORTED: off
// Fills in the plan's id and present value. ERR_UNSUPPORTED: off; ERR_BUSY: one is running; ERR_INVALID: the reason why
// not, or not now.
int tuner_begin(struct tuner *tuner, struct experiment_plan *plan, struct err *err) __attribute__((warn_unused_result));

// Stops the running experiment, or takes back a value that was kept. ERR_NOT_FOUND: there is no such experiment;
// ERR_INVALID: it has ended, and there is nothing to take back.
int tuner_stop(struct tuner *tuner, const char *id, struct err *err) __attribute__((warn_unused_result));

// The running one and then those of the record, newest first. Returns how many were written.
size_t tuner_experiments(const struct tuner *tuner, struct experiment_state *out, size_t n);
const struct decisions *tuner_decisions(const struct tuner *tuner);
