// Whatever the evidence, true, absurd or contradictory: what is shown keeps the contract. No number without a source,
// no "nan" in a sentence, no half sentence, no range upside down, no advice that rests on what nobody said.
#include "tests/test.h"

#include "advisor/rules.h"
#include "base/rng.h"
#include "tests/advisor/example_evidence.h"
#include "tests/advisor/plain_step_model.h"
#include "tests/advisor/rule_cases.h"

#include <ctype.h>
#include <math.h>

static struct diagnosis diagnosis; // large

enum { TRIALS = 20000 };

struct dice {
    uint64_t seed, n;
};
static double uniform(struct dice *dice) {
    return rng_u32(rng_key(dice->seed, 0, 0), dice->n++) * 0x1p-32; // below 1
}

static double *field_of(struct evidence *e, int i) {
    return (double *)((char *)e + evidence_fields[i].offset);
}

// Shares go anywhere within 0 .. 1, other numbers up and down by a hundred.
static void shake_plausibly(struct evidence *e, struct dice *dice, double chance) {
    for (int i = 0; i < n_evidence_fields; i++) {
        if (uniform(dice) > chance) continue;
        const char *name = evidence_fields[i].name;
        bool is_share = strstr(name, "share") || strstr(name, "occupancy") || strstr(name, "mbu") ||
                        strstr(name, "mfu") || strstr(name, "acceptance") || strstr(name, "coverage") ||
                        strstr(name, "gaps_long") || strstr(name, "ratio");
        if (strcmp(name, "ledger.sum") == 0 || strcmp(name, "window_s") == 0) continue;
        if (is_share)
            *field_of(e, i) = uniform(dice);
        else
            *field_of(e, i) *= exp(9.2 * (uniform(dice) - 0.5));
    }
}

static const double absurd[] = {NAN, INFINITY, -INFINITY, 0, -1, 1e-300, 1e300, -1e300, 2, 1e9};

static void shake_absurdly(struct evidence *e, struct dice *dice) {
    for (int i = 0; i < n_evidence_fields; i++)
        if (uniform(dice) < 0.2) *field_of(e, i) = absurd[(size_t)(uniform(dice) * (sizeof absurd / sizeof *absurd))];
}

static int32_t odd_count(struct dice *dice) {
    static const int32_t counts[] = {0, 1, 2, 7, 64, 1000, INT32_MAX, -1, INT32_MIN};
    return counts[(size_t)(uniform(dice) * (sizeof counts / sizeof *counts))];
}

static void shake_counts(struct evidence *e, struct dice *dice) {
    int32_t *counts[] = {&e->setup.n_layers,        &e->setup.vocab,
                         &e->setup.hidden,          &e->setup.n_kv_heads,
                         &e->setup.n_processors,    &e->setup.n_experts,
                         &e->setup.n_experts_used,  &e->setup.rows_max,
                         &e->setup.sequences_max,   &e->setup.block_tokens,
                         &e->setup.n_blocks,        &e->setup.steps_in_flight,
                         &e->machine.threads,       &e->machine.physical_cores,
                         &e->machine.logical_cores, &e->machine.numa_nodes,
                         &e->machine.n_read_curve};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (uniform(dice) < 0.2) *counts[i] = odd_count(dice);
    int64_t *large[] = {&e->load.n_arrived, &e->load.n_finished, &e->load.n_rejected,
                        &e->load.n_failed,  &e->n_steps,         &e->cache.n_preemptions};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        if (uniform(dice) < 0.2) *large[i] = odd_count(dice);
    for (int i = 0; i < KNOBS; i++) {
        if (uniform(dice) < 0.2) e->setup.knobs.knob[i].value = odd_count(dice);
        if (uniform(dice) < 0.2) e->setup.knobs.knob[i].available = !e->setup.knobs.knob[i].available;
    }
}

