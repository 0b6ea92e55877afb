#include "advisor/evidence_make.h"

#include "advisor/step_model.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REQUESTS_SEEN = 2048, REQUESTS_IN_PAIRS = 512 };
static const double LONG_GAP = 2;        // times the median
static const double STEADY_CHANGE = 0.2; // of the mean, over the window

struct view {
    const struct evidence_input *in;
    const struct tally_window *window;
    const struct tally_sums *sums;
    double wall_s;
    struct evidence *out;
};

static double ratio(double amount, double by) {
    return by > 0 ? amount / by : NAN;
}

static double grown(uint64_t before, uint64_t after) {
    return after > before ? (double)(after - before) : 0;
}
// By how much a total of the sample has grown in the window.
#define GROWN(view, total) grown((view)->window->sample_before.total, (view)->window->sample_after.total)

static struct step_sums sum_of(struct step_sums a, const struct step_sums *b) {
    double *sum = (double *)&a; // doubles alone
    const double *more = (const double *)b;
    for (size_t i = 0; i < sizeof a / sizeof *sum; i++) sum[i] += more[i];
    return a;
}

// ------------------------------------------------------------------------------------------------------------ trends

// The change a second of a value that each second has, by means of blocks of seconds, whose neighbours are less alike.
static struct interval slope_of(const struct view *v, double (*value)(const struct tally_second *), double *mean) {
    enum { BLOCKS = 10 };
    double block[BLOCKS], sum = 0;
    const int32_t n = v->window->n_seconds;
    int32_t n_blocks = 0, n_values = 0;
    for (int32_t b = 0; b < BLOCKS; b++) {
        double block_sum = 0;
        int32_t count = 0;
        for (int32_t i = b * n / BLOCKS; i < (b + 1) * n / BLOCKS; i++) {
            const double x = value(tally_second(v->in->tally, v->window, i));
            if (!isnan(x)) block_sum += x, count++;
        }
        if (!count) continue; // blocks without a value would only shorten the time between the others
        block[n_blocks++] = block_sum / count;
        sum += block_sum, n_values += count;
    }
    *mean = ratio(sum, n_values);
    if (n_blocks < 4) return (struct interval){NAN, -INFINITY, INFINITY};
    struct interval slope = statistics_slope(block, (size_t)n_blocks);
    const double block_s = v->wall_s / BLOCKS;
    slope.mean /= block_s, slope.low /= block_s, slope.high /= block_s;
    return slope;
}

static double concurrency(const struct tally_second *s) {
    return ratio(s->sums.running_s + s->sums.waiting_s, s->sums.wall_s);
}
static double mean_ttft(const struct tally_second *s) {
    return ratio(s->ttft_sum, s->n_ttft);
}
static double decode_step_s(const struct tally_second *s) {
    return ratio(s->sums.steps[STEP_DECODES].step_s, s->sums.steps[STEP_DECODES].n_steps);
}

static bool changes(const struct view *v, struct interval slope, double mean) {
    const bool is_sure = slope.low > 0 || slope.high < 0;
    return is_sure && fabs(slope.mean) * v->wall_s > STEADY_CHANGE * mean;
}

static void find_trends(const struct view *v) {
    struct evidence *e = v->out;
    double load_mean, ttft_mean, step_mean;
    e->load.concurrency_slope = slope_of(v, concurrency, &load_mean);
    e->load.ttft_slope = slope_of(v, mean_ttft, &ttft_mean);
    const struct interval steps = slope_of(v, decode_step_s, &step_mean);
    e->steady = e->n_steps > 0 && !changes(v, e->load.concurrency_slope, load_mean) && !changes(v, steps, step_mean);
}

// ------------------------------------------------------------------------------------------------------------- latency

static struct latency_figures latency_of(const struct sketch *sketch, double n_effective) {
    return (struct latency_figures){.n = sketch->n,
                                    .p50 = sketch_quantile_interval(sketch, n_effective, 0.5),
                                    .p95 = sketch_quantile_interval(sketch, n_effective, 0.95),
                                    .p99 = sketch_quantile_interval(sketch, n_effective, 0.99)};
}

