#include "models/jinja_json.h"

#include "base/utf8.h"
#include "models/jinja_print.h"
#include "models/jinja_sort.h"
#include "models/jinja_string.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct json_reader {
    struct jinja_render *r;
    const char *at, *end; // valid JSON; every read below relies on that
};

static struct jinja_value read_value(struct json_reader *reader);

static char skip_blanks(struct json_reader *reader) {
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at)) reader->at++;
    assert(reader->at < reader->end);
    return *reader->at;
}

static uint32_t read_hex4(const char *p) {
    char digits[5] = {p[0], p[1], p[2], p[3], 0};
    return (uint32_t)strtoul(digits, NULL, 16);
}

// The code point of the escape at p, just behind the backslash; *n_bytes is how long it is.
static uint32_t read_escape(const char *p, size_t *n_bytes) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    *n_bytes = 1;
    const char *simple = strchr(from, *p);
    if (*p != 'u') return simple ? (unsigned char)to[simple - from] : (unsigned char)*p;
    uint32_t unit = read_hex4(p + 1);
    *n_bytes = 5;
    if (unit < 0xd800 || unit > 0xdbff) return unit;
    *n_bytes = 11;
    return 0x10000 + ((unit - 0xd800) << 10) + (read_hex4(p + 7) - 0xdc00);
}

static struct jinja_value read_string(struct json_reader *reader) {
    const char *begin = ++reader->at, *p = begin;
    bool escapes = false;
    for (; *p != '"'; p++)
        if (*p == '\\') {
            escapes = true;
            p++;
        }
    reader->at = p + 1;
    size_t n_bytes = (size_t)(p - begin);
    if (!escapes) return jinja_text(reader->r, begin, n_bytes, false);
    char *bytes = jinja_alloc(reader->r, n_bytes, 1); // no escape is shorter than what it stands for
    size_t n = 0;
    for (const char *s = begin; s < p; s++) {
        if (*s != '\\') {
            bytes[n++] = *s;
            continue;
        }
        size_t length;
        uint32_t code_point = read_escape(s + 1, &length);
        n += utf8_encode(code_point, bytes + n);
        s += length;
    }
    return jinja_text(reader->r, bytes, n, false);
}

static struct jinja_value read_number(struct json_reader *reader) {
    const char *begin = reader->at;
    bool is_float = false;
    while (reader->at < reader->end && strchr("+-.0123456789eE", *reader->at)) {
        is_float |= strchr(".eE", *reader->at) != NULL;
        reader->at++;
    }
    size_t n_bytes = (size_t)(reader->at - begin);
    char *text = arena_copy_string(&reader->r->arena, begin, n_bytes);
    jinja_charge_bytes(reader->r, n_bytes);
    struct jinja_value v = is_float ? jinja_float(strtod(text, NULL)) : jinja_int(0);
    v.untrusted = true;
    if (is_float) return v;
    errno = 0;
    v.integer = strtoll(text, NULL, 10);
    if (errno == ERANGE) {
        v.string = jinja_text(reader->r, begin, n_bytes, false).string;
        v.kind = JINJA_BIG;
    }
    return v;
}

static struct jinja_value read_array(struct json_reader *reader) {
    struct jinja_builder builder = {0};
    reader->at++;
    if (skip_blanks(reader) == ']') {
        reader->at++;
        return jinja_finish(reader->r, &builder, JINJA_LIST);
    }
    for (;;) {
        jinja_push(reader->r, &builder, read_value(reader));
        char next = skip_blanks(reader);
        reader->at++;
        if (next == ']') return jinja_finish(reader->r, &builder, JINJA_LIST);
    }
}

