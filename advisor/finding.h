// What a rule says: diagnosis, evidence, what to do, how much it should help, how to know, and how to go back.
//
// Texts are built in the finding's own buffers, so that findings are plain data and reports can be kept.
#pragma once

#include "advisor/evidence.h"

enum bottleneck {
    BOTTLENECK_UNKNOWN, // not enough evidence
    BOTTLENECK_INPUT,   // too few requests
    BOTTLENECK_BANDWIDTH,
    BOTTLENECK_COMPUTE,
    BOTTLENECK_LATENCY, // small operations: neither memory nor arithmetic is busy
    BOTTLENECK_KV,
    BOTTLENECK_SCHEDULING,
    BOTTLENECK_HOST,
    BOTTLENECK_NETWORK,
    BOTTLENECK_CAPACITY, // more load than the server bears
    BOTTLENECK_MACHINE,  // threads, quota, paging, NUMA
    BOTTLENECK_POWER,
    BOTTLENECK_COST,
    BOTTLENECK_MEASUREMENT, // the numbers contradict each other
};
const char *bottleneck_name(enum bottleneck bottleneck); // "memory_bandwidth", ...

enum { FINDING_FACTS_MAX = 8, FINDING_RISKS_MAX = 3, FINDING_TEXT = 400, FINDING_INPUTS_MAX = 6 };

struct fact {
    const char *metric; // "decode_rows_mean"
    const char *unit;   // "rows"; "" for a plain number, "share" for 0 .. 1
    double value;
    enum figure_source source;
};

// metric: "output_tokens_per_s", "itl_p50_s", "itl_p99_s", "ttft_p50_s", "ttft_p95_s", "cost_per_m_output",
// "joules_per_output_token", "kv_tokens", "goodput". factor: predicted over present, of that metric.
struct effect {
    const char *metric;
    double now;          // measured
    struct range factor; // [1, 1]: none; for latencies below 1 is better
    double cap;          // the factor that physics allows at best; NAN: unknown
    char method[160];    // "step time at 32 rows by additive and multiplicative bracket, 2 deviations of 4 %"
    struct fact inputs[FINDING_INPUTS_MAX];
    int n_inputs;
};

struct finding {
    const char *id;   // "R1", stable
    const char *name; // "decode batch too small"
    enum bottleneck bottleneck;
    enum time_line line; // that it attacks; TIME_LINES: none
    double share;        // of wall time that it is about
    double benefit;      // share of time (or of the metric) that its middle effect saves: findings are ordered by it
    char diagnosis[FINDING_TEXT]; // one sentence, numbers included
    struct fact facts[FINDING_FACTS_MAX];
    int n_facts;
    char action[FINDING_TEXT]; // what to do, for people
    char flag[120];            // exact: "--sequences 64"; empty: nothing to set here
    int knob;                  // enum knob_id that an experiment can set live; -1: none, restart
    int64_t knob_value;
    bool has_effect; // without one there is nothing to set: flag is empty and knob is -1
    struct effect effect;
    char risks[FINDING_RISKS_MAX][160];
    int n_risks;
    bool changes_numerics; // then quality_gate is not empty
    char quality_gate[240];
    char experiment[240]; // the command that would prove it right or wrong
    char success[160];    // what that must show
    char rollback[160];
    char why[FINDING_TEXT]; // why it works, at most three sentences
    const char *source;     // "arXiv:2503.08311; ..."
    int confirmed;          // times in a row that the rule has fired, by the caller
};

// Whether it keeps the contract of everything shown: finite numbers with sources, an ordered range with method and
// inputs, shares within 0 .. 1, a quality gate where answers may change, a command that would prove it, whole texts.
bool finding_is_sound(const struct finding *finding);

// What was looked at and would not help, with its computed best case.
struct suppressed {
    const char *id, *name;
    char reason[200];    // "the KV cache is 7 % of the bytes: at most 1.04x"
    struct range factor; // NAN: not computed
};

struct healthy {
    const char *id, *name;
    char text[160]; // "recomputed tokens 0.0 % (fires above 1 %)"
};

struct question {
    const char *need;    // "price_per_hour"
    char text[160];      // "What does this machine cost an hour?"
    char command[160];   // "--price-per-hour 2.50", or what would settle it
    const char *unlocks; // "cost per million tokens"
};

enum { FINDINGS_MAX = 48 };

struct diagnosis {
    enum bottleneck bottleneck;
    char headline[FINDING_TEXT]; // bottleneck, one number, confidence
    const char *confidence;      // "high", "medium", "low", "none"
    char why_not[6][120];        // other bottlenecks and the number that excludes them
    int n_why_not;
    struct finding findings[FINDINGS_MAX]; // the largest benefit first
    int n_findings;
    struct suppressed suppressed[FINDINGS_MAX];
    int n_suppressed;
    struct healthy healthy[FINDINGS_MAX];
    int n_healthy;
    struct question questions[8];
    int n_questions;
};