static void find_latencies(const struct view *v) {
    const struct tally_window *w = v->window;
    struct sketch gaps = w->gaps[0];
    for (int i = 0; i < SKETCH_BUCKETS; i++) gaps.count[i] += w->gaps[1].count[i];
    gaps.n += w->gaps[1].n;
    // All sequences of a step have one gap: it says as much as one value.
    const double n_steps = v->sums->steps[STEP_DECODES].n_steps + v->sums->steps[STEP_DOES_BOTH].n_steps;
    v->out->itl = latency_of(&gaps, n_steps);
    v->out->ttft = latency_of(&w->ttft, (double)w->ttft.n);
    v->out->e2e = latency_of(&w->e2e, (double)w->e2e.n);
    v->out->queue = latency_of(&w->queue, (double)w->queue.n);
    const double threshold = LONG_GAP * sketch_quantile(&gaps, 0.5);
    const double n_long = gaps.n ? (double)sketch_above(&gaps, threshold) : 0;
    const double n_with = gaps.n ? (double)sketch_above(&w->gaps[1], threshold) : 0;
    v->out->prompt.gaps_long_share = ratio(n_long, (double)gaps.n);
    v->out->prompt.gaps_long_with_prompt = n_long > 0 ? fmin(n_with / n_long, 1) : NAN;
}

// ------------------------------------------------------------------------------------------------------------ requests

static double quantile_of(const struct request_trace *traces, size_t n, int32_t (*value)(const struct request_trace *),
                          double q) {
    if (n == 0) return NAN;
    double *values = mem_alloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++) values[i] = value(&traces[i]);
    const double quantile = statistics_quantile(values, n, q);
    free(values);
    return quantile;
}

static int32_t prompt_tokens(const struct request_trace *t) {
    return t->n_prompt;
}

// A prompt alone on this server, by the model: whole steps of as many rows as may be.
static double alone_s(const struct view *v, double n_prompt) {
    const struct setup *s = &v->in->setup[0];
    if (!v->in->model || s->rows_max <= 0 || !(n_prompt > 0)) return NAN;
    double seconds = 0;
    for (double done = 0; done < n_prompt; done += s->rows_max) {
        const double rows = fmin(n_prompt - done, s->rows_max);
        const struct step_work work = {.weight_bytes = s->layer_bytes,
                                       .head_bytes = s->head_bytes,
                                       .kv_bytes = (done + rows) * s->kv_bytes_per_token,
                                       .linear_flops = rows * s->flops_per_token,
                                       .attention_flops = s->attention_flops_per_key * rows * (done + rows / 2),
                                       .head_flops = s->head_flops_per_row,
                                       .rows = rows,
                                       .prompt_rows = rows,
                                       .logit_rows = 1,
                                       .sequences = 1};
        seconds += step_model_fitted_s(v->in->model, &work);
    }
    return seconds;
}

// Whether a prompt of more than twice its length was computed while this one waited.
static bool waits_behind_longer(const struct request_trace *all, size_t n, const struct request_trace *short_one) {
    for (size_t i = 0; i < n; i++) {
        const struct request_trace *other = &all[i];
        if (other->n_prompt / 2 > short_one->n_prompt && other->scheduled_ns > 0 &&
            other->scheduled_ns < short_one->first_token_ns && other->first_token_ns > short_one->arrived_ns)
            return true;
    }
    return false;
}

