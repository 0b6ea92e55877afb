#include "models/scanner.h"

#include "models/unicode.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

enum contraction { CONTRACTION_NONE, CONTRACTION_LOWER, CONTRACTION_ANY_CASE, CONTRACTION_SUFFIX };

enum word_style {
    WORD_SPACED,   // ` ?L+`
    WORD_PREFIXED, // `[^\r\n..]?L+`
    WORD_CASED,    // `[^\r\n..]?U*l+|[^\r\n..]?U+l*`: a word begins where upper case follows lower case
};

// The family of GPT-2's expression: contractions, words, numbers, other characters, white space, tried in this order.
struct word_rule {
    enum contraction contraction;
    bool ascii_punct_word; // `[ASCII punctuation][A-Za-z]+` before everything else
    enum word_style style;
    unsigned letter;          // classes of a word's characters (WORD_CASED has its own)
    unsigned prefix_excluded; // classes that do not go in front of a word
    int number_max;           // digits in one match; 0: numbers have no match of their own
    bool number_spaced;       // ` ?N+`
    unsigned other;           // ` ?[other]+`, or the classes that it excludes
    bool other_excludes;
    const char *other_tail; // ASCII characters that may follow it
    bool newlines;          // `\s*[\r\n]+` before the other white space
};

// `lead?[class]{min,max}`
struct run_rule {
    unsigned lead; // classes of one optional character in front
    unsigned class;
    const uint32_t (*ranges)[2]; // besides the classes
    size_t n_ranges;
    int min, max; // max 0: any number
};

enum scanner_kind { SCANNER_WORDS, SCANNER_RUN, SCANNER_WORD_OR_OTHER, SCANNER_SPACE_AT_LINE_END };

struct scanner {
    enum scanner_kind kind;
    struct word_rule word;
    struct run_rule run;
};

// ---- words ----

