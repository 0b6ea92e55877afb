#include "scheduler/governor.h"

#include <assert.h>
#include <math.h>

enum {
    REFRESH_STEPS = 128, // after so many, a step without drafts says again how long these take
    STALE_STEPS = 4096,  // after so many, what drafts cost is forgotten
    TRIAL_DRAFTS = 2,
    LAG_STEPS = 32,  // steps that share the cost of catching up
    RATE_PRIOR = 12, // a sequence's own drafts outweigh those of others after so many
};
static const double TRIAL_SHARE = 0.005;     // of all time
static const double TRIAL_STEPS_MIN = 0.05;  // that a trial costs, in steps
static const double RATE_UNKNOWN = 0.6;      // of drafts, before any was seen
static const double ROW_SHARE_UNKNOWN = 0.1; // what a draft's row adds to a step, in shares of a step of one row
static const double WORTH = 1.02;            // less gain is within the noise
static const double RATE_MAX = 0.995;
static const double SLOPE_BEYOND = 0.75;

// Loads of up to eight sequences apart, more of them in ranges.
static int32_t load_of(int32_t n_sequences) {
    static const int32_t bounds[GOVERNOR_LOADS - 1] = {1,  2,  3,  4,  5,  6,  7,  8,  10, 12,  14, 16,
                                                       20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 256};
    int32_t load = 0;
    while (load < GOVERNOR_LOADS - 1 && n_sequences > bounds[load]) load++;
    return load;
}

static int32_t level_of(double drafts_each) {
    static const double bounds[GOVERNOR_LEVELS - 1] = {0, .25, .5, 1, 1.5, 2, 3, 4, 6, 8, 11};
    int32_t level = 0;
    while (level < GOVERNOR_LEVELS - 1 && drafts_each > bounds[level]) level++;
    return level;
}

// ---------------------------------------------------------------------------------------------------- time of steps

static void cell_learn(struct step_cell *cell, double ns, double drafts_each, int64_t now) {
    if (cell->ns.n_samples == 0) cell->drafts_each = drafts_each;
    typical_learn(&cell->ns, ns);
    cell->drafts_each += (drafts_each - cell->drafts_each) / 4;
    cell->last_step = now;
}

static bool is_known(const struct governor *governor, const struct step_cell *cell) {
    return cell->ns.n_samples >= TYPICAL_TRUSTED && governor->n_steps - cell->last_step < STALE_STEPS;
}

// More drafts take no less time, and what disturbs a step makes it longer: what is known of a level is no more than
// what is known of those above it. 0: nothing is.
static double level_ns(const struct governor *governor, const struct step_cell *cells, int32_t level) {
    double ns = 0;
    for (int32_t l = level; l < GOVERNOR_LEVELS; l++)
        if (is_known(governor, &cells[l]) && (ns <= 0 || cells[l].ns.value < ns)) ns = cells[l].ns.value;
    return ns;
}

double governor_step_ns(const struct governor *governor, int32_t n_sequences, int32_t n_drafts) {
    const struct step_cell *cells = governor->cells[load_of(n_sequences)];
    const double drafts_each = (double)n_drafts / n_sequences;
    if (cells[0].ns.n_samples < TYPICAL_TRUSTED) return 0;
    // Between the levels that are known, along a line; beyond them, with less than the slope from no drafts to the
    // last, so that what is not known is tried rather than feared.
    double plain_ns = level_ns(governor, cells, 0);
    if (plain_ns <= 0 || cells[0].ns.value < plain_ns) plain_ns = cells[0].ns.value;
    double low_each = 0, low_ns = plain_ns;
    for (int32_t l = 1; l < GOVERNOR_LEVELS; l++) {
        if (!is_known(governor, &cells[l])) continue;
        double ns = level_ns(governor, cells, l), each = cells[l].drafts_each;
        if (each >= drafts_each) return low_ns + (ns - low_ns) * (drafts_each - low_each) / (each - low_each);
        low_each = each, low_ns = ns;
    }
    double row_ns = governor->draft_row_ns;
    if (row_ns <= 0) row_ns = ROW_SHARE_UNKNOWN * plain_ns / n_sequences;
    if (low_each > 0) row_ns = SLOPE_BEYOND * (low_ns - plain_ns) / (low_each * n_sequences);
    return low_ns + row_ns * (drafts_each - low_each) * n_sequences;
}

