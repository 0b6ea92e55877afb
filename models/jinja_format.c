#include "models/jinja_format.h"

#include "models/jinja_method.h"
#include "models/jinja_operator.h"
#include "models/jinja_print.h"
#include "models/jinja_string.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// One conversion of either language.
struct spec {
    char align;            // '<', '>', '^', '=' or 0
    char fill, sign, type; // sign: '+', ' ' or 0; type: a conversion letter or 0
    bool alternate, thousands;
    int64_t width, precision; // precision: -1 when not given
};

enum { WIDTH_MAX = 100000, PRECISION_MAX = 100 };

static int64_t read_digits(struct jinja_render *r, const struct jinja_string *s, size_t *at) {
    int64_t number = 0;
    while (*at < s->n_bytes && s->bytes[*at] >= '0' && s->bytes[*at] <= '9') {
        number = number * 10 + (s->bytes[(*at)++] - '0');
        if (number > WIDTH_MAX) jinja_raise(r, "ValueError: a number in the format string is too large");
    }
    return number;
}

static void group_thousands(char *text, size_t size) {
    size_t begin = strspn(text, "+- "), digits = strspn(text + begin, "0123456789"), n = strlen(text);
    for (size_t at = begin + digits; at > begin + 3 && n + 1 < size; n++) {
        at -= 3;
        memmove(text + at + 1, text + at, n - at + 1);
        text[at] = ',';
    }
}

// Writes a number with C's printf, which agrees with Python for these types.
static struct jinja_value format_number(struct jinja_render *r, struct jinja_value v, const struct spec *spec) {
    char format[24], text[512], *p = format;
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    if (precision > PRECISION_MAX) jinja_raise(r, "ValueError: precision too big");
    *p++ = '%';
    if (spec->sign) *p++ = spec->sign;
    if (spec->alternate) *p++ = '#';
    if (strchr("dxXoc", spec->type)) {
        int64_t integer = v.kind == JINJA_FLOAT ? (int64_t)v.real : jinja_as_int(v);
        bool negative = integer < 0;
        uint64_t magnitude = negative ? -(uint64_t)integer : (uint64_t)integer;
        const char *prefix = !spec->alternate ? "" : spec->type == 'x' ? "0x" : spec->type == 'o' ? "0o" : "";
        const char *digits = spec->type == 'x'   ? "%s%s%" PRIx64
                             : spec->type == 'X' ? "%s%s%" PRIX64
                             : spec->type == 'o' ? "%s%s%" PRIo64
                                                 : "%s%s%" PRIu64;
        char sign[2] = {spec->sign, 0};
        snprintf(text, sizeof text, digits, negative ? "-" : sign, prefix, magnitude); // NOLINT: one of four literals
    } else {
        snprintf(p, sizeof format - 4, ".*%c", spec->type == '%' ? 'f' : spec->type);
        double d = jinja_as_double(r, v) * (spec->type == '%' ? 100 : 1);
        snprintf(text, sizeof text, format, precision, d);
        size_t n = strlen(text);
        if (spec->type == '%') memcpy(text + n, "%", 2);
    }
    if (spec->thousands) group_thousands(text, sizeof text);
    size_t mark = jinja_mark(r);
    jinja_append_text(r, text, !v.untrusted);
    return jinja_take(r, mark);
}

static void append_padded(struct jinja_render *r, const struct jinja_string *s, const struct spec *spec, char align) {
    bool signed_zero = align == '=' && s->n_bytes && strchr("+- ", s->bytes[0]);
    if (signed_zero) jinja_append_slice(r, s, 0, 1);
    const struct jinja_string *rest = signed_zero ? jinja_string_slice(r, s, 1, s->n_bytes) : s;
    int64_t width = spec->width - signed_zero, length = (int64_t)jinja_string_length(r, rest);
    size_t padding = width > length ? (size_t)(width - length) : 0;
    size_t before = align == '<' ? 0 : align == '^' ? padding / 2 : padding;
    jinja_append_fill(r, spec->fill, before);
    jinja_append_string(r, rest);
    jinja_append_fill(r, spec->fill, padding - before);
}

static bool is_number_type(char type) {
    return type && strchr("dxXocfFeEgG%", type);
}

static void append_formatted(struct jinja_render *r, struct jinja_value v, const struct spec *spec) {
    bool number = jinja_is_number(v);
    if (is_number_type(spec->type)) {
        if (!number)
            jinja_raise(r, "TypeError: %%%c format: a real number is required, not %s", spec->type, jinja_type_name(v));
        v = format_number(r, v, spec);
    } else if (number && (spec->precision >= 0 || spec->sign || spec->thousands)) {
        struct spec typed = *spec;
        typed.type = v.kind == JINJA_FLOAT ? (spec->thousands ? 'f' : 'g') : 'd';
        v = format_number(r, v, &typed);
    } else {
        v = jinja_to_string(r, v);
        if (spec->precision >= 0)
            v = jinja_string_value(
                jinja_string_slice(r, v.string, 0, jinja_string_offset(r, v.string, (size_t)spec->precision)));
    }
    append_padded(r, v.string, spec, spec->align ? spec->align : number ? '>' : '<');
}

