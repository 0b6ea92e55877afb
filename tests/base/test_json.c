// json_validate accepts exactly RFC 8259 within its limits, and never reads past the end.
#include "tests/test.h"

#include "base/file_map.h"
#include "base/json.h"

#include <dirent.h>
#include <stdlib.h>

static int validate(const char *text, size_t n) {
    struct json_limits limits = JSON_LIMITS_CLIENT;
    struct err err = {0};
    char *exact = malloc(n ? n : 1); // no room behind the end: the sanitizer sees a read too far
    if (n) memcpy(exact, text, n);
    int rc = json_validate(exact, n, &limits, &err);
    free(exact);
    return rc;
}

static void documents_are_told_apart(void **state) {
    (void)state;
    static const char *const good[] = {"{}", " [1, -0.5e+3, \"\\u00e4\\ud83d\\ude00\"] ", "{\"a\":{\"a\":null}}",
                                       "\"\xc3\xa4\"", "0"};
    static const char *const bad[] = {"",
                                      "{",
                                      "[1,]",
                                      "01",
                                      "1.",
                                      "-",
                                      "+1",
                                      "\"\\x\"",
                                      "\"\t\"",
                                      "\"\\ud800\"",
                                      "\"\\u0000\"",
                                      "nul",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":1,\"\\u0061\":2}",
                                      "[1] x",
                                      "\"\xc0\x80\"",
                                      "\xef\xbb\xbf{}",
                                      "{\"a\" 1}",
                                      "[\f]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_int_equal(validate(good[i], strlen(good[i])), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_not_equal(validate(bad[i], strlen(bad[i])), 0);
}

static void limits_hold(void **state) {
    (void)state;
    char deep[1000];
    memset(deep, '[', sizeof deep);
    assert_int_equal(validate(deep, sizeof deep), ERR_LIMIT);
}

static void suite_is_judged_as_it_asks(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("suites/json/JSONTestSuite");
    const char *folder = TEST_SHARED_DIR "/suites/json/JSONTestSuite/test_parsing";
    if (access(folder, R_OK) != 0) folder = TEST_SHARED_DIR "/suites/json/JSONTestSuite";
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0) continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        struct file_map map;
        struct err err = {0};
        assert_int_equal(file_map_open(&map, path, &err), 0);
        struct json_limits limits = {.depth = 1000, .elements = 1000000, .allow_nul = true, .allow_duplicates = true};
        int rc = json_validate(map.data ? map.data : "", map.n_bytes, &limits, &err);
        if (entry->d_name[0] == 'y' && rc) fail_msg("%s refused: %s", entry->d_name, err.text);
        if (entry->d_name[0] == 'n' && !rc) fail_msg("%s accepted", entry->d_name);
        file_map_close(&map);
        n++;
    }
    closedir(dir);
    assert_true(n > 300);
}

static void members_are_found_raw(void **state) {
    (void)state;
    const char *text = " { \"x\" : [1, {\"b\":2}] , \"\\u0062\" : 1.0 }";
    struct str_view value;
    assert_true(json_find_member(text, strlen(text), "b", &value));
    assert_true(str_view_equal(value, STR_VIEW("1.0")));
    assert_true(json_find_member(text, strlen(text), "x", &value));
    assert_true(str_view_equal(value, STR_VIEW("[1, {\"b\":2}]")));
    assert_false(json_find_member(text, strlen(text), "y", &value));
}

static void what_is_absent_holds_nothing(void **state) {
    (void)state;
    struct str_view key, value;
    struct json_cursor cursor = json_enter((struct str_view){NULL, 0});
    assert_false(json_next_member(&cursor, &key, &value));
    assert_false(json_next_element(&cursor, &value));
}

static void documents_are_walked_without_a_tree(void **state) {
    (void)state;
    const char *text = " {\"a\" : [1, \"x]\\\"\", {\"b\":[]} , -2.5e1 ] ,\"\\u0063\":true, \"d\":{\"e\":0}}";
    struct str_view key, value, element;
    struct json_cursor members = json_enter(str_view_of(text + 1));
    assert_true(json_next_member(&members, &key, &value));
    assert_true(json_string_is(key, "a"));
    struct json_cursor elements = json_enter(value);
    const char *const expected[] = {"1", "\"x]\\\"\"", "{\"b\":[]}", "-2.5e1"};
    for (size_t i = 0; i < 4; i++) {
        assert_true(json_next_element(&elements, &element));
        assert_true(str_view_equal(element, str_view_of(expected[i])));
    }
    assert_false(json_next_element(&elements, &element));
    assert_true(json_next_member(&members, &key, &value));
    assert_true(json_string_is(key, "c"));
    assert_true(str_view_equal(value, STR_VIEW("true")));
    assert_true(json_next_member(&members, &key, &value));
    assert_true(str_view_equal(value, STR_VIEW("{\"e\":0}")));
    assert_false(json_next_member(&members, &key, &value));
}

static void integers_keep_every_digit(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int rc;
        int64_t value;
    } rows[] = {
        {"0", 0, 0},
        {"-0", 0, 0},
        {"-7", 0, -7},
        {"9007199254740993", 0, 9007199254740993},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", ERR_LIMIT, 0},
        {"-9223372036854775809", ERR_LIMIT, 0},
        {"1e3", 0, 1000},
        {"5.0", 0, 5},
        {"-0.0", 0, 0},
        {"0.5", ERR_INVALID, 0},
        {"1e9999", ERR_LIMIT, 0},
        {"1e308", ERR_LIMIT, 0},
        {"true", ERR_INVALID, 0},
        {"\"1\"", ERR_INVALID, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t value = 0;
        assert_int_equal(json_read_int(str_view_of(rows[i].text), &value), rows[i].rc);
        if (!rows[i].rc) assert_true(value == rows[i].value);
    }
}

static void strings_are_written_safely(void **state) {
    (void)state;
    struct str out = STR_INIT;
    const char text[] = "a\"\\\n\x01\xe2\x80\xa8\xc2\x85\xff";
    json_append_string(&out, text, sizeof text - 1);
    assert_string_equal(str_text(&out), "\"a\\\"\\\\\\n\\u0001\\u2028\\u0085\xef\xbf\xbd\"");
    str_close(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_are_told_apart),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(suite_is_judged_as_it_asks),
        cmocka_unit_test(members_are_found_raw),
        cmocka_unit_test(strings_are_written_safely),
        cmocka_unit_test(what_is_absent_holds_nothing),
        cmocka_unit_test(documents_are_walked_without_a_tree),
        cmocka_unit_test(integers_keep_every_digit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
