// Classes of code points and normal forms, as tokenizers need them (Unicode 15, from utf8proc).
#pragma once

#include "base/str.h"
#include "models/prompt_text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A code point has one of the general categories and may have the properties below them.
enum {
    UNICODE_UPPER = 1 << 0,       // Lu, Lt
    UNICODE_LOWER = 1 << 1,       // Ll
    UNICODE_CASELESS = 1 << 2,    // Lm, Lo
    UNICODE_MARK = 1 << 3,        // M*
    UNICODE_NUMBER = 1 << 4,      // N*
    UNICODE_PUNCTUATION = 1 << 5, // P*
    UNICODE_SYMBOL = 1 << 6,      // S*
    UNICODE_SPACE = 1 << 7,       // White_Space
    UNICODE_NEWLINE = 1 << 8,     // CR and LF only
    UNICODE_WORD = 1 << 9,        // regex \w: Alphabetic, M*, Nd, Pc, Join_Control
    UNICODE_ASCII_LETTER = 1 << 10,
    UNICODE_ASCII_PUNCT = 1 << 11, // C's ispunct
    UNICODE_LETTER = UNICODE_UPPER | UNICODE_LOWER | UNICODE_CASELESS,
};

extern const uint16_t unicode_ascii_class[128];
unsigned unicode_class_wide(uint32_t code_point);

static inline unsigned unicode_class(uint32_t code_point) {
    return code_point < 128 ? unicode_ascii_class[code_point] : unicode_class_wide(code_point);
}

// Reads one code point of text that is known to be valid UTF-8; returns its length in bytes.
static inline size_t utf8_read(const char *text, uint32_t *code_point) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) {
        *code_point = p[0];
        return 1;
    }
    if (p[0] < 0xe0) {
        *code_point = (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
        return 2;
    }
    if (p[0] < 0xf0) {
        *code_point = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
        return 3;
    }
    *code_point =
        (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
    return 4;
}

// The class and the length of the code point at text[at] (valid UTF-8); class 0 and length 0 at the end.
static inline unsigned unicode_class_at(struct str_view text, size_t at, size_t *length) {
    *length = 0;
    if (at >= text.n_bytes) return 0;
    uint32_t code_point;
    *length = utf8_read(text.data + at, &code_point);
    return unicode_class(code_point);
}

// The end of the run of code points, from `at` on, whose class has a bit of `mask` (or has none, when `without`).
size_t unicode_run(struct str_view text, size_t at, unsigned mask, bool without);

// Simple lower case of one code point.
uint32_t unicode_lower(uint32_t code_point);

struct normal_form {
    bool compatible; // NFKC, NFKD
    bool composed;   // NFC, NFKC
};
// Appends the normal form of valid UTF-8, cluster by cluster: a cluster of output is trusted when all of its input is.
// Time O(n) also for endless runs of combining marks.
void unicode_normalize(struct normal_form form, const struct prompt_text *in, struct prompt_text *out);
