// The catalogue: one rule is one small function and one row of a table; thresholds are named in one place.
#pragma once

#include "advisor/finding.h"

enum verdict_of_rule {
    RULE_FIRES,     // finding is filled
    RULE_WONT_HELP, // looked at: the computed best case is too little; `suppressed` is filled
    RULE_HEALTHY,   // far from its threshold; `healthy` is filled
    RULE_UNKNOWN,   // what it needs is not known: says nothing
};

struct rule_result {
    double slack; // in: 1, or less while the rule speaks, so that a value beside its threshold does not flicker
    struct finding finding;
    struct suppressed suppressed;
    struct healthy healthy;
};

struct rule {
    const char *id, *name;
    enum verdict_of_rule (*look)(const struct evidence *evidence, struct rule_result *out);
    const char *silenced_by; // ids of rules which, when they fire, make this one silent: "R26 R45 R3"
    const char *source;
    int64_t steps_min; // evidence below which it says nothing
};

extern const struct rule rules[];
extern const int n_rules;

// How often each rule has fired or not in a row: rules speak after three windows and fall silent after five.
struct rule_memory {
    int8_t fired[FINDINGS_MAX], clear[FINDINGS_MAX];
    bool speaking[FINDINGS_MAX];
};

// Looks at everything once. memory: of this server, moves on by one window of about 30 seconds; NULL: no hysteresis,
// rules speak at once.
void diagnosis_make(struct diagnosis *out, const struct evidence *evidence, struct rule_memory *memory);