static void find_short_prompts(const struct view *v, const struct request_trace *traces, size_t n, double median) {
    struct prompt_figures *p = &v->out->prompt;
    double *ttft = mem_alloc((n + 1) * sizeof *ttft);
    size_t n_short = 0, n_behind = 0, n_looked = 0;
    for (size_t i = 0; i < n; i++) {
        const struct request_trace *t = &traces[i];
        if (t->failed || t->first_token_ns < t->arrived_ns || t->n_prompt > median) continue;
        ttft[n_short++] = (double)(t->first_token_ns - t->arrived_ns) * 1e-9;
        if (i >= REQUESTS_IN_PAIRS) continue;
        n_looked++;
        n_behind += waits_behind_longer(traces, n < REQUESTS_IN_PAIRS ? n : REQUESTS_IN_PAIRS, t);
    }
    p->ttft_short_p99 = n_short >= 100 ? statistics_quantile(ttft, n_short, 0.99) : NAN;
    p->ttft_short_alone = alone_s(v, median);
    p->long_ahead_share = ratio((double)n_behind, (double)n_looked);
    free(ttft);
}

static void find_requests(const struct view *v) {
    struct load_figures *l = &v->out->load;
    struct request_trace *traces = mem_alloc(REQUESTS_SEEN * sizeof *traces);
    const size_t n = tally_requests(v->in->tally, v->window, traces, REQUESTS_SEEN);
    double prompt = 0, cached = 0, output = 0, squares = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        prompt += traces[i].n_prompt;
        cached += traces[i].n_cached;
        output += traces[i].n_generated;
        most += traces[i].n_max;
    }
    const double count = (double)n;
    l->prompt_tokens_mean = ratio(prompt, count);
    l->cached_tokens_mean = ratio(cached, count);
    l->output_tokens_mean = ratio(output, count);
    l->max_tokens_mean = ratio(most, count);
    for (size_t i = 0; i < n; i++) {
        const double apart = traces[i].n_generated - l->output_tokens_mean;
        squares += apart * apart;
    }
    l->output_tokens_deviation = n > 1 ? sqrt(squares / (count - 1)) : NAN;
    l->prompt_tokens_p99 = n >= 100 ? quantile_of(traces, n, prompt_tokens, 0.99) : NAN;
    find_short_prompts(v, traces, n, quantile_of(traces, n, prompt_tokens, 0.5));
    free(traces);
}

// ---------------------------------------------------------------------------------------------------------------- load

static void find_load(const struct view *v) {
    struct load_figures *l = &v->out->load;
    const struct tally_sums *s = v->sums;
    const struct tally_window *w = v->window;
    const double inside = (double)(w->sample_after.n_running + w->sample_after.n_waiting) -
                          (double)(w->sample_before.n_running + w->sample_before.n_waiting);
    const double rejected = GROWN(v, n_rejected_total);
    l->n_finished = (int64_t)s->n_finished;
    l->n_failed = (int64_t)s->n_failed;
    l->n_rejected = (int64_t)rejected;
    l->n_arrived = (int64_t)fmax(s->n_finished + s->n_failed + inside + rejected, 0);
    l->arrival_rate = (double)l->n_arrived / v->wall_s;
    l->finish_rate = s->n_finished / v->wall_s;
    l->running_mean = s->running_s / v->wall_s;
    l->waiting_mean = s->waiting_s / v->wall_s;
    l->concurrency_mean = l->running_mean + l->waiting_mean;
    l->residence_mean = ratio(s->residence_s, s->n_finished);
    l->queue_share = s->queued_s / v->wall_s;
    l->full_share = ratio(s->steps_full, (double)v->out->n_steps);
    l->idle_share = v->out->ledger.share[TIME_IDLE];
    const struct step_sums all =
        sum_of(sum_of(s->steps[STEP_READS_PROMPTS], &s->steps[STEP_DOES_BOTH]), &s->steps[STEP_DECODES]);
    l->input_rate = (all.prompt_rows - all.recomputed_rows) / v->wall_s;
    l->cached_rate = GROWN(v, n_cached_tokens_total) / v->wall_s;
    l->output_rate = GROWN(v, n_generated_tokens_total) / v->wall_s;
    const bool has_objective = figure_known(v->in->setup->objective_ttft) || figure_known(v->in->setup->objective_itl);
    l->good_rate = has_objective ? s->good_tokens / v->wall_s : NAN;
}

