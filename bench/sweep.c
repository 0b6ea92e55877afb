#include "bench/sweep.h"

#include <assert.h>
#include <math.h>

enum { DOUBLINGS_MAX = 14, HALVINGS_MAX = 7 };

void sweep_begin(struct sweep *sweep, double first_rate) {
    *sweep = (struct sweep){.first_rate = first_rate, .failed = INFINITY};
}

bool sweep_next(const struct sweep *sweep, struct sweep_step *step) {
    *step = (struct sweep_step){.rate = sweep->first_rate};
    if (sweep->n_steps == 0) return true;
    if (sweep->n_steps == SWEEP_RUNS_MAX) return false;
    if (sweep->held == 0) {
        step->rate = sweep->failed / 2;
        return sweep->n_steps <= HALVINGS_MAX;
    }
    if (isinf(sweep->failed)) {
        step->rate = sweep->held * 2;
        if (sweep->n_steps <= DOUBLINGS_MAX) return true;
    }
    if (isfinite(sweep->failed) && sweep->failed / sweep->held > SWEEP_FACTOR && sweep->n_confirming == 0) {
        step->rate = sqrt(sweep->held * sweep->failed);
        return true;
    }
    step->rate = sweep->held;
    step->confirms = true;
    return sweep->n_confirming < SWEEP_CONFIRMATIONS;
}

void sweep_tell(struct sweep *sweep, struct sweep_step step) {
    assert(sweep->n_steps < SWEEP_RUNS_MAX);
    sweep->steps[sweep->n_steps++] = step;
    if (!step.confirms) {
        if (step.met)
            sweep->held = step.rate;
        else
            sweep->failed = step.rate;
        return;
    }
    sweep->n_confirming++;
    sweep->n_confirmed += step.met;
    if (sweep->n_confirming - sweep->n_confirmed < 2) return;
    // Two of three did not hold: a little lower, which is tried as often.
    sweep->failed = sweep->held;
    sweep->held /= SWEEP_FACTOR;
    sweep->n_confirming = sweep->n_confirmed = 0;
}
