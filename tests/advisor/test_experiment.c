// Experiments on servers whose truth is known, second by second: how often they claim what is not so, how often they
// find what is, and how fast they let go.
#include "tests/test.h"

#include "advisor/experiment.h"
#include "base/rng.h"

#include <math.h>

static double quantiles[RNG_QUANTILES];

static int make_quantiles(void **state) {
    (void)state;
    for (int i = 0; i < RNG_QUANTILES; i++) quantiles[i] = rng_normal_quantile((i + 0.5) / RNG_QUANTILES);
    return 0;
}

static double normal(uint64_t seed, uint64_t what, uint64_t i) {
    return quantiles[rng_quantile(rng_key(seed, what, 0), i)];
}

// A server that makes 400 tokens a second for 8 streams, more or less.
struct world {
    uint64_t seed;
    double correlation, deviation; // of the logarithm of speed, from second to second; deviation: over all time
    double drift;                  // of the logarithm, a second
    double effect;                 // of the new value on the logarithm
    double mix_deviation;          // of the logarithm of the prompts' length, a second; speed follows it
    double answer_deviation;       // of the logarithm of single gaps
};

enum { GAPS = 24, NOW = 4, NEW = 8 };

struct run {
    struct experiment *experiment;
    struct world world;
    uint64_t second;
    double log_speed;
    int64_t value;
    float gaps[GAPS], ttft[4];
};

static const struct experiment_before quiet_before = {
    .itl_p99_s = 0.055,
    .ttft_p99_s = 0.2,
    .e2e_p95_s = 1,
    .kv_occupancy_max = 0.5,
    .objective_itl_s = NAN,
    .objective_ttft_s = NAN,
    .prompt_token_s = 1e-4,
    .output_token_s = 2.5e-3,
};

static struct experiment_plan plan_of(enum experiment_metric metric, uint64_t seed) {
    return (struct experiment_plan){
        .knob = KNOB_SEQUENCES, .value_now = NOW, .value_new = NEW, .metric = metric, .seed = seed};
}

static void begin(struct run *run, const struct world *world, const struct experiment_plan *plan) {
    struct err err = {0};
    *run = (struct run){.world = *world, .value = NOW};
    run->log_speed = world->deviation * normal(world->seed, 0, 0);
    assert_int_equal(experiment_open(&run->experiment, plan, &quiet_before, &err), 0);
}

static struct experiment_sample second_of(struct run *run) {
    const struct world *w = &run->world;
    const uint64_t s = ++run->second;
    const double new = run->value == NEW ? w->effect : 0;
    run->log_speed = w->correlation * run->log_speed +
                     w->deviation * sqrt(1 - w->correlation * w->correlation) * normal(w->seed, 1, s);
    const double mix = w->mix_deviation * normal(w->seed, 2, s / 20), prompt = 100 * exp(mix);
    // A token's time is that of its decoding and of its part of a prompt.
    const double work = (1e-4 * prompt / 32 + 2.5e-3) / (1e-4 * 100 / 32 + 2.5e-3);
    const double log_speed = run->log_speed + w->drift * (double)s + new - log(work), speed = exp(log_speed);
    for (uint64_t i = 0; i < GAPS; i++) {
        const double apart = w->answer_deviation > 0 ? w->answer_deviation * normal(w->seed, 3, s * GAPS + i) : 0;
        run->gaps[i] = (float)(0.02 / speed * (apart == 0 ? 1 : exp(apart)));
    }
    for (uint64_t i = 0; i < 4; i++) run->ttft[i] = (float)(0.1 / speed);
    return (struct experiment_sample){.at_s = (double)s,
                                      .since_s = 1,
                                      .n_steps = 50,
                                      .n_output_tokens = (int64_t)(400 * speed + 0.5),
                                      .kv_occupancy = 0.5,
                                      .itl = run->gaps,
                                      .n_itl = GAPS,
                                      .ttft = run->ttft,
                                      .n_ttft = 4,
                                      .n_ended = 12,
                                      .n_prompt_tokens = (int64_t)(12 * prompt),
                                      .n_answer_tokens = 12 * 32};
}

