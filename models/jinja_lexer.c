#include "models/jinja_lexer.h"

#include "base/utf8.h"
#include "models/jinja_string.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

noreturn void jinja_syntax_error(struct jinja_lexer *lexer, int line, const char *format, ...) {
    char text[sizeof lexer->err->text - 40];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    err_set(lexer->err, ERR_FORMAT, "line %d of the chat template: %s", line, text);
    longjmp(*lexer->escape, 1);
}

void jinja_lexer_open(struct jinja_lexer *lexer, struct str_view source) {
    char *copy = arena_alloc(lexer->arena, source.n_bytes + 1);
    size_t n = 0;
    for (size_t i = 0; i < source.n_bytes; i++) {
        char c = source.data[i];
        if (c == '\r' && i + 1 < source.n_bytes && source.data[i + 1] == '\n') continue;
        copy[n++] = c == '\r' ? '\n' : c;
    }
    if (n && copy[n - 1] == '\n') n--;
    copy[n] = 0;
    lexer->source = copy;
    lexer->n_bytes = n;
    lexer->line = 1;
    lexer->line_starting = true;
}

static char byte_at(const struct jinja_lexer *lexer, size_t at) {
    return at < lexer->n_bytes ? lexer->source[at] : 0;
}

static bool space_at(const char *bytes, size_t n_bytes, size_t *n) {
    uint32_t c = 0;
    *n = n_bytes ? utf8_decode(bytes, n_bytes, &c) : 0;
    return *n && jinja_is_space(c);
}

// Moves on to `to`, counting lines.
static void advance(struct jinja_lexer *lexer, size_t to) {
    for (size_t i = lexer->at; i < to; i++) lexer->line += lexer->source[i] == '\n';
    lexer->line_starting = to > lexer->at ? lexer->source[to - 1] == '\n' : lexer->line_starting;
    lexer->at = to;
}

static size_t skip_space(const struct jinja_lexer *lexer, size_t at) {
    size_t n;
    while (at < lexer->n_bytes && space_at(lexer->source + at, lexer->n_bytes - at, &n)) at += n;
    return at;
}

static size_t rstrip(const char *bytes, size_t n_bytes) {
    while (n_bytes) {
        size_t last = n_bytes - 1, n;
        while (last && ((unsigned char)bytes[last] & 0xc0) == 0x80) last--;
        if (!space_at(bytes + last, n_bytes - last, &n)) break;
        n_bytes = last;
    }
    return n_bytes;
}

// How much of the text in front of a tag stays. `sign` is the tag's '-', '+' or 0.
static size_t keep_before_tag(const struct jinja_lexer *lexer, size_t n_bytes, char sign, bool variable) {
    const char *text = lexer->source + lexer->at;
    if (sign == '-') return rstrip(text, n_bytes);
    if (sign == '+' || variable) return n_bytes;
    const char *newline = n_bytes ? memrchr(text, '\n', n_bytes) : NULL;
    if (!newline && !lexer->line_starting) return n_bytes;
    size_t line = newline ? (size_t)(newline + 1 - text) : 0;
    return rstrip(text, n_bytes) <= line ? line : n_bytes;
}

// Behind "%}" or "#}": the end of what the tag swallows. `at` stands on the first byte of "-%}", "+%}" or "%}".
static size_t after_tag(const struct jinja_lexer *lexer, size_t at, bool trims_newline) {
    char sign = byte_at(lexer, at);
    if (sign == '-') return skip_space(lexer, at + 3);
    if (sign == '+') return at + 3;
    at += 2;
    return trims_newline && byte_at(lexer, at) == '\n' ? at + 1 : at;
}

// Whether "%}" (second == '%') stands at `at`, possibly behind a sign.
static bool tag_end_at(const struct jinja_lexer *lexer, size_t at, char first, char second, const char *signs) {
    if (byte_at(lexer, at) && strchr(signs, byte_at(lexer, at))) at++;
    return byte_at(lexer, at) == first && byte_at(lexer, at + 1) == second;
}

// Skips "{%", a sign, blanks and `word`; returns the offset of the tag's end marker, or 0 when this is no such tag.
static size_t match_word_tag(const struct jinja_lexer *lexer, size_t at, const char *word, const char *end_signs) {
    if (byte_at(lexer, at) != '{' || byte_at(lexer, at + 1) != '%') return 0;
    at += 2;
    if (byte_at(lexer, at) == '-' || byte_at(lexer, at) == '+') at++;
    at = skip_space(lexer, at);
    size_t n = strlen(word);
    if (lexer->n_bytes - at < n || memcmp(lexer->source + at, word, n) != 0) return 0;
    at = skip_space(lexer, at + n);
    return tag_end_at(lexer, at, '%', '}', end_signs) ? at : 0;
}

