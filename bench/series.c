#include "bench/series.h"
#include "base/statistics.h"

#include <math.h>
#include <stdlib.h>

static const double NS = 1e9;

typedef VEC_OF(double) values;

struct sample {
    values ttft, itl;
};

static double nice_width(double least) {
    const double power = pow(10, floor(log10(least)));
    return least <= power ? power : least <= 2 * power ? 2 * power : least <= 5 * power ? 5 * power : 10 * power;
}

static size_t part_of(const struct series *series, double at_s) {
    const size_t i = (size_t)fmax(at_s / series->width_s, 0);
    return i < series->parts.count ? i : series->parts.count - 1;
}

// In each part: the time that the request was in flight, and its share of the tokens.
static void add_time(struct series *series, const struct request_record *r) {
    const double begin = (double)r->started_ns / NS, end = (double)r->ended_ns / NS;
    const double tokens = r->outcome == OUTCOME_OK ? (double)request_tokens(r) : 0;
    for (size_t p = part_of(series, begin), last = part_of(series, end); p <= last; p++) {
        struct series_part *part = &series->parts.items[p];
        const double width = fmin(series->width_s, series->end_s - part->at_s); // the last ends with the run
        const double in = fmax(fmin(end, part->at_s + width) - fmax(begin, part->at_s), 0);
        part->in_flight += in / width;
        part->output_rate += (end > begin ? tokens * in / (end - begin) : tokens) / width;
    }
}

static void add_request(struct series *series, struct sample *samples, const struct run_record *run,
                        const struct request_record *r) {
    const size_t due = part_of(series, (double)r->scheduled_ns / NS);
    struct series_part *ended = &series->parts.items[part_of(series, (double)r->ended_ns / NS)];
    double ttft;
    series->parts.items[due].n_due++;
    if (r->outcome == OUTCOME_OK)
        ended->n_completed++;
    else if (r->outcome != OUTCOME_STOPPED)
        ended->n_failed++;
    add_time(series, r);
    if (!request_counts(r)) return;
    if (request_latency(r, LATENCY_TTFT, &ttft)) vec_push(&samples[due].ttft, ttft);
    struct token_gap gap;
    for (uint32_t i = 0; i + 1 < r->n_events; i++) {
        request_gap(run, r, i, &gap);
        for (size_t k = 0; k < gap.n_tokens; k++) vec_push(&samples[part_of(series, gap.at_s)].itl, gap.seconds);
    }
}

// From a fifteenth of the smallest median of a part to the largest gap.
static void set_rows(struct series *series, const struct sample *samples) {
    double least = INFINITY, most = 0;
    for (size_t p = 0; p < series->parts.count; p++) {
        const values *itl = &samples[p].itl;
        if (!itl->count) continue;
        const double median = statistics_quantile_sorted(itl->items, itl->count, 0.5);
        if (median > 0) least = fmin(least, median / 15);
        most = fmax(most, itl->items[itl->count - 1]);
    }
    series->row_first_s = fmax(isfinite(least) ? least : 1e-3, 1e-5);
    series->row_factor = pow(fmax(most / series->row_first_s, 1.5) * 1.0001, 1.0 / SERIES_ROWS);
}

static void finish(const struct series *series, struct series_part *part, const struct sample *sample) {
    part->ttft_p50 = part->ttft_p95 = part->itl_p50 = part->itl_p95 = part->itl_largest = NAN;
    const values *ttft = &sample->ttft, *itl = &sample->itl;
    if (ttft->count) {
        part->ttft_p50 = statistics_quantile_sorted(ttft->items, ttft->count, 0.5);
        part->ttft_p95 = statistics_quantile_sorted(ttft->items, ttft->count, 0.95);
    }
    if (!itl->count) return;
    part->itl_p50 = statistics_quantile_sorted(itl->items, itl->count, 0.5);
    part->itl_p95 = statistics_quantile_sorted(itl->items, itl->count, 0.95);
    part->itl_largest = itl->items[itl->count - 1];
    for (size_t i = 0; i < itl->count; i++) {
        const double row = log(fmax(itl->items[i] / series->row_first_s, 1)) / log(series->row_factor);
        part->gaps[(size_t)fmin(row, SERIES_ROWS - 1)]++;
    }
}

void series_make(struct series *out, const struct run_record *run) {
    const double end_s = (double)run->duration_ns / NS;
    *out = (struct series){.width_s = nice_width(fmax(end_s, 1e-3) / SERIES_PARTS_MAX), .end_s = end_s};
    const size_t n = (size_t)ceil(end_s / out->width_s);
    if (!run->requests.count || !n) return;
    struct sample *samples = mem_alloc_zero(n, sizeof *samples);
    for (size_t p = 0; p < n; p++) vec_push(&out->parts, ((struct series_part){.at_s = (double)p * out->width_s}));
    for (size_t i = 0; i < run->requests.count; i++) add_request(out, samples, run, &run->requests.items[i]);
    for (size_t p = 0; p < n; p++) {
        statistics_sort(samples[p].ttft.items, samples[p].ttft.count);
        statistics_sort(samples[p].itl.items, samples[p].itl.count);
    }
    set_rows(out, samples);
    for (size_t p = 0; p < n; p++) {
        finish(out, &out->parts.items[p], &samples[p]);
        vec_free(&samples[p].ttft);
        vec_free(&samples[p].itl);
    }
    free(samples);
}

void series_close(struct series *series) {
    vec_free(&series->parts);
}
