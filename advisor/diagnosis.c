// Locates the bottleneck, asks every rule, lets causes silence their symptoms, and puts the largest benefit first.
#include "advisor/rule_kit.h"

#include <math.h>
#include <string.h>

// ---------------------------------------------------------------------------------------------------- the rules

struct asking {
    struct diagnosis *out;
    const struct evidence *evidence;
    bool fires[FINDINGS_MAX], silent[FINDINGS_MAX]; // by rule
    int finding_of[FINDINGS_MAX];                   // index in out->findings
};

static int rule_index(const char *id, size_t n) {
    for (int i = 0; i < n_rules; i++)
        if (strlen(rules[i].id) == n && memcmp(rules[i].id, id, n) == 0) return i;
    return -1;
}

// The rule that silences this one, or -1. A rule that is itself silent silences nobody.
static int silencer_of(const struct asking *asking, int i, int depth) {
    for (const char *id = rules[i].silenced_by; id && *id && depth < n_rules;) {
        size_t n = strcspn(id, " ");
        int by = rule_index(id, n);
        if (by >= 0 && by != i && asking->fires[by] && silencer_of(asking, by, depth + 1) < 0) return by;
        id += n + (id[n] == ' ');
    }
    return -1;
}

static bool remember(struct rule_memory *memory, int i, bool fires) {
    if (!memory) return fires;
    if (fires) {
        if (memory->fired[i] < INT8_MAX) memory->fired[i]++;
        memory->clear[i] = 0;
        if (memory->fired[i] >= threshold_windows_to_speak) memory->speaking[i] = true;
    } else {
        if (memory->clear[i] < INT8_MAX) memory->clear[i]++;
        memory->fired[i] = 0;
        if (memory->clear[i] >= threshold_windows_to_fall_silent) memory->speaking[i] = false;
    }
    return fires && memory->speaking[i];
}

static enum verdict_of_rule look(const struct rule *rule, const struct evidence *e, struct rule_result *result) {
    if (e->n_steps < rule->steps_min) return RULE_UNKNOWN;
    enum verdict_of_rule verdict = rule->look(e, result);
    result->finding.source = rule->source;
    if (verdict == RULE_FIRES && !finding_is_sound(&result->finding)) return RULE_UNKNOWN;
    if (verdict == RULE_WONT_HELP && !result->suppressed.reason[0]) return RULE_UNKNOWN;
    if (verdict == RULE_HEALTHY && !result->healthy.text[0]) return RULE_UNKNOWN;
    return verdict;
}

// A change whose computed effect is next to nothing is said to be that.
static enum verdict_of_rule weigh(enum verdict_of_rule verdict, struct rule_result *result) {
    const struct finding *f = &result->finding;
    bool is_change = f->flag[0] || f->knob >= 0;
    if (verdict != RULE_FIRES || !is_change || f->benefit >= threshold_benefit_least) return verdict;
    RULE_SAY(result->suppressed.reason, "%.60s: %s of %s, which is not worth a change", f->flag[0] ? f->flag : f->name,
             words_factors(f->effect.factor).text, f->effect.metric);
    result->suppressed.factor = f->effect.factor;
    return RULE_WONT_HELP;
}

static void ask(struct asking *asking, int i, struct rule_memory *memory) {
    const struct rule *rule = &rules[i];
    struct diagnosis *out = asking->out;
    struct rule_result result = {.slack = memory && memory->speaking[i] ? threshold_dead_band : 1};
    result.finding.id = result.suppressed.id = result.healthy.id = rule->id;
    result.finding.name = result.suppressed.name = result.healthy.name = rule->name;
    enum verdict_of_rule verdict = weigh(look(rule, asking->evidence, &result), &result);
    if (remember(memory, i, verdict == RULE_FIRES)) {
        result.finding.confirmed = memory ? memory->fired[i] : 1;
        asking->fires[i] = true;
        asking->finding_of[i] = out->n_findings;
        out->findings[out->n_findings++] = result.finding;
    } else if (verdict == RULE_WONT_HELP) {
        out->suppressed[out->n_suppressed++] = result.suppressed;
    } else if (verdict == RULE_HEALTHY) {
        out->healthy[out->n_healthy++] = result.healthy;
    }
}

