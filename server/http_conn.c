// A connection: bytes in, requests one at a time, bytes out.
//
// Parsing stops while a request is being answered, reading does not: the end of input tells that the client has gone.
#include "server/http_internal.h"

#include "base/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void conn_feed(struct http_conn *conn, const char *bytes, size_t n_bytes);

// ---------------------------------------------------------------------- open and close

// The bodies of all connections together have a limit too: many clients with large bodies must not take all memory.
static bool body_fits(struct http_conn *conn) {
    struct http_server *server = conn->server;
    size_t n_now = conn->parser.body.capacity;
    bool grew = n_now > conn->n_body_bytes;
    server->n_body_bytes += n_now - conn->n_body_bytes; // wraps around when the body shrank, as it should
    conn->n_body_bytes = n_now;
    return !grew || server->n_body_bytes <= server->options.limits.bodies_bytes_max;
}

static void on_closed(uv_handle_t *handle) {
    struct http_conn *conn = handle->data;
    struct http_server *server = conn->server;
    if (conn->exchange) http_exchange_gone(conn->exchange);
    http_parser_close(&conn->parser);
    body_fits(conn);
    str_close(&conn->leftover);
    free(conn);
    server->n_open_handles--;
    http_server_free_if_unused(server);
}

void http_conn_close(struct http_conn *conn) {
    if (conn->state == HTTP_CONN_CLOSED) return;
    conn->state = HTTP_CONN_CLOSED;
    struct http_server *server = conn->server;
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        server->connections = conn->next;
    if (conn->next) conn->next->previous = conn->previous;
    server->n_connections--;
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

static void set_state(struct http_conn *conn, enum http_conn_state state) {
    conn->state = state;
    conn->since_ns = clock_now_ns();
    conn->window_bytes = conn->parser.n_body_bytes;
}

// ---------------------------------------------------------------------- writing

size_t http_conn_pending(const struct http_conn *conn) {
    return uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);
}

// More than a client may leave unread before its next request is looked at.
static bool is_blocked(const struct http_conn *conn) {
    return conn->state == HTTP_CONN_ANSWER || http_conn_pending(conn) > HTTP_LEFTOVER_BYTES_MAX;
}

static void on_drained(struct http_conn *conn) {
    bool idle_while_draining = conn->server->draining && http_conn_is_idle(conn);
    if ((conn->input_ended && conn->state != HTTP_CONN_ANSWER) || idle_while_draining)
        http_conn_close(conn);
    else if (conn->state == HTTP_CONN_ANSWER && conn->exchange->on_drain)
        conn->exchange->on_drain(conn->exchange->watch_context);
    else
        http_conn_resume(conn);
}

static void on_written(uv_write_t *write, int status) {
    struct http_conn *conn = write->handle->data;
    free(write);
    if (conn->state == HTTP_CONN_CLOSED) return;
    if (status < 0)
        http_conn_close(conn);
    else if (http_conn_pending(conn) == 0)
        on_drained(conn);
}

// The bytes from offset skip on are copied behind the write request and queued.
static void queue_write(struct http_conn *conn, const uv_buf_t *buffers, unsigned n_buffers, size_t n_total,
                        size_t skip) {
    uv_write_t *write = mem_alloc(sizeof *write + n_total - skip);
    char *copy = (char *)(write + 1);
    size_t n_copied = 0;
    for (unsigned i = 0; i < n_buffers; i++) {
        size_t from = skip < buffers[i].len ? skip : buffers[i].len;
        skip -= from;
        if (buffers[i].len > from) memcpy(copy + n_copied, buffers[i].base + from, buffers[i].len - from);
        n_copied += buffers[i].len - from;
    }
    uv_buf_t buffer = uv_buf_init(copy, (unsigned)n_copied);
    if (uv_write(write, (uv_stream_t *)&conn->tcp, &buffer, 1, on_written) != 0) {
        free(write);
        http_conn_close(conn);
    }
}