static char tag_sign(const struct jinja_lexer *lexer, size_t tag) {
    char sign = byte_at(lexer, tag + 2);
    return sign == '-' || sign == '+' ? sign : 0;
}

static struct jinja_token make_token(const struct jinja_lexer *lexer, enum jinja_token_kind kind, size_t begin,
                                     size_t n_bytes) {
    return (struct jinja_token){.kind = kind, .line = lexer->line, .text = {lexer->source + begin, n_bytes}};
}

static size_t find_tag(const struct jinja_lexer *lexer, size_t at) {
    for (; at + 1 < lexer->n_bytes; at++) {
        const char *brace = memchr(lexer->source + at, '{', lexer->n_bytes - at - 1);
        if (!brace) break;
        at = (size_t)(brace - lexer->source);
        if (strchr("{%#", brace[1]) && brace[1]) return at;
    }
    return lexer->n_bytes;
}

static void skip_comment(struct jinja_lexer *lexer, size_t tag) {
    const char *end = memmem(lexer->source + tag + 2, lexer->n_bytes - tag - 2, "#}", 2);
    if (!end) jinja_syntax_error(lexer, lexer->line, "Missing end of comment tag");
    size_t at = (size_t)(end - lexer->source);
    char sign = at > tag + 2 ? byte_at(lexer, at - 1) : 0;
    advance(lexer, after_tag(lexer, sign == '-' || sign == '+' ? at - 1 : at, true));
}

// The text between {% raw %} and {% endraw %}; `at` is the end marker of the first tag.
static struct jinja_token read_raw(struct jinja_lexer *lexer, size_t at) {
    advance(lexer, after_tag(lexer, at, false));
    for (size_t tag = lexer->at; tag < lexer->n_bytes; tag++) {
        size_t end = match_word_tag(lexer, tag, "endraw", "-+");
        if (!end) continue;
        size_t keep = keep_before_tag(lexer, tag - lexer->at, tag_sign(lexer, tag), false);
        struct jinja_token token = make_token(lexer, JINJA_TOKEN_DATA, lexer->at, keep);
        advance(lexer, after_tag(lexer, end, true));
        return token;
    }
    jinja_syntax_error(lexer, lexer->line, "Missing end of raw directive");
}

// A data token, possibly empty; then the lexer stands on the tag that follows, or behind a comment or raw block.
static struct jinja_token next_data(struct jinja_lexer *lexer) {
    size_t tag = find_tag(lexer, lexer->at);
    if (tag == lexer->n_bytes) {
        struct jinja_token token = make_token(lexer, JINJA_TOKEN_DATA, lexer->at, tag - lexer->at);
        advance(lexer, tag);
        return token;
    }
    char type = lexer->source[tag + 1];
    size_t keep = keep_before_tag(lexer, tag - lexer->at, tag_sign(lexer, tag), type == '{');
    struct jinja_token token = make_token(lexer, JINJA_TOKEN_DATA, lexer->at, keep);
    advance(lexer, tag);
    size_t raw = match_word_tag(lexer, tag, "raw", "-");
    if (type == '#') {
        skip_comment(lexer, tag);
    } else if (raw) {
        // The text in front of a raw block is rarely there; it is joined with the block's.
        struct jinja_token inside = read_raw(lexer, raw);
        char *joined = arena_alloc(lexer->arena, token.text.n_bytes + inside.text.n_bytes + 1);
        memcpy(joined, token.text.data, token.text.n_bytes);
        memcpy(joined + token.text.n_bytes, inside.text.data, inside.text.n_bytes);
        token.text = (struct str_view){joined, token.text.n_bytes + inside.text.n_bytes};
    } else {
        lexer->state = type == '%' ? LEXER_BLOCK : LEXER_VARIABLE;
        lexer->tag_begins = true;
    }
    return token;
}

static size_t scan_digits(const struct jinja_lexer *lexer, size_t at, int (*is_digit)(int)) {
    while (is_digit((unsigned char)byte_at(lexer, at)) ||
           (byte_at(lexer, at) == '_' && is_digit((unsigned char)byte_at(lexer, at + 1))))
        at++;
    return at;
}

