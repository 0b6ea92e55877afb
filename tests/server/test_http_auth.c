// Who may ask: keys on every route but the open one, hosts on loopback, and no way around by spelling.
#include "tests/test.h"

#include "tests/server/http_fixture.h"

#include <stdlib.h>

#define HOST "Host: localhost\r\n"
#define END "Connection: close\r\n\r\n"

static struct fixture fixture;
static char keys_path[] = "/tmp/optima-keys-XXXXXX";

static int open_fixture(void **state) {
    (void)state;
    static const char keys[] = "# keys\nsecret-one\nsecret-two\n";
    int fd = mkstemp(keys_path);
    assert_true(fd >= 0 && write(fd, keys, sizeof keys - 1) == (ssize_t)sizeof keys - 1);
    close(fd);
    fixture_open(&fixture, &(struct http_options){.keys_path = keys_path});
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    fixture_close(&fixture);
    unlink(keys_path);
    return 0;
}

// The response to a request with these lines after the request line.
static char *ask(const char *request_line, const char *fields) {
    struct str request = STR_INIT;
    str_printf(&request, "%s\r\n" HOST "%s" END, request_line, fields);
    char *answer = client_talk(fixture.port, request.data, request.n_bytes);
    str_close(&request);
    return answer;
}

static void expect(const char *request_line, const char *fields, const char *status) {
    char statuses[256];
    char *answer = ask(request_line, fields);
    statuses_of(answer, statuses);
    if (strcmp(statuses, status) != 0) fail_msg("%s\n%s\ngot %s, not %s", request_line, fields, statuses, status);
    if (strcmp(status, "401") == 0) assert_non_null(strstr(answer, "\r\nWWW-Authenticate: Bearer\r\n"));
    if (strcmp(status, "401") == 0 && strncmp(request_line, "HEAD", 4) != 0) {
        assert_non_null(strstr(answer, "Incorrect API key provided"));
        assert_non_null(strstr(answer, "\"type\":\"invalid_request_error\""));
        assert_non_null(strstr(answer, "\"code\":\"invalid_api_key\""));
    }
    assert_null(strstr(answer, "secret"));
    free(answer);
}

static const char *const guarded[] = {"GET /echo HTTP/1.1",       "POST /echo HTTP/1.1",
                                      "GET /items/a HTTP/1.1",    "GET /nothing HTTP/1.1",
                                      "GET / HTTP/1.1",           "GET /ECHO HTTP/1.1",
                                      "GET //echo HTTP/1.1",      "GET /echo/ HTTP/1.1",
                                      "GET /%65cho HTTP/1.1",     "GET /items%2Fa HTTP/1.1",
                                      "HEAD /echo HTTP/1.1",      "OPTIONS /echo HTTP/1.1",
                                      "OPTIONS * HTTP/1.1",       "DELETE /health HTTP/1.1",
                                      "GET /health/x HTTP/1.1",   "GET /Health HTTP/1.1",
                                      "GET //health HTTP/1.1",    "GET http://localhost/echo HTTP/1.1",
                                      "OPTIONS /health HTTP/1.1", "GET /echo?x=/health HTTP/1.1"};

static void no_route_opens_without_a_key(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer secret-on\r\n",
        "Authorization: Bearer secret-onex\r\n",
        "Authorization: Bearer secret-one secret-one\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization:\r\n",
        "Authorization: secret-one\r\n",
        "Authorization: Basic secret-one\r\n",
        "Authorization: Bearersecret-one\r\n",
        "Authorization: Bearer secret-one\r\nAuthorization: Bearer secret-one\r\n",
        "Authorization: Bearer wrong\r\nx-api-key: secret-one\r\n",
        "x-api-key: wrong\r\n",
        "x-api-key:\r\n",
        "x-api-key: Bearer secret-one\r\n",
        "x-api-key: secret-one\r\nx-api-key: secret-one\r\n",
        "Cookie: key=secret-one\r\n",
        "Origin: http://localhost\r\n",
    };
    for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++)
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) expect(guarded[i], wrong[k], "401");
}

static void each_key_opens(void **state) {
    (void)state;
    static const char *const right[] = {
        "Authorization: Bearer secret-one\r\n",
        "authorization: bearer secret-two\r\n",
        "AUTHORIZATION: BEARER   secret-one\r\n",
        "X-Api-Key: secret-one\r\n",
        "x-api-key: secret-two\r\n",
    };
    for (size_t k = 0; k < sizeof right / sizeof *right; k++) {
        expect("GET /echo HTTP/1.1", right[k], "200");
        expect("GET /nothing HTTP/1.1", right[k], "404");
        expect("OPTIONS /echo HTTP/1.1", right[k], "204");
    }
}

static void the_open_route_and_preflights_need_none(void **state) {
    (void)state;
    expect("GET /health HTTP/1.1", "", "200");
    expect("GET /health/?a=b HTTP/1.1", "", "200");
    expect("HEAD /health HTTP/1.1", "Authorization: Bearer wrong\r\n", "200");
    const char *preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    expect("OPTIONS /echo HTTP/1.1", preflight, "204");
    expect("GET /echo HTTP/1.1", preflight, "401");
    char *answer = ask("OPTIONS /echo HTTP/1.1", preflight);
    assert_null(strstr(answer, "Access-Control"));
    free(answer);
}

static char admin_path[] = "/tmp/optima-admin-XXXXXX";