// "%s" % x

struct percent {
    struct jinja_render *r;
    const struct jinja_string *format;
    struct jinja_value args;
    size_t at, used; // bytes of the format read, positional arguments used
};

static struct jinja_value next_percent_arg(struct percent *p) {
    if (p->args.kind != JINJA_TUPLE) {
        if (p->used++) jinja_raise(p->r, "TypeError: not enough arguments for format string");
        return p->args;
    }
    if (p->used >= p->args.list->count) jinja_raise(p->r, "TypeError: not enough arguments for format string");
    return p->args.list->items[p->used++];
}

static char peek(const struct percent *p) {
    if (p->at >= p->format->n_bytes) jinja_raise(p->r, "ValueError: incomplete format");
    return p->format->bytes[p->at];
}

static struct jinja_value named_percent_arg(struct percent *p) {
    size_t begin = ++p->at;
    while (peek(p) != ')') p->at++;
    struct jinja_value key = jinja_string_value(jinja_string_slice(p->r, p->format, begin, p->at++));
    if (p->args.kind != JINJA_DICT) jinja_raise(p->r, "TypeError: format requires a mapping");
    const struct jinja_value *found = jinja_dict_find(p->r, p->args.dict, key);
    if (!found) jinja_raise(p->r, "KeyError: '%.*s'", (int)(key.string->n_bytes & 0xff), key.string->bytes);
    p->used = 1;
    return *found;
}

static int64_t percent_number(struct percent *p) {
    if (peek(p) != '*') return read_digits(p->r, p->format, &p->at);
    p->at++;
    struct jinja_value v = next_percent_arg(p);
    if (!jinja_is_integer(v) || jinja_as_int(v) > WIDTH_MAX || jinja_as_int(v) < -WIDTH_MAX)
        jinja_raise(p->r, "TypeError: * wants int");
    return jinja_as_int(v);
}

static void append_percent(struct percent *p) {
    struct spec spec = {.fill = ' ', .precision = -1, .align = '>'};
    struct jinja_value v = {.kind = JINJA_ABSENT};
    if (peek(p) == '(') v = named_percent_arg(p);
    for (; strchr("-+ #0", peek(p)); p->at++) {
        char flag = peek(p);
        if (flag == '-') spec.align = '<';
        if (flag == '0' && spec.align == '>') spec.fill = '0';
        if (flag == '#') spec.alternate = true;
        if (flag == '+' || (flag == ' ' && !spec.sign)) spec.sign = flag;
    }
    spec.width = percent_number(p);
    if (spec.width < 0) spec.align = '<', spec.width = -spec.width;
    if (peek(p) == '.') {
        p->at++;
        spec.precision = percent_number(p);
    }
    spec.type = peek(p);
    p->at++;
    if (spec.type == '%') {
        jinja_append(p->r, "%", 1, true);
        return;
    }
    if (v.kind == JINJA_ABSENT) v = next_percent_arg(p);
    if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    bool text = spec.type && strchr("sra", spec.type);
    if (!text && (!is_number_type(spec.type) || spec.type == 'c'))
        jinja_raise(p->r, "ValueError: unsupported format character '%c'", spec.type);
    if (text) {
        size_t mark = jinja_mark(p->r);
        if (spec.type == 's')
            jinja_append_str(p->r, v);
        else
            jinja_append_repr(p->r, v);
        v = jinja_take(p->r, mark);
        if (p->format->markup) v = jinja_escape(p->r, v);
        spec.fill = ' ';
    } else if (spec.fill == '0') {
        spec.align = '=';
    }
    append_formatted(p->r, v, &spec);
}

struct jinja_value jinja_percent_format(struct jinja_render *r, const struct jinja_string *format,
                                        struct jinja_value args) {
    struct percent p = {r, format, args, 0, 0};
    size_t mark = jinja_mark(r), plain = 0;
    while (p.at < format->n_bytes) {
        if (format->bytes[p.at++] != '%') continue;
        jinja_append_slice(r, format, plain, p.at - 1);
        jinja_charge(r, 1);
        append_percent(&p);
        plain = p.at;
    }
    jinja_append_slice(r, format, plain, format->n_bytes);
    bool all_used = args.kind == JINJA_TUPLE ? p.used >= args.list->count
                                             : p.used || args.kind == JINJA_DICT || args.kind == JINJA_LIST;
    if (!all_used) jinja_raise(r, "TypeError: not all arguments converted during string formatting");
    return jinja_with_markup(r, jinja_take(r, mark), format->markup);
}

// "{}".format(x)