static void find_prompts(const struct view *v) {
    struct prompt_figures *p = &v->out->prompt;
    const struct step_sums *decode = &v->sums->steps[STEP_DECODES], *both = &v->sums->steps[STEP_DOES_BOTH];
    const struct step_sums prompts = sum_of(v->sums->steps[STEP_READS_PROMPTS], both);
    p->rows_per_step = ratio(prompts.prompt_rows, prompts.n_steps);
    p->step_share = ratio(prompts.n_steps, (double)v->out->n_steps);
    p->step_s_with = ratio(both->step_s, both->n_steps);
    p->step_s_without = ratio(decode->step_s, decode->n_steps);
    const double attention = prompts.attention_flops - prompts.attention_flops_decode;
    const double linear = prompts.linear_flops * ratio(prompts.prompt_rows, prompts.rows);
    p->attention_share = ratio(attention, attention + linear);
}

static void find_cache(const struct view *v) {
    struct cache_figures *c = &v->out->cache;
    const struct tally_sums *s = v->sums;
    const struct advisor_sample *after = &v->window->sample_after;
    const double n_blocks = v->in->setup->n_blocks;
    c->blocks_used_mean = ratio(s->blocks_s, s->busy_s);
    c->occupancy = ratio(c->blocks_used_mean, n_blocks);
    c->occupancy_max = ratio(s->blocks_max, n_blocks);
    double slots = 0, tokens = 0;
    for (int32_t i = 0; i < v->window->n_seconds; i++) {
        const struct advisor_sample *sample = &tally_second(v->in->tally, v->window, i)->sample;
        slots += (double)sample->n_slots, tokens += (double)sample->n_tokens;
    }
    c->waste_share = ratio(slots - tokens, slots);
    c->n_preemptions = (int64_t)GROWN(v, n_preemptions_total);
    double rows = 0;
    for (int kind = 0; kind < STEP_KINDS; kind++) {
        rows += s->steps[kind].rows;
        c->recomputed_tokens += s->steps[kind].recomputed_rows;
    }
    c->useful_tokens = rows - c->recomputed_tokens;
    c->queries = GROWN(v, n_prefix_queries_total);
    c->hits = GROWN(v, n_prefix_hits_total);
    c->ideal_hits = after->n_prefix_ideal_total > 0 ? GROWN(v, n_prefix_ideal_total) : NAN;
    c->evicted_tokens = GROWN(v, n_prefix_evicted_total);
    c->early_divergence_share = ratio(GROWN(v, n_early_divergences_total), GROWN(v, n_lookups_total));
    c->divergence_token = after->divergence_token;
    c->free_memory_bytes = v->window->machine_after.available_bytes;
}

// Deviation of the share of right guesses, from second to second.
static double shadow_deviation(const struct view *v) {
    double sum = 0, squares = 0, n = 0;
    const struct advisor_sample *before = &v->window->sample_before;
    for (int32_t i = 0; i < v->window->n_seconds; i++) {
        const struct advisor_sample *after = &tally_second(v->in->tally, v->window, i)->sample;
        const double guesses = grown(before->n_shadow_guesses_total, after->n_shadow_guesses_total);
        const double hits = grown(before->n_shadow_hits_total, after->n_shadow_hits_total);
        before = after;
        if (guesses <= 0) continue;
        sum += hits / guesses, squares += hits / guesses * (hits / guesses), n++;
    }
    return n > 2 ? sqrt(fmax(squares - sum * sum / n, 0) / (n - 1)) : NAN;
}

static void find_speculation(const struct view *v) {
    const struct tally_sums *s = v->sums;
    const struct step_sums all = sum_of(s->steps[STEP_DECODES], &s->steps[STEP_DOES_BOTH]);
    const double guesses = GROWN(v, n_shadow_guesses_total);
    v->out->speculation = (struct speculation_figures){
        .is_on = v->in->setup->speculates,
        .drafts_per_sequence = ratio(all.draft_rows, s->drafted_sequences),
        .acceptance = ratio(all.accepted, all.draft_rows),
        .draft_row_share = ratio(all.draft_rows, all.rows - all.prompt_rows),
        .step_share = ratio(s->drafted_steps, all.n_steps),
        .draft_s = s->draft_s,
        .gain = v->window->sample_after.speculation_gain,
        .gain_best = v->window->sample_after.speculation_gain_best,
        .shadow_acceptance = ratio(GROWN(v, n_shadow_hits_total), guesses),
        .shadow_deviation = shadow_deviation(v),
        .shadow_coverage = ratio(guesses, GROWN(v, n_shadow_tokens_total)),
    };
}

