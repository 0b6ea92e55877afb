#include "bench/server_numbers.h"
#include "base/json.h"
#include "bench/http_call.h"
#include "bench/latency.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double NS = 1e9;
static const double READ_TIMEOUT_S = 5;

// --------------------------------------------------------------------------------------------------------- /metrics

static void add_value(struct server_sample *sample, const char *name, size_t n_bytes, double value) {
    struct server_value row = {.value = value};
    if (n_bytes >= sizeof row.name) return;
    memcpy(row.name, name, n_bytes);
    for (size_t i = 0; i < sample->values.count; i++)
        if (strcmp(sample->values.items[i].name, row.name) == 0) {
            sample->values.items[i].value += value;
            return;
        }
    vec_push(&sample->values, row);
}

// "name{labels} value", where a label may hold anything between its quotes.
static void parse_line(struct server_sample *sample, const char *line, size_t n_bytes) {
    char text[64], *end;
    size_t n_name = 0, i;
    while (n_name < n_bytes && !strchr("{ \t", line[n_name])) n_name++;
    if (n_name == 0 || line[0] == '#' || (n_name > 7 && memcmp(line + n_name - 7, "_bucket", 7) == 0)) return;
    i = n_name;
    if (i < n_bytes && line[i] == '{')
        for (bool quoted = false; i < n_bytes && (quoted || line[i] != '}'); i++) {
            if (line[i] == '"') quoted = !quoted;
            if (line[i] == '\\') i++;
        }
    while (i < n_bytes && strchr("} \t", line[i])) i++;
    if (i >= n_bytes || n_bytes - i >= sizeof text) return;
    memcpy(text, line + i, n_bytes - i);
    text[n_bytes - i] = 0;
    const double value = strtod(text, &end);
    if (end != text && isfinite(value)) add_value(sample, line, n_name, value);
}

void server_sample_parse(struct server_sample *out, struct str_view text) {
    for (const char *line = text.data, *end = text.data + text.n_bytes; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        parse_line(out, line, (size_t)(stop - line));
        line = stop + 1;
    }
}

static bool get(const struct probe_target *target, const char *path, struct str *body) {
    struct err err;
    int status = 0;
    const struct http_call call = {.url = target->url,
                                   .method = "GET",
                                   .path = path,
                                   .api_key = target->api_key,
                                   .timeout_s = fmin(READ_TIMEOUT_S, target->timeout_s)};
    return http_call_run(&call, &status, body, &err) == 0 && status == 200;
}

void server_sample_read(struct server_sample *out, const struct probe_target *target) {
    struct str body = STR_INIT;
    *out = (struct server_sample){0};
    if (get(target, "/metrics", &body) && str_text(&body)[0] != '{')
        server_sample_parse(out, (struct str_view){str_text(&body), body.n_bytes});
    str_close(&body);
}

void server_sample_close(struct server_sample *sample) {
    vec_free(&sample->values);
}

// --------------------------------------------------------------------------------------------------- what they say

static bool find(const struct server_sample *sample, const char *name, double *out) {
    for (size_t i = 0; i < sample->values.count; i++)
        if (strcmp(sample->values.items[i].name, name) == 0) {
            *out = sample->values.items[i].value;
            return true;
        }
    return false;
}

// How much a counter grew; one that a server shows only once it has counted began at 0.
static bool growth(const struct server_sample *before, const struct server_sample *after, const char *name,
                   double *out) {
    double start = 0;
    if (!find(after, name, out)) return false;
    find(before, name, &start);
    *out -= start;
    return true;
}

static bool mean_growth(const struct server_sample *before, const struct server_sample *after, const char *name,
                        double *out) {
    char text[112];
    double sum, count;
    snprintf(text, sizeof text, "%s_sum", name);
    if (!growth(before, after, text, &sum)) return false;
    snprintf(text, sizeof text, "%s_count", name);
    if (!growth(before, after, text, &count) || count <= 0) return false;
    *out = sum / count;
    return true;
}

// The client's side, of all requests that were answered.
struct totals {
    double requests, prompt, computed, output, ttft, n_ttft, itl, n_itl, e2e;
};

static struct totals totals_of(const struct run_record *run) {
    struct totals t = {0};
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        if (r->n_prompt > 0) t.prompt += (double)r->n_prompt;
        if (r->n_prompt > 0) t.computed += (double)(r->n_prompt - (r->n_cached > 0 ? r->n_cached : 0));
        if (r->outcome != OUTCOME_OK) continue;
        t.requests++;
        t.output += (double)request_tokens(r);
        t.e2e += (double)(r->ended_ns - r->sent_ns) / NS;
        if (r->n_events) t.ttft += (double)(r->first_ns - r->sent_ns) / NS, t.n_ttft++;
        if (request_tokens(r) > 1 && r->n_events > 1)
            t.itl += (double)(r->last_ns - r->first_ns) / NS, t.n_itl += (double)(request_tokens(r) - 1);
    }
    return t;
}

