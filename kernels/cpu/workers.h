// How many workers compute a step: as many as its work is worth, but one where the cores are needed elsewhere.
//
// Workers meet at barriers many times a step. When the system takes a core away from one of them for a few
// milliseconds, all wait, and one worker alone would have been faster. The answers are the same for any number, so it
// may change at any step.
#pragma once

#include <stdint.h>

// Paces are measured time over estimated time, smoothed; 0: not known.
struct worker_choice {
    double pace_many, pace_one;
    int64_t n_steps;    // that many workers were worth
    int64_t last_trial; // of those, the last that tried the other number
};

// cost_ns: of the step, on one worker. n_max: workers there are.
int workers_choose(struct worker_choice *choice, double cost_ns, int n_max);
// What the step took with n workers.
void workers_learn(struct worker_choice *choice, double cost_ns, int n, double took_ns);
