// The option --speculate: which proposer guesses tokens.
#pragma once

#include "base/err.h"
#include "engine/draft_model.h"

enum speculate_kind { SPECULATE_OFF, SPECULATE_AUTO, SPECULATE_NGRAM, SPECULATE_SUFFIX, SPECULATE_DRAFT };

struct speculate_choice {
    enum speculate_kind kind;
    const char *draft_path; // NULL: the draft beside the model
};

// text: NULL is "off". ERR_INVALID: there is no such kind.
int speculate_read(struct speculate_choice *out, const char *text, struct err *err) __attribute__((warn_unused_result));

// model_path: of the target, NULL for the demo. draft: its other fields than the path, which is chosen here. *out: NULL
// when the choice is off.
int speculate_open(struct proposer **out, const struct speculate_choice *choice, const char *model_path,
                   const struct draft_model_options *draft, struct memory_ledger *ledger, struct err *err)
    __attribute__((warn_unused_result));