enum figure { REQUESTS, PROMPT, COMPUTED, OUTPUT, TTFT, ITL, E2E, NOTHING };

static double client_figure(const struct totals *t, enum figure figure) {
    switch (figure) {
    case REQUESTS:
        return t->requests;
    case PROMPT:
        return t->prompt;
    case COMPUTED:
        return t->computed;
    case OUTPUT:
        return t->output;
    case TTFT:
        return t->ttft / t->n_ttft * 1e3;
    case ITL:
        return t->itl / t->n_itl * 1e3;
    case E2E:
        return t->e2e / t->requests * 1e3;
    default:
        return NAN;
    }
}

// The first name that the server has; rows with one title are alternatives.
static const struct row {
    const char *title, *unit, *name;
    bool is_mean; // of a histogram of seconds, shown in milliseconds; else a counter
    enum figure figure;
} rows[] = {
    {"requests completed", "", "vllm:request_success_total", false, REQUESTS},
    {"requests completed", "", "sglang:num_requests_total", false, REQUESTS},
    {"prompt tokens", "", "vllm:prompt_tokens_total", false, PROMPT},
    {"prompt tokens", "", "sglang:prompt_tokens_total", false, PROMPT},
    {"prompt tokens, computed", "", "llamacpp:prompt_tokens_total", false, COMPUTED},
    {"output tokens", "", "vllm:generation_tokens_total", false, OUTPUT},
    {"output tokens", "", "sglang:generation_tokens_total", false, OUTPUT},
    {"output tokens", "", "llamacpp:tokens_predicted_total", false, OUTPUT},
    {"mean TTFT, from sent", "ms", "vllm:time_to_first_token_seconds", true, TTFT},
    {"mean TTFT, from sent", "ms", "sglang:time_to_first_token_seconds", true, TTFT},
    {"mean ITL", "ms", "vllm:inter_token_latency_seconds", true, ITL},
    {"mean ITL", "ms", "vllm:time_per_output_token_seconds", true, ITL},
    {"mean ITL", "ms", "sglang:inter_token_latency_seconds", true, ITL},
    {"mean ITL", "ms", "sglang:time_per_output_token_seconds", true, ITL},
    {"mean E2E, from sent", "ms", "vllm:e2e_request_latency_seconds", true, E2E},
    {"mean E2E, from sent", "ms", "sglang:e2e_request_latency_seconds", true, E2E},
    {"mean wait in its queue", "ms", "vllm:request_queue_time_seconds", true, NOTHING},
    {"mean wait in its queue", "ms", "sglang:queue_time_seconds", true, NOTHING},
    {"preemptions", "", "vllm:num_preemptions_total", false, NOTHING},
};

void server_numbers_make(struct server_numbers *out, const struct server_sample *before,
                         const struct server_sample *after, const struct run_record *run) {
    const struct totals totals = totals_of(run);
    out->n = 0;
    if (!before->values.count) return; // what was not read before cannot have grown
    for (size_t i = 0; i < sizeof rows / sizeof *rows && out->n < SERVER_NUMBERS_MAX; i++) {
        const struct row *row = &rows[i];
        double value;
        if (out->n && strcmp(out->numbers[out->n - 1].title, row->title) == 0) continue;
        if (!(row->is_mean ? mean_growth : growth)(before, after, row->name, &value)) continue;
        out->numbers[out->n++] = (struct server_number){row->title, row->unit, row->is_mean ? value * 1e3 : value,
                                                        client_figure(&totals, row->figure)};
    }
}

double server_number_disagreement(const struct server_number *number) {
    if (number->server == number->client) return 0;
    return number->client > 0 ? number->server / number->client - 1 : NAN;
}

// ----------------------------------------------------------------------------------------------------------- advisor

static const cJSON *headline_of(const cJSON *tree) {
    static const char *const parents[] = {"verdict", "diagnosis"};
    for (size_t i = 0; i < 2; i++) {
        const cJSON *parent = cJSON_GetObjectItemCaseSensitive(tree, parents[i]);
        const cJSON *line = cJSON_GetObjectItemCaseSensitive(parent, "headline");
        if (cJSON_IsString(line)) return line;
    }
    return cJSON_GetObjectItemCaseSensitive(tree, "headline");
}

void server_headline_read(struct str *out, const struct probe_target *target) {
    static const struct json_limits limits = {
        .depth = 64, .elements = 1000000, .allow_nul = true, .allow_duplicates = true};
    struct str body = STR_INIT;
    struct err err;
    cJSON *tree = NULL;
    if (get(target, "/advisor", &body) && !json_parse(&tree, str_text(&body), body.n_bytes, &limits, &err)) {
        const cJSON *line = headline_of(tree);
        if (cJSON_IsString(line))
            for (const char *c = line->valuestring; *c; c++) str_append_char(out, (unsigned char)*c < ' ' ? ' ' : *c);
    }
    cJSON_Delete(tree);
    str_close(&body);
}

void server_numbers_close(struct server_numbers *numbers) {
    str_close(&numbers->headline);
}
