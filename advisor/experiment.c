#include "advisor/experiment.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 16384, STEPS_MIN = 200, GUARD_TICKS = 3, PAIRS_DEFAULT = 40, DRAWS = 2000 };
static const double block_s_default = 20, block_s_least = 1, block_s_most = 600, effect_default = 0.02;
static const double settle_share = 0.15, settle_s_most = 60, exposure_s_default = 1800, alpha_default = 0.05;
static const double blocks_longest = 6;    // a block may take so many times its length to have enough
static const double throttled_most = 0.05; // of a block
static const double guard_factor = 1.5, guard_kv = 0.98, unnoticed_itl_s = 0.05, unnoticed_ttft_s = 0.5;

static const struct {
    double quantile; // 0: a rate
    bool of_ttft, is_tail;
    double sign; // of what is better
    int32_t n_min;
} traits[METRICS] = {
    [METRIC_OUTPUT_RATE] = {0, false, false, 1, 1},  [METRIC_ITL_P50] = {0.5, false, false, -1, 20},
    [METRIC_ITL_P99] = {0.99, false, true, -1, 100}, [METRIC_TTFT_P50] = {0.5, true, false, -1, 5},
    [METRIC_TTFT_P95] = {0.95, true, true, -1, 20},
};

// Latencies of a block: all, or a fair sample of them.
struct values {
    int32_t n;
    uint64_t n_seen;
    float items[VALUES_MAX];
};

struct block {
    double settle_s, elapsed_s, measured_s, throttled_s;
    int64_t n_steps, n_tokens, n_ended, n_prompt_tokens, n_answer_tokens;
    struct values itl, ttft;
};

struct outcome {
    double value;   // of the metric; NAN: none
    double log_mix; // logarithm of what a token of the mix costs; NAN: not known
};

struct experiment {
    struct experiment_plan plan;
    struct experiment_before before;
    uint64_t key;
    enum experiment_phase phase;
    char reason[200];
    bool begun, at_new, new_was_last; // new_was_last: what goes wrong while the block settles may come from it
    int32_t i_pair, turn;             // pairs begun before, lost ones included; which block of the pair
    struct block block;
    struct outcome outcomes[2]; // of the present pair: at the present value, at the new one
    int32_t n_pairs;
    double raw[EXPERIMENT_PAIRS_MAX], mix[EXPERIMENT_PAIRS_MAX]; // log ratios of the metric, and of the mix
    double adjusted[EXPERIMENT_PAIRS_MAX];
    float path_low[EXPERIMENT_PAIRS_MAX], path_high[EXPERIMENT_PAIRS_MAX];
    int32_t over_itl, over_ttft; // ticks in a row
    double sign_flip_p, began_s, ended_s, now_s, exposure_s;
    double sorted[VALUES_MAX]; // scratch
};

// ------------------------------------------------------------------------------------------------------------ opening

static int check_range(double value, double low, double high, const char *name, struct err *err) {
    if (value >= low && value <= high) return 0;
    return err_set(err, ERR_INVALID, "%s must be from %g to %g, not %g", name, low, high, value);
}

static int check_guard(double limit, double measured, const char *name, struct err *err) {
    if (!(limit >= 0)) return err_set(err, ERR_INVALID, "the guard for the %s must be a time", name);
    if (limit > 0 && measured > limit)
        return err_set(err, ERR_INVALID, "the %s is %.3g ms at the present value, above the guard of %.3g ms", name,
                       measured * 1e3, limit * 1e3);
    return 0;
}

static int check_plan(const struct experiment_plan *plan, const struct experiment_before *before, struct err *err) {
    if ((unsigned)plan->knob >= KNOBS || (unsigned)plan->metric >= METRICS)
        return err_set(err, ERR_INVALID, "there is no such setting or metric");
    if (plan->value_new == plan->value_now)
        return err_set(err, ERR_INVALID, "%s is %lld already", knob_name(plan->knob), (long long)plan->value_now);
    int rc = check_range(plan->block_s, block_s_least, block_s_most, "block_s", err);
    if (!rc) rc = check_range(plan->pairs_max, STATISTICS_PAIRS_MIN, EXPERIMENT_PAIRS_MAX, "pairs", err);
    if (!rc) rc = check_range(plan->min_effect, 0.001, 1, "min_effect", err);
    if (!rc) rc = check_range(plan->alpha, 1e-6, 0.5, "alpha", err);
    if (!rc) rc = check_guard(plan->guard_itl_p99_s, before->itl_p99_s, "p99 of the time between tokens", err);
    if (!rc) rc = check_guard(plan->guard_ttft_p99_s, before->ttft_p99_s, "p99 of the time to the first token", err);
    return rc;
}

