// Numbers of tokens as options give them: fixed, or drawn from a distribution.
#pragma once

#include "base/err.h"
#include <stdint.h>

enum amount_kind { AMOUNT_FIXED, AMOUNT_UNIFORM, AMOUNT_NORMAL, AMOUNT_LOGNORMAL };
struct amount {
    enum amount_kind kind;
    double a, b; // fixed: a; uniform: a .. b; normal: mean and deviation; lognormal: median and deviation of the log
};

// "512", "128..1024", "normal:512:100", "lognormal:512:0.8". ERR_INVALID: something else.
int amount_parse(struct amount *out, const char *text, struct err *err) __attribute__((warn_unused_result));
int64_t amount_draw(const struct amount *amount, uint64_t key, uint64_t index); // at least 1, at most AMOUNT_MAX
double amount_mean(const struct amount *amount);
enum { AMOUNT_MAX = 1 << 20 };