static void silence(struct asking *asking, int i, int by) {
    struct diagnosis *out = asking->out;
    struct suppressed *s = &out->suppressed[out->n_suppressed++];
    const struct finding *f = &out->findings[asking->finding_of[i]];
    *s = (struct suppressed){.id = rules[i].id, .name = rules[i].name, .factor = {NAN, NAN}};
    if (f->has_effect) {
        s->factor = f->effect.factor;
        RULE_SAY(s->reason, "after %s (%s): until then its %s of %s is not to be trusted", rules[by].id, rules[by].name,
                 words_factors(f->effect.factor).text, f->effect.metric);
    } else
        RULE_SAY(s->reason, "after %s (%s)", rules[by].id, rules[by].name);
    asking->silent[i] = true;
}

// Largest benefit first; equal ones in the table's order.
static void keep_and_order(struct asking *asking) {
    struct diagnosis *out = asking->out;
    bool keep[FINDINGS_MAX] = {false};
    for (int i = 0; i < n_rules; i++)
        if (asking->fires[i] && !asking->silent[i]) keep[asking->finding_of[i]] = true;
    int n = 0;
    for (int i = 0; i < out->n_findings; i++) {
        if (!keep[i]) continue;
        struct finding f = out->findings[i];
        int at = n++;
        for (; at > 0 && out->findings[at - 1].benefit < f.benefit; at--) out->findings[at] = out->findings[at - 1];
        out->findings[at] = f;
    }
    out->n_findings = n;
}

static void ask_all(struct asking *asking, struct rule_memory *memory) {
    for (int i = 0; i < n_rules; i++) ask(asking, i, memory);
    for (int i = 0; i < n_rules; i++) {
        int by = asking->fires[i] ? silencer_of(asking, i, 0) : -1;
        if (by >= 0) silence(asking, i, by);
    }
    keep_and_order(asking);
}

static const struct finding *finding_with(const struct diagnosis *d, const char *id) {
    for (int i = 0; i < d->n_findings; i++)
        if (strcmp(d->findings[i].id, id) == 0) return &d->findings[i];
    return NULL;
}

// -------------------------------------------------------------------------------------------------- the bottleneck

// How sure: from the length of the window, the model's error, and how far the number is from its threshold.
static const char *confidence_of(const struct evidence *e, double value, double threshold) {
    double margin = fabs(value - threshold) / fmax(threshold, 1e-3);
    bool is_long = e->window_s >= threshold_window_sure_s && e->n_steps >= threshold_steps_sure;
    bool is_modelled = e->model && e->model->error_of_means < 0.1;
    if (is_long && e->steady && is_modelled && margin >= 0.1) return "high";
    return (is_long || e->steady) && margin >= 0.05 ? "medium" : "low";
}

struct verdict {
    enum bottleneck bottleneck;
    double value, threshold;
};

static void why_not(struct diagnosis *out, enum bottleneck bottleneck, const char *what, double value,
                    double threshold) {
    if (bottleneck == out->bottleneck || !isfinite(value) || value < 0 || out->n_why_not >= 6) return;
    RULE_SAY(out->why_not[out->n_why_not], "%s: %s %s (from %s)", bottleneck_name(bottleneck), what,
             words_percent(value).text, words_percent(threshold).text);
    if (out->why_not[out->n_why_not][0]) out->n_why_not++;
}

// What is no share of anything is not known.
static double share(double value) {
    return value >= 0 && isfinite(value) ? fmin(value, 1) : NAN;
}

// Of the phase that takes more of the time.
static bool computes_prompts(const struct evidence *e) {
    return e->efficiency.decode_time_share < 0.5;
}
static double phase_mbu(const struct evidence *e) {
    return share(computes_prompts(e) ? e->efficiency.mbu_prompt : e->efficiency.mbu_decode);
}
static double phase_mfu(const struct evidence *e) {
    return share(computes_prompts(e) ? e->efficiency.mfu_prompt : e->efficiency.mfu_decode);
}
static const char *phase_name(const struct evidence *e) {
    return computes_prompts(e) ? "computing prompts" : "decoding";
}

// Of the time of compute threads: ready to run, and no core. 0 where it is not known.
static double machine_trouble(const struct evidence *e) {
    return fmax(0, fmax(share(e->machine.throttled_share), share(e->machine.wait_share)));
}

static double recompute_share(const struct evidence *e) {
    return rule_share_of(e->cache.recomputed_tokens, e->cache.useful_tokens);
}

