// Filters of text and numbers.
#include "models/jinja_filter.h"
#include "models/jinja_format.h"
#include "models/jinja_json.h"
#include "models/jinja_method.h"
#include "models/jinja_operator.h"
#include "models/jinja_print.h"
#include "models/jinja_string.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct jinja_string *self_text(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_to_string(r, call->self).string;
}

static struct jinja_value filter_string(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_to_string(r, call->self);
}
static struct jinja_value filter_safe(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_with_markup(r, jinja_to_string(r, call->self), true);
}
static struct jinja_value filter_upper(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, jinja_to_string(r, call->self), jinja_upper);
}
static struct jinja_value filter_lower(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, jinja_to_string(r, call->self), jinja_lower);
}
static struct jinja_value filter_capitalize(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, jinja_to_string(r, call->self), jinja_capitalize);
}

// Words begin behind blanks, hyphens and opening brackets; str.title differs.
static int map_title(uint32_t code_point, uint32_t previous, uint32_t out[3]) {
    bool begins = jinja_is_space(previous) || (previous && previous < 128 && strchr("-({[<", (int)previous));
    return begins || !previous ? jinja_upper(code_point, previous, out) : jinja_lower(code_point, previous, out);
}
static struct jinja_value filter_title(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_mapped(r, jinja_to_string(r, call->self), map_title);
}

static struct jinja_value filter_trim(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = self_text(r, call), *chars = NULL;
    if (call->bound[0].kind == JINJA_STRING) chars = call->bound[0].string;
    size_t begin, end;
    jinja_string_strip(r, s, chars, true, true, &begin, &end);
    return jinja_string_value(jinja_string_slice(r, s, begin, end));
}

static struct jinja_value filter_replace(struct jinja_render *r, const struct jinja_call *call) {
    bool all = call->bound[2].kind == JINJA_NONE;
    const struct jinja_string *s = jinja_with_markup(r, jinja_to_string(r, call->self), false).string;
    return jinja_replace(r, s, jinja_to_string(r, call->bound[0]).string, jinja_to_string(r, call->bound[1]).string,
                         all ? -1 : jinja_arg_int(r, call, 2, -1));
}

static struct jinja_value filter_center(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_pad(r, self_text(r, call), jinja_arg_int(r, call, 0, 80), ' ', 1);
}

