#include "bench/ab.h"
#include "base/json_write.h"
#include "bench/latency.h"
#include "bench/measurement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOST_MAX = 3 }; // pairs in which nothing could be compared, before it ends
static const double ALPHA = 0.05;

static const struct metric {
    const char *name, *title, *unit;
    double factor; // from seconds or tokens/s to the unit
    bool higher_is_better;
} metrics[AB_METRICS] = {{"e2e", "E2E mean", "ms", 1e3, false},
                         {"ttft", "TTFT mean", "ms", 1e3, false},
                         {"tpot", "TPOT mean", "ms", 1e3, false},
                         {"tokens", "output tokens", "/s", 1, true}};

int ab_metric_find(const char *name) {
    for (int m = 0; m < AB_METRICS; m++)
        if (strcmp(metrics[m].name, name) == 0) return m;
    return -1;
}

void ab_block_make(struct ab_block *out, const struct run_record *run) {
    static const enum latency kinds[] = {[AB_E2E] = LATENCY_E2E, [AB_TTFT] = LATENCY_TTFT, [AB_TPOT] = LATENCY_TPOT};
    double sum[AB_METRICS] = {0}, n[AB_METRICS] = {0};
    *out = (struct ab_block){.n_requests = run->requests.count};
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        double seconds;
        out->n_failed += r->outcome != OUTCOME_OK;
        if (!request_counts(r)) continue;
        for (int m = 0; m < AB_TOKENS; m++)
            if (request_latency(r, kinds[m], &seconds)) sum[m] += seconds, n[m]++;
        sum[AB_TOKENS] += (double)request_tokens(r);
    }
    n[AB_TOKENS] = (double)run->duration_ns / 1e9;
    for (int m = 0; m < AB_METRICS; m++) out->value[m] = n[m] > 0 && sum[m] > 0 ? sum[m] / n[m] : NAN;
}

static double log_ratio(const struct ab_pair *pair, int metric) {
    return log(pair->b.value[metric] / pair->a.value[metric]);
}

// A change's bounds lie within what does not matter, or beyond 0 on one side.
static void decide(struct ab *ab) {
    const struct interval x = ab->path.items[ab->path.count - 1];
    const double most = log1p(ab->least);
    if (x.low > 0 || x.high < 0)
        ab->verdict = (x.low > 0) == metrics[ab->metric].higher_is_better ? AB_BETTER : AB_WORSE;
    // A change may be certain and still too small to matter.
    if (x.low > -most && x.high < most) ab->verdict = AB_NO_DIFFERENCE;
    ab->done = ab->verdict != AB_UNDECIDED || ab->pairs.count >= ab->pairs_max;
}

void ab_add(struct ab *ab, const struct ab_block *a, const struct ab_block *b) {
    const struct ab_pair pair = {*a, *b};
    const double ratio = log_ratio(&pair, (int)ab->metric);
    if (!isfinite(ratio)) {
        ab->n_lost++;
        if (ab->n_lost >= LOST_MAX && ab->n_lost > ab->pairs.count) ab->verdict = AB_FAILING, ab->done = true;
        return;
    }
    vec_push(&ab->pairs, pair);
    vec_push(&ab->log_ratios, ratio);
    vec_push(&ab->path, statistics_sequence(ab->log_ratios.items, ab->log_ratios.count, ALPHA));
    decide(ab);
}

double ab_regression(const struct ab *ab) {
    const size_t n = ab->log_ratios.count;
    const double sign = metrics[ab->metric].higher_is_better ? -1 : 1;
    double mean = 0, squares = 0;
    if (n < 3) return NAN;
    for (size_t i = 0; i < n; i++) mean += ab->log_ratios.items[i] / (double)n;
    for (size_t i = 0; i < n; i++) squares += pow(ab->log_ratios.items[i] - mean, 2);
    const double error = sqrt(squares / (double)(n - 1) / (double)n), apart = sign * mean - log1p(ab->least);
    if (error == 0) return apart > 0;
    return statistics_student_above(-apart / error, (double)(n - 1));
}

// ------------------------------------------------------------------------------------------------------------- forms

struct estimate {
    double a, b; // means over blocks
    struct interval change;
    const char *verdict;
};

static struct interval change_of(struct interval log_ratio) {
    return (struct interval){expm1(log_ratio.mean), expm1(log_ratio.low), expm1(log_ratio.high)};
}

static struct estimate estimate_of(const struct ab *ab, int m) {
    struct estimate out = {0, 0, {NAN, NAN, NAN}, "no difference shown"};
    double *ratios = mem_alloc((ab->pairs.count + 1) * sizeof *ratios), n = 0;
    for (size_t i = 0; i < ab->pairs.count; i++) {
        const struct ab_pair *pair = &ab->pairs.items[i];
        if (!isfinite(log_ratio(pair, m))) continue;
        out.a += pair->a.value[m] * metrics[m].factor, out.b += pair->b.value[m] * metrics[m].factor;
        ratios[(size_t)n++] = log_ratio(pair, m);
    }
    const struct interval x = statistics_mean_independent(ratios, (size_t)n);
    out.a /= n, out.b /= n;
    out.change = change_of(x);
    if (isfinite(x.low) && (x.low > 0 || x.high < 0))
        out.verdict = (x.low > 0) == metrics[m].higher_is_better ? "B is better" : "B is worse";
    free(ratios);
    return out;
}

