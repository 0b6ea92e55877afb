#include "bench/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const double percentile_of[PERCENTILES] = {50, 90, 95, 99, 99.9};
// A percentile is not printed from fewer values: at least five are expected beyond it.
static const size_t percentile_least[PERCENTILES] = {10, 50, 100, 500, 10000};
static const double NS = 1e9;
// Rules of hygiene.
static const double CLIENT_SHARE_MAX = 0.8, RATE_SHARE_MIN = 0.98, DISPATCH_P99_MAX_S = 0.01;

typedef VEC_OF(double) values;

static void add_gaps(const struct run_record *run, const struct request_record *r, values *out) {
    struct token_gap gap;
    for (uint32_t i = 0; i + 1 < r->n_events; i++) {
        request_gap(run, r, i, &gap);
        for (size_t k = 0; k < gap.n_tokens; k++) vec_push(out, gap.seconds);
    }
}

// Bounds of the percentiles that the sample supports: by order statistics of as many values as the sample is worth, or
// by drawing blocks anew, whichever is wider. Slow changes escape the first, few values beyond a percentile the second.
static void find_percentiles(struct latency_summary *out, const double *in_order, const double *sorted) {
    enum { DRAWS = 400 };
    double q[PERCENTILES], *draws = mem_alloc(DRAWS * (1 + PERCENTILES) * sizeof *draws), column[DRAWS];
    for (int p = 0; p < PERCENTILES; p++) q[p] = percentile_of[p] / 100;
    const bool drawn = statistics_bootstrap(in_order, out->n, q, PERCENTILES, DRAWS, out->n, draws);
    for (int p = 0; p < PERCENTILES; p++) {
        struct interval *x = &out->percentile[p];
        *x = (struct interval){NAN, NAN, NAN};
        if (out->n < percentile_least[p]) continue;
        *x = statistics_quantile_interval(sorted, out->n, out->n_effective, q[p]);
        if (!drawn) continue;
        for (size_t d = 0; d < DRAWS; d++) column[d] = draws[d * (1 + PERCENTILES) + 1 + (size_t)p];
        x->low = fmin(x->low, statistics_quantile(column, DRAWS, 0.025));
        x->high = fmax(x->high, statistics_quantile_sorted(column, DRAWS, 0.975));
    }
    free(draws);
}

static void summarise(struct latency_summary *out, const values *sample) {
    const size_t n = out->n = sample->count;
    if (!n) return;
    out->mean = statistics_mean(sample->items, n);
    out->n_effective = statistics_effective_count(sample->items, n);
    out->band = sqrt(log(2 / 0.05) / (2 * out->n_effective));
    double *sorted = mem_alloc(n * sizeof *sorted);
    memcpy(sorted, sample->items, n * sizeof *sorted);
    statistics_sort(sorted, n);
    out->largest = sorted[n - 1];
    for (int i = 0; i < CURVE_POINTS; i++)
        out->curve[i] = statistics_quantile_sorted(sorted, n, i / (double)(CURVE_POINTS - 1));
    find_percentiles(out, sample->items, sorted);
    free(sorted);
}

static void find_latencies(struct summary *out, const struct run_record *run, const struct request_record *sorted) {
    values sample = {0};
    for (int l = 0; l < LATENCIES; l++) {
        sample.count = 0;
        for (size_t i = 0; i < run->requests.count; i++) {
            const struct request_record *r = &sorted[i];
            double value;
            if (!request_is_due(r, out->from_s, out->to_s)) continue;
            if (l == LATENCY_ITL && request_counts(r)) add_gaps(run, r, &sample);
            // Lag is the client's: requests that fail lag as well.
            if ((l == LATENCY_DISPATCH || request_counts(r)) && request_latency(r, (enum latency)l, &value))
                vec_push(&sample, value);
        }
        summarise(&out->latency[l], &sample);
    }
    vec_free(&sample);
}

// --------------------------------------------------------------------------------------------------------- the window

static int by_schedule(const void *a, const void *b) {
    const struct request_record *x = a, *y = b;
    return x->scheduled_ns < y->scheduled_ns ? -1 : x->scheduled_ns > y->scheduled_ns;
}