static void learn_gain(struct governor *governor, const struct governor_step *step) {
    static const double kept = 1 - 1.0 / 256;
    double plain_ns = governor_step_ns(governor, step->n_sequences, 0);
    if (plain_ns <= 0) return;
    governor->tokens = governor->tokens * kept + step->n_tokens;
    governor->ns =
        governor->ns * kept + governor_step_ns(governor, step->n_sequences, step->n_drafts) + (double)step->draft_ns;
    governor->plain_tokens = governor->plain_tokens * kept + step->n_sequences;
    governor->plain_ns = governor->plain_ns * kept + plain_ns;
}

void governor_learn_step(struct governor *governor, const struct governor_step *step) {
    if (step->n_sequences == 0) return;
    double step_ns = (double)step->step_ns;
    governor->saved_ns += TRIAL_SHARE * step_ns;
    if (step->has_prompts) return;
    governor->n_steps++;
    double each = (double)step->n_drafts / step->n_sequences;
    struct step_cell *cells = governor->cells[load_of(step->n_sequences)];
    cell_learn(&cells[level_of(each)], step_ns, each, governor->n_steps);
    if (step->n_drafts && is_known(governor, &cells[level_of(each)]) && is_known(governor, &cells[0]))
        governor->draft_row_ns =
            fmax(level_ns(governor, cells, level_of(each)) - level_ns(governor, cells, 0), 0) / step->n_drafts;
    learn_gain(governor, step);
}

double governor_gain(const struct governor *governor) {
    if (governor->ns <= 0 || governor->plain_tokens <= 0) return 1;
    return governor->tokens / governor->ns * governor->plain_ns / governor->plain_tokens;
}

// ------------------------------------------------------------------------------------------------------ acceptance

static void acceptance_add(struct acceptance *acceptance, double decay, int32_t n_drafts, int32_t n_kept) {
    acceptance->kept = (float)(acceptance->kept * decay + n_kept);
    acceptance->tried = (float)(acceptance->tried * decay + n_kept + (n_kept < n_drafts));
}

void governor_learn_drafts(struct governor *governor, struct acceptance *own, int32_t strength, int32_t n_drafts,
                           int32_t n_kept) {
    assert(strength >= 0 && strength < DRAFT_STRENGTHS && n_kept <= n_drafts);
    acceptance_add(&own[strength], 0.95, n_drafts, n_kept);
    acceptance_add(&governor->by_strength[strength], 0.99, n_drafts, n_kept);
}

double governor_rate(const struct governor *governor, const struct acceptance *own, int32_t strength) {
    const struct acceptance *all = &governor->by_strength[strength];
    double rate = (all->kept + RATE_UNKNOWN) / (all->tried + 1);
    rate = (own[strength].kept + RATE_PRIOR * rate) / (own[strength].tried + RATE_PRIOR);
    return fmin(rate, RATE_MAX);
}

// ---------------------------------------------------------------------------------------------------------- choice

// Tokens that a sequence gets with n drafts: 1 + rate + rate^2 + ...
static double expected_tokens(double rate, int32_t n) {
    return (1 - pow(rate, n + 1)) / (1 - rate);
}

// The drafts of a candidate that are kept with probability `least` or more.
static int32_t drafts_above(const struct governor_candidate *candidate, double least) {
    if (candidate->rate < least) return 0;
    double n = log(least) / log(candidate->rate);
    return n >= candidate->n_max ? candidate->n_max : (int32_t)n;
}

struct outcome {
    double tokens, ns;
    int32_t n_drafts;
};

static double drafting_ns(const struct governor_candidate *candidates, int32_t n, double least,
                          const struct draft_cost *cost) {
    double ns = 0;
    if (!cost->round_ns) return 0;
    for (int32_t i = 0; i < n; i++)
        if (drafts_above(&candidates[i], least)) ns += candidates[i].lag * cost->row_ns / LAG_STEPS;
    for (int32_t round = 1; round <= DRAFTS_MAX; round++) {
        int32_t n_drafting = 0;
        for (int32_t i = 0; i < n; i++) n_drafting += drafts_above(&candidates[i], least) >= round;
        if (n_drafting == 0) break;
        ns += cost->round_ns(cost->context, n_drafting);
    }
    return ns;
}

