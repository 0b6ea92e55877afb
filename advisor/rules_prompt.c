// Rules about prompts: beside decoding sequences, in chunks, behind each other, and with long contexts.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

static double whole_tiles(double rows) {
    double tile = rows >= 128 ? 64 : rows >= 16 ? 16 : rows >= 8 ? 8 : 1;
    return floor(rows / tile) * tile;
}

// ------------------------------------------------------------------------------------------------ R8: interference

// The highest percentile of gaps that the sample supports.
static struct tail {
    const char *metric, *name;
    double s;
} tail_of(const struct evidence *e) {
    if (RULE_KNOWN(e->itl.p99.mean)) return (struct tail){"itl_p99_s", "p99", e->itl.p99.mean};
    return (struct tail){"itl_p95_s", "p95", e->itl.p95.mean};
}

// The rows of prompts that keep a gap between tokens within the objective, and what follows from them.
static void limit_prompt_rows(struct finding *f, const struct evidence *e, double second_per_row) {
    const struct prompt_figures *prompt = &e->prompt;
    double objective = e->setup.objective_itl.value;
    double rows = whole_tiles(fmax(1, (objective - prompt->step_s_without) / second_per_row));
    double then = prompt->step_s_without + rows * second_per_row;
    const struct tail tail = tail_of(e);
    RULE_SAY(f->action,
             "Compute at most %.0f rows of prompts beside sequences that decode: a step then takes about %s.", rows,
             words_seconds(then).text);
    const double beyond = fmax(0, tail.s - prompt->step_s_with), dearer = rows < prompt->rows_per_step ? 1.5 : 1;
    const double worst = prompt->step_s_without + dearer * rows * second_per_row + beyond;
    rule_effect(f, tail.metric, tail.s, (struct range){fmin(1, then / tail.s), fmin(1, worst / tail.s)}, NAN,
                "step without prompts + rows x time a row, over that percentile; at worst a row takes %.1f times as "
                "long, and what exceeds that step stays",
                dearer);
    rule_input(f, "step_without_prompts", "s", prompt->step_s_without, FIGURE_MEASURED);
    rule_input(f, "time_per_prompt_row", "s", second_per_row, FIGURE_MEASURED);
    rule_input(f, "objective_itl", "s", objective, FIGURE_USER);
    if (RULE_KNOWN(e->load.prompt_tokens_mean, e->load.cached_tokens_mean)) {
        double tokens = fmax(1, e->load.prompt_tokens_mean - e->load.cached_tokens_mean);
        rule_risk(f, "A prompt of %s tokens takes about %s instead of %s while others decode.",
                  words_number(tokens).text, words_seconds(ceil(tokens / rows) * then).text,
                  words_seconds(ceil(tokens / prompt->rows_per_step) * prompt->step_s_with).text);
    }
    rule_set_knob(f, e, KNOB_PROMPT_ROWS, rows);
    RULE_SAY(f->success, "ITL p99 at most %s, TTFT p95 not beyond its objective, output tokens/s not below 0.95x",
             words_seconds(objective).text);
}

// As long as nobody has said how long gaps may be, nothing may be wrong.
static const double UNASKED = 0.25;

static void ask_for_objective(struct finding *f, const struct evidence *e) {
    RULE_SAY(f->action, "Say how long a gap between tokens may be (--slo itl=50ms): from it follows how many rows of a "
                        "prompt fit beside decoding sequences (--prompt-rows).");
    RULE_SAY(f->experiment,
             "optima bench %.120s --users 4 --prompt-tokens 16, with and without a second client that "
             "sends long prompts",
             rule_url(e));
    RULE_SAY(f->success, "without long prompts, ITL p99 falls to about %s",
             words_seconds(e->prompt.step_s_without).text);
    f->benefit = UNASKED * f->share;
}

