#include "advisor/tuner_watch.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS_MIN = 20, STEPS_MIN = 200, BINS = 6 };
static const double vary_most = 0.2, trend_most = 0.3, throttled_most = 0.05, forget = 0.977;

// -------------------------------------------------------------------------------------------------------------- notes

void watch_steps(struct watch *watch, const struct step_record *records, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct step_record *r = &records[i];
        const uint64_t from = r->submitted_ns > watch->last_collected_ns ? r->submitted_ns : watch->last_collected_ns;
        const int with_prompt = r->n_prompt_rows > 0;
        watch->n_steps++;
        if (r->collected_ns > from) {
            watch->step_s[with_prompt] += (double)(r->collected_ns - from) * 1e-9;
            watch->decode_rows[with_prompt] += r->n_rows - r->n_prompt_rows - r->n_draft_rows + r->n_accepted;
            watch->prompt_rows[with_prompt] += r->n_prompt_rows;
        }
        watch->last_collected_ns = r->collected_ns;
    }
}

static float seconds_between(uint64_t from_ns, uint64_t to_ns) {
    return (float)((double)(to_ns - from_ns) * 1e-9);
}

void watch_requests(struct watch *watch, const struct request_trace *traces, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct request_trace *t = &traces[i];
        if (t->first_token_ns > t->arrived_ns && watch->n_ttft < WATCH_REQUESTS)
            watch->ttft[watch->n_ttft++] = seconds_between(t->arrived_ns, t->first_token_ns);
        if (t->finished_ns > t->arrived_ns && watch->n_e2e < WATCH_REQUESTS)
            watch->e2e[watch->n_e2e++] = seconds_between(t->arrived_ns, t->finished_ns);
        if (t->failed) continue;
        watch->n_ended++;
        watch->n_prompt_tokens += t->n_prompt;
        watch->n_answer_tokens += t->n_generated;
    }
}

void watch_gaps(struct watch *watch, const float *seconds, size_t n) {
    for (size_t i = 0; i < n && watch->n_gaps < WATCH_GAPS; i++) watch->gaps[watch->n_gaps++] = seconds[i];
}

// Every n-th, so that those kept stand for the whole second.
static int32_t keep(float *out, int32_t capacity, const float *items, int32_t n) {
    const int32_t n_kept = n < capacity ? n : capacity;
    for (int32_t i = 0; i < n_kept; i++) out[i] = items[(int64_t)i * n / n_kept];
    return n_kept;
}

bool watch_end_second(struct watch *watch, double at_s, const struct advisor_sample *sample, int32_t n_blocks,
                      bool throttled, struct experiment_sample *out) {
    const bool is_first = !watch->has_sample;
    const struct advisor_sample *last = &watch->last;
    *out = (struct experiment_sample){
        .at_s = at_s,
        .since_s = at_s - watch->last_at_s,
        .n_steps = watch->n_steps,
        .n_output_tokens = (int64_t)(sample->n_generated_tokens_total - last->n_generated_tokens_total),
        .n_errors = (int64_t)(sample->n_failed_total - last->n_failed_total),
        .kv_occupancy = n_blocks > 0 ? (double)sample->n_blocks_used / n_blocks : 0,
        .itl = watch->gaps,
        .n_itl = watch->n_gaps,
        .ttft = watch->ttft,
        .n_ttft = watch->n_ttft,
        .n_ended = watch->n_ended,
        .n_prompt_tokens = watch->n_prompt_tokens,
        .n_answer_tokens = watch->n_answer_tokens,
        .throttled = throttled,
    };
    if (!is_first) {
        struct watch_second *s = &watch->seconds[watch->n_seconds++ % WATCH_SECONDS];
        s->output = (double)out->n_output_tokens / out->since_s;
        s->concurrency = sample->n_running + sample->n_waiting;
        s->kv_occupancy = out->kv_occupancy;
        s->n_steps = out->n_steps, s->n_errors = out->n_errors, s->n_ended = out->n_ended;
        s->n_prompt_tokens = out->n_prompt_tokens, s->n_answer_tokens = out->n_answer_tokens;
        s->throttled = throttled;
        s->n_gaps = keep(s->gaps, WATCH_KEPT, watch->gaps, watch->n_gaps);
        s->n_ttft = keep(s->ttft, WATCH_KEPT / 4, watch->ttft, watch->n_ttft);
        s->n_e2e = keep(s->e2e, WATCH_KEPT / 4, watch->e2e, watch->n_e2e);
    }
    for (int p = 0; p < 2; p++) {
        watch->step_s[p] *= forget;
        watch->decode_rows[p] *= forget;
        watch->prompt_rows[p] *= forget;
    }
    watch->has_sample = true;
    watch->last = *sample;
    watch->last_at_s = at_s;
    watch->n_steps = watch->n_ended = watch->n_prompt_tokens = watch->n_answer_tokens = 0;
    watch->n_gaps = watch->n_ttft = watch->n_e2e = 0;
    return !is_first;
}

void watch_restart(struct watch *watch) {
    watch->n_seconds = 0;
}

// ------------------------------------------------------------------------------------------------------------- checks

static int32_t n_watched(const struct watch *watch) {
    return watch->n_seconds < WATCH_SECONDS ? (int32_t)watch->n_seconds : WATCH_SECONDS;
}

// Second i of those watched, oldest first.
static const struct watch_second *second_at(const struct watch *watch, int32_t i) {
    return &watch->seconds[(watch->n_seconds - n_watched(watch) + i) % WATCH_SECONDS];
}

struct bins {
    double output[BINS], concurrency[BINS], n_ended; // n_ended: of a bin, on average
};

