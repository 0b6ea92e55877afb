// Each rule fires on what it is about, with an effect worked out by hand; stays silent just below its threshold; and
// says nothing where what it needs is not known.
#include "tests/test.h"

#include "advisor/rules.h"
#include "tests/advisor/example_evidence.h"
#include "tests/advisor/plain_step_model.h"
#include "tests/advisor/rule_cases.h"

#include <math.h>

static const struct rule *rule_of(const char *id) {
    for (int i = 0; i < n_rules; i++)
        if (strcmp(rules[i].id, id) == 0) return &rules[i];
    fail_msg("no rule %s", id);
    return NULL;
}

static enum verdict_of_rule look(const struct rule *rule, const struct evidence *e, struct rule_result *out) {
    *out = (struct rule_result){.slack = 1};
    out->finding.id = rule->id;
    out->finding.name = rule->name;
    enum verdict_of_rule verdict = rule->look(e, out);
    out->finding.source = rule->source;
    return verdict;
}

// Says what is wrong; NULL: nothing.
static const char *problem_of(const struct rule_case *c, enum verdict_of_rule verdict,
                              const struct rule_result *result) {
    static char text[400];
    const struct finding *f = &result->finding;
    struct range factor = f->effect.factor;
    if (verdict != c->verdict)
        snprintf(text, sizeof text, "says %d, expected %d", (int)verdict, (int)c->verdict);
    else if (verdict == RULE_WONT_HELP)
        return result->suppressed.reason[0] ? NULL : "no reason";
    else if (verdict == RULE_HEALTHY)
        return result->healthy.text[0] ? NULL : "no text";
    else if (verdict == RULE_UNKNOWN)
        return NULL;
    else if (c->flag && strcmp(c->flag, f->flag) != 0)
        snprintf(text, sizeof text, "flag \"%s\"", f->flag);
    else if (!finding_is_sound(f))
        return "breaks the contract of findings";
    else if (c->low > 0 && (fabs(factor.low - c->low) > 1e-6 * c->low || fabs(factor.high - c->high) > 1e-6 * c->high))
        snprintf(text, sizeof text, "%s is %.9g to %.9g, expected %.9g to %.9g", f->effect.metric, factor.low,
                 factor.high, c->low, c->high);
    else
        return NULL;
    return text;
}

static void rules_fire_on_what_they_are_about(void **state) {
    (void)state;
    int n_wrong = 0;
    for (int i = 0; i < n_rule_cases; i++) {
        struct evidence e = example_evidence();
        rule_cases[i].change(&e);
        static struct rule_result result;
        const char *problem = problem_of(&rule_cases[i], look(rule_of(rule_cases[i].id), &e, &result), &result);
        if (problem) print_error("%s, %s: %s\n", rule_cases[i].id, rule_cases[i].name, problem);
        n_wrong += problem != NULL;
    }
    assert_int_equal(n_wrong, 0);
}

static void healthy_servers_have_no_findings(void **state) {
    (void)state;
    struct evidence e = example_evidence();
    for (int i = 0; i < n_rules; i++) {
        static struct rule_result result;
        if (look(&rules[i], &e, &result) == RULE_FIRES) fail_msg("%s: %s", rules[i].id, result.finding.diagnosis);
    }
}

static void every_rule_is_tested_where_it_fires(void **state) {
    (void)state;
    for (int i = 0; i < n_rules; i++) {
        bool is_there = false;
        for (int k = 0; k < n_rule_cases; k++)
            is_there |= strcmp(rule_cases[k].id, rules[i].id) == 0 && rule_cases[k].verdict == RULE_FIRES;
        if (!is_there) fail_msg("no case in which %s fires", rules[i].id);
    }
}

static void unknown_numbers_are_never_built_upon(void **state) {
    (void)state;
    for (int i = 0; i < n_rule_cases; i++) {
        for (int k = 0; k < n_evidence_fields; k++) {
            struct evidence e = example_evidence();
            rule_cases[i].change(&e);
            *(double *)((char *)&e + evidence_fields[k].offset) = NAN;
            static struct rule_result result;
            if (look(rule_of(rule_cases[i].id), &e, &result) == RULE_FIRES && !finding_is_sound(&result.finding))
                fail_msg("%s: %s rests on %s", rule_cases[i].name, rule_cases[i].id, evidence_fields[k].name);
        }
    }
}

static void nothing_known_is_nothing_said(void **state) {
    (void)state;
    struct evidence e = example_evidence();
    for (int k = 0; k < n_evidence_fields; k++) *(double *)((char *)&e + evidence_fields[k].offset) = NAN;
    for (int i = 0; i < n_rules; i++) {
        static struct rule_result result;
        if (look(&rules[i], &e, &result) == RULE_FIRES) fail_msg("%s fires on nothing", rules[i].id);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_fire_on_what_they_are_about),   cmocka_unit_test(healthy_servers_have_no_findings),
        cmocka_unit_test(every_rule_is_tested_where_it_fires), cmocka_unit_test(unknown_numbers_are_never_built_upon),
        cmocka_unit_test(nothing_known_is_nothing_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