enum verdict_of_rule rule_prompts_interfere(const struct evidence *e, struct rule_result *r) {
    const struct prompt_figures *prompt = &e->prompt;
    const struct tail tail = tail_of(e);
    double p50 = e->itl.p50.mean;
    if (!RULE_KNOWN(p50, tail.s, prompt->step_s_with, prompt->step_s_without, prompt->rows_per_step, prompt->step_share,
                    prompt->gaps_long_with_prompt) ||
        p50 <= 0 || prompt->rows_per_step < 1 || prompt->step_s_without <= 0 || prompt->step_share > 1)
        return RULE_UNKNOWN;
    double second_per_row = (prompt->step_s_with - prompt->step_s_without) / prompt->rows_per_step;
    if (!rule_above(r, tail.s / p50, threshold_gap_ratio))
        return rule_healthy(r, "gaps between tokens: %s is %s of p50 (fires above %s)", tail.name,
                            words_factor(tail.s / p50).text, words_factor(threshold_gap_ratio).text);
    if (!rule_above(r, prompt->gaps_long_with_prompt, threshold_long_with_prompt) || second_per_row <= 0)
        return rule_healthy(r, "%s of the long gaps come with a prompt (fires above %s)",
                            words_percent(prompt->gaps_long_with_prompt).text,
                            words_percent(threshold_long_with_prompt).text);
    struct figure objective = e->setup.objective_itl;
    if (figure_known(objective) && tail.s <= objective.value)
        return rule_wont_help(r, (struct range){1, 1}, "prompts stretch gaps to %s, which the objective of %s allows",
                              words_seconds(tail.s).text, words_seconds(objective.value).text);
    double extra = prompt->step_share * (prompt->step_s_with - prompt->step_s_without);
    struct finding *f = rule_finds(r, BOTTLENECK_SCHEDULING, TIME_PROMPT, extra / (prompt->step_s_without + extra));
    RULE_SAY(f->diagnosis,
             "Prompts hold up answers: a step takes %s with %s rows of prompts beside it, and %s without.",
             words_seconds(prompt->step_s_with).text, words_number(prompt->rows_per_step).text,
             words_seconds(prompt->step_s_without).text);
    rule_fact(f, tail.metric, "s", tail.s, FIGURE_MEASURED);
    rule_fact(f, "itl_p50", "s", p50, FIGURE_MEASURED);
    rule_fact(f, "step_with_prompts", "s", prompt->step_s_with, FIGURE_MEASURED);
    rule_fact(f, "step_without_prompts", "s", prompt->step_s_without, FIGURE_MEASURED);
    rule_fact(f, "long_gaps_with_prompt", "share", fmin(1, prompt->gaps_long_with_prompt), FIGURE_MEASURED);
    if (figure_known(objective) && isfinite(objective.value) && objective.value > prompt->step_s_without)
        limit_prompt_rows(f, e, second_per_row);
    else
        ask_for_objective(f, e);
    RULE_SAY(f->why, "All rows of a step end together, so each sequence waits for the prompt beside it. Smaller pieces "
                     "make gaps even; the prompt takes more steps.");
    return RULE_FIRES;
}

// -------------------------------------------------------------------------------------------------- R9: small chunks

// A step of one prompt's rows in the middle of it.
static struct step_work prompt_work(const struct evidence *e, double rows) {
    const struct setup *s = &e->setup;
    double tokens = fmax(1, e->load.prompt_tokens_mean), ends = fmin(1, rows / tokens); // prompts that end in a step
    return (struct step_work){
        .weight_bytes = s->layer_bytes,
        .head_bytes = s->head_bytes * ends,
        .kv_bytes = 0.5 * tokens * s->kv_bytes_per_token,
        .linear_flops = rows * s->flops_per_token,
        .attention_flops = rows * 0.5 * tokens * s->attention_flops_per_key,
        .head_flops = s->head_flops_per_row * ends,
        .rows = rows,
        .prompt_rows = rows,
        .logit_rows = ends,
        .sequences = 1,
    };
}

struct chunk_limit {
    bool by_chunk, by_prompt_rows, by_rows; // which options hold the rows down
};

static struct chunk_limit what_limits(const struct evidence *e, double rows) {
    int64_t chunk = e->setup.knobs.knob[KNOB_CHUNK].value, beside = e->setup.knobs.knob[KNOB_PROMPT_ROWS].value;
    double near = 1.5 * rows;
    return (struct chunk_limit){.by_chunk = chunk > 0 && (double)chunk <= near,
                                .by_prompt_rows = beside > 0 && (double)beside <= near,
                                .by_rows = (double)e->setup.rows_max <= near};
}

