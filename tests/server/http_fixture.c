#include "tests/server/http_fixture.h"

#include "base/mem.h"
#include "tests/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { ORDER_NONE, ORDER_DRAIN, ORDER_ANSWER, ORDER_CLOSE };
enum { SILENCE_MS_MAX = 30000 };

// ---------------------------------------------------------------------- handlers

static void on_health(struct http_exchange *exchange, void *context) {
    struct fixture *fixture = context;
    atomic_fetch_add(&fixture->n_handled, 1);
    http_exchange_reply(exchange, 200, "application/json", "{}", 2);
}

static void on_echo(struct http_exchange *exchange, void *context) {
    struct fixture *fixture = context;
    const struct http_request *request = http_exchange_request(exchange);
    const char *header = http_exchange_request_header(exchange, "X-Answer");
    char key[32];
    snprintf(key, sizeof key, "%016llx", (unsigned long long)request->key_id);
    http_exchange_header(exchange, "x-key", key);
    if (header) http_exchange_header(exchange, "x-answer", header);
    http_exchange_header(exchange, "x-filtered", "a\r\nSet-Cookie: b\x01\xc3\xa4");
    atomic_fetch_add(&fixture->n_handled, 1);
    http_exchange_reply(exchange, 200, "text/plain", request->body.data, request->body.n_bytes);
}

static void on_items(struct http_exchange *exchange, void *context) {
    (void)context;
    const char *path = http_exchange_request(exchange)->path;
    http_exchange_reply(exchange, 200, "text/plain", path, strlen(path));
}

// An answer that comes from a timer, in pieces.
struct later {
    uv_timer_t timer;
    struct fixture *fixture;
    struct http_exchange *exchange; // NULL: gone or ended
    int n_left;
    bool stream;
};

static void free_later(uv_handle_t *handle) {
    free(handle->data);
}

static void end_later(struct later *later) {
    later->exchange = NULL;
    uv_close((uv_handle_t *)&later->timer, free_later);
}

static void later_gone(void *context) {
    struct later *later = context;
    atomic_fetch_add(&later->fixture->n_gone, 1);
    end_later(later);
}

static void later_step(uv_timer_t *timer) {
    struct later *later = timer->data;
    struct http_exchange *exchange = later->exchange;
    if (!later->stream) {
        end_later(later);
        http_exchange_reply(exchange, 200, "text/plain", "later", 5);
    } else if (later->n_left-- > 0) {
        http_exchange_stream_write(exchange, "data: {}\n\n", 10);
    } else {
        end_later(later);
        http_exchange_stream_end(exchange);
    }
}

static void start_later(struct http_exchange *exchange, struct fixture *fixture, bool stream, uint64_t first_ms) {
    struct later *later = mem_alloc_zero(1, sizeof *later);
    *later = (struct later){.fixture = fixture, .exchange = exchange, .n_left = 3, .stream = stream};
    uv_timer_init(&fixture->loop, &later->timer);
    later->timer.data = later;
    uv_timer_start(&later->timer, later_step, first_ms, 1);
    http_exchange_watch(exchange, later_gone, NULL, later);
    if (stream) http_exchange_stream_begin(exchange, 200, "text/event-stream");
    atomic_fetch_add(&fixture->n_handled, 1);
}

static void on_later(struct http_exchange *exchange, void *context) {
    start_later(exchange, context, false, 1);
}
static void on_stream(struct http_exchange *exchange, void *context) {
    start_later(exchange, context, true, 1);
}
static void on_hang(struct http_exchange *exchange, void *context) {
    start_later(exchange, context, false, 3600000);
}

struct flood {
    struct fixture *fixture;
    struct http_exchange *exchange;
};

static void flood_more(void *context) {
    static const char block[16384];
    struct flood *flood = context;
    while (http_exchange_stream_pending(flood->exchange) < 4 * sizeof block) {
        http_exchange_stream_write(flood->exchange, block, sizeof block);
        if (http_exchange_stream_pending(flood->exchange) == 0) break; // the socket takes all: its turn ends here
    }
}

static void flood_gone(void *context) {
    struct flood *flood = context;
    atomic_fetch_add(&flood->fixture->n_gone, 1);
    free(flood);
}

static struct flood *start_flood(struct http_exchange *exchange, struct fixture *fixture, void (*on_drain)(void *)) {
    struct flood *flood = mem_alloc(sizeof *flood);
    *flood = (struct flood){fixture, exchange};
    atomic_fetch_add(&fixture->n_handled, 1);
    http_exchange_watch(exchange, flood_gone, on_drain, flood);
    http_exchange_stream_begin(exchange, 200, "application/octet-stream");
    return flood;
}

static void on_flood(struct http_exchange *exchange, void *context) {
    static const char block[1 << 16];
    struct flood *flood = start_flood(exchange, context, flood_more);
    while (http_exchange_stream_pending(exchange) == 0) http_exchange_stream_write(exchange, block, sizeof block);
    flood_more(flood);
}

// Writes far more than may be pending, without looking.
static void on_push(struct http_exchange *exchange, void *context) {
    static const char block[1 << 16];
    start_flood(exchange, context, NULL);
    for (int i = 0; i < 1024; i++) http_exchange_stream_write(exchange, block, sizeof block);
}

static void on_unwatched(struct http_exchange *exchange, void *context) {
    struct fixture *fixture = context;
    fixture->unwatched = exchange;
    atomic_fetch_add(&fixture->n_unwatched, 1);
}

// ---------------------------------------------------------------------- the thread

