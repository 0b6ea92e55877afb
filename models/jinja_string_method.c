// Methods of strings, as Python's str has them.
#include "models/jinja_format.h"
#include "models/jinja_method.h"
#include "models/jinja_operator.h"
#include "models/jinja_print.h"
#include "models/jinja_string.h"

#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

int jinja_upper(uint32_t code_point, uint32_t previous, uint32_t out[3]) {
    (void)previous;
    if (code_point == 0xdf) {
        out[0] = out[1] = 'S';
        return 2;
    }
    out[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)code_point);
    return 1;
}

int jinja_lower(uint32_t code_point, uint32_t previous, uint32_t out[3]) {
    (void)previous;
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point);
    return 1;
}

int jinja_capitalize(uint32_t code_point, uint32_t previous, uint32_t out[3]) {
    if (previous) return jinja_lower(code_point, previous, out);
    if (code_point == 0xdf) {
        out[0] = 'S';
        out[1] = 's';
        return 2;
    }
    out[0] = (uint32_t)utf8proc_totitle((utf8proc_int32_t)code_point);
    return 1;
}

static bool is_cased(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

static int map_title(uint32_t code_point, uint32_t previous, uint32_t out[3]) {
    return jinja_capitalize(code_point, previous && is_cased(previous), out);
}

static int map_swap(uint32_t code_point, uint32_t previous, uint32_t out[3]) {
    uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point);
    if (lower == code_point) return jinja_upper(code_point, previous, out);
    out[0] = lower;
    return 1;
}

struct jinja_value jinja_mapped(struct jinja_render *r, struct jinja_value text,
                                int (*map)(uint32_t code_point, uint32_t previous, uint32_t out[3])) {
    size_t mark = jinja_mark(r);
    jinja_append_mapped(r, text.string, map);
    return jinja_with_markup(r, jinja_take(r, mark), text.string->markup);
}

// The i-th bound argument as a string.
static const struct jinja_string *text_arg(struct jinja_render *r, const struct jinja_call *call, int i) {
    jinja_need_defined(r, call->bound[i]);
    if (call->bound[i].kind != JINJA_STRING)
        jinja_raise(r, "TypeError: %s() argument %d must be str, not %s", call->name, i + 1,
                    jinja_type_name(call->bound[i]));
    return call->bound[i].string;
}

static bool given(const struct jinja_call *call, int i) {
    return call->bound[i].kind != JINJA_ABSENT && call->bound[i].kind != JINJA_NONE;
}

static struct jinja_value slice(struct jinja_render *r, const struct jinja_string *s, size_t begin, size_t end) {
    return jinja_string_value(jinja_string_slice(r, s, begin, end));
}

static struct jinja_value str_upper(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, call->self, jinja_upper);
}
static struct jinja_value str_lower(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, call->self, jinja_lower);
}
static struct jinja_value str_capitalize(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, call->self, jinja_capitalize);
}
static struct jinja_value str_title(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, call->self, map_title);
}
static struct jinja_value str_swapcase(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, call->self, map_swap);
}

static struct jinja_value strip(struct jinja_render *r, const struct jinja_call *call, bool left, bool right) {
    const struct jinja_string *chars = given(call, 0) ? text_arg(r, call, 0) : NULL, *s = call->self.string;
    size_t begin, end;
    jinja_string_strip(r, s, chars, left, right, &begin, &end);
    return slice(r, s, begin, end);
}
static struct jinja_value str_strip(struct jinja_render *r, const struct jinja_call *call) {
    return strip(r, call, true, true);
}
static struct jinja_value str_lstrip(struct jinja_render *r, const struct jinja_call *call) {
    return strip(r, call, true, false);
}
static struct jinja_value str_rstrip(struct jinja_render *r, const struct jinja_call *call) {
    return strip(r, call, false, true);
}

// True when s has `part` at its start (or end).
static bool has_affix(struct jinja_render *r, const struct jinja_string *s, struct jinja_value part, bool at_end,
                      const char *name) {
    jinja_need_defined(r, part);
    if (part.kind != JINJA_STRING)
        jinja_raise(r, "TypeError: %s first arg must be str or a tuple of str, not %s", name, jinja_type_name(part));
    size_t n = part.string->n_bytes;
    jinja_charge_bytes(r, n);
    return n <= s->n_bytes && !memcmp(s->bytes + (at_end ? s->n_bytes - n : 0), part.string->bytes, n);
}

