// The rows of prompts beside decoding sequences follow from measured steps.
#include "tests/test.h"

#include "scheduler/step_time.h"

static const uint64_t MS = 1000 * 1000;

static void prompt_rows_fit_the_allowed_time(void **state) {
    (void)state;
    static const struct {
        const char *what;
        uint64_t decode_ms, step_ms; // a step without prompt rows; one with
        int32_t n_prompt_rows, rows_max, expected;
    } rows[] = {
        {"nothing measured: a careful start", 0, 0, 0, 512, 64},
        {"only decoding measured", 20, 0, 0, 512, 64},
        {"2 ms a row: 230 ms are left for 115 rows", 20, 220, 100, 512, 115},
        {"cheap rows: all", 1, 11, 100, 512, 512},
        {"slower: twice as long as decoding", 100, 300, 100, 512, 100},
        {"a slow model: twice as long as decoding", 400, 1400, 100, 512, 80},
        {"very slow rows: never fewer than 32", 10, 10010, 100, 512, 32},
        {"never more than a step has", 10, 10010, 100, 8, 8},
        {"too few rows say nothing", 20, 500, 15, 512, 64},
        {"nothing measured, small steps", 0, 0, 0, 32, 32},
        {"a step that was faster than decoding costs nothing", 50, 40, 100, 512, 512},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct step_time time = {0};
        struct step_record decode = {.n_rows = 4}, prompt = {.n_prompt_rows = rows[i].n_prompt_rows};
        if (rows[i].decode_ms) step_time_learn(&time, &decode, rows[i].decode_ms * MS);
        if (rows[i].step_ms) step_time_learn(&time, &prompt, rows[i].step_ms * MS);
        int32_t got = step_time_prompt_rows(&time, rows[i].rows_max);
        if (got != rows[i].expected) fail_msg("%s: %d instead of %d", rows[i].what, got, rows[i].expected);
    }
}

static void one_slow_step_changes_little_and_many_change_all(void **state) {
    (void)state;
    struct step_time time = {0};
    struct step_record prompt = {.n_prompt_rows = 100};
    for (int i = 0; i < 20; i++) step_time_learn(&time, &prompt, 200 * MS); // 2 ms a row
    assert_int_equal(step_time_prompt_rows(&time, 512), 125);
    step_time_learn(&time, &prompt, 400 * MS);
    assert_in_range(step_time_prompt_rows(&time, 512), 105, 124);
    for (int i = 0; i < 60; i++) step_time_learn(&time, &prompt, 400 * MS);
    assert_in_range(step_time_prompt_rows(&time, 512), 61, 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompt_rows_fit_the_allowed_time),
        cmocka_unit_test(one_slow_step_changes_little_and_many_change_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
