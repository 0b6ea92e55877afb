#include "server/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/server_state.h"

#include <assert.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const double failure_drain_s = 5; // how long answers may take when the device has failed

// ---------------------------------------------------------------------------------------------------- replies

void server_reply_error(struct http_exchange *exchange, const struct api_error *error) {
    struct str body = STR_INIT;
    api_error_body(error, &body);
    if (error->status == 500) http_exchange_header(exchange, "x-should-retry", "false");
    if (error->status == 503) http_exchange_header(exchange, "Retry-After", "1");
    http_exchange_reply(exchange, error->status, "application/json", str_text(&body), body.n_bytes);
    str_close(&body);
}

void server_reply_text(struct http_exchange *exchange, int status, const char *content_type, struct str *body) {
    http_exchange_reply(exchange, status, content_type, str_text(body), body->n_bytes);
    str_close(body);
}

void server_reply_busy(struct server *server, struct http_exchange *exchange) {
    struct api_error error = {0};
    char text[24];
    int seconds = step_loop_retry_after_s(server->engine.step_loop);
    snprintf(text, sizeof text, "%d", seconds);
    http_exchange_header(exchange, "Retry-After", text);
    snprintf(text, sizeof text, "%d", seconds * 1000);
    http_exchange_header(exchange, "retry-after-ms", text);
    api_error_set(&error, 429, "rate_limit_exceeded", NULL, "The queue is full. Please try again in %d s.", seconds);
    server_reply_error(exchange, &error);
}

bool server_check_ready(struct server *server, struct http_exchange *exchange) {
    struct api_error error = {0};
    if (server->phase == SERVER_READY) return true;
    if (server->phase == SERVER_LOADING)
        api_error_set(&error, 503, "model_loading", NULL, "Loading model");
    else if (server->failure.code)
        api_error_set(&error, 503, "device_failed", NULL, "The device has failed; the server is shutting down.");
    else
        api_error_set(&error, 503, "shutting_down", NULL, "The server is shutting down.");
    server_reply_error(exchange, &error);
    return false;
}

// ---------------------------------------------------------------------------------------------------- generations

uint64_t server_add_generation(struct server *server, struct completion *completion, int32_t i_prompt) {
    uint32_t slot;
    if (server->free_slots.count) {
        slot = server->free_slots.items[--server->free_slots.count];
    } else {
        slot = (uint32_t)server->slots.count;
        assert(slot < 1u << SLOT_BITS); // connections times what one request may submit is far below
        vec_push(&server->slots, (struct generation_slot){0});
    }
    uint64_t id = ++server->serial << SLOT_BITS | slot;
    server->slots.items[slot] = (struct generation_slot){id, completion, i_prompt};
    return id;
}

static struct generation_slot *find_generation(struct server *server, uint64_t id) {
    uint64_t slot = id & ((1u << SLOT_BITS) - 1);
    assert(slot < server->slots.count);
    return server->slots.items[slot].id == id ? &server->slots.items[slot] : NULL;
}

void server_remove_generation(struct server *server, uint64_t id) {
    struct generation_slot *slot = find_generation(server, id);
    assert(slot);
    *slot = (struct generation_slot){0};
    vec_push(&server->free_slots, (uint32_t)(slot - server->slots.items));
}

// One round: all events first, then one write for whoever got something, then prompts that waited for room.
static void take_events(struct server *server) {
    const struct generation_event *events;
    size_t n = step_loop_take_events(server->engine.step_loop, &events);
    for (size_t i = 0; i < n; i++) {
        const struct generation_slot *slot = find_generation(server, events[i].id);
        if (!slot) continue;
        struct completion *completion = slot->completion;
        completion_take(completion, slot->i_prompt, &events[i]);
        if (!completion->is_touched) vec_push(&server->touched, completion);
        completion->is_touched = true;
    }
    for (size_t i = 0; i < server->touched.count; i++) {
        struct completion *completion = server->touched.items[i];
        completion->is_touched = false;
        completion_flush(completion);
    }
    server->touched.count = 0;
    for (struct completion *c = server->oldest, *next; n && server->n_deferred && c; c = next) {
        next = c->next;
        if (c->choices && c->n_submitted < c->n_prompts) completion_submit(c);
    }
}

// ---------------------------------------------------------------------------------------------------- phases

static void end(struct server *server) {
    if (server->is_stopping) return;
    server->is_stopping = true;
    if (server->http) http_server_close(server->http);
    server->http = NULL;
    uv_close((uv_handle_t *)&server->sigint, NULL);
    uv_close((uv_handle_t *)&server->sigterm, NULL);
    uv_close((uv_handle_t *)&server->drain_timer, NULL);
    // Other threads may still wake a server that has ended; it just no longer keeps the loop running.
    uv_unref((uv_handle_t *)&server->wake);
}

