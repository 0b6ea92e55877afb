#include "models/jinja_print.h"

#include "base/utf8.h"
#include "models/jinja_string.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Digits and exponent of the shortest "%e" form that reads back as d; d is finite and not negative.
static int shortest_digits(double d, char digits[20]) {
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, d);
        if (strtod(text, NULL) == d) break;
    }
    int n = 0;
    char *p = text;
    for (; *p != 'e'; p++)
        if (*p != '.') digits[n++] = *p;
    digits[n] = 0;
    return (int)strtol(p + 1, NULL, 10);
}

void jinja_float_text(double d, char out[JINJA_FLOAT_TEXT]) {
    if (isnan(d) || isinf(d)) {
        snprintf(out, JINJA_FLOAT_TEXT, "%s", isnan(d) ? "nan" : d > 0 ? "inf" : "-inf");
        return;
    }
    char digits[20];
    const char *sign = signbit(d) ? "-" : "";
    int exponent = shortest_digits(fabs(d), digits), n = (int)strlen(digits);
    if (exponent < -4 || exponent >= 16)
        snprintf(out, JINJA_FLOAT_TEXT, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "", digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    else if (exponent < 0)
        snprintf(out, JINJA_FLOAT_TEXT, "%s0.%.*s%s", sign, -exponent - 1, "0000", digits);
    else if (n <= exponent + 1)
        snprintf(out, JINJA_FLOAT_TEXT, "%s%s%.*s.0", sign, digits, exponent + 1 - n, "0000000000000000");
    else
        snprintf(out, JINJA_FLOAT_TEXT, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
}

// Punctuation of containers counts as the request's: the template did not write it, and fewer parts are cheaper.
static void punctuate(struct jinja_render *r, const char *text) {
    jinja_append_text(r, text, false);
}

static void append_scalar(struct jinja_render *r, struct jinja_value v) {
    char text[JINJA_FLOAT_TEXT];
    switch (v.kind) {
    case JINJA_NONE:
        jinja_append_text(r, "None", !v.untrusted);
        return;
    case JINJA_BOOL:
        jinja_append_text(r, v.boolean ? "True" : "False", !v.untrusted);
        return;
    case JINJA_INT:
        snprintf(text, sizeof text, "%" PRId64, v.integer);
        break;
    default:
        jinja_float_text(v.real, text);
    }
    jinja_append_text(r, text, !v.untrusted);
}

static void append_escaped(struct jinja_render *r, uint32_t c, bool trusted) {
    char text[12];
    const char *format = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
    if (c == '\n' || c == '\r' || c == '\t')
        snprintf(text, sizeof text, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    else
        snprintf(text, sizeof text, format, c);
    jinja_append_text(r, text, trusted);
}

// What Python's str.isprintable refuses, as far as it occurs: controls, separators, surrogates and private use.
static bool is_printable(uint32_t c) {
    if (c < 0x20 || (c >= 0x7f && c < 0xa1) || c == 0xad) return false;
    if (jinja_is_space(c) && c != ' ') return false;
    if ((c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f)) return false;
    return !(c >= 0xd800 && c < 0xf900) && c != 0xfeff && !(c >= 0xfff0 && c < 0xfffc) && c < 0xe0000;
}

static void append_string_repr(struct jinja_render *r, const struct jinja_string *s) {
    if (s->markup) punctuate(r, "Markup(");
    bool single = memchr(s->bytes, '\'', s->n_bytes) != NULL, both = memchr(s->bytes, '"', s->n_bytes) != NULL;
    char quote = single && !both ? '"' : '\'';
    bool trusted = !jinja_string_is_untrusted(s);
    jinja_charge_bytes(r, s->n_bytes * 8);
    jinja_append(r, &quote, 1, trusted);
    size_t plain = 0;
    for (size_t i = 0; i < s->n_bytes;) {
        uint32_t c = 0;
        size_t n = utf8_decode(s->bytes + i, s->n_bytes - i, &c);
        if (!n) n = 1;
        bool escaped = c == (unsigned char)quote || c == '\\';
        if (escaped || !is_printable(c)) {
            jinja_append_slice(r, s, plain, i);
            if (escaped) {
                jinja_append(r, "\\", 1, trusted);
                plain = i;
            } else {
                append_escaped(r, c, trusted);
                plain = i + n;
            }
        }
        i += n;
    }
    jinja_append_slice(r, s, plain, s->n_bytes);
    jinja_append(r, &quote, 1, trusted);
    if (s->markup) punctuate(r, ")");
}

static void append_items(struct jinja_render *r, const struct jinja_list *list, const char *open, const char *close) {
    punctuate(r, open);
    for (size_t i = 0; i < list->count; i++) {
        if (i) punctuate(r, ", ");
        jinja_append_repr(r, list->items[i]);
    }
    punctuate(r, close);
}

static void append_list(struct jinja_render *r, struct jinja_value v) {
    char text[80];
    switch (v.kind) {
    case JINJA_TUPLE:
        append_items(r, v.list, "(", v.list->count == 1 ? ",)" : ")");
        return;
    case JINJA_KEYS:
        append_items(r, v.list, "dict_keys([", "])");
        return;
    case JINJA_VALUES:
        append_items(r, v.list, "dict_values([", "])");
        return;
    case JINJA_ITEMS:
        append_items(r, v.list, "dict_items([", "])");
        return;
    case JINJA_GENERATOR:
        punctuate(r, "<generator object>");
        return;
    case JINJA_RANGE:
        snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64, v.list->start, v.list->stop);
        punctuate(r, text);
        snprintf(text, sizeof text, ", %" PRId64, v.list->step);
        if (v.list->step != 1) punctuate(r, text);
        punctuate(r, ")");
        return;
    default:
        append_items(r, v.list, "[", "]");
    }
}

static void append_dict(struct jinja_render *r, const struct jinja_dict *dict) {
    punctuate(r, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i) punctuate(r, ", ");
        jinja_append_repr(r, dict->entries[i].key);
        punctuate(r, ": ");
        jinja_append_repr(r, dict->entries[i].value);
    }
    punctuate(r, "}");
}

static void append_namespace(struct jinja_render *r, const struct jinja_namespace *space) {
    punctuate(r, "<Namespace {");
    for (size_t i = 0; i < space->count; i++) {
        if (i) punctuate(r, ", ");
        append_string_repr(r, space->items[i].name);
        punctuate(r, ": ");
        jinja_append_repr(r, space->items[i].value);
    }
    punctuate(r, "}>");
}

void jinja_append_repr(struct jinja_render *r, struct jinja_value v) {
    jinja_enter(r);
    if (v.kind == JINJA_STRING)
        append_string_repr(r, v.string);
    else if (v.kind == JINJA_UNDEFINED)
        punctuate(r, "Undefined");
    else
        jinja_append_str(r, v);
    jinja_leave(r);
}

void jinja_append_str(struct jinja_render *r, struct jinja_value v) {
    char text[120];
    switch (v.kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
        return;
    case JINJA_NONE:
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT:
        append_scalar(r, v);
        return;
    case JINJA_STRING:
    case JINJA_BIG:
        jinja_append_string(r, v.string);
        return;
    case JINJA_DICT:
        append_dict(r, v.dict);
        return;
    case JINJA_NAMESPACE:
        append_namespace(r, v.space);
        return;
    case JINJA_LOOP:
        snprintf(text, sizeof text, "<LoopContext %zu/%zu>", v.loop->index0 + 1, v.loop->items->count);
        break;
    case JINJA_MACRO:
        snprintf(text, sizeof text, "<Macro '%.80s'>", v.macro->name);
        break;
    case JINJA_METHOD:
        snprintf(text, sizeof text, "<built-in method %.80s>", v.method->name);
        break;
    case JINJA_FUNCTION:
        snprintf(text, sizeof text, "<function %.80s>", v.function->name);
        break;
    default:
        append_list(r, v);
        return;
    }
    punctuate(r, text);
}

struct jinja_value jinja_to_string(struct jinja_render *r, struct jinja_value v) {
    if (v.kind == JINJA_STRING) return v;
    size_t mark = jinja_mark(r);
    jinja_append_str(r, v);
    return jinja_take(r, mark);
}