static struct experiment_state to_the_end(struct run *run) {
    struct experiment_state state;
    do {
        const struct experiment_sample sample = second_of(run);
        run->value = experiment_tick(run->experiment, &sample);
        assert_true(run->second < 20000);
    } while (experiment_is_running(run->experiment));
    experiment_state(run->experiment, &state);
    experiment_close(run->experiment);
    return state;
}

// Runs `n` experiments of one kind; counts how they ended.
static void count(const struct world *kind, enum experiment_metric metric, int n, int phases[8], double *pairs) {
    memset(phases, 0, 8 * sizeof *phases);
    *pairs = 0;
    for (int i = 0; i < n; i++) {
        struct world world = *kind;
        world.seed = (uint64_t)i + 1000;
        const struct experiment_plan plan = plan_of(metric, (uint64_t)i);
        struct run run;
        begin(&run, &world, &plan);
        const struct experiment_state state = to_the_end(&run);
        assert_int_equal(run.value, state.phase == EXPERIMENT_KEPT ? NEW : NOW);
        phases[state.phase]++;
        *pairs += (double)state.n_pairs / n;
    }
}

// ---------------------------------------------------------------------------------------------------- what is not so

static const double block_correlation = 0.98890; // a second; 0.8 over a block of 20

static void equal_values_are_told_apart_in_at_most_one_of_twenty(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum experiment_metric metric;
        struct world world;
    } cases[] = {
        {"independent seconds", METRIC_OUTPUT_RATE, {.deviation = 0.09}},
        {"seconds correlated by 0.8", METRIC_OUTPUT_RATE, {.correlation = 0.8, .deviation = 0.09}},
        {"blocks correlated by 0.8", METRIC_OUTPUT_RATE, {.correlation = block_correlation, .deviation = 0.05}},
        {"... and a drift of 20 % an hour",
         METRIC_OUTPUT_RATE,
         {.correlation = block_correlation, .deviation = 0.05, .drift = 5e-5}},
        {"seconds correlated, and 20 % an hour",
         METRIC_OUTPUT_RATE,
         {.correlation = 0.8, .deviation = 0.09, .drift = 5e-5}},
        {"a mix that changes",
         METRIC_OUTPUT_RATE,
         {.correlation = 0.8, .deviation = 0.05, .drift = 5e-5, .mix_deviation = 0.7}},
        {"median gap",
         METRIC_ITL_P50,
         {.correlation = block_correlation, .deviation = 0.05, .drift = 5e-5, .answer_deviation = 0.2}},
        {"p99 of gaps",
         METRIC_ITL_P99,
         {.correlation = block_correlation, .deviation = 0.05, .drift = 5e-5, .answer_deviation = 0.4}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int phases[8];
        double pairs;
        count(&cases[c].world, cases[c].metric, 200, phases, &pairs);
        const int claimed = phases[EXPERIMENT_KEPT] + phases[EXPERIMENT_WORSE];
        printf("  A/A, %s: %.1f %% claimed a difference; %d none, %d undecided, %d guarded; %.1f pairs\n",
               cases[c].name, claimed / 2.0, phases[EXPERIMENT_NO_DIFFERENCE], phases[EXPERIMENT_UNDECIDED],
               phases[EXPERIMENT_GUARDED], pairs);
        if (claimed > 10) fail_msg("%s: %d of 200 claimed a difference", cases[c].name, claimed);
    }
}

// ------------------------------------------------------------------------------------------------------- what is so

