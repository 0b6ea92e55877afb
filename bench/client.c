#include "bench/client.h"
#include "base/clock.h"
#include "bench/answer.h"

#include <assert.h>
#include <errno.h>
#include <llhttp.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

enum {
    BUFFER_BYTES = 256 * 1024,
    SLOW_BYTES = 128,
    SLOW_PAUSE_MS = 50,
    SLOW_SOCKET_BYTES = 4096,
    TIMEOUT_EVERY_MS = 5
};
#define GAP_MAX UINT32_MAX

// A connection and the request on it.
struct exchange {
    struct client *client;
    struct exchange *next, *before; // in `active`, by time; in `idle`, `next` alone
    uv_tcp_t tcp;
    uv_connect_t connecting;
    uv_write_t writing;
    uv_timer_t pause; // of slow readers
    llhttp_t parser;
    struct str header_name, header_value;
    struct answer answer;
    struct str text; // the request
    size_t n_written;
    struct request_record record;
    VEC_OF(uint32_t) gaps;
    void *context;
    int n_handles;                         // not closed yet
    bool is_active, is_connected, is_used; // used: has carried a request before
    bool was_answered;                     // some byte of the present request's answer has come
    bool keep_text, complete, closing, reads;
};

struct client {
    struct client_options options;
    uv_loop_t *loop;
    uv_timer_t timeouts;
    struct sockaddr_storage address;
    llhttp_settings_t settings;
    struct exchange *first, *last, *idle;
    size_t n_in_flight, n_open; // n_open: exchanges that are not freed
    uint64_t now_ns;            // of the read that is being handled
    bool timeouts_closed;
    char *buffer;
};

static void exchange_end(struct exchange *x, enum outcome outcome, const char *problem);

static uint64_t now(const struct client *client) {
    return clock_now_ns() - client->options.clock_start;
}

// ------------------------------------------------------------------------------------------------------ life of one

static void on_closed(uv_handle_t *handle) {
    struct exchange *x = handle->data;
    if (--x->n_handles) return;
    x->client->n_open--;
    str_close(&x->header_name), str_close(&x->header_value), str_close(&x->text);
    answer_close(&x->answer);
    vec_free(&x->gaps);
    free(x);
}

static void exchange_close(struct exchange *x) {
    if (x->closing) return;
    x->closing = true;
    uv_close((uv_handle_t *)&x->tcp, on_closed);
    uv_close((uv_handle_t *)&x->pause, on_closed);
}

static void leave_idle(struct exchange *x) {
    for (struct exchange **at = &x->client->idle; *at; at = &(*at)->next)
        if (*at == x) {
            *at = x->next;
            return;
        }
}

static void leave_active(struct exchange *x) {
    struct client *client = x->client;
    *(x->before ? &x->before->next : &client->first) = x->next;
    *(x->next ? &x->next->before : &client->last) = x->before;
    x->is_active = false;
    client->n_in_flight--;
}

// ----------------------------------------------------------------------------------------------------------- sending

static void on_written(uv_write_t *writing, int status) {
    struct exchange *x = writing->data;
    if (status < 0 && x->is_active && !x->closing) exchange_end(x, OUTCOME_RESET, uv_strerror(status));
}

static void write_request(struct exchange *x) {
    uv_buf_t rest = uv_buf_init(x->text.data, (unsigned)x->text.n_bytes);
    x->record.sent_ns = now(x->client);
    int n = uv_try_write((uv_stream_t *)&x->tcp, &rest, 1);
    if (n == (int)rest.len) return;
    if (n > 0) rest.base += n, rest.len -= (size_t)n;
    x->writing.data = x;
    if (n < 0 && n != UV_EAGAIN)
        exchange_end(x, OUTCOME_RESET, uv_strerror(n));
    else
        uv_write(&x->writing, (uv_stream_t *)&x->tcp, &rest, 1, on_written);
}

static void read_start(struct exchange *x);

