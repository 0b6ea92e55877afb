// Normalisers: rewriting of text in front of the pre-tokenizers. Trust follows the text: what came from untrusted text,
// even in part, is untrusted.
//
// Owner: the tokenizer. Read-only after opening.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "models/pattern.h"
#include "models/prompt_text.h"
#include "models/unicode.h"
#include <stdbool.h>

enum normalizer_kind {
    NORMALIZER_FORM, // NFC, NFD, NFKC, NFKD
    NORMALIZER_LOWERCASE,
    NORMALIZER_STRIP,         // white space at the ends
    NORMALIZER_STRIP_ACCENTS, // combining marks
    NORMALIZER_PREPEND,       // unless the text is empty
    NORMALIZER_REPLACE,
};

struct normalizer_step {
    enum normalizer_kind kind;
    struct normal_form form;
    bool strip_left, strip_right;
    struct pattern *pattern; // owned
    struct str content;      // owned: what is prepended or put in the place of matches
};

enum { NORMALIZER_STEPS_MAX = 16 };

struct normalizer {
    struct normalizer_step steps[NORMALIZER_STEPS_MAX];
    size_t n_steps;
};

void normalizer_close(struct normalizer *normalizer);
// Takes ownership of what the step owns, also when it fails: ERR_LIMIT, too many steps.
int normalizer_add(struct normalizer *normalizer, struct normalizer_step step, struct err *err)
    __attribute__((warn_unused_result));

// Rewrites *text, which is valid UTF-8; *spare is a second buffer. ERR_LIMIT: a regular expression took too long, or
// the text grew beyond BPE_PIECE_BYTES_MAX.
int normalizer_run(const struct normalizer *normalizer, struct prompt_text *text, struct prompt_text *spare,
                   struct pattern_budget *budget, struct err *err) __attribute__((warn_unused_result));
// How many bytes of text can at most become one byte of normalised text; 0: any number.
size_t normalizer_shrink_max(const struct normalizer *normalizer);
