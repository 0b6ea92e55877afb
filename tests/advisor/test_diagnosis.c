// The diagnosis: what it calls the bottleneck, what silences what, when rules speak, what it asks for, and when it
// says nothing.
#include "tests/test.h"

#include "advisor/rules.h"
#include "advisor/thresholds.h"
#include "tests/advisor/example_evidence.h"
#include "tests/advisor/plain_step_model.h"

#include <math.h>

static struct diagnosis diagnosis; // large

static const struct finding *finding_of(const char *id) {
    for (int i = 0; i < diagnosis.n_findings; i++)
        if (strcmp(diagnosis.findings[i].id, id) == 0) return &diagnosis.findings[i];
    return NULL;
}

static const struct suppressed *suppressed_of(const char *id) {
    for (int i = 0; i < diagnosis.n_suppressed; i++)
        if (strcmp(diagnosis.suppressed[i].id, id) == 0) return &diagnosis.suppressed[i];
    return NULL;
}

static const struct question *question_of(const char *need) {
    for (int i = 0; i < diagnosis.n_questions; i++)
        if (strcmp(diagnosis.questions[i].need, need) == 0) return &diagnosis.questions[i];
    return NULL;
}

static void capped(struct evidence *e) {
    e->setup.knobs.knob[KNOB_SEQUENCES].value = 8;
    e->load.waiting_mean = 24;
    e->load.queue_share = 0.9;
    e->load.full_share = 0.95;
}

static void keep(struct evidence *e) {
    (void)e;
}
static void idle(struct evidence *e) {
    e->load.idle_share = 0.7;
}
static void waits_for_host(struct evidence *e) {
    e->host.gap_share = 0.2;
}
static void recomputes(struct evidence *e) {
    e->cache.recomputed_tokens = 0.03 * e->cache.useful_tokens;
}
static void hot(struct evidence *e) {
    e->machine.thermal_share = 0.3;
}
static void without_cores(struct evidence *e) {
    e->machine.wait_share = 0.4;
}
static void computes(struct evidence *e) {
    e->efficiency.mfu_decode = 0.7;
    e->efficiency.mbu_decode = 0.3;
}
static void neither(struct evidence *e) {
    e->efficiency.mfu_decode = 0.1;
    e->efficiency.mbu_decode = 0.2;
}
static void peaks_unknown(struct evidence *e) {
    e->efficiency.mfu_decode = e->efficiency.mbu_decode = NAN;
}
static void too_short(struct evidence *e) {
    e->window_s = 5;
}
static void no_steps(struct evidence *e) {
    e->n_steps = 0;
}
static void sums_to_90(struct evidence *e) {
    e->ledger.sum = 0.9;
}

static const struct {
    const char *name;
    void (*change)(struct evidence *e);
    enum bottleneck bottleneck;
    const char *says, *confidence;
} verdicts[] = {
    {"as it is", keep, BOTTLENECK_BANDWIDTH, "80 % of the measured peak", "high"},
    {"idle", idle, BOTTLENECK_INPUT, "idle 70 %", "high"},
    {"host", waits_for_host, BOTTLENECK_HOST, "20 % of busy time", "high"},
    {"recomputed", recomputes, BOTTLENECK_KV, "3.0 %", "high"},
    {"hot", hot, BOTTLENECK_POWER, "30 %", "high"},
    {"no cores", without_cores, BOTTLENECK_MACHINE, "40 %", "high"},
    {"compute", computes, BOTTLENECK_COMPUTE, "70 % of the measured peak", "high"},
    {"latency", neither, BOTTLENECK_LATENCY, "at most 20 %", "high"},
    {"no peaks", peaks_unknown, BOTTLENECK_UNKNOWN, "not measured yet", "none"},
    {"short window", too_short, BOTTLENECK_UNKNOWN, "Not enough evidence: 2000 steps in 5.00 s", "none"},
    {"no traffic", no_steps, BOTTLENECK_UNKNOWN, "Not enough evidence: 0 steps", "none"},
    {"contradictory", sums_to_90, BOTTLENECK_MEASUREMENT, "sum to 90 %", "none"},
};

static void the_bottleneck_comes_first(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        struct evidence e = example_evidence();
        verdicts[i].change(&e);
        diagnosis_make(&diagnosis, &e, NULL);
        if (diagnosis.bottleneck != verdicts[i].bottleneck || !strstr(diagnosis.headline, verdicts[i].says) ||
            strcmp(diagnosis.confidence, verdicts[i].confidence) != 0)
            fail_msg("%s: %s, %s", verdicts[i].name, bottleneck_name(diagnosis.bottleneck), diagnosis.headline);
    }
}

