// The server's own state, shared by the files of this folder that know models. Loop thread, unless said otherwise.
#pragma once

#include "base/map.h"
#include "server/activity.h"
#include "server/completion.h"
#include "server/metrics.h"
#include "server/recent.h"
#include "server/server.h"
#include <uv.h>

enum server_phase { SERVER_LOADING, SERVER_READY, SERVER_DRAINING };

// Where the events of one generation go. The id of a generation is serial << SLOT_BITS | slot, so that a late event of
// a generation that has gone finds nothing.
enum { SLOT_BITS = 20 };
struct generation_slot {
    uint64_t id; // 0: free
    struct completion *completion;
    int32_t i_prompt;
};

struct server {
    struct server_options options;
    uv_loop_t loop;
    uv_async_t wake;
    uv_signal_t sigint, sigterm;
    uv_timer_t drain_timer;
    struct http_server *http;
    int port; // read-only after opening
    enum server_phase phase;
    struct err failure; // of the device: code 0, or why the server ends
    bool is_stopping;   // the drain is over; handles close

    uv_mutex_t lock; // guards the three below, which other threads set
    struct server_engine attached;
    bool is_attached, stop_asked;

    struct server_engine engine; // what is served; read-only once the phase has left SERVER_LOADING
    const char *model_name;      // NULL while it is not known
    int64_t created_s;
    int32_t vocab; // token ids from clients are below it

    VEC_OF(struct generation_slot) slots;
    VEC_OF(uint32_t) free_slots;
    uint64_t serial, seed;
    struct completion *oldest, *newest;  // living completions
    VEC_OF(struct completion *) touched; // got events in this round
    int32_t n_deferred;                  // prompts that wait for room in the step loop's queue
    struct metrics metrics;
    struct activity activity;
    struct memory_ledger memory; // read-only after opening
    struct recent recent;        // reports and the memory page
    char dashboard_policy[320];  // which script and style the page may run: their hashes
    struct str scratch;          // of the chunk being written
};

void server_reply_error(struct http_exchange *exchange, const struct api_error *error);
// The step loop's queue is full: when to come again.
void server_reply_busy(struct server *server, struct http_exchange *exchange);
// Takes what was built and answers with it.
void server_reply_text(struct http_exchange *exchange, int status, const char *content_type, struct str *body);
// The advisor, or NULL after an answer that says why there is none.
struct advisor *server_find_advisor(struct server *server, struct http_exchange *exchange);
// Answers 400 and returns false when the query has a parameter: for pages without any.
bool server_check_no_query(struct http_exchange *exchange);
void server_reply_not_measured(struct http_exchange *exchange); // 503: there is nothing to report yet
// The advisor's report over the last window_s whole seconds, at most RECENT_MS old. NULL: nothing was measured yet, or
// there is no advisor. Valid until the next call.
const struct report *server_find_report(struct server *server, int window_s);
// Answers 503 and returns false unless the server takes requests.
bool server_check_ready(struct server *server, struct http_exchange *exchange);

uint64_t server_add_generation(struct server *server, struct completion *completion, int32_t i_prompt);
void server_remove_generation(struct server *server, uint64_t id);

// Routes that only look: models.c, status.c.
// The page at /: dashboard.c.
void dashboard_open(struct server *server);
http_handler dashboard_page;
http_handler advisor_get, advisor_ledger, advisor_memory, advisor_roofline, advisor_history_get; // advisor_routes.c
http_handler advisor_experiments_list, advisor_experiments_begin, advisor_rollback;              // advisor_tuning.c
http_handler models_list, models_get, status_health, status_metrics, status_version;