// The deadline of the drain, or the second signal: what lives ends with an error.
static void cut_off(struct server *server) {
    struct api_error error = {0};
    api_error_set(&error, 503, "shutting_down", NULL, "The server is shutting down.");
    for (struct completion *c = server->oldest, *next; c; c = next) {
        next = c->next;
        if (c->exchange) completion_fail(c, &error);
    }
    end(server);
}

static void on_drain_deadline(uv_timer_t *timer) {
    cut_off(timer->data);
}

static void begin_drain(struct server *server) {
    if (server->phase == SERVER_DRAINING) return;
    int n_exchanges = http_server_n_exchanges(server->http);
    if (n_exchanges) log_info("draining: %d requests are being answered", n_exchanges);
    server->phase = SERVER_DRAINING;
    bool has_failed = server->failure.code != 0;
    double drain_s = server->options.drain_s;
    if (has_failed && drain_s > failure_drain_s) drain_s = failure_drain_s;
    http_server_drain(server->http, has_failed);
    uv_timer_start(&server->drain_timer, on_drain_deadline, (uint64_t)(drain_s * 1000), 0);
}

// When a step has failed, every answer is an error that is on its way. Until they are out the server still listens, so
// that whoever asks for its health hears of it.
static void take_failure(struct server *server) {
    if (server->failure.code || !step_loop_has_failed(server->engine.step_loop, &server->failure)) return;
    begin_drain(server);
}

static void end_if_drained(struct server *server) {
    if (server->phase != SERVER_DRAINING || server->is_stopping) return;
    if (!http_server_n_exchanges(server->http) && !http_server_n_connections(server->http)) end(server);
}

static void on_signal(uv_signal_t *signal, int number) {
    (void)number;
    struct server *server = signal->data;
    if (server->is_stopping) return;
    if (server->phase == SERVER_DRAINING)
        cut_off(server);
    else
        begin_drain(server);
}

static void begin_serving(struct server *server, const struct server_engine *engine) {
    const struct model *model = engine->model;
    server->engine = *engine;
    int32_t n_ids = tokenizer_vocab(model->tokenizer);
    server->vocab = n_ids < model->spec.vocab ? n_ids : model->spec.vocab;
    if (!server->model_name) server->model_name = model->name;
    if (server->phase == SERVER_LOADING) server->phase = SERVER_READY;
}

static void on_wake(uv_async_t *async) {
    struct server *server = async->data;
    if (server->is_stopping) return;
    uv_mutex_lock(&server->lock);
    bool is_attached = server->is_attached, stop_asked = server->stop_asked;
    struct server_engine engine = server->attached;
    uv_mutex_unlock(&server->lock);
    if (is_attached && !server->engine.model) begin_serving(server, &engine);
    if (server->engine.step_loop) {
        take_events(server);
        take_failure(server);
    }
    if (stop_asked) begin_drain(server);
}

// ---------------------------------------------------------------------------------------------------- open and run

static void chat_completions(struct http_exchange *exchange, void *context) {
    completion_start(context, exchange, ENDPOINT_CHAT);
}

static void completions(struct http_exchange *exchange, void *context) {
    completion_start(context, exchange, ENDPOINT_COMPLETIONS);
}

static const struct http_route routes[] = {
    {"POST", "/v1/chat/completions", chat_completions, HTTP_NEEDS_KEY},
    {"POST", "/chat/completions", chat_completions, HTTP_NEEDS_KEY},
    {"POST", "/v1/completions", completions, HTTP_NEEDS_KEY},
    {"POST", "/completions", completions, HTTP_NEEDS_KEY},
    {"GET", "/v1/models", models_list, HTTP_NEEDS_KEY},
    {"GET", "/models", models_list, HTTP_NEEDS_KEY},
    {"GET", "/v1/models/*", models_get, HTTP_NEEDS_KEY},
    {"GET", "/models/*", models_get, HTTP_NEEDS_KEY},
    {"GET", "/health", status_health, HTTP_OPEN},
    {"GET", "/v1/health", status_health, HTTP_OPEN},
    {"GET", "/metrics", status_metrics, HTTP_NEEDS_KEY},
    {"GET", "/version", status_version, HTTP_NEEDS_KEY},
    {"GET", "/advisor", advisor_get, HTTP_NEEDS_KEY},
    {"GET", "/advisor/ledger", advisor_ledger, HTTP_NEEDS_KEY},
    {"GET", "/advisor/memory", advisor_memory, HTTP_NEEDS_KEY},
    {"GET", "/advisor/roofline", advisor_roofline, HTTP_NEEDS_KEY},
    {"GET", "/advisor/history", advisor_history_get, HTTP_NEEDS_KEY},
    {"GET", "/advisor/experiments", advisor_experiments_list, HTTP_NEEDS_KEY},
    {"POST", "/advisor/experiments", advisor_experiments_begin, HTTP_NEEDS_ADMIN},
    {"POST", "/advisor/rollback/*", advisor_rollback, HTTP_NEEDS_ADMIN},
    {"GET", "/", dashboard_page, HTTP_OPEN},
};

