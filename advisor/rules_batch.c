// Rules about how many sequences run at once: too few, too many, not enough requests, admitted too late.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

static double cap_now(const struct evidence *e) {
    int64_t value = e->setup.knobs.knob[KNOB_SEQUENCES].value;
    return value > 0 ? (double)value : (double)e->setup.sequences_max;
}

// Values that people set: 4, 8, 12, ... 64, 80, ...
static double round_down(double sequences) {
    double step = sequences >= 64 ? 16 : sequences >= 8 ? 4 : 1;
    return floor(sequences / step) * step;
}

// Decoding when `cap` sequences may run: rows grow like the cap that they fill now.
static struct decode_point at_cap(const struct evidence *e, double cap) {
    struct decode_point at = rule_decode_now(e);
    at.rows *= cap / cap_now(e);
    return at;
}

enum limit { LIMIT_DEMAND, LIMIT_BLOCKS, LIMIT_OBJECTIVE, LIMIT_EXTRAPOLATION };

// The most sequences that would be of use: as many as there are, have blocks, keep the objective between tokens, and
// can be predicted.
static double cap_best(const struct evidence *e, enum limit *limit) {
    double cap = cap_now(e), best = ceil(e->load.running_mean + e->load.waiting_mean);
    *limit = LIMIT_DEMAND;
    double blocks = rule_kv_sequences(e), predicted = threshold_extrapolation * cap;
    if (isfinite(blocks) && blocks < best) best = blocks, *limit = LIMIT_BLOCKS;
    if (predicted < best) best = predicted, *limit = LIMIT_EXTRAPOLATION;
    if (figure_known(e->setup.objective_itl)) {
        double low = cap, high = best;
        struct decode_point at = at_cap(e, high);
        if (rule_decode_s(e, &at).high > e->setup.objective_itl.value) {
            *limit = LIMIT_OBJECTIVE;
            while (high - low > 0.5) { // step time grows with rows
                double middle = 0.5 * (low + high);
                at = at_cap(e, middle);
                if (rule_decode_s(e, &at).high > e->setup.objective_itl.value)
                    high = middle;
                else
                    low = middle;
            }
            best = low;
        }
    }
    return round_down(best);
}

static enum verdict_of_rule cannot_grow(struct rule_result *r, enum limit limit, double cap) {
    static const struct range none = {1, 1};
    static const char *const why[] = {
        [LIMIT_DEMAND] = "as many sequences run as clients bring: a higher limit changes nothing",
        [LIMIT_BLOCKS] = "the KV cache has no room for more sequences; see R4",
        [LIMIT_OBJECTIVE] = "more rows would break the objective between tokens",
        [LIMIT_EXTRAPOLATION] = "",
    };
    return rule_wont_help(r, none, "%.0f sequences: %s", cap, why[limit]);
}

