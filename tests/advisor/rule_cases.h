// What each rule is about: example_evidence.h's server with one thing changed, and what the rule must say of it.
#pragma once

#include "advisor/rules.h"

struct rule_case {
    const char *name, *id;
    void (*change)(struct evidence *e);
    enum verdict_of_rule verdict;
    const char *flag; // NULL: not looked at
    double low, high; // of the effect; 0: not looked at
};

extern const struct rule_case rule_cases[];
extern const int n_rule_cases;
