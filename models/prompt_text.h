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

#define PROMPT_TEXT_INIT                                                                                               \
    { 0 }

void prompt_text_append(struct prompt_text *prompt, const char *bytes, size_t n_bytes, bool trusted);
void prompt_text_cut(struct prompt_text *prompt, size_t n_bytes); // keeps the first n_bytes
void prompt_text_close(struct prompt_text *prompt);

// Moves *part, a hint that the caller starts at 0 and hands on for ascending positions, to the part that holds the byte
// `at`; n_parts at the end. O(log n).
void prompt_text_seek(const struct prompt_text *prompt, size_t at, size_t *part);
// True when [begin, end) is not empty and all of it is trusted. *part as above.
bool prompt_text_is_trusted(const struct prompt_text *prompt, size_t begin, size_t end, size_t *part);
// Appends the range [begin, end) of another text with its trust. *part as above.
void prompt_text_append_part(struct prompt_text *prompt, const struct prompt_text *from, size_t begin, size_t end,
                             size_t *part);
void prompt_text_clear(struct prompt_text *prompt); // empty, memory kept
