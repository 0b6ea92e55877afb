// Rules about matrices: narrower weights, a heavy head, and drawing tokens from its logits.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

// The next narrower format and its bits a weight, scales included; NULL: there is none.
static const char *narrower(const struct evidence *e, double *bits) {
    double now = e->setup.bits_per_weight, scale = e->setup.is_gpu ? 0.25 : 0.5; // one of 16 bits for 64 or 32 weights
    if (now > 12) return *bits = 8 + scale, "int8";
    if (now > 6) return *bits = 4 + scale, "int4";
    return NULL;
}

// ------------------------------------------------------------------------------------------------- R13: weight format

struct weight_change {
    const char *format;
    double ratio;             // of the layers' bytes
    struct range gain;        // of output tokens a second
    struct range step_factor; // of a decoding step's time
    double cap_gain, cap_step;
};

static bool weigh(const struct evidence *e, struct weight_change *out) {
    double bits;
    out->format = narrower(e, &bits);
    if (!out->format) return false;
    out->ratio = bits / e->setup.bits_per_weight;
    struct decode_point at = rule_decode_now(e);
    at.layer_scale = fmin(1, out->ratio / threshold_kernel_worst);
    double low = rule_decode_gain(e, &at).low, slow = rule_decode_s(e, &at).high;
    at.layer_scale = out->ratio;
    out->gain = (struct range){low, rule_decode_gain(e, &at).high};
    double now = e->efficiency.decode_s_mean;
    out->step_factor = (struct range){rule_decode_s(e, &at).low / now, slow / now};
    out->cap_gain = rule_decode_gain_cap(e, &at);
    out->cap_step = rule_decode_least_s(e, &at) / now;
    return RULE_KNOWN(low, out->gain.high, slow);
}

static void weight_effect(struct finding *f, const struct evidence *e, const struct weight_change *change) {
    static const char method[] = "bytes of a step with the layers at %s of now, by the fitted step model; kernels that "
                                 "unpack them reach 80 to 100 %%";
    // Where nobody waits, requests decide how many tokens there are: what changes is how fast they come.
    if (rule_somebody_waits(e))
        rule_effect(f, "output_tokens_per_s", e->load.output_rate, change->gain, change->cap_gain, method,
                    words_percent(change->ratio).text);
    else
        rule_effect(f, "itl_p50_s", e->itl.p50.mean, change->step_factor, change->cap_step, method,
                    words_percent(change->ratio).text);
    rule_input(f, "bits_then_over_now", "share", change->ratio, FIGURE_MODELLED);
    rule_input(f, "kv_share", "share", e->efficiency.kv_share, FIGURE_MODELLED);
    rule_input(f, "decode_time_share", "share", fmin(1, e->efficiency.decode_time_share), FIGURE_MEASURED);
}

