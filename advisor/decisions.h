// The record of experiments: what was predicted and measured, how certainty grew, what was done. One JSON object a
// line, only ever appended; lines that cannot be read are counted and skipped, so that a torn one costs itself alone.
//
// {"optima_decision": 1, "experiment": {...}, "exposure_s": s, "by_itself": bool, "confirms": id or null,
//  "widened": factor, "path": [[low, high] after each pair, ...]}; experiment: as GET /advisor/experiments shows it
//  (advisor/experiment.h).
#pragma once

#include "advisor/experiment.h"
#include "advisor/report.h"

struct decision {
    struct experiment_state state; // began_s and ended_s: seconds since 1970
    bool by_itself;                // begun by --self-tune auto, nobody asked for it
    double widened;                // by decisions_widening when it began; 0: not at all
    char confirms[16];             // id of the experiment whose winner was tested again; or empty
};

struct decisions;

// Reads the last 4 MiB of the file; a file that is not there begins with the first decision. path NULL: memory only.
// ERR_IO: the file cannot be read or written.
int decisions_open(struct decisions **out, const char *path, struct err *err) __attribute__((warn_unused_result));
void decisions_close(struct decisions *decisions);

// Remembers it in any case. ERR_IO: it did not reach the file.
int decisions_add(struct decisions *decisions, const struct decision *decision, struct err *err)
    __attribute__((warn_unused_result));

// The last DECISIONS_MAX; i = 0 is the newest.
enum { DECISIONS_MAX = 256 };
size_t decisions_count(const struct decisions *decisions);
const struct decision *decisions_at(const struct decisions *decisions, size_t i);

int64_t decisions_n_unreadable(const struct decisions *decisions);
int32_t decisions_last_number(const struct decisions *decisions); // of ids like "x17"; 0: none
void decisions_track(const struct decisions *decisions, struct track_record *out);

// By how much predicted ranges must be widened, around their geometric middle, so that four of five of those measured
// so far would have held. 1 with fewer than ten, and while four of five hold as they are.
double decisions_widening(const struct decisions *decisions);
