#include "tests/bench/stub_server.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    struct str in, out; // out: what the socket did not take yet
    size_t out_sent;
    int n_sent; // events of the answer in progress; -1: none
    bool stream;
    int64_t n_words;
};

struct timed {
    uint64_t at_ns;
    struct connection *connection;
};

struct stub {
    struct stub_options options;
    int listener, poll, clock, wake[2], port;
    pthread_t thread;
    uint64_t started_ns;
    VEC_OF(struct timed) timed; // a heap
    VEC_OF(struct connection *) all;
    struct str whole; // the answer of a stub that needs no time, as one piece
};

static const char HEAD_STREAM[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

// ------------------------------------------------------------------------------------------------------------- writing

static void send_out(struct stub *stub, struct connection *c) {
    while (c->out_sent < c->out.n_bytes) {
        ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.n_bytes - c->out_sent, MSG_NOSIGNAL);
        if (n <= 0) break;
        c->out_sent += (size_t)n;
    }
    const bool all = c->out_sent == c->out.n_bytes;
    if (all) str_clear(&c->out), c->out_sent = 0;
    struct epoll_event event = {.events = EPOLLIN | (all ? 0u : (unsigned)EPOLLOUT), .data.ptr = c};
    epoll_ctl(stub->poll, EPOLL_CTL_MOD, c->fd, &event);
}

// Straight to the socket while nothing waits.
static void put(struct stub *stub, struct connection *c, const char *bytes, size_t n_bytes) {
    ssize_t n = 0;
    if (c->out.n_bytes == 0) n = send(c->fd, bytes, n_bytes, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return; // the reader has gone: its end is read soon
    if (n < 0) n = 0;
    if ((size_t)n == n_bytes) return;
    str_append(&c->out, bytes + n, n_bytes - (size_t)n);
    send_out(stub, c);
}

static void append_chunk(struct str *to, const char *text, size_t n_bytes) {
    str_printf(to, "%zx\r\n", n_bytes);
    str_append(to, text, n_bytes);
    str_append_text(to, "\r\n");
}

static void append_usage(const struct stub *stub, struct str *to, int64_t n_words) {
    const struct stub_options *o = &stub->options;
    if (o->words_per_token_percent)
        str_printf(to, "\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%d,\"total_tokens\":0}",
                   (long long)(n_words * 100 / o->words_per_token_percent + 7), o->n_events * o->tokens_per_event);
    else
        str_append_text(to, "\"usage\":null");
}

static void append_event(const struct stub *stub, struct str *to, int i, int64_t n_words) {
    struct str event = STR_INIT;
    str_append_text(&event, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":");
    if (i < stub->options.n_events)
        str_printf(&event, "[{\"index\":0,\"delta\":{\"content\":\"w%d \"},\"finish_reason\":%s}]}\n\n", i,
                   i + 1 == stub->options.n_events ? "\"stop\"" : "null");
    else {
        str_append_text(&event, "[],");
        append_usage(stub, &event, n_words);
        str_append_text(&event, "}\n\ndata: [DONE]\n\n");
    }
    append_chunk(to, event.data, event.n_bytes);
    str_close(&event);
}

static void due_at(struct stub *stub, struct connection *c, uint64_t at_ns) {
    vec_push(&stub->timed, ((struct timed){at_ns, c}));
    struct timed *items = stub->timed.items, moved = items[stub->timed.count - 1];
    size_t i = stub->timed.count - 1;
    for (size_t up; i && items[up = (i - 1) / 2].at_ns > at_ns; i = up) items[i] = items[up];
    items[i] = moved;
}

static struct timed due_pop(struct stub *stub) {
    struct timed *items = stub->timed.items, first = items[0], moved = items[--stub->timed.count];
    const size_t n = stub->timed.count;
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && items[child + 1].at_ns < items[child].at_ns) child++;
        if (items[child].at_ns >= moved.at_ns) break;
        items[i] = items[child];
    }
    if (n) items[i] = moved;
    return first;
}

// ----------------------------------------------------------------------------------------------------------- answering

static void connection_shut(struct connection *c) {
    shutdown(c->fd, SHUT_RDWR);
}

static void put_text(struct stub *stub, struct connection *c, const char *text) {
    put(stub, c, text, strlen(text));
}

static void put_document(struct stub *stub, struct connection *c, int status, const char *text) {
    struct str out = STR_INIT;
    str_printf(&out, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status,
               strlen(text), text);
    put(stub, c, out.data, out.n_bytes);
    str_close(&out);
}

