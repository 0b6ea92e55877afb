// Pairs of blocks decide what they should, in time, and no more often by mistake than they say.
#include "tests/test.h"

#include "base/json.h"
#include "base/json_write.h"
#include "base/rng.h"
#include "bench/ab.h"
#include "tests/bench/synthetic.h"

#include <math.h>

static double noise(uint64_t key, uint64_t i) {
    return rng_normal_quantile(((double)rng_u32(rng_key(key, 5, 0), i) + 0.5) * 0x1p-32);
}

// Pairs whose log ratios scatter by 3 %, around log(factor), on a machine that drifts.
static struct ab run(double factor, uint64_t key, enum ab_metric metric) {
    struct ab ab = {.metric = metric, .least = 0.02, .pairs_max = 40};
    for (uint64_t i = 0; !ab.done; i++) {
        const double level = 0.1 * (1 + 0.01 * (double)i);
        struct ab_block a = {.n_requests = 8}, b = {.n_requests = 8};
        for (int m = 0; m < AB_METRICS; m++)
            a.value[m] = level, b.value[m] = level * factor * exp(0.03 * noise(key, i));
        ab_add(&ab, &a, &b);
    }
    return ab;
}

static void verdicts_are_right(void **state) {
    (void)state;
    static const struct {
        double factor;
        enum ab_metric metric;
        enum ab_verdict verdict;
    } rows[] = {{1.10, AB_E2E, AB_WORSE},
                {0.90, AB_TTFT, AB_BETTER},
                {1.10, AB_TOKENS, AB_BETTER},
                {0.90, AB_TOKENS, AB_WORSE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ab ab = run(rows[i].factor, i, rows[i].metric);
        if (ab.verdict != rows[i].verdict) fail_msg("%zu: %d", i, ab.verdict);
        if (ab.pairs.count > 16) fail_msg("%zu: %zu pairs", i, ab.pairs.count); // an end before the 40
        const double p = ab_regression(&ab);
        assert_true(rows[i].verdict == AB_WORSE ? p > 0.99 : p < 0.01);
        ab_close(&ab);
    }
}

// Equal servers, looked at after every pair: called different in at most 5 of 100 runs.
static void equal_servers_are_rarely_called_different(void **state) {
    (void)state;
    int n_wrong = 0, n_early = 0;
    for (uint64_t t = 0; t < 400; t++) {
        struct ab ab = run(1, 1000 + t, AB_E2E);
        n_wrong += ab.verdict == AB_BETTER || ab.verdict == AB_WORSE;
        n_early += ab.verdict == AB_NO_DIFFERENCE;
        ab_close(&ab);
    }
    if (n_wrong > 20) fail_msg("%d of 400", n_wrong);
    if (n_early < 100) fail_msg("futile in only %d of 400", n_early);
}

static void servers_that_fail_end_it(void **state) {
    (void)state;
    struct ab ab = {.metric = AB_E2E, .least = 0.02, .pairs_max = 40};
    struct run_record run = {.duration_ns = 1000000000};
    struct ab_block a, b;
    synthetic_add(&run, 0, 0, 0.05, 4, 0.01, 1);
    ab_block_make(&a, &run);
    assert_true(fabs(a.value[AB_E2E] - 0.09) < 1e-9 && fabs(a.value[AB_TPOT] - 0.01) < 1e-9);
    assert_true(fabs(a.value[AB_TOKENS] - 5) < 1e-9);
    run_record_close(&run);
    run = (struct run_record){.duration_ns = 1000000000};
    synthetic_add_failed(&run, 0, 0, OUTCOME_STATUS);
    ab_block_make(&b, &run);
    assert_true(isnan(b.value[AB_E2E]) && b.n_failed == 1);
    run_record_close(&run);
    for (int i = 0; i < 3; i++) ab_add(&ab, &a, &b);
    assert_true(ab.done && ab.verdict == AB_FAILING);
    struct str text = STR_INIT;
    json_write_begin(&text, NULL, '{');
    ab_json(&ab, &text);
    json_write_end(&text, '}');
    json_write_close(&text);
    struct err err = {0};
    const struct json_limits limits = JSON_LIMITS_FILE;
    if (json_validate(text.data, text.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    str_close(&text);
    ab_close(&ab);
}

// Two blocks one behind the other: the second's times are shifted, its gaps found.
static void blocks_are_put_behind_each_other(void **state) {
    (void)state;
    struct run_record all = {0}, block = {0};
    synthetic_add(&block, 7, 0, 0.05, 2, 0.01, 1);
    run_record_append(&all, &block);
    run_record_append(&all, &block);
    assert_int_equal(all.requests.count, 2);
    assert_int_equal(all.requests.items[1].scheduled_ns, 70000000);
    assert_int_equal(all.requests.items[1].first_ns, 120000000);
    assert_int_equal(all.requests.items[1].gap_first, 2);
    assert_int_equal(all.duration_ns, 140000000);
    run_record_close(&all);
    run_record_close(&block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_are_right), cmocka_unit_test(equal_servers_are_rarely_called_different),
        cmocka_unit_test(servers_that_fail_end_it), cmocka_unit_test(blocks_are_put_behind_each_other)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
