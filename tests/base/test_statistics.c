// Means and their intervals, and quantiles.
#include "tests/test.h"

#include "base/rng.h"
#include "base/statistics.h"

#include <math.h>
#include <stdbool.h>

static void close_to(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g, not %.12g", got, want);
}

// Blocks with the means 1, 2, 3: 2 +- 4.3027 * sqrt(1 / 3), where the expansion of the quantile is within 4 %. One
// block says nothing of its spread.
static void intervals_are_students(void **state) {
    (void)state;
    double values[24];
    for (int i = 0; i < 24; i++) values[i] = 1 + i / 8;
    struct interval three = statistics_mean(values, 24);
    close_to(three.mean, 2, 1e-12);
    close_to(three.high - 2, 4.302653 / sqrt(3), 0.1);
    close_to(2 - three.low, 4.302653 / sqrt(3), 0.1);
    struct interval one = statistics_mean(values, 15);
    assert_true(isinf(one.low) && isinf(one.high));
    close_to(one.mean, 22.0 / 15, 1e-12);
    assert_true(isnan(statistics_mean(values, 0).mean));
}

// The interval of noise around 0 has 0 in it 95 times of 100, also where neighbours are equal.
static void intervals_cover(void **state) {
    (void)state;
    static const size_t repeats[] = {1, 4};
    for (size_t r = 0; r < 2; r++) {
        int n_covered = 0;
        for (uint32_t trial = 0; trial < 2000; trial++) {
            double values[512];
            for (size_t i = 0; i < 512; i++) values[i] = rng_u32(rng_key(trial, 0, 0), i / repeats[r]) / 0x1p32 - 0.5;
            struct interval x = statistics_mean(values, 512);
            n_covered += x.low <= 0 && x.high >= 0;
        }
        if (n_covered < 1840 || n_covered > 1950) fail_msg("%d of 2000 intervals hold the mean", n_covered);
    }
}

static void quantiles_lie_between_neighbours(void **state) {
    (void)state;
    double values[] = {5, 1, 4, 2, 3};
    close_to(statistics_quantile(values, 5, 0.5), 3, 0);
    close_to(statistics_quantile(values, 5, 0), 1, 0);
    close_to(statistics_quantile(values, 5, 1), 5, 0);
    close_to(statistics_quantile(values, 5, 0.9), 4.6, 1e-12);
    close_to(statistics_quantile(values, 1, 0.9), 1, 0);
}

// Ranks by scipy 1.16: the largest l with binom.cdf(l - 1, n, q) <= 0.025 and the smallest u with
// binom.sf(u - 1, n, q) <= 0.025; u = n + 1 is no bound.
static void intervals_of_quantiles_are_ranks(void **state) {
    (void)state;
    static const struct {
        size_t n;
        double q, low, high;
    } rows[] = {{1000, 0.99, 983, 997}, {500, 0.99, 490, 500},   {200, 0.99, 195, INFINITY},
                {100, 0.5, 40, 61},     {30, 0.9, 23, INFINITY}, {3, 0.5, -INFINITY, INFINITY}};
    double values[1000];
    for (int i = 0; i < 1000; i++) values[i] = i + 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct interval x = statistics_quantile_interval(values, rows[i].n, (double)rows[i].n, rows[i].q);
        if (x.low != rows[i].low || x.high != rows[i].high)
            fail_msg("n %zu q %g: %g to %g", rows[i].n, rows[i].q, x.low, x.high);
    }
    // A quarter of the values in truth: the ranks of 250, times four.
    struct interval fewer = statistics_quantile_interval(values, 1000, 250, 0.5);
    assert_true(fewer.low > 430 && fewer.low < 445 && fewer.high > 555 && fewer.high < 570);
}

// By scipy's binomtest(k, n).proportion_ci(method="wilson"), linregress with Student's quantile, and permutation_test.
static void shares_slopes_and_signs_agree_with_scipy(void **state) {
    (void)state;
    struct interval share = statistics_share(3, 10);
    close_to(share.low, 0.10779126740630102, 1e-12);
    close_to(share.high, 0.6032218525388546, 1e-12);
    close_to(statistics_share(0, 10).high, 0.27753279986288926, 1e-12);
    close_to(statistics_share(97, 100).low, 0.9154806357094724, 1e-12);
    static const double line[] = {1, 2, 2.5, 4.5, 5, 5.5};
    struct interval slope = statistics_slope(line, 6);
    close_to(slope.mean, 0.9571428571428572, 1e-12);
    close_to(slope.low, 0.6842610415107786, 3e-3);
    close_to(slope.high, 1.2300246727749358, 3e-3);
    static const double differences[] = {0.3, 0.1, -0.05, 0.2, 0.15, 0.12, 0.08};
    close_to(statistics_sign_flip(differences, 7, 1), 0.03125, 0);
}

static double noise(uint64_t key, uint64_t i) {
    return rng_normal_quantile(((double)rng_u32(rng_key(key, 0, 0), i) + 0.5) * 0x1p-32);
}

// Neighbours that share 0.8 of their value: the count falls to (1 - 0.8) / (1 + 0.8) of it.
static void correlated_values_count_for_less(void **state) {
    (void)state;
    enum { N = 20000 };
    static double values[N];
    for (size_t i = 0; i < N; i++) values[i] = (i ? 0.8 * values[i - 1] : 0) + noise(77, i);
    close_to(statistics_effective_count(values, N) / N, 0.2 / 1.8, 0.01);
    for (size_t i = 0; i < N; i++) values[i] = noise(78, i);
    assert_true(statistics_effective_count(values, N) > 0.95 * N);
    close_to(statistics_effective_count((double[]){1, 1, 1, 1}, 4), 4, 0);
}