// The next event of a stream, with the fault that is due.
static void answer_next(struct stub *stub, struct connection *c, uint64_t due_ns) {
    const struct stub_options *o = &stub->options;
    struct str out = STR_INIT;
    const bool middle = c->n_sent == o->n_events / 2;
    if (o->fault == STUB_RESETS_LATER && middle) {
        connection_shut(c);
        return;
    }
    if (o->fault == STUB_BAD_SSE && middle) append_chunk(&out, "data: {\"choices\":[\n\n", 20);
    if (o->fault == STUB_ERROR_EVENT && middle)
        append_chunk(&out, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", 46);
    const bool last = c->n_sent == o->n_events;
    if (last && o->fault == STUB_NEVER_ENDS) return;
    if (!last && (o->fault != STUB_NO_END || c->n_sent + 1 < o->n_events))
        append_event(stub, &out, c->n_sent, c->n_words);
    if (last && o->fault != STUB_NO_END) append_event(stub, &out, c->n_sent, c->n_words);
    if (last) str_append_text(&out, "0\r\n\r\n");
    put(stub, c, str_text(&out), out.n_bytes);
    str_close(&out);
    c->n_sent++;
    if (!last) due_at(stub, c, due_ns + (c->n_sent == o->n_events ? 0 : o->gap_ns));
    if (last && o->fault == STUB_CLOSES_IDLE) connection_shut(c);
}

static void answer_whole(struct stub *stub, struct connection *c) {
    struct str text = STR_INIT;
    str_append_text(&text, "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hello\"},"
                           "\"finish_reason\":\"stop\"}],");
    append_usage(stub, &text, c->n_words);
    str_append_char(&text, '}');
    put_document(stub, c, 200, text.data);
    str_close(&text);
}

static void answer(struct stub *stub, struct connection *c) {
    const struct stub_options *o = &stub->options;
    if (o->fault == STUB_RESETS) connection_shut(c);
    if (o->fault == STUB_BAD_HTTP) put_text(stub, c, "220 mail.example.com ESMTP\r\n\r\n");
    if (o->fault == STUB_ERROR_IN_200) put_document(stub, c, 200, "{\"error\":{\"message\":\"overloaded\"}}");
    if (o->fault == STUB_REFUSES) put_document(stub, c, 429, "{\"error\":{\"message\":\"slow down\"}}");
    if (o->fault == STUB_RESETS || o->fault == STUB_BAD_HTTP || o->fault == STUB_ERROR_IN_200 ||
        o->fault == STUB_REFUSES || o->fault == STUB_SILENT)
        return;
    if (!c->stream) {
        answer_whole(stub, c);
    } else if (stub->whole.n_bytes) {
        put(stub, c, stub->whole.data, stub->whole.n_bytes);
    } else {
        put(stub, c, HEAD_STREAM, sizeof HEAD_STREAM - 1);
        c->n_sent = 0;
        due_at(stub, c, clock_now_ns() + o->first_ns);
    }
}

// ------------------------------------------------------------------------------------------------------------- reading

static int64_t count_words(const char *text) {
    const char *content = strstr(text, "\"content\":\"");
    if (!content) content = strstr(text, "\"prompt\":\"");
    int64_t n = 1;
    for (content = content ? strchr(content, ':') + 2 : "\""; *content != '"' && *content; content++)
        n += *content == ' ';
    return n;
}

static void take_requests(struct stub *stub, struct connection *c) {
    for (;;) {
        char *end = c->in.n_bytes ? strstr(c->in.data, "\r\n\r\n") : NULL;
        if (!end) return;
        const char *length = strcasestr(c->in.data, "content-length:");
        const size_t body = length && length < end ? (size_t)strtoul(length + 15, NULL, 10) : 0;
        const size_t head = (size_t)(end + 4 - c->in.data);
        if (c->in.n_bytes < head + body) return;
        if (strncmp(c->in.data, "GET /v1/models", 14) == 0) {
            put_document(stub, c, 200, "{\"object\":\"list\",\"data\":[{\"id\":\"stub\"}]}");
        } else {
            c->stream = strstr(end, "\"stream\":true") != NULL;
            c->n_words = count_words(end);
            answer(stub, c);
        }
        str_drop_front(&c->in, head + body);
    }
}

static void connection_close(struct stub *stub, struct connection *c) {
    size_t kept = 0; // its events are not sent any more; a heap of few
    for (size_t i = 0; i < stub->timed.count; i++)
        if (stub->timed.items[i].connection != c) stub->timed.items[kept++] = stub->timed.items[i];
    const bool changed = kept != stub->timed.count;
    stub->timed.count = 0;
    for (size_t i = 0; changed && i < kept; i++)
        due_at(stub, stub->timed.items[i].connection, stub->timed.items[i].at_ns);
    stub->timed.count = kept;
    for (size_t i = 0; i < stub->all.count; i++)
        if (stub->all.items[i] == c) stub->all.items[i] = stub->all.items[--stub->all.count];
    close(c->fd);
    str_close(&c->in), str_close(&c->out);
    free(c);
}

static void on_readable(struct stub *stub, struct connection *c) {
    char buffer[65536];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        connection_close(stub, c);
        return;
    }
    str_append(&c->in, buffer, (size_t)n);
    take_requests(stub, c);
}

