// What is said about a run: figures worked out by hand, and intervals that mean what they say.
#include "tests/test.h"

#include "bench/series.h"
#include "tests/bench/synthetic.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static void close_to(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.9g, not %.9g", got, want);
}

static struct summary summary_of(const struct run_record *run, const struct objectives *objectives) {
    struct summary summary;
    summary_make(&summary, run, objectives, false, 0);
    return summary;
}

// 40 requests, one every 100 ms, of 5 events of 2 tokens: TTFT 50 ms (30 of them) or 80 ms (10), gaps of 12 ms.
// TPOT = 4 * 12 / 9 ms. A gap counts for 9 / 4 tokens, so that each of the two that it is rounded to has 12 / 2.25 ms.
static void figures_are_those_worked_out_by_hand(void **state) {
    (void)state;
    struct run_record run = {0};
    for (int i = 0; i < 40; i++) synthetic_add(&run, (uint64_t)i, i * 0.1, i % 4 ? 0.05 : 0.08, 4, 0.012, 2);
    struct summary s = summary_of(&run, &(struct objectives){.ttft = 0.06});
    close_to(s.latency[LATENCY_TTFT].mean.mean, 0.0575, 1e-9);
    close_to(s.latency[LATENCY_TTFT].percentile[0].mean, 0.05, 1e-9);
    close_to(s.latency[LATENCY_TTFT].largest, 0.08, 1e-9);
    close_to(s.latency[LATENCY_TPOT].mean.mean, 0.048 / 9, 1e-9);
    close_to(s.latency[LATENCY_ITL].mean.mean, 0.012 / 2.25, 1e-9);
    assert_int_equal(s.latency[LATENCY_ITL].n, 40 * 4 * 2);
    close_to(s.latency[LATENCY_E2E].mean.mean, 0.0575 + 0.048, 1e-9);
    close_to(s.latency[LATENCY_DISPATCH].largest, 0, 0);
    close_to(s.goodput.mean, 0.75, 1e-12);
    close_to(s.mean_output, 10, 0);
    close_to(s.mean_prompt, 100, 0);
    // The window is from 0 to 3.9 s; the last request takes its time beyond, the others wholly in it.
    close_to(s.request_rate.mean, 39 / 3.9, 0.01);
    close_to(s.output_rate.mean, 390 / 3.9, 0.1);
    close_to(s.in_flight, (30 * 0.098 + 9 * 0.128) / 3.9, 0.03);
    close_to(s.offered_rate, 40 / 3.9, 1e-9);
    summary_close(&s);
    run_record_close(&run);
}

// Failures are in no latency, and miss the objectives; what was in flight at the end says nothing of the server.
static void failures_are_misses(void **state) {
    (void)state;
    struct run_record run = {0};
    for (int i = 0; i < 30; i++) synthetic_add(&run, (uint64_t)i, i * 0.1, 0.05, 4, 0.01, 1);
    for (int i = 0; i < 10; i++) synthetic_add_failed(&run, (uint64_t)i + 30, i * 0.1, OUTCOME_RESET);
    for (int i = 0; i < 5; i++) synthetic_add_failed(&run, (uint64_t)i + 40, i * 0.1, OUTCOME_STOPPED);
    struct summary s = summary_of(&run, &(struct objectives){.ttft = 0.06});
    assert_int_equal(s.latency[LATENCY_TTFT].n, 30);
    assert_int_equal(s.n_by_outcome[OUTCOME_RESET], 10);
    close_to(s.goodput.mean, 0.75, 1e-12);
    summary_close(&s);
    run_record_close(&run);
}

// Values beyond a percentile are what it is read from: fewer than five are none.
static void percentiles_need_their_sample(void **state) {
    (void)state;
    static const struct {
        int n, n_printed;
    } rows[] = {{9, 0}, {10, 1}, {49, 1}, {50, 2}, {99, 2}, {100, 3}, {499, 3}, {500, 4}, {9999, 4}, {10000, 5}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run_record run = {0};
        for (int r = 0; r < rows[i].n; r++)
            synthetic_add(&run, (uint64_t)r, r * 0.01, 0.05 + r % 7 * 0.001, 1, 0.01, 1);
        struct summary s = summary_of(&run, &(struct objectives){0});
        int n_printed = 0;
        for (int p = 0; p < PERCENTILES; p++) n_printed += !isnan(s.latency[LATENCY_TTFT].percentile[p].mean);
        if (n_printed != rows[i].n_printed) fail_msg("%d percentiles of %d values", n_printed, rows[i].n);
        summary_close(&s);
        run_record_close(&run);
    }
}

