// Queries: what is named is decoded, and what is wrong is a 400 that names the parameter and quotes nothing.
#include "tests/test.h"

#include "server/query.h"

static void good_queries_give_their_values(void **state) {
    (void)state;
    static const struct {
        const char *query, *window, *format;
    } cases[] = {
        {"", "-", "-"},
        {"&&", "-", "-"},
        {"window=30", "30", "-"},
        {"format=md&window=30", "30", "md"},
        {"window=%33%30&", "30", "-"},
        {"window=+3", " 3", "-"},
        {"w%69ndow=5", "5", "-"},
        {"window", "", "-"},
        {"window=a=b", "a=b", "-"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char window[QUERY_VALUE_MAX] = "-", format[QUERY_VALUE_MAX] = "-";
        const struct query_field fields[] = {{"window", window}, {"format", format}};
        struct api_error error = {0};
        if (!query_read(cases[i].query, fields, 2, &error)) fail_msg("%s: %s", cases[i].query, error.message);
        assert_string_equal(window, cases[i].window);
        assert_string_equal(format, cases[i].format);
    }
}

static void bad_queries_name_the_parameter(void **state) {
    (void)state;
    static const struct {
        const char *query, *param, *part;
    } cases[] = {
        {"windw=30", "", "known: window, format"},
        {"=30", "", "known: window, format"},
        {"%00=1", "", "known: window, format"},
        {"window=1&window=2", "window", "twice"},
        {"window=%3", "window", "cannot be read"},
        {"window=%zz", "window", "cannot be read"},
        {"window=%0a", "window", "cannot be read"},
        {"format=%e2%80%a8", "format", "cannot be read"},
        {"format=0123456789012345678901234567890123456789012345678901234567890123", "format", "cannot be read"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char window[QUERY_VALUE_MAX] = "", format[QUERY_VALUE_MAX] = "";
        const struct query_field fields[] = {{"window", window}, {"format", format}};
        struct api_error error = {0};
        assert_false(query_read(cases[i].query, fields, 2, &error));
        assert_int_equal(error.status, 400);
        assert_string_equal(error.param, cases[i].param);
        if (!strstr(error.message, cases[i].part)) fail_msg("%s: %s", cases[i].query, error.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_queries_give_their_values),
        cmocka_unit_test(bad_queries_name_the_parameter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
