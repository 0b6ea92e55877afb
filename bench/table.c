#include "bench/table.h"

#include <math.h>

static void print_ms(FILE *out, double seconds) {
    const double ms = seconds * 1e3;
    if (isnan(ms))
        fprintf(out, "%10s", "-");
    else
        fprintf(out, "%10.*f", ms < 1 ? 3 : ms < 100 ? 2 : ms < 10000 ? 1 : 0, ms);
}

static void print_rate(FILE *out, const char *title, const struct interval *rate, const char *unit) {
    fprintf(out, "%-24s%12.*f %s", title, rate->mean < 100 ? 2 : 0, rate->mean, unit);
    if (isfinite(rate->low))
        fprintf(out, "   (95 %%: %.*f to %.*f)", rate->mean < 100 ? 2 : 0, rate->low, rate->mean < 100 ? 2 : 0,
                rate->high);
    fputc('\n', out);
}

static void print_latencies(FILE *out, const struct summary *s) {
    fprintf(out, "\n%-24s%10s%10s%10s%10s%10s%10s%10s\n", "milliseconds", "mean", "p50", "p90", "p95", "p99", "p99.9",
            "largest");
    for (int l = 0; l < LATENCIES; l++) {
        const struct latency_summary *latency = &s->latency[l];
        if (!latency->n) continue;
        fprintf(out, "%-24s", latency_title((enum latency)l));
        print_ms(out, latency->mean.mean);
        for (int p = 0; p < PERCENTILES; p++) print_ms(out, latency->percentile[p].mean);
        print_ms(out, latency->largest);
        fputc('\n', out);
    }
    fprintf(out, "%-24s", "95 % of p99's place");
    const struct interval *ttft = &s->latency[LATENCY_TTFT].percentile[3];
    if (s->latency[LATENCY_TTFT].n && !isnan(ttft->mean)) {
        fprintf(out, "TTFT ");
        print_ms(out, ttft->low);
        fprintf(out, " to");
        if (isfinite(ttft->high))
            print_ms(out, ttft->high);
        else
            fprintf(out, " beyond the largest");
    } else {
        fprintf(out, "too few requests");
    }
    fputc('\n', out);
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
    fprintf(out, "%-24s%12.1f in (%.1f cached), %.1f out, on average\n", "tokens a request", s->mean_prompt,
            isnan(s->mean_cached) ? 0 : s->mean_cached, s->mean_output);
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