static struct jinja_value read_object(struct json_reader *reader) {
    struct jinja_builder pairs = {0};
    reader->at++;
    char next = skip_blanks(reader);
    if (next == '}') reader->at++;
    while (next != '}') {
        skip_blanks(reader);
        jinja_push(reader->r, &pairs, read_string(reader));
        skip_blanks(reader);
        reader->at++; // the colon
        jinja_push(reader->r, &pairs, read_value(reader));
        next = skip_blanks(reader);
        reader->at++;
    }
    struct jinja_dict *dict = jinja_dict_new(reader->r, pairs.count / 2);
    for (size_t i = 0; i < pairs.count; i += 2) jinja_dict_put(reader->r, dict, pairs.items[i], pairs.items[i + 1]);
    return (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
}

static struct jinja_value read_value(struct json_reader *reader) {
    struct jinja_value v = jinja_none();
    jinja_enter(reader->r);
    switch (skip_blanks(reader)) {
    case '"':
        v = read_string(reader);
        break;
    case '{':
        v = read_object(reader);
        break;
    case '[':
        v = read_array(reader);
        break;
    case 't':
        v = jinja_bool(true);
        reader->at += 4;
        v.untrusted = true;
        break;
    case 'f':
        v = jinja_bool(false);
        reader->at += 5;
        v.untrusted = true;
        break;
    case 'n':
        reader->at += 4;
        v.untrusted = true;
        break;
    default:
        v = read_number(reader);
    }
    jinja_leave(reader->r);
    return v;
}

struct jinja_value jinja_read_json(struct jinja_render *r, const char *text, size_t n_bytes) {
    struct json_reader reader = {r, text, text + n_bytes};
    return read_value(&reader);
}

// Writing.

static void append_json_string(struct jinja_render *r, const struct jinja_string *s, bool ensure_ascii) {
    bool trusted = !jinja_string_is_untrusted(s);
    size_t plain = 0;
    jinja_charge_bytes(r, s->n_bytes * 8);
    jinja_append(r, "\"", 1, trusted);
    for (size_t i = 0; i < s->n_bytes;) {
        uint32_t c = (unsigned char)s->bytes[i];
        size_t n = 1;
        if (c >= 0x80 && ensure_ascii) n = utf8_decode(s->bytes + i, s->n_bytes - i, &c);
        if (!n) n = 1;
        if (c >= 0x20 && c != '"' && c != '\\' && !(c >= 0x7f && ensure_ascii && c != 0x7f)) {
            i += n;
            continue;
        }
        char text[16];
        static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *name = c && c < 0x80 ? strchr(named, (int)c) : NULL;
        if (name)
            snprintf(text, sizeof text, "\\%c", letters[name - named]);
        else if (c < 0x10000)
            snprintf(text, sizeof text, "\\u%04x", c);
        else
            snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
        jinja_append_slice(r, s, plain, i);
        jinja_append_text(r, text, trusted);
        i += n;
        plain = i;
    }
    jinja_append_slice(r, s, plain, s->n_bytes);
    jinja_append(r, "\"", 1, trusted);
}

static void append_scalar(struct jinja_render *r, struct jinja_value v) {
    if (v.kind == JINJA_NONE)
        jinja_append_text(r, "null", !v.untrusted);
    else if (v.kind == JINJA_BOOL)
        jinja_append_text(r, v.boolean ? "true" : "false", !v.untrusted);
    else if (v.kind == JINJA_FLOAT && !isfinite(v.real))
        jinja_append_text(r, isnan(v.real) ? "NaN" : v.real > 0 ? "Infinity" : "-Infinity", !v.untrusted);
    else
        jinja_append_str(r, v);
}

static bool is_scalar(struct jinja_value v) {
    return v.kind == JINJA_NONE || v.kind == JINJA_BIG || jinja_is_number(v);
}

struct json_writer {
    struct jinja_render *r;
    const struct jinja_json_style *style;
    size_t level;
};

static void append_break(struct json_writer *w) {
    if (!w->style->indent) return;
    jinja_append(w->r, "\n", 1, false);
    for (size_t i = 0; i < w->level; i++) jinja_append(w->r, w->style->indent->bytes, w->style->indent->n_bytes, false);
}

static void append_separator(struct json_writer *w, const struct jinja_string *separator) {
    jinja_append(w->r, separator->bytes, separator->n_bytes, false);
}

static void append_key(struct json_writer *w, struct jinja_value key) {
    if (key.kind == JINJA_STRING) {
        append_json_string(w->r, key.string, w->style->ensure_ascii);
        return;
    }
    if (!is_scalar(key))
        jinja_raise(w->r, "TypeError: keys must be str, int, float, bool or None, not %s", jinja_type_name(key));
    jinja_append(w->r, "\"", 1, false);
    append_scalar(w->r, key);
    jinja_append(w->r, "\"", 1, false);
}

static void append_value(struct json_writer *w, struct jinja_value v);

static void append_dict(struct json_writer *w, const struct jinja_dict *dict) {
    struct jinja_entry *entries = dict->entries;
    if (w->style->sort_keys) entries = jinja_sort_entries(w->r, dict);
    jinja_append(w->r, "{", 1, false);
    w->level++;
    for (size_t i = 0; i < dict->count; i++) {
        if (i) append_separator(w, w->style->item_separator);
        append_break(w);
        append_key(w, entries[i].key);
        append_separator(w, w->style->key_separator);
        append_value(w, entries[i].value);
    }
    w->level--;
    if (dict->count) append_break(w);
    jinja_append(w->r, "}", 1, false);
}

static void append_list(struct json_writer *w, const struct jinja_list *list) {
    jinja_append(w->r, "[", 1, false);
    w->level++;
    for (size_t i = 0; i < list->count; i++) {
        if (i) append_separator(w, w->style->item_separator);
        append_break(w);
        append_value(w, list->items[i]);
    }
    w->level--;
    if (list->count) append_break(w);
    jinja_append(w->r, "]", 1, false);
}

static void append_value(struct json_writer *w, struct jinja_value v) {
    jinja_enter(w->r);
    if (v.kind == JINJA_STRING)
        append_json_string(w->r, v.string, w->style->ensure_ascii);
    else if (is_scalar(v))
        append_scalar(w->r, v);
    else if (v.kind == JINJA_DICT)
        append_dict(w, v.dict);
    else if (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE)
        append_list(w, v.list);
    else
        jinja_raise(w->r, "TypeError: Object of type %s is not JSON serializable", jinja_type_name(v));
    jinja_leave(w->r);
}

void jinja_append_json(struct jinja_render *r, struct jinja_value v, const struct jinja_json_style *style) {
    struct json_writer writer = {r, style, 0};
    append_value(&writer, v);
}