static struct jinja_value any_affix(struct jinja_render *r, const struct jinja_call *call, bool at_end) {
    const struct jinja_string *s = call->self.string;
    struct jinja_value bounds[3] = {call->bound[1], call->bound[2], {.kind = JINJA_ABSENT}};
    s = jinja_get_slice(r, call->self, bounds).string;
    struct jinja_value parts = call->bound[0];
    if (parts.kind != JINJA_TUPLE) return jinja_bool(has_affix(r, s, parts, at_end, call->name));
    for (size_t i = 0; i < parts.list->count; i++)
        if (has_affix(r, s, parts.list->items[i], at_end, call->name)) return jinja_bool(true);
    return jinja_bool(false);
}
static struct jinja_value str_startswith(struct jinja_render *r, const struct jinja_call *call) {
    return any_affix(r, call, false);
}
static struct jinja_value str_endswith(struct jinja_render *r, const struct jinja_call *call) {
    return any_affix(r, call, true);
}
static struct jinja_value str_removeprefix(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = call->self.string, *part = text_arg(r, call, 0);
    return has_affix(r, s, call->bound[0], false, call->name) ? slice(r, s, part->n_bytes, s->n_bytes) : call->self;
}
static struct jinja_value str_removesuffix(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = call->self.string, *part = text_arg(r, call, 0);
    return has_affix(r, s, call->bound[0], true, call->name) ? slice(r, s, 0, s->n_bytes - part->n_bytes) : call->self;
}

static struct jinja_value split_blanks(struct jinja_render *r, const struct jinja_string *s, int64_t max) {
    struct jinja_builder parts = {0};
    size_t end = s->n_bytes, at = 0;
    jinja_charge_bytes(r, s->n_bytes * 4);
    for (;;) {
        const struct jinja_string *rest = jinja_string_slice(r, s, at, end);
        size_t begin, stop;
        jinja_string_strip(r, rest, NULL, true, false, &begin, &stop);
        at += begin;
        if (at >= end) break;
        if (max >= 0 && (int64_t)parts.count == max) {
            jinja_push(r, &parts, slice(r, s, at, end));
            break;
        }
        size_t word = at;
        while (at < end) {
            uint32_t c = 'x';
            size_t n = utf8_decode(s->bytes + at, end - at, &c);
            if (jinja_is_space(c)) break;
            at += n ? n : 1;
        }
        jinja_push(r, &parts, slice(r, s, word, at));
    }
    return jinja_finish(r, &parts, JINJA_LIST);
}

static struct jinja_value str_split(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = call->self.string;
    int64_t max = jinja_arg_int(r, call, 1, -1);
    if (!given(call, 0)) return split_blanks(r, s, max);
    const struct jinja_string *separator = text_arg(r, call, 0);
    if (!separator->n_bytes) jinja_raise(r, "ValueError: empty separator");
    struct jinja_builder parts = {0};
    size_t begin = 0;
    while (max < 0 || (int64_t)parts.count < max) {
        size_t found = jinja_string_find(r, s, separator, begin);
        if (found == SIZE_MAX) break;
        jinja_push(r, &parts, slice(r, s, begin, found));
        begin = found + separator->n_bytes;
    }
    jinja_push(r, &parts, slice(r, s, begin, s->n_bytes));
    return jinja_finish(r, &parts, JINJA_LIST);
}

static void reverse(struct jinja_builder *parts) {
    for (size_t i = 0; i < parts->count / 2; i++) {
        struct jinja_value other = parts->items[i];
        parts->items[i] = parts->items[parts->count - 1 - i];
        parts->items[parts->count - 1 - i] = other;
    }
}

static struct jinja_value str_rsplit(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = call->self.string;
    int64_t max = jinja_arg_int(r, call, 1, -1);
    if (!given(call, 0)) {
        if (max < 0) return split_blanks(r, s, -1);
        jinja_raise(r, "NotImplementedError: rsplit() with a limit needs a separator here");
    }
    const struct jinja_string *separator = text_arg(r, call, 0);
    if (!separator->n_bytes) jinja_raise(r, "ValueError: empty separator");
    struct jinja_builder parts = {0};
    size_t end = s->n_bytes;
    while (max < 0 || (int64_t)parts.count < max) {
        size_t found = jinja_string_find_last(r, s, separator, end);
        if (found == SIZE_MAX) break;
        jinja_push(r, &parts, slice(r, s, found + separator->n_bytes, end));
        end = found;
    }
    jinja_push(r, &parts, slice(r, s, 0, end));
    reverse(&parts);
    return jinja_finish(r, &parts, JINJA_LIST);
}