// The end of the number at `at` when it is a float, otherwise 0.
static size_t scan_float(const struct jinja_lexer *lexer, size_t at) {
    if (at && lexer->source[at - 1] == '.') return 0;
    size_t whole = scan_digits(lexer, at, isdigit), end = whole;
    if (byte_at(lexer, end) == '.' && isdigit((unsigned char)byte_at(lexer, end + 1)))
        end = scan_digits(lexer, end + 1, isdigit);
    if (byte_at(lexer, end) == 'e' || byte_at(lexer, end) == 'E') {
        size_t exponent = end + 1;
        if (byte_at(lexer, exponent) == '+' || byte_at(lexer, exponent) == '-') exponent++;
        if (isdigit((unsigned char)byte_at(lexer, exponent))) end = scan_digits(lexer, exponent, isdigit);
    }
    return end > whole ? end : 0;
}

static size_t scan_integer(const struct jinja_lexer *lexer, size_t at, int *base) {
    int letter = tolower((unsigned char)byte_at(lexer, at + 1));
    *base = byte_at(lexer, at) != '0' ? 10 : letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    if (*base != 10) return scan_digits(lexer, at + 2, *base == 16 ? isxdigit : isdigit);
    return scan_digits(lexer, at, isdigit);
}

static struct jinja_token read_number(struct jinja_lexer *lexer) {
    int base = 10;
    size_t begin = lexer->at, float_end = scan_float(lexer, begin);
    size_t end = float_end ? float_end : scan_integer(lexer, begin, &base);
    struct jinja_token token = make_token(lexer, JINJA_TOKEN_NUMBER, begin, end - begin);
    char *text = arena_alloc(lexer->arena, end - begin + 1), *stop;
    size_t n = 0;
    for (size_t i = begin + (base != 10 ? 2 : 0); i < end; i++)
        if (lexer->source[i] != '_') text[n++] = lexer->source[i];
    text[n] = 0;
    errno = 0;
    token.value = float_end ? jinja_float(strtod(text, &stop)) : jinja_int(strtoll(text, &stop, base));
    if (*stop || !n) jinja_syntax_error(lexer, lexer->line, "invalid number");
    if (!float_end && errno == ERANGE) jinja_syntax_error(lexer, lexer->line, "the integer does not fit into 64 bits");
    advance(lexer, end);
    return token;
}

// Reads up to `max` digits of a base at *p; moves *p behind them.
static uint32_t read_digits(const char **p, const char *end, int max, int base, int *n_read) {
    uint32_t number = 0;
    for (*n_read = 0; *n_read < max && *p < end; (*n_read)++, (*p)++) {
        int c = tolower((unsigned char)**p);
        int digit = isdigit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
        if (digit >= base) break;
        number = number * (uint32_t)base + (uint32_t)digit;
    }
    return number;
}

// Writes what the escape at *p (behind the backslash) stands for; returns how many bytes, at most 4.
static size_t unescape(struct jinja_lexer *lexer, const char **p, const char *end, char out[4]) {
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    char c = *(*p)++;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        out[0] = to[simple - from];
        return 1;
    }
    if (c == '\n') return 0;
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, n_read;
    uint32_t code_point;
    if (digits) {
        code_point = read_digits(p, end, digits, 16, &n_read);
        if (n_read < digits) jinja_syntax_error(lexer, lexer->line, "truncated \\%c escape", c);
    } else if (c >= '0' && c <= '7') {
        (*p)--;
        code_point = read_digits(p, end, 3, 8, &n_read);
    } else {
        out[0] = '\\'; // Python keeps escapes that it does not know
        out[1] = c;
        return 2;
    }
    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point < 0xe000))
        jinja_syntax_error(lexer, lexer->line, "illegal Unicode character");
    return utf8_encode(code_point, out);
}

static struct jinja_token read_string(struct jinja_lexer *lexer) {
    char quote = lexer->source[lexer->at];
    size_t begin = lexer->at + 1, end = begin;
    while (end < lexer->n_bytes && lexer->source[end] != quote) end += lexer->source[end] == '\\' ? 2 : 1;
    if (end >= lexer->n_bytes) jinja_syntax_error(lexer, lexer->line, "unexpected char '%c'", quote);
    struct jinja_token token = make_token(lexer, JINJA_TOKEN_STRING, begin, end - begin);
    if (memchr(token.text.data, '\\', token.text.n_bytes)) {
        char *text = arena_alloc(lexer->arena, end - begin + 4);
        size_t n = 0;
        for (const char *p = token.text.data, *stop = p + token.text.n_bytes; p < stop;) {
            if (*p != '\\') {
                text[n++] = *p++;
                continue;
            }
            p++;
            n += unescape(lexer, &p, stop, text + n);
        }
        token.text = (struct str_view){text, n};
    }
    advance(lexer, end + 1);
    return token;
}

