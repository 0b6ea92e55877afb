// Text that remembers where each part came from.
//
// A rendered chat prompt mixes the template's own text with what the client sent. Special tokens ("<|im_start|>") match
// only inside trusted parts, so that nobody can forge a role by writing its marker into a message.
#pragma once

#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>

struct text_part {
    size_t begin, end; // byte range [begin, end)
    bool trusted;      // from the template or the operator; false: from a request
};

// Parts are adjacent, in order, without gaps, cover the whole text, and neighbours differ in `trusted`.
struct prompt_text {
    struct str text; // UTF-8
    struct text_part *parts;
    size_t n_parts, parts_capacity;
};

#define PROMPT_TEXT_INIT {0}

void prompt_text_append(struct prompt_text *prompt, const char *bytes, size_t n_bytes, bool trusted);
void prompt_text_close(struct prompt_text *prompt);
