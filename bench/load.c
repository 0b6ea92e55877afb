#include "bench/load.h"
#include "base/clock.h"
#include "base/rng.h"
#include "bench/client.h"
#include "bench/latency.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { STARTS_A_TURN = 64, PROGRESS_MS = 500, REFUSED_PAUSE_NS = 100000000, USER_APART_NS = 100000 };
static const double NS = 1e9;

struct due {
    uint64_t at_ns;
    struct session *session;
};

struct load {
    const struct load_options *options;
    struct run_record *run;
    uv_loop_t loop;
    struct client *client;
    uv_poll_t clock;
    uv_timer_t progress;
    uv_signal_t signals[2];
    int clock_fd;
    uint64_t start_ns;      // of clock_now_ns
    uint64_t next_ns;       // when the next session of an open loop is due; UINT64_MAX: none
    uint64_t n_sessions;    // begun
    int64_t n_started;      // requests
    VEC_OF(struct due) due; // a heap, the earliest first
    struct arrival arrival;
    struct load_progress counts;
    double ttft_sum;
    uint64_t n_ttft; // since the last progress
    struct str body;
    bool stopping;
};

static uint64_t now(const struct load *load) {
    return clock_now_ns() - load->start_ns;
}

// --------------------------------------------------------------------------------------------------- what is due next

static void due_push(struct load *load, struct due due) {
    vec_push(&load->due, due);
    struct due *items = load->due.items;
    for (size_t i = load->due.count - 1, up; i && items[up = (i - 1) / 2].at_ns > due.at_ns; i = up) {
        items[i] = items[up];
        items[up] = due;
    }
}

static struct due due_pop(struct load *load) {
    struct due *items = load->due.items, first = items[0];
    const size_t n = --load->due.count;
    const struct due moved = items[n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && items[child + 1].at_ns < items[child].at_ns) child++;
        if (items[child].at_ns >= moved.at_ns) break;
        items[i] = items[child];
    }
    if (n) items[i] = moved;
    return first;
}

static bool may_start(const struct load *load, uint64_t at_ns) {
    const struct load_options *options = load->options;
    if (load->stopping || (options->n_requests && load->n_started >= options->n_requests)) return false;
    return options->duration_s <= 0 || (double)at_ns < options->duration_s * NS;
}

static void plan_next(struct load *load) {
    const struct load_options *options = load->options;
    const struct trace *trace = options->workload->options.trace;
    load->next_ns = UINT64_MAX;
    if (options->n_users) return;
    double at_s;
    if (options->arrival)
        at_s = arrival_next(&load->arrival);
    else if (load->n_sessions < trace->items.count)
        at_s = trace->items.items[load->n_sessions].at_s / options->time_scale;
    else
        return;
    const uint64_t at_ns = (uint64_t)(at_s * NS);
    if (may_start(load, at_ns)) load->next_ns = at_ns;
}

