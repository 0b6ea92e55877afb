// Clients that are slow, greedy or absent: each costs a bounded amount and is let go, the others are served.
#include "tests/test.h"

#include "tests/server/http_fixture.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define HOST "Host: localhost\r\n"
#define JSON "Content-Type: application/json\r\n"
#define HEALTH "GET /health HTTP/1.1\r\n" HOST "\r\n"
#define LAST_HEALTH "GET /health HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"

// What the server says until it closes, after these bytes.
static void expect_end(int port, const char *bytes, const char *statuses_expected) {
    char statuses[256];
    char *answer = client_talk(port, bytes, strlen(bytes));
    statuses_of(answer, statuses);
    if (strcmp(statuses, statuses_expected) != 0) fail_msg("%s\ngot %s, not %s", bytes, statuses, statuses_expected);
    free(answer);
}

static void expect_alive(int port) {
    expect_end(port, LAST_HEALTH, "200");
}

static void late_clients_are_let_go(void **state) {
    (void)state;
    struct fixture fixture;
    struct http_limits limits = {.header_ms = 40, .body_window_ms = 40, .idle_ms = 60, .linger_ms = 40};
    fixture_open(&fixture, &(struct http_options){.limits = limits});
    expect_end(fixture.port, "", "");
    expect_end(fixture.port, "GET", "408");
    expect_end(fixture.port, "GET / HTTP/1.1\r\nX: y\r\n", "408");
    expect_end(fixture.port, "\r\n", "408");
    expect_end(fixture.port, HEALTH, "200");
    expect_end(fixture.port, HEALTH "GET", "200 408");
    expect_end(fixture.port, "POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 100\r\n\r\n{", "408");
    expect_end(fixture.port, "POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "408");
    expect_end(fixture.port, "POST /nothing HTTP/1.1\r\n" HOST JSON "Content-Length: 100\r\n\r\n{", "404");
    expect_end(fixture.port, "POST /nothing HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
               "408");
    expect_alive(fixture.port);
    fixture_close(&fixture);
}

static void long_answers_are_no_idleness(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, &(struct http_options){.limits = {.header_ms = 20, .body_window_ms = 20, .idle_ms = 20}});
    int fd = client_connect(fixture.port);
    struct str out = STR_INIT;
    client_send_text(fd, "GET /hang HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&fixture.n_handled, 1);
    for (int i = 0; i < 3; i++) expect_end(fixture.port, "GET", "408"); // several deadlines pass meanwhile
    assert_int_equal(atomic_load(&fixture.n_gone), 0);
    close(fd);
    wait_for(&fixture.n_gone, 1);
    str_close(&out);
    fixture_close(&fixture);
}

static void readers_that_stall_are_dropped(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, &(struct http_options){.limits = {.stall_ms = 40}});
    int fd = client_connect(fixture.port);
    client_send_text(fd, "GET /flood HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&fixture.n_gone, 1);
    expect_alive(fixture.port);
    close(fd);
    fixture_close(&fixture);
}

static void readers_that_are_behind_are_dropped(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, &(struct http_options){0});
    int fd = client_connect(fixture.port);
    client_send_text(fd, "GET /push HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&fixture.n_gone, 1);
    expect_alive(fixture.port);
    close(fd);
    fixture_close(&fixture);
}

static void bodies_of_many_small_chunks_arrive(void **state) {
    (void)state;
    enum { N = 100000 };
    struct fixture fixture;
    struct str request = STR_INIT;
    fixture_open(&fixture, &(struct http_options){.body_bytes_max = N});
    str_append_text(&request,
                    "POST /echo HTTP/1.1\r\n" HOST JSON "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < N; i++) str_append_text(&request, "1\r\na\r\n");
    size_t n_bytes = request.n_bytes;
    str_append_text(&request, "0\r\n\r\n");
    char *answer = client_talk(fixture.port, request.data, request.n_bytes);
    assert_non_null(strstr(answer, "\r\nContent-Length: 100000\r\n"));
    free(answer);
    request.n_bytes = n_bytes;
    str_append_text(&request, "1\r\na\r\n0\r\n\r\n");
    answer = client_talk(fixture.port, request.data, request.n_bytes);
    assert_non_null(strstr(answer, "HTTP/1.1 413 "));
    free(answer);
    str_close(&request);
    expect_alive(fixture.port);
    fixture_close(&fixture);
}

// A client that never stops sending is refused and still gets to read why.
static void send_endlessly(int port, const char *start, const char *piece, const char *status) {
    struct str sent = STR_INIT, out = STR_INIT;
    str_append_text(&sent, start);
    while (sent.n_bytes < 4 << 20) str_append_text(&sent, piece);
    int fd = client_connect(port);
    client_send(fd, sent.data, sent.n_bytes);
    client_read_until(fd, &out, "\r\n\r\n");
    close(fd);
    char statuses[256];
    statuses_of(str_text(&out), statuses);
    if (strcmp(statuses, status) != 0) fail_msg("%s\ngot %s, not %s", start, statuses, status);
    str_close(&out);
    str_close(&sent);
}

static void endless_input_is_refused(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, &(struct http_options){.body_bytes_max = 100000});
    send_endlessly(fixture.port, "GET /", "aaaaaaaaaaaaaaaa", "414");
    send_endlessly(fixture.port, "GET / HTTP/1.1\r\nX: ", "aaaaaaaaaaaaaaaa", "431");
    send_endlessly(fixture.port, "GET / HTTP/1.1\r\n", "X: aaaaaaaa\r\n", "431");
    send_endlessly(fixture.port, "\r\n", "\r\n\r\n\r\n\r\n", "400");
    const char *chunked = "POST /echo HTTP/1.1\r\n" HOST JSON "Transfer-Encoding: chunked\r\n\r\n";
    char start[256];
    send_endlessly(fixture.port, chunked, "1\r\na\r\n", "413");
    send_endlessly(fixture.port, chunked, "00000000", "400");
    snprintf(start, sizeof start, "%s1;a", chunked);
    send_endlessly(fixture.port, start, "aaaaaaaa", "400");
    snprintf(start, sizeof start, "%s0\r\n", chunked);
    send_endlessly(fixture.port, start, "X: aaaaaaaa\r\n", "431");
    send_endlessly(fixture.port, "POST /echo HTTP/1.1\r\n" HOST JSON "Content-Length: 99999999\r\n\r\n", "aaaaaaaa",
                   "413");
    expect_alive(fixture.port);
    fixture_close(&fixture);
}

static void all_bodies_together_are_bounded(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, &(struct http_options){.limits = {.bodies_bytes_max = 1 << 20}});
    const char *start = "POST /echo HTTP/1.1\r\n" HOST JSON "Connection: close\r\nContent-Length: %d\r\n\r\n";
    static const int sizes[] = {400000, 2000000, 400000, 3000000, 400000}; // what was refused is given back
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct str request = STR_INIT;
        str_printf(&request, start, sizes[i]);
        size_t n_head = request.n_bytes;
        str_reserve(&request, (size_t)sizes[i]);
        memset(request.data + n_head, 'a', (size_t)sizes[i]);
        char *answer = client_talk(fixture.port, request.data, n_head + (size_t)sizes[i]);
        const char *expected = sizes[i] < 1 << 20 ? "HTTP/1.1 200 " : "HTTP/1.1 503 ";
        assert_memory_equal(answer, expected, 13);
        if (sizes[i] >= 1 << 20) assert_non_null(strstr(answer, "\r\nRetry-After: 1\r\n"));
        free(answer);
        str_close(&request);
    }
    fixture_close(&fixture);
}