void http_conn_write(struct http_conn *conn, const uv_buf_t *buffers, unsigned n_buffers) {
    if (conn->state == HTTP_CONN_CLOSED) return;
    size_t n_total = 0;
    for (unsigned i = 0; i < n_buffers; i++) n_total += buffers[i].len;
    conn->n_written += n_total;
    int n = http_conn_pending(conn) ? UV_EAGAIN : uv_try_write((uv_stream_t *)&conn->tcp, buffers, n_buffers);
    if (n < 0 && n != UV_EAGAIN)
        http_conn_close(conn);
    else if (n < 0 || (size_t)n < n_total)
        queue_write(conn, buffers, n_buffers, n_total, n < 0 ? 0 : (size_t)n);
}

// ---------------------------------------------------------------------- the last response

static void on_shut(uv_shutdown_t *shutdown, int status) {
    struct http_conn *conn = shutdown->handle->data;
    if (conn->state == HTTP_CONN_CLOSED) return;
    conn->shut = true;
    if (status < 0 || conn->input_ended)
        http_conn_close(conn);
    else
        set_state(conn, HTTP_CONN_LINGER);
}

// Closing with unread input would reset the connection and could destroy the response on its way, so we say that
// nothing more comes and read on for a while.
static void linger(struct http_conn *conn) {
    set_state(conn, HTTP_CONN_LINGER);
    str_close(&conn->leftover);
    str_close(&conn->parser.body);
    body_fits(conn);
    if (uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->tcp, on_shut) != 0) http_conn_close(conn);
    http_conn_resume(conn);
}

void http_conn_exchange_ended(struct http_conn *conn) {
    if (conn->state == HTTP_CONN_CLOSED) return;
    conn->served = true;
    if (conn->last || conn->server->draining) {
        linger(conn);
        return;
    }
    bool complete = conn->parser.phase == HTTP_PHASE_COMPLETE;
    if (complete) http_parser_next(&conn->parser);
    set_state(conn, complete ? HTTP_CONN_HEAD : HTTP_CONN_BODY);
    if (!conn->feeding) http_conn_resume(conn);
}

// ---------------------------------------------------------------------- reading requests

static void refuse(struct http_conn *conn, int status, const char *code, const char *message) {
    const char *type = status < 500 || status == 501 || status == 505 ? "invalid_request_error" : "server_error";
    if (!conn->exchange) conn->exchange = http_exchange_open(conn);
    conn->exchange->keep_alive = false;
    if (status == 503) http_exchange_header(conn->exchange, "Retry-After", "1");
    http_exchange_refuse(conn->exchange, (struct http_verdict){status, type, code, message});
}

static const char *code_of(int status) {
    if (status == 413 || status == 414 || status == 431) return "request_too_large";
    return status == 408 ? "request_timeout" : NULL;
}

// A refused request is answered at once, unless its body comes in chunks: their framing may turn out to be malformed,
// which is then the answer. A body of moderate length is read over, so that the connection can stay.
static void answer_refused_head(struct http_conn *conn) {
    const struct http_framing *framing = &conn->parser.framing;
    struct http_exchange *exchange = conn->exchange;
    int status = exchange->verdict.status;
    bool has_body = framing->chunked || framing->content_length;
    conn->parser.discard = true;
    if (status == 400 || status == 413 || status == 417 || framing->content_length > HTTP_SKIP_BYTES_MAX ||
        (has_body && framing->expects_continue) || strcmp(exchange->request.method, "CONNECT") == 0)
        exchange->keep_alive = false;
    else if (framing->chunked)
        return;
    conn->trusted |= exchange->key_passed;
    http_exchange_refuse(exchange, exchange->verdict);
}

static void on_head(struct http_conn *conn) {
    const struct http_framing *framing = &conn->parser.framing;
    conn->exchange = http_exchange_open_request(conn);
    set_state(conn, HTTP_CONN_BODY);
    http_admit(conn->exchange, &conn->parser.head, framing);
    if (conn->exchange->verdict.status) {
        answer_refused_head(conn);
    } else if (framing->expects_continue && (framing->chunked || framing->content_length)) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)go_on, sizeof go_on - 1);
        http_conn_write(conn, &buffer, 1);
    }
}

static void on_message(struct http_conn *conn) {
    struct http_exchange *exchange = conn->exchange;
    if (!exchange) { // answered already
        http_parser_next(&conn->parser);
        set_state(conn, HTTP_CONN_HEAD);
        return;
    }
    conn->trusted |= exchange->key_passed;
    if (exchange->verdict.status) {
        http_exchange_refuse(exchange, exchange->verdict);
        return;
    }
    exchange->request.body = (struct str_view){str_text(&conn->parser.body), conn->parser.body.n_bytes};
    exchange->dispatched = true;
    set_state(conn, HTTP_CONN_ANSWER);
    exchange->route->handler(exchange, conn->server->options.context);
}

