#include "advisor/tally.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS_KEPT = TALLY_SECONDS + 2 }; // one before the window, and the present one

struct tally {
    uint64_t origin_ns;
    uint64_t n_closed;                        // seconds that have ended; the present one is number n_closed
    struct tally_second second[SECONDS_KEPT]; // a ring
    double covered_s;                         // until when everything is known
    uint64_t last_collected_ns;               // 0: no step yet
    uint64_t n_requests;
    struct request_trace requests[TALLY_REQUESTS]; // a ring
};

struct tally *tally_open(uint64_t now_ns) {
    struct tally *tally = mem_alloc_zero(1, sizeof *tally);
    tally->origin_ns = now_ns;
    return tally;
}

void tally_close(struct tally *tally) {
    free(tally);
}

size_t tally_bytes(void) {
    return sizeof(struct tally);
}

static double since(const struct tally *tally, uint64_t ns) {
    return ns > tally->origin_ns ? (double)(ns - tally->origin_ns) * 1e-9 : 0;
}

static struct tally_second *numbered(struct tally *tally, uint64_t number) {
    return &tally->second[number % SECONDS_KEPT];
}

static uint64_t oldest(const struct tally *tally) {
    return tally->n_closed + 1 > SECONDS_KEPT ? tally->n_closed + 1 - SECONDS_KEPT : 0;
}

// The second in which a moment lies; moments before the ring's begin are in the oldest.
static uint64_t find_second(struct tally *tally, double at_s) {
    uint64_t number = tally->n_closed;
    while (number > oldest(tally) && at_s < numbered(tally, number)->begin_s) number--;
    return number;
}

// ------------------------------------------------------------------------------------------------------------- steps

// Adds amounts to the seconds that a stretch of time touches, each its part. Both structs are doubles alone.
struct spread {
    double seconds[TIME_LINES];
    double running_s, waiting_s, queued_s, blocks_s, busy_s, lost_s;
};

static void add_spread(struct tally_sums *sums, const struct spread *amount, double part) {
    for (int line = 0; line < TIME_LINES; line++) sums->seconds[line] += amount->seconds[line] * part;
    sums->running_s += amount->running_s * part;
    sums->waiting_s += amount->waiting_s * part;
    sums->queued_s += amount->queued_s * part;
    sums->blocks_s += amount->blocks_s * part;
    sums->busy_s += amount->busy_s * part;
    sums->lost_s += amount->lost_s * part;
}

static void spread_over(struct tally *tally, double begin_s, double end_s, const struct spread *amount) {
    uint64_t number = find_second(tally, end_s);
    if (!(end_s > begin_s)) {
        add_spread(&numbered(tally, number)->sums, amount, 1);
        return;
    }
    for (double until = end_s; until > begin_s; number--) {
        struct tally_second *second = numbered(tally, number);
        const bool is_last = number == oldest(tally) || second->begin_s <= begin_s;
        const double from = is_last ? begin_s : second->begin_s;
        add_spread(&second->sums, amount, (until - from) / (end_s - begin_s));
        if (is_last) return;
        until = from;
    }
}

static void add_step(struct step_sums *sums, const struct step_record *r, double step_s) {
    sums->n_steps++;
    sums->step_s += step_s;
    sums->rows += r->n_rows;
    sums->prompt_rows += r->n_prompt_rows;
    sums->recomputed_rows += r->n_recomputed_rows;
    sums->draft_rows += r->n_draft_rows;
    sums->accepted += r->n_accepted;
    sums->sequences += r->n_sequences;
    sums->decoding += r->n_decoding;
    sums->logit_rows += r->n_logit_rows;
    sums->context += (double)r->decode_context;
    sums->weight_bytes += r->weight_bytes;
    sums->head_bytes += r->head_bytes;
    sums->kv_bytes += r->kv_bytes;
    sums->kv_bytes_decode += r->kv_bytes_decode;
    sums->linear_flops += r->linear_flops;
    sums->attention_flops += r->attention_flops;
    sums->attention_flops_decode += r->attention_flops_decode;
    sums->head_flops += r->head_flops;
    sums->palm_flops += r->linear_flops + r->head_flops + r->attention_flops_palm;
}

