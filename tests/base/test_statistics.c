// Means and their intervals, and quantiles.
#include "tests/test.h"

#include "base/rng.h"
#include "base/statistics.h"

#include <math.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(intervals_are_students), cmocka_unit_test(intervals_cover),
                                       cmocka_unit_test(quantiles_lie_between_neighbours)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