static void on_event(struct http_conn *conn, enum http_event event) {
    const struct http_refusal *refusal = &conn->parser.refusal;
    if (event == HTTP_EVENT_HEAD)
        on_head(conn);
    else if (event == HTTP_EVENT_MESSAGE)
        on_message(conn);
    else if (event == HTTP_EVENT_REFUSED)
        refuse(conn, refusal->status, code_of(refusal->status), refusal->message);
}

// Parses until the bytes are used up or must wait; what must wait is kept.
static void conn_feed(struct http_conn *conn, const char *bytes, size_t n_bytes) {
    enum http_event event = HTTP_EVENT_HEAD;
    conn->feeding = true;
    while ((conn->state == HTTP_CONN_HEAD || conn->state == HTTP_CONN_BODY) && !is_blocked(conn) &&
           (n_bytes || event != HTTP_EVENT_MORE)) {
        size_t n_used = 0;
        if (n_bytes && conn->state == HTTP_CONN_HEAD && !conn->parser.head.begun) set_state(conn, HTTP_CONN_HEAD);
        event = http_parser_feed(&conn->parser, bytes, n_bytes, &n_used);
        bytes += n_used;
        n_bytes -= n_used;
        if (!body_fits(conn))
            refuse(conn, 503, NULL, "Too many large requests are being read. Try again soon.");
        else
            on_event(conn, event);
    }
    conn->feeding = false;
    bool wanted = conn->state != HTTP_CONN_LINGER && conn->state != HTTP_CONN_CLOSED;
    if (wanted && n_bytes) str_append(&conn->leftover, bytes, n_bytes);
}

static void feed_leftover(struct http_conn *conn) {
    struct str leftover = conn->leftover;
    conn->leftover = (struct str)STR_INIT;
    conn_feed(conn, leftover.data, leftover.n_bytes);
    str_close(&leftover);
}

// ---------------------------------------------------------------------- reading bytes

static void on_end_of_input(struct http_conn *conn) {
    conn->input_ended = true;
    bool flushing = conn->state != HTTP_CONN_ANSWER && http_conn_pending(conn) > 0;
    if (!flushing && (conn->state != HTTP_CONN_LINGER || conn->shut))
        http_conn_close(conn);
    else
        uv_read_stop((uv_stream_t *)&conn->tcp);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    struct http_conn *conn = handle->data;
    *buffer = uv_buf_init(conn->server->read_buffer, HTTP_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    struct http_conn *conn = stream->data;
    if (n == 0 || conn->state == HTTP_CONN_CLOSED || (n > 0 && conn->state == HTTP_CONN_LINGER)) return;
    if (n == UV_EOF) {
        on_end_of_input(conn);
    } else if (n < 0) {
        http_conn_close(conn);
    } else if (conn->leftover.n_bytes || is_blocked(conn)) {
        str_append(&conn->leftover, buffer->base, (size_t)n);
        if (conn->leftover.n_bytes < HTTP_LEFTOVER_BYTES_MAX) return;
        // Such a client is not seen leaving until its present answer has ended or cannot be written.
        uv_read_stop(stream);
        conn->reading = false;
    } else {
        conn_feed(conn, buffer->base, (size_t)n);
    }
}

static void read_on(struct http_conn *conn) {
    if (conn->reading || conn->input_ended) return;
    conn->reading = true;
    if (uv_read_start((uv_stream_t *)&conn->tcp, give_buffer, on_read) != 0) http_conn_close(conn);
}

static void go_on(struct http_conn *conn) {
    if (conn->leftover.n_bytes && !is_blocked(conn)) feed_leftover(conn);
    if (conn->state != HTTP_CONN_CLOSED && conn->leftover.n_bytes < HTTP_LEFTOVER_BYTES_MAX) read_on(conn);
}

static void on_ready(uv_idle_t *idle) {
    struct http_server *server = idle->data;
    uv_idle_stop(idle);
    for (struct http_conn *conn = server->connections, *next; conn; conn = next) {
        next = conn->next;
        if (!conn->ready) continue;
        conn->ready = false;
        go_on(conn);
    }
}

// The next request is taken up from the loop, never from inside a call of the handler that ended the one before.
void http_conn_resume(struct http_conn *conn) {
    if (conn->reading && !conn->leftover.n_bytes) return;
    conn->ready = true;
    uv_idle_start(&conn->server->ready, on_ready);
}

// ---------------------------------------------------------------------- accepting

static void read_address(struct http_conn *conn) {
    struct sockaddr_storage address;
    int n = sizeof address;
    if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&address, &n) != 0) return;
    if (address.ss_family == AF_INET6)
        memcpy(conn->address, &((struct sockaddr_in6 *)&address)->sin6_addr, 16);
    else
        memcpy(conn->address, &((struct sockaddr_in *)&address)->sin_addr, 4);
}

