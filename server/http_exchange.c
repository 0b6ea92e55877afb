// One request and its response: what handlers see, and how a response is written.
#include "server/http_internal.h"

#include "base/clock.h"
#include "base/rng.h"

#include <assert.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

struct status_row {
    int status;
    const char *reason;
};

static const struct status_row status_rows[] = {{200, "OK"},
                                                {204, "No Content"},
                                                {400, "Bad Request"},
                                                {401, "Unauthorized"},
                                                {403, "Forbidden"},
                                                {404, "Not Found"},
                                                {405, "Method Not Allowed"},
                                                {408, "Request Timeout"},
                                                {409, "Conflict"},
                                                {413, "Content Too Large"},
                                                {414, "URI Too Long"},
                                                {415, "Unsupported Media Type"},
                                                {417, "Expectation Failed"},
                                                {422, "Unprocessable Content"},
                                                {426, "Upgrade Required"},
                                                {429, "Too Many Requests"},
                                                {431, "Request Header Fields Too Large"},
                                                {500, "Internal Server Error"},
                                                {501, "Not Implemented"},
                                                {503, "Service Unavailable"},
                                                {505, "HTTP Version Not Supported"}};

static const char *reason_of(int status) {
    for (size_t i = 0; i < sizeof status_rows / sizeof *status_rows; i++)
        if (status_rows[i].status == status) return status_rows[i].reason;
    return "Status";
}

// ---------------------------------------------------------------------- opening

static bool is_request_id(struct str_view id) {
    return id.n_bytes <= 128 && str_view_is_plain_name(id);
}

static const char *make_request_id(struct http_server *server, struct arena *arena) {
    return arena_printf(arena, "req-%016llx", (unsigned long long)rng_mix64(server->id_seed + server->id_count++));
}

struct http_exchange *http_exchange_open(struct http_conn *conn) {
    struct arena arena = ARENA_INIT;
    struct http_exchange *exchange = arena_alloc_zero(&arena, 1, sizeof *exchange);
    exchange->arena = arena;
    exchange->server = conn->server;
    exchange->conn = conn;
    exchange->last_header = &exchange->headers;
    exchange->minor = 1;
    exchange->request = (struct http_request){
        .method = "", .path = "", .query = "", .body = STR_VIEW(""), .arrived_ns = clock_now_ns()};
    exchange->request.request_id = make_request_id(conn->server, &exchange->arena);
    conn->server->n_exchanges++;
    return exchange;
}

static const char *copy_view(struct arena *arena, struct str_view view) {
    return arena_copy_string(arena, view.data, view.n_bytes);
}

static void copy_fields(struct http_exchange *exchange, const struct http_head *head) {
    struct http_header **last = &exchange->fields;
    for (int i = 0; i < head->n_fields; i++) {
        struct http_header *field = arena_alloc(&exchange->arena, sizeof *field);
        field->name = copy_view(&exchange->arena, http_head_text(head, head->fields[i].name));
        field->value = copy_view(&exchange->arena, http_head_text(head, head->fields[i].value));
        field->next = NULL;
        *last = field;
        last = &field->next;
    }
}

struct http_exchange *http_exchange_open_request(struct http_conn *conn) {
    const struct http_head *head = &conn->parser.head;
    struct http_exchange *exchange = http_exchange_open(conn);
    struct str_view id;
    copy_fields(exchange, head);
    exchange->request.method = copy_view(&exchange->arena, http_head_text(head, head->method));
    exchange->is_head = strcmp(exchange->request.method, "HEAD") == 0;
    exchange->minor = head->minor;
    exchange->keep_alive = conn->parser.framing.keep_alive;
    if (http_head_value(head, "x-request-id", 0, &id) && is_request_id(id))
        exchange->request.request_id = copy_view(&exchange->arena, id);
    return exchange;
}

// ---------------------------------------------------------------------- ending

