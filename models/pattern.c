#define PCRE2_CODE_UNIT_WIDTH 8
#include "models/pattern.h"

#include "base/clock.h"
#include "base/mem.h"
#include "models/scanner.h"
#include "models/unicode.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum {
    // Backtracking steps at one position, and seconds for the whole text, of an expression that is not known.
    STEPS_AT_ONE_POSITION = 100000,
    SECONDS_IN_ALL = 5,
    TRIES_BETWEEN_CLOCKS = 256,
    HEAP_KIB = 4096,
};

struct pattern {
    char *literal; // NULL: none
    size_t literal_bytes;
    const struct scanner *scanner; // NULL: none
    pcre2_code *code;
    pcre2_match_context *context;
};

struct pattern *pattern_open_literal(struct str_view literal) {
    struct pattern *pattern = mem_alloc_zero(1, sizeof *pattern);
    pattern->literal = mem_copy_string(literal.data, literal.n_bytes);
    pattern->literal_bytes = literal.n_bytes;
    return pattern;
}

struct pattern *pattern_open_named(enum pattern_name name) {
    struct pattern *pattern = mem_alloc_zero(1, sizeof *pattern);
    pattern->scanner = scanner_named(name);
    return pattern;
}

// What Oniguruma and PCRE2 read differently, or NULL. Both are scanned alike: escapes, classes, the rest.
static const char *find_difference(struct str_view regex) {
    bool in_class = false;
    for (size_t i = 0; i < regex.n_bytes; i++) {
        struct str_view rest = {regex.data + i, regex.n_bytes - i};
        char c = rest.data[0];
        if (c == '\\') {
            i++;
            if (rest.n_bytes > 1 && strchr("hHKGRXQE", rest.data[1])) return "an escape that PCRE2 reads differently";
        } else if (in_class) {
            if (str_view_starts_with(rest, STR_VIEW("&&"))) return "an intersection of classes (&&)";
            if (c == '[' && !str_view_starts_with(rest, STR_VIEW("[:"))) return "a class inside a class";
            if (str_view_starts_with(rest, STR_VIEW("[:"))) {
                const char *end = memmem(rest.data, rest.n_bytes, ":]", 2);
                if (end) i += (size_t)(end - rest.data) + 1;
            } else if (c == ']') {
                in_class = false;
            }
        } else if (c == '[') {
            in_class = true;
            if (i + 1 < regex.n_bytes && regex.data[i + 1] == '^') i++;
            if (i + 1 < regex.n_bytes && regex.data[i + 1] == ']') i++;
        } else if (str_view_starts_with(rest, STR_VIEW("(?m")) || str_view_starts_with(rest, STR_VIEW("(?-m"))) {
            return "the option m";
        } else if (str_view_starts_with(rest, STR_VIEW("(*"))) {
            return "a verb (*...)";
        } else if (c == '}' && rest.n_bytes > 1 && rest.data[1] == '+') {
            return "a possessive interval ({n,m}+)";
        }
    }
    return NULL;
}

static int compile(struct pattern *pattern, struct str_view regex, struct err *err) {
    int code;
    PCRE2_SIZE offset;
    // Ruby's ^ and $ stand at every line.
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pattern->code = pcre2_compile((PCRE2_SPTR)regex.data, regex.n_bytes, options, &code, &offset, NULL);
    if (!pattern->code) {
        PCRE2_UCHAR text[128];
        pcre2_get_error_message(code, text, sizeof text);
        return err_set(err, ERR_UNSUPPORTED, "the regular expression cannot be used: %s at byte %zu", (const char *)text, (size_t)offset);
    }
    pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); // without it matching is slower, no more
    pattern->context = pcre2_match_context_create(NULL);
    if (!pattern->context) return err_set(err, ERR_LIMIT, "no memory for a regular expression");
    pcre2_set_match_limit(pattern->context, STEPS_AT_ONE_POSITION);
    pcre2_set_depth_limit(pattern->context, STEPS_AT_ONE_POSITION);
    pcre2_set_heap_limit(pattern->context, HEAP_KIB);
    return 0;
}

int pattern_open_regex(struct pattern **out, struct str_view regex, struct err *err) {
    struct pattern *pattern = mem_alloc_zero(1, sizeof *pattern);
    *out = pattern;
    pattern->scanner = scanner_of_regex(regex);
    if (pattern->scanner) return 0;
    int rc = 0;
    const char *difference = find_difference(regex);
    if (difference) rc = err_set(err, ERR_UNSUPPORTED, "the regular expression holds %s, which is not supported", difference);
    if (!rc) rc = compile(pattern, regex, err);
    if (rc) {
        pattern_close(pattern);
        *out = NULL;
    }
    return rc;
}

bool pattern_is_known(const struct pattern *pattern) { return !pattern->code; }

size_t pattern_literal_bytes(const struct pattern *pattern) { return pattern->literal_bytes; }

void pattern_close(struct pattern *pattern) {
    if (!pattern) return;
    pcre2_match_context_free(pattern->context);
    pcre2_code_free(pattern->code);
    free(pattern->literal);
    free(pattern);
}

void pattern_search_open(struct pattern_search *search, const struct pattern *pattern, struct str_view text) {
    *search = (struct pattern_search){.pattern = pattern, .text = text};
    if (!pattern->code) return;
    search->match_data = pcre2_match_data_create(1, NULL);
    search->deadline_ns = clock_now_ns() + SECONDS_IN_ALL * UINT64_C(1000000000);
}

void pattern_search_close(struct pattern_search *search) {
    pcre2_match_data_free(search->match_data);
    search->match_data = NULL;
}

// Every position is tried by itself, so that the limit of steps bounds each call and the clock the sum of them.
static int search_regex(struct pattern_search *search, struct text_range *match, struct err *err) {
    const struct pattern *pattern = search->pattern;
    if (!search->match_data) return err_set(err, ERR_LIMIT, "no memory for a regular expression");
    while (search->at <= search->text.n_bytes) {
        if (++search->n_tries % TRIES_BETWEEN_CLOCKS == 0 && clock_now_ns() > search->deadline_ns)
            return err_set(err, ERR_LIMIT, "the tokenizer's regular expression took too long on this text");
        int rc = pcre2_match(pattern->code, (PCRE2_SPTR)search->text.data, search->text.n_bytes, search->at,
                             PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, search->match_data, pattern->context);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            return err_set(err, ERR_LIMIT, "the tokenizer's regular expression needs too many steps on this text");
        size_t at = search->at, length = 1;
        if (at < search->text.n_bytes) unicode_class_at(search->text, at, &length);
        search->at = at + length;
        if (rc < 0) continue;
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(search->match_data);
        if (range[1] < range[0] || range[0] < at) return err_set(err, ERR_UNSUPPORTED, "the tokenizer's regular expression matches backwards");
        *match = (struct text_range){range[0], range[1]};
        if (range[1] > at) search->at = range[1];
        return 1;
    }
    return 0;
}

int pattern_search_next(struct pattern_search *search, struct text_range *match, struct err *err) {
    const struct pattern *pattern = search->pattern;
    if (pattern->code) return search_regex(search, match, err);
    if (pattern->scanner) {
        if (!scanner_find(pattern->scanner, search->text, search->at, match)) return 0;
    } else {
        if (search->at >= search->text.n_bytes) return 0;
        const char *found = memmem(search->text.data + search->at, search->text.n_bytes - search->at, pattern->literal, pattern->literal_bytes);
        if (!found) return 0;
        match->begin = (size_t)(found - search->text.data);
        match->end = match->begin + pattern->literal_bytes;
    }
    search->at = match->end;
    return 1;
}