// The options grow from `rows` in a step to `best`, which several prompts may share.
static void set_rows(struct finding *f, const struct evidence *e, struct chunk_limit limit, double rows, double best) {
    const double factor = best / rows;
    double chunk = (double)e->setup.knobs.knob[KNOB_CHUNK].value * factor;
    double beside = fmax(best, (double)e->setup.knobs.knob[KNOB_PROMPT_ROWS].value * factor);
    if (limit.by_chunk && limit.by_prompt_rows) chunk = fmax(best, chunk);
    if (limit.by_rows)
        rule_set_flag(f, e, "--rows %.0f", floor(e->setup.rows_max * factor));
    else if (limit.by_chunk && limit.by_prompt_rows)
        rule_set_flag(f, e, "--chunk %.0f --prompt-rows %.0f", floor(chunk), floor(beside));
    else
        rule_set_knob(f, e, limit.by_chunk ? KNOB_CHUNK : KNOB_PROMPT_ROWS, floor(limit.by_chunk ? chunk : beside));
}

enum verdict_of_rule rule_chunk_too_small(const struct evidence *e, struct rule_result *r) {
    const struct setup *s = &e->setup;
    double rows = e->prompt.rows_per_step, tokens = e->load.prompt_tokens_mean - e->load.cached_tokens_mean;
    double ridge = e->peaks.compute.value / e->peaks.read.value * s->layer_bytes / s->flops_per_token;
    if (!RULE_KNOWN(rows, tokens, ridge, e->ttft.p50.mean, e->load.input_rate, e->ledger.share[TIME_PROMPT]) ||
        rows < 1 || e->ttft.p50.mean <= 0 || e->load.input_rate <= 0 || !e->model)
        return RULE_UNKNOWN;
    struct chunk_limit limit = what_limits(e, rows);
    if (!rule_below(r, rows, threshold_ridges * ridge) || tokens < threshold_chunks_least * rows)
        return rule_healthy(r, "%s rows of prompts in a step (weights and arithmetic balance at %s)",
                            words_number(rows).text, words_number(ridge).text);
    if (!limit.by_chunk && !limit.by_prompt_rows && !limit.by_rows)
        return rule_healthy(r, "the server chooses %s rows of prompts in a step by itself", words_number(rows).text);
    double best = fmin(fmax(threshold_ridges * ridge, 2 * rows), threshold_extrapolation * rows);
    if (!limit.by_rows) best = fmin(best, s->rows_max);
    best = whole_tiles(fmin(best, 65536));
    double now_s = e->ledger.share[TIME_PROMPT] / e->load.input_rate * rows; // of a step
    struct step_work from = prompt_work(e, rows), to = prompt_work(e, best);
    struct range then = step_model_predict_s(e->model, &from, now_s, &to);
    if (!RULE_KNOWN(then.low, then.high) || now_s <= 0 || best <= rows) return RULE_UNKNOWN;
    // A step with more rows takes no less time, and no more than as many steps; beyond the rows that were seen, nothing
    // narrower is known about the worst case.
    double least = rows / best, most = 1;
    struct range work = {fmin(most, fmax(least, then.low / best / (now_s / rows))),
                         best > e->model->rows_high ? most
                                                    : fmin(most, fmax(least, then.high / best / (now_s / rows)))};
    if (0.5 * (work.low + work.high) >= 1 / threshold_gain_least)
        return rule_wont_help(r, work, "%.0f rows of prompts in a step instead of %s: %s of the time", best,
                              words_number(rows).text, words_factors(work).text);
    struct finding *f = rule_finds(r, BOTTLENECK_COMPUTE, TIME_PROMPT, rule_busy_share(e, TIME_PROMPT));
    RULE_SAY(f->diagnosis,
             "Prompts are computed %s rows at a time: a prompt of %s tokens reads the weights %.0f times.",
             words_number(rows).text, words_number(tokens).text, fmin(1e6, ceil(tokens / rows)));
    rule_fact(f, "prompt_rows_per_step", "rows", rows, FIGURE_MEASURED);
    rule_fact(f, "rows_at_balance", "rows", ridge, FIGURE_MODELLED);
    rule_fact(f, "prompt_tokens_computed", "tokens", tokens, FIGURE_MEASURED);
    rule_fact(f, "ttft_p50", "s", e->ttft.p50.mean, FIGURE_MEASURED);
    RULE_SAY(f->action, "Compute up to %.0f rows of prompts in a step.", best);
    rule_effect(
        f, "ttft_p50_s", e->ttft.p50.mean, rule_ttft_factor(e, work.low, work.high), NAN,
        "time a row of a step with %.0f rows over that with %s, by the fitted step model; waiting shrinks alike "
        "or stays",
        best, words_number(rows).text);
    rule_input(f, "prompt_step", "s", now_s, FIGURE_MEASURED);
    rule_input(f, "prompt_step_then_low", "s", then.low, FIGURE_MODELLED);
    rule_input(f, "prompt_step_then_high", "s", then.high, FIGURE_MODELLED);
    rule_risk(f, "Sequences that decode beside a prompt wait up to %s for a token.", words_seconds(then.high).text);
    set_rows(f, e, limit, rows, best);
    RULE_SAY(f->success, "TTFT p50 within the range, ITL p99 within its objective");
    RULE_SAY(f->why,
             "Each step reads all weights once and has its fixed costs. Until some times %s rows share them, "
             "more rows cost hardly more time.",
             words_number(ridge).text);
    return RULE_FIRES;
}