static bool overlap(const struct interval *a, const struct interval *b) {
    return a->low <= b->high && b->low <= a->high;
}

// A server that has slow moods, measured twice: the intervals overlap.
static void equal_runs_have_overlapping_intervals(void **state) {
    (void)state;
    enum { TRIALS = 100, LEAST = 90 };
    int n_ttft = 0, n_p50 = 0, n_p95 = 0, n_e2e = 0, n_rate = 0;
    for (uint64_t t = 0; t < TRIALS; t++) {
        struct measurement a, b;
        synthetic_measurement(&a, 600, 2 * t + 1, 1);
        synthetic_measurement(&b, 600, 2 * t + 2, 1);
        const struct latency_summary *x = a.summary.latency, *y = b.summary.latency;
        n_ttft += overlap(&x[LATENCY_TTFT].mean, &y[LATENCY_TTFT].mean);
        n_p50 += overlap(&x[LATENCY_ITL].percentile[0], &y[LATENCY_ITL].percentile[0]);
        n_p95 += overlap(&x[LATENCY_TTFT].percentile[2], &y[LATENCY_TTFT].percentile[2]);
        n_e2e += overlap(&x[LATENCY_E2E].mean, &y[LATENCY_E2E].mean);
        n_rate += overlap(&a.summary.output_rate, &b.summary.output_rate);
        measurement_close(&a);
        measurement_close(&b);
    }
    if (n_ttft < LEAST || n_p50 < LEAST || n_p95 < LEAST || n_e2e < LEAST || n_rate < LEAST)
        fail_msg("of 100: TTFT %d, ITL p50 %d, TTFT p95 %d, E2E %d, tokens/s %d", n_ttft, n_p50, n_p95, n_e2e, n_rate);
}

// Two requests, each 8 gaps of 10 ms: a second later one whose gaps are 40 ms. Parts hold what fell into them.
static void series_hold_what_fell_into_them(void **state) {
    (void)state;
    struct run_record run = {0};
    synthetic_add(&run, 0, 0.0, 0.01, 8, 0.01, 1);
    synthetic_add(&run, 1, 1.0, 0.03, 8, 0.04, 1);
    synthetic_add_failed(&run, 2, 1.3, OUTCOME_STATUS);
    struct series series;
    series_make(&series, &run);
    close_to(series.width_s, 0.02, 1e-12); // 1.35 s in at most 80 parts
    assert_int_equal(series.parts.count, 68);
    size_t n_due = 0, n_completed = 0, n_failed = 0, n_gaps = 0;
    double tokens = 0, busy = 0;
    for (size_t p = 0; p < series.parts.count; p++) {
        const struct series_part *part = &series.parts.items[p];
        n_due += part->n_due, n_completed += part->n_completed, n_failed += part->n_failed;
        const double width = fmin(series.width_s, series.end_s - part->at_s);
        tokens += part->output_rate * width, busy += part->in_flight * width;
        for (int row = 0; row < SERIES_ROWS; row++) n_gaps += part->gaps[row];
    }
    assert_true(n_due == 3 && n_completed == 2 && n_failed == 1 && n_gaps == 16);
    close_to(tokens, 18, 1e-6);
    close_to(busy, 0.09 + 0.35, 1e-6);
    close_to(series.parts.items[0].ttft_p50, 0.01, 1e-9);
    close_to(series.parts.items[2].itl_p50, 0.01, 1e-9);
    close_to(series.parts.items[59].itl_largest, 0.04, 1e-9);
    series_close(&series);
    run_record_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_those_worked_out_by_hand), cmocka_unit_test(failures_are_misses),
        cmocka_unit_test(percentiles_need_their_sample),        cmocka_unit_test(equal_runs_have_overlapping_intervals),
        cmocka_unit_test(series_hold_what_fell_into_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