int experiment_open(struct experiment **out, const struct experiment_plan *plan, const struct experiment_before *before,
                    struct err *err) {
    struct experiment_plan full = *plan;
    if (full.block_s == 0) full.block_s = block_s_default;
    if (full.pairs_max == 0) full.pairs_max = PAIRS_DEFAULT;
    if (full.min_effect == 0) full.min_effect = effect_default;
    if (full.alpha == 0) full.alpha = alpha_default;
    if (full.exposure_max_s == 0) full.exposure_max_s = exposure_s_default;
    int rc = check_plan(&full, before, err);
    if (rc) return rc;
    struct experiment *e = mem_alloc_zero(1, sizeof *e);
    e->plan = full;
    e->before = *before;
    e->key = rng_key(full.seed, 0x6578, 0);
    e->sign_flip_p = NAN;
    *out = e;
    return 0;
}

void experiment_close(struct experiment *experiment) {
    free(experiment);
}

// ------------------------------------------------------------------------------------------------------------- blocks

static void begin_block(struct experiment *e) {
    const bool new_first = rng_u32(e->key, (uint64_t)e->i_pair) & 1;
    e->new_was_last = e->at_new;
    e->at_new = new_first ^ (e->turn == 1);
    const double requests_s = isfinite(e->before.e2e_p95_s) ? 2 * e->before.e2e_p95_s : 0;
    memset(&e->block, 0, sizeof e->block);
    e->block.settle_s = fmax(settle_share * e->plan.block_s, fmin(requests_s, settle_s_most));
}

static void add_values(struct values *values, const float *items, int32_t n, uint64_t key) {
    for (int32_t i = 0; i < n; i++) {
        uint64_t seen = values->n_seen++;
        if (values->n < VALUES_MAX) {
            values->items[values->n++] = items[i];
            continue;
        }
        uint64_t at = (uint64_t)rng_u32(key, seen) * (seen + 1) >> 32;
        if (at < VALUES_MAX) values->items[at] = items[i];
    }
}

static void add_sample(struct experiment *e, const struct experiment_sample *s) {
    struct block *block = &e->block;
    block->elapsed_s += s->since_s;
    if (block->elapsed_s - s->since_s < block->settle_s - 1e-9) return;
    block->measured_s += s->since_s;
    if (s->throttled) block->throttled_s += s->since_s;
    block->n_steps += s->n_steps;
    block->n_tokens += s->n_output_tokens;
    block->n_ended += s->n_ended;
    block->n_prompt_tokens += s->n_prompt_tokens;
    block->n_answer_tokens += s->n_answer_tokens;
    add_values(&block->itl, s->itl, s->n_itl, e->key);
    add_values(&block->ttft, s->ttft, s->n_ttft, e->key);
}

static bool block_is_long_enough(const struct experiment *e) {
    return e->block.measured_s >= (1 - settle_share) * e->plan.block_s - 1e-9;
}

static bool block_has_enough(const struct experiment *e) {
    const struct block *block = &e->block;
    const int metric = (int)e->plan.metric;
    const int32_t n = traits[metric].of_ttft ? block->ttft.n : block->itl.n;
    return block->n_steps >= STEPS_MIN && (traits[metric].quantile == 0 || n >= traits[metric].n_min);
}

static double quantile_of(struct experiment *e, const struct values *values, double q) {
    if (!values->n) return NAN;
    for (int32_t i = 0; i < values->n; i++) e->sorted[i] = (double)values->items[i];
    return statistics_quantile(e->sorted, (size_t)values->n, q);
}