static void on_connected(uv_connect_t *connecting, int status) {
    struct exchange *x = connecting->data;
    if (x->closing || !x->is_active) return;
    if (status < 0) {
        exchange_end(x, OUTCOME_CONNECT, uv_strerror(status));
        return;
    }
    x->is_connected = true;
    uv_tcp_nodelay(&x->tcp, 1);
    read_start(x);
    write_request(x);
}

static struct exchange *exchange_new(struct client *client) {
    struct exchange *x = mem_alloc_zero(1, sizeof *x);
    x->client = client;
    client->n_open++;
    x->n_handles = 2;
    uv_tcp_init_ex(client->loop, &x->tcp, client->address.ss_family);
    uv_timer_init(client->loop, &x->pause);
    x->tcp.data = x->pause.data = x->connecting.data = x;
    return x;
}

// Puts the request on its way, over the connection that is there or a new one.
static void exchange_go(struct exchange *x) {
    struct client *client = x->client;
    llhttp_init(&x->parser, HTTP_RESPONSE, &client->settings);
    x->parser.data = x;
    x->complete = x->was_answered = false;
    answer_begin(&x->answer, x->keep_text);
    if (x->is_connected) {
        write_request(x);
        return;
    }
    // Otherwise the system would read ahead for a slow reader, and the server would see nothing of it.
    int n_bytes = SLOW_SOCKET_BYTES, rc = 0;
    if (x->record.slow) rc = uv_recv_buffer_size((uv_handle_t *)&x->tcp, &n_bytes);
    if (!rc) rc = uv_tcp_connect(&x->connecting, &x->tcp, (const struct sockaddr *)&client->address, on_connected);
    if (rc < 0) exchange_end(x, OUTCOME_CONNECT, uv_strerror(rc));
}