enum verdict_of_rule rule_batch_too_small(const struct evidence *e, struct rule_result *r) {
    const struct load_figures *load = &e->load;
    const struct efficiency_figures *now = &e->efficiency;
    if (!RULE_KNOWN(load->queue_share, load->full_share, load->running_mean, load->waiting_mean, load->output_rate,
                    now->decode_rows_mean, now->context_mean, now->decode_time_share, now->decode_s_mean))
        return RULE_UNKNOWN;
    double cap = cap_now(e);
    if (cap < 1 || now->decode_rows_mean <= 0) return RULE_UNKNOWN;
    if (!rule_above(r, load->full_share, threshold_full_share))
        return rule_healthy(r, "the limit of %.0f sequences is reached in %s of steps (fires above %s)", cap,
                            words_percent(load->full_share).text, words_percent(threshold_full_share).text);
    if (!rule_above(r, load->queue_share, threshold_queue_share))
        return rule_healthy(r, "somebody waits in %s of the time (fires above %s)",
                            words_percent(load->queue_share).text, words_percent(threshold_queue_share).text);
    enum limit limit;
    double best = cap_best(e, &limit);
    if (best <= cap) return cannot_grow(r, limit, cap);
    struct decode_point at = at_cap(e, best);
    struct range gain = rule_decode_gain(e, &at), seconds = rule_decode_s(e, &at);
    if (!isfinite(gain.low)) return RULE_UNKNOWN;
    if (!rule_above(r, gain.low, threshold_gain_least))
        return rule_wont_help(r, gain, "%.0f sequences instead of %.0f: %s, because steps already use what is there",
                              best, cap, words_factors(gain).text);
    struct finding *f = rule_finds(r, BOTTLENECK_BANDWIDTH, TIME_DECODE_WEIGHTS, now->decode_time_share);
    RULE_SAY(f->diagnosis,
             "Decoding works on %s sequences at a time while %s wait: every step reads all weights for so few tokens.",
             words_number(now->decode_rows_mean).text, words_number(load->waiting_mean).text);
    rule_fact(f, "sequences_limit", "sequences", cap, FIGURE_USER);
    rule_fact(f, "decode_rows_mean", "rows", now->decode_rows_mean, FIGURE_MEASURED);
    rule_fact(f, "waiting_mean", "sequences", load->waiting_mean, FIGURE_MEASURED);
    rule_fact(f, "queue_share", "share", load->queue_share, FIGURE_MEASURED);
    rule_fact(f, "decode_step", "s", now->decode_s_mean, FIGURE_MEASURED);
    RULE_SAY(f->action, "Let %.0f sequences run at once instead of %.0f.%s", best, cap,
             limit == LIMIT_EXTRAPOLATION ? " More may pay as well, but four times what was seen is as far as a"
                                            " prediction goes: look again from there."
                                          : "");
    rule_effect(f, "output_tokens_per_s", load->output_rate, gain, rule_decode_gain_cap(e, &at),
                "time of a step with %s rows from the fitted step model (additive and multiplicative bracket, two "
                "deviations); decoding is %s of busy time",
                words_number(at.rows).text, words_percent(now->decode_time_share).text);
    rule_input(f, "decode_rows_then", "rows", at.rows, FIGURE_MODELLED);
    rule_input(f, "decode_step_then_low", "s", seconds.low, FIGURE_MODELLED);
    rule_input(f, "decode_step_then_high", "s", seconds.high, FIGURE_MODELLED);
    rule_input(f, "decode_time_share", "share", fmin(1, now->decode_time_share), FIGURE_MEASURED);
    rule_risk(f, "A token takes longer: a step takes %s instead of %s.", words_times(seconds).text,
              words_seconds(now->decode_s_mean).text);
    rule_set_knob(f, e, KNOB_SEQUENCES, best);
    RULE_SAY(f->success, "output tokens/s at least %s of now, and ITL p99 within its limit",
             words_factor(f->effect.factor.low).text);
    RULE_SAY(f->why, "The weights are read once a step, however many sequences share them. More rows cost only their "
                     "own attention and arithmetic until those take as long as the weights.");
    return RULE_FIRES;
}

// The most sequences whose steps keep the objective even at the slow end of the prediction.
static double cap_for_objective(const struct evidence *e, double objective) {
    double low = 0, high = cap_now(e);
    while (high - low > 0.5) {
        double middle = 0.5 * (low + high);
        struct decode_point at = at_cap(e, middle);
        double s = rule_decode_s(e, &at).high;
        if (!isfinite(s)) return NAN;
        if (s > objective)
            high = middle;
        else
            low = middle;
    }
    return round_down(low);
}

