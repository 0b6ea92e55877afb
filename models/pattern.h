// What a Split or Replace of a tokenizer looks for: a literal, a class of characters, or a regular expression.
//
// The regular expressions of the well-known tokenizers are small scanners of linear time; all others run on PCRE2 under
// limits. Owner: the tokenizer. Read-only after opening.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pattern;

// Patterns that are known by name.
enum pattern_name {
    PATTERN_DIGIT,       // one character of N*
    PATTERN_DIGITS,      // a run of them
    PATTERN_PUNCTUATION, // one character of P* or ASCII punctuation
    PATTERN_SPACE,       // one character of White_Space
    PATTERN_WORDS,       // \w+|[^\w\s]+
    PATTERN_GPT2,
    PATTERN_LLAMA3, // cl100k too
    PATTERN_QWEN2,
    PATTERN_QWEN35,
    PATTERN_TEKKEN,
    PATTERN_O200K,
    PATTERN_DEEPSEEK_V3,
    PATTERN_UP_TO_3_DIGITS,
    PATTERN_3_ASCII_DIGITS,
    PATTERN_NEWLINE,
    PATTERN_SPACED_LETTERS,     // \s?\p{L}+
    PATTERN_SPACED_PUNCTUATION, // \s?\p{P}+
    PATTERN_HAN_AND_KANA,
    PATTERN_HAN_AND_HANGUL,
    PATTERN_SPACE_AT_LINE_END, // \s+$
    PATTERN_NAMES
};

struct pattern *pattern_open_literal(struct str_view literal); // not empty
struct pattern *pattern_open_named(enum pattern_name name);
// Regular expressions are written for Oniguruma's Ruby syntax; what PCRE2 would read differently is refused.
int pattern_open_regex(struct pattern **out, struct str_view regex, struct err *err)
    __attribute__((warn_unused_result));
// True when the expression is one of the known ones, which cost linear time and need no limits.
bool pattern_is_known(const struct pattern *pattern);
// Bytes of the literal; 0 when the pattern is not one.
size_t pattern_literal_bytes(const struct pattern *pattern);
void pattern_close(struct pattern *pattern); // NULL is allowed

// What the unknown expressions of one encoding may still cost together; zero it before the first search.
struct pattern_budget {
    uint64_t deadline_ns; // 0: no clock was read yet
    unsigned n_tries;
};

// Walks over the matches in one text, which must be valid UTF-8, from left to right, without overlaps.
struct pattern_search {
    const struct pattern *pattern;
    struct str_view text;
    size_t at;        // matches begin here or later
    void *match_data; // of PCRE2; NULL for the others
    struct pattern_budget *budget;
};

struct text_range {
    size_t begin, end;
};

void pattern_search_open(struct pattern_search *search, const struct pattern *pattern, struct str_view text,
                         struct pattern_budget *budget);
// 1: *match was found; 0: there is none any more; ERR_LIMIT: the expression took too long.
int pattern_search_next(struct pattern_search *search, struct text_range *match, struct err *err)
    __attribute__((warn_unused_result));
void pattern_search_close(struct pattern_search *search);
