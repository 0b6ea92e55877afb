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

const char *latency_name(enum latency latency) {
    static const char *const names[LATENCIES] = {"ttft", "tpot", "itl", "e2e", "dispatch"};
    return names[latency];
}

typedef VEC_OF(double) values;

static bool counts(const struct request_record *r) {
    return r->outcome == OUTCOME_OK && !r->slow;
}

static bool in_window(const struct request_record *r, double from_s, double to_s) {
    const double at = (double)r->scheduled_ns / NS;
    return at >= from_s && at <= to_s;
}

static int64_t tokens_of(const struct request_record *r) {
    return r->n_output > 0 ? r->n_output : (int64_t)r->n_events;
}

static bool latency_of(const struct request_record *r, enum latency latency, double *out) {
    const double due = (double)r->scheduled_ns;
    switch (latency) {
    case LATENCY_TTFT:
        *out = ((double)r->first_ns - due) / NS;
        return r->n_events > 0;
    case LATENCY_TPOT:
        *out = (double)(r->last_ns - r->first_ns) / NS / (double)(tokens_of(r) - 1);
        return r->n_events > 1 && tokens_of(r) > 1;
    case LATENCY_E2E:
        *out = ((double)r->ended_ns - due) / NS;
        return true;
    case LATENCY_DISPATCH:
        *out = ((double)r->started_ns - due) / NS;
        return true;
    default:
        return false;
    }
}

// Gaps of a request over its tokens: an event that brings several counts its gap in equal parts for each.
static void add_gaps(const struct run_record *run, const struct request_record *r, values *out) {
    if (r->n_events < 2) return;
    const double tokens_an_event = fmax((double)(tokens_of(r) - 1) / (double)(r->n_events - 1), 1);
    const size_t whole = (size_t)llround(tokens_an_event);
    for (uint32_t i = 0; i + 1 < r->n_events; i++) {
        const double gap = (double)run->gaps.items[r->gap_first + i] * GAP_NS / NS / tokens_an_event;
        for (size_t k = 0; k < whole; k++) vec_push(out, gap);
    }
}

static void summarise(struct latency_summary *out, values *sample) {
    out->n = sample->count;
    if (!sample->count) return;
    out->mean = statistics_mean(sample->items, sample->count);
    const double n_effective = statistics_effective_count(sample->items, sample->count);
    statistics_sort(sample->items, sample->count);
    out->largest = sample->items[sample->count - 1];
    for (int p = 0; p < PERCENTILES; p++)
        out->percentile[p] =
            sample->count >= percentile_least[p]
                ? statistics_quantile_interval(sample->items, sample->count, n_effective, percentile_of[p] / 100)
                : (struct interval){NAN, NAN, NAN};
}

static void find_latencies(struct summary *out, const struct run_record *run) {
    values sample = {0};
    for (int l = 0; l < LATENCIES; l++) {
        sample.count = 0;
        for (size_t i = 0; i < run->requests.count; i++) {
            const struct request_record *r = &run->requests.items[i];
            double value;
            if (!in_window(r, out->from_s, out->to_s)) continue;
            if (l == LATENCY_ITL && counts(r)) add_gaps(run, r, &sample);
            // Lag is the client's: requests that fail lag as well.
            if ((l == LATENCY_DISPATCH || counts(r)) && latency_of(r, (enum latency)l, &value))
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
        if (counts(&sorted[i])) {
            vec_push(&e2e, (double)(sorted[i].ended_ns - sorted[i].scheduled_ns));
            vec_push(&due, (double)sorted[i].scheduled_ns / NS);
        }
    const size_t cut = statistics_warm_up(e2e.items, e2e.count);
    if (cut) out->from_s = due.items[cut];
    vec_free(&e2e);
    vec_free(&due);
}

// Amounts per second, with the spread between parts of the window.
static struct interval rate_of(const struct run_record *run, const struct summary *s, int what) {
    enum { PARTS = 160 }; // twenty blocks of eight
    double part[PARTS] = {0};
    // Of what ends in it: the window is closed by the last end when the schedule ends before.
    const double width = (s->to_s - s->from_s) / PARTS;
    if (!(width > 0)) return (struct interval){NAN, -INFINITY, INFINITY};
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        if (r->outcome != OUTCOME_OK) continue;
        const double begin = (double)r->started_ns / NS, end = (double)r->ended_ns / NS;
        const double amount = what == 0         ? 1
                              : what == 1       ? (double)tokens_of(r)
                              : r->n_prompt > 0 ? (double)r->n_prompt
                                                : 0;
        // What a request brings is spread over the time that it takes.
        for (int p = 0; p < PARTS; p++) {
            const double from = s->from_s + p * width, to = from + width;
            const double share = end > begin ? fmax(0, fmin(end, to) - fmax(begin, from)) / (end - begin)
                                             : (end >= from && end < to ? 1 : 0);
            part[p] += amount * share;
        }
    }
    for (int p = 0; p < PARTS; p++) part[p] /= width;
    return statistics_mean(part, PARTS);
}

static void find_rates(struct summary *out, const struct run_record *run) {
    out->request_rate = rate_of(run, out, 0);
    out->output_rate = rate_of(run, out, 1);
    out->input_rate = rate_of(run, out, 2);
    double busy = 0;
    size_t n_due = 0;
    const double width = out->to_s - out->from_s;
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        n_due += in_window(r, out->from_s, out->to_s);
        busy += fmax(0, fmin((double)r->ended_ns / NS, out->to_s) - fmax((double)r->started_ns / NS, out->from_s));
    }
    out->offered_rate = width > 0 ? (double)n_due / width : NAN;
    out->in_flight = width > 0 ? busy / width : NAN;
    out->client_share = run->duration_ns ? (double)run->client_cpu_ns / (double)run->duration_ns : 0;
}

