// Outliers hardly move a typical value; a lasting change does.
#include "tests/test.h"

#include "base/typical.h"

static void the_first_samples_may_be_outliers(void **state) {
    (void)state;
    struct typical typical = {0};
    static const double samples[TYPICAL_TRUSTED] = {900, 100, 800, 700};
    for (int i = 0; i < TYPICAL_TRUSTED; i++) typical_learn(&typical, samples[i]);
    assert_true(typical.value == 100);
    assert_int_equal(typical.n_samples, TYPICAL_TRUSTED);
}

// One sample in four is fifty times as long.
static void outliers_hardly_move_it(void **state) {
    (void)state;
    struct typical typical = {0};
    for (int i = 0; i < 1000; i++) typical_learn(&typical, i % 4 == 3 ? 5000 : 100);
    assert_true(typical.value > 99 && typical.value < 106);
}

static void a_lasting_change_moves_it(void **state) {
    (void)state;
    struct typical typical = {0};
    for (int i = 0; i < 10; i++) typical_learn(&typical, 100);
    for (int i = 0; i < 60; i++) typical_learn(&typical, 200);
    assert_true(typical.value > 195 && typical.value <= 200);
    for (int i = 0; i < 100; i++) typical_learn(&typical, 50);
    assert_true(typical.value < 52);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_samples_may_be_outliers),
        cmocka_unit_test(outliers_hardly_move_it),
        cmocka_unit_test(a_lasting_change_moves_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
