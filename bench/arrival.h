// When requests are due in an open loop: a random process that knows nothing of the server.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct arrival {
    double first_rate, last_rate; // requests/s; they differ in a ramp
    double ramp_s;                // over which the rate goes from first to last; it stays there
    double burstiness; // shape of the gamma distribution of gaps: 1 is Poisson's process, less is more bursty
    bool constant;     // gaps are equal
    uint64_t key, index;
    double at_s; // of the request before
};

// "12", or "2..40" for a ramp over `ramp_s`.
int arrival_parse(struct arrival *out, const char *rate, double ramp_s, double burstiness, bool constant, uint64_t seed,
                  struct err *err) __attribute__((warn_unused_result));
// Seconds from the beginning at which the next request is due.
double arrival_next(struct arrival *arrival);