// Changing settings: an admin key where there is a file of them; else nobody, but on a loopback server without keys.
static void settings_need_an_admin_key(void **state) {
    (void)state;
    static const char keys[] = "root\n";
    int fd = mkstemp(admin_path);
    assert_true(fd >= 0 && write(fd, keys, sizeof keys - 1) == (ssize_t)sizeof keys - 1);
    close(fd);
    const struct {
        const char *keys_path, *admin_path, *fields, *status;
    } cases[] = {
        {NULL, NULL, "", "200"},
        {NULL, admin_path, "", "403"},
        {NULL, admin_path, "x-api-key: root\r\n", "200"},
        {keys_path, NULL, "x-api-key: secret-one\r\n", "403"},
        {keys_path, NULL, "", "401"},
        {keys_path, admin_path, "x-api-key: secret-one\r\n", "403"},
        {keys_path, admin_path, "x-api-key: root\r\n", "200"},
        {keys_path, admin_path, "x-api-key: rooot\r\n", "401"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture own = {0};
        fixture_open(&own,
                     &(struct http_options){.keys_path = cases[i].keys_path, .admin_keys_path = cases[i].admin_path});
        struct str request = STR_INIT;
        char statuses[256];
        str_printf(&request, "DELETE /settings/a HTTP/1.1\r\n" HOST "%s" END, cases[i].fields);
        char *answer = client_talk(own.port, request.data, request.n_bytes);
        statuses_of(answer, statuses);
        if (strcmp(statuses, cases[i].status) != 0) fail_msg("case %zu: %s, not %s", i, statuses, cases[i].status);
        free(answer);
        str_close(&request);
        fixture_close(&own);
    }
    unlink(admin_path);
}

static void malformed_keys_are_malformed_requests(void **state) {
    (void)state;
    static const char request[] = "GET /echo HTTP/1.1\r\n" HOST "Authorization: Bearer secret-one\0\r\n" END;
    char statuses[256];
    char *answer = client_talk(fixture.port, request, sizeof request - 1);
    statuses_of(answer, statuses);
    assert_string_equal(statuses, "400");
    free(answer);
}

static void keys_are_told_apart_by_id(void **state) {
    (void)state;
    static const char *const fields[] = {"Authorization: Bearer secret-one\r\n", "x-api-key: secret-one\r\n",
                                         "x-api-key: secret-two\r\n"};
    char ids[3][17];
    for (int i = 0; i < 3; i++) {
        char *answer = ask("GET /echo HTTP/1.1", fields[i]);
        const char *id = strstr(answer, "\r\nx-key: ");
        assert_non_null(id);
        snprintf(ids[i], sizeof ids[i], "%.16s", id + 9);
        free(answer);
    }
    assert_string_equal(ids[0], ids[1]);
    assert_string_not_equal(ids[0], ids[2]);
    assert_string_not_equal(ids[0], "0000000000000000");
}

static void ids_of_clients_cannot_forge_lines(void **state) {
    (void)state;
    static const char *const bad[] = {"x-request-id: a b\r\n", "x-request-id: \"a\"\r\n", "x-request-id: a/b\r\n",
                                      "x-request-id:\r\n", "x-request-id: caf\xc3\xa9\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *answer = ask("GET /health HTTP/1.1", bad[i]);
        assert_non_null(strstr(answer, "\r\nx-request-id: req-"));
        free(answer);
    }
    struct str longest = STR_INIT;
    str_append_text(&longest, "x-request-id: ");
    for (int i = 0; i < 128; i++) str_append_char(&longest, 'i');
    str_append_text(&longest, "\r\n");
    char *answer = ask("GET /health HTTP/1.1", longest.data);
    assert_non_null(strstr(answer, longest.data));
    free(answer);
    longest.n_bytes -= 2;
    str_append_text(&longest, "i\r\n");
    answer = ask("GET /health HTTP/1.1", longest.data);
    assert_null(strstr(answer, longest.data));
    free(answer);
    str_close(&longest);
}

static int try_open(const char *host, const char *keys, bool insecure) {
    struct http_server *server;
    uv_loop_t loop;
    struct err err = {0};
    struct http_options options = fixture.options;
    options.host = host;
    options.port = 0;
    options.keys_path = keys;
    options.insecure = insecure;
    assert_int_equal(uv_loop_init(&loop), 0);
    int rc = http_server_open(&server, &loop, &options, &err);
    if (rc) assert_true(err.text[0]);
    if (!rc) http_server_close(server);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return rc;
}

static void a_public_address_needs_a_key(void **state) {
    (void)state;
    assert_int_equal(try_open("0.0.0.0", NULL, false), ERR_INVALID);
    assert_int_equal(try_open("::", NULL, false), ERR_INVALID);
    assert_int_equal(try_open("0.0.0.0", NULL, true), 0);
    assert_int_equal(try_open("0.0.0.0", keys_path, false), 0);
    assert_int_equal(try_open("127.0.0.2", NULL, false), 0);
    assert_int_equal(try_open("localhost", NULL, false), 0);
    assert_int_equal(try_open("example.com", NULL, true), ERR_INVALID);
    assert_int_equal(try_open("127.0.0.1", "/nowhere/keys", false), ERR_NOT_FOUND);
    assert_int_equal(try_open("192.0.2.1", keys_path, false), ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_route_opens_without_a_key),
        cmocka_unit_test(each_key_opens),
        cmocka_unit_test(the_open_route_and_preflights_need_none),
        cmocka_unit_test(settings_need_an_admin_key),
        cmocka_unit_test(malformed_keys_are_malformed_requests),
        cmocka_unit_test(keys_are_told_apart_by_id),
        cmocka_unit_test(ids_of_clients_cannot_forge_lines),
        cmocka_unit_test(a_public_address_needs_a_key),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
