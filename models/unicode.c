#include "models/unicode.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    UPPER = UNICODE_UPPER | UNICODE_WORD | UNICODE_ASCII_LETTER,
    LOWER = UNICODE_LOWER | UNICODE_WORD | UNICODE_ASCII_LETTER,
    DIGIT = UNICODE_NUMBER | UNICODE_WORD,
    PUNCT = UNICODE_PUNCTUATION | UNICODE_ASCII_PUNCT,
    SYMBOL = UNICODE_SYMBOL | UNICODE_ASCII_PUNCT,
    NEWLINE = UNICODE_SPACE | UNICODE_NEWLINE,
};

const uint16_t unicode_ascii_class[128] = {
    ['\t'] = UNICODE_SPACE,
    ['\n'] = NEWLINE,
    ['\v'] = UNICODE_SPACE,
    ['\f'] = UNICODE_SPACE,
    ['\r'] = NEWLINE,
    [' '] = UNICODE_SPACE,
    ['!' ... '#'] = PUNCT,
    ['$'] = SYMBOL,
    ['%' ... '*'] = PUNCT,
    ['+'] = SYMBOL,
    [',' ... '/'] = PUNCT,
    ['0' ... '9'] = DIGIT,
    [':' ... ';'] = PUNCT,
    ['<' ... '>'] = SYMBOL,
    ['?' ... '@'] = PUNCT,
    ['A' ... 'Z'] = UPPER,
    ['[' ... ']'] = PUNCT,
    ['^'] = SYMBOL,
    ['_'] = PUNCT | UNICODE_WORD,
    ['`'] = SYMBOL,
    ['a' ... 'z'] = LOWER,
    ['{'] = PUNCT,
    ['|'] = SYMBOL,
    ['}'] = PUNCT,
    ['~'] = SYMBOL,
};

static const uint16_t category_class[] = {
    [UTF8PROC_CATEGORY_LU] = UNICODE_UPPER | UNICODE_WORD,
    [UTF8PROC_CATEGORY_LT] = UNICODE_UPPER | UNICODE_WORD,
    [UTF8PROC_CATEGORY_LL] = UNICODE_LOWER | UNICODE_WORD,
    [UTF8PROC_CATEGORY_LM] = UNICODE_CASELESS | UNICODE_WORD,
    [UTF8PROC_CATEGORY_LO] = UNICODE_CASELESS | UNICODE_WORD,
    [UTF8PROC_CATEGORY_MN] = UNICODE_MARK | UNICODE_WORD,
    [UTF8PROC_CATEGORY_MC] = UNICODE_MARK | UNICODE_WORD,
    [UTF8PROC_CATEGORY_ME] = UNICODE_MARK | UNICODE_WORD,
    [UTF8PROC_CATEGORY_ND] = UNICODE_NUMBER | UNICODE_WORD,
    [UTF8PROC_CATEGORY_NL] = UNICODE_NUMBER | UNICODE_WORD,
    [UTF8PROC_CATEGORY_NO] = UNICODE_NUMBER,
    [UTF8PROC_CATEGORY_PC] = UNICODE_PUNCTUATION | UNICODE_WORD,
    [UTF8PROC_CATEGORY_PD] = UNICODE_PUNCTUATION,
    [UTF8PROC_CATEGORY_PS] = UNICODE_PUNCTUATION,
    [UTF8PROC_CATEGORY_PE] = UNICODE_PUNCTUATION,
    [UTF8PROC_CATEGORY_PI] = UNICODE_PUNCTUATION,
    [UTF8PROC_CATEGORY_PF] = UNICODE_PUNCTUATION,
    [UTF8PROC_CATEGORY_PO] = UNICODE_PUNCTUATION,
    [UTF8PROC_CATEGORY_SM] = UNICODE_SYMBOL,
    [UTF8PROC_CATEGORY_SC] = UNICODE_SYMBOL,
    [UTF8PROC_CATEGORY_SK] = UNICODE_SYMBOL,
    [UTF8PROC_CATEGORY_SO] = UNICODE_SYMBOL,
    [UTF8PROC_CATEGORY_ZS] = UNICODE_SPACE,
    [UTF8PROC_CATEGORY_ZL] = UNICODE_SPACE,
    [UTF8PROC_CATEGORY_ZP] = UNICODE_SPACE,
    [UTF8PROC_CATEGORY_CO] = 0,
};

// The symbols that are Alphabetic all the same: circled, squared and regional letters.
static bool is_letter_like_symbol(uint32_t c) {
    return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
           (c >= 0x1f170 && c <= 0x1f189);
}

unsigned unicode_class_wide(uint32_t c) {
    if (c == 0x85) return UNICODE_SPACE;
    if (c == 0x200c || c == 0x200d) return UNICODE_WORD; // Join_Control
    unsigned class = category_class[utf8proc_category((utf8proc_int32_t)c)];
    return is_letter_like_symbol(c) ? class | UNICODE_WORD : class;
}

size_t unicode_run(struct str_view text, size_t at, unsigned mask, bool without) {
    while (at < text.n_bytes) {
        uint32_t code_point;
        size_t length = utf8_read(text.data + at, &code_point);
        if (((unicode_class(code_point) & mask) != 0) == without) break;
        at += length;
    }
    return at;
}