static void set_clock(struct load *load) {
    uint64_t at = load->next_ns;
    if (load->due.count && load->due.items[0].at_ns < at) at = load->due.items[0].at_ns;
    struct itimerspec when = {0}; // zero: disarmed
    if (at != UINT64_MAX) {
        const uint64_t absolute = load->start_ns + at;
        when.it_value.tv_sec = (time_t)(absolute / 1000000000u);
        when.it_value.tv_nsec = (long)(absolute % 1000000000u) + 1;
        if (when.it_value.tv_nsec >= 1000000000) when.it_value.tv_sec++, when.it_value.tv_nsec = 0;
    }
    timerfd_settime(load->clock_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void stop_if_done(struct load *load) {
    if (load->next_ns == UINT64_MAX && load->due.count == 0 && client_n_in_flight(load->client) == 0)
        uv_stop(&load->loop);
}

// ---------------------------------------------------------------------------------------------------------- sessions

static struct session *session_new(struct load *load, int32_t user) {
    struct session *session = mem_alloc_zero(1, sizeof *session);
    session->number = load->options->first_session + load->n_sessions++;
    session->user = user;
    return session;
}

static void session_close(struct session *session) {
    str_close(&session->said);
    free(session);
}

static void start(struct load *load, struct session *session, uint64_t scheduled_ns) {
    const struct load_options *options = load->options;
    const struct workload *workload = options->workload;
    int64_t n_output;
    str_clear(&load->body);
    workload_body(workload, session, &load->body, &n_output);
    const uint64_t slow_key = rng_key(workload->options.seed, 0x736c6f77, session->number);
    const struct client_request request = {.path = str_view_of(workload_path(workload)),
                                           .body = {load->body.data, load->body.n_bytes},
                                           .stream = workload->options.stream,
                                           .slow = options->slow_share > 0 &&
                                                   (double)rng_u32(slow_key, 0) * 0x1p-32 < options->slow_share,
                                           .keep_text = session->turn + 1 < workload_n_turns(workload, session),
                                           .scheduled_ns = scheduled_ns,
                                           .session = session->number,
                                           .user = session->user,
                                           .turn = session->turn,
                                           .context = session};
    load->n_started++;
    load->counts.n_started++;
    load->run->offered_ns = scheduled_ns > load->run->offered_ns ? scheduled_ns : load->run->offered_ns;
    client_send(load->client, &request);
}

// What is due, but not all at once: answers are read in between.
static void start_due(struct load *load) {
    for (int i = 0; i < STARTS_A_TURN; i++) {
        const uint64_t at = now(load), waiting = load->due.count ? load->due.items[0].at_ns : UINT64_MAX;
        if (waiting <= at && waiting <= load->next_ns) {
            struct due due = due_pop(load);
            if (may_start(load, due.at_ns))
                start(load, due.session, due.at_ns);
            else
                session_close(due.session);
        } else if (load->next_ns <= at) {
            const uint64_t scheduled = load->next_ns;
            struct session *session = session_new(load, 0);
            load->next_ns = UINT64_MAX; // until the request is out, nothing else is next
            start(load, session, scheduled);
            plan_next(load);
        } else {
            break;
        }
    }
    set_clock(load);
    stop_if_done(load);
}

static void on_clock(uv_poll_t *clock, int status, int events) {
    struct load *load = clock->data;
    uint64_t n;
    (void)status, (void)events;
    if (read(load->clock_fd, &n, sizeof n) < 0 && errno != EAGAIN) return;
    start_due(load);
}

// The session's next turn, the user's next session, or nothing.
static void go_on(struct load *load, struct session *session, const struct client_result *result) {
    const struct load_options *options = load->options;
    uint64_t due_ns = result->record.ended_ns + (uint64_t)(options->think_s * NS);
    if (result->record.outcome == OUTCOME_CONNECT) due_ns += REFUSED_PAUSE_NS; // nobody knocks without a pause
    const bool more =
        result->record.outcome == OUTCOME_OK && session->turn + 1 < workload_n_turns(options->workload, session);
    if (more) workload_answered(session, result->text);
    const int32_t user = session->user;
    if (more) {
        session->turn++;
    } else {
        session_close(session);
        session = NULL;
    }
    if (!may_start(load, due_ns) || (!more && !options->n_users)) {
        if (session) session_close(session);
        return;
    }
    due_push(load, (struct due){due_ns, session ? session : session_new(load, user)});
}

static void on_end(void *owner, void *context, const struct client_result *result) {
    struct load *load = owner;
    struct run_record *run = load->run;
    struct request_record record = result->record;
    record.gap_first = (uint32_t)run->gaps.count;
    for (uint32_t i = 0; i + 1 < record.n_events; i++) vec_push(&run->gaps, result->gaps[i]);
    vec_push(&run->requests, record);
    const size_t n_told = result->problem.n_bytes < EXAMPLE_BYTES ? result->problem.n_bytes : EXAMPLE_BYTES - 1;
    if (!run->examples[record.outcome][0]) memcpy(run->examples[record.outcome], result->problem.data, n_told);
    load->counts.n_ended++;
    load->counts.n_failed += record.outcome != OUTCOME_OK;
    load->counts.n_tokens += record.n_output > 0 ? (uint64_t)record.n_output : 0;
    load->counts.n_events += record.n_events;
    double ttft;
    if (request_counts(&record) && request_latency(&record, LATENCY_TTFT, &ttft))
        load->ttft_sum += ttft, load->n_ttft++;
    go_on(load, context, result);
    // Not from here: a user whose requests end at once would never come back to the loop.
    set_clock(load);
    stop_if_done(load);
}

// --------------------------------------------------------------------------------------------------------------- run

static void on_progress(uv_timer_t *timer) {
    struct load *load = timer->data;
    load->counts.at_s = (double)now(load) / NS;
    load->counts.n_in_flight = client_n_in_flight(load->client);
    load->counts.ttft_s = load->n_ttft ? load->ttft_sum / (double)load->n_ttft : NAN;
    load->ttft_sum = 0, load->n_ttft = 0;
    load->options->on_progress(load->options->context, &load->counts);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct load *load = handle->data;
    (void)number;
    load->stopping = load->run->interrupted = true;
    load->next_ns = UINT64_MAX;
    while (load->due.count) session_close(due_pop(load).session);
    client_stop(load->client);
    stop_if_done(load);
}

static void begin(struct load *load) {
    uv_poll_init(&load->loop, &load->clock, load->clock_fd);
    uv_timer_init(&load->loop, &load->progress);
    load->clock.data = load->progress.data = load;
    uv_poll_start(&load->clock, UV_READABLE, on_clock);
    if (load->options->on_progress) uv_timer_start(&load->progress, on_progress, PROGRESS_MS, PROGRESS_MS);
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&load->loop, &load->signals[i]);
        load->signals[i].data = load;
        if (load->options->stops_on_signal) uv_signal_start(&load->signals[i], on_signal, i ? SIGTERM : SIGINT);
    }
    for (int64_t i = 0; i < load->options->n_users; i++)
        due_push(load, (struct due){(uint64_t)i * USER_APART_NS, session_new(load, (int32_t)i)});
    plan_next(load);
    set_clock(load);
    stop_if_done(load);
}