static void write_head(struct exchange *x, const struct client_request *request) {
    const struct client_options *options = &x->client->options;
    const struct url *url = &options->url;
    str_clear(&x->text);
    str_append_text(&x->text, "POST ");
    str_append_text(&x->text, url->prefix);
    str_append(&x->text, request->path.data, request->path.n_bytes);
    str_printf(&x->text, " HTTP/1.1\r\nHost: %s:%s\r\nAccept: %s\r\n", url->host, url->port,
               request->stream ? "text/event-stream" : "application/json");
    if (options->api_key) str_printf(&x->text, "Authorization: Bearer %s\r\n", options->api_key);
    str_printf(&x->text, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", request->body.n_bytes);
    str_append(&x->text, request->body.data, request->body.n_bytes);
}

static void join_active(struct exchange *x) {
    struct client *client = x->client;
    x->is_active = true;
    x->next = NULL;
    x->before = client->last;
    *(client->last ? &client->last->next : &client->first) = x;
    client->last = x;
    client->n_in_flight++;
}

void client_send(struct client *client, const struct client_request *request) {
    struct exchange *x = client->idle;
    if (x)
        client->idle = x->next;
    else
        x = exchange_new(client);
    join_active(x);
    x->context = request->context;
    x->keep_text = request->keep_text;
    x->gaps.count = 0;
    x->record = (struct request_record){.scheduled_ns = request->scheduled_ns,
                                        .started_ns = now(client),
                                        .n_prompt = -1,
                                        .n_cached = -1,
                                        .n_output = -1,
                                        .session = request->session,
                                        .user = request->user,
                                        .turn = request->turn,
                                        .slow = request->slow};
    write_head(x, request);
    exchange_go(x);
}

// --------------------------------------------------------------------------------------------------------- receiving

// Something generated has come, in n_events events that were read at once: what arrives together has no gaps between.
static void count_events(struct exchange *x, int n_events) {
    const uint64_t at = x->client->now_ns;
    for (int i = 0; i < n_events; i++) {
        if (x->record.n_events++ == 0) {
            x->record.first_ns = at;
        } else {
            uint64_t gap = (at - x->record.last_ns + GAP_NS / 2) / GAP_NS;
            vec_push(&x->gaps, gap < GAP_MAX ? (uint32_t)gap : GAP_MAX);
        }
        x->record.last_ns = at;
    }
}

static int on_header_field(llhttp_t *parser, const char *at, size_t n) {
    struct exchange *x = parser->data;
    if (x->header_value.n_bytes) str_clear(&x->header_name), str_clear(&x->header_value);
    if (x->header_name.n_bytes + n > 4096) return -1;
    str_append(&x->header_name, at, n);
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t n) {
    struct exchange *x = parser->data;
    if (x->header_value.n_bytes + n > 65536) return -1;
    str_append(&x->header_value, at, n);
    if (strcasecmp(str_text(&x->header_name), "content-type") == 0 &&
        strncasecmp(str_text(&x->header_value), "text/event-stream", 17) == 0)
        x->answer.is_stream = true;
    return 0;
}

static int on_headers_complete(llhttp_t *parser) {
    struct exchange *x = parser->data;
    x->record.status = parser->status_code;
    if (parser->status_code != 200) x->answer.is_stream = false;
    str_clear(&x->header_name), str_clear(&x->header_value);
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t n) {
    struct exchange *x = parser->data;
    count_events(x, answer_read(&x->answer, at, n));
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    struct exchange *x = parser->data;
    x->complete = true;
    return HPE_PAUSED;
}

// How a complete answer ended.
static void answer_judge(struct exchange *x) {
    struct answer *answer = &x->answer;
    if (x->record.status != 200) {
        exchange_end(x, OUTCOME_STATUS, str_text(&answer->held));
        return;
    }
    count_events(x, answer_end(answer));
    if (answer->problem.n_bytes)
        exchange_end(x, answer->malformed ? OUTCOME_MALFORMED : OUTCOME_ERROR, str_text(&answer->problem));
    else if (answer->is_stream && !answer->ended && answer->n_choices == 0)
        exchange_end(x, OUTCOME_CUT, "neither [DONE] nor a finish_reason");
    else
        exchange_end(x, OUTCOME_OK, "");
}

// The server closed: the end of an answer without a length, of a connection that was kept, or a failure.
static void connection_ended(struct exchange *x, int status) {
    struct client *client = x->client;
    if (!x->is_active) {
        leave_idle(x);
        exchange_close(x);
        return;
    }
    if (!x->was_answered && x->is_used && !x->record.retried) { // it closed while the request was on its way
        struct exchange *fresh = exchange_new(client);
        leave_active(x);
        join_active(fresh);
        fresh->record = x->record;
        fresh->record.retried = true;
        fresh->context = x->context;
        fresh->keep_text = x->keep_text;
        const struct str text = fresh->text;
        fresh->text = x->text, x->text = text;
        exchange_close(x);
        exchange_go(fresh);
        return;
    }
    if (status == UV_EOF) llhttp_finish(&x->parser);
    if (x->complete)
        answer_judge(x);
    else
        exchange_end(x, OUTCOME_RESET, status == UV_EOF ? "closed in mid-answer" : uv_strerror(status));
}

static void on_pause_over(uv_timer_t *timer) {
    read_start(timer->data);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    struct exchange *x = stream->data;
    if (n == 0 || x->closing) return;
    if (n < 0) {
        connection_ended(x, (int)n);
        return;
    }
    if (!x->is_active) { // bytes that nobody asked for
        leave_idle(x);
        exchange_close(x);
        return;
    }
    x->client->now_ns = now(x->client);
    x->was_answered = true;
    enum llhttp_errno rc = llhttp_execute(&x->parser, buffer->base, (size_t)n);
    if (rc != HPE_OK && rc != HPE_PAUSED) {
        exchange_end(x, OUTCOME_MALFORMED, llhttp_get_error_reason(&x->parser));
    } else if (x->complete) {
        answer_judge(x);
    } else if (x->answer.problem.n_bytes) {
        exchange_end(x, x->answer.malformed ? OUTCOME_MALFORMED : OUTCOME_ERROR, str_text(&x->answer.problem));
    } else if (x->record.slow) {
        uv_read_stop(stream);
        x->reads = false;
        uv_timer_start(&x->pause, on_pause_over, SLOW_PAUSE_MS, 0);
    }
}

// All connections read into one buffer: it is empty again before the next is looked at.
static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    const struct exchange *x = handle->data;
    (void)suggested;
    *out = uv_buf_init(x->client->buffer, x->record.slow ? SLOW_BYTES : BUFFER_BYTES);
}

