// Where a server is, as clients write it and as a server says it.
#include "tests/test.h"

#include "base/url.h"

static void servers_say_where_clients_find_them(void **state) {
    (void)state;
    static const struct {
        const char *host, *url;
        bool is_any;
    } rows[] = {
        {"127.0.0.1", "http://127.0.0.1:8080", false},
        {"localhost", "http://localhost:8080", false},
        {"192.0.2.7", "http://192.0.2.7:8080", false},
        {"0.0.0.0", "http://127.0.0.1:8080", true},
        {"::1", "http://[::1]:8080", false},
        {"2001:db8::1", "http://[2001:db8::1]:8080", false},
        {"::", "http://[::1]:8080", true},
        {"::0", "http://[::1]:8080", true},
        {"0:0:0:0:0:0:0:0", "http://[::1]:8080", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[64];
        struct url url;
        struct err err = {0};
        url_of_server(out, sizeof out, rows[i].host, 8080);
        assert_string_equal(out, rows[i].url);
        assert_int_equal(url_host_is_any(rows[i].host), rows[i].is_any);
        assert_int_equal(url_parse(&url, out, &err), 0);
        assert_string_equal(url.port, "8080");
        if (!rows[i].is_any) assert_string_equal(url.host, rows[i].host);
    }
}

static void urls_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text, *host, *port, *prefix; // host NULL: refused
    } rows[] = {
        {"http://a", "a", "80", ""},
        {"http://a:1/", "a", "1", ""},
        {"http://a:65535/v1", "a", "65535", ""},
        {"http://a/x/y/v1/", "a", "80", "/x/y"},
        {"http://[::1]:8080/v1", "::1", "8080", ""},
        {"http://[::1]", "::1", "80", ""},
        {"https://a", NULL, NULL, NULL},
        {"a:80", NULL, NULL, NULL},
        {"http://", NULL, NULL, NULL},
        {"http://[::1", NULL, NULL, NULL},
        {"http://a:", NULL, NULL, NULL},
        {"http://a:123456", NULL, NULL, NULL},
        {"http://a:80x", NULL, NULL, NULL},
        {"http://a/b c", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct url url;
        struct err err = {0};
        const int rc = url_parse(&url, rows[i].text, &err);
        if ((rc == 0) != (rows[i].host != NULL)) fail_msg("%s: %s", rows[i].text, err.text);
        if (rc) continue;
        assert_string_equal(url.host, rows[i].host);
        assert_string_equal(url.port, rows[i].port);
        assert_string_equal(url.prefix, rows[i].prefix);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_say_where_clients_find_them),
        cmocka_unit_test(urls_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