// The steady part: after the warm-up and, when requests were cut off by the end, before it.
static void find_window(struct summary *out, const struct run_record *run, const struct request_record *sorted,
                        double warm_up_s) {
    const size_t n = run->requests.count;
    out->to_s = (double)run->offered_ns / NS;
    out->from_s = warm_up_s > 0 ? warm_up_s : 0;
    if (warm_up_s >= 0) return;
    values e2e = {0}, due = {0};
    for (size_t i = 0; i < n; i++)
        if (request_counts(&sorted[i])) {
            vec_push(&e2e, (double)(sorted[i].ended_ns - sorted[i].scheduled_ns));
            vec_push(&due, (double)sorted[i].scheduled_ns / NS);
        }
    const size_t cut = statistics_warm_up(e2e.items, e2e.count);
    if (cut) out->from_s = due.items[cut];
    vec_free(&e2e);
    vec_free(&due);
}

enum { RATE_REQUESTS, RATE_OUTPUT, RATE_INPUT, RATES, RATE_PARTS = 160 }; // twenty blocks of eight parts

// What a request brings is spread over the time that it takes.
static void add_amounts(double parts[RATES][RATE_PARTS], const struct request_record *r, double from_s, double width) {
    const double begin = ((double)r->started_ns / NS - from_s) / width,
                 end = ((double)r->ended_ns / NS - from_s) / width;
    const double amounts[RATES] = {1, (double)request_tokens(r), r->n_prompt > 0 ? (double)r->n_prompt : 0};
    if (end < 0 || begin >= RATE_PARTS) return;
    const int first = (int)fmax(begin, 0), last = (int)fmin(end, RATE_PARTS - 1);
    for (int p = first; p <= last; p++) {
        const double share = end > begin ? (fmin(end, p + 1) - fmax(begin, p)) / (end - begin) : 1;
        for (int what = 0; what < RATES; what++) parts[what][p] += amounts[what] * share / width;
    }
}

static void find_rates(struct summary *out, const struct run_record *run) {
    double parts[RATES][RATE_PARTS] = {0}, busy = 0;
    const double window = out->to_s - out->from_s;
    size_t n_due = 0;
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        n_due += request_is_due(r, out->from_s, out->to_s);
        busy += fmax(0, fmin((double)r->ended_ns / NS, out->to_s) - fmax((double)r->started_ns / NS, out->from_s));
        if (r->outcome == OUTCOME_OK && window > 0) add_amounts(parts, r, out->from_s, window / RATE_PARTS);
    }
    struct interval *const rates[RATES] = {&out->request_rate, &out->output_rate, &out->input_rate};
    for (int what = 0; what < RATES; what++)
        *rates[what] =
            window > 0 ? statistics_mean(parts[what], RATE_PARTS) : (struct interval){NAN, -INFINITY, INFINITY};
    out->offered_rate = window > 0 ? (double)n_due / window : NAN;
    out->in_flight = window > 0 ? busy / window : NAN;
    out->client_share = run->duration_ns ? (double)run->client_cpu_ns / (double)run->duration_ns : 0;
}

static void find_counts(struct summary *out, const struct run_record *run) {
    double prompt = 0, cached = 0, output = 0;
    size_t n_prompt = 0, n_cached = 0, n_ok = 0;
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        if (!request_is_due(r, out->from_s, out->to_s)) continue;
        out->n_requests++;
        out->n_by_outcome[r->outcome]++;
        out->n_slow += r->slow;
        out->n_retried += r->retried;
        if (r->outcome != OUTCOME_OK) continue;
        n_ok++;
        out->n_uncounted += r->n_output < 0;
        output += (double)request_tokens(r);
        if (r->n_prompt >= 0) prompt += (double)r->n_prompt, n_prompt++;
        if (r->n_cached >= 0) cached += (double)r->n_cached, n_cached++;
    }
    out->mean_prompt = n_prompt ? prompt / (double)n_prompt : NAN;
    out->mean_cached = n_cached ? cached / (double)n_cached : NAN;
    out->mean_output = n_ok ? output / (double)n_ok : NAN;
}

bool objectives_given(const struct objectives *o) {
    return o->ttft > 0 || o->itl > 0 || o->e2e > 0;
}

bool objectives_met(const struct objectives *o, const struct request_record *r) {
    double value;
    if (r->outcome != OUTCOME_OK) return false;
    if (o->ttft > 0 && (!request_latency(r, LATENCY_TTFT, &value) || value > o->ttft)) return false;
    if (o->itl > 0 && request_latency(r, LATENCY_TPOT, &value) && value > o->itl) return false;
    return !(o->e2e > 0) || (request_latency(r, LATENCY_E2E, &value) && value <= o->e2e);
}