// Bytes of the line break at `at`; 0 when there is none.
static size_t line_break(const struct jinja_string *s, size_t at) {
    uint32_t c = 0;
    size_t n = utf8_decode(s->bytes + at, s->n_bytes - at, &c);
    if (c == '\r' && at + 1 < s->n_bytes && s->bytes[at + 1] == '\n') return 2;
    bool breaks = (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
    return breaks ? n : 0;
}

struct jinja_value jinja_split_lines(struct jinja_render *r, const struct jinja_string *s, bool keep_ends) {
    struct jinja_builder lines = {0};
    size_t begin = 0;
    jinja_charge_bytes(r, s->n_bytes * 4);
    for (size_t at = 0; at < s->n_bytes;) {
        size_t n = line_break(s, at);
        if (n) {
            jinja_push(r, &lines, slice(r, s, begin, keep_ends ? at + n : at));
            begin = at += n;
        } else {
            at = jinja_string_next(s, at);
        }
    }
    if (begin < s->n_bytes) jinja_push(r, &lines, slice(r, s, begin, s->n_bytes));
    return jinja_finish(r, &lines, JINJA_LIST);
}

static struct jinja_value str_splitlines(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_split_lines(r, call->self.string, jinja_arg_bool(call, 0, false));
}

static struct jinja_value three(struct jinja_render *r, struct jinja_value a, struct jinja_value b,
                                struct jinja_value c) {
    struct jinja_list *list = jinja_list_new(r, 3);
    list->items[0] = a;
    list->items[1] = b;
    list->items[2] = c;
    return jinja_list_value(JINJA_TUPLE, list);
}

static struct jinja_value partition(struct jinja_render *r, const struct jinja_call *call, bool last) {
    const struct jinja_string *s = call->self.string, *separator = text_arg(r, call, 0);
    if (!separator->n_bytes) jinja_raise(r, "ValueError: empty separator");
    size_t at = last ? jinja_string_find_last(r, s, separator, s->n_bytes) : jinja_string_find(r, s, separator, 0);
    struct jinja_value empty = jinja_text(r, "", 0, true);
    if (at == SIZE_MAX) return last ? three(r, empty, empty, call->self) : three(r, call->self, empty, empty);
    size_t rest = at + separator->n_bytes;
    return three(r, slice(r, s, 0, at), slice(r, s, at, rest), slice(r, s, rest, s->n_bytes));
}
static struct jinja_value str_partition(struct jinja_render *r, const struct jinja_call *call) {
    return partition(r, call, false);
}
static struct jinja_value str_rpartition(struct jinja_render *r, const struct jinja_call *call) {
    return partition(r, call, true);
}

// What replaces the client's text is the client's as well: otherwise a template that rewrites markers and back would
// let a message choose where they stand.
static void append_replacement(struct jinja_render *r, const struct jinja_string *to, bool untrusted) {
    if (untrusted)
        jinja_append(r, to->bytes, to->n_bytes, false);
    else
        jinja_append_string(r, to);
}

struct jinja_value jinja_replace(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *from,
                                 const struct jinja_string *to, int64_t count) {
    size_t mark = jinja_mark(r), begin = 0, at = 0;
    for (int64_t n = 0; count < 0 || n < count; n++) {
        size_t found = jinja_string_find(r, s, from, at);
        if (found == SIZE_MAX) break;
        jinja_charge(r, n % 4 == 0);
        jinja_append_slice(r, s, begin, found);
        append_replacement(r, to, jinja_range_is_untrusted(s, found, found + from->n_bytes));
        begin = found + from->n_bytes;
        at = begin;
        if (from->n_bytes) continue;
        if (found >= s->n_bytes) break; // an empty pattern matches between all code points and at both ends
        at = jinja_string_next(s, found);
    }
    if (!begin && jinja_mark(r) == mark) return jinja_string_value(s);
    jinja_append_slice(r, s, begin, s->n_bytes);
    return jinja_take(r, mark);
}

static struct jinja_value str_replace(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *from = text_arg(r, call, 0), *to = text_arg(r, call, 1);
    bool markup = call->self.string->markup;
    if (markup) {
        from = jinja_escape(r, jinja_string_value(from)).string;
        to = jinja_escape(r, jinja_string_value(to)).string;
    }
    struct jinja_value replaced = jinja_replace(r, call->self.string, from, to, jinja_arg_int(r, call, 2, -1));
    return jinja_with_markup(r, replaced, markup);
}

static struct jinja_value str_count(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = call->self.string, *part = text_arg(r, call, 0);
    if (!part->n_bytes) return jinja_int((int64_t)jinja_string_length(r, s) + 1);
    int64_t count = 0;
    for (size_t at = jinja_string_find(r, s, part, 0); at != SIZE_MAX; count++) {
        jinja_charge(r, count % 8 == 0);
        at = jinja_string_find(r, s, part, at + part->n_bytes);
    }
    return jinja_int(count);
}

static struct jinja_value find(struct jinja_render *r, const struct jinja_call *call, bool last, bool must_exist) {
    const struct jinja_string *s = call->self.string, *part = text_arg(r, call, 0);
    size_t from = jinja_string_offset(r, s, (size_t)(given(call, 1) ? jinja_arg_int(r, call, 1, 0) : 0));
    size_t at = last ? jinja_string_find_last(r, s, part, s->n_bytes) : jinja_string_find(r, s, part, from);
    if (at != SIZE_MAX) return jinja_int((int64_t)utf8_length(s->bytes, at));
    if (must_exist) jinja_raise(r, "ValueError: substring not found");
    return jinja_int(-1);
}
static struct jinja_value str_find(struct jinja_render *r, const struct jinja_call *call) {
    return find(r, call, false, false);
}
static struct jinja_value str_index(struct jinja_render *r, const struct jinja_call *call) {
    return find(r, call, false, true);
}
static struct jinja_value str_rfind(struct jinja_render *r, const struct jinja_call *call) {
    return find(r, call, true, false);
}
static struct jinja_value str_rindex(struct jinja_render *r, const struct jinja_call *call) {
    return find(r, call, true, true);
}

static struct jinja_value str_join(struct jinja_render *r, const struct jinja_call *call) {
    jinja_need_defined(r, call->bound[0]);
    const struct jinja_list *list = jinja_iterate(r, call->bound[0]);
    size_t mark = jinja_mark(r);
    jinja_charge(r, list->count / 4);
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != JINJA_STRING)
            jinja_raise(r, "TypeError: sequence item %zu: expected str instance, %s found", i,
                        jinja_type_name(list->items[i]));
        if (i) jinja_append_string(r, call->self.string);
        struct jinja_value item = list->items[i];
        if (call->self.string->markup) item = jinja_escape(r, item);
        jinja_append_string(r, item.string);
    }
    return jinja_with_markup(r, jinja_take(r, mark), call->self.string->markup);
}