static void count_step(struct tally_sums *sums, const struct step_record *r, double step_s,
                       const struct tally_limits *limits) {
    add_step(&sums->steps[step_kind_of(r)], r, step_s);
    sums->steps_full += limits->sequences > 0 && r->n_running >= limits->sequences;
    if (r->n_draft_rows > 0) sums->drafted_steps++, sums->drafted_sequences += r->n_decoding;
    sums->draft_s += (double)r->draft_ns * 1e-9;
    sums->gap_s += (double)r->host_gap_ns * 1e-9;
    sums->blocks_max = fmax(sums->blocks_max, r->n_blocks_used);
    sums->n_preempted += r->n_preempted;
}

double tally_step(struct tally *tally, struct time_split *split, const struct step_record *r, uint64_t n_lost,
                  const struct tally_limits *limits) {
    const uint64_t before_ns = tally->last_collected_ns;
    const uint64_t begin_ns = r->submitted_ns > before_ns ? r->submitted_ns : before_ns;
    if (r->collected_ns < begin_ns) return 0; // clocks do not go back
    const double end_s = since(tally, r->collected_ns), step_s = (double)(r->collected_ns - begin_ns) * 1e-9;
    const double gap_s = (double)r->host_gap_ns * 1e-9, idle_s = (double)r->idle_ns * 1e-9;
    const double work_s = step_s + gap_s, begin_s = since(tally, begin_ns) - gap_s;
    if (n_lost > 0 && before_ns > 0) {
        const double lost_from = since(tally, before_ns), lost_until = begin_s - idle_s;
        if (lost_until > lost_from)
            spread_over(tally, lost_from, lost_until, &(struct spread){.lost_s = lost_until - lost_from});
    }
    struct spread amount = {.running_s = r->n_running * work_s,
                            .waiting_s = r->n_waiting * work_s,
                            .queued_s = r->n_waiting > 0 ? work_s : 0,
                            .blocks_s = r->n_blocks_used * work_s,
                            .busy_s = work_s};
    time_split_step(split, r, step_s, amount.seconds);
    spread_over(tally, begin_s, end_s, &amount);
    count_step(&numbered(tally, find_second(tally, end_s))->sums, r, step_s, limits);
    tally->last_collected_ns = r->collected_ns;
    tally->covered_s = fmax(tally->covered_s, end_s);
    return step_s;
}

// ---------------------------------------------------------------------------------------------- requests and gaps

static void count_latency(uint16_t count[SKETCH_BUCKETS], uint64_t from_ns, uint64_t to_ns) {
    if (from_ns == 0 || to_ns < from_ns) return;
    uint16_t *bucket = &count[sketch_bucket(to_ns - from_ns)];
    if (*bucket < UINT16_MAX) (*bucket)++;
}

static bool meets(const struct request_trace *t, const struct tally_limits *limits) {
    const double ttft = (double)(t->first_token_ns - t->arrived_ns) * 1e-9;
    const double itl =
        t->n_generated > 1 ? (double)(t->last_token_ns - t->first_token_ns) * 1e-9 / (t->n_generated - 1) : 0;
    if (isnan(limits->objective_ttft) && isnan(limits->objective_itl)) return false;
    return !(ttft > limits->objective_ttft) && !(itl > limits->objective_itl);
}

void tally_request(struct tally *tally, const struct request_trace *t, const struct tally_limits *limits) {
    struct tally_second *second = numbered(tally, tally->n_closed);
    tally->requests[tally->n_requests++ % TALLY_REQUESTS] = *t;
    second->sums.n_failed += t->failed;
    if (t->failed) return;
    second->sums.n_finished++;
    if (t->finished_ns > t->arrived_ns) second->sums.residence_s += (double)(t->finished_ns - t->arrived_ns) * 1e-9;
    count_latency(second->e2e, t->arrived_ns, t->finished_ns);
    count_latency(second->queue, t->arrived_ns, t->scheduled_ns);
    count_latency(second->ttft, t->arrived_ns, t->first_token_ns);
    if (t->first_token_ns < t->arrived_ns) return;
    second->n_ttft++;
    second->ttft_sum += (double)(t->first_token_ns - t->arrived_ns) * 1e-9;
    if (!meets(t, limits)) return;
    second->sums.n_good++;
    second->sums.good_tokens += t->n_prompt + t->n_generated;
}

