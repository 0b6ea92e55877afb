#include "cli/benching.h"

#include "base/json.h"
#include "base/json_write.h"
#include "bench/probe.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------------------------------------------------- the table

static const struct option_row load_rows[] = {
    {"users", OPTION_INT, BENCH_FIELD(users), "N", NULL, 1, 100000, false,
     "closed loop: so many users, each waits for its answer (8)"},
    {"rate", OPTION_TEXT, BENCH_FIELD(rate), "R", NULL, 0, 0, false,
     "open loop: R requests a second, whatever the server does; 2..40 rises over --duration"},
    {"burstiness", OPTION_DOUBLE, BENCH_FIELD(burstiness), "X", NULL, 0.01, 1000, false,
     "shape of the gamma distribution of gaps: 1 is Poisson's, less comes in bursts (1)"},
    {"constant", OPTION_FLAG, BENCH_FIELD(constant), NULL, NULL, 0, 0, false, "equal gaps instead"},
    {"trace", OPTION_TEXT, BENCH_FIELD(trace), "FILE", NULL, 0, 0, false,
     "prompts, lengths and times: Azure CSV, Mooncake or other JSON lines, ShareGPT JSON, plain lines"},
    {"time-scale", OPTION_DOUBLE, BENCH_FIELD(time_scale), "X", NULL, 0.001, 1000, false,
     "play the trace so many times faster (1)"},
    {"requests", OPTION_INT, BENCH_FIELD(requests), "N", NULL, 1, 1e9, false,
     "end after so many requests (200, or no limit with --duration)"},
    {"duration", OPTION_DOUBLE, BENCH_FIELD(duration), "S", NULL, 0.1, 1e6, false,
     "start no request after so many seconds"},
    {"warm-up", OPTION_TEXT, BENCH_FIELD(warm_up), "S", NULL, 0, 0, false,
     "seconds that do not count; auto: found by MSER-5 (auto)"},
    {"prompt-tokens", OPTION_TEXT, BENCH_FIELD(prompt_tokens), "N", NULL, 0, 0, false,
     "512, 128..1024, normal:MEAN:DEVIATION or lognormal:MEDIAN:SIGMA (128)"},
    {"output-tokens", OPTION_TEXT, BENCH_FIELD(output_tokens), "N", NULL, 0, 0, false, "the same for answers (64)"},
    {"prefix-tokens", OPTION_INT, BENCH_FIELD(prefix_tokens), "N", NULL, 1, 1 << 20, false,
     "of each prompt, shared by its group"},
    {"prefixes", OPTION_INT, BENCH_FIELD(prefixes), "N", NULL, 1, 1 << 20, false,
     "groups of prompts that begin alike (1)"},
    {"turns", OPTION_INT, BENCH_FIELD(turns), "N", NULL, 1, 64, false,
     "of a conversation, each with all before it (1)"},
    {"think", OPTION_DOUBLE, BENCH_FIELD(think), "S", NULL, 0, 3600, false,
     "pause between the turns of a conversation or user (0)"},
    {"endpoint", OPTION_CHOICE, BENCH_FIELD(endpoint), NULL, "chat|completions", 0, 0, false, "of the API (chat)"},
    {"no-stream", OPTION_FLAG, BENCH_FIELD(no_stream), NULL, NULL, 0, 0, false, "ask for whole answers"},
    {"no-ignore-eos", OPTION_FLAG, BENCH_FIELD(no_ignore_eos), NULL, NULL, 0, 0, false,
     "let answers end where the model ends them, and send no field \"ignore_eos\""},
    {"extra", OPTION_TEXT, BENCH_FIELD(extra), "JSON", NULL, 0, 0, false,
     "an object whose members are added to every request"},
    {"slow-reader", OPTION_TEXT, BENCH_FIELD(slow), "P%", NULL, 0, 0, false,
     "share of the answers that are read slowly (0 %)"},
    {"slo", OPTION_TEXT, BENCH_FIELD(slo), "LIST", NULL, 0, 0, false,
     "objectives of a request: ttft=200ms,itl=50ms,e2e=5s"},
    {"model", OPTION_TEXT, BENCH_FIELD(model), "NAME", NULL, 0, 0, false, "(the first that the server lists)"},
    {"api-key", OPTION_TEXT, BENCH_FIELD(api_key), "KEY", NULL, 0, 0, false, "sent as a bearer token"},
    {"timeout", OPTION_DOUBLE, BENCH_FIELD(timeout), "S", NULL, 0.01, 86400, false, "of a request (600)"},
    {"seed", OPTION_INT, BENCH_FIELD(seed), "N", NULL, 0, 9e15, false, "the same seed sends the same requests (0)"},
    {"quiet", OPTION_FLAG, BENCH_FIELD(quiet), NULL, NULL, 0, 0, false, "no line of progress"},
};
enum { N_LOAD_ROWS = sizeof load_rows / sizeof *load_rows };