struct jinja_value jinja_pad(struct jinja_render *r, const struct jinja_string *s, int64_t width, char fill, int left) {
    size_t length = jinja_string_length(r, s);
    if (width <= (int64_t)length) return jinja_string_value(s);
    size_t padding = (size_t)width - length, mark = jinja_mark(r);
    // str.center puts the odd blank to the left when the width is odd.
    size_t before = left == 1 ? padding / 2 + (padding & (size_t)width & 1) : left ? padding : 0;
    jinja_append_fill(r, fill, before);
    jinja_append_string(r, s);
    jinja_append_fill(r, fill, padding - before);
    return jinja_with_markup(r, jinja_take(r, mark), s->markup);
}

static struct jinja_value pad(struct jinja_render *r, const struct jinja_call *call, int left) {
    char fill = ' ';
    if (given(call, 1)) {
        const struct jinja_string *text = text_arg(r, call, 1);
        if (text->n_bytes != 1) jinja_raise(r, "TypeError: The fill character must be exactly one character long");
        fill = text->bytes[0];
    }
    return jinja_pad(r, call->self.string, jinja_arg_int(r, call, 0, 0), fill, left);
}
static struct jinja_value str_center(struct jinja_render *r, const struct jinja_call *call) {
    return pad(r, call, 1);
}
static struct jinja_value str_ljust(struct jinja_render *r, const struct jinja_call *call) {
    return pad(r, call, 0);
}
static struct jinja_value str_rjust(struct jinja_render *r, const struct jinja_call *call) {
    return pad(r, call, 2);
}

static struct jinja_value str_zfill(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = call->self.string;
    bool sign = s->n_bytes && strchr("+-", s->bytes[0]);
    if (!sign) return jinja_pad(r, s, jinja_arg_int(r, call, 0, 0), '0', 2);
    size_t mark = jinja_mark(r);
    jinja_append_slice(r, s, 0, 1);
    jinja_append_string(
        r, jinja_pad(r, jinja_string_slice(r, s, 1, s->n_bytes), jinja_arg_int(r, call, 0, 0) - 1, '0', 2).string);
    return jinja_take(r, mark);
}