enum verdict_of_rule rule_batch_too_large(const struct evidence *e, struct rule_result *r) {
    const struct efficiency_figures *now = &e->efficiency;
    double cap = cap_now(e), objective = e->setup.objective_itl.value;
    if (!figure_known(e->setup.objective_itl)) return RULE_UNKNOWN; // a question asks for it
    if (!RULE_KNOWN(e->itl.p50.mean, now->decode_rows_mean, now->decode_s_mean, now->kv_share, e->load.running_mean,
                    objective) ||
        cap < 2 || now->decode_rows_mean < 2 || e->itl.p50.mean <= 0)
        return RULE_UNKNOWN;
    if (!rule_above(r, e->itl.p50.mean, objective))
        return rule_healthy(r, "ITL p50 %s (objective %s)", words_seconds(e->itl.p50.mean).text,
                            words_seconds(objective).text);
    struct decode_point half = rule_decode_now(e);
    half.rows /= 2;
    struct range gain_half = rule_decode_gain(e, &half);
    if (!isfinite(gain_half.low) || gain_half.high <= 0) return RULE_UNKNOWN;
    double knee = 2 / (gain_half.low + gain_half.high) - 1; // throughput that the last doubling brought
    if (!rule_below(r, knee, threshold_knee_gain) && !rule_above(r, now->kv_share, threshold_knee_kv_share))
        return rule_wont_help(r, gain_half, "half the sequences: output tokens/s %s, because rows still share weights",
                              words_factors(gain_half).text);
    double best = cap_for_objective(e, objective);
    if (!(best >= 1) || best >= cap) return RULE_UNKNOWN;
    struct decode_point at = at_cap(e, best);
    struct range seconds = rule_decode_s(e, &at), gain = rule_decode_gain(e, &at);
    if (!isfinite(seconds.low) || !isfinite(gain.low)) return RULE_UNKNOWN;
    struct finding *f = rule_finds(r, BOTTLENECK_COMPUTE, TIME_DECODE_KV, now->decode_time_share);
    RULE_SAY(f->diagnosis,
             "Tokens come every %s (objective %s), and the last doubling of the batch brought only %s "
             "more throughput.",
             words_seconds(e->itl.p50.mean).text, words_seconds(objective).text, words_percent(knee).text);
    rule_fact(f, "itl_p50", "s", e->itl.p50.mean, FIGURE_MEASURED);
    rule_fact(f, "objective_itl", "s", objective, FIGURE_USER);
    rule_fact(f, "decode_rows_mean", "rows", now->decode_rows_mean, FIGURE_MEASURED);
    rule_fact(f, "kv_share", "share", now->kv_share, FIGURE_MODELLED);
    RULE_SAY(f->action, "Let at most %.0f sequences run at once instead of %.0f; the others wait a little longer.",
             best, cap);
    rule_effect(f, "itl_p50_s", e->itl.p50.mean,
                (struct range){seconds.low / now->decode_s_mean, seconds.high / now->decode_s_mean},
                rule_decode_least_s(e, &at) / now->decode_s_mean,
                "time of a step with %s rows from the fitted step model, over that of now", words_number(at.rows).text);
    rule_input(f, "decode_rows_then", "rows", at.rows, FIGURE_MODELLED);
    rule_input(f, "decode_step", "s", now->decode_s_mean, FIGURE_MEASURED);
    rule_risk(f, "Output tokens/s become %s of now, and the queue grows.", words_factors(gain).text);
    rule_set_knob(f, e, KNOB_SEQUENCES, best);
    RULE_SAY(f->success, "ITL p50 at most %s, output tokens/s not below 0.90x", words_seconds(objective).text);
    RULE_SAY(f->why, "Beyond the knee each row brings its own reading and arithmetic: a larger batch makes every step "
                     "longer and serves hardly more tokens.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_input_starved(const struct evidence *e, struct rule_result *r) {
    const struct load_figures *load = &e->load;
    double blocks = rule_kv_sequences(e), target = cap_now(e);
    if (!RULE_KNOWN(load->queue_share, load->running_mean, load->idle_share, load->output_rate) || target < 1)
        return RULE_UNKNOWN;
    if (isfinite(blocks) && blocks < target) target = blocks;
    if (rule_above(r, load->queue_share, threshold_queue_share))
        return rule_healthy(r, "somebody waits in %s of the time", words_percent(load->queue_share).text);
    if (!rule_above(r, load->idle_share, threshold_idle_share))
        return rule_healthy(r, "the server works %s of the time (fires below %s)",
                            words_percent(1 - fmin(1, load->idle_share)).text,
                            words_percent(1 - threshold_idle_share).text);
    if (!rule_below(r, load->running_mean, threshold_starved_share * target))
        return rule_healthy(r, "%s of %.0f sequences run", words_number(load->running_mean).text, target);
    double idle = fmin(load->idle_share, 1);
    // Twice the requests take at most as much longer as the server is busy now, and cannot use more time than there is.
    double low = fmin(2 / (2 - idle), threshold_target_utilisation / fmax(1 - idle, 1e-3));
    double error = fmin(0.5, 2 / sqrt(fmax(1, (double)e->load.n_finished))); // two deviations of a count
    struct finding *f = rule_finds(r, BOTTLENECK_INPUT, TIME_IDLE, idle);
    RULE_SAY(f->diagnosis,
             "The server is idle %s of the time: on average %s of %.0f possible sequences run and nobody "
             "waits.",
             words_percent(idle).text, words_number(load->running_mean).text, target);
    rule_fact(f, "idle_share", "share", idle, FIGURE_MEASURED);
    rule_fact(f, "running_mean", "sequences", load->running_mean, FIGURE_MEASURED);
    rule_fact(f, "queue_share", "share", fmin(load->queue_share, 1), FIGURE_MEASURED);
    RULE_SAY(f->action, "Nothing to change in the server. More throughput needs more requests at once: raise the "
                        "clients' concurrency or send work in batches.");
    rule_effect(
        f, "output_tokens_per_s", load->output_rate, (struct range){fmax(low, 1) * (1 - error), 2 * (1 + error)}, NAN,
        "twice the requests, each at most as much longer as the server is busy now; two deviations of the number "
        "of requests");
    rule_input(f, "idle_share", "share", idle, FIGURE_MEASURED);
    rule_input(f, "requests", "requests", fmax(0, (double)e->load.n_finished), FIGURE_MEASURED);
    int users = (int)fmin(1000, fmax(2, ceil(2 * load->running_mean)));
    RULE_SAY(f->experiment, "optima bench %.120s --users %d", rule_url(e), users);
    RULE_SAY(f->success, "with %d users output tokens/s rise by half or more: then it was the clients", users);
    RULE_SAY(f->why,
             "A server cannot work on requests that nobody sends. Changes inside it would shorten the busy "
             "part, which is %s of the time.",
             words_percent(1 - idle).text);
    return RULE_FIRES;
}

// Blocks are set aside for this share of max_tokens, in percent: the mean answer and two deviations.
static double admission_wanted(const struct load_figures *load) {
    double percent = 100 * (load->output_tokens_mean + 2 * load->output_tokens_deviation) / load->max_tokens_mean;
    return ceil(fmin(100, fmax(percent, 5)) / 5) * 5;
}

enum verdict_of_rule rule_admission_conservative(const struct evidence *e, struct rule_result *r) {
    const struct load_figures *load = &e->load;
    double occupancy = e->cache.occupancy, cap = cap_now(e);
    if (!RULE_KNOWN(load->queue_share, load->full_share, occupancy, load->output_tokens_mean,
                    load->output_tokens_deviation, load->max_tokens_mean, load->running_mean, load->waiting_mean,
                    e->efficiency.decode_rows_mean, load->output_rate) ||
        cap < 1 || load->max_tokens_mean < 1 || load->running_mean <= 0)
        return RULE_UNKNOWN;
    if (!rule_above(r, load->queue_share, threshold_full_share))
        return rule_healthy(r, "somebody waits in %s of the time (fires above %s)",
                            words_percent(load->queue_share).text, words_percent(threshold_full_share).text);
    if (!rule_below(r, occupancy, threshold_admission_occupancy) || load->full_share > threshold_full_share)
        return rule_healthy(r, "%s of the KV cache is in use, and %s of steps run as many sequences as may",
                            words_percent(occupancy).text, words_percent(load->full_share).text);
    const struct knob *knob = &e->setup.knobs.knob[KNOB_ADMISSION];
    double wanted = admission_wanted(load);
    if (knob->value <= 0 || wanted >= (double)knob->value) return RULE_UNKNOWN;
    double most = fmin(threshold_extrapolation, 0.9 / fmax(occupancy, 0.01));
    most = fmin(most, fmin(cap, load->running_mean + load->waiting_mean) / load->running_mean);
    struct decode_point at = rule_decode_now(e);
    at.rows *= most;
    struct range gain = rule_decode_gain(e, &at);
    if (!isfinite(gain.low) || !rule_above(r, gain.high, threshold_gain_least)) return RULE_UNKNOWN;
    struct finding *f = rule_finds(r, BOTTLENECK_KV, TIME_DECODE_WEIGHTS, fmin(1, load->queue_share));
    RULE_SAY(f->diagnosis,
             "Requests wait although only %s of the KV cache is in use: room is kept for %s tokens of "
             "answer, and answers have %s.",
             words_percent(occupancy).text, words_number(load->max_tokens_mean * (double)knob->value / 100).text,
             words_number(load->output_tokens_mean).text);
    rule_fact(f, "kv_occupancy", "share", occupancy, FIGURE_MEASURED);
    rule_fact(f, "queue_share", "share", fmin(1, load->queue_share), FIGURE_MEASURED);
    rule_fact(f, "output_tokens_mean", "tokens", load->output_tokens_mean, FIGURE_MEASURED);
    rule_fact(f, "max_tokens_mean", "tokens", load->max_tokens_mean, FIGURE_USER);
    RULE_SAY(f->action, "Set blocks aside for %.0f %% of max_tokens instead of %lld %%.", wanted,
             (long long)knob->value);
    rule_effect(f, "output_tokens_per_s", load->output_rate, (struct range){fmin(1, gain.low), gain.high},
                rule_decode_gain_cap(e, &at),
                "up to %s times as many rows until the cache is 90 %% full, by the fitted "
                "step model; at worst none are admitted sooner",
                words_number(most).text);
    rule_input(f, "kv_occupancy", "share", occupancy, FIGURE_MEASURED);
    rule_input(f, "decode_rows_then", "rows", at.rows, FIGURE_MODELLED);
    rule_risk(f, "Answers longer than %.0f %% of max_tokens may be computed twice when the cache runs full.", wanted);
    rule_set_knob(f, e, KNOB_ADMISSION, wanted);
    RULE_SAY(f->success, "output tokens/s or TTFT p95 better by 2 %% or more, recomputed tokens below 1 %%");
    RULE_SAY(f->why, "Clients ask for more tokens than they use. Setting aside what answers really take, the mean and "
                     "two deviations, lets more sequences share each reading of the weights.");
    return RULE_FIRES;
}
