// Options land in their fields with the value that was given, or are refused with a line that names the option.
#include "tests/test.h"

#include "base/option.h"

struct fields {
    bool flag;
    int64_t number, letter;
    double real;
    const char *text, *choice;
};

static const struct option_row option_rows[] = {
    {"flag", OPTION_FLAG, offsetof(struct fields, flag), NULL, NULL, 0, 0, false, "a flag"},
    {"number", OPTION_INT, offsetof(struct fields, number), "N", NULL, 1, 9, true, "a number"},
    {"real", OPTION_DOUBLE, offsetof(struct fields, real), "X", NULL, 0, 1, false, "a real number"},
    {"l", OPTION_INT, offsetof(struct fields, letter), "N", NULL, 1, 9, true, "a letter"},
    {"text", OPTION_TEXT, offsetof(struct fields, text), "TEXT", NULL, 0, 0, false, "a text"},
    {"choice", OPTION_CHOICE, offsetof(struct fields, choice), NULL, "red|green", 0, 0, false, "a colour"},
};
static const struct option_table option_table = {"test", "A test.", option_rows, 6, 1};

static int parse(const char *line, struct fields *fields, struct option_result *result, struct err *err) {
    static char copy[256];
    char *argv[16];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *p = copy; *p;) {
        argv[argc++] = p;
        p += strcspn(p, " ");
        if (*p) *p++ = 0;
    }
    *fields = (struct fields){.number = 5, .choice = "red"};
    return option_parse(&option_table, argc, argv, fields, result, err);
}

static void good_lines_are_taken(void **state) {
    (void)state;
    struct fields f;
    struct option_result r;
    struct err err = {0};
    assert_int_equal(parse("--flag --number 7 model --real=0.5 --text - --choice green", &f, &r, &err), 0);
    assert_true(f.flag && f.number == 7 && f.real == 0.5);
    assert_string_equal(f.text, "-");
    assert_string_equal(f.choice, "green");
    assert_int_equal(r.n_positional, 1);
    assert_string_equal(r.positional[0], "model");
    assert_int_equal(parse("-l 3 model", &f, &r, &err), 0);
    assert_int_equal(f.letter, 3);
    assert_int_equal(parse("--number auto", &f, &r, &err), 0);
    assert_int_equal(f.number, 5);
    assert_int_equal(parse("-- --flag", &f, &r, &err), 0);
    assert_false(f.flag);
    assert_string_equal(r.positional[0], "--flag");
    assert_int_equal(parse("--help --nonsense", &f, &r, &err), 0);
    assert_true(r.help);
}

static void bad_lines_name_the_option(void **state) {
    (void)state;
    static const char *const lines[] = {"--number 0",
                                        "--number 10",
                                        "--number 1.5",
                                        "--number x",
                                        "--number",
                                        "--number nan",
                                        "--real 1.5",
                                        "--real auto",
                                        "--choice blue",
                                        "--choice re",
                                        "--flag=1",
                                        "--nothing 1",
                                        "--numbe 3",
                                        "one two",
                                        "-x",
                                        "--number 9999999999999999999",
                                        "-l",
                                        "-l 0",
                                        "-number 3"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct fields f;
        struct option_result r;
        struct err err = {0};
        if (parse(lines[i], &f, &r, &err) != ERR_INVALID) fail_msg("accepted: %s", lines[i]);
        assert_true(strlen(err.text) > 8);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(good_lines_are_taken),
                                       cmocka_unit_test(bad_lines_name_the_option)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