static void find_goodput(struct summary *out, const struct run_record *run, const struct objectives *objectives) {
    size_t n = 0, n_good = 0;
    out->has_objectives = objectives_given(objectives);
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        if (r->slow || r->outcome == OUTCOME_STOPPED || !request_is_due(r, out->from_s, out->to_s)) continue;
        n++;
        n_good += objectives_met(objectives, r);
    }
    out->goodput = statistics_share(n_good, n);
}

// -------------------------------------------------------------------------------------------------------- trust

// By how much answers were later at the end of the steady part than at its beginning, in seconds: at least, with 95 %.
static double find_growth(const struct summary *s, const struct run_record *run, const struct request_record *sorted) {
    values e2e = {0};
    for (size_t i = 0; i < run->requests.count; i++)
        if (request_counts(&sorted[i]) && request_is_due(&sorted[i], s->from_s, s->to_s))
            vec_push(&e2e, (double)(sorted[i].ended_ns - sorted[i].scheduled_ns) / NS);
    const struct interval slope = statistics_slope(e2e.items, e2e.count);
    const double grown = isfinite(slope.low) ? fmax(slope.low, 0) * (double)e2e.count : 0;
    vec_free(&e2e);
    return grown;
}

// Answers that come later and later are completed at a lower rate than they are due at, as are those that fail.
static void judge_rate(struct summary *out, double grown_s) {
    const double window = out->to_s - out->from_s, due = (double)(out->n_requests - out->n_by_outcome[OUTCOME_STOPPED]);
    const double share = (double)out->n_by_outcome[OUTCOME_OK] / due * window / (window + grown_s);
    if (out->n_requests < 100 || !(share < RATE_SHARE_MIN)) return;
    str_printf(&out->invalid, "%.1f requests/s were completed of %.1f due (under %.0f %%)%s\n",
               share * out->offered_rate, out->offered_rate, RATE_SHARE_MIN * 100,
               grown_s > 0 ? ": latencies grow with the run's length" : "");
}

static void judge(struct summary *out, const struct run_record *run, const struct request_record *sorted,
                  bool open_loop) {
    const struct latency_summary *lag = &out->latency[LATENCY_DISPATCH], *ttft = &out->latency[LATENCY_TTFT];
    const double grown_s = find_growth(out, run, sorted);
    if (out->client_share > CLIENT_SHARE_MAX)
        str_printf(&out->invalid, "the client used %.0f %% of a processor (at most %.0f %%): it measures itself\n",
                   out->client_share * 100, CLIENT_SHARE_MAX * 100);
    if (open_loop && lag->n >= percentile_least[3] && lag->percentile[3].mean > DISPATCH_P99_MAX_S)
        str_printf(&out->invalid, "1 %% of the requests started more than %.1f ms late\n",
                   lag->percentile[3].mean * 1e3);
    if (open_loop) judge_rate(out, grown_s);
    if (out->n_by_outcome[OUTCOME_OK] == 0) str_append_text(&out->invalid, "no request was completed\n");
    if (out->n_uncounted)
        str_printf(&out->notes, "%zu answers without usage: their tokens are counted as events\n", out->n_uncounted);
    if (ttft->n && ttft->n < percentile_least[3])
        str_printf(&out->notes, "no p99 from %zu requests: it takes %zu\n", ttft->n, percentile_least[3]);
    if (run->interrupted) str_append_text(&out->notes, "interrupted: what was measured until then\n");
    const double most =
        fmax(0.5 * out->latency[LATENCY_E2E].mean.mean, (1 - RATE_SHARE_MIN) * (out->to_s - out->from_s));
    out->overloaded = open_loop && ttft->n >= 100 && grown_s > most;
    if (out->overloaded)
        str_append_text(&out->notes,
                        "latencies grow through the steady part: the rate is beyond what the server holds\n");
}

void summary_make(struct summary *out, const struct run_record *run, const struct objectives *objectives,
                  bool open_loop, double warm_up_s) {
    *out = (struct summary){0};
    const size_t n = run->requests.count;
    struct request_record *sorted = mem_alloc(n ? n * sizeof *sorted : 1);
    if (n) memcpy(sorted, run->requests.items, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_schedule);
    find_window(out, run, sorted, warm_up_s);
    find_counts(out, run);
    find_rates(out, run);
    find_latencies(out, run, sorted);
    find_goodput(out, run, objectives);
    judge(out, run, sorted, open_loop);
    free(sorted);
}

void summary_close(struct summary *summary) {
    str_close(&summary->invalid), str_close(&summary->notes);
}