// What an output token of the mix takes with its part of a prompt; for the first token, what a prompt takes.
static double log_mix_of(const struct experiment *e) {
    const struct block *block = &e->block;
    const double prompt = (double)block->n_prompt_tokens, output = (double)block->n_answer_tokens;
    if (!block->n_ended || !(prompt > 0) || !(output > 0)) return NAN;
    if (traits[e->plan.metric].of_ttft) return log(prompt / (double)block->n_ended);
    return log(e->before.prompt_token_s * prompt / output + e->before.output_token_s);
}

static void end_block(struct experiment *e) {
    const struct block *block = &e->block;
    const int metric = (int)e->plan.metric;
    double value = traits[metric].quantile == 0
                       ? (double)block->n_tokens / block->measured_s
                       : quantile_of(e, traits[metric].of_ttft ? &block->ttft : &block->itl, traits[metric].quantile);
    if (block->throttled_s > throttled_most * block->measured_s || !(value > 0)) value = NAN;
    e->outcomes[e->at_new] = (struct outcome){value, log_mix_of(e)};
    if (e->at_new) return;
    // The load may have changed since the beginning, and the limits with it.
    e->before.itl_p99_s = fmax(e->before.itl_p99_s, quantile_of(e, &block->itl, 0.99));
    e->before.ttft_p99_s = fmax(e->before.ttft_p99_s, quantile_of(e, &block->ttft, 0.99));
}

// ----------------------------------------------------------------------------------------------------------- decision

// Takes out what the mix explains. The line goes through the origin, because a mix that the setting does not change has
// a mean of 0: its slope stays when the sign of a pair turns in both, so that the pairs stay as symmetric as they were.
static void adjust(struct experiment *e) {
    double xx = 0, xy = 0;
    for (int32_t i = 0; i < e->n_pairs; i++) {
        const double x = isfinite(e->mix[i]) ? e->mix[i] : 0;
        xx += x * x, xy += x * e->raw[i];
    }
    const double slope = xx > 1e-6 * e->n_pairs ? fmax(-2, fmin(2, xy / xx)) : 0;
    for (int32_t i = 0; i < e->n_pairs; i++) e->adjusted[i] = e->raw[i] - (isfinite(e->mix[i]) ? slope * e->mix[i] : 0);
}

// Of 2,000 draws of as many pairs, the share whose mean is not on the side of this one, times two.
static double bootstrap_p(const struct experiment *e, double mean) {
    int32_t n_other = 1;
    for (uint64_t d = 0; d < DRAWS; d++) {
        const uint64_t key = rng_key(e->plan.seed, 0x626f6f74, d);
        double sum = 0;
        for (int32_t i = 0; i < e->n_pairs; i++)
            sum += e->adjusted[(uint64_t)rng_u32(key, (uint64_t)i) * (uint64_t)e->n_pairs >> 32];
        n_other += sum * mean <= 0;
    }
    return 2.0 * n_other / (DRAWS + 1);
}

static bool checks_agree(struct experiment *e, double mean) {
    e->sign_flip_p = statistics_sign_flip(e->adjusted, (size_t)e->n_pairs, e->plan.seed);
    return e->sign_flip_p < 0.05 && (!traits[e->plan.metric].is_tail || bootstrap_p(e, mean) < 0.05);
}