static void find_counts(struct summary *out, const struct run_record *run) {
    double prompt = 0, cached = 0, output = 0;
    size_t n_prompt = 0, n_cached = 0, n_ok = 0;
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        if (!in_window(r, out->from_s, out->to_s)) continue;
        out->n_requests++;
        out->n_by_outcome[r->outcome]++;
        out->n_slow += r->slow;
        out->n_retried += r->retried;
        if (r->outcome != OUTCOME_OK) continue;
        n_ok++;
        out->n_uncounted += r->n_output < 0;
        output += (double)tokens_of(r);
        if (r->n_prompt >= 0) prompt += (double)r->n_prompt, n_prompt++;
        if (r->n_cached >= 0) cached += (double)r->n_cached, n_cached++;
    }
    out->mean_prompt = n_prompt ? prompt / (double)n_prompt : NAN;
    out->mean_cached = n_cached ? cached / (double)n_cached : NAN;
    out->mean_output = n_ok ? output / (double)n_ok : NAN;
}

static bool meets(const struct request_record *r, const struct objectives *o) {
    double value;
    if (r->outcome != OUTCOME_OK) return false;
    if (o->ttft > 0 && (!latency_of(r, LATENCY_TTFT, &value) || value > o->ttft)) return false;
    if (o->itl > 0 && latency_of(r, LATENCY_TPOT, &value) && value > o->itl) return false;
    return !(o->e2e > 0) || (latency_of(r, LATENCY_E2E, &value) && value <= o->e2e);
}

static void find_goodput(struct summary *out, const struct run_record *run, const struct objectives *objectives) {
    size_t n = 0, n_good = 0;
    out->has_objectives = objectives->ttft > 0 || objectives->itl > 0 || objectives->e2e > 0;
    for (size_t i = 0; i < run->requests.count; i++) {
        const struct request_record *r = &run->requests.items[i];
        if (r->slow || r->outcome == OUTCOME_STOPPED || !in_window(r, out->from_s, out->to_s)) continue;
        n++;
        n_good += meets(r, objectives);
    }
    out->goodput = statistics_share(n_good, n);
}

// -------------------------------------------------------------------------------------------------------- trust

static void judge(struct summary *out, const struct run_record *run, const struct request_record *sorted,
                  bool open_loop) {
    const struct latency_summary *lag = &out->latency[LATENCY_DISPATCH], *ttft = &out->latency[LATENCY_TTFT];
    if (out->client_share > CLIENT_SHARE_MAX)
        str_printf(&out->invalid, "the client used %.0f %% of a processor (at most %.0f %%): it measures itself\n",
                   out->client_share * 100, CLIENT_SHARE_MAX * 100);
    if (open_loop && lag->n >= percentile_least[3] && lag->percentile[3].mean > DISPATCH_P99_MAX_S)
        str_printf(&out->invalid, "1 %% of the requests started more than %.1f ms late\n",
                   lag->percentile[3].mean * 1e3);
    if (open_loop && out->n_requests >= 100 && out->request_rate.mean < RATE_SHARE_MIN * out->offered_rate)
        str_printf(&out->invalid,
                   "%.1f requests/s were completed of %.1f due (under %.0f %%): latencies grow with the run's length\n",
                   out->request_rate.mean, out->offered_rate, RATE_SHARE_MIN * 100);
    if (out->n_by_outcome[OUTCOME_OK] == 0) str_append_text(&out->invalid, "no request was completed\n");
    if (out->n_uncounted)
        str_printf(&out->notes, "%zu answers without usage: their tokens are counted as events\n", out->n_uncounted);
    if (ttft->n && ttft->n < percentile_least[3])
        str_printf(&out->notes, "no p99 from %zu requests: it takes %zu\n", ttft->n, percentile_least[3]);
    if (run->interrupted) str_append_text(&out->notes, "interrupted: what was measured until then\n");
    values e2e = {0};
    for (size_t i = 0; i < run->requests.count; i++)
        if (counts(&sorted[i]) && in_window(&sorted[i], out->from_s, out->to_s))
            vec_push(&e2e, (double)(sorted[i].ended_ns - sorted[i].scheduled_ns) / NS);
    const struct interval slope = statistics_slope(e2e.items, e2e.count);
    const double grown = slope.low * (double)e2e.count;
    if (e2e.count >= 100 && open_loop && slope.low > 0 && grown > 0.5 * out->latency[LATENCY_E2E].mean.mean)
        str_append_text(&out->notes,
                        "latencies grow through the steady part: the rate is beyond what the server holds\n");
    vec_free(&e2e);
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
    find_latencies(out, run);
    find_goodput(out, run, objectives);
    judge(out, run, sorted, open_loop);
    free(sorted);
}

void summary_close(struct summary *summary) {
    str_close(&summary->invalid), str_close(&summary->notes);
}