static struct verdict locate_in_steps(const struct evidence *e) {
    double mbu = phase_mbu(e), mfu = phase_mfu(e);
    if (isnan(mbu) || isnan(mfu)) return (struct verdict){BOTTLENECK_UNKNOWN, 0, 1};
    if (mbu >= threshold_bandwidth_share && mbu >= mfu)
        return (struct verdict){BOTTLENECK_BANDWIDTH, mbu, threshold_bandwidth_share};
    if (mfu >= threshold_compute_share) return (struct verdict){BOTTLENECK_COMPUTE, mfu, threshold_compute_share};
    if (fmax(mbu, mfu) < threshold_latency_share)
        return (struct verdict){BOTTLENECK_LATENCY, fmax(mbu, mfu), threshold_latency_share};
    // Between the bands the larger one leads, without confidence.
    return mbu >= mfu ? (struct verdict){BOTTLENECK_BANDWIDTH, mbu, mbu}
                      : (struct verdict){BOTTLENECK_COMPUTE, mfu, mfu};
}

static struct verdict locate(const struct diagnosis *d, const struct evidence *e) {
    const struct verdict troubles[] = {
        {BOTTLENECK_INPUT, share(e->load.idle_share), threshold_idle_share},
        {BOTTLENECK_CAPACITY, finding_with(d, "R24") ? share(e->load.queue_share) : NAN, 0},
        {BOTTLENECK_MACHINE, machine_trouble(e), threshold_throttle_share},
        {BOTTLENECK_POWER, share(e->machine.thermal_share), threshold_throttle_share},
        {BOTTLENECK_HOST, share(e->host.gap_share), threshold_gap_share},
        {BOTTLENECK_KV, recompute_share(e), threshold_recompute_share},
        {BOTTLENECK_KV, rule_somebody_waits(e) ? share(e->cache.occupancy) : NAN, threshold_kv_occupancy},
    };
    if (finding_with(d, "R26") || finding_with(d, "R45")) return (struct verdict){BOTTLENECK_MEASUREMENT, 0, 1};
    for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++)
        if (troubles[i].value >= troubles[i].threshold) return troubles[i];
    return locate_in_steps(e);
}

static void say_headline(struct diagnosis *out, const struct evidence *e, double value) {
    struct words words = words_percent(value);
    const char *percent = words.text;
    char *text = out->headline;
    size_t size = sizeof out->headline;
    switch (out->bottleneck) {
    case BOTTLENECK_INPUT:
        rule_say(text, size, "Too few requests: the server is idle %s of the time", percent);
        break;
    case BOTTLENECK_CAPACITY:
        rule_say(text, size, "More load than this server bears: somebody waits %s of the time", percent);
        break;
    case BOTTLENECK_HOST:
        rule_say(text, size, "The device waits for the host between steps: %s of busy time", percent);
        break;
    case BOTTLENECK_POWER:
        rule_say(text, size, "Heat or a power limit slows the processor %s of the time", percent);
        break;
    case BOTTLENECK_MACHINE:
        rule_say(text, size, "The machine withholds its cores: compute threads are ready but do not run %s of the time",
                 percent);
        break;
    case BOTTLENECK_KV:
        if (value == e->cache.occupancy)
            rule_say(text, size, "The KV cache is full (%s) while requests wait", percent);
        else
            rule_say(text, size, "The KV cache is too small: %s of the tokens are computed twice", percent);
        break;
    case BOTTLENECK_BANDWIDTH:
        rule_say(text, size, "Memory bandwidth limits this server: %s reads at %s of the measured peak", phase_name(e),
                 percent);
        break;
    case BOTTLENECK_COMPUTE:
        rule_say(text, size, "Arithmetic limits this server: %s reaches %s of the measured peak", phase_name(e),
                 percent);
        break;
    case BOTTLENECK_LATENCY:
        rule_say(text, size,
                 "Small operations limit this server: %s uses at most %s of memory bandwidth and of arithmetic",
                 phase_name(e), percent);
        break;
    default:
        rule_say(text, size, "%s", "The peaks of this machine are not measured yet");
        break;
    }
    size_t n = strlen(text);
    rule_say(text + n, size - n, " (confidence: %s).", out->confidence);
}

