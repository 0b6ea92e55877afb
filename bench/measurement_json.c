#include "base/clock.h"
#include "base/json.h"
#include "base/json_write.h"
#include "bench/client_machine.h"
#include "bench/explain.h"
#include "bench/measurement.h"
#include "bench/series.h"

#include <math.h>
#include <string.h>
#include <time.h>

static const double NS = 1e9, MS = 1e3;

static void lines(struct str *out, const char *name, const struct str *all) {
    json_write_begin(out, name, '[');
    for (const char *line = str_text(all), *stop; *line; line = *stop ? stop + 1 : stop) {
        stop = line + strcspn(line, "\n");
        json_append_string(out, line, (size_t)(stop - line));
        str_append_char(out, ',');
    }
    json_write_end(out, ']');
}

void measurement_write_interval(struct str *out, const char *name, const struct interval *x, double factor) {
    json_write_begin(out, name, '[');
    json_write_number(out, NULL, x->mean * factor);
    json_write_number(out, NULL, x->low * factor);
    json_write_number(out, NULL, x->high * factor);
    json_write_end(out, ']');
}

// ----------------------------------------------------------------------------------------------------------- summary

static void append_latency(struct str *out, const char *kind, const struct latency_summary *l) {
    json_write_begin(out, kind, '{');
    json_write_number(out, "n", (double)l->n);
    json_write_number(out, "n_effective", l->n_effective);
    measurement_write_interval(out, "mean", &l->mean, MS);
    for (int p = 0; p < PERCENTILES; p++) {
        char name[16];
        snprintf(name, sizeof name, "p%g", percentile_of[p]);
        measurement_write_interval(out, name, &l->percentile[p], MS);
    }
    json_write_number(out, "largest", l->largest * MS);
    json_write_number(out, "band", l->band);
    json_write_begin(out, "curve", '[');
    for (int i = 0; i < CURVE_POINTS; i++) {
        json_write_number(out, NULL, l->curve[i] * MS);
    }
    json_write_end(out, ']');
    json_write_end(out, '}');
}

static void append_summary(struct str *out, const struct summary *s) {
    json_write_begin(out, "summary", '{');
    json_write_number(out, "from_s", s->from_s);
    json_write_number(out, "to_s", s->to_s);
    json_write_number(out, "requests", (double)s->n_requests);
    json_write_number(out, "completed", (double)s->n_by_outcome[OUTCOME_OK]);
    json_write_number(out, "slow", (double)s->n_slow);
    json_write_number(out, "retried", (double)s->n_retried);
    json_write_number(out, "uncounted", (double)s->n_uncounted);
    measurement_write_interval(out, "request_rate", &s->request_rate, 1);
    measurement_write_interval(out, "output_rate", &s->output_rate, 1);
    measurement_write_interval(out, "input_rate", &s->input_rate, 1);
    json_write_number(out, "offered_rate", s->offered_rate);
    json_write_number(out, "prompt_tokens", s->mean_prompt);
    json_write_number(out, "cached_tokens", s->mean_cached);
    json_write_number(out, "output_tokens", s->mean_output);
    json_write_number(out, "in_flight", s->in_flight);
    json_write_number(out, "client_share", s->client_share);
    if (s->has_objectives) measurement_write_interval(out, "goodput", &s->goodput, 1);
    json_write_begin(out, "latency_ms", '{');
    for (int l = 0; l < LATENCIES; l++) {
        if (!s->latency[l].n) continue;
        append_latency(out, latency_name((enum latency)l), &s->latency[l]);
    }
    json_write_end(out, '}');
    json_write_end(out, '}');
}

