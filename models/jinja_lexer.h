// Template text to tokens, one at a time, with Hugging Face's white-space settings: the first newline behind a block is
// dropped (trim_blocks), blanks in front of a block that begins its line are dropped (lstrip_blocks), and so is a
// single newline at the end of the template.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "models/jinja_value.h"

enum jinja_token_kind {
    JINJA_TOKEN_END,
    JINJA_TOKEN_DATA,           // text
    JINJA_TOKEN_BLOCK_BEGIN,    // {%
    JINJA_TOKEN_BLOCK_END,      // %}
    JINJA_TOKEN_VARIABLE_BEGIN, // {{
    JINJA_TOKEN_VARIABLE_END,   // }}
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_STRING,   // text, unescaped
    JINJA_TOKEN_NUMBER,   // value
    JINJA_TOKEN_OPERATOR, // text
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    struct str_view text;     // valid as long as the arena
    struct jinja_value value; // of a number
};

enum { JINJA_NESTING_MAX = 200 }; // of parentheses, expressions and blocks in a template

struct jinja_lexer {
    struct arena *arena;
    struct err *err;
    jmp_buf *escape; // where a syntax error leads
    const char *source;
    size_t n_bytes, at;
    int line;
    enum { LEXER_DATA, LEXER_BLOCK, LEXER_VARIABLE } state;
    bool tag_begins;                  // `at` stands on "{%" or "{{", whose token is due
    bool line_starting;               // the text before `at` ended with a newline, or nothing came before
    char brackets[JINJA_NESTING_MAX]; // closing ones that are due
    int n_brackets;
};

// Copies the source into the arena with its newlines made plain.
void jinja_lexer_open(struct jinja_lexer *lexer, struct str_view source);
struct jinja_token jinja_lexer_next(struct jinja_lexer *lexer);
noreturn void jinja_syntax_error(struct jinja_lexer *lexer, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