static bool is_name_byte(char c) {
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static struct jinja_token read_name(struct jinja_lexer *lexer) {
    size_t end = lexer->at;
    while (end < lexer->n_bytes && is_name_byte(lexer->source[end])) end++;
    struct jinja_token token = make_token(lexer, JINJA_TOKEN_NAME, lexer->at, end - lexer->at);
    advance(lexer, end);
    return token;
}

static void balance(struct jinja_lexer *lexer, char c) {
    if (strchr("([{", c)) {
        if (lexer->n_brackets == JINJA_NESTING_MAX)
            jinja_syntax_error(lexer, lexer->line, "parentheses are nested too deeply");
        lexer->brackets[lexer->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c)) {
        if (!lexer->n_brackets) jinja_syntax_error(lexer, lexer->line, "unexpected '%c'", c);
        char due = lexer->brackets[--lexer->n_brackets];
        if (due != c) jinja_syntax_error(lexer, lexer->line, "unexpected '%c', expected '%c'", c, due);
    }
}

static struct jinja_token read_operator(struct jinja_lexer *lexer) {
    static const char pairs[][3] = {"//", "**", "==", "!=", ">=", "<="};
    char c = lexer->source[lexer->at];
    size_t n = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (c == pairs[i][0] && byte_at(lexer, lexer->at + 1) == pairs[i][1]) n = 2;
    if (n == 1 && (!c || !strchr("+-/*%~[](){}><=.:|,;", c))) {
        if (isprint((unsigned char)c)) jinja_syntax_error(lexer, lexer->line, "unexpected char '%c'", c);
        jinja_syntax_error(lexer, lexer->line, "unexpected byte 0x%02x", (unsigned char)c);
    }
    if (n == 1) balance(lexer, c);
    struct jinja_token token = make_token(lexer, JINJA_TOKEN_OPERATOR, lexer->at, n);
    advance(lexer, lexer->at + n);
    return token;
}

// The end of the tag when it stands here and all brackets are closed; sets *token.
static bool read_tag_end(struct jinja_lexer *lexer, struct jinja_token *token) {
    bool block = lexer->state == LEXER_BLOCK;
    if (lexer->n_brackets || !tag_end_at(lexer, lexer->at, block ? '%' : '}', '}', block ? "-+" : "-")) return false;
    *token = make_token(lexer, block ? JINJA_TOKEN_BLOCK_END : JINJA_TOKEN_VARIABLE_END, lexer->at, 2);
    advance(lexer, after_tag(lexer, lexer->at, block));
    lexer->state = LEXER_DATA;
    return true;
}

static struct jinja_token read_tag_begin(struct jinja_lexer *lexer) {
    bool block = lexer->state == LEXER_BLOCK;
    struct jinja_token token =
        make_token(lexer, block ? JINJA_TOKEN_BLOCK_BEGIN : JINJA_TOKEN_VARIABLE_BEGIN, lexer->at, 2);
    advance(lexer, lexer->at + (tag_sign(lexer, lexer->at) ? 3 : 2));
    lexer->tag_begins = false;
    return token;
}

static struct jinja_token next_in_tag(struct jinja_lexer *lexer) {
    struct jinja_token token;
    if (lexer->tag_begins) return read_tag_begin(lexer);
    if (read_tag_end(lexer, &token)) return token;
    advance(lexer, skip_space(lexer, lexer->at));
    if (lexer->at >= lexer->n_bytes) return make_token(lexer, JINJA_TOKEN_END, lexer->at, 0);
    if (read_tag_end(lexer, &token)) return token;
    char c = lexer->source[lexer->at];
    if (isdigit((unsigned char)c)) return read_number(lexer);
    if (is_name_byte(c)) return read_name(lexer);
    if (c == '\'' || c == '"') return read_string(lexer);
    return read_operator(lexer);
}

struct jinja_token jinja_lexer_next(struct jinja_lexer *lexer) {
    if (lexer->state != LEXER_DATA) return next_in_tag(lexer);
    for (;;) {
        if (lexer->at >= lexer->n_bytes) return make_token(lexer, JINJA_TOKEN_END, lexer->at, 0);
        struct jinja_token token = next_data(lexer);
        if (token.text.n_bytes) return token;
        if (lexer->state != LEXER_DATA) break;
    }
    return next_in_tag(lexer);
}
