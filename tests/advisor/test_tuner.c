// One experiment at a time, within limits, and the setting is back whatever happens: a server of numbers whose only
// setting is how many sequences run.
#include "tests/test.h"

#include "advisor/tuner.h"
#include "base/log.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { NOW = 4, BETTER = 8, WORSE = 2, LOW = 1, HIGH = 64 };
static const double wall_at_start = 1.8e9;

struct place {
    struct tuner *tuner;
    int64_t value, n_sets;
    double at_s, gain; // gain: of BETTER over NOW, until it is taken away
    uint64_t output, failed;
    bool without_traffic, unsteady, without_knob;
    int32_t n_used;
};

static void read_knobs(void *context, struct knobs *out) {
    const struct place *place = context;
    memset(out, 0, sizeof *out);
    out->knob[KNOB_SEQUENCES] = (struct knob){.name = "sequences",
                                              .flag = "--sequences",
                                              .value = place->value,
                                              .low = LOW,
                                              .high = HIGH,
                                              .available = !place->without_knob};
}

static void set_knob(void *context, enum knob_id id, int64_t value) {
    struct place *place = context;
    assert_int_equal(id, KNOB_SEQUENCES);
    assert_in_range(value, LOW, HIGH);
    place->value = value;
    place->n_sets++;
}

static void open_place(struct place *place, enum self_tune mode, const char *record_path) {
    *place = (struct place){.value = NOW, .gain = 1.2, .n_used = 50, .at_s = 1000};
    const struct tuner_options options = {.mode = mode,
                                          .knobs = {place, read_knobs, set_knob},
                                          .record_path = record_path,
                                          .objective_ttft = NAN,
                                          .objective_itl = NAN,
                                          .n_blocks = 100};
    struct err err = {0};
    assert_int_equal(tuner_open(&place->tuner, &options, &err), 0);
}

static double speed_of(const struct place *place) {
    return place->value == BETTER ? place->gain : place->value == WORSE ? 0.7 : 1;
}

static void second(struct place *place) {
    const double noise =
        0.02 * rng_normal_quantile(0.999 * (double)rng_uniform(rng_key(1, (uint64_t)place->at_s, 0), 0) + 0.0005);
    double speed = place->without_traffic ? 0 : speed_of(place) * exp(noise);
    if (place->unsteady) speed *= 1 + 0.9 * sin(place->at_s / 5);
    place->at_s += 1;
    place->output += (uint64_t)(400 * speed);
    const uint64_t now_ns = (uint64_t)(place->at_s * 1e9);
    float gaps[24];
    for (int i = 0; i < 24; i++) gaps[i] = 0.02f;
    for (int i = 0; i < 50 && speed > 0; i++) {
        const struct step_record step = {.submitted_ns = now_ns + (uint64_t)i * 20000000,
                                         .collected_ns = now_ns + (uint64_t)(i + 1) * 20000000,
                                         .n_rows = 8,
                                         .n_prompt_rows = i % 5 == 0 ? 4 : 0};
        tuner_note_steps(place->tuner, &step, 1);
    }
    if (speed > 0) {
        const struct request_trace trace = {.arrived_ns = now_ns - 1000000000,
                                            .first_token_ns = now_ns - 900000000,
                                            .finished_ns = now_ns,
                                            .n_prompt = 100,
                                            .n_generated = 40};
        for (int i = 0; i < 10; i++) tuner_note_requests(place->tuner, &trace, 1);
        tuner_note_gaps(place->tuner, gaps, 24);
    }
    const struct advisor_sample sample = {.n_running = place->without_traffic ? 0 : 4 + (int)(4 * speed),
                                          .n_generated_tokens_total = place->output,
                                          .n_failed_total = place->failed,
                                          .n_blocks_used = place->n_used};
    tuner_tick(place->tuner, place->at_s, wall_at_start + place->at_s, &sample, false);
}

static void seconds(struct place *place, int n) {
    for (int i = 0; i < n; i++) second(place);
}

static struct experiment_plan plan_for(int64_t value) {
    return (struct experiment_plan){
        .knob = KNOB_SEQUENCES, .value_new = value, .block_s = 4, .predicted = {1.1, 1.3}, .seed = 1};
}

