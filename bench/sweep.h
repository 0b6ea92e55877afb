// The search for the highest rate that holds: which rate to try next, from what the rates before it did.
//
// From the first rate by doubling (or halving) until one holds and one does not, then by the geometric mean between
// them until they are within SWEEP_FACTOR, then SWEEP_CONFIRMATIONS runs that repeat the highest that held. If fewer
// than two of them hold as well, it was luck: the next lower rate is confirmed instead.
#pragma once

#include <stdbool.h>

enum { SWEEP_CONFIRMATIONS = 3, SWEEP_RUNS_MAX = 32 };
#define SWEEP_FACTOR 1.1

struct sweep_step {
    double rate;
    bool met, confirms;
};

struct sweep {
    double first_rate;
    double held, failed;           // the highest that held, 0: none; the lowest that did not, INFINITY: none
    int n_confirming, n_confirmed; // of the runs that repeat `held`
    int n_steps;
    struct sweep_step steps[SWEEP_RUNS_MAX];
};

void sweep_begin(struct sweep *sweep, double first_rate);
// The rate to run now; false: the search is over, `held` is its answer.
bool sweep_next(const struct sweep *sweep, struct sweep_step *step);
void sweep_tell(struct sweep *sweep, struct sweep_step step); // with `met` filled in
