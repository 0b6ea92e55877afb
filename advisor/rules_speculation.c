// Rules about drafts: that are rejected, that a full batch has no room for, and that would pay.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

enum { DRAFTS_TRIED = 8 };

// Tokens a step and sequence, when each of k drafts is accepted with probability a as long as those before it were.
static double tokens_of(double a, double k) {
    return a >= 0.9999 ? k + 1 : (1 - pow(a, k + 1)) / (1 - a);
}

struct pace {
    double tokens;        // a step and sequence, now
    double step_s;        // drafting included, now
    double draft_s;       // of one draft of one sequence
    double sequences;     // in a step
    struct range without; // speed now over that without drafts
    double model_without; // the same in the middle of the model\'s range
    double drafts_best;   // 0: none
    struct range factor;  // speed with that many over that now
};

static bool look_at_pace(const struct evidence *e, struct pace *out) {
    const struct speculation_figures *s = &e->speculation;
    double rows = e->efficiency.decode_rows_mean, step = e->efficiency.decode_s_mean, k = s->drafts_per_sequence;
    if (!s->is_on || !RULE_KNOWN(s->acceptance, k, s->step_share, s->draft_s, rows, step, e->load.output_rate) ||
        s->acceptance > 1 || s->step_share > 1 || s->step_share <= 0 || k <= 0 || rows <= 0 || step <= 0)
        return false;
    double drafting = s->draft_s / (double)e->n_steps;
    *out = (struct pace){.tokens = 1 + s->step_share * (tokens_of(s->acceptance, k) - 1),
                         .step_s = step + drafting,
                         .draft_s = drafting / (k * s->step_share),
                         .sequences = rows};
    double best = 0;
    for (int n = 0; n <= DRAFTS_TRIED; n++) {
        struct decode_point at = rule_decode_now(e);
        at.rows = rows * (1 + n);
        struct range seconds = rule_decode_s(e, &at);
        if (!RULE_KNOWN(seconds.low, seconds.high)) continue;
        double tokens = tokens_of(s->acceptance, n), now = out->step_s / out->tokens;
        struct range factor = {now * tokens / (seconds.high + n * out->draft_s),
                               now * tokens / (seconds.low + n * out->draft_s)};
        if (n == 0) out->without = (struct range){1 / factor.high, 1 / factor.low};
        if (0.5 * (factor.low + factor.high) > best) {
            best = 0.5 * (factor.low + factor.high);
            out->drafts_best = n;
            out->factor = factor;
        }
    }
    out->model_without = 0.5 * (out->without.low + out->without.high);
    return best > 0 && out->without.low > 0;
}

// What was measured counts for more than what is computed, and widens its range.
static double speed_over_none(const struct evidence *e, struct range *range) {
    double measured = e->speculation.gain;
    if (!RULE_KNOWN(measured) || measured <= 0) return 0.5 * (range->low + range->high);
    *range = (struct range){fmin(range->low, measured), fmax(range->high, measured)};
    return measured;
}