void http_conn_open(struct http_server *server) {
    struct http_conn *conn = mem_alloc_zero(1, sizeof *conn);
    uv_tcp_init(server->loop, &conn->tcp);
    server->n_open_handles++;
    conn->tcp.data = conn;
    conn->server = server;
    conn->accepted_ns = clock_now_ns();
    http_parser_open(&conn->parser, server->options.body_bytes_max);
    conn->next = server->connections;
    if (conn->next) conn->next->previous = conn;
    server->connections = conn;
    server->n_connections++;
    set_state(conn, HTTP_CONN_HEAD);
    if (uv_accept((uv_stream_t *)&server->listener, (uv_stream_t *)&conn->tcp) != 0) {
        http_conn_close(conn);
        return;
    }
    read_address(conn);
    uv_tcp_nodelay(&conn->tcp, 1);
    read_on(conn);
}

// ---------------------------------------------------------------------- deadlines

bool http_conn_is_idle(const struct http_conn *conn) {
    return conn->state == HTTP_CONN_HEAD && !conn->parser.head.begun && !conn->leftover.n_bytes &&
           !http_conn_pending(conn);
}

static void sweep_head(struct http_conn *conn, uint64_t age_ms, const struct http_limits *limits) {
    if (conn->leftover.n_bytes) return; // it waits for us
    if (conn->parser.head.begun && age_ms > limits->header_ms)
        refuse(conn, 408, code_of(408), "The request took too long.");
    else if (!conn->parser.head.begun && age_ms > (conn->served ? limits->idle_ms : limits->header_ms))
        http_conn_close(conn);
}

static void sweep_body(struct http_conn *conn, uint64_t age_ms, const struct http_limits *limits) {
    if (age_ms < limits->body_window_ms || conn->leftover.n_bytes) return;
    uint64_t n_bytes = conn->parser.n_body_bytes - conn->window_bytes;
    if (n_bytes * 1000 >= HTTP_BODY_BYTES_PER_S * age_ms) {
        set_state(conn, HTTP_CONN_BODY);
        return;
    }
    if (conn->exchange)
        refuse(conn, 408, code_of(408), "The request took too long.");
    else
        http_conn_close(conn); // it was answered already
}

void http_conn_sweep(struct http_conn *conn, uint64_t now_ns) {
    const struct http_limits *limits = &conn->server->options.limits;
    uint64_t n_taken = conn->n_written - http_conn_pending(conn);
    if (n_taken != conn->n_taken_seen || !http_conn_pending(conn)) {
        conn->n_taken_seen = n_taken;
        conn->taken_ns = now_ns;
    } else if (now_ns - conn->taken_ns > limits->stall_ms * 1000000) {
        http_conn_close(conn);
        return;
    }
    uint64_t age_ms = now_ns > conn->since_ns ? (now_ns - conn->since_ns) / 1000000 : 0;
    switch (conn->state) {
    case HTTP_CONN_HEAD:
        sweep_head(conn, age_ms, limits);
        break;
    case HTTP_CONN_BODY:
        sweep_body(conn, age_ms, limits);
        break;
    case HTTP_CONN_LINGER:
        if (conn->shut && age_ms > limits->linger_ms) http_conn_close(conn);
        break;
    case HTTP_CONN_ANSWER:
    case HTTP_CONN_CLOSED:
        break;
    }
}