static void read_start(struct exchange *x) {
    if (x->reads || x->closing) return;
    x->reads = true;
    uv_read_start((uv_stream_t *)&x->tcp, on_buffer, on_read);
}

// -------------------------------------------------------------------------------------------------------------- ends

static void exchange_end(struct exchange *x, enum outcome outcome, const char *problem) {
    struct client *client = x->client;
    if (!x->is_active) return;
    leave_active(x);
    x->record.outcome = (uint8_t)outcome;
    x->record.ended_ns = now(client);
    x->record.n_prompt = x->answer.usage.prompt;
    x->record.n_cached = x->answer.usage.cached;
    x->record.n_output = x->answer.usage.output;
    struct str_view words = str_view_of(problem ? problem : "");
    const struct client_result result = {
        x->record, x->gaps.items, {str_text(&x->answer.text), x->answer.text.n_bytes}, words};
    const bool keep = x->complete && llhttp_should_keep_alive(&x->parser) && x->is_connected &&
                      (outcome == OUTCOME_OK || outcome == OUTCOME_STATUS);
    if (keep) {
        uv_timer_stop(&x->pause);
        x->record.slow = false;
        x->is_used = true;
        read_start(x);
        x->next = client->idle;
        client->idle = x;
    } else {
        exchange_close(x); // frees it later, in the loop
    }
    client->options.on_end(client->options.owner, x->context, &result);
}

static void on_timeouts(uv_timer_t *timer) {
    struct client *client = timer->data;
    const uint64_t at = now(client);
    while (client->first && at - client->first->record.started_ns >= client->options.timeout_ns)
        exchange_end(client->first, OUTCOME_TIMEOUT,
                     client->first->was_answered ? "the answer does not end" : "no answer");
}

size_t client_n_in_flight(const struct client *client) {
    return client->n_in_flight;
}

void client_stop(struct client *client) {
    while (client->first) exchange_end(client->first, OUTCOME_STOPPED, "");
}

// -------------------------------------------------------------------------------------------------------------- open

static int look_up(struct client *client, struct err *err) {
    const struct url *url = &client->options.url;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int rc = getaddrinfo(url->host, url->port, &hints, &found);
    if (rc) return err_set(err, ERR_IO, "%s: %s", url->host, gai_strerror(rc));
    memcpy(&client->address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

// One file a connection.
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int client_open(struct client **out, uv_loop_t *loop, const struct client_options *options, struct err *err) {
    struct client *client = mem_alloc_zero(1, sizeof *client);
    client->options = *options;
    client->loop = loop;
    int rc = look_up(client, err);
    if (rc) {
        free(client);
        return rc;
    }
    raise_file_limit();
    llhttp_settings_init(&client->settings);
    client->settings.on_header_field = on_header_field;
    client->settings.on_header_value = on_header_value;
    client->settings.on_headers_complete = on_headers_complete;
    client->settings.on_body = on_body;
    client->settings.on_message_complete = on_message_complete;
    client->buffer = mem_alloc(BUFFER_BYTES);
    uv_timer_init(loop, &client->timeouts);
    client->timeouts.data = client;
    uv_timer_start(&client->timeouts, on_timeouts, TIMEOUT_EVERY_MS, TIMEOUT_EVERY_MS);
    *out = client;
    return 0;
}

static void on_timeouts_closed(uv_handle_t *handle) {
    ((struct client *)handle->data)->timeouts_closed = true;
}

void client_close(struct client *client) {
    assert(client->n_in_flight == 0);
    for (struct exchange *x = client->idle, *next; x; x = next) {
        next = x->next;
        exchange_close(x);
    }
    uv_close((uv_handle_t *)&client->timeouts, on_timeouts_closed);
    while (client->n_open || !client->timeouts_closed) uv_run(client->loop, UV_RUN_ONCE);
    free(client->buffer);
    free(client);
}
