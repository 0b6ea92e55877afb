// The number of workers follows the work, and gives way while the cores are needed elsewhere.
#include "tests/test.h"

#include "kernels/cpu/workers.h"

#include <stdbool.h>

// Steps of 2 ms of work on a machine of two cores; disturbed, a meeting of two workers costs 5 ms more. Returns how
// many of the last 200 took two workers.
static int run(struct worker_choice *choice, int n_steps, bool disturbed) {
    int n_with_two = 0;
    for (int i = 0; i < n_steps; i++) {
        int n = workers_choose(choice, 2e6, 2);
        workers_learn(choice, 2e6, n, n == 2 ? 1.1e6 + (disturbed ? 5e6 : 0) : 2e6);
        if (i >= n_steps - 200) n_with_two += n == 2;
    }
    return n_with_two;
}

static void small_steps_take_one(void **state) {
    (void)state;
    struct worker_choice choice = {0};
    assert_int_equal(workers_choose(&choice, 1e5, 8), 1);
    assert_int_equal(workers_choose(&choice, 7e5, 8), 3);
    assert_int_equal(workers_choose(&choice, 1e9, 8), 8);
}

static void undisturbed_steps_take_all(void **state) {
    (void)state;
    struct worker_choice choice = {0};
    assert_true(run(&choice, 1000, false) >= 199); // but for a trial
}

static void disturbed_steps_take_one_until_it_is_quiet(void **state) {
    (void)state;
    struct worker_choice choice = {0};
    run(&choice, 200, false);
    assert_true(run(&choice, 1000, true) < 20);
    assert_true(run(&choice, 2000, false) > 190);
    // Long steps are never tried on one worker.
    run(&choice, 1000, true);
    assert_int_equal(workers_choose(&choice, 1e9, 2), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_steps_take_one),
        cmocka_unit_test(undisturbed_steps_take_all),
        cmocka_unit_test(disturbed_steps_take_one_until_it_is_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