// What comes of giving everybody the drafts that are kept with probability `least` or more.
static struct outcome foresee(const struct governor *governor, const struct governor_candidate *candidates, int32_t n,
                              int32_t n_sequences, double least, const struct draft_cost *cost) {
    struct outcome outcome = {.tokens = n_sequences - n};
    for (int32_t i = 0; i < n; i++) {
        int32_t n_drafts = drafts_above(&candidates[i], least);
        outcome.n_drafts += n_drafts;
        outcome.tokens += expected_tokens(candidates[i].rate, n_drafts);
    }
    outcome.ns = governor_step_ns(governor, n_sequences, outcome.n_drafts) + drafting_ns(candidates, n, least, cost);
    return outcome;
}

static const double NEVER = 2; // a probability that no draft reaches

static double choose_least(const struct governor *governor, const struct governor_candidate *candidates, int32_t n,
                           int32_t n_sequences, const struct draft_cost *cost) {
    static const double leasts[] = {.95, .9, .85, .8, .75, .7, .65, .6, .55, .5,
                                    .45, .4, .35, .3, .25, .2, .15, .1, .05};
    double best_least = NEVER, best = WORTH * n_sequences / governor_step_ns(governor, n_sequences, 0);
    int32_t n_drafts_before = 0;
    for (size_t i = 0; i < sizeof leasts / sizeof *leasts; i++) {
        struct outcome outcome = foresee(governor, candidates, n, n_sequences, leasts[i], cost);
        if (outcome.n_drafts == n_drafts_before) continue;
        n_drafts_before = outcome.n_drafts;
        if (outcome.tokens / outcome.ns <= best) continue;
        best = outcome.tokens / outcome.ns;
        best_least = leasts[i];
    }
    return best_least;
}

// One sequence, another one each time, gets drafts although they are not expected to pay, when what that may lose has
// been saved.
static void try_one(struct governor *governor, struct governor_candidate *candidates, int32_t n, int32_t n_sequences,
                    const struct draft_cost *cost) {
    struct governor_candidate *candidate = &candidates[governor->n_trials % n];
    int32_t n_drafts = candidate->n_max < TRIAL_DRAFTS ? candidate->n_max : TRIAL_DRAFTS;
    double plain_ns = governor_step_ns(governor, n_sequences, 0);
    // Times are not known well enough to call a trial free.
    double ns = fmax(governor_step_ns(governor, n_sequences, n_drafts) - plain_ns, TRIAL_STEPS_MIN * plain_ns);
    if (cost->round_ns) ns += n_drafts * cost->round_ns(cost->context, 1) + candidate->lag * cost->row_ns;
    if (n_drafts <= 0 || ns > governor->saved_ns) {
        // Who cannot, or costs too much, lets others try.
        if (n_drafts <= 0 || ns > 64 * governor->saved_ns) governor->n_trials++;
        return;
    }
    governor->saved_ns -= ns;
    governor->n_trials++;
    candidate->n = n_drafts;
}

void governor_choose(struct governor *governor, struct governor_candidate *candidates, int32_t n_candidates,
                     int32_t n_sequences, const struct draft_cost *cost) {
    assert(n_candidates <= n_sequences);
    for (int32_t i = 0; i < n_candidates; i++) candidates[i].n = 0;
    const struct step_cell *plain = &governor->cells[load_of(n_sequences)][0];
    // Without knowing what a step takes that has no drafts, nothing can be compared.
    if (n_candidates == 0 || plain->ns.n_samples < TYPICAL_TRUSTED ||
        governor->n_steps - plain->last_step > REFRESH_STEPS)
        return;
    double least = choose_least(governor, candidates, n_candidates, n_sequences, cost);
    for (int32_t i = 0; i < n_candidates; i++) candidates[i].n = drafts_above(&candidates[i], least);
    if (least >= NEVER) try_one(governor, candidates, n_candidates, n_sequences, cost);
}
