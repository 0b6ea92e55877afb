// One report of the advisor, and its forms: JSON (versioned; tests/advisor/schema.json), Markdown in the advisor's
// voice, which the terminal shows too.
#pragma once

#include "advisor/economy.h"
#include "advisor/finding.h"
#include "advisor/step_model.h"
#include "base/str.h"

enum { REPORT_SCHEMA = 1 };

// How predictions did: from the record of experiments.
struct track_record {
    int32_t n_predictions, n_covered; // experiments that ended; whose measured effect lay in the predicted range
    int32_t n_kept, n_rolled_back, n_no_difference;
};

struct report {
    int64_t made_wall_s;
    struct evidence evidence;
    struct economy economy;
    struct diagnosis diagnosis;
    struct track_record track;
    double own_share;        // of wall time that measuring and advising took
    struct step_model model; // what evidence.model points to, where that is not NULL: a report is not copied
};

void report_json(const struct report *report, struct str *out);
void report_ledger_json(const struct report *report, struct str *out);   // where the time went, alone
void report_roofline_json(const struct report *report, struct str *out); // a point a phase, and the peaks
void report_markdown(const struct report *report, struct str *out);