enum verdict_of_rule rule_weight_format(const struct evidence *e, struct rule_result *r) {
    const struct efficiency_figures *now = &e->efficiency;
    if (!RULE_KNOWN(e->setup.bits_per_weight, now->kv_share, now->mbu_decode, now->decode_time_share, e->itl.p50.mean,
                    e->load.output_rate, e->load.idle_share) ||
        now->kv_share > 1 || e->setup.bits_per_weight < 1)
        return RULE_UNKNOWN;
    struct weight_change change;
    double bits;
    if (!narrower(e, &bits))
        return rule_healthy(r, "the weights take %s bits each", words_number(e->setup.bits_per_weight).text);
    if (!weigh(e, &change)) return RULE_UNKNOWN;
    if (rule_is_idle(e))
        return rule_wont_help(r, change.gain, "%s weights: the server is idle %s of the time", change.format,
                              words_percent(e->load.idle_share).text);
    if (now->mbu_decode < threshold_decode_mbu_small)
        return rule_wont_help(r, change.gain,
                              "%s weights: decoding reads at %s of the measured peak, so fewer bytes will "
                              "hardly show: at most %s",
                              change.format, words_percent(now->mbu_decode).text, words_factor(change.gain.high).text);
    if (!rule_above(r, now->mbu_decode, threshold_decode_mbu) ||
        !rule_above(r, now->decode_time_share, threshold_decode_time_share) ||
        !rule_above(r, 1 - now->kv_share, threshold_weights_share))
        return rule_wont_help(r, change.gain, "%s weights: reading them is not most of the time: at most %s",
                              change.format, words_factor(change.gain.high).text);
    struct finding *f = rule_finds(r, BOTTLENECK_BANDWIDTH, TIME_DECODE_WEIGHTS, now->decode_time_share);
    RULE_SAY(f->diagnosis, "Decoding reads memory at %s of the measured peak, %s of it weights of %s bits.",
             words_percent(now->mbu_decode).text, words_percent(1 - now->kv_share).text,
             words_number(e->setup.bits_per_weight).text);
    rule_fact(f, "mbu_decode", "share", fmin(1, now->mbu_decode), FIGURE_MODELLED);
    rule_fact(f, "bits_per_weight", "bits", e->setup.bits_per_weight, FIGURE_MEASURED);
    rule_fact(f, "weights_share_of_bytes", "share", 1 - now->kv_share, FIGURE_MODELLED);
    rule_fact(f, "decode_time_share", "share", fmin(1, now->decode_time_share), FIGURE_MEASURED);
    RULE_SAY(f->action, "Keep the layers' weights in %s: %s of the bytes.", change.format,
             words_percent(change.ratio).text);
    weight_effect(f, e, &change);
    rule_risk(f, "Answers change: %s.",
              change.format[3] == '8' ? "INT8 is close to lossless for most models"
                                      : "INT4 costs some quality, more in small models");
    rule_risk(f, "Prompts are bound by arithmetic and may gain nothing.");
    rule_set_flag(f, e, "--weights %s", change.format);
    rule_quality_gate(f, e, f->flag);
    RULE_SAY(f->success, "the metric within its range, quality gate passed");
    RULE_SAY(f->why, "A step that only reads takes as long as its bytes. Narrower weights are fewer bytes; they are "
                     "unpacked on the way to the multipliers.");
    return RULE_FIRES;
}

// ----------------------------------------------------------------------------------------------- R18, R19: the head

