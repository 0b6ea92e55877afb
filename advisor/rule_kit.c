#include "advisor/rule_kit.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool rule_known(const double *values, int n) {
    for (int i = 0; i < n; i++)
        if (!isfinite(values[i]) || values[i] < 0) return false;
    return true;
}

bool rule_above(const struct rule_result *result, double value, double threshold) {
    return value > threshold * result->slack;
}

bool rule_below(const struct rule_result *result, double value, double threshold) {
    return value < threshold / result->slack;
}

// ---------------------------------------------------------------------------------------------------- verdicts

static void say(char *text, size_t size, const char *format, va_list args) {
    int n = vsnprintf(text, size, format, args);
    if (n < 0 || (size_t)n >= size || strstr(text, words_number(NAN).text)) text[0] = 0;
}

void rule_say(char *text, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(text, size, format, args);
    va_end(args);
}

enum verdict_of_rule rule_healthy(struct rule_result *result, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(result->healthy.text, sizeof result->healthy.text, format, args);
    va_end(args);
    return RULE_HEALTHY;
}

enum verdict_of_rule rule_wont_help(struct rule_result *result, struct range factor, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(result->suppressed.reason, sizeof result->suppressed.reason, format, args);
    va_end(args);
    result->suppressed.factor = factor;
    return RULE_WONT_HELP;
}

static double clamped(double value, double low, double high) {
    return value > low ? (value < high ? value : high) : low; // NAN becomes low
}

struct finding *rule_finds(struct rule_result *result, enum bottleneck bottleneck, enum time_line line, double share) {
    struct finding *f = &result->finding;
    *f = (struct finding){.id = f->id,
                          .name = f->name,
                          .source = f->source,
                          .bottleneck = bottleneck,
                          .line = line,
                          .share = clamped(share, 0, 1),
                          .knob = -1,
                          .effect.cap = NAN};
    return f;
}

void rule_risk(struct finding *finding, const char *format, ...) {
    assert(finding->n_risks < FINDING_RISKS_MAX);
    char *text = finding->risks[finding->n_risks++];
    va_list args;
    va_start(args, format);
    say(text, sizeof finding->risks[0], format, args);
    va_end(args);
}

// Shares of two clocks may be a little more than all.
static double rounded_share(const char *unit, double value) {
    return strcmp(unit, "share") == 0 && value > 1 && value < 1.05 ? 1 : value;
}

void rule_fact(struct finding *finding, const char *metric, const char *unit, double value, enum figure_source source) {
    assert(finding->n_facts < FINDING_FACTS_MAX);
    finding->facts[finding->n_facts++] = (struct fact){metric, unit, rounded_share(unit, value), source};
}

void rule_input(struct finding *finding, const char *metric, const char *unit, double value,
                enum figure_source source) {
    struct effect *effect = &finding->effect;
    assert(effect->n_inputs < FINDING_INPUTS_MAX);
    effect->inputs[effect->n_inputs++] = (struct fact){metric, unit, rounded_share(unit, value), source};
}

// ----------------------------------------------------------------------------------------------------- effects