static void shake_choices(struct evidence *e, struct dice *dice) {
    static const char *const formats[] = {"f32", "bf16", "int8", "fp8", "new", NULL};
    e->setup.kv_format = formats[(size_t)(uniform(dice) * 6)];
    if (uniform(dice) < 0.2) e->setup.is_gpu = true;
    if (uniform(dice) < 0.3) e->speculation.is_on = e->setup.speculates = true;
    if (uniform(dice) < 0.2) e->setup.has_prefix_cache = false;
    if (uniform(dice) < 0.1) e->model = NULL;
    if (uniform(dice) < 0.1) e->steady = false;
    if (uniform(dice) < 0.3) e->setup.url = e->setup.path = NULL;
    if (uniform(dice) < 0.2) e->setup.price_per_hour = figure_unknown();
    if (uniform(dice) < 0.2) e->setup.objective_itl = figure_unknown();
    if (uniform(dice) < 0.2) e->setup.objective_ttft = figure_unknown();
}

// What the example leaves out, now and then.
static void shake_troubles(struct evidence *e, struct dice *dice) {
    if (uniform(dice) < 0.2) e->load.n_failed = (int64_t)(200 * uniform(dice));
    if (uniform(dice) < 0.2) e->load.n_rejected = (int64_t)(1000 * uniform(dice));
    if (uniform(dice) < 0.2) e->load.concurrency_slope.low = e->load.ttft_slope.low = uniform(dice);
    if (uniform(dice) < 0.2) e->machine.major_faults = 100 * uniform(dice);
    if (uniform(dice) < 0.2) e->machine.quota_cores = 4 * uniform(dice);
    if (uniform(dice) < 0.2) e->machine.threads = 1 + (int32_t)(8 * uniform(dice));
    if (uniform(dice) < 0.2) e->host.mask_share = uniform(dice);
    if (uniform(dice) < 0.5) e->cache.recomputed_tokens = 40000 * uniform(dice) * uniform(dice);
    if (uniform(dice) < 0.5) e->load.waiting_mean = 40 * uniform(dice);
    if (e->speculation.is_on) {
        e->speculation.acceptance = uniform(dice);
        e->speculation.drafts_per_sequence = 8 * uniform(dice);
        e->speculation.step_share = uniform(dice);
        e->speculation.draft_s = 50 * uniform(dice);
        if (uniform(dice) < 0.5) e->speculation.gain = 2 * uniform(dice);
    }
    static const int64_t values[KNOBS][3] = {{4, 8, 128}, {0, 8, 64}, {0, 8, 64}, {10, 50, 100},
                                             {-1, 1, 4},  {1, 4, 8},  {0, 1, 1}};
    for (int i = 0; i < KNOBS; i++)
        if (uniform(dice) < 0.5) e->setup.knobs.knob[i].value = values[i][(int)(3 * uniform(dice))];
}