static enum verdict_of_rule fewer_drafts(const struct evidence *e, struct rule_result *r, struct pace *pace) {
    const struct speculation_figures *s = &e->speculation;
    double share = fmin(1, fmax(0, e->efficiency.decode_time_share));
    struct finding *f = rule_finds(r, BOTTLENECK_COMPUTE, TIME_REJECTED_DRAFTS, share);
    RULE_SAY(f->diagnosis,
             "Drafts cost more than they bring: %s of them are accepted, %s tokens a step, and decoding "
             "runs at %s of its speed without them.",
             words_percent(s->acceptance).text, words_number(pace->tokens).text, words_factors(pace->without).text);
    rule_fact(f, "acceptance", "share", s->acceptance, FIGURE_MEASURED);
    rule_fact(f, "drafts_per_sequence", "drafts", s->drafts_per_sequence, FIGURE_MEASURED);
    rule_fact(f, "decode_rows_mean", "rows", pace->sequences, FIGURE_MEASURED);
    rule_fact(f, "draft_rows", "share", fmin(1, fmax(0, RULE_KNOWN(s->draft_row_share) ? s->draft_row_share : 0)),
              FIGURE_MEASURED);
    struct range factor = pace->factor;
    // A model that would have drafts where the measurement says that they cost is not to be followed.
    bool disagrees = RULE_KNOWN(s->gain) && pace->model_without >= 1;
    if (disagrees) pace->drafts_best = 0;
    if (pace->drafts_best < 1) factor = (struct range){1 / pace->without.high, 1 / pace->without.low};
    if (pace->drafts_best < 1)
        RULE_SAY(f->action, "Do not speculate under this load.");
    else
        RULE_SAY(f->action, "Guess at most %.0f tokens.", pace->drafts_best);
    rule_effect(f, "output_tokens_per_s", e->load.output_rate,
                (struct range){rule_amdahl(share, 1 / factor.low), rule_amdahl(share, 1 / factor.high)}, NAN,
                "tokens a step by the measured acceptance, (1 - a^(k+1)) / (1 - a), over time of a step with that many "
                "rows by the fitted step model");
    rule_input(f, "tokens_per_step_now", "tokens", pace->tokens, FIGURE_MODELLED);
    rule_input(f, "step_now", "s", pace->step_s, FIGURE_MEASURED);
    rule_input(f, "time_per_draft", "s", pace->draft_s, FIGURE_MEASURED);
    rule_set_knob(f, e, KNOB_DRAFTS, pace->drafts_best);
    RULE_SAY(f->success, "output tokens/s within the range; answers do not change");
    RULE_SAY(f->why,
             "A draft costs a row in the step and the time to guess it, accepted or not. It pays while rows are "
             "nearly free and most are accepted.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_drafts_rejected(const struct evidence *e, struct rule_result *r) {
    struct pace pace;
    if (!look_at_pace(e, &pace)) return RULE_UNKNOWN;
    double speed = speed_over_none(e, &pace.without);
    if (!rule_below(r, speed, 1) || pace.tokens >= threshold_tokens_low)
        return rule_healthy(r, "decoding runs at %s of its speed without drafts (fires below 1)",
                            words_factor(speed).text);
    return fewer_drafts(e, r, &pace);
}

enum verdict_of_rule rule_drafts_at_large_batch(const struct evidence *e, struct rule_result *r) {
    struct pace pace;
    if (!look_at_pace(e, &pace)) return RULE_UNKNOWN;
    double speed = speed_over_none(e, &pace.without);
    if (!rule_below(r, speed, 1) || pace.tokens < threshold_tokens_low)
        return rule_healthy(r, "%s sequences leave room for drafts: %s of the speed without (fires below 1)",
                            words_number(pace.sequences).text, words_factor(speed).text);
    return fewer_drafts(e, r, &pace);
}

// --------------------------------------------------------------------------------------------- R33: would pay

// Speed with k drafts where the shadow had a guess, over that now.
static double speed_with(const struct evidence *e, double acceptance, int k, bool slow) {
    double covered = e->speculation.shadow_coverage;
    struct decode_point at = rule_decode_now(e);
    at.rows *= 1 + covered * k;
    struct range seconds = rule_decode_s(e, &at);
    double tokens = 1 + covered * (tokens_of(fmin(1, fmax(0, acceptance)), k) - 1);
    return tokens * e->efficiency.decode_s_mean / (slow ? seconds.high : seconds.low);
}

enum verdict_of_rule rule_drafts_would_pay(const struct evidence *e, struct rule_result *r) {
    const struct speculation_figures *s = &e->speculation;
    double rows = e->efficiency.decode_rows_mean, share = e->efficiency.decode_time_share;
    if (s->is_on || e->setup.speculates ||
        !RULE_KNOWN(s->shadow_acceptance, s->shadow_deviation, s->shadow_coverage, rows, share,
                    e->efficiency.mbu_decode, e->load.output_rate) ||
        s->shadow_acceptance > 1 || s->shadow_coverage > 1 || rows <= 0 || share > 1)
        return RULE_UNKNOWN;
    if (rows > threshold_candidate_rows)
        return rule_healthy(r, "%s rows a step leave little room for drafts", words_number(rows).text);
    int best = 0;
    double speed = 0;
    for (int k = 1; k <= DRAFTS_TRIED; k++) {
        double now = speed_with(e, s->shadow_acceptance, k, true);
        if (isfinite(now) && now > speed) speed = now, best = k;
    }
    if (!best) return RULE_UNKNOWN;
    struct range factor = {speed_with(e, s->shadow_acceptance - 2 * s->shadow_deviation, best, true),
                           speed_with(e, s->shadow_acceptance + 2 * s->shadow_deviation, best, false)};
    if (!RULE_KNOWN(factor.low, factor.high) || factor.low <= 0) return RULE_UNKNOWN;
    struct range gain = {rule_amdahl(share, 1 / factor.low), rule_amdahl(share, 1 / factor.high)};
    if (!rule_above(r, factor.low, threshold_candidate_gain) || e->efficiency.mbu_decode < threshold_latency_share)
        return rule_wont_help(r, gain,
                              "n-gram drafts: a watching proposer guessed %s of the tokens and was right in %s: "
                              "%s",
                              words_percent(s->shadow_coverage).text, words_percent(s->shadow_acceptance).text,
                              words_factors(gain).text);
    struct finding *f = rule_finds(r, BOTTLENECK_BANDWIDTH, TIME_DECODE_WEIGHTS, share);
    RULE_SAY(f->diagnosis,
             "Answers repeat what was said before: a proposer that only watches guessed %s of the tokens, "
             "and %s of its guesses were right.",
             words_percent(s->shadow_coverage).text, words_percent(s->shadow_acceptance).text);
    rule_fact(f, "shadow_acceptance", "share", s->shadow_acceptance, FIGURE_MEASURED);
    rule_fact(f, "shadow_coverage", "share", s->shadow_coverage, FIGURE_MEASURED);
    rule_fact(f, "decode_rows_mean", "rows", rows, FIGURE_MEASURED);
    rule_fact(f, "mbu_decode", "share", fmin(1, e->efficiency.mbu_decode), FIGURE_MODELLED);
    RULE_SAY(f->action,
             "Guess tokens from what followed the same words before, and check several in a step (about %d "
             "pay here).",
             best);
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, gain, NAN,
                "tokens a step by the watched acceptance, two deviations either way, over the time of a step with the "
                "drafts' rows by the fitted step model");
    rule_input(f, "drafts", "drafts", best, FIGURE_MODELLED);
    rule_input(f, "shadow_acceptance", "share", s->shadow_acceptance, FIGURE_MEASURED);
    rule_input(f, "shadow_deviation", "share", fmin(1, s->shadow_deviation), FIGURE_MEASURED);
    rule_risk(f, "Tokens come in bursts of accepted guesses.");
    rule_set_flag(f, e, "--speculate ngram");
    RULE_SAY(f->success, "output tokens/s within the range; answers do not change, bit for bit");
    RULE_SAY(f->why, "A step that waits for memory checks a few more rows for almost nothing. Each guess that holds "
                     "saves a whole step.");
    return RULE_FIRES;
}
