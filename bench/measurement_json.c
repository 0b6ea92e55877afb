#include "base/clock.h"
#include "base/json.h"
#include "bench/client_machine.h"
#include "bench/explain.h"
#include "bench/measurement.h"
#include "bench/series.h"

#include <math.h>
#include <string.h>
#include <time.h>

static const double NS = 1e9, MS = 1e3;

static void append_string(struct str *out, const char *text) {
    json_append_string(out, text, strlen(text));
}

// `"name":value,`
static void number(struct str *out, const char *name, double value) {
    str_printf(out, "\"%s\":", name);
    json_append_number(out, value);
    str_append_char(out, ',');
}

static void text(struct str *out, const char *name, const char *value) {
    str_printf(out, "\"%s\":", name);
    append_string(out, value);
    str_append_char(out, ',');
}

static void end(struct str *out, char closing) { // in place of the last comma
    if (out->data[out->n_bytes - 1] == ',') out->n_bytes--;
    str_append_char(out, closing);
}

static void lines(struct str *out, const char *name, const struct str *all) {
    str_printf(out, "\"%s\":[", name);
    for (const char *line = str_text(all), *stop; *line; line = *stop ? stop + 1 : stop) {
        stop = line + strcspn(line, "\n");
        json_append_string(out, line, (size_t)(stop - line));
        str_append_char(out, ',');
    }
    end(out, ']');
    str_append_char(out, ',');
}

void measurement_json_interval(const struct interval *x, double factor, struct str *out) {
    const double values[3] = {x->mean, x->low, x->high};
    for (int i = 0; i < 3; i++) {
        str_append_char(out, i ? ',' : '[');
        json_append_number(out, values[i] * factor);
    }
    str_append_char(out, ']');
}

static void interval(struct str *out, const char *name, const struct interval *x, double factor) {
    str_printf(out, "\"%s\":", name);
    measurement_json_interval(x, factor, out);
    str_append_char(out, ',');
}

// ----------------------------------------------------------------------------------------------------------- summary

static void append_latency(struct str *out, const struct latency_summary *l) {
    str_append_char(out, '{');
    number(out, "n", (double)l->n);
    number(out, "n_effective", l->n_effective);
    interval(out, "mean", &l->mean, MS);
    for (int p = 0; p < PERCENTILES; p++) {
        char name[16];
        snprintf(name, sizeof name, "p%g", percentile_of[p]);
        interval(out, name, &l->percentile[p], MS);
    }
    number(out, "largest", l->largest * MS);
    number(out, "band", l->band);
    str_append_text(out, "\"curve\":[");
    for (int i = 0; i < CURVE_POINTS; i++) {
        json_append_number(out, l->curve[i] * MS);
        str_append_char(out, ',');
    }
    end(out, ']');
    str_append_char(out, '}');
}

static void append_summary(struct str *out, const struct summary *s) {
    str_append_text(out, "\"summary\":{");
    number(out, "from_s", s->from_s);
    number(out, "to_s", s->to_s);
    number(out, "requests", (double)s->n_requests);
    number(out, "completed", (double)s->n_by_outcome[OUTCOME_OK]);
    number(out, "slow", (double)s->n_slow);
    number(out, "retried", (double)s->n_retried);
    number(out, "uncounted", (double)s->n_uncounted);
    interval(out, "request_rate", &s->request_rate, 1);
    interval(out, "output_rate", &s->output_rate, 1);
    interval(out, "input_rate", &s->input_rate, 1);
    number(out, "offered_rate", s->offered_rate);
    number(out, "prompt_tokens", s->mean_prompt);
    number(out, "cached_tokens", s->mean_cached);
    number(out, "output_tokens", s->mean_output);
    number(out, "in_flight", s->in_flight);
    number(out, "client_share", s->client_share);
    if (s->has_objectives) interval(out, "goodput", &s->goodput, 1);
    str_append_text(out, "\"latency_ms\":{");
    for (int l = 0; l < LATENCIES; l++) {
        if (!s->latency[l].n) continue;
        str_printf(out, "\"%s\":", latency_name((enum latency)l));
        append_latency(out, &s->latency[l]);
        str_append_char(out, ',');
    }
    end(out, '}');
    str_append_text(out, "},");
}

static void append_outcomes(struct str *out, const struct run_record *run) {
    size_t counts[OUTCOMES] = {0};
    for (size_t i = 0; i < run->requests.count; i++) counts[run->requests.items[i].outcome]++;
    str_append_text(out, "\"outcomes\":[");
    for (int o = 0; o < OUTCOMES; o++) { // all: the requests' outcomes are indexes into this list
        str_append_char(out, '{');
        text(out, "kind", outcome_name((enum outcome)o));
        number(out, "count", (double)counts[o]);
        text(out, "example", run->examples[o]);
        end(out, '}');
        str_append_char(out, ',');
    }
    end(out, ']');
    str_append_char(out, ',');
}

// ------------------------------------------------------------------------------------------------------------ series