// ------------------------------------------------------------------------------------------- R28: behind each other

enum verdict_of_rule rule_short_prompts_wait(const struct evidence *e, struct rule_result *r) {
    double now = e->prompt.ttft_short_p99, alone = e->prompt.ttft_short_alone, ahead = e->prompt.long_ahead_share;
    if (!RULE_KNOWN(now, alone, ahead) || alone <= 0 || now <= 0 || ahead > 1) return RULE_UNKNOWN;
    if (!rule_above(r, now / alone, threshold_short_wait))
        return rule_healthy(r, "short prompts take %s of their time alone (fires above %s)",
                            words_factor(now / alone).text, words_factor(threshold_short_wait).text);
    if (!rule_above(r, ahead, threshold_long_ahead))
        return rule_healthy(r, "short prompts wait, but a longer one was ahead of only %s (fires above %s)",
                            words_percent(ahead).text, words_percent(threshold_long_ahead).text);
    const struct knob *knob = &e->setup.knobs.knob[KNOB_CHUNK];
    double chunk = knob->value > 0 ? (double)knob->value : (double)e->setup.rows_max, half = whole_tiles(chunk / 2);
    if (half < 16) return RULE_UNKNOWN;
    struct finding *f = rule_finds(r, BOTTLENECK_SCHEDULING, TIME_PROMPT, rule_busy_share(e, TIME_PROMPT));
    RULE_SAY(f->diagnosis, "Short prompts wait behind long ones: their TTFT p99 is %s, alone they would take %s.",
             words_seconds(now).text, words_seconds(alone).text);
    rule_fact(f, "ttft_short_p99", "s", now, FIGURE_MEASURED);
    rule_fact(f, "ttft_short_alone", "s", alone, FIGURE_MODELLED);
    rule_fact(f, "long_ahead_share", "share", ahead, FIGURE_MEASURED);
    RULE_SAY(f->action, "Take at most %.0f rows of one prompt in a step, so that others fit beside it.", half);
    rule_effect(f, "ttft_short_p99_s", now, (struct range){alone / now, (alone + (now - alone) * (1 - ahead)) / now},
                alone / now, "at best as if alone; at worst only the share of waits with a longer prompt ahead goes");
    rule_input(f, "ttft_short_alone", "s", alone, FIGURE_MODELLED);
    rule_input(f, "long_ahead_share", "share", ahead, FIGURE_MEASURED);
    rule_risk(f, "Long prompts take up to twice the steps while others compete with them.");
    rule_set_knob(f, e, KNOB_CHUNK, half);
    RULE_SAY(f->success,
             "TTFT p99 of prompts below the median length falls, that of long ones rises by less than half");
    RULE_SAY(f->why, "Prompts are taken in order. A limit for each leaves rows of every step to those behind it.");
    return RULE_FIRES;
}

// ------------------------------------------------------------------------------------------------ R29: long contexts