static void warm_up_ends_where_the_level_is_reached(void **state) {
    (void)state;
    double values[400];
    for (size_t i = 0; i < 400; i++) values[i] = 10 + 0.2 * noise(5, i) + (i < 60 ? 8.0 * (double)(60 - i) / 60 : 0);
    size_t cut = statistics_warm_up(values, 400);
    if (cut < 40 || cut > 75) fail_msg("%zu", cut);
    for (size_t i = 0; i < 400; i++) values[i] = 10 + 0.2 * noise(6, i);
    assert_true(statistics_warm_up(values, 400) <= 200);
    assert_int_equal(statistics_warm_up(values, 4), 0);
}

// Looking after every pair, noise is called a difference in at most 5 of 100 runs; a difference of one deviation is
// found within 40 pairs nearly always.
static void sequences_may_be_looked_at_after_every_pair(void **state) {
    (void)state;
    int n_false = 0, n_found = 0;
    for (uint64_t trial = 0; trial < 1000; trial++) {
        double null[40], shifted[40];
        bool is_false = false, found = false;
        for (size_t n = 1; n <= 40; n++) {
            null[n - 1] = noise(rng_key(9, trial, 0), n);
            shifted[n - 1] = null[n - 1] + 1;
            struct interval x = statistics_sequence(null, n, 0.05), y = statistics_sequence(shifted, n, 0.05);
            is_false |= x.low > 0 || x.high < 0;
            found |= y.low > 0;
        }
        n_false += is_false, n_found += found;
    }
    if (n_false > 50 || n_found < 990) fail_msg("%d false, %d found of 1000", n_false, n_found);
}

// Neighbours that share 0.7 of their value, 1,000 of them: the block bootstrap's 95 % hold the true median and the true
// 90th percentile (1.2816 deviations of 1 / sqrt(1 - 0.49)) in most trials. Values drawn one by one hold it in some 60
// of 100.
static void bootstrap_covers_autocorrelated_quantiles(void **state) {
    (void)state;
    enum { N = 1000, TRIALS = 200, DRAWS = 200 };
    const double q[2] = {0.5, 0.9}, want[3] = {0, 0, 1.2815515655 / sqrt(1 - 0.49)};
    static double values[N], draws[DRAWS * 3];
    int n_held[3] = {0};
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        double x = noise(rng_key(31, trial, 1), 0) / sqrt(1 - 0.49);
        for (size_t i = 0; i < N; i++) values[i] = x = 0.7 * x + noise(rng_key(31, trial, 0), i);
        assert_true(statistics_bootstrap(values, N, q, 2, DRAWS, trial, draws));
        for (int c = 0; c < 3; c++) {
            double column[DRAWS];
            for (int d = 0; d < DRAWS; d++) column[d] = draws[d * 3 + c];
            const double low = statistics_quantile(column, DRAWS, 0.025),
                         high = statistics_quantile(column, DRAWS, 0.975);
            n_held[c] += low <= want[c] && want[c] <= high;
        }
    }
    for (int c = 0; c < 3; c++)
        if (n_held[c] < TRIALS * 0.88) fail_msg("%d: %d of %d", c, n_held[c], TRIALS);
    assert_false(statistics_bootstrap(values, 15, q, 2, DRAWS, 0, draws));
}

// The same seed draws the same blocks: of values and twice the values, every draw is twice as large.
static void bootstrap_keeps_pairs(void **state) {
    (void)state;
    double a[64], b[64], of_a[40], of_b[40];
    for (size_t i = 0; i < 64; i++) a[i] = 1 + fabs(noise(8, i)), b[i] = 2 * a[i];
    assert_true(statistics_bootstrap(a, 64, (double[]){0.5}, 1, 20, 4, of_a));
    assert_true(statistics_bootstrap(b, 64, (double[]){0.5}, 1, 20, 4, of_b));
    for (int i = 0; i < 40; i++) close_to(of_b[i], 2 * of_a[i], 1e-12);
}

// Tables of Student's distribution; Holm's own example of three hypotheses.
static void tails_and_corrections_are_those_of_tables(void **state) {
    (void)state;
    close_to(statistics_student_above(2.228139, 10), 0.025, 1e-6);
    close_to(statistics_student_above(-2.228139, 10), 0.975, 1e-6);
    close_to(statistics_student_above(6.313752, 1), 0.05, 1e-6);
    close_to(statistics_student_above(0, 5), 0.5, 1e-12);
    // 1 .. 6: 3.5 +- 2.5706 * sqrt(3.5 / 6)
    const struct interval six = statistics_mean_independent((double[]){1, 2, 3, 4, 5, 6}, 6);
    close_to(six.mean, 3.5, 1e-12), close_to(six.high - 3.5, 1.9633, 0.02), close_to(3.5 - six.low, 1.9633, 0.02);
    double p[4] = {0.01, 0.04, 0.03, 0.005};
    const double want[4] = {0.03, 0.06, 0.06, 0.02};
    statistics_holm(p, 4);
    for (int i = 0; i < 4; i++) close_to(p[i], want[i], 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(intervals_are_students),
                                       cmocka_unit_test(intervals_cover),
                                       cmocka_unit_test(quantiles_lie_between_neighbours),
                                       cmocka_unit_test(intervals_of_quantiles_are_ranks),
                                       cmocka_unit_test(shares_slopes_and_signs_agree_with_scipy),
                                       cmocka_unit_test(correlated_values_count_for_less),
                                       cmocka_unit_test(warm_up_ends_where_the_level_is_reached),
                                       cmocka_unit_test(sequences_may_be_looked_at_after_every_pair),
                                       cmocka_unit_test(bootstrap_covers_autocorrelated_quantiles),
                                       cmocka_unit_test(bootstrap_keeps_pairs),
                                       cmocka_unit_test(tails_and_corrections_are_those_of_tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