enum verdict_of_rule rule_head_heavy(const struct evidence *e, struct rule_result *r) {
    double share = e->host.head_share, weights = (double)e->setup.vocab * e->setup.hidden;
    if (!RULE_KNOWN(share, e->setup.head_bytes, e->load.output_rate) || share > 0.95 || weights <= 0)
        return RULE_UNKNOWN;
    if (!rule_above(r, share, threshold_head_share))
        return rule_healthy(r, "the head takes %s of busy time (fires above %s)", words_percent(share).text,
                            words_percent(threshold_head_share).text);
    double bytes = e->setup.head_bytes / weights, ratio = 1.0625 / bytes; // Q8_0: 8.5 bits
    if (!(ratio < 0.9))
        return rule_wont_help(r, (struct range){1, 1},
                              "the head takes %s of the time, and has %s bytes a weight already",
                              words_percent(share).text, words_number(bytes).text);
    struct range gain = {rule_amdahl(share, fmin(1, ratio / threshold_kernel_worst)), rule_amdahl(share, ratio)};
    struct finding *f = rule_finds(r, BOTTLENECK_BANDWIDTH, TIME_HEAD, share);
    RULE_SAY(f->diagnosis,
             "The head, a matrix of %d outputs, takes %s of busy time: the model is small beside its "
             "vocabulary.",
             (int)e->setup.vocab, words_percent(share).text);
    rule_fact(f, "head_share", "share", share, FIGURE_MEASURED);
    rule_fact(f, "head_bytes", "bytes", e->setup.head_bytes, FIGURE_MEASURED);
    rule_fact(f, "vocabulary", "tokens", e->setup.vocab, FIGURE_MEASURED);
    RULE_SAY(f->action, "Only rows that need logits pass the head already. Serve a GGUF file of the model whose output "
                        "matrix is Q8_0: --weights leaves the head as it is.");
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, gain, gain.high,
                "Amdahl: the head's share at %s of its bytes, with kernels at 80 to 100 %%", words_percent(ratio).text);
    rule_input(f, "head_share", "share", share, FIGURE_MEASURED);
    rule_input(f, "bytes_then_over_now", "share", ratio, FIGURE_MODELLED);
    rule_risk(f, "Answers change slightly: logits of eight bits.");
    f->changes_numerics = true;
    RULE_SAY(f->quality_gate,
             "optima eval THE_FILE.gguf --text YOUR_TEXT --reference %.80s; go on if the mean KL is at "
             "most 0.01 and perplexity rises by at most 0.5 %%",
             rule_path(e));
    RULE_SAY(f->experiment, "optima bench %.120s, then the same against a server of the file", rule_url(e));
    RULE_SAY(f->success, "output tokens/s within the range, quality gate passed");
    RULE_SAY(f->rollback, "Serve the model of now");
    RULE_SAY(f->why, "Every token that is drawn needs a product with the whole head, which no batch of prompts "
                     "shares.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_sampling_heavy(const struct evidence *e, struct rule_result *r) {
    double share = e->host.sample_share, rows = e->efficiency.decode_rows_mean;
    if (!RULE_KNOWN(share, e->host.sample_s, rows, e->peaks.read.value, e->load.output_rate) || share > 0.95 ||
        e->peaks.read.value <= 0 || e->host.sample_s <= 0)
        return RULE_UNKNOWN;
    if (!rule_above(r, share, threshold_sample_share))
        return rule_healthy(r, "drawing tokens takes %s of busy time (fires above %s)", words_percent(share).text,
                            words_percent(threshold_sample_share).text);
    const double warmer = 1 - share / 4; // what waits less keeps more in its caches
    double least = fmax(1, rows) * e->setup.vocab * 4 / e->peaks.read.value, excess = 1 - least / e->host.sample_s;
    if (excess < 0.3)
        return rule_wont_help(r, (struct range){1, rule_amdahl(share, 1 - fmax(0, excess))},
                              "drawing tokens takes %s of the time, which reading %d logits a row explains",
                              words_percent(share).text, (int)e->setup.vocab);
    struct finding *f = rule_finds(r, BOTTLENECK_HOST, TIME_SAMPLING, share);
    RULE_SAY(f->diagnosis, "Drawing tokens takes %s of busy time, %s a step; reading the logits alone would take %s.",
             words_percent(share).text, words_seconds(e->host.sample_s).text, words_seconds(least).text);
    rule_fact(f, "sampling_share", "share", share, FIGURE_MEASURED);
    rule_fact(f, "sampling_per_step", "s", e->host.sample_s, FIGURE_MEASURED);
    rule_fact(f, "least_by_bytes", "s", least, FIGURE_MODELLED);
    RULE_SAY(f->action,
             "Nothing to set in the server. Requests with logprobs, penalties, logit_bias or top_p cost most "
             "here; temperature 0, min_p or top_k cost least.");
    rule_effect(
        f, "output_tokens_per_s", e->load.output_rate,
        (struct range){rule_amdahl(share, 1 - 0.5 * excess), rule_amdahl(share, 1 - excess) / warmer}, NAN,
        "Amdahl: at best drawing takes only the reading of its logits, and all else %s of its time because caches "
        "stay warm; at worst half of the excess goes",
        words_percent(warmer).text);
    rule_input(f, "sampling_share", "share", share, FIGURE_MEASURED);
    rule_input(f, "excess_share", "share", fmax(0, excess), FIGURE_MODELLED);
    RULE_SAY(f->experiment, "optima bench %.100s --extra '{\"temperature\": 0}', then without --extra", rule_url(e));
    RULE_SAY(f->success, "the difference in output tokens/s is what drawing costs");
    RULE_SAY(f->why,
             "A penalty or a cut-off has to look at every token of the vocabulary for every row, after the step "
             "itself has ended.");
    return RULE_FIRES;
}
