// A server without a model yet: it says that it is loading, lists what it knows, and ends when it is told to.
#include "tests/test.h"

#include "server/server.h"
#include "tests/server/http_fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

struct running {
    struct server *server;
    pthread_t thread;
    sem_t ready;
    int port, rc;
};

static void note_port(void *context, int port) {
    struct running *running = context;
    running->port = port;
    sem_post(&running->ready);
}

static void *run(void *context) {
    struct running *running = context;
    struct err err = {0};
    running->rc = server_run(running->server, &err);
    return NULL;
}

static void start(struct running *running) {
    struct err err = {0};
    sem_init(&running->ready, 0, 0);
    const struct server_options options = {
        .model_name = "a/b", .keep_signals = true, .on_ready = note_port, .on_ready_context = running};
    assert_int_equal(server_open(&running->server, &options, &err), 0);
    assert_int_equal(pthread_create(&running->thread, NULL, run, running), 0);
    sem_wait(&running->ready);
}

static void stop(struct running *running) {
    server_stop(running->server);
    pthread_join(running->thread, NULL);
    assert_int_equal(running->rc, 0);
    server_wake(running->server); // the step loop may still do so
    server_close(running->server);
    sem_destroy(&running->ready);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

static void loading_is_said(void **state) {
    (void)state;
    static const struct {
        const char *request, *status, *part;
    } rows[] = {
        {GET("/health"), "HTTP/1.1 503", "\"code\":\"model_loading\""},
        {GET("/v1/models"), "HTTP/1.1 200", "\"id\":\"a/b\""},
        {GET("/v1/models/a%2Fb"), "HTTP/1.1 200", "\"id\":\"a/b\""},
        {GET("/v1/models/b"), "HTTP/1.1 404", "\"code\":\"model_not_found\""},
        {GET("/metrics"), "HTTP/1.1 200", "vllm:request_success_total{model_name=\"a/b\""},
        {GET("/version"), "HTTP/1.1 200", "{\"version\":\""},
        {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
         "Content-Length: 14\r\n\r\n{\"prompt\":\"x\"}",
         "HTTP/1.1 503", "Retry-After: 1"},
    };
    struct running running = {0};
    start(&running);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *answer = client_talk(running.port, rows[i].request, strlen(rows[i].request));
        if (strncmp(answer, rows[i].status, strlen(rows[i].status)) != 0 || !strstr(answer, rows[i].part))
            fail_msg("%s gave\n%s", rows[i].request, answer);
        free(answer);
    }
    stop(&running);
}

static void activity_is_counted(void **state) {
    (void)state;
    struct running running = {0};
    struct server_activity before, after;
    start(&running);
    server_activity(running.server, &before);
    char *answer = client_talk(running.port, GET("/health"), strlen(GET("/health")));
    free(answer);
    server_activity(running.server, &after);
    assert_true(after.loop_busy_ns > before.loop_busy_ns);
    assert_int_equal(after.n_text_threads, 0); // no text yet
    assert_int_equal(after.n_rejected + after.n_failed + after.n_streams + after.n_events + after.text_busy_ns, 0);
    stop(&running);
}

static void a_server_may_end_before_it_runs(void **state) {
    (void)state;
    struct err err = {0};
    struct server *server;
    assert_int_equal(server_open(&server, &(struct server_options){.keep_signals = true}, &err), 0);
    server_close(server);
    assert_int_equal(server_open(&server, &(struct server_options){.keep_signals = true}, &err), 0);
    server_stop(server);
    assert_int_equal(server_run(server, &err), 0);
    server_close(server);
    const struct server_options bad = {.http = {.host = "nowhere"}};
    assert_int_not_equal(server_open(&server, &bad, &err), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading_is_said),
        cmocka_unit_test(activity_is_counted),
        cmocka_unit_test(a_server_may_end_before_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
