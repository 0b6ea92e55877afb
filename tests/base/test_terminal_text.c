// Markdown in a terminal: wrapped within the width, hanging under its item, styled without its marks.
#include "tests/test.h"

#include "base/terminal_text.h"

static void text_is_laid_out_as_expected(void **state) {
    (void)state;
    static const struct {
        const char *markdown;
        int width;
        bool styled;
        const char *expected;
    } cases[] = {
        {"", 40, false, ""},
        {"one two three four five six", 20, false, "one two three four\nfive six\n"},
        {"- one two three four five", 20, false, "- one two three four\n  five\n"},
        {"12. one two three four", 20, false, "12. one two three\n    four\n"},
        {"averyveryverylongwordindeed b", 20, false, "averyveryverylongwordindeed\nb\n"},
        {"| a very wide row of a table |", 20, false, "| a very wide row of a table |\n"},
        {"    --flag that is longer than this", 20, false, "    --flag that is longer than this\n"},
        {"## Head\n\nText **b** `c`\n", 40, false, "## Head\n\nText **b** `c`\n"},
        {"## Head", 40, true, "\033[1mHead\033[22m\n"},
        {"a **b** `c**`", 40, true, "a \033[1mb\033[22m \033[36mc**\033[39m\n"},
        {"**aa bb cc** dd **ee** ff gg", 20, true, "\033[1maa bb cc\033[22m dd \033[1mee\033[22m ff gg\n"},
        {"| **a** | `b` |", 20, true, "| \033[1ma\033[22m     | \033[36mb\033[39m   |\n"},
        {"**unclosed", 20, true, "\033[1munclosed\033[22m\n"},
        {"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 123456789 x", 21, false,
         "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 123456789 x\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str out = STR_INIT;
        terminal_text_append(&out, cases[i].markdown, cases[i].width, cases[i].styled);
        assert_string_equal(str_text(&out), cases[i].expected);
        str_close(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(text_is_laid_out_as_expected)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