static void name_bottleneck(struct diagnosis *out, const struct evidence *e) {
    struct verdict verdict = locate(out, e);
    out->bottleneck = verdict.bottleneck;
    out->confidence =
        verdict.bottleneck == BOTTLENECK_UNKNOWN ? "none" : confidence_of(e, verdict.value, verdict.threshold);
    if (verdict.bottleneck == BOTTLENECK_MEASUREMENT) {
        out->confidence = "none";
        const struct finding *f = finding_with(out, "R26") ? finding_with(out, "R26") : finding_with(out, "R45");
        RULE_SAY(out->headline, "The measurement cannot be trusted: %.300s", f->diagnosis);
        return;
    }
    say_headline(out, e, verdict.value);
    why_not(out, BOTTLENECK_INPUT, "idle", e->load.idle_share, threshold_idle_share);
    why_not(out, BOTTLENECK_HOST, "host gap", e->host.gap_share, threshold_gap_share);
    why_not(out, BOTTLENECK_KV, "tokens computed twice", recompute_share(e), threshold_recompute_share);
    why_not(out, BOTTLENECK_MACHINE, "threads without a core", machine_trouble(e), threshold_throttle_share);
    why_not(out, BOTTLENECK_BANDWIDTH, "of measured bandwidth", phase_mbu(e), threshold_bandwidth_share);
    why_not(out, BOTTLENECK_COMPUTE, "of measured arithmetic", phase_mfu(e), threshold_compute_share);
}

// ------------------------------------------------------------------------------------- questions and abstention

static struct question *asks(struct diagnosis *out, const char *need, const char *unlocks) {
    struct question *q = &out->questions[out->n_questions++];
    q->need = need;
    q->unlocks = unlocks;
    return q;
}

static void ask_for_context(struct diagnosis *out, const struct evidence *e) {
    if (!figure_known(e->setup.price_per_hour)) {
        struct question *q = asks(out, "price_per_hour", "cost per million tokens, R43, R44");
        RULE_SAY(q->text, "What does this machine cost an hour?");
        RULE_SAY(q->command, "--price-per-hour 2.50");
    }
    if (!figure_known(e->setup.objective_itl)) {
        struct question *q = asks(out, "objective_itl", "R2, R8, R27, and a bound for R1");
        RULE_SAY(q->text, "How long may a token take to follow the one before?");
        RULE_SAY(q->command, "--slo itl=50ms");
    }
    if (!figure_known(e->setup.objective_ttft)) {
        struct question *q = asks(out, "objective_ttft", "R24's queue, R27");
        RULE_SAY(q->text, "How long may the first token take?");
        RULE_SAY(q->command, "--slo ttft=500ms");
    }
}

static void abstain(struct diagnosis *out, const struct evidence *e) {
    out->bottleneck = BOTTLENECK_UNKNOWN;
    out->confidence = "none";
    long long steps = e->n_steps > 0 ? (long long)e->n_steps : 0;
    double window = isfinite(e->window_s) && e->window_s > 0 ? e->window_s : 0;
    RULE_SAY(out->headline, "Not enough evidence: %lld steps in %s (confidence: none).", steps,
             words_seconds(window).text);
    struct question *q = asks(out, "traffic", "a diagnosis");
    RULE_SAY(q->text, "At least %ld steps in %.0f s are needed. Send your traffic, or let this do it:", threshold_steps,
             threshold_window_s);
    RULE_SAY(q->command, "optima bench %.90s --users 4 --duration 60", rule_url(e));
}

// What no measurement can give: the parts contradict each other.
static bool contradicts_itself(const struct diagnosis *d, const struct evidence *e) {
    (void)d;
    return isfinite(e->ledger.sum) && fabs(e->ledger.sum - 1) > threshold_ledger_error;
}

static void distrust(struct diagnosis *out, const struct evidence *e) {
    out->bottleneck = BOTTLENECK_MEASUREMENT;
    out->confidence = "none";
    RULE_SAY(out->headline,
             "The measurement cannot be trusted: the parts of the time sum to %s of it (confidence: "
             "none).",
             words_percent(e->ledger.sum).text);
    struct question *q = asks(out, "measurement", "a diagnosis");
    RULE_SAY(q->text, "The numbers of this window contradict each other. Measure again under steady load:");
    RULE_SAY(q->command, "optima bench %.90s --users 4 --duration 60", rule_url(e));
}

void diagnosis_make(struct diagnosis *out, const struct evidence *e, struct rule_memory *memory) {
    memset(out, 0, sizeof *out);
    ask_for_context(out, e);
    if (!(e->window_s >= threshold_window_s) || !isfinite(e->window_s) || e->n_steps < threshold_steps) {
        abstain(out, e);
        return;
    }
    if (contradicts_itself(out, e)) {
        distrust(out, e);
        return;
    }
    struct asking asking = {.out = out, .evidence = e};
    ask_all(&asking, memory);
    name_bottleneck(out, e);
}
