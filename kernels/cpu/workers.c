#include "kernels/cpu/workers.h"

#include <stdbool.h>

static const double WORTH_NS = 300e3;    // of one worker's time, to wake another
static const double LONG_STEP_NS = 50e6; // of one worker's time: too long to try what may be slower
static const double SMOOTHING = 0.25;
// One worker is tried so seldom that it costs little where many are better; many are tried again more often.
enum { TRY_ONE_EVERY = 256, TRY_MANY_EVERY = 32 };

static int worth(double cost_ns, int n_max) {
    return cost_ns / WORTH_NS < n_max ? (int)(cost_ns / WORTH_NS) + 1 : n_max;
}

int workers_choose(struct worker_choice *choice, double cost_ns, int n_max) {
    int n = worth(cost_ns, n_max);
    if (n == 1 || cost_ns > LONG_STEP_NS) return n;
    choice->n_steps++;
    bool one = choice->pace_one > 0 && choice->pace_one < choice->pace_many;
    if (choice->n_steps - choice->last_trial >= (one ? TRY_MANY_EVERY : TRY_ONE_EVERY)) {
        choice->last_trial = choice->n_steps;
        one = !one;
    }
    return one ? 1 : n;
}

static void smooth(double *pace, double now) {
    *pace = *pace > 0 ? *pace + SMOOTHING * (now - *pace) : now;
}

void workers_learn(struct worker_choice *choice, double cost_ns, int n, double took_ns) {
    if (cost_ns < WORTH_NS || cost_ns > LONG_STEP_NS) return;
    smooth(n > 1 ? &choice->pace_many : &choice->pace_one, took_ns / cost_ns);
}