static void what_comes_ahead_is_bounded(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, &(struct http_options){0});
    struct str request = STR_INIT;
    str_append_text(&request, "GET /later HTTP/1.1\r\n" HOST "\r\n");
    int n_requests = 1;
    for (; request.n_bytes < 400000; n_requests++) str_append_text(&request, HEALTH);
    str_append_text(&request, LAST_HEALTH);
    char *answer = client_talk(fixture.port, request.data, request.n_bytes);
    int n_answers = 0;
    for (const char *p = answer; (p = strchr(p, 'H')); p++) n_answers += strncmp(p, "HTTP/1.1 200 OK\r\n", 17) == 0;
    assert_int_equal(n_answers, n_requests + 1);
    free(answer);
    str_close(&request);
    fixture_close(&fixture);
}

static void too_many_connections_push_out_idle_ones(void **state) {
    (void)state;
    enum { MAX = 8 };
    struct fixture fixture;
    fixture_open(&fixture, &(struct http_options){.connections_max = MAX});
    int idle[MAX];
    for (int i = 0; i < MAX; i++) {
        struct str out = STR_INIT;
        idle[i] = client_connect(fixture.port);
        client_send_text(idle[i], HEALTH);
        client_read_until(idle[i], &out, "{}");
        str_close(&out);
    }
    for (int i = 0; i < 2 * MAX; i++) expect_alive(fixture.port);
    struct str out = STR_INIT;
    client_read_all(idle[0], &out); // the oldest was closed
    assert_int_equal(out.n_bytes, 0);
    str_close(&out);
    for (int i = 0; i < MAX; i++) close(idle[i]);
    // Connections that are being answered are not pushed out; a newcomer is closed then.
    for (int i = 0; i < MAX; i++) {
        idle[i] = client_connect(fixture.port);
        client_send_text(idle[i], "GET /hang HTTP/1.1\r\n" HOST "\r\n");
    }
    wait_for(&fixture.n_handled, MAX + 2 * MAX + MAX);
    expect_end(fixture.port, "", "");
    for (int i = 0; i < MAX; i++) close(idle[i]);
    wait_for(&fixture.n_gone, MAX);
    expect_alive(fixture.port);
    fixture_close(&fixture);
}

