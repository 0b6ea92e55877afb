// The governor against worlds whose step times and acceptance are known: what it reaches is compared with the best
// fixed number of drafts, computed from the same formulas.
#include "tests/test.h"

#include "base/rng.h"
#include "scheduler/governor.h"

#include <math.h>

enum { STEPS = 4000, SEQUENCES_MAX = 64 };

struct world {
    const char *what;
    int32_t n_sequences;
    double step_ns, row_ns; // a step: fixed part, and each row
    double rate;            // of every draft
    double round_ns;        // of drafting for all; 0: drafts cost nothing
    bool is_shared;         // with others, who take the processor away for some 20 ms now and then
    double noise;           // +- of each time
};

static double plain_ns(const struct world *world, int32_t n_drafts) {
    return world->step_ns + world->row_ns * (world->n_sequences + n_drafts);
}

static double round_ns(const void *context, int32_t n_sequences) {
    const struct world *world = context;
    (void)n_sequences;
    return world->round_ns;
}

// Tokens a nanosecond with k drafts for each sequence.
static double speed(const struct world *world, int32_t k) {
    double tokens = 0;
    for (int32_t i = 0; i <= k; i++) tokens += pow(world->rate, i);
    return tokens * world->n_sequences / (plain_ns(world, k * world->n_sequences) + k * world->round_ns);
}

static double best_speed(const struct world *world) {
    double best = 0;
    for (int32_t k = 0; k <= DRAFTS_MAX; k++) best = fmax(best, speed(world, k));
    return best;
}

struct crowd {
    struct acceptance acceptance[SEQUENCES_MAX][DRAFT_STRENGTHS];
    double tokens, ns; // of all steps so far
    uint64_t n_draws;
};

static double uniform(struct crowd *crowd) {
    return rng_u32(rng_key(5, 0, 0), crowd->n_draws++) / 4294967296.0;
}

static int32_t keep(struct crowd *crowd, double rate, int32_t n) {
    int32_t n_kept = 0;
    while (n_kept < n && uniform(crowd) < rate) n_kept++;
    return n_kept;
}

// The time of a step as it is seen.
static double disturb(const struct world *world, struct crowd *crowd, double ns) {
    double seen = ns * (1 + world->noise * (2 * uniform(crowd) - 1));
    if (world->noise > 0 && uniform(crowd) < 0.03) seen *= 3;
    // Longer steps are interrupted more often.
    if (world->is_shared && uniform(crowd) < ns / 6e6) seen += 5e6 + 25e6 * uniform(crowd);
    return seen;
}

static void run_step(struct governor *governor, const struct world *world, struct crowd *crowd) {
    struct governor_candidate candidates[SEQUENCES_MAX];
    struct draft_cost cost = {world->round_ns > 0 ? round_ns : NULL, 0, world};
    int32_t n = world->n_sequences, longest = 0;
    for (int32_t i = 0; i < n; i++)
        candidates[i] =
            (struct governor_candidate){.n_max = DRAFTS_MAX, .rate = governor_rate(governor, crowd->acceptance[i], 0)};
    governor_choose(governor, candidates, n, n, &cost);
    struct governor_step step = {.n_sequences = n};
    for (int32_t i = 0; i < n; i++) {
        step.n_drafts += candidates[i].n;
        if (candidates[i].n > longest) longest = candidates[i].n;
        int32_t n_kept = keep(crowd, world->rate, candidates[i].n);
        step.n_tokens += 1 + n_kept;
        if (candidates[i].n) governor_learn_drafts(governor, crowd->acceptance[i], 0, candidates[i].n, n_kept);
    }
    double ns = plain_ns(world, step.n_drafts);
    crowd->tokens += step.n_tokens;
    crowd->ns += ns + longest * world->round_ns;
    step.step_ns = (uint64_t)disturb(world, crowd, ns);
    step.draft_ns = (uint64_t)(longest * world->round_ns);
    governor_learn_step(governor, &step);
}