static void on_connect(struct stub *stub) {
    int fd = accept4(stub->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = mem_alloc_zero(1, sizeof *c);
    c->fd = fd;
    vec_push(&stub->all, c);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(stub->poll, EPOLL_CTL_ADD, fd, &event);
}

// --------------------------------------------------------------------------------------------------------------- loop

static void stall(const struct stub *stub) {
    const struct stub_options *o = &stub->options;
    if (!o->stall_every_ns) return;
    const uint64_t in = (clock_now_ns() - stub->started_ns) % o->stall_every_ns;
    if (in >= o->stall_ns) return;
    const uint64_t left = o->stall_ns - in;
    nanosleep(&(struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)}, NULL);
}

static void set_clock(struct stub *stub) {
    struct itimerspec when = {0};
    if (stub->timed.count) {
        const uint64_t at = stub->timed.items[0].at_ns;
        when.it_value = (struct timespec){(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
    }
    timerfd_settime(stub->clock, TFD_TIMER_ABSTIME, &when, NULL);
}

static void *run(void *argument) {
    struct stub *stub = argument;
    struct epoll_event events[256];
    for (;;) {
        int n = epoll_wait(stub->poll, events, 256, -1);
        stall(stub);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].data.ptr == &stub->wake) return NULL;
            if (events[i].data.ptr == &stub->listener)
                on_connect(stub);
            else if (events[i].data.ptr == &stub->clock)
                continue;
            else if (events[i].events & EPOLLOUT)
                send_out(stub, c);
            else
                on_readable(stub, c);
        }
        for (uint64_t at; stub->timed.count && stub->timed.items[0].at_ns <= (at = clock_now_ns());) {
            struct timed due = due_pop(stub);
            answer_next(stub, due.connection, due.at_ns);
        }
        set_clock(stub);
    }
}

static void watch(struct stub *stub, int fd, void *what) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    epoll_ctl(stub->poll, EPOLL_CTL_ADD, fd, &event);
}

struct stub *stub_open(const struct stub_options *options) {
    struct stub *stub = mem_alloc_zero(1, sizeof *stub);
    stub->options = *options;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    stub->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(stub->listener, (struct sockaddr *)&address, n) || listen(stub->listener, 16384) ||
        getsockname(stub->listener, (struct sockaddr *)&address, &n) || pipe(stub->wake))
        abort();
    stub->port = ntohs(address.sin_port);
    stub->poll = epoll_create1(EPOLL_CLOEXEC);
    stub->clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(stub, stub->listener, &stub->listener);
    watch(stub, stub->clock, &stub->clock);
    watch(stub, stub->wake[0], &stub->wake);
    if (options->fault == STUB_FINE && !options->first_ns && !options->gap_ns) {
        str_append_text(&stub->whole, HEAD_STREAM);
        for (int i = 0; i <= options->n_events; i++) append_event(stub, &stub->whole, i, 0);
        str_append_text(&stub->whole, "0\r\n\r\n");
    }
    stub->started_ns = clock_now_ns();
    if (pthread_create(&stub->thread, NULL, run, stub)) abort();
    return stub;
}

int stub_port(const struct stub *stub) {
    return stub->port;
}
uint64_t stub_started_ns(const struct stub *stub) {
    return stub->started_ns;
}

void stub_close(struct stub *stub) {
    if (write(stub->wake[1], "x", 1) != 1) abort();
    pthread_join(stub->thread, NULL);
    while (stub->all.count) connection_close(stub, stub->all.items[0]);
    close(stub->listener), close(stub->poll), close(stub->clock), close(stub->wake[0]), close(stub->wake[1]);
    vec_free(&stub->all);
    vec_free(&stub->timed);
    str_close(&stub->whole);
    free(stub);
}
