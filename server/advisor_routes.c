// GET /advisor and the pages below it: what the advisor knows, as JSON or in words. Answered on the loop at once.
#include "server/server_state.h"

#include "advisor/advisor.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/memory_resident.h"
#include "server/query.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW_DEFAULT = 300, WINDOW_MIN = 10, WINDOW_MAX = 600, HISTORY_MAX = 600 };

struct advisor *server_find_advisor(struct server *server, struct http_exchange *exchange) {
    if (!server_check_ready(server, exchange)) return NULL;
    if (server->engine.advisor) return server->engine.advisor;
    struct api_error error = {0};
    api_error_set(&error, 404, "no_advisor", NULL, "This server runs without its advisor.");
    server_reply_error(exchange, &error);
    return NULL;
}

bool server_check_no_query(struct http_exchange *exchange) {
    struct api_error error = {0};
    if (query_read(http_exchange_request(exchange)->query, NULL, 0, &error)) return true;
    server_reply_error(exchange, &error);
    return false;
}

void server_reply_not_measured(struct http_exchange *exchange) {
    struct api_error error = {0};
    api_error_set(&error, 503, "not_measured_yet", NULL, "Nothing has been measured yet.");
    server_reply_error(exchange, &error);
}

const struct report *server_find_report(struct server *server, int window_s) {
    const uint64_t now_ns = clock_now_ns();
    struct report *report = recent_find(&server->recent, window_s, now_ns);
    if (report || !server->engine.advisor) return report;
    report = mem_alloc_zero(1, sizeof *report);
    if (!advisor_report(server->engine.advisor, window_s, report)) {
        free(report);
        return NULL;
    }
    recent_keep(&server->recent, window_s, report, now_ns);
    return report;
}

static bool read_window(const char *text, int *window_s, struct api_error *error) {
    *window_s = WINDOW_DEFAULT;
    if (!*text) return true;
    char *end;
    long value = strtol(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && value >= WINDOW_MIN && value <= WINDOW_MAX) {
        *window_s = (int)value;
        return true;
    }
    api_error_set(error, 400, "invalid_value", "window", "window must be a whole number of seconds from %d to %d.",
                  WINDOW_MIN, WINDOW_MAX);
    return false;
}

enum form { FORM_JSON, FORM_MARKDOWN };

// The query wins; without it a client that accepts Markdown and says so gets it.
static bool read_form(struct http_exchange *exchange, const char *text, enum form *form, struct api_error *error) {
    const char *accept = http_exchange_request_header(exchange, "accept");
    *form = !*text && accept && strstr(accept, "text/markdown") ? FORM_MARKDOWN : FORM_JSON;
    if (!*text || strcmp(text, "json") == 0) return true;
    *form = FORM_MARKDOWN;
    if (strcmp(text, "md") == 0) return true;
    api_error_set(error, 400, "invalid_value", "format", "format must be json or md.");
    return false;
}

// The report over the window that the query names. NULL after an answer that says why not.
static const struct report *find_report(struct server *server, struct http_exchange *exchange, bool has_forms,
                                        enum form *form) {
    if (!server_find_advisor(server, exchange)) return NULL;
    char window[QUERY_VALUE_MAX] = "", format[QUERY_VALUE_MAX] = "";
    const struct query_field fields[] = {{"window", window}, {"format", format}};
    struct api_error error = {0};
    int window_s;
    bool ok = query_read(http_exchange_request(exchange)->query, fields, has_forms ? 2 : 1, &error) &&
              read_window(window, &window_s, &error) && read_form(exchange, format, form, &error);
    const struct report *report = ok ? server_find_report(server, window_s) : NULL;
    if (!ok)
        server_reply_error(exchange, &error);
    else if (!report)
        server_reply_not_measured(exchange);
    return report;
}

static void reply_json(struct http_exchange *exchange, struct str *body) {
    http_exchange_header(exchange, "Cache-Control", "no-store");
    server_reply_text(exchange, 200, "application/json", body);
}

void advisor_get(struct http_exchange *exchange, void *context) {
    enum form form;
    const struct report *report = find_report(context, exchange, true, &form);
    if (!report) return;
    struct str out = STR_INIT;
    http_exchange_header(exchange, "Vary", "Accept");
    if (form == FORM_MARKDOWN) {
        report_markdown(report, &out);
        http_exchange_header(exchange, "Cache-Control", "no-store");
        server_reply_text(exchange, 200, "text/markdown; charset=utf-8", &out);
    } else {
        report_json(report, &out);
        reply_json(exchange, &out);
    }
}