// True when the text is not empty and every code point has the property.
static struct jinja_value all_are(struct jinja_render *r, const struct jinja_call *call, bool (*has)(uint32_t)) {
    const struct jinja_string *s = call->self.string;
    jinja_charge_bytes(r, s->n_bytes * 4);
    for (size_t i = 0; i < s->n_bytes; i = jinja_string_next(s, i)) {
        uint32_t c = 0;
        utf8_decode(s->bytes + i, s->n_bytes - i, &c);
        if (!has(c)) return jinja_bool(false);
    }
    return jinja_bool(s->n_bytes > 0);
}
static bool is_letter(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
static bool is_digit(uint32_t c) {
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}
static bool is_letter_or_digit(uint32_t c) {
    return is_letter(c) || is_digit(c);
}
static bool is_ascii(uint32_t c) {
    return c < 128;
}

static struct jinja_value str_isalpha(struct jinja_render *r, const struct jinja_call *call) {
    return all_are(r, call, is_letter);
}
static struct jinja_value str_isdigit(struct jinja_render *r, const struct jinja_call *call) {
    return all_are(r, call, is_digit);
}
static struct jinja_value str_isalnum(struct jinja_render *r, const struct jinja_call *call) {
    return all_are(r, call, is_letter_or_digit);
}
static struct jinja_value str_isspace(struct jinja_render *r, const struct jinja_call *call) {
    return all_are(r, call, jinja_is_space);
}
static struct jinja_value str_isascii(struct jinja_render *r, const struct jinja_call *call) {
    return call->self.string->n_bytes ? all_are(r, call, is_ascii) : jinja_bool(true);
}

static struct jinja_value case_is(struct jinja_render *r, const struct jinja_call *call,
                                  int (*map)(uint32_t, uint32_t, uint32_t[3])) {
    const struct jinja_string *s = call->self.string;
    bool cased = false;
    jinja_charge_bytes(r, s->n_bytes * 4);
    for (size_t i = 0; i < s->n_bytes; i = jinja_string_next(s, i)) {
        uint32_t c = 0, mapped[3];
        utf8_decode(s->bytes + i, s->n_bytes - i, &c);
        if (!is_cased(c)) continue;
        cased = true;
        if (map(c, 'x', mapped) != 1 || mapped[0] != c) return jinja_bool(false);
    }
    return jinja_bool(cased);
}
static struct jinja_value str_isupper(struct jinja_render *r, const struct jinja_call *call) {
    return case_is(r, call, jinja_upper);
}
static struct jinja_value str_islower(struct jinja_render *r, const struct jinja_call *call) {
    return case_is(r, call, jinja_lower);
}

const struct jinja_builtin jinja_string_methods[] = {
    {"split", str_split, "sep maxsplit", 0, false},
    {"rsplit", str_rsplit, "sep maxsplit", 0, false},
    {"strip", str_strip, "chars", 0, true},
    {"lstrip", str_lstrip, "chars", 0, true},
    {"rstrip", str_rstrip, "chars", 0, true},
    {"startswith", str_startswith, "prefix start end", 1, true},
    {"endswith", str_endswith, "suffix start end", 1, true},
    {"replace", str_replace, "old new count", 2, true},
    {"join", str_join, "iterable", 1, true},
    {"format", jinja_str_format, NULL, 0, false},
    {"upper", str_upper, "", 0, true},
    {"lower", str_lower, "", 0, true},
    {"casefold", str_lower, "", 0, true},
    {"capitalize", str_capitalize, "", 0, true},
    {"title", str_title, "", 0, true},
    {"swapcase", str_swapcase, "", 0, true},
    {"splitlines", str_splitlines, "keepends", 0, false},
    {"partition", str_partition, "sep", 1, true},
    {"rpartition", str_rpartition, "sep", 1, true},
    {"removeprefix", str_removeprefix, "prefix", 1, true},
    {"removesuffix", str_removesuffix, "suffix", 1, true},
    {"count", str_count, "sub", 1, true},
    {"find", str_find, "sub start", 1, true},
    {"rfind", str_rfind, "sub", 1, true},
    {"index", str_index, "sub start", 1, true},
    {"rindex", str_rindex, "sub", 1, true},
    {"center", str_center, "width fillchar", 1, true},
    {"ljust", str_ljust, "width fillchar", 1, true},
    {"rjust", str_rjust, "width fillchar", 1, true},
    {"zfill", str_zfill, "width", 1, true},
    {"isalpha", str_isalpha, "", 0, true},
    {"isdigit", str_isdigit, "", 0, true},
    {"isdecimal", str_isdigit, "", 0, true},
    {"isnumeric", str_isdigit, "", 0, true},
    {"isalnum", str_isalnum, "", 0, true},
    {"isspace", str_isspace, "", 0, true},
    {"isascii", str_isascii, "", 0, true},
    {"isupper", str_isupper, "", 0, true},
    {"islower", str_islower, "", 0, true},
    {.name = NULL},
};