static void fill_bins(const struct watch *watch, struct bins *out) {
    const int32_t n = n_watched(watch);
    int32_t count[BINS] = {0};
    memset(out, 0, sizeof *out);
    for (int32_t i = 0; i < n; i++) {
        const struct watch_second *s = second_at(watch, i);
        const int bin = i * BINS / n;
        out->output[bin] += s->output;
        out->concurrency[bin] += s->concurrency;
        out->n_ended += (double)s->n_ended / BINS;
        count[bin]++;
    }
    for (int b = 0; b < BINS; b++) out->output[b] /= count[b], out->concurrency[b] /= count[b];
}

// Deviation over mean, without what requests that come by chance make of it.
static double variation(const double *values, double n_requests) {
    double sum = 0, squares = 0;
    for (int b = 0; b < BINS; b++) sum += values[b] / BINS;
    for (int b = 0; b < BINS; b++) squares += (values[b] - sum) * (values[b] - sum) / (BINS - 1);
    if (!(sum > 0)) return INFINITY;
    return sqrt(fmax(squares / (sum * sum) - 2 / fmax(n_requests, 1), 0));
}

static int check_steady(const struct watch *watch, struct err *err) {
    struct bins bins;
    fill_bins(watch, &bins);
    const double varies = fmin(variation(bins.output, bins.n_ended), variation(bins.concurrency, bins.n_ended));
    const struct interval slope = statistics_slope(bins.output, BINS);
    double mean = 0;
    for (int b = 0; b < BINS; b++) mean += bins.output[b] / BINS;
    const double change = slope.mean * (BINS - 1) / mean;
    if ((slope.low > 0 || slope.high < 0) && fabs(change) > trend_most)
        return err_set(err, ERR_INVALID,
                       "the load is not steady: it %s by %.0f %% within %d s, and %.0f %% is the most that an "
                       "experiment bears",
                       change > 0 ? "rose" : "fell", fabs(change) * 100, n_watched(watch), trend_most * 100);
    if (varies > vary_most)
        return err_set(err, ERR_INVALID,
                       "the load is not steady: it varies by %.0f %% from one part of the last %d s to the next, and "
                       "%.0f %% is the most that an experiment bears",
                       varies * 100, n_watched(watch), vary_most * 100);
    return 0;
}

int watch_check(const struct watch *watch, struct err *err) {
    const int32_t n = n_watched(watch);
    int64_t n_steps = 0, n_errors = 0;
    int32_t n_throttled = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct watch_second *s = second_at(watch, i);
        n_steps += s->n_steps, n_errors += s->n_errors, n_throttled += s->throttled;
    }
    if (n < SECONDS_MIN)
        return err_set(err, ERR_INVALID, "the server was watched for %d s only, and %d are needed", n, SECONDS_MIN);
    if (n_steps < STEPS_MIN)
        return err_set(err, ERR_INVALID,
                       "there is too little traffic: %lld steps in the last %d s, and %d are needed; put load on it, "
                       "for example with optima bench",
                       (long long)n_steps, n, STEPS_MIN);
    if (n_errors > 0)
        return err_set(err, ERR_INVALID, "%lld requests failed in the last %d s; find out why first",
                       (long long)n_errors, n);
    if (n_throttled > throttled_most * n)
        return err_set(err, ERR_INVALID, "the machine was throttled in %d of the last %d s", n_throttled, n);
    return check_steady(watch, err);
}

// ------------------------------------------------------------------------------------------------------------- before

enum kept { KEPT_GAPS, KEPT_TTFT, KEPT_E2E };

static double quantile_of(const struct watch *watch, enum kept kept, double q) {
    double *sorted = mem_alloc((size_t)WATCH_SECONDS * WATCH_KEPT * sizeof *sorted);
    size_t n = 0;
    for (int32_t i = 0; i < n_watched(watch); i++) {
        const struct watch_second *s = second_at(watch, i);
        const float *items = kept == KEPT_GAPS ? s->gaps : kept == KEPT_TTFT ? s->ttft : s->e2e;
        const int32_t count = kept == KEPT_GAPS ? s->n_gaps : kept == KEPT_TTFT ? s->n_ttft : s->n_e2e;
        for (int32_t k = 0; k < count; k++) sorted[n++] = (double)items[k];
    }
    const double value = n ? statistics_quantile(sorted, n, q) : NAN;
    free(sorted);
    return value;
}

void watch_before(const struct watch *watch, struct experiment_before *out) {
    out->itl_p99_s = quantile_of(watch, KEPT_GAPS, 0.99);
    out->ttft_p99_s = quantile_of(watch, KEPT_TTFT, 0.99);
    out->e2e_p95_s = quantile_of(watch, KEPT_E2E, 0.95);
    out->kv_occupancy_max = 0;
    for (int32_t i = 0; i < n_watched(watch); i++)
        out->kv_occupancy_max = fmax(out->kv_occupancy_max, second_at(watch, i)->kv_occupancy);
    // Steps without prompts say what output takes, and those with prompts the rest.
    out->output_token_s = watch->decode_rows[0] > 0 ? watch->step_s[0] / watch->decode_rows[0] : NAN;
    const double rest = watch->step_s[1] - watch->decode_rows[1] * out->output_token_s;
    out->prompt_token_s = watch->prompt_rows[1] > 0 ? fmax(rest, 0) / watch->prompt_rows[1] : NAN;
}

struct watch_mix watch_mix(const struct watch *watch) {
    double n = 0, prompt = 0, answer = 0;
    for (int32_t i = 0; i < n_watched(watch); i++) {
        const struct watch_second *s = second_at(watch, i);
        n += (double)s->n_ended, prompt += (double)s->n_prompt_tokens, answer += (double)s->n_answer_tokens;
    }
    return n > 0 ? (struct watch_mix){prompt / n, answer / n} : (struct watch_mix){NAN, NAN};
}