static void finish(struct experiment *e, enum experiment_phase phase, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void finish(struct experiment *e, enum experiment_phase phase, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(e->reason, sizeof e->reason, format, args);
    va_end(args);
    e->phase = phase;
    e->ended_s = e->now_s;
}

static struct interval sequence_of(const struct experiment *e) {
    return statistics_sequence(e->adjusted, (size_t)e->n_pairs, e->plan.alpha);
}

static void decide(struct experiment *e) {
    const struct interval log_factor = sequence_of(e);
    const double sign = traits[e->plan.metric].sign, least = log1p(e->plan.min_effect);
    const double percent = e->plan.min_effect * 100, mean = sign * log_factor.mean;
    const double low = sign > 0 ? log_factor.low : -log_factor.high;
    const double high = sign > 0 ? log_factor.high : -log_factor.low;
    if (low > 0 && mean >= least && checks_agree(e, log_factor.mean))
        finish(e, EXPERIMENT_KEPT, "certain after %d pairs", e->n_pairs);
    else if (high < 0 && mean <= -least && checks_agree(e, log_factor.mean))
        finish(e, EXPERIMENT_WORSE, "certain after %d pairs", e->n_pairs);
    else if (low > -least && high < least)
        finish(e, EXPERIMENT_NO_DIFFERENCE, "the difference is below %g %% after %d pairs", percent, e->n_pairs);
    else if (e->i_pair >= e->plan.pairs_max && (low > 0 || high < 0) && fabs(mean) < least)
        finish(e, EXPERIMENT_NO_DIFFERENCE, "a difference, but below %g %% on average after %d pairs", percent,
               e->n_pairs);
    else if (e->i_pair >= e->plan.pairs_max)
        finish(e, EXPERIMENT_UNDECIDED, "not certain after %d pairs, the most that were allowed", e->n_pairs);
}

static void end_pair(struct experiment *e) {
    const struct outcome *now = &e->outcomes[0], *new = &e->outcomes[1];
    e->i_pair++;
    const double ratio = log(new->value / now->value);
    if (isfinite(ratio)) {
        const int32_t i = e->n_pairs++;
        e->raw[i] = ratio;
        e->mix[i] = new->log_mix - now->log_mix;
        adjust(e);
        const struct interval log_factor = sequence_of(e);
        e->path_low[i] = (float)exp(log_factor.low);
        e->path_high[i] = (float)exp(log_factor.high);
        decide(e);
    } else if (e->i_pair >= e->plan.pairs_max) {
        finish(e, EXPERIMENT_UNDECIDED, "not certain after %d pairs; the others could not be compared", e->n_pairs);
    }
}

// ------------------------------------------------------------------------------------------------------------- guards

static double limit_of(double plan, double objective, double unnoticed, double measured) {
    if (plan > 0) return plan;
    if (!isfinite(measured)) return INFINITY;
    return fmax(isfinite(objective) && objective > 0 ? objective : unnoticed, guard_factor * measured);
}

// The p99 of one tick. Some values are needed to speak of it; a tick without any changes nothing.
static double over(struct experiment *e, const float *items, int32_t n, double limit, int32_t *ticks) {
    if (n <= 0) return NAN;
    if (n > VALUES_MAX) n = VALUES_MAX;
    for (int32_t i = 0; i < n; i++) e->sorted[i] = (double)items[i];
    const double p99 = statistics_quantile(e->sorted, (size_t)n, 0.99);
    *ticks = p99 > limit ? *ticks + 1 : 0;
    return p99;
}

static void check_guards(struct experiment *e, const struct experiment_sample *s) {
    const bool settling = e->block.elapsed_s < e->block.settle_s;
    const bool at_fault = e->at_new || (settling && e->new_was_last);
    if (s->n_errors > 0 && at_fault) {
        finish(e, EXPERIMENT_GUARDED, "guard: %lld requests failed", (long long)s->n_errors);
    } else if (s->n_errors > 0) {
        finish(e, EXPERIMENT_UNDECIDED, "%lld requests failed at the present value: nothing can be compared",
               (long long)s->n_errors);
    }
    if (!e->at_new) {
        e->over_itl = e->over_ttft = 0;
        e->before.kv_occupancy_max = fmax(e->before.kv_occupancy_max, s->kv_occupancy);
        return;
    }
    const struct experiment_before *b = &e->before;
    const double itl_limit = limit_of(e->plan.guard_itl_p99_s, b->objective_itl_s, unnoticed_itl_s, b->itl_p99_s);
    const double ttft_limit = limit_of(e->plan.guard_ttft_p99_s, b->objective_ttft_s, unnoticed_ttft_s, b->ttft_p99_s);
    const double itl = over(e, s->itl, s->n_itl, itl_limit, &e->over_itl);
    const double ttft = over(e, s->ttft, s->n_ttft, ttft_limit, &e->over_ttft);
    if (e->phase != EXPERIMENT_RUNNING) return;
    if (s->kv_occupancy > guard_kv && !(b->kv_occupancy_max > guard_kv))
        finish(e, EXPERIMENT_GUARDED, "guard: %.1f %% of the KV cache in use", s->kv_occupancy * 100);
    else if (e->over_itl >= GUARD_TICKS)
        finish(e, EXPERIMENT_GUARDED, "guard: itl p99 %.3g ms above %.3g ms for %d s", itl * 1e3, itl_limit * 1e3,
               GUARD_TICKS);
    else if (e->over_ttft >= GUARD_TICKS)
        finish(e, EXPERIMENT_GUARDED, "guard: ttft p99 %.3g ms above %.3g ms for %d s", ttft * 1e3, ttft_limit * 1e3,
               GUARD_TICKS);
}

// --------------------------------------------------------------------------------------------------------------- time

static int64_t value_of(const struct experiment *e) {
    const bool at_new = e->phase == EXPERIMENT_RUNNING ? e->begun && e->at_new : e->phase == EXPERIMENT_KEPT;
    return at_new ? e->plan.value_new : e->plan.value_now;
}

static void go_on(struct experiment *e) {
    if (block_is_long_enough(e) && block_has_enough(e)) {
        end_block(e);
        if (e->turn == 1) end_pair(e);
        e->turn ^= 1;
        begin_block(e);
    } else if (e->block.measured_s > blocks_longest * e->plan.block_s) {
        finish(e, EXPERIMENT_UNDECIDED, "too little traffic: %lld steps in %.0f s, and a block needs %d",
               (long long)e->block.n_steps, e->block.measured_s, STEPS_MIN);
    }
}

int64_t experiment_tick(struct experiment *e, const struct experiment_sample *s) {
    if (e->phase != EXPERIMENT_RUNNING) return value_of(e);
    e->now_s = s->at_s;
    if (!e->begun) {
        e->begun = true;
        e->began_s = s->at_s;
        begin_block(e);
        return value_of(e);
    }
    if (e->at_new) e->exposure_s += s->since_s;
    check_guards(e, s);
    if (e->phase == EXPERIMENT_RUNNING && e->exposure_s >= e->plan.exposure_max_s)
        finish(e, EXPERIMENT_UNDECIDED,
               "not certain after %d pairs: the time at tried values that a day may have is up", e->n_pairs);
    if (e->phase != EXPERIMENT_RUNNING) return value_of(e);
    add_sample(e, s);
    go_on(e);
    return value_of(e);
}

void experiment_stop(struct experiment *e) {
    if (e->phase == EXPERIMENT_RUNNING) finish(e, EXPERIMENT_STOPPED, "stopped after %d pairs", e->n_pairs);
}

bool experiment_is_running(const struct experiment *e) {
    return e->phase == EXPERIMENT_RUNNING;
}

void experiment_state(const struct experiment *e, struct experiment_state *out) {
    const struct interval log_factor = sequence_of(e);
    const double n = e->n_pairs, least = log1p(e->plan.min_effect);
    memset(out, 0, sizeof *out);
    out->plan = e->plan;
    out->phase = e->phase;
    out->n_pairs = e->n_pairs;
    out->factor = (struct interval){exp(log_factor.mean), exp(log_factor.low), exp(log_factor.high)};
    out->sign_flip_p = e->sign_flip_p;
    double squares = 0;
    for (int32_t i = 0; i < e->n_pairs; i++)
        squares += (e->adjusted[i] - log_factor.mean) * (e->adjusted[i] - log_factor.mean);
    const double error = n > 1 ? sqrt(squares / (n - 1) / n) : NAN;
    const double worse_by = traits[e->plan.metric].sign * log_factor.mean + least;
    out->regression_chance = error > 0 ? statistics_student_above(worse_by / error, n - 1) : NAN;
    out->began_s = e->began_s;
    out->ended_s = e->ended_s;
    out->exposure_s = e->exposure_s;
    memcpy(out->reason, e->reason, sizeof out->reason);
    memcpy(out->log_ratio, e->adjusted, sizeof out->log_ratio);
    memcpy(out->path_low, e->path_low, sizeof out->path_low);
    memcpy(out->path_high, e->path_high, sizeof out->path_high);
}