static void effects_are_found(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double effect;
        enum experiment_metric metric;
        struct world world;
        int least; // of 100
        enum experiment_phase phase;
    } cases[] = {
        // 0.0875 a second is 3 % between two blocks of 17 seconds.
        {"+3 %", 1.03, METRIC_OUTPUT_RATE, {.deviation = 0.0875}, 80, EXPERIMENT_KEPT},
        {"+5 %", 1.05, METRIC_OUTPUT_RATE, {.deviation = 0.0875}, 95, EXPERIMENT_KEPT},
        {"-5 %", 0.95, METRIC_OUTPUT_RATE, {.deviation = 0.0875}, 95, EXPERIMENT_WORSE},
        {"+3 % in correlated noise and drift",
         1.03,
         METRIC_OUTPUT_RATE,
         {.correlation = block_correlation, .deviation = 0.05, .drift = 5e-5},
         80,
         EXPERIMENT_KEPT},
        {"+5 % in correlated noise and drift",
         1.05,
         METRIC_OUTPUT_RATE,
         {.correlation = block_correlation, .deviation = 0.05, .drift = 5e-5},
         95,
         EXPERIMENT_KEPT},
        {"+5 % in a mix that changes",
         1.05,
         METRIC_OUTPUT_RATE,
         {.deviation = 0.05, .mix_deviation = 0.7},
         90,
         EXPERIMENT_KEPT},
        {"-20 % of the p99 of gaps",
         1.25,
         METRIC_ITL_P99,
         {.deviation = 0.03, .answer_deviation = 0.4},
         95,
         EXPERIMENT_KEPT},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct world world = cases[c].world;
        world.effect = log(cases[c].effect);
        int phases[8];
        double pairs;
        count(&world, cases[c].metric, 100, phases, &pairs);
        printf("  %s: found in %d %% of experiments, after %.1f pairs\n", cases[c].name, phases[cases[c].phase], pairs);
        if (phases[cases[c].phase] < cases[c].least) fail_msg("%s: %d %%", cases[c].name, phases[cases[c].phase]);
    }
}

static void what_the_mix_explains_is_taken_out(void **state) {
    (void)state;
    const struct world world = {.seed = 3, .deviation = 0.02, .mix_deviation = 0.7, .effect = log(1.1)};
    const struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 3);
    double widths[2], means[2];
    for (int blind = 0; blind < 2; blind++) {
        struct run run;
        struct experiment_state end;
        begin(&run, &world, &plan);
        do {
            struct experiment_sample sample = second_of(&run);
            if (blind) sample.n_ended = 0;
            run.value = experiment_tick(run.experiment, &sample);
            experiment_state(run.experiment, &end);
        } while (end.n_pairs < 6);
        experiment_close(run.experiment);
        widths[blind] = log(end.factor.high / end.factor.low);
        means[blind] = end.factor.mean;
    }
    if (!(widths[0] < 0.5 * widths[1])) fail_msg("%.3f wide with the mix, %.3f without", widths[0], widths[1]);
    if (!(fabs(means[0] - 1.1) < 0.03)) fail_msg("a factor of %.3f, not 1.1", means[0]);
    (void)means[1];
}

static void a_verdict_names_its_numbers(void **state) {
    (void)state;
    const struct world world = {.seed = 5, .deviation = 0.03, .effect = log(1.3)};
    const struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 5);
    struct run run;
    begin(&run, &world, &plan);
    const struct experiment_state end = to_the_end(&run);
    assert_int_equal(end.phase, EXPERIMENT_KEPT);
    assert_int_equal(end.n_pairs, 6); // the fewest that can say so
    assert_true(end.factor.low > 1 && end.factor.low < 1.3 && end.factor.high > 1.3);
    assert_true(fabs(end.sign_flip_p - 2.0 / 64) < 1e-9); // all signs alike
    assert_true(end.regression_chance < 1e-4);
    assert_true(end.exposure_s > 6 * 19 && end.exposure_s < 6 * 21);
    assert_true((double)end.path_low[5] == (double)(float)end.factor.low && end.path_low[4] == 0);
}

static void blocks_come_in_pairs_in_an_order_that_a_coin_decides(void **state) {
    (void)state;
    const struct world world = {.seed = 7, .deviation = 0.3};
    const struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 11);
    struct run run;
    begin(&run, &world, &plan);
    int n_new = 0, n_new_first = 0;
    struct experiment_sample sample = second_of(&run);
    run.value = experiment_tick(run.experiment, &sample);
    for (int pair = 0; pair < 40; pair++)
        for (int second = 0; second < 40; second++) {
            n_new += run.value == NEW;
            n_new_first += run.value == NEW && second == 0;
            sample = second_of(&run);
            run.value = experiment_tick(run.experiment, &sample);
        }
    assert_int_equal(n_new, 40 * 20);
    assert_in_range(n_new_first, 10, 30);
    experiment_close(run.experiment);
}