static void append_outcomes(struct str *out, const struct run_record *run) {
    size_t counts[OUTCOMES] = {0};
    for (size_t i = 0; i < run->requests.count; i++) counts[run->requests.items[i].outcome]++;
    json_write_begin(out, "outcomes", '[');
    for (int o = 0; o < OUTCOMES; o++) { // all: the requests' outcomes are indexes into this list
        json_write_begin(out, NULL, '{');
        json_write_text(out, "kind", outcome_name((enum outcome)o));
        json_write_number(out, "count", (double)counts[o]);
        json_write_text(out, "example", run->examples[o]);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
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
    json_write_begin(out, "series", '{');
    json_write_number(out, "width_s", series.width_s);
    json_write_number(out, "row_first_ms", series.row_first_s * MS);
    json_write_number(out, "row_factor", series.row_factor);
    for (size_t c = 0; c < sizeof part_columns / sizeof *part_columns; c++) {
        json_write_begin(out, part_columns[c].name, '[');
        for (size_t p = 0; p < series.parts.count; p++) {
            json_write_number(out, NULL, part_columns[c].get(&series.parts.items[p]));
        }
        json_write_end(out, ']');
    }
    json_write_begin(out, "gaps", '[');
    for (size_t p = 0; p < series.parts.count; p++) {
        json_write_begin(out, NULL, '[');
        for (int row = 0; row < SERIES_ROWS; row++) json_write_int(out, NULL, series.parts.items[p].gaps[row]);
        json_write_end(out, ']');
    }
    json_write_end(out, ']');
    json_write_end(out, '}');
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
    json_write_begin(out, "requests", '{');
    for (int c = 0; c < N_COLUMNS; c++) {
        json_write_begin(out, columns[c].name, '[');
        for (size_t i = 0; i < m->run.requests.count; i++) {
            json_write_number(out, NULL, columns[c].get(m, &m->run.requests.items[i]));
        }
        json_write_end(out, ']');
    }
    json_write_end(out, '}');
}

static void append_csv_name(struct str *out, const char *name) { // quotes are doubled in quotes
    str_append_char(out, '"');
    for (; *name; name++) {
        if (*name == '"') str_append_char(out, '"');
        str_append_char(out, *name);
    }
    str_append_char(out, '"');
}

void measurement_csv(const struct measurement *runs, size_t n_runs, struct str *out) {
    str_append_text(out, "run");
    for (int c = 0; c < N_COLUMNS; c++) str_printf(out, ",%s", columns[c].name);
    str_append_char(out, '\n');
    for (const struct measurement *m = runs; m < runs + n_runs; m++)
        for (size_t i = 0; i < m->run.requests.count; i++) {
            const struct request_record *r = &m->run.requests.items[i];
            append_csv_name(out, str_text(&m->name));
            for (int c = 0; c < N_COLUMNS; c++) {
                const double value = columns[c].get(m, r);
                str_append_char(out, ',');
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
    json_write_begin(out, "server", '{');
    if (server->headline.n_bytes) json_write_text(out, "headline", str_text(&server->headline));
    json_write_begin(out, "numbers", '[');
    for (int i = 0; i < server->n; i++) {
        const struct server_number *n = &server->numbers[i];
        json_write_begin(out, NULL, '{');
        json_write_text(out, "title", n->title);
        json_write_text(out, "unit", n->unit);
        json_write_number(out, "server", n->server);
        json_write_number(out, "client", n->client);
        json_write_number(out, "disagreement", server_number_disagreement(n));
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
    json_write_end(out, '}');
}

static void append_objectives(struct str *out, const struct objectives *o) {
    json_write_begin(out, "objectives_ms", '{');
    json_write_number(out, "ttft", o->ttft > 0 ? o->ttft * MS : NAN);
    json_write_number(out, "itl", o->itl > 0 ? o->itl * MS : NAN);
    json_write_number(out, "e2e", o->e2e > 0 ? o->e2e * MS : NAN);
    json_write_end(out, '}');
}

static void append_run(struct str *out, const struct measurement *m, bool with_requests) {
    json_write_begin(out, NULL, '{');
    json_write_text(out, "name", str_text(&m->name));
    json_write_text(out, "url", str_text(&m->url));
    json_write_text(out, "model", str_text(&m->model));
    json_write_number(out, "rate", m->rate > 0 ? m->rate : NAN);
    json_write_number(out, "users", m->n_users ? (double)m->n_users : NAN);
    append_objectives(out, &m->objectives);
    str_printf(out, "\"settings\":%s,\"workload\":%s,", str_text(&m->settings), str_text(&m->workload));
    json_write_int(out, "began_s", m->run.began_wall_s);
    json_write_number(out, "duration_s", (double)m->run.duration_ns / NS);
    json_write_bool(out, "valid", m->summary.invalid.n_bytes == 0);
    lines(out, "invalid", &m->summary.invalid);
    lines(out, "notes", &m->summary.notes);
    append_summary(out, &m->summary);
    append_outcomes(out, &m->run);
    append_series(out, &m->run);
    append_server(out, &m->server);
    if (with_requests) append_requests(out, m);
    json_write_end(out, '}');
}

void measurement_json_begin(const char *kind, const char *command, struct str *out) {
    char made[32];
    struct tm day;
    const time_t now = (time_t)clock_wall_s();
    gmtime_r(&now, &day);
    strftime(made, sizeof made, "%Y-%m-%dT%H:%M:%SZ", &day);
    json_write_begin(out, NULL, '{');
    json_write_int(out, "optima_bench", MEASUREMENT_SCHEMA);
    json_write_text(out, "kind", kind);
    json_write_text(out, "made", made);
    json_write_text(out, "version", OPTIMA_VERSION);
    json_write_text(out, "command", command);
    client_machine_json(out);
    explain_json(out);
}

void measurement_json_end(struct str *out) {
    json_write_end(out, '}');
    json_write_close(out);
    str_append_char(out, '\n');
}

void measurement_json(const struct measurement_document *document, struct str *out) {
    measurement_json_begin(document->kind, document->command, out);
    json_write_begin(out, "runs", '[');
    for (size_t i = 0; i < document->n_runs; i++) append_run(out, &document->runs[i], document->with_requests);
    json_write_end(out, ']');
    if (document->more) str_append_text(out, document->more);
    measurement_json_end(out);
}

void measurement_close(struct measurement *m) {
    str_close(&m->name), str_close(&m->url), str_close(&m->model), str_close(&m->settings), str_close(&m->workload);
    run_record_close(&m->run);
    summary_close(&m->summary);
    server_numbers_close(&m->server);
}