static char fold_ascii(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

// The length of 's 't 're 've 'm 'll 'd at `at`, or 0.
static size_t match_contraction(struct str_view text, size_t at, bool any_case) {
    size_t left = text.n_bytes - at;
    const char *p = text.data + at;
    if (left < 2 || p[0] != '\'') return 0;
    // U+017F, the long s, folds to s.
    if (any_case && left >= 3 && memcmp(p + 1, "\xc5\xbf", 2) == 0) return 3;
    char first = any_case ? fold_ascii(p[1]) : p[1];
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    if (left < 3) return 0;
    char second = any_case ? fold_ascii(p[2]) : p[2];
    bool pair = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
    return pair ? 3 : 0;
}

enum {
    CASED_UPPER = UNICODE_UPPER | UNICODE_CASELESS | UNICODE_MARK,
    CASED_LOWER = UNICODE_LOWER | UNICODE_CASELESS | UNICODE_MARK,
};

// `U*l+` (with `lower_needed`) or `U+l*` from `at` on; returns the end, or `at` when there is no match.
static size_t match_cased(struct str_view text, size_t at, bool lower_needed) {
    size_t upper_end = at, shared_end = at, length;
    for (unsigned class; (class = unicode_class_at(text, upper_end, &length)) & CASED_UPPER;) {
        upper_end += length;
        if (class & CASED_LOWER) shared_end = upper_end;
    }
    size_t end = unicode_run(text, upper_end, CASED_LOWER, false);
    if (!lower_needed) return upper_end > at ? end : at;
    // Without a lower-case letter behind, U* gives back up to the last character that both classes hold.
    return end > upper_end ? end : shared_end;
}

static size_t match_word_body(const struct word_rule *rule, struct str_view text, size_t at, int pass) {
    if (rule->style == WORD_CASED) return match_cased(text, at, pass == 0);
    return unicode_run(text, at, rule->letter, false);
}

static size_t match_word(const struct word_rule *rule, struct str_view text, size_t at) {
    if (rule->style == WORD_SPACED) {
        size_t begin = text.data[at] == ' ' ? at + 1 : at;
        size_t end = unicode_run(text, begin, rule->letter, false);
        return end > begin ? end : at;
    }
    size_t length;
    bool prefixed = !(unicode_class_at(text, at, &length) & rule->prefix_excluded);
    for (int pass = 0; pass < (rule->style == WORD_CASED ? 2 : 1); pass++) {
        size_t end = at;
        if (prefixed) {
            end = match_word_body(rule, text, at + length, pass);
            if (end == at + length) end = at;
        }
        if (end == at) end = match_word_body(rule, text, at, pass);
        if (end == at) continue;
        return rule->contraction == CONTRACTION_SUFFIX ? end + match_contraction(text, end, true) : end;
    }
    return at;
}

static size_t match_number(const struct word_rule *rule, struct str_view text, size_t at) {
    size_t begin = rule->number_spaced && text.data[at] == ' ' ? at + 1 : at, end = begin, length;
    for (int n = 0; n < rule->number_max && unicode_class_at(text, end, &length) & UNICODE_NUMBER; n++) end += length;
    return end > begin ? end : at;
}

static size_t match_other(const struct word_rule *rule, struct str_view text, size_t at) {
    size_t begin = text.data[at] == ' ' ? at + 1 : at;
    size_t end = unicode_run(text, begin, rule->other, rule->other_excludes);
    if (end == begin) return at;
    while (end < text.n_bytes && text.data[end] && strchr(rule->other_tail, text.data[end])) end++;
    return end;
}

// `\s*[\r\n]+|\s+(?!\S)|\s+`, the first only with `newlines`.
static size_t match_space(const struct word_rule *rule, struct str_view text, size_t at) {
    size_t end = at, last = at, newline_end = at, length;
    for (unsigned class; (class = unicode_class_at(text, end, &length)) & UNICODE_SPACE;) {
        last = end;
        end += length;
        if (class & UNICODE_NEWLINE) newline_end = end;
    }
    if (rule->newlines && newline_end > at) return newline_end;
    return end < text.n_bytes && last > at ? last : end;
}

static size_t match_at(const struct word_rule *rule, struct str_view text, size_t at) {
    size_t end;
    if (rule->ascii_punct_word && unicode_class((unsigned char)text.data[at] & 0x7f) & UNICODE_ASCII_PUNCT &&
        text.data[at] > 0) {
        end = unicode_run(text, at + 1, UNICODE_ASCII_LETTER, false);
        if (end > at + 1) return end;
    }
    if (rule->contraction == CONTRACTION_LOWER || rule->contraction == CONTRACTION_ANY_CASE) {
        size_t n = match_contraction(text, at, rule->contraction == CONTRACTION_ANY_CASE);
        if (n) return at + n;
    }
    if ((end = match_word(rule, text, at)) > at) return end;
    if ((end = match_number(rule, text, at)) > at) return end;
    if ((end = match_other(rule, text, at)) > at) return end;
    return match_space(rule, text, at);
}

static bool find_word(const struct word_rule *rule, struct str_view text, size_t from, struct text_range *match) {
    while (from < text.n_bytes) {
        size_t end = match_at(rule, text, from), length;
        if (end > from) {
            *match = (struct text_range){from, end};
            return true;
        }
        unicode_class_at(text, from, &length);
        from += length;
    }
    return false;
}

// ---- runs ----

static bool in_run(const struct run_rule *rule, struct str_view text, size_t at, size_t *length) {
    *length = 0;
    if (at >= text.n_bytes) return false;
    uint32_t c;
    *length = utf8_read(text.data + at, &c);
    if (unicode_class(c) & rule->class) return true;
    for (size_t i = 0; i < rule->n_ranges; i++)
        if (c >= rule->ranges[i][0] && c <= rule->ranges[i][1]) return true;
    return false;
}

static size_t run_end(const struct run_rule *rule, struct str_view text, size_t at) {
    size_t end = at, length;
    int n = 0; // counted only where it is bounded
    for (; (!rule->max || n < rule->max) && in_run(rule, text, end, &length); n += rule->max > 0) end += length;
    return n >= rule->min ? end : at;
}

static bool find_run(const struct run_rule *rule, struct str_view text, size_t from, struct text_range *match) {
    while (from < text.n_bytes) {
        size_t length, end = from;
        unsigned class = unicode_class_at(text, from, &length);
        if (class & rule->lead) {
            end = run_end(rule, text, from + length);
            if (end == from + length) end = from;
        }
        if (end == from) end = run_end(rule, text, from);
        if (end > from) {
            *match = (struct text_range){from, end};
            return true;
        }
        from += length;
    }
    return false;
}

// `\w+|[^\w\s]+`
static bool find_word_or_other(struct str_view text, size_t from, struct text_range *match) {
    from = unicode_run(text, from, UNICODE_SPACE, false);
    if (from >= text.n_bytes) return false;
    size_t length;
    bool word = unicode_class_at(text, from, &length) & UNICODE_WORD;
    size_t end = word ? unicode_run(text, from, UNICODE_WORD, false)
                      : unicode_run(text, from, UNICODE_WORD | UNICODE_SPACE, true);
    *match = (struct text_range){from, end};
    return true;
}

// `\s+$`, where $ stands before a line feed and at the end of the text.
static bool find_space_at_line_end(struct str_view text, size_t from, struct text_range *match) {
    while (from < text.n_bytes) {
        size_t begin = unicode_run(text, from, UNICODE_SPACE, true);
        size_t end = unicode_run(text, begin, UNICODE_SPACE, false);
        if (begin == end) return false;
        const char *newline = memrchr(text.data + begin, '\n', end - begin);
        size_t stop = end == text.n_bytes ? end : newline ? (size_t)(newline - text.data) : begin;
        if (stop > begin) {
            *match = (struct text_range){begin, stop};
            return true;
        }
        from = end;
    }
    return false;
}

bool scanner_find(const struct scanner *scanner, struct str_view text, size_t from, struct text_range *match) {
    switch (scanner->kind) {
    case SCANNER_WORDS:
        return find_word(&scanner->word, text, from, match);
    case SCANNER_RUN:
        return find_run(&scanner->run, text, from, match);
    case SCANNER_WORD_OR_OTHER:
        return find_word_or_other(text, from, match);
    case SCANNER_SPACE_AT_LINE_END:
        return find_space_at_line_end(text, from, match);
    }
    assert(false); // not a kind of scanner
    return false;
}

// ---- the known expressions ----

#define LETTER_OR_NUMBER (UNICODE_LETTER | UNICODE_NUMBER)
#define NOT_IN_FRONT (UNICODE_NEWLINE | LETTER_OR_NUMBER)

#define NOT_SPACE_OR_WORD(...) .other = UNICODE_SPACE | LETTER_OR_NUMBER __VA_ARGS__, .other_excludes = true

static const uint32_t ascii_digits[][2] = {{'0', '9'}};
static const uint32_t han_and_kana[][2] = {{0x4e00, 0x9fa5}, {0x3040, 0x30ff}};
static const uint32_t han_and_hangul[][2] = {{0x0800, 0x9fa5}, {0xac00, 0xd7ff}};

#define RUN(...)                                                                                                       \
    {                                                                                                                  \
        .kind = SCANNER_RUN, .run = { __VA_ARGS__ }                                                                    \
    }
#define RANGES(table) .ranges = table, .n_ranges = sizeof table / sizeof *table

static const struct scanner scanners[PATTERN_NAMES] = {
    [PATTERN_DIGIT] = RUN(.class = UNICODE_NUMBER, .max = 1),
    [PATTERN_DIGITS] = RUN(.class = UNICODE_NUMBER),
    [PATTERN_PUNCTUATION] = RUN(.class = UNICODE_PUNCTUATION | UNICODE_ASCII_PUNCT, .max = 1),
    [PATTERN_SPACE] = RUN(.class = UNICODE_SPACE, .max = 1),
    [PATTERN_WORDS] = {.kind = SCANNER_WORD_OR_OTHER},
    [PATTERN_GPT2] = {.word = {.contraction = CONTRACTION_LOWER,
                               .style = WORD_SPACED,
                               .letter = UNICODE_LETTER,
                               .number_max = INT_MAX,
                               .number_spaced = true,
                               NOT_SPACE_OR_WORD(),
                               .other_tail = ""}},
    [PATTERN_LLAMA3] = {.word = {.contraction = CONTRACTION_ANY_CASE,
                                 .style = WORD_PREFIXED,
                                 .letter = UNICODE_LETTER,
                                 .prefix_excluded = NOT_IN_FRONT,
                                 .number_max = 3,
                                 NOT_SPACE_OR_WORD(),
                                 .other_tail = "\r\n",
                                 .newlines = true}},
    [PATTERN_QWEN2] = {.word = {.contraction = CONTRACTION_ANY_CASE,
                                .style = WORD_PREFIXED,
                                .letter = UNICODE_LETTER,
                                .prefix_excluded = NOT_IN_FRONT,
                                .number_max = 1,
                                NOT_SPACE_OR_WORD(),
                                .other_tail = "\r\n",
                                .newlines = true}},
    [PATTERN_QWEN35] = {.word = {.contraction = CONTRACTION_ANY_CASE,
                                 .style = WORD_PREFIXED,
                                 .letter = UNICODE_LETTER | UNICODE_MARK,
                                 .prefix_excluded = NOT_IN_FRONT,
                                 .number_max = 1,
                                 NOT_SPACE_OR_WORD(| UNICODE_MARK),
                                 .other_tail = "\r\n",
                                 .newlines = true}},
    [PATTERN_TEKKEN] = {.word = {.style = WORD_CASED,
                                 .prefix_excluded = NOT_IN_FRONT,
                                 .number_max = 1,
                                 NOT_SPACE_OR_WORD(),
                                 .other_tail = "\r\n/",
                                 .newlines = true}},
    [PATTERN_O200K] = {.word = {.contraction = CONTRACTION_SUFFIX,
                                .style = WORD_CASED,
                                .prefix_excluded = NOT_IN_FRONT,
                                .number_max = 3,
                                NOT_SPACE_OR_WORD(),
                                .other_tail = "\r\n/",
                                .newlines = true}},
    [PATTERN_DEEPSEEK_V3] = {.word = {.ascii_punct_word = true,
                                      .style = WORD_PREFIXED,
                                      .letter = UNICODE_LETTER | UNICODE_MARK,
                                      .prefix_excluded =
                                          UNICODE_NEWLINE | UNICODE_LETTER | UNICODE_PUNCTUATION | UNICODE_SYMBOL,
                                      .other = UNICODE_PUNCTUATION | UNICODE_SYMBOL,
                                      .other_tail = "\r\n",
                                      .newlines = true}},
    [PATTERN_UP_TO_3_DIGITS] = RUN(.class = UNICODE_NUMBER, .max = 3),
    [PATTERN_3_ASCII_DIGITS] = RUN(RANGES(ascii_digits), .min = 3, .max = 3),
    [PATTERN_NEWLINE] = RUN(.class = UNICODE_NEWLINE, .max = 1),
    [PATTERN_SPACED_LETTERS] = RUN(.lead = UNICODE_SPACE, .class = UNICODE_LETTER),
    [PATTERN_SPACED_PUNCTUATION] = RUN(.lead = UNICODE_SPACE, .class = UNICODE_PUNCTUATION),
    [PATTERN_HAN_AND_KANA] = RUN(RANGES(han_and_kana)),
    [PATTERN_HAN_AND_HANGUL] = RUN(RANGES(han_and_hangul)),
    [PATTERN_SPACE_AT_LINE_END] = {.kind = SCANNER_SPACE_AT_LINE_END},
};

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define CASED_U "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_L "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define IN_FRONT "[^\\r\\n\\p{L}\\p{N}]?"
#define OTHERS "| ?[^\\s\\p{L}\\p{N}]+"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2_REST " ?\\p{L}+| ?\\p{N}+" OTHERS "|\\s+(?!\\S)|\\s+"
#define LLAMA3_REST "|" IN_FRONT "\\p{L}+|\\p{N}{1,3}" OTHERS "[\\r\\n]*" SPACES

static const struct {
    const char *regex;
    enum pattern_name name;
} regexes[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d|" GPT2_REST, PATTERN_GPT2},
    {"'(?:[sdmt]|ll|ve|re)|" GPT2_REST, PATTERN_GPT2},
    {CONTRACTIONS LLAMA3_REST, PATTERN_LLAMA3},
    {"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])" LLAMA3_REST, PATTERN_LLAMA3},
    {"'(?i:[sdmt]|ll|ve|re)|" IN_FRONT
     "+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
     PATTERN_LLAMA3},
    {CONTRACTIONS "|" IN_FRONT "\\p{L}+|\\p{N}" OTHERS "[\\r\\n]*" SPACES, PATTERN_QWEN2},
    {CONTRACTIONS "|" IN_FRONT "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES, PATTERN_QWEN35},
    {IN_FRONT CASED_U "*" CASED_L "+|" IN_FRONT CASED_U "+" CASED_L "*|\\p{N}" OTHERS "[\\r\\n/]*" SPACES,
     PATTERN_TEKKEN},
    {IN_FRONT CASED_U "*" CASED_L "+" CONTRACTIONS "?|" IN_FRONT CASED_U "+" CASED_L "*" CONTRACTIONS
                      "?|\\p{N}{1,3}" OTHERS "[\\r\\n/]*" SPACES,
     PATTERN_O200K},
    {"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
     "?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES,
     PATTERN_DEEPSEEK_V3},
    {"\\p{N}{1,3}", PATTERN_UP_TO_3_DIGITS},
    {"\\p{N}", PATTERN_DIGIT},
    {"\\p{N}+", PATTERN_DIGITS},
    {"[0-9][0-9][0-9]", PATTERN_3_ASCII_DIGITS},
    {"[\\r\\n]", PATTERN_NEWLINE},
    {"\\s?\\p{L}+", PATTERN_SPACED_LETTERS},
    {"\\s?\\p{P}+", PATTERN_SPACED_PUNCTUATION},
    {"[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+", PATTERN_HAN_AND_KANA},
    {"[\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+", PATTERN_HAN_AND_HANGUL},
    {"\\s+$", PATTERN_SPACE_AT_LINE_END},
};

const struct scanner *scanner_of_regex(struct str_view regex) {
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++)
        if (str_view_equal(regex, str_view_of(regexes[i].regex))) return &scanners[regexes[i].name];
    return NULL;
}

const struct scanner *scanner_named(enum pattern_name name) {
    return &scanners[name];
}