struct option_table benching_table(const char *usage, const char *summary, const struct option_row *own, size_t n_own,
                                   int n_positional_max, struct option_row *rows) {
    assert(n_own + N_LOAD_ROWS <= BENCH_ROWS_MAX);
    if (n_own) memcpy(rows, own, n_own * sizeof *rows);
    memcpy(rows + n_own, load_rows, sizeof load_rows);
    return (struct option_table){usage, summary, rows, n_own + N_LOAD_ROWS, n_positional_max};
}

static bool is_any(const char *name, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

// Members "users": 8, ...: what was given or has a default. `names`: these alone; NULL: all but keys and files.
static void append_options(const struct benching *bench, const char *const *names, size_t n_names, struct str *out) {
    static const char *const left_out[] = {"api-key", "json", "csv", "html", "quiet", "explain"};
    for (size_t i = 0; i < bench->table->n_rows; i++) {
        const struct option_row *row = &bench->table->rows[i];
        const void *field = (const char *)bench->options + row->offset;
        if (names ? !is_any(row->name, names, n_names)
                  : is_any(row->name, left_out, sizeof left_out / sizeof *left_out))
            continue;
        const char *text = row->kind == OPTION_TEXT || row->kind == OPTION_CHOICE ? *(const char *const *)field : NULL;
        const double number = row->kind == OPTION_INT      ? (double)*(const int64_t *)field
                              : row->kind == OPTION_DOUBLE ? *(const double *)field
                              : row->kind == OPTION_FLAG   ? (double)*(const bool *)field
                                                           : 0;
        if (!text && number == 0) continue;
        if (text)
            json_write_text(out, row->name, text);
        else
            json_write_number(out, row->name, number);
    }
}

void benching_command(const char *command, int argc, char **argv, struct str *out) {
    str_append_text(out, command);
    for (int i = 0; i < argc; i++) {
        const char *argument = argv[i];
        if (strncmp(argument, "--api-key=", 10) == 0) argument = "--api-key=KEY";
        if (i && strcmp(argv[i - 1], "--api-key") == 0) argument = "KEY";
        const bool plain = *argument && !argument[strcspn(argument, " \t\n\"'\\$`!*?[](){}<>|&;#~")];
        str_append_text(out, plain ? " " : " '");
        for (const char *c = argument; *c; c++) {
            if (*c == '\'')
                str_append_text(out, "'\\''");
            else
                str_append_char(out, *c);
        }
        if (!plain) str_append_char(out, '\'');
    }
}

// ----------------------------------------------------------------------------------------------------------- options

// "200ms" or "1.5s".
static bool read_time(const char **at, double *seconds) {
    char *end;
    const double value = strtod(*at, &end);
    const double unit = strncmp(end, "ms", 2) == 0 ? 1e-3 : *end == 's' ? 1 : 0;
    if (end == *at || !(value > 0) || unit == 0) return false;
    *seconds = value * unit;
    *at = end + (unit < 1 ? 2 : 1);
    return true;
}

int benching_objectives(struct objectives *out, const char *list, struct err *err) {
    const struct {
        const char *name;
        double *to;
    } known[] = {{"ttft=", &out->ttft}, {"itl=", &out->itl}, {"e2e=", &out->e2e}};
    for (const char *at = list; *at;) {
        bool good = false;
        for (size_t i = 0; i < sizeof known / sizeof *known && !good; i++) {
            const size_t n = strlen(known[i].name);
            if (strncmp(at, known[i].name, n) != 0) continue;
            at += n;
            good = read_time(&at, known[i].to);
        }
        if (*at == ',' && at[1])
            at++;
        else if (*at)
            good = false;
        if (!good) return err_set(err, ERR_INVALID, "--slo \"%s\" is not like ttft=200ms,itl=50ms,e2e=5s", list);
    }
    return 0;
}

static int read_share(double *out, const char *text, struct err *err) {
    char *end;
    *out = strtod(text, &end) / 100;
    if (end != text && (!*end || strcmp(end, "%") == 0) && *out >= 0 && *out <= 1) return 0;
    return err_set(err, ERR_INVALID, "--slow-reader \"%s\" is no share such as 5%%", text);
}

static int read_extra(const char *extra, struct err *err) {
    if (!extra) return 0;
    cJSON *tree = NULL;
    const struct json_limits limits = JSON_LIMITS_CLIENT;
    int rc = json_parse(&tree, extra, strlen(extra), &limits, err);
    if (!rc && !cJSON_IsObject(tree)) rc = err_set(err, ERR_INVALID, "not a JSON object");
    cJSON_Delete(tree);
    return rc ? err_prefix(err, "--extra") : 0;
}

static int read_warm_up(struct benching *bench, struct err *err) {
    const char *text = bench->options->warm_up;
    char *end;
    bench->warm_up_s = -1;
    if (!text || strcmp(text, "auto") == 0) return 0;
    bench->warm_up_s = strtod(text, &end);
    if (end != text && !*end && bench->warm_up_s >= 0) return 0;
    return err_set(err, ERR_INVALID, "--warm-up \"%s\" is no number of seconds", text);
}

static int read_load(struct benching *bench, struct err *err) {
    const struct bench_options *o = bench->options;
    struct load_options *load = &bench->load;
    if (o->users && o->rate) return err_set(err, ERR_INVALID, "--users and --rate exclude each other");
    const bool by_trace = bench->trace.is_timed && !o->users && !o->rate;
    load->n_users = o->users || o->rate || by_trace ? o->users : 8;
    load->n_requests = o->requests ? o->requests : o->duration > 0 || by_trace ? 0 : 200;
    load->duration_s = o->duration;
    load->think_s = o->think;
    load->timeout_s = o->timeout;
    load->time_scale = o->time_scale;
    load->api_key = o->api_key;
    load->workload = &bench->workload;
    load->stops_on_signal = true;
    if (!o->rate) return 0;
    load->arrival = &bench->arrival;
    return arrival_parse(&bench->arrival, o->rate, o->duration, o->burstiness, o->constant, (uint64_t)o->seed, err);
}

static int read_workload(struct benching *bench, struct err *err) {
    const struct bench_options *o = bench->options;
    struct workload_options *w = &bench->workload.options;
    if (o->prefixes && !o->prefix_tokens) return err_set(err, ERR_INVALID, "--prefixes needs --prefix-tokens");
    if (o->turns > 1 && strcmp(o->endpoint, "chat") != 0)
        return err_set(err, ERR_INVALID, "--turns needs the endpoint chat");
    *w = (struct workload_options){.model = o->model,
                                   .endpoint = strcmp(o->endpoint, "chat") == 0 ? ENDPOINT_CHAT : ENDPOINT_COMPLETIONS,
                                   .stream = !o->no_stream,
                                   .ignore_eos = !o->no_ignore_eos,
                                   .prefix_tokens = o->prefix_tokens,
                                   .n_prefixes = o->prefix_tokens ? (o->prefixes ? o->prefixes : 1) : 0,
                                   .n_turns = o->turns,
                                   .trace = o->trace ? &bench->trace : NULL,
                                   .extra = o->extra,
                                   .seed = (uint64_t)o->seed};
    int rc = amount_parse(&w->prompt_tokens, o->prompt_tokens, err);
    if (!rc) rc = amount_parse(&w->output_tokens, o->output_tokens, err);
    if (!rc) rc = read_extra(o->extra, err);
    return rc;
}

static int read_all(struct benching *bench, const char *url, struct err *err) {
    const struct bench_options *o = bench->options;
    int rc = url_parse(&bench->load.url, url, err);
    if (!rc && o->trace) rc = trace_open(&bench->trace, o->trace, err);
    if (!rc) rc = read_workload(bench, err);
    if (!rc) rc = read_load(bench, err);
    if (!rc) rc = read_warm_up(bench, err);
    if (!rc && o->slo) rc = benching_objectives(&bench->objectives, o->slo, err);
    if (!rc && o->slow) rc = read_share(&bench->load.slow_share, o->slow, err);
    return rc;
}

// --------------------------------------------------------------------------------------------------------------- run

static void on_progress(void *context, const struct load_progress *p) {
    const struct benching *bench = context;
    const double total = bench->load.n_requests ? (double)bench->load.n_requests : 0;
    char left[48] = "";
    if (bench->load.duration_s > 0)
        snprintf(left, sizeof left, ", %.0f s left",
                 bench->load.duration_s > p->at_s ? bench->load.duration_s - p->at_s : 0);
    else if (total > 0 && p->n_ended)
        snprintf(left, sizeof left, ", %.0f s left", p->at_s * (total - (double)p->n_ended) / (double)p->n_ended);
    char ttft[48] = "";
    if (isfinite(p->ttft_s)) snprintf(ttft, sizeof ttft, ", TTFT %.3g ms", p->ttft_s * 1e3);
    fprintf(stderr, "\r\033[K%.0f s: %llu started, %llu in flight, %llu failed, %.1f requests/s, %.0f tokens/s%s%s",
            p->at_s, (unsigned long long)p->n_started, (unsigned long long)p->n_in_flight,
            (unsigned long long)p->n_failed, (double)p->n_ended / p->at_s, (double)p->n_tokens / p->at_s, ttft, left);
}

int benching_open(struct benching *out, const struct bench_options *options, const struct option_table *table,
                  const char *url, struct err *err) {
    *out = (struct benching){.options = options, .table = table, .counts_tokens = true};
    out->load.context = out;
    if (!options->quiet && isatty(STDERR_FILENO)) out->load.on_progress = on_progress;
    return read_all(out, url, err);
}

static struct probe_target target_of(const struct benching *bench) {
    return (struct probe_target){&bench->load.url, bench->options->api_key, bench->options->timeout};
}

int benching_probe(struct benching *bench, struct err *err) {
    const struct probe_target target = target_of(bench);
    int rc = 0;
    if (!bench->workload.options.model) {
        rc = probe_model(&bench->model, &target, err);
        bench->workload.options.model = str_text(&bench->model);
    }
    if (!rc) rc = probe_tokens(&bench->workload, &target, &bench->counts_tokens, err);
    if (!rc && !bench->counts_tokens) fputs("The server tells no usage: prompts are measured in words.\n", stderr);
    return rc;
}

void benching_describe(const struct benching *bench, const char *name, struct measurement *out) {
    static const char *const of_requests[] = {"seed",     "prompt-tokens", "output-tokens", "trace", "prefix-tokens",
                                              "prefixes", "turns",         "endpoint",      "extra", "no-ignore-eos"};
    const struct url *url = &bench->load.url;
    const struct load_options *load = &bench->load;
    out->objectives = bench->objectives;
    out->rate = load->arrival ? load->arrival->last_rate : 0;
    out->n_users = load->n_users;
    if (name)
        str_append_text(&out->name, name);
    else if (load->n_users)
        str_printf(&out->name, "%lld user%s", (long long)load->n_users, load->n_users == 1 ? "" : "s");
    else
        str_printf(&out->name, "%s%s", bench->options->rate ? bench->options->rate : "trace",
                   bench->options->rate ? " requests/s" : "");
    str_printf(&out->url, "http://%s:%s%s", url->host, url->port, url->prefix);
    str_append_text(&out->model, bench->workload.options.model);
    json_write_begin(&out->settings, NULL, '{');
    append_options(bench, NULL, 0, &out->settings);
    json_write_end(&out->settings, '}');
    json_write_close(&out->settings);
    json_write_begin(&out->workload, NULL, '{');
    append_options(bench, of_requests, sizeof of_requests / sizeof *of_requests, &out->workload);
    // Texts depend on how many tokens a word takes.
    json_write_number(&out->workload, "tokens_per_word", bench->workload.tokens_per_word);
    json_write_number(&out->workload, "frame_tokens", bench->workload.frame_tokens);
    json_write_end(&out->workload, '}');
    json_write_close(&out->workload);
}

int benching_measure(struct benching *bench, const char *name, struct measurement *out, struct err *err) {
    const struct probe_target target = target_of(bench);
    struct server_sample before, after;
    *out = (struct measurement){0};
    benching_describe(bench, name, out);
    server_sample_read(&before, &target);
    int rc = load_run(&out->run, &bench->load, err);
    if (bench->load.on_progress) fputs("\r\033[K", stderr);
    if (!rc) {
        server_sample_read(&after, &target);
        server_numbers_make(&out->server, &before, &after, &out->run);
        server_headline_read(&out->server.headline, &target);
        server_sample_close(&after);
        summary_make(&out->summary, &out->run, &bench->objectives, bench->load.n_users == 0, bench->warm_up_s);
    }
    server_sample_close(&before);
    return rc;
}

void benching_close(struct benching *bench) {
    trace_close(&bench->trace);
    str_close(&bench->model);
}