struct part_column {
    const char *name;
    double (*get)(const struct series_part *part);
};
#define PART_COLUMN(name, value)                                                                                       \
    static double part_##name(const struct series_part *p) {                                                           \
        return value;                                                                                                  \
    }
PART_COLUMN(due, (double)p->n_due)
PART_COLUMN(completed, (double)p->n_completed)
PART_COLUMN(failed, (double)p->n_failed)
PART_COLUMN(in_flight, p->in_flight)
PART_COLUMN(output_rate, p->output_rate)
PART_COLUMN(ttft_p50, p->ttft_p50 *MS)
PART_COLUMN(ttft_p95, p->ttft_p95 *MS)
PART_COLUMN(itl_p50, p->itl_p50 *MS)
PART_COLUMN(itl_p95, p->itl_p95 *MS)
PART_COLUMN(itl_largest, p->itl_largest *MS)
static const struct part_column part_columns[] = {
    {"due", part_due},
    {"completed", part_completed},
    {"failed", part_failed},
    {"in_flight", part_in_flight},
    {"output_rate", part_output_rate},
    {"ttft_p50_ms", part_ttft_p50},
    {"ttft_p95_ms", part_ttft_p95},
    {"itl_p50_ms", part_itl_p50},
    {"itl_p95_ms", part_itl_p95},
    {"itl_largest_ms", part_itl_largest},
};

static void append_series(struct str *out, const struct run_record *run) {
    struct series series;
    series_make(&series, run);
    str_append_text(out, "\"series\":{");
    number(out, "width_s", series.width_s);
    number(out, "row_first_ms", series.row_first_s * MS);
    number(out, "row_factor", series.row_factor);
    for (size_t c = 0; c < sizeof part_columns / sizeof *part_columns; c++) {
        str_printf(out, "\"%s\":[", part_columns[c].name);
        for (size_t p = 0; p < series.parts.count; p++) {
            json_append_number(out, part_columns[c].get(&series.parts.items[p]));
            str_append_char(out, ',');
        }
        end(out, ']');
        str_append_char(out, ',');
    }
    str_append_text(out, "\"gaps\":[");
    for (size_t p = 0; p < series.parts.count; p++) {
        for (int row = 0; row < SERIES_ROWS; row++)
            str_printf(out, "%c%u", row ? ',' : '[', series.parts.items[p].gaps[row]);
        str_append_text(out, "],");
    }
    end(out, ']');
    str_append_text(out, "},");
    series_close(&series);
}

// ---------------------------------------------------------------------------------------------------------- requests

struct request_column {
    const char *name;
    double (*get)(const struct measurement *measurement, const struct request_record *request); // NAN: none
};

static double latency_ms(const struct request_record *r, enum latency latency) {
    double seconds;
    const bool has = latency == LATENCY_DISPATCH || r->outcome == OUTCOME_OK;
    return has && request_latency(r, latency, &seconds) ? seconds * MS : NAN;
}

static double largest_gap_ms(const struct measurement *m, const struct request_record *r) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i + 1 < r->n_events; i++) {
        const uint32_t gap = m->run.gaps.items[r->gap_first + i];
        largest = gap > largest ? gap : largest;
    }
    return r->n_events > 1 ? largest * (GAP_NS / NS * MS) : NAN;
}

#define COLUMN(name, value)                                                                                            \
    static double column_##name(const struct measurement *m, const struct request_record *r) {                         \
        (void)m;                                                                                                       \
        return value;                                                                                                  \
    }
COLUMN(session, (double)r->session)
COLUMN(turn, (double)r->turn)
COLUMN(due, (double)r->scheduled_ns / NS)
COLUMN(dispatch, latency_ms(r, LATENCY_DISPATCH))
COLUMN(ttft, latency_ms(r, LATENCY_TTFT))
COLUMN(tpot, latency_ms(r, LATENCY_TPOT))
COLUMN(gap, largest_gap_ms(m, r))
COLUMN(e2e, latency_ms(r, LATENCY_E2E))
COLUMN(prompt, r->n_prompt < 0 ? NAN : (double)r->n_prompt)
COLUMN(cached, r->n_cached < 0 ? NAN : (double)r->n_cached)
COLUMN(output, r->n_output < 0 ? NAN : (double)r->n_output)
COLUMN(events, (double)r->n_events)
COLUMN(status, r->status ? (double)r->status : NAN)
COLUMN(outcome, (double)r->outcome)
COLUMN(slow, (double)r->slow)
COLUMN(retried, (double)r->retried)
COLUMN(steady, (double)request_is_due(r, m->summary.from_s, m->summary.to_s))

