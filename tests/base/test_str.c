// Plain names are what may go into headers, log lines and errors as it is.
#include "tests/test.h"

#include "base/str.h"

static void plain_names_are_told_from_others(void **state) {
    (void)state;
    static const char *const plain[] = {"a", "chat_id", "x-y.Z9", "-"};
    static const char *const other[] = {"", " ", "a b", "a\n", "a\r\nb", "\"", "\xc3\xa4", "a,b", "a:b"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        assert_true(str_view_is_plain_name(str_view_of(plain[i])));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(str_view_is_plain_name(str_view_of(other[i])));
    assert_false(str_view_is_plain_name((struct str_view){"a\0b", 3}));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_names_are_told_from_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