static struct experiment_state newest(const struct place *place) {
    struct experiment_state states[3];
    assert_true(tuner_experiments(place->tuner, states, 3) > 0);
    return states[0];
}

static struct experiment_state run_one(struct place *place, int64_t value) {
    struct err err = {0};
    struct experiment_plan plan = plan_for(value);
    if (tuner_begin(place->tuner, &plan, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < 2000 && newest(place).phase == EXPERIMENT_RUNNING; i++) second(place);
    return newest(place);
}

// --------------------------------------------------------------------------------------------------------- on request

static void what_is_better_is_kept_and_what_is_not_goes_back(void **state) {
    (void)state;
    struct place place;
    struct track_record track;
    open_place(&place, SELF_TUNE_SUGGEST, NULL);
    seconds(&place, 60);
    struct experiment_state end = run_one(&place, WORSE);
    assert_int_equal(end.phase, EXPERIMENT_WORSE);
    assert_int_equal(place.value, NOW);
    assert_string_equal(end.plan.id, "x1");
    seconds(&place, 60);
    end = run_one(&place, BETTER);
    assert_int_equal(end.phase, EXPERIMENT_KEPT);
    assert_int_equal(place.value, BETTER);
    assert_string_equal(end.plan.id, "x2");
    assert_true(end.factor.low < 1.2 && end.factor.high > 1.2);
    assert_true(end.began_s > wall_at_start && end.ended_s > end.began_s);
    decisions_track(tuner_decisions(place.tuner), &track);
    assert_int_equal(track.n_predictions, 2);
    assert_int_equal(track.n_covered, 1); // 0.7 was not in 1.1 .. 1.3
    assert_int_equal(track.n_kept, 1);
    assert_int_equal(track.n_rolled_back, 1);
    tuner_close(place.tuner);
    assert_int_equal(place.value, BETTER);
}

static void what_was_kept_can_be_taken_back(void **state) {
    (void)state;
    struct place place;
    struct err err = {0};
    open_place(&place, SELF_TUNE_SUGGEST, NULL);
    seconds(&place, 60);
    run_one(&place, BETTER);
    assert_int_equal(place.value, BETTER);
    place.without_knob = true; // as after a start with other options
    assert_int_equal(tuner_stop(place.tuner, "x1", &err), ERR_INVALID);
    place.without_knob = false;
    assert_int_equal(place.value, BETTER);
    seconds(&place, 60);
    struct experiment_plan plan = plan_for(WORSE);
    assert_int_equal(tuner_begin(place.tuner, &plan, &err), 0);
    assert_int_equal(tuner_stop(place.tuner, "x1", &err), ERR_BUSY);
    assert_int_equal(tuner_stop(place.tuner, plan.id, &err), 0);
    assert_int_equal(place.value, BETTER);
    assert_int_equal(tuner_stop(place.tuner, "x1", &err), 0);
    assert_int_equal(place.value, NOW);
    assert_int_equal(tuner_stop(place.tuner, "x1", &err), ERR_INVALID);
    assert_int_equal(tuner_stop(place.tuner, "x9", &err), ERR_NOT_FOUND);
    tuner_close(place.tuner);
}

static void until_tried(struct place *place, int64_t value) {
    for (int i = 0; i < 60 && place->value != value; i++) second(place);
    assert_int_equal(place->value, value);
}

static void an_interrupted_experiment_restores_the_setting(void **state) {
    (void)state;
    for (int by_close = 0; by_close < 2; by_close++) {
        struct place place;
        struct err err = {0};
        open_place(&place, SELF_TUNE_SUGGEST, NULL);
        seconds(&place, 60);
        struct experiment_plan plan = plan_for(BETTER);
        assert_int_equal(tuner_begin(place.tuner, &plan, &err), 0);
        until_tried(&place, BETTER);
        if (!by_close) {
            assert_int_equal(tuner_stop(place.tuner, plan.id, &err), 0);
            assert_int_equal(place.value, NOW);
            assert_int_equal(newest(&place).phase, EXPERIMENT_STOPPED);
        }
        tuner_close(place.tuner);
        assert_int_equal(place.value, NOW);
    }
}

static void a_guard_bars_the_value_for_ten_minutes(void **state) {
    (void)state;
    struct place place;
    struct err err = {0};
    open_place(&place, SELF_TUNE_SUGGEST, NULL);
    seconds(&place, 60);
    struct experiment_plan plan = plan_for(BETTER);
    assert_int_equal(tuner_begin(place.tuner, &plan, &err), 0);
    until_tried(&place, BETTER);
    place.n_used = 99;
    second(&place);
    assert_int_equal(place.value, NOW); // within the tick
    assert_int_equal(newest(&place).phase, EXPERIMENT_GUARDED);
    place.n_used = 50;
    seconds(&place, 120);
    assert_int_equal(tuner_begin(place.tuner, &plan, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "a guard took sequences 8 back in experiment x1"));
    struct experiment_plan other = plan_for(WORSE);
    assert_int_equal(tuner_begin(place.tuner, &other, &err), 0); // another value is free
    assert_int_equal(tuner_stop(place.tuner, other.id, &err), 0);
    seconds(&place, 500);
    assert_int_equal(tuner_begin(place.tuner, &plan, &err), 0);
    tuner_close(place.tuner);
}

static void what_cannot_be_told_is_refused_with_the_reason(void **state) {
    (void)state;
    static const struct {
        enum self_tune mode;
        int seconds;
        int64_t value;
        enum knob_id knob;
        bool without_traffic, unsteady, failed, running;
        int code;
        const char *says;
    } cases[] = {
        {SELF_TUNE_OFF, 60, 8, 0, false, false, false, false, ERR_UNSUPPORTED, "--self-tune suggest"},
        {SELF_TUNE_SUGGEST, 60, 4, 0, false, false, false, false, ERR_INVALID, "sequences is 4 already"},
        {SELF_TUNE_SUGGEST, 60, 65, 0, false, false, false, false, ERR_INVALID, "sequences must be from 1 to 64"},
        {SELF_TUNE_SUGGEST, 60, 8, KNOB_THREADS, false, false, false, false, ERR_INVALID, "threads cannot be set"},
        {SELF_TUNE_SUGGEST, 10, 8, 0, false, false, false, false, ERR_INVALID, "watched for 10 s only, and 20"},
        {SELF_TUNE_SUGGEST, 60, 8, 0, true, false, false, false, ERR_INVALID, "too little traffic: 0 steps"},
        {SELF_TUNE_SUGGEST, 60, 8, 0, false, true, false, false, ERR_INVALID, "the load is not steady"},
        {SELF_TUNE_SUGGEST, 60, 8, 0, false, false, true, false, ERR_INVALID, "1 requests failed in the last 60 s"},
        {SELF_TUNE_SUGGEST, 61, 8, 0, false, false, false, true, ERR_BUSY, "experiment x1 is running"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct place place;
        struct err err = {0};
        open_place(&place, cases[c].mode, NULL);
        place.without_traffic = cases[c].without_traffic;
        place.unsteady = cases[c].unsteady;
        seconds(&place, cases[c].seconds);
        place.failed = cases[c].failed;
        second(&place);
        struct experiment_plan plan = plan_for(cases[c].value), first = plan_for(WORSE);
        plan.knob = cases[c].knob;
        if (cases[c].running) assert_int_equal(tuner_begin(place.tuner, &first, &err), 0);
        const int code = tuner_begin(place.tuner, &plan, &err);
        if (code != cases[c].code || !strstr(err.text, cases[c].says)) fail_msg("%zu: %d, \"%s\"", c, code, err.text);
        tuner_close(place.tuner);
        assert_int_equal(place.value, NOW);
    }
}

static void a_day_has_half_an_hour_for_tried_values(void **state) {
    (void)state;
    struct place place;
    struct err err = {0};
    open_place(&place, SELF_TUNE_SUGGEST, NULL);
    place.gain = 1; // never certain enough to end early with so narrow a band
    double exposure_s = 0;
    int n = 0, code = 0;
    for (; n < 50 && !code; n++) {
        seconds(&place, 30); // what was before an experiment does not count
        struct experiment_plan plan = plan_for(BETTER);
        plan.block_s = 20;
        plan.min_effect = 0.001;
        plan.pairs_max = 60;
        code = tuner_begin(place.tuner, &plan, &err);
        for (int i = 0; i < 3000 && !code && newest(&place).phase == EXPERIMENT_RUNNING; i++) second(&place);
        if (!code) exposure_s += newest(&place).exposure_s;
    }
    assert_int_equal(code, ERR_INVALID);
    assert_non_null(strstr(err.text, "30 minutes of the last 24 hours"));
    assert_true(exposure_s > 1700 && exposure_s <= 1801);
    tuner_close(place.tuner);
}

// -------------------------------------------------------------------------------------------------------- by itself

static const struct diagnosis *diagnosis_of(int64_t value) {
    static struct diagnosis d;
    memset(&d, 0, sizeof d);
    d.n_findings = 2;
    d.findings[0] = (struct finding){.id = "R12", .knob = -1}; // needs a restart
    d.findings[1] = (struct finding){.id = "R1",
                                     .knob = KNOB_SEQUENCES,
                                     .knob_value = value,
                                     .has_effect = true,
                                     .effect = {.metric = "output_tokens_per_s", .factor = {1.1, 1.3}}};
    return &d;
}

// Seconds with a diagnosis every 30 of them.
static void live(struct place *place, int n, int64_t advised) {
    for (int i = 0; i < n; i++) {
        second(place);
        if (i % 30 == 0) tuner_consider(place->tuner, diagnosis_of(advised));
    }
}

static void suggesting_begins_nothing(void **state) {
    (void)state;
    struct place place;
    struct experiment_state none;
    open_place(&place, SELF_TUNE_SUGGEST, NULL);
    live(&place, 300, BETTER);
    assert_int_equal(tuner_experiments(place.tuner, &none, 1), 0);
    tuner_close(place.tuner);
}

static void by_itself_it_keeps_what_wins_twice(void **state) {
    (void)state;
    struct place place;
    open_place(&place, SELF_TUNE_AUTO, NULL);
    live(&place, 600, BETTER);
    assert_int_equal(newest(&place).phase, EXPERIMENT_KEPT);
    assert_string_equal(newest(&place).plan.finding, "R1");
    assert_true(newest(&place).plan.alpha < 0.05); // the day's errors are shared out
    assert_int_equal(place.value, BETTER);
    live(&place, 2400, BETTER); // not before an hour has gone
    assert_string_equal(newest(&place).plan.id, "x1");
    live(&place, 2400, BETTER);
    assert_int_equal(newest(&place).phase, EXPERIMENT_WORSE); // what was before, against the winner
    assert_int_equal(newest(&place).plan.value_new, NOW);
    assert_string_equal(decisions_at(tuner_decisions(place.tuner), 0)->confirms, "x1");
    assert_int_equal(place.value, BETTER);
    tuner_close(place.tuner);
}

static void a_win_that_does_not_show_again_is_taken_back(void **state) {
    (void)state;
    struct place place;
    open_place(&place, SELF_TUNE_AUTO, NULL);
    live(&place, 600, BETTER);
    assert_int_equal(place.value, BETTER);
    place.gain = 1;
    live(&place, 6000, BETTER);
    assert_string_equal(decisions_at(tuner_decisions(place.tuner), 0)->confirms, "x1");
    assert_int_equal(place.value, NOW);
    assert_int_equal(decisions_count(tuner_decisions(place.tuner)), 2); // and it is not tried a third time that day
    tuner_close(place.tuner);
}

// ---------------------------------------------------------------------------------------------------------- the record

static void the_record_outlives_the_server_and_its_torn_lines(void **state) {
    (void)state;
    char path[] = TEST_BINARY_DIR "/decisions-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(write(fd, "not JSON\n{\"optima_decision\": 1}\n", 32) == 32);
    close(fd);
    struct place place;
    struct experiment_state before[2], after[2];
    open_place(&place, SELF_TUNE_SUGGEST, path);
    seconds(&place, 60);
    run_one(&place, WORSE);
    seconds(&place, 60);
    run_one(&place, BETTER);
    assert_int_equal(tuner_experiments(place.tuner, before, 2), 2);
    tuner_close(place.tuner);
    // The process dies while it writes a third.
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    fputs("{\"optima_decision\": 1, \"experiment\": {\"id\": \"x3\", \"val", file);
    fclose(file);

    open_place(&place, SELF_TUNE_SUGGEST, path);
    assert_int_equal(decisions_n_unreadable(tuner_decisions(place.tuner)), 3);
    assert_int_equal(tuner_experiments(place.tuner, after, 2), 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(after[i].plan.id, before[i].plan.id);
        assert_string_equal(after[i].reason, before[i].reason);
        assert_int_equal(after[i].phase, before[i].phase);
        assert_int_equal(after[i].n_pairs, before[i].n_pairs);
        assert_int_equal(after[i].plan.value_new, before[i].plan.value_new);
        assert_true(fabs(after[i].factor.low - before[i].factor.low) < 1e-6);
        assert_true(fabs(after[i].log_ratio[3] - before[i].log_ratio[3]) < 1e-6);
        assert_true(fabs((double)(after[i].path_high[5] - before[i].path_high[5])) < 1e-6);
        assert_true(fabs(after[i].exposure_s - before[i].exposure_s) < 1e-3);
    }
    seconds(&place, 60);
    assert_string_equal(run_one(&place, BETTER).plan.id, "x3"); // numbers go on
    tuner_close(place.tuner);
    open_place(&place, SELF_TUNE_SUGGEST, path);
    assert_int_equal(decisions_count(tuner_decisions(place.tuner)), 3); // behind the torn line, on a line of its own
    assert_int_equal(decisions_n_unreadable(tuner_decisions(place.tuner)), 3);
    tuner_close(place.tuner);
    unlink(path);
}

static void a_record_that_cannot_be_written_is_an_error(void **state) {
    (void)state;
    struct tuner *tuner = NULL;
    struct err err = {0};
    const struct tuner_options options = {.record_path = TEST_BINARY_DIR "/no-such-folder/decisions"};
    assert_int_equal(tuner_open(&tuner, &options, &err), ERR_IO);
    assert_non_null(strstr(err.text, "no-such-folder"));
}

static void predictions_that_miss_widen_the_next_ones(void **state) {
    (void)state;
    // Measured at 1.2; ranges of 1.0 to 1.1 would have to be 2.8 times as wide around 1.049 to hold it:
    // ln(1.2 / 1.0488) / (ln(1.1) / 2) = 2.826.
    struct decisions *decisions = NULL;
    struct err err = {0};
    assert_int_equal(decisions_open(&decisions, NULL, &err), 0);
    struct decision decision = {.state = {.phase = EXPERIMENT_KEPT,
                                          .n_pairs = 8,
                                          .factor = {1.2, 1.1, 1.3},
                                          .plan = {.id = "x1", .predicted = {1.0, 1.1}}}};
    for (int i = 0; i < 10; i++) {
        assert_true(decisions_widening(decisions) == 1); // too few to say
        assert_int_equal(decisions_add(decisions, &decision, &err), 0);
    }
    assert_true(fabs(decisions_widening(decisions) - 2.826) < 0.001);
    decision.state.plan.predicted = (struct range){1.1, 1.3};
    for (int i = 0; i < 40; i++) assert_int_equal(decisions_add(decisions, &decision, &err), 0);
    assert_true(decisions_widening(decisions) == 1);          // 40 of 50
    decision.state.plan.predicted = (struct range){NAN, NAN}; // nothing was predicted
    assert_int_equal(decisions_add(decisions, &decision, &err), 0);
    struct track_record track;
    decisions_track(decisions, &track);
    assert_int_equal(track.n_predictions, 50);
    assert_int_equal(track.n_covered, 40);
    decisions_close(decisions);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_better_is_kept_and_what_is_not_goes_back),
        cmocka_unit_test(what_was_kept_can_be_taken_back),
        cmocka_unit_test(an_interrupted_experiment_restores_the_setting),
        cmocka_unit_test(a_guard_bars_the_value_for_ten_minutes),
        cmocka_unit_test(what_cannot_be_told_is_refused_with_the_reason),
        cmocka_unit_test(a_day_has_half_an_hour_for_tried_values),
        cmocka_unit_test(suggesting_begins_nothing),
        cmocka_unit_test(by_itself_it_keeps_what_wins_twice),
        cmocka_unit_test(a_win_that_does_not_show_again_is_taken_back),
        cmocka_unit_test(the_record_outlives_the_server_and_its_torn_lines),
        cmocka_unit_test(a_record_that_cannot_be_written_is_an_error),
        cmocka_unit_test(predictions_that_miss_widen_the_next_ones),
    };
    log_level_set(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