// ------------------------------------------------------------------------------------------------------------ guards

static void until_new_value(struct run *run) {
    while (run->value != NEW) {
        const struct experiment_sample sample = second_of(run);
        run->value = experiment_tick(run->experiment, &sample);
    }
}

static void a_guard_that_fires_restores_the_value_within_the_tick(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t n_errors;
        double kv_occupancy, gaps_by, ttft_by;
        int ticks;
        const char *reason;
    } cases[] = {
        {"errors", 1, 0.5, 1, 1, 1, "guard: 1 requests failed"},
        {"full cache", 0, 0.985, 1, 1, 1, "guard: 98.5 % of the KV cache"},
        {"slow tokens", 0, 0.5, 6, 1, 3, "guard: itl p99"},
        {"slow first tokens", 0, 0.5, 1, 8, 3, "guard: ttft p99"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const struct world world = {.seed = 13, .deviation = 0.01};
        const struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 1);
        struct run run;
        struct experiment_state end;
        begin(&run, &world, &plan);
        until_new_value(&run);
        for (int tick = 1; tick <= cases[c].ticks; tick++) {
            assert_int_equal(run.value, NEW);
            struct experiment_sample sample = second_of(&run);
            sample.n_errors = cases[c].n_errors;
            sample.kv_occupancy = cases[c].kv_occupancy;
            for (int i = 0; i < GAPS; i++) run.gaps[i] *= (float)cases[c].gaps_by;
            for (int i = 0; i < 4; i++) run.ttft[i] *= (float)cases[c].ttft_by;
            run.value = experiment_tick(run.experiment, &sample);
        }
        experiment_state(run.experiment, &end);
        if (run.value != NOW || end.phase != EXPERIMENT_GUARDED) fail_msg("%s: no guard fired", cases[c].name);
        if (strncmp(end.reason, cases[c].reason, strlen(cases[c].reason)) != 0)
            fail_msg("%s: \"%s\"", cases[c].name, end.reason);
        experiment_close(run.experiment);
    }
}

static void slow_seconds_apart_fire_no_guard(void **state) {
    (void)state;
    const struct world world = {.seed = 17, .deviation = 0.01};
    const struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 1);
    struct run run;
    begin(&run, &world, &plan);
    struct experiment_state end;
    until_new_value(&run);
    for (int tick = 0; tick < 9 && run.value == NEW; tick++) {
        struct experiment_sample sample = second_of(&run);
        for (int i = 0; i < GAPS && tick % 3 != 2; i++) run.gaps[i] *= 6;
        run.value = experiment_tick(run.experiment, &sample);
    }
    experiment_state(run.experiment, &end);
    assert_int_equal(end.phase, EXPERIMENT_RUNNING);
    experiment_close(run.experiment);
}

static void errors_at_the_present_value_end_it_and_blame_nothing(void **state) {
    (void)state;
    const struct world world = {.seed = 19, .deviation = 0.01};
    struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 1);
    while (rng_u32(rng_key(plan.seed, 0x6578, 0), 0) & 1) plan.seed++; // the present value first
    struct run run;
    struct experiment_state end;
    begin(&run, &world, &plan);
    for (int tick = 0; tick < 10; tick++) {
        struct experiment_sample sample = second_of(&run);
        sample.n_errors = tick == 9;
        run.value = experiment_tick(run.experiment, &sample);
    }
    experiment_state(run.experiment, &end);
    assert_int_equal(end.phase, EXPERIMENT_UNDECIDED);
    assert_int_equal(run.value, NOW);
    experiment_close(run.experiment);
}

// -------------------------------------------------------------------------------------------------------------- ends