static const char *method_label(const char *method) {
    static const char *const labels[] = {"GET", "HEAD", "POST", "OPTIONS"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        if (strcmp(method, labels[i]) == 0) return labels[i];
    return "other";
}

static void exchange_free(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    const struct http_options *options = &server->options;
    if (options->on_finished)
        options->on_finished(options->context, method_label(exchange->request.method), exchange->route_path,
                             exchange->status);
    struct arena arena = exchange->arena;
    arena_close(&arena);
    server->n_exchanges--;
    http_server_free_if_unused(server);
}

static void exchange_end(struct http_exchange *exchange) {
    struct http_conn *conn = exchange->conn;
    if (conn) {
        conn->exchange = NULL;
        conn->last |= !exchange->keep_alive;
    }
    exchange_free(exchange);
    if (conn) http_conn_exchange_ended(conn);
}

void http_exchange_gone(struct http_exchange *exchange) {
    exchange->conn = NULL;
    exchange->status = 499;
    // Nobody can be told that a dispatched exchange is no more: then it lives until its handler ends it.
    if (exchange->dispatched && !exchange->on_gone) return;
    exchange->phase = HTTP_EXCHANGE_GONE;
    if (exchange->on_gone) exchange->on_gone(exchange->watch_context);
    exchange_free(exchange);
}

// ---------------------------------------------------------------------- response head

static const char *date_text(struct http_server *server) {
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t now = clock_wall_s();
    if (now == server->date_s) return server->date;
    server->date_s = now;
    time_t seconds = (time_t)now;
    struct tm tm;
    gmtime_r(&seconds, &tm);
    snprintf(server->date, sizeof server->date, "%.3s, %02d %.3s %d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday,
             tm.tm_mday, months + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return server->date;
}

static void append_header(struct str *out, const char *name, const char *value) {
    str_append_text(out, name);
    str_append_text(out, ": ");
    str_append_text(out, value);
    str_append_text(out, "\r\n");
}

static void append_connection(struct str *out, struct http_exchange *exchange) {
    if (exchange->server->draining) exchange->keep_alive = false;
    if (exchange->status == 426) {
        append_header(out, "Upgrade", "HTTP/1.1");
        append_header(out, "Connection", "Upgrade, close");
    } else if (!exchange->keep_alive) {
        append_header(out, "Connection", "close");
    } else {
        if (exchange->minor == 0) append_header(out, "Connection", "keep-alive");
        str_append_text(out, "Keep-Alive: ");
        str_printf(out, "timeout=%llu\r\n", (unsigned long long)(exchange->server->options.limits.idle_ms / 1000));
    }
}

// Up to the field that tells the length, which the caller adds with the empty line.
static struct str *begin_head(struct http_exchange *exchange, int status, const char *content_type) {
    struct str *out = &exchange->server->head;
    exchange->status = status;
    str_clear(out);
    str_printf(out, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
    append_header(out, "Date", date_text(exchange->server));
    append_header(out, "x-request-id", exchange->request.request_id);
    append_connection(out, exchange);
    for (const struct http_header *header = exchange->headers; header; header = header->next)
        append_header(out, header->name, header->value);
    if (content_type) append_header(out, "Content-Type", content_type);
    return out;
}

static uv_buf_t buffer_of(const char *bytes, size_t n_bytes) {
    return (uv_buf_t){.base = (char *)(uintptr_t)bytes, .len = n_bytes}; // libuv only reads it
}

// ---------------------------------------------------------------------- for handlers

const struct http_request *http_exchange_request(const struct http_exchange *exchange) {
    return &exchange->request;
}

struct http_server *http_exchange_server(struct http_exchange *exchange) {
    return exchange->server;
}

void http_exchange_take_body(struct http_exchange *exchange, struct str *out) {
    assert(exchange->conn && exchange->phase == HTTP_EXCHANGE_OPEN);
    *out = exchange->conn->parser.body; // it counts as the connection's until the exchange has ended
    exchange->conn->parser.body = (struct str)STR_INIT;
    exchange->request.body = STR_VIEW("");
}

const char *http_exchange_request_header(const struct http_exchange *exchange, const char *name) {
    for (const struct http_header *field = exchange->fields; field; field = field->next)
        if (strcasecmp(field->name, name) == 0) return field->value;
    return NULL;
}

void http_exchange_header(struct http_exchange *exchange, const char *name, const char *value) {
    assert(exchange->phase == HTTP_EXCHANGE_OPEN && http_is_token(str_view_of(name)));
    struct http_header *header = arena_alloc(&exchange->arena, sizeof *header);
    char *filtered = arena_copy_string(&exchange->arena, value, strlen(value)), *end = filtered;
    for (const char *c = value; *c; c++)
        if (*c >= 0x20 && *c <= 0x7e) *end++ = *c;
    *end = 0;
    *header = (struct http_header){NULL, arena_copy_string(&exchange->arena, name, strlen(name)), filtered};
    *exchange->last_header = header;
    exchange->last_header = &header->next;
}

void http_exchange_reply(struct http_exchange *exchange, int status, const char *content_type, const char *body,
                         size_t n_bytes) {
    assert(exchange->phase == HTTP_EXCHANGE_OPEN);
    if (exchange->conn) {
        struct str *head = begin_head(exchange, status, content_type);
        if (status == 204)
            str_append_text(head, "\r\n");
        else
            str_printf(head, "Content-Length: %zu\r\n\r\n", n_bytes);
        uv_buf_t buffers[2] = {buffer_of(head->data, head->n_bytes), buffer_of(body, n_bytes)};
        bool has_body = n_bytes && status != 204 && !exchange->is_head;
        http_conn_write(exchange->conn, buffers, has_body ? 2 : 1);
    }
    exchange_end(exchange);
}

void http_exchange_stream_begin(struct http_exchange *exchange, int status, const char *content_type) {
    assert(exchange->phase == HTTP_EXCHANGE_OPEN);
    exchange->phase = HTTP_EXCHANGE_STREAM;
    if (!exchange->conn) return;
    exchange->chunked = exchange->minor == 1;
    exchange->keep_alive &= exchange->chunked; // without chunks the end of the connection is the end of the stream
    struct str *head = begin_head(exchange, status, content_type);
    str_append_text(head, exchange->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    uv_buf_t buffer = buffer_of(head->data, head->n_bytes);
    http_conn_write(exchange->conn, &buffer, 1);
}

void http_exchange_stream_write(struct http_exchange *exchange, const char *bytes, size_t n_bytes) {
    assert(exchange->phase == HTTP_EXCHANGE_STREAM);
    struct http_conn *conn = exchange->conn;
    if (!conn || !n_bytes || exchange->is_head) return;
    size_t pending = http_conn_pending(conn);
    if (pending && pending + n_bytes > exchange->server->options.limits.pending_bytes_max) {
        http_conn_close(conn);
        return;
    }
    char size[24];
    int n_size = exchange->chunked ? snprintf(size, sizeof size, "%zx\r\n", n_bytes) : 0;
    uv_buf_t buffers[3] = {buffer_of(size, (size_t)n_size), buffer_of(bytes, n_bytes), buffer_of("\r\n", 2)};
    if (exchange->chunked)
        http_conn_write(conn, buffers, 3);
    else
        http_conn_write(conn, buffers + 1, 1);
}

void http_exchange_stream_end(struct http_exchange *exchange) {
    assert(exchange->phase == HTTP_EXCHANGE_STREAM);
    uv_buf_t last_chunk = buffer_of("0\r\n\r\n", 5);
    if (exchange->conn && exchange->chunked && !exchange->is_head) http_conn_write(exchange->conn, &last_chunk, 1);
    exchange_end(exchange);
}

size_t http_exchange_stream_pending(const struct http_exchange *exchange) {
    if (!exchange->conn) return 0;
    return exchange->conn->state == HTTP_CONN_CLOSED ? SIZE_MAX : http_conn_pending(exchange->conn);
}

size_t http_exchange_stream_untaken(const struct http_exchange *exchange) {
    const size_t pending = http_exchange_stream_pending(exchange);
    int socket, n_unsent;
    if (!exchange->conn || pending == SIZE_MAX) return pending;
    if (uv_fileno((const uv_handle_t *)&exchange->conn->tcp, &socket)) return pending;
    return ioctl(socket, SIOCOUTQNSD, &n_unsent) || n_unsent < 0 ? pending : pending + (size_t)n_unsent;
}

void http_exchange_watch(struct http_exchange *exchange, void (*on_gone)(void *context),
                         void (*on_drain)(void *context), void *context) {
    exchange->on_gone = on_gone;
    exchange->on_drain = on_drain;
    exchange->watch_context = context;
}

void http_exchange_refuse(struct http_exchange *exchange, struct http_verdict verdict) {
    struct str body = STR_INIT;
    if (verdict.status == 401) http_exchange_header(exchange, "WWW-Authenticate", "Bearer");
    if (exchange->allow && (verdict.status == 405 || verdict.status == 204))
        http_exchange_header(exchange, "Allow", exchange->allow);
    if (verdict.status == 204) {
        http_exchange_reply(exchange, 204, NULL, "", 0);
        return;
    }
    exchange->server->options.error_body(&body, verdict.status, verdict.type, verdict.code, verdict.message);
    http_exchange_reply(exchange, verdict.status, "application/json", str_text(&body), body.n_bytes);
    str_close(&body);
}