static void idle_strangers_of_one_address_are_few(void **state) {
    (void)state;
    enum { MAX = 4 };
    struct fixture fixture;
    char keys_path[] = "/tmp/optima-keys-XXXXXX";
    int keys = mkstemp(keys_path), strangers[MAX], friend;
    assert_true(keys >= 0 && write(keys, "key\n", 4) == 4);
    close(keys);
    struct http_limits limits = {.untrusted_per_address = MAX, .untrusted_ms = 1};
    fixture_open(&fixture, &(struct http_options){.limits = limits, .keys_path = keys_path});
    struct str out = STR_INIT;
    friend = client_connect(fixture.port);
    client_send_text(friend, "GET /echo HTTP/1.1\r\nx-api-key: key\r\n" HOST "\r\n");
    client_read_until(friend, &out, "\r\n\r\n");
    for (int i = 0; i < MAX; i++) {
        strangers[i] = client_connect(fixture.port);
        client_send_text(strangers[i], HEALTH);
        str_clear(&out);
        client_read_until(strangers[i], &out, "{}");
    }
    usleep(2000); // now all of them count
    expect_end(fixture.port, "", "");
    close(strangers[0]);
    str_clear(&out);
    client_send_text(friend, "GET /items/friend HTTP/1.1\r\nx-api-key: key\r\n" HOST "\r\n");
    client_read_until(friend, &out, "/items/friend");
    expect_alive(fixture.port);
    for (int i = 1; i < MAX; i++) close(strangers[i]);
    close(friend);
    str_close(&out);
    unlink(keys_path);
    fixture_close(&fixture);
}

static void running_out_of_descriptors_is_survived(void **state) {
    (void)state;
    enum { N = 40 };
    struct fixture fixture;
    struct rlimit old, low;
    int fds[N];
    fixture_open(&fixture, &(struct http_options){0});
    for (int i = 0; i < N; i++) fds[i] = client_socket();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = (struct rlimit){(rlim_t)fds[N - 1] + 1, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < N; i++) {
        struct str out = STR_INIT;
        client_connect_socket(fds[i], fixture.port);
        client_send_text(fds[i], LAST_HEALTH);
        client_read_all(fds[i], &out); // the server cannot take it and says so by closing
        assert_int_equal(out.n_bytes, 0);
        str_close(&out);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < N; i++) close(fds[i]);
    // The server may still be turning away the last of them.
    for (bool alive = false; !alive;) {
        char *answer = client_talk(fixture.port, LAST_HEALTH, strlen(LAST_HEALTH));
        alive = strncmp(answer, "HTTP/1.1 200 ", 13) == 0;
        free(answer);
    }
    fixture_close(&fixture);
}

static void draining_lets_requests_finish(void **state) {
    (void)state;
    struct fixture fixture;
    struct str out = STR_INIT;
    fixture_open(&fixture, &(struct http_options){0});
    int idle = client_connect(fixture.port), busy = client_connect(fixture.port), half = client_connect(fixture.port);
    client_send_text(idle, HEALTH);
    client_read_until(idle, &out, "{}");
    client_send_text(half, "GET /health HTTP/1.1\r\n");
    client_send_text(busy, "GET /unwatched HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&fixture.n_unwatched, 1);
    fixture_drain(&fixture);
    str_clear(&out);
    client_read_all(idle, &out);
    assert_int_equal(out.n_bytes, 0);
    fixture_answer_unwatched(&fixture);
    client_read_all(busy, &out);
    assert_non_null(strstr(str_text(&out), "\r\nConnection: close\r\n"));
    assert_non_null(strstr(str_text(&out), "\r\n\r\nlate"));
    str_clear(&out);
    client_send_text(half, HOST "\r\n");
    client_read_all(half, &out);
    assert_non_null(strstr(str_text(&out), "\r\nConnection: close\r\n"));
    close(idle);
    close(busy);
    close(half);
    str_close(&out);
    fixture_close(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_clients_are_let_go),
        cmocka_unit_test(long_answers_are_no_idleness),
        cmocka_unit_test(readers_that_stall_are_dropped),
        cmocka_unit_test(readers_that_are_behind_are_dropped),
        cmocka_unit_test(bodies_of_many_small_chunks_arrive),
        cmocka_unit_test(endless_input_is_refused),
        cmocka_unit_test(all_bodies_together_are_bounded),
        cmocka_unit_test(what_comes_ahead_is_bounded),
        cmocka_unit_test(too_many_connections_push_out_idle_ones),
        cmocka_unit_test(idle_strangers_of_one_address_are_few),
        cmocka_unit_test(running_out_of_descriptors_is_survived),
        cmocka_unit_test(draining_lets_requests_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