static const struct request_column columns[] = {
    {"session", column_session},
    {"turn", column_turn},
    {"due_s", column_due},
    {"dispatch_ms", column_dispatch},
    {"ttft_ms", column_ttft},
    {"tpot_ms", column_tpot},
    {"largest_gap_ms", column_gap},
    {"e2e_ms", column_e2e},
    {"prompt_tokens", column_prompt},
    {"cached_tokens", column_cached},
    {"output_tokens", column_output},
    {"events", column_events},
    {"status", column_status},
    {"outcome", column_outcome},
    {"slow", column_slow},
    {"retried", column_retried},
    {"steady", column_steady},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

static void append_requests(struct str *out, const struct measurement *m) {
    str_append_text(out, "\"requests\":{");
    for (int c = 0; c < N_COLUMNS; c++) {
        str_printf(out, "\"%s\":[", columns[c].name);
        for (size_t i = 0; i < m->run.requests.count; i++) {
            json_append_number(out, columns[c].get(m, &m->run.requests.items[i]));
            str_append_char(out, ',');
        }
        end(out, ']');
        str_append_char(out, ',');
    }
    end(out, '}');
    str_append_char(out, ',');
}

void measurement_csv(const struct measurement *m, struct str *out) {
    for (int c = 0; c < N_COLUMNS; c++) str_printf(out, "%s%s", c ? "," : "", columns[c].name);
    str_append_char(out, '\n');
    for (size_t i = 0; i < m->run.requests.count; i++) {
        const struct request_record *r = &m->run.requests.items[i];
        for (int c = 0; c < N_COLUMNS; c++) {
            const double value = columns[c].get(m, r);
            if (c) str_append_char(out, ',');
            if (columns[c].get == column_outcome)
                str_append_text(out, outcome_name((enum outcome)r->outcome));
            else if (isfinite(value))
                str_printf(out, "%.9g", value);
        }
        str_append_char(out, '\n');
    }
}

// ---------------------------------------------------------------------------------------------------------- document

static void append_server(struct str *out, const struct server_numbers *server) {
    str_append_text(out, "\"server\":{");
    if (server->headline.n_bytes) text(out, "headline", str_text(&server->headline));
    str_append_text(out, "\"numbers\":[");
    for (int i = 0; i < server->n; i++) {
        const struct server_number *n = &server->numbers[i];
        str_append_char(out, '{');
        text(out, "title", n->title);
        text(out, "unit", n->unit);
        number(out, "server", n->server);
        number(out, "client", n->client);
        number(out, "disagreement", server_number_disagreement(n));
        end(out, '}');
        str_append_char(out, ',');
    }
    end(out, ']');
    str_append_text(out, "},");
}

static void append_run(struct str *out, const struct measurement *m, bool with_requests) {
    const struct objectives *o = &m->objectives;
    const double objectives[] = {o->ttft, o->itl, o->e2e};
    const char *const names[] = {"ttft", "itl", "e2e"};
    str_append_char(out, '{');
    text(out, "name", str_text(&m->name));
    text(out, "url", str_text(&m->url));
    text(out, "model", str_text(&m->model));
    number(out, "rate", m->rate > 0 ? m->rate : NAN);
    number(out, "users", m->n_users ? (double)m->n_users : NAN);
    str_append_text(out, "\"objectives_ms\":{");
    for (int i = 0; i < 3; i++) number(out, names[i], objectives[i] > 0 ? objectives[i] * MS : NAN);
    end(out, '}');
    str_printf(out, ",\"settings\":%s,\"workload\":%s,", str_text(&m->settings), str_text(&m->workload));
    number(out, "began_s", (double)m->run.began_wall_s);
    number(out, "duration_s", (double)m->run.duration_ns / NS);
    str_printf(out, "\"valid\":%s,", m->summary.invalid.n_bytes ? "false" : "true");
    lines(out, "invalid", &m->summary.invalid);
    lines(out, "notes", &m->summary.notes);
    append_summary(out, &m->summary);
    append_outcomes(out, &m->run);
    append_series(out, &m->run);
    append_server(out, &m->server);
    if (with_requests) append_requests(out, m);
    end(out, '}');
}

void measurement_json_head(const char *kind, const char *command, struct str *out) {
    char made[32];
    struct tm day;
    const time_t now = (time_t)clock_wall_s();
    gmtime_r(&now, &day);
    strftime(made, sizeof made, "%Y-%m-%dT%H:%M:%SZ", &day);
    str_printf(out, "{\"optima_bench\":%d,", MEASUREMENT_SCHEMA);
    text(out, "kind", kind);
    text(out, "made", made);
    text(out, "version", OPTIMA_VERSION);
    text(out, "command", command);
    str_append_text(out, "\"client\":");
    client_machine_json(out);
    str_append_text(out, ",\"definitions\":");
    explain_json(out);
    str_append_char(out, ',');
}

void measurement_json(const struct measurement_document *document, struct str *out) {
    measurement_json_head(document->kind, document->command, out);
    str_append_text(out, "\"runs\":[");
    for (size_t i = 0; i < document->n_runs; i++) {
        if (i) str_append_char(out, ',');
        append_run(out, &document->runs[i], document->with_requests);
    }
    str_append_char(out, ']');
    if (document->more) str_printf(out, ",%s", document->more);
    str_append_text(out, "}\n");
}

void measurement_close(struct measurement *m) {
    str_close(&m->name), str_close(&m->url), str_close(&m->model), str_close(&m->settings), str_close(&m->workload);
    run_record_close(&m->run);
    summary_close(&m->summary);
    server_numbers_close(&m->server);
}