static struct jinja_value filter_format(struct jinja_render *r, const struct jinja_call *call) {
    if (call->n_args && call->n_keywords)
        jinja_raise(r, "FilterArgumentError: can't handle positional and keyword arguments at the same time");
    struct jinja_value args;
    if (call->n_keywords) {
        struct jinja_dict *dict = jinja_dict_new(r, call->n_keywords);
        for (size_t i = 0; i < call->n_keywords; i++)
            jinja_dict_put(r, dict, jinja_string_value(call->keywords[i].name), call->keywords[i].value);
        args = (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
    } else {
        struct jinja_list *list = jinja_list_new(r, call->n_args);
        if (call->n_args) memcpy(list->items, call->args, call->n_args * sizeof *call->args);
        args = jinja_list_value(JINJA_TUPLE, list);
    }
    return jinja_percent_format(r, self_text(r, call), args);
}

static struct jinja_value filter_indent(struct jinja_render *r, const struct jinja_call *call) {
    jinja_need_defined(r, call->self);
    if (call->self.kind != JINJA_STRING)
        jinja_raise(r, "TypeError: unsupported operand type(s) for +=: '%s' and 'str'", jinja_type_name(call->self));
    bool first = jinja_arg_bool(call, 1, false), blank = jinja_arg_bool(call, 2, false);
    bool is_text = call->bound[0].kind == JINJA_STRING;
    int64_t width = is_text ? 0 : jinja_arg_int(r, call, 0, 4);
    struct jinja_value newline = jinja_text(r, "\n", 1, true);
    struct jinja_value text = jinja_binary(r, JINJA_ADD, call->self, newline); // so that there is a line
    const struct jinja_list *lines = jinja_split_lines(r, text.string, false).list;
    size_t mark = jinja_mark(r);
    for (size_t i = 0; i < lines->count; i++) {
        const struct jinja_string *line = lines->items[i].string;
        if (i) jinja_append(r, "\n", 1, true);
        if (i ? blank || line->n_bytes : first) {
            if (is_text)
                jinja_append_string(r, call->bound[0].string);
            else
                jinja_append_fill(r, ' ', width > 0 ? (size_t)width : 0);
        }
        jinja_append_string(r, line);
    }
    return jinja_with_markup(r, jinja_take(r, mark), call->self.string->markup);
}

static struct jinja_value filter_truncate(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = self_text(r, call);
    struct jinja_value end = call->bound[2];
    if (end.kind != JINJA_STRING) end = jinja_text(r, "...", 3, true);
    int64_t length = jinja_arg_int(r, call, 0, 255), tail = (int64_t)jinja_string_length(r, end.string);
    int64_t leeway = call->bound[3].kind == JINJA_NONE ? 5 : jinja_arg_int(r, call, 3, 5);
    if (length < tail || leeway < 0) jinja_raise(r, "AssertionError: expected length >= %lld", (long long)tail);
    if ((int64_t)jinja_string_length(r, s) - length <= leeway) return jinja_string_value(s);
    size_t cut = jinja_string_offset(r, s, (size_t)(length - tail));
    if (!jinja_arg_bool(call, 1, false)) {
        const struct jinja_string blank = {.bytes = " ", .n_bytes = 1, .n_chars = 1, .n_runs = 1};
        size_t at = jinja_string_find_last(r, s, &blank, cut);
        if (at != SIZE_MAX) cut = at;
    }
    return jinja_binary(r, JINJA_ADD, jinja_string_value(jinja_string_slice(r, s, 0, cut)), end);
}

static struct jinja_value filter_escape(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_escape(r, jinja_to_string(r, call->self));
}
static struct jinja_value filter_forceescape(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_escape(r, jinja_with_markup(r, jinja_to_string(r, call->self), false));
}

static struct jinja_value filter_wordcount(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_call split = {.self = jinja_to_string(r, call->self)};
    const struct jinja_builtin *method = jinja_builtin_find(jinja_string_methods, "split", 5);
    return jinja_int((int64_t)method->function(r, &split).list->count);
}

static struct jinja_value filter_tojson(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_value indent = call->bound[1], separators = call->bound[2];
    bool indented = indent.kind != JINJA_ABSENT && indent.kind != JINJA_NONE;
    struct jinja_json_style style = {.ensure_ascii = jinja_arg_bool(call, 0, false),
                                     .sort_keys = jinja_arg_bool(call, 3, false)};
    if (indented && indent.kind != JINJA_STRING) {
        int64_t width = jinja_arg_int(r, call, 1, 0);
        size_t mark = jinja_mark(r);
        jinja_append_fill(r, ' ', width > 0 ? (size_t)width : 0);
        indent = jinja_take(r, mark);
    }
    if (indented) style.indent = indent.string;
    style.item_separator = jinja_text(r, indented ? "," : ", ", indented ? 1 : 2, true).string;
    style.key_separator = jinja_text(r, ": ", 2, true).string;
    if (separators.kind != JINJA_ABSENT && separators.kind != JINJA_NONE) {
        const struct jinja_list *pair = jinja_iterate(r, separators);
        if (pair->count != 2 || pair->items[0].kind != JINJA_STRING || pair->items[1].kind != JINJA_STRING)
            jinja_raise(r, "ValueError: separators must be two strings");
        style.item_separator = pair->items[0].string;
        style.key_separator = pair->items[1].string;
    }
    size_t mark = jinja_mark(r);
    jinja_append_json(r, call->self, &style);
    return jinja_take(r, mark);
}

// Numbers.

// The text without blanks around it and without underscores between digits, NUL-terminated; NULL when it is not short.
static char *number_text(struct jinja_render *r, const struct jinja_string *s, char *out, size_t size) {
    size_t begin, end, n = 0;
    jinja_string_strip(r, s, NULL, true, true, &begin, &end);
    for (size_t i = begin; i < end && n + 1 < size; i++)
        if (s->bytes[i] != '_' || i == begin || i + 1 == end) out[n++] = s->bytes[i] ? s->bytes[i] : '?';
    out[n] = 0;
    return n && n + 1 < size ? out : NULL;
}

static bool parse_float(struct jinja_render *r, const struct jinja_string *s, double *value) {
    char text[400], *stop;
    if (!number_text(r, s, text, sizeof text) || strpbrk(text, "xX(")) return false;
    *value = strtod(text, &stop);
    return *stop == 0 && stop != text;
}

static bool parse_int(struct jinja_render *r, const struct jinja_string *s, int base, int64_t *value) {
    char text[400], *stop;
    if (!number_text(r, s, text, sizeof text)) return false;
    char *digits = text + (text[0] == '-' || text[0] == '+');
    bool prefixed =
        digits[0] == '0' && ((base == 8 && (digits[1] | 32) == 'o') || (base == 2 && (digits[1] | 32) == 'b'));
    if (prefixed) memmove(digits, digits + 2, strlen(digits + 2) + 1);
    errno = 0;
    *value = strtoll(text, &stop, base);
    if (*stop || stop == text) return false;
    if (errno == ERANGE) jinja_raise(r, "OverflowError: the integer does not fit into 64 bits");
    return true;
}

static struct jinja_value int_from_double(struct jinja_render *r, double d, struct jinja_value otherwise) {
    if (isnan(d) || isinf(d)) return otherwise;
    if (d >= 0x1p63 || d < -0x1p63) jinja_raise(r, "OverflowError: the integer does not fit into 64 bits");
    return jinja_int((int64_t)d);
}

static struct jinja_value filter_int(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_value otherwise = call->bound[0].kind == JINJA_ABSENT ? jinja_int(0) : call->bound[0], v = otherwise;
    int64_t base = jinja_arg_int(r, call, 1, 10), integer;
    double real;
    jinja_need_defined(r, call->self);
    if (base != 0 && (base < 2 || base > 36)) jinja_raise(r, "ValueError: int() base must be >= 2 and <= 36, or 0");
    if (call->self.kind == JINJA_STRING) {
        if (parse_int(r, call->self.string, (int)base, &integer))
            v = jinja_int(integer);
        else if (parse_float(r, call->self.string, &real))
            v = int_from_double(r, real, otherwise);
        v.untrusted |= jinja_string_is_untrusted(call->self.string);
    } else if (jinja_is_integer(call->self)) {
        v = jinja_int(jinja_as_int(call->self));
        v.untrusted = call->self.untrusted;
    } else if (call->self.kind == JINJA_FLOAT) {
        v = int_from_double(r, call->self.real, otherwise);
        v.untrusted |= call->self.untrusted;
    } else if (call->self.kind == JINJA_BIG) {
        v = call->self;
    }
    return v;
}

static struct jinja_value filter_float(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_value v = call->bound[0].kind == JINJA_ABSENT ? jinja_float(0) : call->bound[0];
    double real;
    jinja_need_defined(r, call->self);
    if (call->self.kind == JINJA_STRING) {
        if (parse_float(r, call->self.string, &real)) v = jinja_float(real);
        v.untrusted |= jinja_string_is_untrusted(call->self.string);
    } else if (jinja_is_number(call->self)) {
        v = jinja_float(jinja_as_double(r, call->self));
        v.untrusted = call->self.untrusted;
    }
    return v;
}

static double round_half_even(double d, int64_t precision) {
    char text[400];
    if (isnan(d) || isinf(d) || precision > 300) return d;
    if (precision < 0) {
        double scale = pow(10, (double)-precision);
        return precision < -300 ? 0 : nearbyint(d / scale) * scale;
    }
    snprintf(text, sizeof text, "%.*f", precision > 60 ? 60 : (int)precision, d);
    return strtod(text, NULL);
}

// Tens, hundreds ... for negative precisions; ties go to the even one.
static int64_t round_integer(int64_t integer, int64_t precision) {
    __int128 unit = 1;
    if (precision >= 0) return integer;
    if (precision < -19) return 0;
    for (int64_t i = precision; i < 0; i++) unit *= 10;
    __int128 whole = integer / unit, twice = 2 * (integer % unit);
    if (twice > unit || (twice == unit && whole % 2)) whole++;
    if (twice < -unit || (twice == -unit && whole % 2)) whole--;
    __int128 rounded = whole * unit;
    return rounded > INT64_MAX ? INT64_MAX : rounded < INT64_MIN ? INT64_MIN : (int64_t)rounded;
}

static struct jinja_value filter_round(struct jinja_render *r, const struct jinja_call *call) {
    jinja_need_defined(r, call->self);
    if (!jinja_is_number(call->self))
        jinja_raise(r, "TypeError: type %s doesn't define __round__ method", jinja_type_name(call->self));
    int64_t precision = jinja_arg_int(r, call, 0, 0);
    double d = jinja_as_double(r, call->self), scale = pow(10, (double)precision);
    struct jinja_value v;
    if (call->bound[1].kind == JINJA_ABSENT || jinja_text_is(call->bound[1], "common"))
        v = jinja_is_integer(call->self) ? jinja_int(round_integer(jinja_as_int(call->self), precision))
                                         : jinja_float(round_half_even(d, precision));
    else if (jinja_text_is(call->bound[1], "ceil"))
        v = jinja_float(ceil(d * scale) / scale);
    else if (jinja_text_is(call->bound[1], "floor"))
        v = jinja_float(floor(d * scale) / scale);
    else
        jinja_raise(r, "FilterArgumentError: method must be common, ceil or floor");
    v.untrusted = call->self.untrusted;
    return v;
}

static struct jinja_value filter_abs(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_value v = call->self;
    jinja_need_defined(r, v);
    if (!jinja_is_number(v)) jinja_raise(r, "TypeError: bad operand type for abs(): '%s'", jinja_type_name(v));
    if (v.kind == JINJA_FLOAT) {
        v.real = fabs(v.real);
        return v;
    }
    return jinja_as_int(v) < 0 ? jinja_negate(r, v) : jinja_positive(r, v);
}

const struct jinja_builtin jinja_text_filters[] = {
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0, false},
    {"string", filter_string, "", 0, true},
    {"safe", filter_safe, "", 0, true},
    {"trim", filter_trim, "chars", 0, false},
    {"upper", filter_upper, "", 0, true},
    {"lower", filter_lower, "", 0, true},
    {"capitalize", filter_capitalize, "", 0, true},
    {"title", filter_title, "", 0, true},
    {"replace", filter_replace, "old new count", 2, false},
    {"center", filter_center, "width", 0, false},
    {"format", filter_format, NULL, 0, false},
    {"indent", filter_indent, "width first blank", 0, false},
    {"truncate", filter_truncate, "length killwords end leeway", 0, false},
    {"escape", filter_escape, "", 0, true},
    {"e", filter_escape, "", 0, true},
    {"forceescape", filter_forceescape, "", 0, true},
    {"wordcount", filter_wordcount, "", 0, true},
    {"int", filter_int, "default base", 0, false},
    {"float", filter_float, "default", 0, false},
    {"round", filter_round, "precision method", 0, false},
    {"abs", filter_abs, "", 0, true},
    {.name = NULL},
};