static void end(struct load *load) {
    client_close(load->client);
    uv_close((uv_handle_t *)&load->clock, NULL);
    uv_close((uv_handle_t *)&load->progress, NULL);
    for (int i = 0; i < 2; i++) uv_close((uv_handle_t *)&load->signals[i], NULL);
    uv_run(&load->loop, UV_RUN_DEFAULT);
    vec_free(&load->due);
    str_close(&load->body);
}

static uint64_t processor_ns(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000u;
}

int load_run(struct run_record *out, const struct load_options *options, struct err *err) {
    *out = (struct run_record){.began_wall_s = clock_wall_s()};
    struct load load = {.options = options, .run = out, .next_ns = UINT64_MAX};
    if (options->arrival) load.arrival = *options->arrival;
    load.clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (load.clock_fd < 0) return err_set(err, ERR_IO, "no timer: %s", strerror(errno));
    uv_loop_init(&load.loop);
    load.start_ns = clock_now_ns();
    const struct client_options client = {.url = options->url,
                                          .api_key = options->api_key,
                                          .timeout_ns = (uint64_t)(options->timeout_s * NS),
                                          .clock_start = load.start_ns,
                                          .on_end = on_end,
                                          .owner = &load};
    int rc = client_open(&load.client, &load.loop, &client, err);
    if (!rc) {
        const uint64_t used = processor_ns();
        begin(&load);
        uv_run(&load.loop, UV_RUN_DEFAULT);
        out->duration_ns = now(&load);
        out->client_cpu_ns = processor_ns() - used;
        end(&load);
    }
    uv_loop_close(&load.loop);
    close(load.clock_fd);
    return rc;
}