static void it_reaches_nearly_the_best_and_never_loses(void **state) {
    (void)state;
    static const struct world worlds[] = {
        {"rows are free, one stream", 1, 1e6, 1e3, 0.7, 0, false, 0},
        {"rows are free, sure drafts", 1, 1e6, 1e3, 0.97, 0, false, 0.1},
        {"rows are free, bad drafts", 1, 1e6, 1e3, 0.02, 0, false, 0.1},
        {"rows cost a tenth", 8, 1e6, 1e5, 0.6, 0, false, 0.1},
        {"rows cost what a step costs", 1, 1e5, 1e6, 0.9, 0, false, 0.1},
        {"a crowd that fills the machine", 32, 1e5, 1e5, 0.5, 0, false, 0.1},
        {"a crowd with sure drafts", 32, 1e6, 1e5, 0.95, 0, false, 0.1},
        {"a draft model, one stream", 1, 1e6, 3e4, 0.7, 1e5, false, 0.1},
        {"a draft model that is too slow", 1, 1e6, 1e5, 0.6, 9e5, false, 0.1},
        {"a draft model and eight streams", 8, 1e6, 6e4, 0.7, 1.5e5, false, 0.1},
        {"a draft model in a full house", 64, 1e5, 1e5, 0.7, 5e5, false, 0.1},
        {"a draft model, one stream, a shared machine", 1, 0.6e6, 0.5e5, 0.75, 1e5, true, 0.1},
        {"a draft model, four streams, a shared machine", 4, 0.6e6, 1e5, 0.75, 1.3e5, true, 0.1},
        {"a draft model in a crowd, a shared machine", 8, 0.6e6, 2e5, 0.75, 2e5, true, 0.1},
    };
    for (size_t w = 0; w < sizeof worlds / sizeof *worlds; w++) {
        const struct world *world = &worlds[w];
        static struct governor governor;
        static struct crowd crowd;
        memset(&governor, 0, sizeof governor);
        memset(&crowd, 0, sizeof crowd);
        for (int i = 0; i < STEPS; i++) run_step(&governor, world, &crowd);
        double reached = crowd.tokens / crowd.ns, best = best_speed(world), off = speed(world, 0);
        if (reached < 0.98 * off) fail_msg("%s: %.3f of the speed without drafts", world->what, reached / off);
        // A few hundredths go to trials, and to what noise makes look worth it.
        if (reached - off < 0.9 * (best - off) - (world->is_shared ? 0.05 : 0.03) * off)
            fail_msg("%s: gains %.3f of %.3f", world->what, reached / off, best / off);
        // The gain that it reports is about the one that was had lately.
        double gain = governor_gain(&governor);
        if (fabs(gain - reached / off) > 0.12 * reached / off)
            fail_msg("%s: reports a gain of %.3f; it was %.3f", world->what, gain, reached / off);
    }
}

// Drafts that were useless become useful, and useless again.
static void a_change_is_noticed(void **state) {
    (void)state;
    struct world world = {"changing", 4, 1e6, 2e4, 0.03, 0, false, 0.05};
    static struct governor governor;
    static struct crowd crowd;
    for (int i = 0; i < STEPS; i++) run_step(&governor, &world, &crowd);
    world.rate = 0.9;
    for (int i = 0; i < STEPS; i++) run_step(&governor, &world, &crowd);
    struct crowd before = crowd;
    for (int i = 0; i < STEPS / 4; i++) run_step(&governor, &world, &crowd);
    double reached = (crowd.tokens - before.tokens) / (crowd.ns - before.ns);
    assert_true(reached > 0.9 * best_speed(&world));
    world.rate = 0.02;
    for (int i = 0; i < 200; i++) run_step(&governor, &world, &crowd);
    before = crowd;
    for (int i = 0; i < STEPS; i++) run_step(&governor, &world, &crowd);
    reached = (crowd.tokens - before.tokens) / (crowd.ns - before.ns);
    assert_true(reached > 0.985 * speed(&world, 0));
}

static void the_first_steps_have_no_drafts(void **state) {
    (void)state;
    struct governor governor = {0};
    struct governor_candidate candidate = {.n_max = 4, .rate = 0.9, .n = 9};
    governor_choose(&governor, &candidate, 1, 1, &(struct draft_cost){0});
    assert_int_equal(candidate.n, 0);
    assert_true(governor_gain(&governor) == 1);
}

// Of two sequences, the one whose drafts are kept has them.
static void who_is_right_gets_drafts(void **state) {
    (void)state;
    struct governor governor = {0};
    struct acceptance good[DRAFT_STRENGTHS] = {0}, bad[DRAFT_STRENGTHS] = {0};
    for (int i = 0; i < 20; i++) {
        governor_learn_step(&governor, &(struct governor_step){.n_sequences = 2, .n_tokens = 2, .step_ns = 1000000});
        governor_learn_step(
            &governor, &(struct governor_step){.n_sequences = 2, .n_drafts = 4, .n_tokens = 2, .step_ns = 1800000});
        governor_learn_drafts(&governor, good, 0, 4, 4);
        governor_learn_drafts(&governor, bad, 0, 4, 0);
    }
    struct governor_candidate candidates[] = {{.n_max = 4, .rate = governor_rate(&governor, good, 0)},
                                              {.n_max = 4, .rate = governor_rate(&governor, bad, 0)}};
    governor_choose(&governor, candidates, 2, 2, &(struct draft_cost){0});
    assert_int_equal(candidates[0].n, 4);
    assert_int_equal(candidates[1].n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_reaches_nearly_the_best_and_never_loses),
        cmocka_unit_test(a_change_is_noticed),
        cmocka_unit_test(the_first_steps_have_no_drafts),
        cmocka_unit_test(who_is_right_gets_drafts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