static void find_host(const struct view *v) {
    const double *share = v->out->ledger.share;
    const double busy = 1 - share[TIME_IDLE], n_steps = (double)v->out->n_steps, n_arrived = v->sums->n_finished;
    const double text_s = GROWN(v, text_busy_ns_total) * 1e-9;
    v->out->host = (struct host_figures){
        .gap_share = ratio(share[TIME_HOST_GAP], busy),
        .gap_s = ratio(v->sums->seconds[TIME_HOST_GAP], n_steps),
        .loop_busy_share = GROWN(v, loop_busy_ns_total) * 1e-9 / v->wall_s,
        .text_busy_share = ratio(text_s / v->wall_s, v->window->sample_after.n_text_threads),
        .text_s_per_request = ratio(text_s, n_arrived),
        .sample_share = ratio(share[TIME_SAMPLING], busy),
        .head_share = ratio(share[TIME_HEAD], busy),
        .sample_s = ratio(v->sums->seconds[TIME_SAMPLING], n_steps),
        .mask_share = NAN,
        .blocked_stream_share = ratio(GROWN(v, n_streams_blocked_total), GROWN(v, n_streams_total)),
        .tokens_per_event = ratio(GROWN(v, n_generated_tokens_total), GROWN(v, n_events_total)),
    };
}

// ------------------------------------------------------------------------------------------------------------
// efficiency

static double bytes_of(const struct step_sums *s) {
    return s->weight_bytes + s->head_bytes + s->kv_bytes;
}
static double flops_of(const struct step_sums *s) {
    return s->linear_flops + s->attention_flops + s->head_flops;
}

static void find_efficiency(const struct view *v) {
    const struct tally_sums *s = v->sums;
    const struct step_sums *decode = &s->steps[STEP_DECODES];
    const struct step_sums prompt = sum_of(s->steps[STEP_READS_PROMPTS], &s->steps[STEP_DOES_BOTH]);
    const struct step_sums all = sum_of(prompt, decode), decoding = sum_of(*decode, &s->steps[STEP_DOES_BOTH]);
    const double read = v->in->peaks->read.value, compute = v->in->peaks->compute.value;
    v->out->efficiency = (struct efficiency_figures){
        .mfu = ratio(flops_of(&all), s->busy_s) / compute,
        .mbu = ratio(bytes_of(&all), s->busy_s) / read,
        .mfu_decode = ratio(flops_of(decode), decode->step_s) / compute,
        .mbu_decode = ratio(bytes_of(decode), decode->step_s) / read,
        .mfu_prompt = ratio(flops_of(&prompt), prompt.step_s) / compute,
        .mbu_prompt = ratio(bytes_of(&prompt), prompt.step_s) / read,
        .mfu_palm = ratio(all.palm_flops, s->busy_s) / compute,
        .kv_share = ratio(decode->kv_bytes, bytes_of(decode)),
        .decode_rows_mean = ratio(decode->rows - decode->draft_rows, decode->n_steps),
        .context_mean = ratio(decoding.context, decoding.decoding),
        .decode_s_mean = ratio(decode->step_s, decode->n_steps),
        .decode_time_share = ratio(decode->step_s, all.step_s),
    };
}

// Share of wall time that quota, heat or power took: a lower clock takes the part that is missing from the highest.
static double held_back(const struct machine_figures *m) {
    const double thermal = m->thermal_share * (1 - m->frequency_share);
    return (m->throttled_share > 0 ? m->throttled_share : 0) + (thermal > 0 ? thermal : 0);
}

