// The search for the highest rate finds it, in few runs, and does not trust luck.
#include "tests/test.h"

#include "base/rng.h"
#include "bench/sweep.h"

#include <math.h>

// A server that holds every rate up to a limit.
static void limits_are_found_in_few_runs(void **state) {
    (void)state;
    static const struct {
        double first, limit;
        int runs_max; // beside the confirmations
    } rows[] = {{8, 11, 5}, {1, 13, 8}, {8, 0.9, 8}, {4, 4, 5}, {5, 1000, 12}, {100, 101, 5}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sweep sweep;
        struct sweep_step step;
        sweep_begin(&sweep, rows[i].first);
        while (sweep_next(&sweep, &step)) {
            step.met = step.rate <= rows[i].limit;
            sweep_tell(&sweep, step);
        }
        if (!(sweep.held <= rows[i].limit && sweep.held >= rows[i].limit / SWEEP_FACTOR &&
              sweep.failed > rows[i].limit))
            fail_msg("%zu: %g of %g", i, sweep.held, rows[i].limit);
        assert_int_equal(sweep.n_confirmed, SWEEP_CONFIRMATIONS);
        if (sweep.n_steps > rows[i].runs_max + SWEEP_CONFIRMATIONS) fail_msg("%zu: %d runs", i, sweep.n_steps);
    }
}

// A rate that held once by luck and fails when it is repeated is not the answer.
static void luck_is_not_believed(void **state) {
    (void)state;
    struct sweep sweep;
    struct sweep_step step;
    sweep_begin(&sweep, 8);
    while (sweep_next(&sweep, &step)) {
        step.met = step.rate <= (step.confirms ? 9 : 12);
        sweep_tell(&sweep, step);
    }
    assert_true(sweep.held <= 9 && sweep.held > 7 && sweep.n_confirmed == SWEEP_CONFIRMATIONS);
}

static void searches_end(void **state) {
    (void)state;
    for (int answer = 0; answer < 3; answer++) { // nothing holds, all holds, a coin decides
        struct sweep sweep;
        struct sweep_step step;
        int n = 0;
        sweep_begin(&sweep, 8);
        while (sweep_next(&sweep, &step)) {
            step.met = answer == 1 || (answer == 2 && rng_u32(5, (uint64_t)n) & 1);
            sweep_tell(&sweep, step);
            if (++n > SWEEP_RUNS_MAX) fail_msg("%d", answer);
        }
        if (answer == 0) assert_true(sweep.held == 0);
        if (answer == 1) assert_true(isinf(sweep.failed) && sweep.held > 8000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits_are_found_in_few_runs),
                                       cmocka_unit_test(luck_is_not_believed), cmocka_unit_test(searches_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