static void append_verdict(const struct ab *ab, struct str *out) {
    const size_t n = ab->pairs.count;
    const struct estimate e = estimate_of(ab, (int)ab->metric);
    const char *title = metrics[ab->metric].title;
    if (ab->verdict == AB_FAILING)
        str_printf(out, "Nothing to compare: %zu pairs without an answer of both", ab->n_lost);
    else if (ab->verdict == AB_NO_DIFFERENCE)
        str_printf(out, "No practical difference: %s differs by less than %.3g %%", title, ab->least * 100);
    else if (ab->verdict == AB_UNDECIDED)
        str_printf(out, "No difference shown in %zu pairs", n);
    else
        str_printf(out, "B is %s: %s %+.1f %%", ab->verdict == AB_BETTER ? "better" : "worse", title,
                   e.change.mean * 100);
}

static void append_reason(const struct ab *ab, struct str *out) {
    const size_t n = ab->pairs.count;
    size_t n_failed[2] = {0}, n_requests[2] = {0};
    for (size_t i = 0; i < n; i++) {
        n_failed[0] += ab->pairs.items[i].a.n_failed, n_requests[0] += ab->pairs.items[i].a.n_requests;
        n_failed[1] += ab->pairs.items[i].b.n_failed, n_requests[1] += ab->pairs.items[i].b.n_requests;
    }
    if (n && isfinite(ab->path.items[n - 1].low))
        str_printf(out, "After %zu pairs the change lies within %+.1f and %+.1f %%, at every look with 95 %%. ", n,
                   expm1(ab->path.items[n - 1].low) * 100, expm1(ab->path.items[n - 1].high) * 100);
    if (n > 2)
        str_printf(out, "B is worse by more than %.3g %% with probability %.3f. ", ab->least * 100, ab_regression(ab));
    if (n_failed[0] + n_failed[1])
        str_printf(out, "Failed: %zu of %zu requests to A, %zu of %zu to B. ", n_failed[0], n_requests[0], n_failed[1],
                   n_requests[1]);
}

void ab_print(FILE *out, const struct ab *ab) {
    struct str text = STR_INIT;
    fprintf(out, "\n%-18s%11s%11s     %9s%20s\n", "means of blocks", "A", "B", "change %", "95 %");
    for (int m = 0; m < AB_METRICS; m++) {
        const struct estimate e = estimate_of(ab, m);
        if (!isfinite(e.a)) continue;
        fprintf(out, "%-18s%11.4g%11.4g %-4s%+9.1f%+9.1f%+9.1f   %s\n", metrics[m].title, e.a, e.b, metrics[m].unit,
                e.change.mean * 100, e.change.low * 100, e.change.high * 100, e.verdict);
    }
    append_verdict(ab, &text);
    str_append_text(&text, ".\n");
    append_reason(ab, &text);
    fprintf(out, "\n%s\n", str_text(&text));
    str_close(&text);
}

static void append_text(struct str *out, const char *name, void (*append)(const struct ab *, struct str *),
                        const struct ab *ab) {
    struct str text = STR_INIT;
    append(ab, &text);
    json_write_text(out, name, str_text(&text));
    str_close(&text);
}

static void append_row(const struct ab *ab, int m, struct str *out) {
    const struct estimate e = estimate_of(ab, m);
    if (!isfinite(e.a)) return;
    json_write_begin(out, NULL, '{');
    json_write_text(out, "name", metrics[m].title);
    json_write_text(out, "unit", metrics[m].unit);
    json_write_number(out, "a", e.a);
    json_write_number(out, "b", e.b);
    measurement_write_interval(out, "change", &e.change, 1);
    json_write_text(out, "verdict", e.verdict);
    json_write_end(out, '}');
}

void ab_json(const struct ab *ab, struct str *out) {
    json_write_begin(out, "ab", '{');
    append_text(out, "verdict", append_verdict, ab);
    append_text(out, "text", append_reason, ab);
    json_write_text(out, "metric", metrics[ab->metric].title);
    json_write_number(out, "least", ab->least);
    json_write_number(out, "regression", ab_regression(ab));
    json_write_begin(out, "ratios", '[');
    for (size_t i = 0; i < ab->log_ratios.count; i++) json_write_number(out, NULL, expm1(ab->log_ratios.items[i]));
    json_write_end(out, ']');
    json_write_begin(out, "path", '[');
    for (size_t i = 0; i < ab->path.count; i++) {
        const struct interval change = change_of(ab->path.items[i]);
        measurement_write_interval(out, NULL, &change, 1);
    }
    json_write_end(out, ']');
    json_write_begin(out, "rows", '[');
    for (int m = 0; m < AB_METRICS; m++) append_row(ab, m, out);
    json_write_end(out, ']');
    json_write_end(out, '}');
}

void ab_close(struct ab *ab) {
    vec_free(&ab->pairs);
    vec_free(&ab->log_ratios);
    vec_free(&ab->path);
}
