// UTF-8 is judged as Unicode 15 section 3.9 says, and the filter gives the same text however the bytes are cut.
#include "tests/test.h"

#include "base/utf8.h"

static const struct {
    const char *bytes, *text; // text: what a filter makes of the bytes; FFFD per maximal subpart
    size_t valid_prefix;
} rows[] = {
    {"abc", "abc", 3},
    {"a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z", "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z", 11},
    {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd", 0},                                 // overlong
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 0},                 // surrogate
    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 0}, // above U+10FFFF
    {"ab\xe2\x82", "ab\xef\xbf\xbd", 2},                                         // cut short at the end
    {"\xf0\x9f\x98 x", "\xef\xbf\xbd x", 0},                                     // cut short in the middle
    {"a\xf1\x80\x80\xe1\x80\xc2"
     "b\x80"
     "c\x80\xbf"
     "d",
     "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
     "b\xef\xbf\xbd"
     "c\xef\xbf\xbd\xef\xbf\xbd"
     "d",
     1}, // table 3-8
};

static void prefixes_are_valid(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(utf8_valid_prefix(rows[i].bytes, strlen(rows[i].bytes)), rows[i].valid_prefix);
}

static void the_filter_ignores_cuts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = strlen(rows[i].bytes);
        for (unsigned cuts = 0; cuts < 1u << (n - 1); cuts++) { // bit k: a cut behind byte k
            struct utf8_filter filter = {0};
            struct str out = STR_INIT;
            size_t start = 0;
            for (size_t k = 0; k < n; k++) {
                if (k + 1 < n && !(cuts >> k & 1)) continue;
                utf8_filter_push(&filter, rows[i].bytes + start, k + 1 - start, &out);
                assert_true(utf8_is_valid(str_text(&out), out.n_bytes));
                start = k + 1;
            }
            utf8_filter_finish(&filter, &out);
            assert_string_equal(str_text(&out), rows[i].text);
            str_close(&out);
        }
    }
}

static void code_points_survive_a_round_trip(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff) continue;
        char bytes[4];
        uint32_t back = 0;
        size_t n = utf8_encode(c, bytes);
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, c);
        if (n > 1) assert_int_equal(utf8_decode(bytes, n - 1, &back), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_valid),
        cmocka_unit_test(the_filter_ignores_cuts),
        cmocka_unit_test(code_points_survive_a_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