static void reply_part(struct http_exchange *exchange, void *context,
                       void (*write)(const struct report *report, struct str *out)) {
    enum form form;
    const struct report *report = find_report(context, exchange, false, &form);
    if (!report) return;
    struct str out = STR_INIT;
    write(report, &out);
    reply_json(exchange, &out);
}

void advisor_ledger(struct http_exchange *exchange, void *context) {
    reply_part(exchange, context, report_ledger_json);
}

void advisor_roofline(struct http_exchange *exchange, void *context) {
    reply_part(exchange, context, report_roofline_json);
}

struct memory_page {
    struct memory_ledger ledger;
    struct process_memory process;
};

// The system is asked about every page of the KV cache: not each time that somebody asks the server.
static const struct memory_page *find_memory(struct server *server) {
    const uint64_t now_ns = clock_now_ns();
    struct memory_page *page = recent_find(&server->recent, RECENT_MEMORY, now_ns);
    if (page) return page;
    page = mem_alloc_zero(1, sizeof *page);
    server->engine.list_memory(server->engine.memory_context, &page->ledger);
    page->process = memory_of_process();
    recent_keep(&server->recent, RECENT_MEMORY, page, now_ns);
    return page;
}

void advisor_memory(struct http_exchange *exchange, void *context) {
    struct server *server = context;
    if (!server_check_ready(server, exchange) || !server_check_no_query(exchange)) return;
    const struct memory_page *page = find_memory(server);
    const struct memory_ledger *ledger = &page->ledger;
    uint64_t reserved = 0, committed = 0;
    struct str out = STR_INIT;
    json_write_begin(&out, NULL, '{');
    json_write_int(&out, "schema", REPORT_SCHEMA);
    json_write_begin(&out, "owners", '[');
    for (int i = 0; i < ledger->n_rows; i++) {
        const struct memory_row *row = &ledger->rows[i];
        json_write_begin(&out, NULL, '{');
        json_write_text(&out, "owner", row->owner);
        json_write_text(&out, "detail", row->detail);
        json_write_int(&out, "at_most_bytes", (int64_t)row->reserved_bytes);
        json_write_int(&out, "in_memory_bytes", (int64_t)row->committed_bytes);
        json_write_end(&out, '}');
        reserved += row->reserved_bytes, committed += row->committed_bytes;
    }
    json_write_end(&out, ']');
    json_write_int(&out, "total_at_most_bytes", (int64_t)reserved);
    json_write_int(&out, "total_in_memory_bytes", (int64_t)committed);
    json_write_int(&out, "process_resident_bytes", (int64_t)(page->process.anonymous + page->process.mapped));
    json_write_end(&out, '}');
    json_write_close(&out);
    reply_json(exchange, &out);
}

void advisor_history_get(struct http_exchange *exchange, void *context) {
    struct advisor *advisor = server_find_advisor(context, exchange);
    if (!advisor || !server_check_no_query(exchange)) return;
    struct history_point *points = mem_alloc(HISTORY_MAX * sizeof *points);
    size_t n = advisor_history(advisor, points, HISTORY_MAX);
    struct str out = STR_INIT;
    json_write_begin(&out, NULL, '{');
    json_write_int(&out, "schema", REPORT_SCHEMA);
    json_write_begin(&out, "points", '[');
    for (size_t i = 0; i < n; i++) {
        const struct history_point *p = &points[i];
        json_write_begin(&out, NULL, '{');
        json_write_number(&out, "age_s", p->age_s);
        json_write_number(&out, "output_rate", p->output_rate);
        json_write_number(&out, "input_rate", p->input_rate);
        json_write_number(&out, "ttft_p50", p->ttft_p50);
        json_write_number(&out, "itl_p50", p->itl_p50);
        json_write_number(&out, "itl_p99", p->itl_p99);
        json_write_number(&out, "running", p->running);
        json_write_number(&out, "waiting", p->waiting);
        json_write_number(&out, "kv_occupancy", p->kv_occupancy);
        json_write_number(&out, "mfu", p->mfu);
        json_write_number(&out, "mbu", p->mbu);
        json_write_number(&out, "watts", p->watts);
        json_write_end(&out, '}');
    }
    json_write_end(&out, ']');
    json_write_end(&out, '}');
    json_write_close(&out);
    free(points);
    reply_json(exchange, &out);
}