static struct jinja_value format_field(struct jinja_render *r, const struct jinja_call *call,
                                       const struct jinja_string *path, size_t *automatic) {
    size_t end = 0;
    while (end < path->n_bytes && !strchr(".[", path->bytes[end])) end++;
    struct jinja_value v = {.kind = JINJA_ABSENT};
    size_t digits = 0;
    size_t number = (size_t)read_digits(r, path, &digits);
    if (end == 0) number = (*automatic)++;
    if (digits == end) {
        if (number >= call->n_args) jinja_raise(r, "IndexError: Replacement index %zu out of range", number);
        v = call->args[number];
    } else {
        const struct jinja_string *name = jinja_string_slice(r, path, 0, end);
        for (size_t i = 0; i < call->n_keywords; i++)
            if (jinja_string_equal(call->keywords[i].name, name)) v = call->keywords[i].value;
        if (v.kind == JINJA_ABSENT) jinja_raise(r, "KeyError: '%.*s'", (int)(name->n_bytes & 0xff), name->bytes);
    }
    while (end < path->n_bytes) {
        bool item = path->bytes[end] == '[';
        size_t begin = ++end;
        while (end < path->n_bytes && !strchr(item ? "]" : ".[", path->bytes[end])) end++;
        const struct jinja_string *name = jinja_string_slice(r, path, begin, end);
        v = item ? jinja_get_path(r, v, jinja_string_value(name), (struct jinja_value){.kind = JINJA_ABSENT})
                 : jinja_get_attribute(r, v, name);
        if (item) end++;
    }
    return v;
}

static struct spec read_format_spec(struct jinja_render *r, const struct jinja_string *s) {
    struct spec spec = {.fill = ' ', .precision = -1};
    size_t at = 0, n = s->n_bytes;
    if (n > 1 && strchr("<>^=", s->bytes[1])) {
        spec.fill = s->bytes[0];
        spec.align = s->bytes[1];
        at = 2;
    } else if (n > 0 && strchr("<>^=", s->bytes[0])) {
        spec.align = s->bytes[at++];
    }
    if (at < n && strchr("+- ", s->bytes[at])) spec.sign = s->bytes[at] == '-' ? 0 : s->bytes[at], at++;
    if (at < n && s->bytes[at] == '#') spec.alternate = true, at++;
    if (at < n && s->bytes[at] == '0') {
        at++;
        if (!spec.align) spec.fill = '0', spec.align = '=';
    }
    spec.width = read_digits(r, s, &at);
    if (at < n && s->bytes[at] == ',') spec.thousands = true, at++;
    if (at < n && s->bytes[at] == '.') {
        at++;
        spec.precision = read_digits(r, s, &at);
    }
    if (at < n) spec.type = s->bytes[at++];
    if (at < n || (spec.type != 's' && spec.type && !is_number_type(spec.type)))
        jinja_raise(r, "ValueError: Invalid format specifier");
    return spec;
}

// The field between { and }, without them: path[!conversion][:spec].
static void append_field(struct jinja_render *r, const struct jinja_call *call, const struct jinja_string *field,
                         size_t *automatic) {
    size_t end = 0, n = field->n_bytes;
    while (end < n && field->bytes[end] != '!' && field->bytes[end] != ':') end++;
    struct jinja_value v = format_field(r, call, jinja_string_slice(r, field, 0, end), automatic);
    if (end + 1 < n && field->bytes[end] == '!') {
        char conversion = field->bytes[end + 1];
        size_t mark = jinja_mark(r);
        if (conversion == 'r')
            jinja_append_repr(r, v);
        else
            jinja_append_str(r, v);
        v = jinja_take(r, mark);
        end += 2;
    }
    size_t begin = end < n && field->bytes[end] == ':' ? end + 1 : n;
    struct spec spec = read_format_spec(r, jinja_string_slice(r, field, begin, n));
    if (field->markup) v = jinja_escape(r, jinja_to_string(r, v));
    append_formatted(r, v, &spec);
}

struct jinja_value jinja_str_format(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *s = call->self.string;
    size_t mark = jinja_mark(r), plain = 0, automatic = 0;
    for (size_t at = 0; at < s->n_bytes; at++) {
        char c = s->bytes[at];
        if (c != '{' && c != '}') continue;
        jinja_append_slice(r, s, plain, at);
        jinja_charge(r, 1);
        if (at + 1 < s->n_bytes && s->bytes[at + 1] == c) {
            plain = ++at;
            continue;
        }
        const char *close = memchr(s->bytes + at, '}', s->n_bytes - at);
        if (c == '}' || !close) jinja_raise(r, "ValueError: Single '%c' encountered in format string", c);
        size_t end = (size_t)(close - s->bytes);
        append_field(r, call, jinja_string_slice(r, s, at + 1, end), &automatic);
        at = end;
        plain = end + 1;
    }
    jinja_append_slice(r, s, plain, s->n_bytes);
    return jinja_with_markup(r, jinja_take(r, mark), s->markup);
}
