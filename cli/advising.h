// The advisor of a server that is being opened: what it must know of model, engine and options, and where its numbers
// come from.
#pragma once

#include "advisor/advisor.h"

struct serving;

// What the operator says.
struct advising_options {
    double price_per_hour;   // of the machine; 0: not said
    double power_price;      // of a kilowatt-hour; 0: not said
    const char *objectives;  // "ttft=200ms,itl=50ms"; NULL: none
    const char *record_path; // of decisions; NULL: kept in memory
    const char *peaks_path;  // where measured peaks are kept; NULL: in the user's cache folder; empty: nowhere
    enum self_tune self_tune;
};

// Everything else is open and runs. The advisor is closed before the step loop.
int advising_open(struct advisor **out, struct serving *serving, struct err *err) __attribute__((warn_unused_result));
// ERR_INVALID: an objective is not like ttft=200ms.
int advising_check(const struct advising_options *options, struct err *err) __attribute__((warn_unused_result));