// Share of the time that contexts of half the length would save, in decoding and in prompts.
static struct range saved_by_half(const struct evidence *e, bool decoding, bool prompts) {
    struct range saved = {0, 0};
    if (decoding) {
        struct decode_point at = rule_decode_now(e);
        at.context /= 2;
        struct range gain = rule_decode_gain(e, &at);
        if (!RULE_KNOWN(gain.low, gain.high) || gain.low <= 0) return (struct range){NAN, NAN};
        saved.low += fmax(0, 1 - 1 / gain.low);
        saved.high += fmax(0, 1 - 1 / gain.high);
    }
    if (prompts) {
        double part = rule_busy_share(e, TIME_PROMPT) * e->prompt.attention_share / 2;
        saved.low += part * threshold_kernel_worst;
        saved.high += fmin(part / threshold_kernel_worst, rule_busy_share(e, TIME_PROMPT));
    }
    return (struct range){fmin(saved.low, 0.9), fmin(saved.high, 0.9)};
}

enum verdict_of_rule rule_long_context(const struct evidence *e, struct rule_result *r) {
    double attention = e->prompt.attention_share, kv = e->efficiency.kv_share, context = e->efficiency.context_mean;
    bool decoding = RULE_KNOWN(kv, context) && kv <= 1 && rule_above(r, kv, threshold_kv_share_long);
    bool prompts = RULE_KNOWN(attention) && attention <= 1 && rule_above(r, attention, threshold_attention_share);
    if (!RULE_KNOWN(e->load.output_rate, e->load.prompt_tokens_mean) || (!RULE_KNOWN(kv) && !RULE_KNOWN(attention)))
        return RULE_UNKNOWN;
    if (!decoding && !prompts)
        return rule_healthy(r, "attention is %s of prompts' arithmetic, KV %s of decoding's bytes",
                            words_percent(attention).text, words_percent(kv).text);
    struct range saved = saved_by_half(e, decoding, prompts);
    if (!RULE_KNOWN(saved.low, saved.high)) return RULE_UNKNOWN;
    double now = RULE_KNOWN(context) ? context : e->load.prompt_tokens_mean;
    double share =
        decoding ? fmin(1, fmax(0, e->efficiency.decode_time_share)) * kv : rule_busy_share(e, TIME_PROMPT) * attention;
    struct finding *f = rule_finds(r, BOTTLENECK_BANDWIDTH, decoding ? TIME_DECODE_KV : TIME_PROMPT, share);
    RULE_SAY(f->diagnosis, "Long contexts cost most: at %s tokens on average, attention is %s of %s.",
             words_number(now).text, words_percent(decoding ? kv : attention).text,
             decoding ? "the bytes that decoding reads" : "the arithmetic of prompts");
    if (RULE_KNOWN(kv)) rule_fact(f, "kv_share", "share", fmin(1, kv), FIGURE_MODELLED);
    if (RULE_KNOWN(attention)) rule_fact(f, "prompt_attention_share", "share", fmin(1, attention), FIGURE_MODELLED);
    rule_fact(f, "context_mean", "tokens", now, FIGURE_MEASURED);
    RULE_SAY(f->action, "No option makes a long context free. Send less: cut retrieved text, summarise old turns, or "
                        "give long requests a server of their own. A narrower KV cache is R12.");
    rule_effect(f, "output_tokens_per_s", e->load.output_rate,
                (struct range){1 / (1 - saved.low), 1 / (1 - saved.high)}, NAN,
                "contexts of half the length: decoding by the fitted step model, prompts by attention's share of the "
                "FLOPs, with kernels at 80 to 125 %% of the matrices' speed");
    rule_input(f, "context_then", "tokens", now / 2, FIGURE_MODELLED);
    rule_input(f, "time_saved_low", "share", saved.low, FIGURE_MODELLED);
    rule_input(f, "time_saved_high", "share", saved.high, FIGURE_MODELLED);
    RULE_SAY(f->experiment, "optima bench %.120s --prompt-tokens %.0f, and again with half of it", rule_url(e),
             fmin(1e7, fmax(2, ceil(e->load.prompt_tokens_mean))));
    RULE_SAY(f->success, "output tokens/s higher by the range above");
    RULE_SAY(f->why, "Every new token attends to all before it, so its cost grows with the context. Weights are shared "
                     "by the batch; contexts are not.");
    return RULE_FIRES;
}