static void write_error(struct str *out, int status, const char *type, const char *code, const char *message) {
    str_printf(out, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\",\"status\":%d}}",
               message, type, code ? code : "", status);
}

static void on_finished(void *context, const char *method, const char *path, int status) {
    struct fixture *fixture = context;
    (void)method;
    (void)path;
    atomic_store(&fixture->last_status, status);
    atomic_fetch_add(&fixture->n_finished, 1);
}

static void on_call(uv_async_t *async) {
    struct fixture *fixture = async->data;
    int order = atomic_exchange(&fixture->order, ORDER_NONE);
    if (order == ORDER_DRAIN) http_server_drain(fixture->server, false);
    if (order == ORDER_ANSWER) http_exchange_reply(fixture->unwatched, 200, "text/plain", "late", 4);
    if (order != ORDER_CLOSE) return;
    http_server_close(fixture->server);
    uv_close((uv_handle_t *)async, NULL);
}

static void *run_loop(void *argument) {
    struct fixture *fixture = argument;
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    return NULL;
}

void fixture_open(struct fixture *fixture, const struct http_options *options) {
    static const struct http_route routes[] = {
        {"GET", "/health", on_health, HTTP_OPEN},
        {"GET", "/echo", on_echo, HTTP_NEEDS_KEY},
        {"POST", "/echo", on_echo, HTTP_NEEDS_KEY},
        {"GET", "/items/*", on_items, HTTP_NEEDS_KEY},
        {"GET", "/later", on_later, HTTP_NEEDS_KEY},
        {"GET", "/stream", on_stream, HTTP_NEEDS_KEY},
        {"GET", "/flood", on_flood, HTTP_NEEDS_KEY},
        {"GET", "/push", on_push, HTTP_NEEDS_KEY},
        {"GET", "/hang", on_hang, HTTP_NEEDS_KEY},
        {"GET", "/unwatched", on_unwatched, HTTP_NEEDS_KEY},
        {"DELETE", "/settings/*", on_items, HTTP_NEEDS_ADMIN},
    };
    struct err err = {0};
    *fixture = (struct fixture){.options = *options};
    fixture->options.routes = routes;
    fixture->options.n_routes = sizeof routes / sizeof *routes;
    fixture->options.context = fixture;
    fixture->options.error_body = write_error;
    fixture->options.on_finished = on_finished;
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    uv_async_init(&fixture->loop, &fixture->call, on_call);
    fixture->call.data = fixture;
    if (http_server_open(&fixture->server, &fixture->loop, &fixture->options, &err)) fail_msg("%s", err.text);
    fixture->port = http_server_port(fixture->server);
    assert_int_equal(pthread_create(&fixture->thread, NULL, run_loop, fixture), 0);
}

static void give_order(struct fixture *fixture, int order) {
    atomic_store(&fixture->order, order);
    uv_async_send(&fixture->call);
}

void fixture_drain(struct fixture *fixture) {
    give_order(fixture, ORDER_DRAIN);
}
void fixture_answer_unwatched(struct fixture *fixture) {
    give_order(fixture, ORDER_ANSWER);
}

void fixture_close(struct fixture *fixture) {
    give_order(fixture, ORDER_CLOSE);
    pthread_join(fixture->thread, NULL);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
}

// ---------------------------------------------------------------------- clients

int client_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    assert_true(fd >= 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

void client_connect_socket(int fd, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
}

int client_connect(int port) {
    int fd = client_socket();
    client_connect_socket(fd, port);
    return fd;
}

void client_send(int fd, const void *bytes, size_t n_bytes) {
    const char *p = bytes;
    while (n_bytes) {
        ssize_t n = send(fd, p, n_bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return;
        p += n;
        n_bytes -= (size_t)n;
    }
}

void client_send_text(int fd, const char *text) {
    client_send(fd, text, strlen(text));
}

// False at the end of input.
static bool read_some(int fd, struct str *out) {
    char buffer[65536];
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (poll(&poll_fd, 1, SILENCE_MS_MAX) != 1) fail_msg("the server is silent; so far: %s", str_text(out));
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n > 0) str_append(out, buffer, (size_t)n);
    return n > 0;
}

void client_read_until(int fd, struct str *out, const char *text) {
    while (!memmem(str_text(out), out->n_bytes, text, strlen(text)))
        if (!read_some(fd, out)) return;
}

void client_read_all(int fd, struct str *out) {
    while (read_some(fd, out)) continue;
}

char *client_talk(int port, const char *bytes, size_t n_bytes) {
    struct str out = STR_INIT;
    int fd = client_connect(port);
    client_send(fd, bytes, n_bytes);
    client_read_all(fd, &out);
    close(fd);
    str_append(&out, "", 0);
    return out.data ? out.data : strdup("");
}

void statuses_of(const char *bytes, char out[256]) {
    size_t n = 0;
    out[0] = 0;
    for (const char *p = strstr(bytes, "HTTP/1.1 "); p && n + 5 < 256; p = strstr(p + 1, "HTTP/1.1 ")) {
        if (p[9] < '1' || p[9] > '5') continue;
        n += (size_t)snprintf(out + n, 256 - n, "%s%.3s", n ? " " : "", p + 9);
    }
}

void wait_for(const atomic_int *value, int at_least) {
    for (int i = 0; atomic_load(value) < at_least; i++) {
        if (i > SILENCE_MS_MAX) fail_msg("waited in vain for %d", at_least);
        poll(NULL, 0, 1);
    }
}
