// What rules are made of: judging numbers, wording findings, computing effects. Inside the advisor only.
//
// A rule first asks RULE_KNOWN of everything it rests on, then compares with thresholds.h, then fills its finding.
#pragma once

#include "advisor/rules.h"
#include "advisor/step_model.h"
#include "advisor/thresholds.h"
#include "advisor/words.h"

// Whether all values are finite and not negative.
bool rule_known(const double *values, int n);
#define RULE_KNOWN(...)                                                                                                \
    rule_known((const double[]){__VA_ARGS__}, (int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)))

// Beyond a threshold, by less while the rule speaks.
bool rule_above(const struct rule_result *result, double value, double threshold);
bool rule_below(const struct rule_result *result, double value, double threshold);

// ---------------------------------------------------------------------------------------------------- verdicts

enum verdict_of_rule rule_healthy(struct rule_result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum verdict_of_rule rule_wont_help(struct rule_result *result, struct range factor, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// share: of wall time that it is about. Everything else is empty.
struct finding *rule_finds(struct rule_result *result, enum bottleneck bottleneck, enum time_line line, double share);

// Text that does not fit, or holds an unknown number, leaves the buffer empty: nobody reads half a sentence, and a
// finding without its sentences is not shown.
void rule_say(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define RULE_SAY(field, ...) rule_say(field, sizeof(field), __VA_ARGS__)
void rule_risk(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));
void rule_fact(struct finding *finding, const char *metric, const char *unit, double value, enum figure_source source);
void rule_input(struct finding *finding, const char *metric, const char *unit, double value,
                enum figure_source source); // of the effect

// ----------------------------------------------------------------------------------------------------- effects

// Sets the effect and the benefit. The range is ordered and cut at cap (NAN: none is known). Latencies, costs and
// energies ("itl_", "ttft_", "cost_", "joules_") are better below 1.
void rule_effect(struct finding *finding, const char *metric, double now, struct range factor, double cap,
                 const char *method, ...) __attribute__((format(printf, 6, 7)));

// End to end, when a share of the time takes `factor` of what it took.
double rule_amdahl(double share, double factor);

double rule_share_of(double part, double whole);                              // within 0 .. 1; 0 where it is not known
double rule_busy_share(const struct evidence *evidence, enum time_line line); // of busy time, at most 0.95

// TTFT over that now when prompts take a share of their time now: at best waiting shrinks alike and
// prompts no longer wait for each other, at worst all of it stays.
struct range rule_ttft_factor(const struct evidence *evidence, double work_best, double work_worst);

// A decoding step without prompt rows: rows (drafts too), tokens of context, and what each byte becomes.
struct decode_point {
    double rows, context, layer_scale, kv_scale;
};
struct decode_point rule_decode_now(const struct evidence *evidence);
// Seconds; NAN: no model, or too far from what was seen.
struct range rule_decode_s(const struct evidence *evidence, const struct decode_point *to);
double rule_decode_least_s(const struct evidence *evidence, const struct decode_point *to); // by physics
// Output tokens a second over those now, when decoding steps become like `to` and all other time stays per token.
struct range rule_decode_gain(const struct evidence *evidence, const struct decode_point *to);
double rule_decode_gain_cap(const struct evidence *evidence, const struct decode_point *to);

// Sequences for which there are blocks, at the mean length of what runs now.
double rule_kv_sequences(const struct evidence *evidence);
double rule_kv_bytes(const struct evidence *evidence); // of the whole cache

// Bytes of a format over those of the present one, scales included; NAN: the present one is not known.
double rule_kv_ratio(const struct evidence *evidence, const char *format);

// ------------------------------------------------------------------------------------- what to set, and how to know

// The finding proposes this value of a knob: flag, experiment, rollback. What cannot be set live is a restart.
void rule_set_knob(struct finding *finding, const struct evidence *evidence, enum knob_id knob, double value);
// The finding proposes a flag that needs a restart.
void rule_set_flag(struct finding *finding, const struct evidence *evidence, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Answers may change: the gate, for `optima eval` with these options ("--weights int4").
void rule_quality_gate(struct finding *finding, const struct evidence *evidence, const char *options);
const char *rule_url(const struct evidence *evidence);
const char *rule_path(const struct evidence *evidence);

static inline bool rule_is_idle(const struct evidence *evidence) {
    return evidence->load.idle_share >= threshold_idle_share;
}
static inline bool rule_somebody_waits(const struct evidence *evidence) {
    return evidence->load.queue_share >= threshold_queue_share;
}
