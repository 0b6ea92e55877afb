// The option --speculate: which proposer guesses tokens.
#pragma once

#include "base/err.h"
#include "engine/proposer.h"

enum speculate_kind { SPECULATE_OFF, SPECULATE_AUTO, SPECULATE_NGRAM };

struct speculate_choice {
    enum speculate_kind kind;
};

// text: NULL is "off". ERR_INVALID: there is no such kind.
int speculate_read(struct speculate_choice *out, const char *text, struct err *err) __attribute__((warn_unused_result));

// *out: NULL when the choice is off.
int speculate_open(struct proposer **out, const struct speculate_choice *choice, struct err *err)
    __attribute__((warn_unused_result));