// A word by itself, as printf writes what is no number; and what is written for an unknown one.
static bool has_no_number(const char *text) {
    static const char *const words[] = {"nan", "inf", "unknown"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (const char *at = text; (at = strstr(at, words[i])); at++) {
            bool begins = at == text || !isalpha((unsigned char)at[-1]);
            if (begins && !isalpha((unsigned char)at[strlen(words[i])])) return true;
        }
    return false;
}

#define CHECK_TEXT(field) check_text(f->id, #field, field, sizeof(field))
static void check_text(const char *id, const char *name, const char *text, size_t size) {
    if (!memchr(text, 0, size)) fail_msg("%s: %s does not end", id, name);
    if (has_no_number(text)) fail_msg("%s: %s: %s", id, name, text);
}

static void check_finding(const struct finding *f) {
    if (!finding_is_sound(f)) fail_msg("%s breaks the contract: %s", f->id, f->diagnosis);
    CHECK_TEXT(f->diagnosis);
    CHECK_TEXT(f->action);
    CHECK_TEXT(f->flag);
    CHECK_TEXT(f->quality_gate);
    CHECK_TEXT(f->experiment);
    CHECK_TEXT(f->success);
    CHECK_TEXT(f->rollback);
    CHECK_TEXT(f->why);
    CHECK_TEXT(f->effect.method);
    for (int i = 0; i < f->n_risks; i++) CHECK_TEXT(f->risks[i]);
}

static void check_diagnosis(const struct evidence *e) {
    assert_true(diagnosis.headline[0] && diagnosis.confidence);
    if (has_no_number(diagnosis.headline)) fail_msg("%s", diagnosis.headline);
    for (int i = 0; i < diagnosis.n_findings; i++) check_finding(&diagnosis.findings[i]);
    for (int i = 1; i < diagnosis.n_findings; i++)
        assert_true(diagnosis.findings[i - 1].benefit >= diagnosis.findings[i].benefit);
    for (int i = 0; i < diagnosis.n_why_not; i++) assert_false(has_no_number(diagnosis.why_not[i]));
    for (int i = 0; i < diagnosis.n_suppressed; i++) {
        assert_true(diagnosis.suppressed[i].reason[0]);
        if (has_no_number(diagnosis.suppressed[i].reason)) fail_msg("%s", diagnosis.suppressed[i].reason);
    }
    for (int i = 0; i < diagnosis.n_healthy; i++) assert_true(diagnosis.healthy[i].text[0]);
    for (int i = 0; i < diagnosis.n_questions; i++)
        assert_true(diagnosis.questions[i].text[0] && diagnosis.questions[i].command[0]);
    (void)e;
}

// Advice that rests on a price or an objective waits until there is one, and a question asks for it.
static void check_context(const struct evidence *e) {
    bool price = figure_known(e->setup.price_per_hour), itl = figure_known(e->setup.objective_itl),
         ttft = figure_known(e->setup.objective_ttft);
    for (int i = 0; i < diagnosis.n_findings; i++) {
        const struct finding *f = &diagnosis.findings[i];
        bool is_cost = f->has_effect && strncmp(f->effect.metric, "cost_", 5) == 0;
        if (is_cost && !price) fail_msg("%s without a price", f->id);
        if (!itl && (strcmp(f->id, "R2") == 0 || (strcmp(f->id, "R8") == 0 && f->flag[0])))
            fail_msg("%s without an objective", f->id);
        if (!ttft && strcmp(f->id, "R24") == 0 && f->flag[0]) fail_msg("R24 without an objective");
    }
    int asked = 0;
    for (int i = 0; i < diagnosis.n_questions; i++)
        asked += strcmp(diagnosis.questions[i].need, "price_per_hour") == 0 ||
                 strncmp(diagnosis.questions[i].need, "objective_", 10) == 0;
    assert_int_equal(asked, !price + !itl + !ttft);
}

static void findings_of_any_evidence_keep_their_contract(void **state) {
    (void)state;
    struct dice dice = {.seed = 7};
    struct rule_memory memory = {0};
    for (int trial = 0; trial < TRIALS; trial++) {
        struct evidence e = example_evidence();
        rule_cases[trial % n_rule_cases].change(&e);
        shake_plausibly(&e, &dice, 0.5 * uniform(&dice));
        shake_absurdly(&e, &dice);
        shake_counts(&e, &dice);
        shake_choices(&e, &dice);
        diagnosis_make(&diagnosis, &e, trial % 2 ? &memory : NULL);
        check_diagnosis(&e);
        check_context(&e);
    }
}

// Of evidence that could be, no rule says anything that the contract then holds back.
static void rules_are_sound_by_themselves(void **state) {
    (void)state;
    struct dice dice = {.seed = 11};
    static int n_fired[FINDINGS_MAX];
    for (int trial = 0; trial < TRIALS; trial++) {
        struct evidence e = example_evidence();
        rule_cases[trial % n_rule_cases].change(&e);
        shake_plausibly(&e, &dice, 0.3 * uniform(&dice));
        shake_choices(&e, &dice);
        shake_troubles(&e, &dice);
        for (int i = 0; i < n_rules; i++) {
            static struct rule_result result;
            result = (struct rule_result){.slack = 1};
            result.finding.id = rules[i].id;
            result.finding.name = rules[i].name;
            enum verdict_of_rule verdict = rules[i].look(&e, &result);
            result.finding.source = rules[i].source;
            if (verdict == RULE_FIRES) check_finding(&result.finding);
            n_fired[i] += verdict == RULE_FIRES;
        }
        diagnosis_make(&diagnosis, &e, NULL);
        check_diagnosis(&e);
        check_context(&e);
    }
    for (int i = 0; i < n_rules; i++)
        if (!n_fired[i] && strcmp(rules[i].id, "R40") != 0) fail_msg("%s was never tried", rules[i].id);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(findings_of_any_evidence_keep_their_contract),
        cmocka_unit_test(rules_are_sound_by_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