bool evidence_make(struct evidence *out, const struct evidence_input *in, double window_s) {
    struct tally_window window;
    memset(out, 0, sizeof *out);
    if (!tally_window(in->tally, window_s, &window)) return false;
    const double covered_s = window.sums.wall_s - fmin(window.sums.lost_s, window.sums.wall_s / 2);
    const struct view v = {in, &window, &window.sums, covered_s, out};
    out->window_s = window.end_s - window.begin_s;
    out->setup = *in->setup;
    out->peaks = *in->peaks;
    out->model = in->model;
    for (int kind = 0; kind < STEP_KINDS; kind++) out->n_steps += (int64_t)window.sums.steps[kind].n_steps;
    machine_figures(in->machine, &window.machine_before, &window.machine_after, &out->machine);
    out->machine.n_read_curve = in->n_read_curve;
    for (int32_t i = 0; i < in->n_read_curve; i++) out->machine.read_curve[i] = in->read_curve[i];
    time_ledger_make(&out->ledger, window.sums.seconds, covered_s, held_back(&out->machine));
    out->busy_s = window.sums.busy_s;
    find_load(&v);
    find_prompts(&v);
    find_latencies(&v);
    find_requests(&v);
    find_cache(&v);
    find_speculation(&v);
    find_host(&v);
    find_efficiency(&v);
    find_trends(&v);
    return true;
}

static double quantile_32(const uint32_t a[SKETCH_BUCKETS], const uint32_t b[SKETCH_BUCKETS], double q) {
    struct sketch sketch = {0};
    sketch_add_32(&sketch, a);
    sketch_add_32(&sketch, b);
    return sketch_quantile(&sketch, q);
}

static double quantile_16(const uint16_t a[SKETCH_BUCKETS], double q) {
    struct sketch sketch = {0};
    sketch_add_16(&sketch, a);
    return sketch_quantile(&sketch, q);
}

static struct history_point point_of(const struct tally_second *s, const struct tally_second *before,
                                     const struct setup *setup, const struct peak_figures *peaks) {
    const double wall_s = s->sums.wall_s;
    struct step_sums all =
        sum_of(sum_of(s->sums.steps[STEP_DECODES], &s->sums.steps[STEP_DOES_BOTH]), &s->sums.steps[STEP_READS_PROMPTS]);
    return (struct history_point){
        .output_rate =
            ratio(grown(before->sample.n_generated_tokens_total, s->sample.n_generated_tokens_total), wall_s),
        .input_rate = ratio(all.prompt_rows - all.recomputed_rows, wall_s),
        .ttft_p50 = quantile_16(s->ttft, 0.5),
        .itl_p50 = quantile_32(s->gaps[0], s->gaps[1], 0.5),
        .itl_p99 = quantile_32(s->gaps[0], s->gaps[1], 0.99),
        .running = ratio(s->sums.running_s, wall_s),
        .waiting = ratio(s->sums.waiting_s, wall_s),
        .kv_occupancy = ratio(ratio(s->sums.blocks_s, s->sums.busy_s), setup->n_blocks),
        .mfu = ratio(flops_of(&all), s->sums.busy_s) / peaks->compute.value,
        .mbu = ratio(bytes_of(&all), s->sums.busy_s) / peaks->read.value,
        .watts = ratio(s->machine.joules - before->machine.joules, wall_s),
    };
}

size_t evidence_history(const struct tally *tally, const struct setup *setup, const struct peak_figures *peaks,
                        struct history_point *out, size_t n) {
    struct tally_window window;
    if (n == 0 || !tally_window(tally, (double)n, &window)) return 0;
    size_t count = (size_t)window.n_seconds < n ? (size_t)window.n_seconds : n;
    for (size_t i = 0; i < count; i++) {
        const int32_t at = window.n_seconds - (int32_t)(count - i);
        const struct tally_second *second = tally_second(tally, &window, at);
        out[i] = point_of(second, tally_second(tally, &window, at - 1), setup, peaks);
        out[i].age_s = window.end_s - second->end_s;
    }
    return count;
}
