// From token texts to the bytes that they stand for: the decoders of tokenizer.json that work on one token at a time,
// and what some of them do to the beginning of the whole text.
//
// Owner: the tokenizer. Read-only after opening.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "models/pattern.h"
#include <stdbool.h>
#include <stdint.h>

enum decoder_kind {
    DECODER_BYTE_MAP,      // GPT-2's characters to bytes
    DECODER_BYTE_FALLBACK, // "<0xXX>" to a byte
    DECODER_REPLACE,
    DECODER_METASPACE, // the mark to a space; the first token loses its marks
    DECODER_STRIP,     // up to `start` times the character at the beginning, up to `stop` times at the end
};

struct decoder_step {
    enum decoder_kind kind;
    struct pattern *pattern; // owned, for DECODER_REPLACE
    struct str content;      // owned: the replacement, Strip's character, or Metaspace's mark
    size_t start, stop;
    bool keeps_first; // Metaspace that changes the first token like the others
};

enum { DECODER_STEPS_MAX = 16 };

struct decoder {
    struct decoder_step steps[DECODER_STEPS_MAX];
    size_t n_steps;
    struct str_view strip; // taken off the beginning of the whole text, up to strip_count times
    size_t strip_count;
    char strip_bytes[4];
    bool is_fused;         // while reading: what follows would work on the whole text
    bool joins_with_space; // no decoder at all: a space between tokens
};

void decoder_close(struct decoder *decoder);
// Takes ownership of what the step owns, also when it fails: ERR_LIMIT, too many steps.
int decoder_add(struct decoder *decoder, struct decoder_step step, struct err *err) __attribute__((warn_unused_result));

// Appends the bytes of one token; first: it begins the text. ERR_LIMIT: a regular expression took too long.
int decoder_token(const struct decoder *decoder, struct str_view token, bool first, struct str *out, struct err *err)
    __attribute__((warn_unused_result));
// True when some token's bytes depend on `first`.
bool decoder_minds_first(const struct decoder *decoder);