static void it_ends_when_it_cannot_go_on(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t n_steps;
        double exposure_max_s;
        bool throttled;
        const char *reason;
    } cases[] = {
        {"no traffic", 0, 0, false, "too little traffic"},
        {"exposure", 50, 100, false, "not certain after"},
        {"throttled", 50, 0, true, "not certain after 0 pairs; the others"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const struct world world = {.seed = 23, .deviation = 0.3};
        struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 1);
        plan.exposure_max_s = cases[c].exposure_max_s;
        struct run run;
        struct experiment_state end;
        begin(&run, &world, &plan);
        do {
            struct experiment_sample sample = second_of(&run);
            sample.n_steps = cases[c].n_steps;
            sample.throttled = cases[c].throttled;
            run.value = experiment_tick(run.experiment, &sample);
        } while (experiment_is_running(run.experiment) && run.second < 20000);
        experiment_state(run.experiment, &end);
        if (end.phase != EXPERIMENT_UNDECIDED || run.value != NOW) fail_msg("%s: %d", cases[c].name, (int)end.phase);
        if (strncmp(end.reason, cases[c].reason, strlen(cases[c].reason)) != 0)
            fail_msg("%s: \"%s\"", cases[c].name, end.reason);
        if (cases[c].exposure_max_s > 0) assert_true(end.exposure_s <= cases[c].exposure_max_s);
        experiment_close(run.experiment);
    }
}

static void stopping_restores_the_value(void **state) {
    (void)state;
    const struct world world = {.seed = 29, .deviation = 0.01};
    const struct experiment_plan plan = plan_of(METRIC_OUTPUT_RATE, 1);
    struct run run;
    struct experiment_state end;
    begin(&run, &world, &plan);
    until_new_value(&run);
    experiment_stop(run.experiment);
    const struct experiment_sample sample = second_of(&run);
    assert_int_equal(experiment_tick(run.experiment, &sample), NOW);
    experiment_state(run.experiment, &end);
    assert_int_equal(end.phase, EXPERIMENT_STOPPED);
    experiment_close(run.experiment);
}

static void wrong_plans_are_refused_with_the_reason(void **state) {
    (void)state;
    static const struct {
        struct experiment_plan plan;
        const char *says;
    } cases[] = {
        {{.value_now = 4, .value_new = 4}, "is 4 already"},
        {{.value_now = 4, .value_new = 8, .block_s = 0.5}, "block_s must be from 1 to 600"},
        {{.value_now = 4, .value_new = 8, .block_s = NAN}, "block_s must be"},
        {{.value_now = 4, .value_new = 8, .pairs_max = 5}, "pairs must be from 6 to 60"},
        {{.value_now = 4, .value_new = 8, .pairs_max = 61}, "pairs must be from 6 to 60"},
        {{.value_now = 4, .value_new = 8, .min_effect = -1}, "min_effect must be"},
        {{.value_now = 4, .value_new = 8, .knob = KNOBS}, "no such setting"},
        {{.value_now = 4, .value_new = 8, .metric = METRICS}, "no such setting or metric"},
        {{.value_now = 4, .value_new = 8, .guard_itl_p99_s = 0.05}, "55 ms at the present value"},
        {{.value_now = 4, .value_new = 8, .guard_ttft_p99_s = -1}, "must be a time"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct experiment *experiment = NULL;
        struct err err = {0};
        assert_int_equal(experiment_open(&experiment, &cases[c].plan, &quiet_before, &err), ERR_INVALID);
        if (!strstr(err.text, cases[c].says)) fail_msg("\"%s\" does not say \"%s\"", err.text, cases[c].says);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_values_are_told_apart_in_at_most_one_of_twenty),
        cmocka_unit_test(effects_are_found),
        cmocka_unit_test(what_the_mix_explains_is_taken_out),
        cmocka_unit_test(a_verdict_names_its_numbers),
        cmocka_unit_test(blocks_come_in_pairs_in_an_order_that_a_coin_decides),
        cmocka_unit_test(a_guard_that_fires_restores_the_value_within_the_tick),
        cmocka_unit_test(slow_seconds_apart_fire_no_guard),
        cmocka_unit_test(errors_at_the_present_value_end_it_and_blame_nothing),
        cmocka_unit_test(it_ends_when_it_cannot_go_on),
        cmocka_unit_test(stopping_restores_the_value),
        cmocka_unit_test(wrong_plans_are_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, make_quantiles, NULL);
}