void tally_gaps(struct tally *tally, const uint32_t gaps[2][SKETCH_BUCKETS], double n_tokens) {
    struct tally_second *second = numbered(tally, tally->n_closed);
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < SKETCH_BUCKETS; i++) second->gaps[kind][i] += gaps[kind][i];
    second->sums.n_gap_tokens += n_tokens;
}

// ----------------------------------------------------------------------------------------------------------- windows

void tally_close_second(struct tally *tally, uint64_t now_ns, const struct advisor_sample *sample,
                        const struct machine_counters *machine) {
    struct tally_second *second = numbered(tally, tally->n_closed);
    second->end_s = since(tally, now_ns);
    second->sample = *sample;
    second->machine = *machine;
    second->sums.wall_s = second->end_s - second->begin_s;
    const struct tally_second *before = tally->n_closed > 0 ? numbered(tally, tally->n_closed - 1) : NULL;
    if (before && sample->idle_ns_total > before->sample.idle_ns_total)
        second->sums.seconds[TIME_IDLE] += (double)(sample->idle_ns_total - before->sample.idle_ns_total) * 1e-9;
    if (sample->n_running == 0 && sample->n_waiting == 0) tally->covered_s = second->end_s;
    tally->n_closed++;
    *numbered(tally, tally->n_closed) = (struct tally_second){.begin_s = second->end_s};
}

static void add_sums(struct tally_sums *to, const struct tally_sums *from) {
    // Doubles alone, all of which add up but for the largest number of blocks.
    const double blocks_max = fmax(to->blocks_max, from->blocks_max);
    double *sum = (double *)to;
    const double *more = (const double *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *sum; i++) sum[i] += more[i];
    to->blocks_max = blocks_max;
}

bool tally_window(const struct tally *tally, double window_s, struct tally_window *out) {
    memset(out, 0, sizeof *out);
    struct tally *ring = (struct tally *)tally; // read alone
    uint64_t end = tally->n_closed;
    while (end > oldest(tally) && numbered(ring, end - 1)->end_s > tally->covered_s) end--;
    // The first second of all has nothing before it to compare with.
    const uint64_t least = oldest(tally) + 1;
    if (end <= least) return false;
    out->end_s = numbered(ring, end - 1)->end_s;
    uint64_t first = end - 1;
    while (first > least && numbered(ring, first - 1)->begin_s >= out->end_s - window_s - 0.5) first--;
    out->n_seconds = (int32_t)(end - first);
    out->first = (int32_t)(first % SECONDS_KEPT);
    out->begin_s = numbered(ring, first)->begin_s;
    out->sample_before = numbered(ring, first - 1)->sample;
    out->machine_before = numbered(ring, first - 1)->machine;
    out->sample_after = numbered(ring, end - 1)->sample;
    out->machine_after = numbered(ring, end - 1)->machine;
    for (int32_t i = 0; i < out->n_seconds; i++) {
        const struct tally_second *second = tally_second(tally, out, i);
        add_sums(&out->sums, &second->sums);
        for (int kind = 0; kind < 2; kind++) sketch_add_32(&out->gaps[kind], second->gaps[kind]);
        sketch_add_16(&out->ttft, second->ttft);
        sketch_add_16(&out->e2e, second->e2e);
        sketch_add_16(&out->queue, second->queue);
    }
    return true;
}

const struct tally_second *tally_second(const struct tally *tally, const struct tally_window *window, int32_t i) {
    return &tally->second[(window->first + i + SECONDS_KEPT) % SECONDS_KEPT];
}

size_t tally_requests(const struct tally *tally, const struct tally_window *window, struct request_trace *out,
                      size_t n) {
    size_t count = 0;
    const uint64_t kept = tally->n_requests < TALLY_REQUESTS ? tally->n_requests : TALLY_REQUESTS;
    for (uint64_t i = 1; i <= kept && count < n; i++) {
        const struct request_trace *t = &tally->requests[(tally->n_requests - i) % TALLY_REQUESTS];
        const double at_s = since(tally, t->finished_ns);
        if (at_s < window->begin_s) break;
        if (at_s <= window->end_s) out[count++] = *t;
    }
    return count;
}