static void on_http_finished(void *context, const char *method, const char *path, int status) {
    struct server *server = context;
    metrics_count_http(&server->metrics, path, method, status);
}

static int open_handles(struct server *server, struct err *err) {
    int rc = uv_loop_init(&server->loop);
    if (rc) return err_set(err, ERR_IO, "the event loop cannot be opened: %s", uv_strerror(rc));
    rc = uv_mutex_init(&server->lock);
    if (!rc) rc = uv_async_init(&server->loop, &server->wake, on_wake);
    if (!rc) rc = uv_timer_init(&server->loop, &server->drain_timer);
    if (!rc) rc = uv_signal_init(&server->loop, &server->sigint);
    if (!rc) rc = uv_signal_init(&server->loop, &server->sigterm);
    assert(!rc); // these only set fields and, once, open a pipe
    server->wake.data = server->drain_timer.data = server->sigint.data = server->sigterm.data = server;
    return 0;
}

// Blocks of large requests go back to the system when they are freed. By itself glibc keeps what is below 32 MiB.
static void return_large_blocks(void) {
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

static void fill_memory(struct server *server) {
    const struct http_options *http = http_server_options(server->http);
    size_t n_connections = (size_t)http->connections_max;
    memory_ledger_add(&server->memory, "bodies", http->limits.bodies_bytes_max, 0, "of requests, up to %zu MiB each",
                      http->body_bytes_max >> 20);
    memory_ledger_add(&server->memory, "connections", n_connections * http_server_connection_bytes_max(server->http), 0,
                      "%zu, each with what its client has not read", n_connections);
}

int server_open(struct server **out, const struct server_options *options, struct err *err) {
    struct server *server = mem_alloc_zero(1, sizeof *server);
    return_large_blocks();
    server->options = *options;
    if (!server->options.n_choices_max) server->options.n_choices_max = 8;
    if (server->options.drain_s <= 0) server->options.drain_s = 30;
    server->model_name = options->model_name;
    server->created_s = clock_wall_s();
    if (getrandom(&server->seed, sizeof server->seed, 0) < 0) server->seed = clock_now_ns();
    metrics_open(&server->metrics);
    int rc = open_handles(server, err);
    if (rc) {
        free(server);
        return rc;
    }
    struct http_options http = options->http;
    http.routes = routes;
    http.n_routes = sizeof routes / sizeof *routes;
    http.context = server;
    http.error_body = api_error_http_body;
    http.on_finished = on_http_finished;
    rc = http_server_open(&server->http, &server->loop, &http, err);
    if (rc) {
        server_close(server);
        return rc;
    }
    server->port = http_server_port(server->http);
    fill_memory(server);
    dashboard_open(server);
    *out = server;
    return 0;
}

const struct memory_ledger *server_memory(const struct server *server) {
    return &server->memory;
}

void server_attach(struct server *server, const struct server_engine *engine) {
    uv_mutex_lock(&server->lock);
    server->attached = *engine;
    server->is_attached = true;
    uv_mutex_unlock(&server->lock);
    uv_async_send(&server->wake);
}

void server_wake(void *context) {
    struct server *server = context;
    uv_async_send(&server->wake);
}

int server_port(const struct server *server) {
    return server->port;
}

void server_stop(struct server *server) {
    uv_mutex_lock(&server->lock);
    server->stop_asked = true;
    uv_mutex_unlock(&server->lock);
    uv_async_send(&server->wake);
}

int server_run(struct server *server, struct err *err) {
    int rc = 0;
    if (!server->options.keep_signals) {
        rc = uv_signal_start(&server->sigint, on_signal, SIGINT);
        if (!rc) rc = uv_signal_start(&server->sigterm, on_signal, SIGTERM);
    }
    if (rc) return err_set(err, ERR_IO, "signals cannot be received: %s", uv_strerror(rc));
    activity_watch_loop(&server->activity);
    if (server->options.on_ready)
        server->options.on_ready(server->options.on_ready_context, http_server_port(server->http));
    while (!server->is_stopping) {
        uv_run(&server->loop, UV_RUN_ONCE);
        atomic_store_explicit(&server->activity.n_connections,
                              server->http ? http_server_n_connections(server->http) : 0, memory_order_relaxed);
        end_if_drained(server);
    }
    uv_run(&server->loop, UV_RUN_DEFAULT); // work on the pool ends, handles close
    if (server->failure.code) return err_set(err, server->failure.code, "a step failed: %s", server->failure.text);
    return 0;
}

void server_close(struct server *server) {
    if (!server) return;
    if (!server->is_stopping) cut_off(server);
    uv_close((uv_handle_t *)&server->wake, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&server->loop);
    assert(!rc && !server->oldest);
    uv_mutex_destroy(&server->lock);
    vec_free(&server->slots);
    vec_free(&server->free_slots);
    vec_free(&server->touched);
    str_close(&server->scratch);
    recent_close(&server->recent);
    free(server);
}
