// A server in a thread, raw requests through sockets: which answers come, in which order, and whether the connection
// stays.
#include "tests/test.h"

#include "tests/server/http_fixture.h"

#include <stdlib.h>

// Follows every case: answered exactly when the connection survived the case.
#define LAST_REQUEST "GET /items/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
#define HOST "Host: localhost\r\n"
#define JSON "Content-Type: application/json\r\n"

struct row {
    const char *request;
    const char *statuses; // "200 200": with the last request answered when the connection survived
};

static const struct row rows[] = {
    {"GET /health HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"\r\n\r\nGET /health HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"GET /health/ HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"GET /health?a=b#c HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"GET http://localhost:80/health HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"GET /%68ealth HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"GET //health HTTP/1.1\r\n" HOST "\r\n", "404 200"},
    {"GET /health%00 HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /items/../health HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"HEAD /health HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"OPTIONS /health HTTP/1.1\r\n" HOST "\r\n", "204 200"},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "204 200"},
    {"DELETE /health HTTP/1.1\r\n" HOST "\r\n", "405 200"},
    {"BREW /health HTTP/1.1\r\n" HOST "\r\n", "501 200"},
    {"BREW /nothing HTTP/1.1\r\n" HOST "\r\n", "404 200"},
    {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", "404 200"},
    {"GET /items/ HTTP/1.1\r\n" HOST "\r\n", "404 200"},
    {"GET /items/a%2Fb HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"CONNECT localhost:1 HTTP/1.1\r\n" HOST "\r\n", "404"},
    // connections
    {"GET /health HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "200"},
    {"GET /health HTTP/1.0\r\n\r\n", "200"},
    {"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 200"},
    {"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200"},
    {"GET /stream HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"HEAD /stream HTTP/1.1\r\n" HOST "\r\n", "200 200"},
    {"GET /later HTTP/1.1\r\n" HOST "\r\nGET /health HTTP/1.1\r\n" HOST "\r\nGET /stream HTTP/1.1\r\n" HOST "\r\n",
     "200 200 200 200"},
    // bodies
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n{}", "200 200"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 0\r\n\r\n", "200 200"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "\r\n", "200 200"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\nX: y\r\n\r\n",
     "200 200"},
    {"GET /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", "200 200"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 1001\r\n\r\n", "413"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", "413"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "413"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n", "413"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "400"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", "400"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501 200"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", "415 200"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", "415 200"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Type: application/jsonx\r\nContent-Length: 2\r\n\r\n{}", "415 200"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Type: Application/JSON; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}",
     "200 200"},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Type: application/x+json\r\nContent-Length: 2\r\n\r\n{}", "200 200"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "415 200"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}", "200 200"},
    {"POST /health HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n{}", "405 200"},
    {"POST /health HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "405 200"},
    {"POST /health HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n", "400"},
    // expectations
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n{}", "100 200 200"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n", "413"},
    {"POST /nothing HTTP/1.1\r\n" HOST JSON "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", "404"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Expect: the-best\r\nContent-Length: 2\r\n\r\n{}", "417"},
    {"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\n" JSON "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
     "200 200"},
    // what must not be read in two ways
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
    {"POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "400"},
    {"GET /health HTTP/1.1\r\n" HOST HOST "\r\n", "400"},
    {"GET /health HTTP/1.1\r\n\r\n", "400"},
    {"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403 200"},
    {"GET http://evil.example/health HTTP/1.1\r\n" HOST "\r\n", "403 200"},
    {"GET /health HTTP/1.1\r\nHost: LOCALHOST:8080\r\n\r\n", "200 200"},
    {"GET /health HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "200 200"},
    {"GET /health HTTP/1.1\r\nHost: allowed.example:1\r\n\r\n", "200 200"},
    {"GET /health HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", "403 200"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
    {"GET /health HTTP/2.0\r\n" HOST "\r\n", "505"},
    {"GET /health\r\n\r\n", "426"},
};

// `first` is sent in front and answered with "200 ".
static void check_row(int port, const char *first, const struct row *row, bool byte_by_byte) {
    struct str out = STR_INIT, all = STR_INIT;
    str_printf(&all, "%s%s%s", first, row->request, LAST_REQUEST);
    int fd = client_connect(port);
    for (size_t at = 0, n = byte_by_byte ? 1 : all.n_bytes; at < all.n_bytes; at += n)
        client_send(fd, all.data + at, n);
    client_read_all(fd, &out);
    close(fd);
    char statuses[256];
    statuses_of(str_text(&out), statuses);
    if (*first) {
        assert_memory_equal(statuses, "200 ", 4);
        memmove(statuses, statuses + 4, strlen(statuses + 4) + 1);
    }
    if (strcmp(statuses, row->statuses) != 0)
        fail_msg("%s\ngot %s, not %s:\n%s", row->request, statuses, row->statuses, str_text(&out));
    str_close(&out);
    str_close(&all);
}

static struct fixture fixture;

static int open_fixture(void **state) {
    (void)state;
    fixture_open(&fixture, &(struct http_options){.body_bytes_max = 1000, .allowed_hosts = "other, allowed.example"});
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    fixture_close(&fixture);
    return 0;
}

static void each_request_gets_its_answer(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_row(fixture.port, "", &rows[i], false);
}

static void the_cut_does_not_matter(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_row(fixture.port, "", &rows[i], true);
}

static void the_request_before_does_not_matter(void **state) {
    (void)state;
    static const char *const firsts[] = {
        "GET /items/first HTTP/1.1\r\n" HOST "\r\n", "GET /later HTTP/1.1\r\n" HOST "\r\n",
        "POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"};
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_row(fixture.port, firsts[f], &rows[i], false);
}

static void bodies_and_headers_arrive(void **state) {
    (void)state;
    const char request[] = "POST /echo HTTP/1.1\r\n" HOST JSON
                           "X-ANSWER: yes\r\nx-request-id: my.id-1\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "6\r\nhello \r\n005\r\nworld\r\n0\r\n\r\n" LAST_REQUEST;
    char *answer = client_talk(fixture.port, request, sizeof request - 1);
    assert_non_null(strstr(answer, "\r\nContent-Length: 11\r\n\r\nhello worldHTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(answer, "\r\nx-answer: yes\r\n"));
    assert_non_null(strstr(answer, "\r\nx-request-id: my.id-1\r\n"));
    assert_non_null(strstr(answer, "\r\nx-filtered: aSet-Cookie: b\r\n"));
    assert_non_null(strstr(answer, "\r\nKeep-Alive: timeout=75\r\n"));
    assert_non_null(strstr(answer, "\r\nx-request-id: req-"));
    free(answer);
}

static void a_stream_has_one_chunk_for_each_write(void **state) {
    (void)state;
    const char request[] = "GET /stream HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    char *answer = client_talk(fixture.port, request, sizeof request - 1);
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    assert_string_equal(body + 4, "a\r\ndata: {}\n\n\r\na\r\ndata: {}\n\n\r\na\r\ndata: {}\n\n\r\n0\r\n\r\n");
    free(answer);
    const char old[] = "GET /stream HTTP/1.0\r\n\r\n";
    answer = client_talk(fixture.port, old, sizeof old - 1);
    body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    assert_string_equal(body + 4, "data: {}\n\ndata: {}\n\ndata: {}\n\n");
    assert_null(strstr(answer, "chunked"));
    free(answer);
}

static void head_has_the_fields_of_get_and_no_body(void **state) {
    (void)state;
    const char request[] = "HEAD /health HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    char *answer = client_talk(fixture.port, request, sizeof request - 1);
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(strstr(answer, "\r\nContent-Length: 2\r\n"));
    assert_string_equal(body, "\r\n\r\n");
    free(answer);
}

static void methods_of_a_path_are_told(void **state) {
    (void)state;
    static const char *const requests[][2] = {
        {"DELETE /echo HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "\r\nAllow: GET, HEAD, POST, OPTIONS\r\n"},
        {"OPTIONS /health HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "\r\nAllow: GET, HEAD, OPTIONS\r\n"},
        {"OPTIONS * HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "\r\nAllow: GET, HEAD, POST, DELETE, OPTIONS\r\n"},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        char *answer = client_talk(fixture.port, requests[i][0], strlen(requests[i][0]));
        assert_non_null(strstr(answer, requests[i][1]));
        assert_null(strstr(answer, "Access-Control"));
        free(answer);
    }
}

static void many_requests_in_one_write_are_answered_in_order(void **state) {
    (void)state;
    enum { N = 2000 };
    struct str all = STR_INIT;
    for (int i = 0; i < N; i++) {
        const char *path = i % 100 == 99 ? "/later" : "/items";
        if (i % 100 == 99)
            str_printf(&all, "GET %s HTTP/1.1\r\n" HOST "\r\n", path);
        else
            str_printf(&all, "GET %s/%d HTTP/1.1\r\n" HOST "\r\n", path, i);
    }
    str_append_text(&all, LAST_REQUEST);
    char *answer = client_talk(fixture.port, all.data, all.n_bytes);
    const char *p = answer;
    for (int i = 0; i < N; i++) {
        char expected[64];
        snprintf(expected, sizeof expected, i % 100 == 99 ? "\r\n\r\nlater" : "\r\n\r\n/items/%d", i);
        p = strstr(p, "\r\n\r\n");
        assert_non_null(p);
        if (strncmp(p, expected, strlen(expected)) != 0) fail_msg("answer %d is not in its place", i);
        p += 4;
    }
    free(answer);
    str_close(&all);
}

static void a_client_that_leaves_is_noticed(void **state) {
    (void)state;
    static const char *const paths[] = {"/hang", "/flood"};
    for (size_t i = 0; i < 2; i++) {
        int n_gone = atomic_load(&fixture.n_gone), n_handled = atomic_load(&fixture.n_handled);
        char request[128];
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST "\r\n", paths[i]);
        int fd = client_connect(fixture.port);
        client_send_text(fd, request);
        wait_for(&fixture.n_handled, n_handled + 1);
        close(fd);
        wait_for(&fixture.n_gone, n_gone + 1);
    }
}

static void an_unwatched_exchange_outlives_its_client(void **state) {
    (void)state;
    int n_finished = atomic_load(&fixture.n_finished);
    int fd = client_connect(fixture.port);
    client_send_text(fd, "GET /unwatched HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&fixture.n_unwatched, 1);
    close(fd);
    const char request[] = LAST_REQUEST;
    free(client_talk(fixture.port, request, sizeof request - 1));
    fixture_answer_unwatched(&fixture);
    wait_for(&fixture.n_finished, n_finished + 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_gets_its_answer),
        cmocka_unit_test(the_cut_does_not_matter),
        cmocka_unit_test(the_request_before_does_not_matter),
        cmocka_unit_test(bodies_and_headers_arrive),
        cmocka_unit_test(a_stream_has_one_chunk_for_each_write),
        cmocka_unit_test(head_has_the_fields_of_get_and_no_body),
        cmocka_unit_test(methods_of_a_path_are_told),
        cmocka_unit_test(many_requests_in_one_write_are_answered_in_order),
        cmocka_unit_test(a_client_that_leaves_is_noticed),
        cmocka_unit_test(an_unwatched_exchange_outlives_its_client),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
