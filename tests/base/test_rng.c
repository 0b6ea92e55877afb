// The counter-based generator: numbers depend on key and counter alone, look uniform and independent, and the
// exponential is fine where small values decide.
#include "tests/test.h"

#include "base/rng.h"

enum { N = 1 << 20 };

static void numbers_are_functions(void **state) {
    (void)state;
    uint64_t key = rng_key(42, 1, 7);
    assert_true(rng_u32(key, 5) == rng_u32(key, 5));
    assert_true(rng_u32(key, 5) != rng_u32(key, 6));
    assert_true(rng_u32(key, 5) != rng_u32(rng_key(42, 1, 8), 5));
    assert_true(rng_key(1, 2, 3) != rng_key(2, 1, 3));
    assert_true(rng_key(0, 0, 0) & 1);
}

// SplitMix64 of seed 0 and of 1234567: the first outputs, as its author's code gives them.
static void mixing_matches_splitmix64(void **state) {
    (void)state;
    assert_true(rng_mix64(0) == 0xe220a8397b1dcdafu);
    assert_true(rng_mix64(1234567) == 6457827717110365317u);
}

// With 255 degrees of freedom a chi-square statistic stays between 170 and 360 in all but one of 10,000 experiments.
static void expect_flat(const double *counts, double expected) {
    double statistic = 0;
    for (int i = 0; i < 256; i++) statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    assert_true(statistic > 170 && statistic < 360);
}

static void bytes_are_uniform(void **state) {
    (void)state;
    for (int shift = 0; shift < 32; shift += 8) {
        double by_counter[256] = {0}, by_key[256] = {0};
        for (uint32_t i = 0; i < N; i++) {
            by_counter[rng_u32(rng_key(9, 0, 0), i) >> shift & 255]++;
            by_key[rng_u32(rng_key(i, 0, 3), 17) >> shift & 255]++;
        }
        expect_flat(by_counter, N / 256.0);
        expect_flat(by_key, N / 256.0);
    }
}

static void neighbours_are_independent(void **state) {
    (void)state;
    double counts[256] = {0}; // high bits of neighbours, in counter and in position
    for (uint32_t i = 0; i < N; i++) {
        uint32_t a = rng_u32(rng_key(1, 0, i), 100), b = rng_u32(rng_key(1, 0, i), 101),
                 c = rng_u32(rng_key(1, 0, i + 1), 100);
        counts[(a >> 29) << 5 | (b >> 29) << 2 | c >> 30]++;
    }
    expect_flat(counts, N / 256.0);
}

static void uniforms_and_exponentials_have_their_moments(void **state) {
    (void)state;
    double sum = 0, exponential = 0, square = 0;
    float least = 1, largest = 0, least_exponential = 1;
    for (uint32_t i = 0; i < N; i++) {
        float u = rng_uniform(rng_key(3, 0, 0), i), e = rng_exponential(rng_key(4, 0, 0), i);
        sum += (double)u;
        exponential += (double)e, square += (double)e * (double)e;
        least = u < least ? u : least, largest = u > largest ? u : largest;
        least_exponential = e < least_exponential ? e : least_exponential;
    }
    // Six standard deviations of each mean.
    assert_true(fabs(sum / N - 0.5) < 6 * 0.2887 / 1024);
    assert_true(fabs(exponential / N - 1) < 6.0 / 1024);
    assert_true(fabs(square / N - 2) < 6 * 4.472 / 1024);
    assert_true(least > 0 && least < 1e-5f && largest <= 1 && least_exponential > 0);
}

static void quantiles_are_those_of_tables(void **state) {
    (void)state;
    // Abramowitz and Stegun, table 26.5.
    assert_true(fabs(rng_normal_quantile(0.5)) < 1e-12);
    assert_true(fabs(rng_normal_quantile(0.975) - 1.959963985) < 1e-8);
    assert_true(fabs(rng_normal_quantile(0.001) + 3.090232306) < 1e-8);
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t bits = rng_u32(rng_key(5, 0, 0), i / 2);
        assert_int_equal(rng_quantile(rng_key(5, 0, 0), i), (i % 2 ? bits >> 16 : bits) % RNG_QUANTILES);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_functions),
        cmocka_unit_test(mixing_matches_splitmix64),
        cmocka_unit_test(bytes_are_uniform),
        cmocka_unit_test(neighbours_are_independent),
        cmocka_unit_test(uniforms_and_exponentials_have_their_moments),
        cmocka_unit_test(quantiles_are_those_of_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
