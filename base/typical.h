// A running typical value, which outliers hardly move: durations on a machine that others use too.
#pragma once

#include <stdint.h>

struct typical {
    double value;
    int64_t n_samples;
};

enum { TYPICAL_TRUSTED = 4 }; // fewer samples may all be outliers: the smallest counts

static inline void typical_learn(struct typical *typical, double sample) {
    static const double step_max = 0.06, share = 0.35;
    double change = sample - typical->value, most = step_max * typical->value;
    if (typical->n_samples++ < TYPICAL_TRUSTED) {
        if (typical->n_samples == 1 || change < 0) typical->value = sample;
        return;
    }
    if (change > most) change = most;
    if (change < -most) change = -most;
    typical->value += share * change;
}
