// GET /health, /metrics and /version: answered on the loop at once, whatever the load.
#include "server/server_state.h"

#include "base/clock.h"

enum { METRICS_WINDOW_S = 60 };
static const uint64_t stall_ns = 30ull * 1000 * 1000 * 1000;

// Requests run, but for long no step has ended, although the one that was submitted first has waited as long.
static bool is_stalled(const struct server *server) {
    struct step_loop_stats stats;
    step_loop_stats(server->engine.step_loop, &stats);
    const struct completion *first = server->oldest;
    while (first && !first->n_open) first = first->next;
    if (!stats.n_running || !first) return false;
    uint64_t since_ns = stats.last_step_ns > first->submitted_ns ? stats.last_step_ns : first->submitted_ns;
    return clock_now_ns() > since_ns + stall_ns;
}

void status_health(struct http_exchange *exchange, void *context) {
    struct server *server = context;
    if (!server_check_ready(server, exchange)) return;
    if (is_stalled(server)) {
        struct api_error error = {0};
        api_error_set(&error, 503, NULL, NULL, "The engine makes no progress.");
        server_reply_error(exchange, &error);
        return;
    }
    static const char ok[] = "{\"status\":\"ok\"}";
    http_exchange_reply(exchange, 200, "application/json", ok, sizeof ok - 1);
}

void status_metrics(struct http_exchange *exchange, void *context) {
    struct server *server = context;
    struct step_loop_stats stats;
    struct metrics_view view = {.model_name = server->model_name ? server->model_name : "",
                                .n_deferred = server->n_deferred};
    if (server->engine.step_loop) {
        step_loop_stats(server->engine.step_loop, &stats);
        view.stats = &stats;
    }
    struct server_activity activity;
    server_activity(server, &activity);
    view.activity = &activity;
    view.report = server_find_report(server, METRICS_WINDOW_S);
    struct str out = STR_INIT;
    metrics_print(&server->metrics, &view, &out);
    http_exchange_reply(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", str_text(&out), out.n_bytes);
    str_close(&out);
}

void status_version(struct http_exchange *exchange, void *context) {
    (void)context;
    static const char version[] = "{\"version\":\"" OPTIMA_VERSION "\"}";
    http_exchange_reply(exchange, 200, "application/json", version, sizeof version - 1);
}