static void abstains_with_the_command_that_would_settle_it(void **state) {
    (void)state;
    struct evidence e = example_evidence();
    capped(&e);
    e.n_steps = threshold_steps - 1;
    diagnosis_make(&diagnosis, &e, NULL);
    assert_int_equal(diagnosis.n_findings, 0);
    assert_non_null(question_of("traffic"));
    assert_string_equal(question_of("traffic")->command, "optima bench http://127.0.0.1:8080 --users 4 --duration 60");
}

static void asks_for_what_only_the_operator_knows(void **state) {
    (void)state;
    struct evidence e = example_evidence();
    diagnosis_make(&diagnosis, &e, NULL);
    assert_int_equal(diagnosis.n_questions, 0);
    e.setup.price_per_hour = e.setup.objective_itl = e.setup.objective_ttft = figure_unknown();
    diagnosis_make(&diagnosis, &e, NULL);
    assert_int_equal(diagnosis.n_questions, 3);
    assert_string_equal(question_of("price_per_hour")->command, "--price-per-hour 2.50");
    assert_non_null(question_of("objective_itl"));
    assert_non_null(question_of("objective_ttft"));
}

static void causes_silence_their_symptoms(void **state) {
    (void)state;
    struct evidence e = example_evidence();
    capped(&e);
    diagnosis_make(&diagnosis, &e, NULL);
    assert_non_null(finding_of("R1"));
    // Blocks run short as well: more sequences at once would only make that worse.
    e.setup.n_blocks = 2000;
    e.cache.recomputed_tokens = 0.1 * e.cache.useful_tokens;
    e.ledger.share[TIME_RECOMPUTE] = 0.09;
    diagnosis_make(&diagnosis, &e, NULL);
    assert_non_null(finding_of("R4"));
    assert_null(finding_of("R1"));
    assert_non_null(strstr(suppressed_of("R1")->reason, "R4"));
}

static void largest_benefit_comes_first(void **state) {
    (void)state;
    struct evidence e = example_evidence();
    capped(&e);
    e.host.head_share = 0.2;
    e.host.sample_share = 0.1;
    e.host.sample_s = 0.0135;
    diagnosis_make(&diagnosis, &e, NULL);
    assert_true(diagnosis.n_findings >= 3);
    assert_string_equal(diagnosis.findings[0].id, "R1");
    for (int i = 1; i < diagnosis.n_findings; i++)
        assert_true(diagnosis.findings[i - 1].benefit >= diagnosis.findings[i].benefit);
}

static void rules_speak_after_three_windows_and_fall_silent_after_five(void **state) {
    (void)state;
    struct rule_memory memory = {0};
    struct evidence busy = example_evidence(), calm = example_evidence();
    capped(&busy);
    for (int window = 1; window <= 3; window++) {
        diagnosis_make(&diagnosis, &busy, &memory);
        assert_int_equal(finding_of("R1") != NULL, window == 3);
    }
    assert_int_equal(finding_of("R1")->confirmed, 3);
    for (int window = 1; window <= 4; window++) diagnosis_make(&diagnosis, &calm, &memory);
    assert_null(finding_of("R1"));
    diagnosis_make(&diagnosis, &busy, &memory); // still spoken of: it speaks at once
    assert_non_null(finding_of("R1"));
    for (int window = 1; window <= 5; window++) diagnosis_make(&diagnosis, &calm, &memory);
    diagnosis_make(&diagnosis, &busy, &memory);
    assert_null(finding_of("R1"));
}

static void values_beside_a_threshold_do_not_flicker(void **state) {
    (void)state;
    struct rule_memory memory = {0};
    struct evidence e = example_evidence();
    capped(&e);
    for (int window = 0; window < 3; window++) diagnosis_make(&diagnosis, &e, &memory);
    e.load.full_share = 0.92 * threshold_full_share;
    diagnosis_make(&diagnosis, &e, &memory);
    assert_non_null(finding_of("R1"));
    diagnosis_make(&diagnosis, &e, NULL);
    assert_null(finding_of("R1"));
    e.load.full_share = 0.88 * threshold_full_share;
    diagnosis_make(&diagnosis, &e, &memory);
    assert_null(finding_of("R1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bottleneck_comes_first),
        cmocka_unit_test(abstains_with_the_command_that_would_settle_it),
        cmocka_unit_test(asks_for_what_only_the_operator_knows),
        cmocka_unit_test(causes_silence_their_symptoms),
        cmocka_unit_test(largest_benefit_comes_first),
        cmocka_unit_test(rules_speak_after_three_windows_and_fall_silent_after_five),
        cmocka_unit_test(values_beside_a_threshold_do_not_flicker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
