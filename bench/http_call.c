#include "bench/http_call.h"
#include "base/clock.h"

#include <errno.h>
#include <llhttp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { POLL_MS = 100, EVENT_BYTES_MAX = 16 << 20 };

struct response {
    llhttp_t parser;
    const struct http_call *call;
    struct str *body;
    struct str header_name, header_value;
    struct str lines; // of the event stream, not yet complete
    bool is_stream, complete, stopped;
};

static int connect_to(const struct url *url, double timeout_s, struct err *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int rc = getaddrinfo(url->host, url->port, &hints, &found);
    if (rc) return err_set(err, ERR_IO, "%s: %s", url->host, gai_strerror(rc));
    int fd = -1, reason = 0;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        const struct timeval most = {(time_t)timeout_s, (suseconds_t)((timeout_s - (double)(time_t)timeout_s) * 1e6)};
        if (fd >= 0 && timeout_s > 0) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
        reason = errno;
        if (fd >= 0) close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    if (fd < 0)
        return err_set(err, ERR_IO, "no server at %s:%s: %s", url->host, url->port,
                       strerror(reason == EINPROGRESS ? ETIMEDOUT : reason));
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int send_request(int fd, const struct http_call *call, struct err *err) {
    struct str text = STR_INIT;
    str_printf(&text, "%s %s%s HTTP/1.1\r\nHost: %s:%s\r\nAccept: application/json\r\nConnection: close\r\n",
               call->method, call->url->prefix, call->path, call->url->host, call->url->port);
    if (call->api_key) str_printf(&text, "Authorization: Bearer %s\r\n", call->api_key);
    if (call->body.n_bytes)
        str_printf(&text, "Content-Type: application/json\r\nContent-Length: %zu\r\n", call->body.n_bytes);
    str_append_text(&text, "\r\n");
    str_append(&text, call->body.data, call->body.n_bytes);
    int rc = 0;
    for (size_t sent = 0; !rc && sent < text.n_bytes;) {
        ssize_t n = send(fd, text.data + sent, text.n_bytes - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (errno != EINTR)
            rc = err_set(err, ERR_IO, "the server closed the connection: %s", strerror(errno));
    }
    str_close(&text);
    return rc;
}

// Hands over every whole "data:" line; other fields of the event stream do not matter here.
static void take_lines(struct response *response) {
    struct str *lines = &response->lines;
    size_t start = 0;
    for (char *end; !response->stopped && (end = memchr(lines->data + start, '\n', lines->n_bytes - start));) {
        const char *line = lines->data + start;
        size_t n = (size_t)(end - line);
        start += n + 1;
        if (n && line[n - 1] == '\r') n--;
        if (n < 5 || memcmp(line, "data:", 5) != 0) continue;
        line += 5, n -= 5;
        if (n && *line == ' ') line++, n--;
        if (n == 6 && memcmp(line, "[DONE]", 6) == 0) continue;
        if (!response->call->on_event(response->call->context, line, n)) response->stopped = true;
    }
    str_drop_front(lines, start);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t n) {
    struct response *response = parser->data;
    if (response->header_value.n_bytes) str_clear(&response->header_name), str_clear(&response->header_value);
    str_append(&response->header_name, at, n);
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t n) {
    struct response *response = parser->data;
    str_append(&response->header_value, at, n);
    if (strcasecmp(str_text(&response->header_name), "content-type") == 0 &&
        strncasecmp(str_text(&response->header_value), "text/event-stream", 17) == 0)
        response->is_stream = true;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t n) {
    struct response *response = parser->data;
    struct str *target = response->is_stream ? &response->lines : response->body;
    if (target->n_bytes + n > EVENT_BYTES_MAX) return -1;
    str_append(target, at, n);
    if (response->is_stream) take_lines(response);
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    struct response *response = parser->data;
    response->complete = true;
    return HPE_PAUSED;
}

static int receive(int fd, struct response *response, struct err *err) {
    const struct http_call *call = response->call;
    const uint64_t begun = clock_now_ns();
    char buffer[16384];
    while (!response->complete) {
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        int ready = poll(&waiting, 1, POLL_MS);
        if (response->stopped || (call->stop && *call->stop)) return err_set(err, ERR_CLOSED, "stopped");
        if (call->timeout_s > 0 && (double)(clock_now_ns() - begun) > call->timeout_s * 1e9)
            return err_set(err, ERR_LIMIT, "no whole answer from %s within %.3g s", call->path, call->timeout_s);
        if (ready <= 0) continue;
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_set(err, ERR_IO, "the connection broke: %s", strerror(errno));
        if (n == 0) {
            llhttp_finish(&response->parser);
            return response->complete ? 0 : err_set(err, ERR_IO, "the server closed the connection in mid-answer");
        }
        enum llhttp_errno rc = llhttp_execute(&response->parser, buffer, (size_t)n);
        if (rc != HPE_OK && rc != HPE_PAUSED) return err_set(err, ERR_IO, "the server's answer is not HTTP");
    }
    return response->stopped ? err_set(err, ERR_CLOSED, "stopped") : 0;
}

int http_call_run(const struct http_call *call, int *status, struct str *body, struct err *err) {
    int fd = connect_to(call->url, call->timeout_s, err);
    if (fd < 0) return fd;
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_header_field = on_header_field;
    settings.on_header_value = on_header_value;
    settings.on_body = on_body;
    settings.on_message_complete = on_message_complete;
    struct response response = {.call = call, .body = body};
    llhttp_init(&response.parser, HTTP_RESPONSE, &settings);
    response.parser.data = &response;
    int rc = send_request(fd, call, err);
    if (!rc) rc = receive(fd, &response, err);
    *status = response.parser.status_code;
    close(fd);
    str_close(&response.header_name);
    str_close(&response.header_value);
    str_close(&response.lines);
    return rc;
}