static bool less_is_better(const char *metric) {
    static const char *const prefixes[] = {"itl_", "ttft_", "cost_", "joules_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(metric, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

void rule_effect(struct finding *finding, const char *metric, double now, struct range factor, double cap,
                 const char *method, ...) {
    struct effect *effect = &finding->effect;
    bool less = less_is_better(metric);
    if (isfinite(cap)) {
        if (less ? factor.low < cap : factor.low > cap) factor.low = cap;
        if (less ? factor.high < cap : factor.high > cap) factor.high = cap;
    }
    if (factor.low > factor.high) factor = (struct range){factor.high, factor.low};
    effect->metric = metric;
    effect->now = now;
    effect->factor = factor;
    effect->cap = isfinite(cap) ? cap : NAN;
    va_list args;
    va_start(args, method);
    say(effect->method, sizeof effect->method, method, args);
    va_end(args);
    finding->has_effect = true;
    // What both ends save, on average: a wide range counts for little. A throughput holds its share of the time
    // already; a latency is one line's alone.
    double saved =
        less ? finding->share * (1 - 0.5 * (factor.low + factor.high)) : 1 - 0.5 * (1 / factor.low + 1 / factor.high);
    finding->benefit = clamped(saved, 0, 1);
}

double rule_amdahl(double share, double factor) {
    return 1 / (1 - share * (1 - factor));
}

double rule_share_of(double part, double whole) {
    return whole > 0 ? clamped(part / whole, 0, 1) : 0;
}

double rule_busy_share(const struct evidence *e, enum time_line line) {
    return fmin(0.95, rule_share_of(e->ledger.share[line], 1 - e->ledger.share[TIME_IDLE]));
}

struct range rule_ttft_factor(const struct evidence *e, double work_best, double work_worst) {
    double waiting = rule_share_of(e->queue.p50.mean, e->ttft.p50.mean);
    // Prompts in a step wait for each other; at best only one is left at a time.
    double together = e->load.running_mean * rule_busy_share(e, TIME_PROMPT);
    return (struct range){work_best / (together > 1 ? together : 1), waiting + (1 - waiting) * work_worst};
}

struct decode_point rule_decode_now(const struct evidence *e) {
    double drafts = e->speculation.is_on ? e->speculation.draft_row_share : 0, rows = e->efficiency.decode_rows_mean;
    if (drafts > 0 && drafts < 1) rows /= 1 - drafts; // which a step computes too
    return (struct decode_point){rows, e->efficiency.context_mean, 1, 1};
}

// Of rows that choose their experts evenly, a step reads E (1 - (1 - k/E)^rows) of the E experts of a layer.
static double layer_bytes_of_rows(const struct setup *setup, double rows) {
    if (setup->n_experts <= 0 || setup->n_experts_used <= 0 || !(setup->expert_bytes > 0)) return setup->layer_bytes;
    double n = setup->n_experts, used = setup->n_experts_used;
    double hit = n * (1 - pow(1 - used / n, rows));
    return setup->layer_bytes + (hit - used) * setup->expert_bytes;
}

static struct step_work decode_work(const struct evidence *e, const struct decode_point *at) {
    const struct setup *setup = &e->setup;
    return (struct step_work){
        .weight_bytes = layer_bytes_of_rows(setup, at->rows) * at->layer_scale,
        .head_bytes = setup->head_bytes,
        .kv_bytes = at->rows * at->context * setup->kv_bytes_per_token * at->kv_scale,
        .linear_flops = at->rows * setup->flops_per_token,
        .attention_flops = at->rows * at->context * setup->attention_flops_per_key,
        .head_flops = at->rows * setup->head_flops_per_row,
        .rows = at->rows,
        .logit_rows = at->rows,
        .sequences = at->rows,
    };
}

static bool work_is_known(const struct evidence *e) {
    const struct setup *s = &e->setup;
    return e->model &&
           RULE_KNOWN(s->layer_bytes, s->head_bytes, s->kv_bytes_per_token, s->flops_per_token,
                      s->attention_flops_per_key, s->head_flops_per_row, e->efficiency.decode_rows_mean,
                      e->efficiency.context_mean, e->efficiency.decode_s_mean) &&
           e->efficiency.decode_rows_mean > 0 && e->efficiency.decode_s_mean > 0 && s->layer_bytes > 0;
}

// More of anything takes no less time, and k times as much at most k times the time: what no noise of a model changes.
static struct range within_reason(const struct evidence *e, const struct decode_point *to, struct range s) {
    struct decode_point now = rule_decode_now(e);
    double ratios[] = {to->rows / now.rows, now.context > 0 ? to->context / now.context : 1, to->layer_scale,
                       to->kv_scale};
    double least = e->efficiency.decode_s_mean, most = e->efficiency.decode_s_mean;
    for (size_t i = 0; i < sizeof ratios / sizeof *ratios; i++) {
        if (ratios[i] < 1)
            least *= ratios[i];
        else
            most *= ratios[i];
    }
    return (struct range){clamped(s.low, least, most), clamped(s.high, least, most)};
}

struct range rule_decode_s(const struct evidence *e, const struct decode_point *to) {
    static const struct range nothing = {NAN, NAN};
    if (!work_is_known(e)) return nothing;
    struct decode_point now = rule_decode_now(e);
    if (to->rows > threshold_extrapolation * now.rows || to->context > threshold_extrapolation * now.context)
        return nothing;
    struct step_work from = decode_work(e, &now), there = decode_work(e, to);
    struct range s = step_model_predict_s(e->model, &from, e->efficiency.decode_s_mean, &there);
    if (!isfinite(s.low) || !isfinite(s.high) || s.low <= 0 || s.high < s.low) return nothing;
    return within_reason(e, to, s);
}

double rule_decode_least_s(const struct evidence *e, const struct decode_point *to) {
    if (!work_is_known(e)) return NAN;
    struct step_work there = decode_work(e, to);
    double s = step_model_least_s(e->model, &there);
    return isfinite(s) && s > 0 ? s : NAN;
}

// Time a token in decoding steps falls or rises, and stays in all others. The host's gap belongs to the step: its
// length stays, or at worst grows with the rows.
static double gain_of(const struct evidence *e, const struct decode_point *to, double seconds, bool gap_grows) {
    double gap = RULE_KNOWN(e->host.gap_s) ? e->host.gap_s : 0, rows = rule_decode_now(e).rows;
    double gap_then = gap_grows ? gap * fmax(1, to->rows / rows) : gap;
    double now = (e->efficiency.decode_s_mean + gap) / rows, then = (seconds + gap_then) / to->rows;
    return rule_amdahl(clamped(e->efficiency.decode_time_share, 0, 1), then / now);
}

struct range rule_decode_gain(const struct evidence *e, const struct decode_point *to) {
    struct range s = rule_decode_s(e, to);
    if (!isfinite(s.low) || !isfinite(e->efficiency.decode_time_share)) return (struct range){NAN, NAN};
    return (struct range){gain_of(e, to, s.high, true), gain_of(e, to, s.low, false)};
}

double rule_decode_gain_cap(const struct evidence *e, const struct decode_point *to) {
    double s = rule_decode_least_s(e, to);
    return isfinite(s) && isfinite(e->efficiency.decode_time_share) ? gain_of(e, to, s, false) : NAN;
}

double rule_kv_sequences(const struct evidence *e) {
    double block = e->setup.block_tokens > 0 ? e->setup.block_tokens : 1;
    double length = e->efficiency.context_mean;
    if (isfinite(e->load.prompt_tokens_mean) && isfinite(e->load.output_tokens_mean)) { // at a sequence's end
        double whole = e->load.prompt_tokens_mean + e->load.output_tokens_mean;
        if (!(length >= whole)) length = whole;
    }
    if (!(length > 0)) return NAN;
    return (double)e->setup.n_blocks / ceil(length / block + 0.5);
}

double rule_kv_bytes(const struct evidence *e) {
    return (double)e->setup.n_blocks * e->setup.block_tokens * e->setup.kv_bytes_per_token;
}

double rule_kv_ratio(const struct evidence *e, const char *format) {
    // FP8 and INT8 carry a scale of four bytes for each token and head: a sixteenth at heads of 64.
    static const struct {
        const char *name;
        double bytes;
    } formats[] = {{"f32", 4}, {"bf16", 2}, {"f16", 2}, {"int8", 1.0625}, {"fp8", 1.0625}};
    double now = NAN, then = NAN;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (e->setup.kv_format && strcmp(formats[i].name, e->setup.kv_format) == 0) now = formats[i].bytes;
        if (strcmp(formats[i].name, format) == 0) then = formats[i].bytes;
    }
    return then / now;
}

// ------------------------------------------------------------------------------------- what to set, and how to know

const char *rule_url(const struct evidence *e) {
    return e->setup.url ? e->setup.url : "URL";
}

const char *rule_path(const struct evidence *e) {
    return e->setup.path ? e->setup.path : "MODEL";
}

// The flag of a value; and the value now, for the way back.
static void knob_flag(char *text, size_t size, enum knob_id id, int64_t value) {
    static const char *const flags[KNOBS] = {
        [KNOB_SEQUENCES] = "--sequences", [KNOB_CHUNK] = "--chunk",         [KNOB_PROMPT_ROWS] = "--prompt-rows",
        [KNOB_ADMISSION] = "--admission", [KNOB_DRAFTS] = "--draft-tokens", [KNOB_THREADS] = "--threads",
        [KNOB_PREFIX_CACHE] = "",
    };
    bool is_default = (id == KNOB_CHUNK || id == KNOB_PROMPT_ROWS) ? value == 0 : id == KNOB_DRAFTS && value < 0;
    if (id == KNOB_PREFIX_CACHE)
        rule_say(text, size, "%s", value ? "" : "--no-prefix-cache");
    else if (id == KNOB_DRAFTS && value == 0)
        rule_say(text, size, "--speculate off");
    else if (is_default)
        text[0] = 0; // by leaving the option out
    else
        rule_say(text, size, "%s %lld", flags[id], (long long)value);
}

static void offline_experiment(struct finding *f, const struct evidence *e) {
    RULE_SAY(f->experiment, "optima advise --offline %.120s --try \"%s\"", rule_path(e), f->flag);
}

void rule_set_knob(struct finding *f, const struct evidence *e, enum knob_id id, double wanted) {
    const struct knob *knob = &e->setup.knobs.knob[id];
    const int64_t value = (int64_t)clamped(wanted, -1, 1e9);
    knob_flag(f->flag, sizeof f->flag, id, value);
    char before[80];
    knob_flag(before, sizeof before, id, knob->value);
    if (knob->available && value >= knob->low && value <= knob->high) {
        f->knob = (int)id;
        f->knob_value = value;
        RULE_SAY(f->experiment, "optima advise %.120s --experiment %s", rule_url(e), f->id);
        RULE_SAY(f->rollback, "The experiment goes back by itself; after a restart: %s",
                 before[0] ? before : "leave the option out");
        return;
    }
    offline_experiment(f, e);
    RULE_SAY(f->rollback, "Restart with the command line of now");
}

void rule_set_flag(struct finding *f, const struct evidence *e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(f->flag, sizeof f->flag, format, args);
    va_end(args);
    offline_experiment(f, e);
    RULE_SAY(f->rollback, "Restart with the command line of now");
}

void rule_quality_gate(struct finding *f, const struct evidence *e, const char *options) {
    f->changes_numerics = true;
    RULE_SAY(f->quality_gate,
             "optima eval %.80s --text YOUR_TEXT %s --reference %.80s; go on if the mean KL is at most "
             "0.01 and perplexity rises by at most 0.5 %%",
             rule_path(e), options, rule_path(e));
}