uint32_t unicode_lower(uint32_t code_point) {
    if (code_point < 128) return code_point >= 'A' && code_point <= 'Z' ? code_point + 32 : code_point;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point);
}

// True when nothing before the code point can change together with it, so that normalisation may be cut there: it is a
// starter, its decomposition begins with one, and it is never the second half of a composition.
static bool starts_cluster(uint32_t c) {
    if (c < 0x300) return true;
    if ((c >= 0x1160 && c <= 0x11ff) || (c >= 0xd7b0 && c <= 0xd7ff)) return false; // conjoining jamo
    if ((c >= 0x3131 && c <= 0x318e) || (c >= 0xff9e && c <= 0xffdc)) return false; // compatible with jamo or marks
    return !(unicode_class(c) & UNICODE_MARK);
}

// True when a cluster of this one code point is its own normal form.
static bool is_normal_alone(uint32_t c, struct normal_form form) {
    if (c < 0x80) return true;
    if (c >= 0xac00 && c <= 0xd7a3) return form.composed; // Hangul syllables decompose by rule
    return utf8proc_get_property((utf8proc_int32_t)c)->decomp_seqindex == UINT16_MAX;
}

typedef VEC_OF(utf8proc_int32_t) code_point_vec;

static unsigned combining_class(utf8proc_int32_t c) {
    return (unsigned)utf8proc_get_property(c)->combining_class;
}

// Stable sort of marks by combining class: by insertion when there are few, by counting when somebody sends many.
static void order_marks(utf8proc_int32_t *marks, size_t n, code_point_vec *scratch) {
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t mark = marks[i];
            unsigned class = combining_class(mark);
            size_t j = i;
            for (; j > 0 && combining_class(marks[j - 1]) > class; j--) marks[j] = marks[j - 1];
            marks[j] = mark;
        }
        return;
    }
    size_t first[257] = {0};
    for (size_t i = 0; i < n; i++) first[(combining_class(marks[i]) & 255) + 1]++;
    for (size_t i = 1; i < 257; i++) first[i] += first[i - 1];
    vec_reserve(scratch, n);
    for (size_t i = 0; i < n; i++) scratch->items[first[combining_class(marks[i]) & 255]++] = marks[i];
    memcpy(marks, scratch->items, n * sizeof *marks);
}

static void order_canonically(code_point_vec *buffer, code_point_vec *scratch) {
    for (size_t i = 0; i < buffer->count;) {
        if (!combining_class(buffer->items[i])) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < buffer->count && combining_class(buffer->items[end])) end++;
        order_marks(buffer->items + i, end - i, scratch);
        i = end;
    }
}

struct cluster_work {
    code_point_vec buffer, scratch;
    struct str text;
};

static void normalize_cluster(struct normal_form form, struct str_view cluster, struct cluster_work *work) {
    int options = UTF8PROC_STABLE | (form.composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (form.compatible ? UTF8PROC_COMPAT : 0);
    enum { EXPANSION_MAX = 32 }; // the longest decomposition has 18 code points
    work->buffer.count = 0;
    for (size_t at = 0; at < cluster.n_bytes;) {
        uint32_t c;
        at += utf8_read(cluster.data + at, &c);
        vec_reserve(&work->buffer, work->buffer.count + EXPANSION_MAX);
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, work->buffer.items + work->buffer.count,
                                                     EXPANSION_MAX, (utf8proc_option_t)options, &boundary);
        assert(n >= 0 && n <= EXPANSION_MAX);
        work->buffer.count += (size_t)n;
    }
    order_canonically(&work->buffer, &work->scratch);
    utf8proc_ssize_t n = (utf8proc_ssize_t)work->buffer.count;
    if (form.composed) n = utf8proc_normalize_utf32(work->buffer.items, n, (utf8proc_option_t)options);
    assert(n >= 0);
    str_clear(&work->text);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        str_append(&work->text, bytes, utf8_encode((uint32_t)work->buffer.items[i], bytes));
    }
}

void unicode_normalize(struct normal_form form, const struct prompt_text *in, struct prompt_text *out) {
    struct cluster_work work = {0};
    struct str_view text = {in->text.data, in->text.n_bytes};
    size_t part = 0;
    size_t copied = 0; // everything before it was written
    for (size_t at = 0; at < text.n_bytes;) {
        size_t begin = at;
        uint32_t first, next;
        at += utf8_read(text.data + at, &first);
        bool alone = true;
        for (size_t length; at < text.n_bytes; at += length, alone = false) {
            length = utf8_read(text.data + at, &next);
            if (starts_cluster(next)) break;
        }
        if (alone && is_normal_alone(first, form)) continue;
        prompt_text_append_part(out, in, copied, begin, &part);
        normalize_cluster(form, (struct str_view){text.data + begin, at - begin}, &work);
        prompt_text_append(out, work.text.data, work.text.n_bytes, prompt_text_is_trusted(in, begin, at, &part));
        copied = at;
    }
    prompt_text_append_part(out, in, copied, text.n_bytes, &part);
    vec_free(&work.buffer);
    vec_free(&work.scratch);
    str_close(&work.text);
}
