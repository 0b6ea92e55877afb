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

// Copies "\p{Name}" to out; returns its length, or 0 when there is none. A name of more than two letters is a script,
// which PCRE2 would take with the characters that it shares with others.
static size_t copy_property(struct str_view at, struct str *out) {
    if (at.n_bytes < 4 || (at.data[1] != 'p' && at.data[1] != 'P') || at.data[2] != '{') return 0;
    const char *end = memchr(at.data, '}', at.n_bytes);
    if (!end) return 0;
    const char *name = at.data + 3;
    bool negated = *name == '^';
    name += negated;
    size_t n_bytes = (size_t)(end - name);
    str_append(out, at.data, (size_t)(name - at.data));
    if (n_bytes > 2 && strncmp(name, "Any", 3) != 0) str_append_text(out, "sc:");
    str_append(out, name, n_bytes + 1);
    return (size_t)(end + 1 - at.data);
}

// The end of a class's "[:alpha:]" that begins at `at`, or 0.
static size_t posix_class_bytes(struct str_view at) {
    if (!str_view_starts_with(at, STR_VIEW("[:"))) return 0;
    const char *end = memmem(at.data, at.n_bytes, ":]", 2);
    return end ? (size_t)(end + 2 - at.data) : 0;
}

// Rewrites from Oniguruma's Ruby syntax to PCRE2's. Returns what cannot be rewritten, or NULL.
static const char *translate(struct str_view regex, struct str *out) {
    bool in_class = false;
    for (size_t i = 0, n; i < regex.n_bytes; i += n) {
        struct str_view at = {regex.data + i, regex.n_bytes - i};
        char c = at.data[0], next = at.n_bytes > 1 ? at.data[1] : 0;
        n = 1;
        if (c == '\\') {
            if (next && strchr("hHKGRXQE", next)) return "an escape that means something else in PCRE2";
            n = copy_property(at, out);
            if (n) continue;
            n = next ? 2 : 1;
        } else if (in_class) {
            if (c == '&' && next == '&') return "an intersection of classes (&&)";
            size_t posix = posix_class_bytes(at);
            if (c == '[' && !posix) return "a class inside a class";
            if (posix) n = posix;
            in_class = c != ']';
        } else if (c == '[') {
            in_class = true;
            if (next == '^') n = 2;
            if (n < at.n_bytes && at.data[n] == ']') n++;
        } else if (str_view_starts_with(at, STR_VIEW("(?m")) || str_view_starts_with(at, STR_VIEW("(?-m"))) {
            return "the option m";
        } else if (c == '(' && next == '*') {
            return "a verb (*...)";
        } else if (c == '}' && next == '+') {
            return "a possessive interval ({n,m}+)";
        }
        str_append(out, at.data, n);
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
        return err_set(err, ERR_UNSUPPORTED, "the regular expression cannot be used: %s at byte %zu",
                       (const char *)text, (size_t)offset);
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
    struct str translated = STR_INIT;
    const char *refused = translate(regex, &translated);
    if (refused) rc = err_set(err, ERR_UNSUPPORTED, "the regular expression holds %s: not supported", refused);
    if (!rc) rc = compile(pattern, (struct str_view){translated.data, translated.n_bytes}, err);
    str_close(&translated);
    if (rc) {
        pattern_close(pattern);
        *out = NULL;
    }
    return rc;
}

bool pattern_is_known(const struct pattern *pattern) {
    return !pattern->code;
}

size_t pattern_literal_bytes(const struct pattern *pattern) {
    return pattern->literal_bytes;
}

void pattern_close(struct pattern *pattern) {
    if (!pattern) return;
    pcre2_match_context_free(pattern->context);
    pcre2_code_free(pattern->code);
    free(pattern->literal);
    free(pattern);
}

void pattern_search_open(struct pattern_search *search, const struct pattern *pattern, struct str_view text,
                         struct pattern_budget *budget) {
    *search = (struct pattern_search){.pattern = pattern, .text = text, .budget = budget};
    if (pattern->code) search->match_data = pcre2_match_data_create(1, NULL);
}

void pattern_search_close(struct pattern_search *search) {
    pcre2_match_data_free(search->match_data);
    search->match_data = NULL;
}

static bool is_spent(struct pattern_budget *budget) {
    if (budget->n_tries++ % TRIES_BETWEEN_CLOCKS) return false;
    uint64_t now = clock_now_ns();
    if (!budget->deadline_ns) budget->deadline_ns = now + SECONDS_IN_ALL * UINT64_C(1000000000);
    return now > budget->deadline_ns;
}

// Every position is tried by itself, so that the limit of steps bounds each call and the clock the sum of them.
static int search_regex(struct pattern_search *search, struct text_range *match, struct err *err) {
    const struct pattern *pattern = search->pattern;
    if (!search->match_data) return err_set(err, ERR_LIMIT, "no memory for a regular expression");
    while (search->at <= search->text.n_bytes) {
        if (is_spent(search->budget))
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
        if (range[1] < range[0] || range[0] < at)
            return err_set(err, ERR_UNSUPPORTED, "the tokenizer's regular expression matches backwards");
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
        const char *found = memmem(search->text.data + search->at, search->text.n_bytes - search->at, pattern->literal,
                                   pattern->literal_bytes);
        if (!found) return 0;
        match->begin = (size_t)(found - search->text.data);
        match->end = match->begin + pattern->literal_bytes;
    }
    search->at = match->end;
    return 1;
}
