#include "bench/table.h"

#include <math.h>

static void print_ms(FILE *out, double seconds) {
    const double ms = seconds * 1e3;
    if (!isfinite(ms))
        fprintf(out, "%8s", "-");
    else
        fprintf(out, "%8.*f", ms < 1 ? 3 : ms < 10 ? 2 : ms < 1000 ? 1 : 0, ms);
}

static void print_rate(FILE *out, const char *title, const struct interval *rate, const char *unit) {
    fprintf(out, "%-24s%12.*f %s", title, rate->mean < 100 ? 2 : 0, rate->mean, unit);
    if (isfinite(rate->low))
        fprintf(out, "   (95 %%: %.*f to %.*f)", rate->mean < 100 ? 2 : 0, rate->low, rate->mean < 100 ? 2 : 0,
                rate->high);
    fputc('\n', out);
}

static void print_bounds(FILE *out, const char *title, const struct latency_summary *l, bool high) {
    fprintf(out, "%22s", title);
    print_ms(out, high ? l->mean.high : l->mean.low);
    for (int p = 0; p < PERCENTILES; p++) print_ms(out, high ? l->percentile[p].high : l->percentile[p].low);
    fputc('\n', out);
}

static void print_latencies(FILE *out, const struct summary *s) {
    fprintf(out, "\n%-22s%8s%8s%8s%8s%8s%8s%8s\n", "milliseconds", "mean", "p50", "p90", "p95", "p99", "p99.9",
            "largest");
    for (int l = 0; l < LATENCIES; l++) {
        const struct latency_summary *latency = &s->latency[l];
        if (!latency->n) continue;
        fprintf(out, "%-22s", latency_title((enum latency)l));
        print_ms(out, latency->mean.mean);
        for (int p = 0; p < PERCENTILES; p++) print_ms(out, latency->percentile[p].mean);
        print_ms(out, latency->largest);
        fputc('\n', out);
        if (l == LATENCY_DISPATCH || !isfinite(latency->mean.low)) continue;
        print_bounds(out, "95 % from", latency, false);
        print_bounds(out, "to", latency, true);
    }
}

void table_print_server(FILE *out, const struct server_numbers *numbers) {
    if (numbers->n) fprintf(out, "\n%-30s%14s%14s%14s\n", "the server's own numbers", "server", "client", "apart");
    for (int i = 0; i < numbers->n; i++) {
        const struct server_number *n = &numbers->numbers[i];
        const double apart = server_number_disagreement(n);
        char title[48];
        snprintf(title, sizeof title, "%s%s%s", n->title, *n->unit ? ", " : "", n->unit);
        const int digits = *n->unit ? 2 : 0;
        fprintf(out, "%-30s%14.*f", title, digits, n->server);
        if (isfinite(n->client)) fprintf(out, "%14.*f", digits, n->client);
        if (isfinite(apart)) fprintf(out, "%12.1f %%", apart * 100);
        fputc('\n', out);
    }
    if (numbers->headline.n_bytes) fprintf(out, "\nits advisor: %s\n", str_text(&numbers->headline));
}

static void print_lines(FILE *out, const char *title, const struct str *lines) {
    for (const char *line = str_text(lines), *end; *line; line = end) {
        end = line;
        while (*end && *end != '\n') end++;
        fprintf(out, "%s%.*s\n", title, (int)(end - line), line);
        if (*end) end++;
    }
}

void table_print(FILE *out, const struct summary *s, const struct run_record *run) {
    fprintf(out, "requests                %12zu completed of %zu due from %.1f s to %.1f s (%zu in all)\n",
            s->n_by_outcome[OUTCOME_OK], s->n_requests, s->from_s, s->to_s, run->requests.count);
    for (int o = OUTCOME_OK + 1; o < OUTCOMES; o++)
        if (s->n_by_outcome[o])
            fprintf(out, "  %-22s%12zu   %s\n", outcome_name((enum outcome)o), s->n_by_outcome[o], run->examples[o]);
    if (s->n_slow) fprintf(out, "  %-22s%12zu   left out of latencies\n", "read slowly", s->n_slow);
    fprintf(out, "%-24s%12.1f on average\n", "in flight", s->in_flight);
    if (s->n_by_outcome[OUTCOME_OK])
        fprintf(out, "%-24s%12.1f in (%.1f cached), %.1f out, on average\n", "tokens a request",
                isnan(s->mean_prompt) ? 0 : s->mean_prompt, isnan(s->mean_cached) ? 0 : s->mean_cached, s->mean_output);
    print_rate(out, "requests/s", &s->request_rate, "");
    print_rate(out, "output tokens/s", &s->output_rate, "");
    print_rate(out, "input tokens/s", &s->input_rate, "");
    if (s->has_objectives)
        fprintf(out, "%-24s%12.1f %% of requests within the objectives (95 %%: %.1f to %.1f)\n", "goodput",
                s->goodput.mean * 100, s->goodput.low * 100, s->goodput.high * 100);
    print_latencies(out, s);
    fputc('\n', out);
    print_lines(out, "note: ", &s->notes);
    print_lines(out, "INVALID: ", &s->invalid);
}
