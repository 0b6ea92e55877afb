// Functions that every template sees.
#include "models/jinja_builtin.h"
#include "models/jinja_print.h"
#include "models/jinja_string.h"

#include <string.h>
#include <time.h>

enum { RANGE_MAX = 100000 }; // as in Jinja's sandbox

static struct jinja_value global_range(struct jinja_render *r, const struct jinja_call *call) {
    bool one = call->bound[1].kind == JINJA_ABSENT;
    int64_t start = one ? 0 : jinja_arg_int(r, call, 0, 0), stop = jinja_arg_int(r, call, one ? 0 : 1, 0);
    int64_t step = jinja_arg_int(r, call, 2, 1);
    if (step == 0) jinja_raise(r, "ValueError: range() arg 3 must not be zero");
    __int128 span = step > 0 ? (__int128)stop - start : (__int128)start - stop,
             pace = step > 0 ? step : -(__int128)step;
    __int128 count = span > 0 ? (span + pace - 1) / pace : 0;
    if (count > RANGE_MAX)
        jinja_raise(r, "OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                    RANGE_MAX);
    struct jinja_list *list = jinja_list_new(r, (size_t)count);
    list->start = start;
    list->stop = stop;
    list->step = step;
    for (size_t i = 0; i < list->count; i++) list->items[i] = jinja_int(start + (int64_t)i * step);
    return jinja_list_value(JINJA_RANGE, list);
}

// dict(mapping, **keywords): what the positional argument holds, then the keywords.
static struct jinja_value global_dict(struct jinja_render *r, const struct jinja_call *call) {
    if (call->n_args > 1) jinja_raise(r, "TypeError: dict expected at most 1 argument, got %zu", call->n_args);
    struct jinja_value from = call->n_args ? call->args[0] : (struct jinja_value){.kind = JINJA_ABSENT};
    const struct jinja_list *pairs = NULL;
    size_t n_from = 0;
    if (from.kind == JINJA_DICT) {
        n_from = from.dict->count;
    } else if (from.kind != JINJA_ABSENT) {
        pairs = jinja_iterate(r, from);
        n_from = pairs->count;
    }
    struct jinja_dict *dict = jinja_dict_new(r, n_from + call->n_keywords);
    for (size_t i = 0; i < n_from; i++) {
        if (!pairs) {
            jinja_dict_put(r, dict, from.dict->entries[i].key, from.dict->entries[i].value);
            continue;
        }
        const struct jinja_list *pair = jinja_iterate(r, pairs->items[i]);
        if (pair->count != 2) jinja_raise(r, "ValueError: dictionary update sequence element has a wrong length");
        jinja_dict_put(r, dict, pair->items[0], pair->items[1]);
    }
    for (size_t i = 0; i < call->n_keywords; i++)
        jinja_dict_put(r, dict, jinja_string_value(call->keywords[i].name), call->keywords[i].value);
    return (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
}

static struct jinja_value global_namespace(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_value dict = global_dict(r, call);
    struct jinja_namespace *space = jinja_alloc(r, 1, sizeof *space);
    for (size_t i = 0; i < dict.dict->count; i++) {
        if (dict.dict->entries[i].key.kind != JINJA_STRING) jinja_raise(r, "TypeError: names must be strings");
        jinja_namespace_put(r, space, dict.dict->entries[i].key.string, dict.dict->entries[i].value);
    }
    return (struct jinja_value){.kind = JINJA_NAMESPACE, .space = space};
}

static struct jinja_value global_raise_exception(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_string *text = jinja_to_string(r, call->bound[0]).string;
    int n = text->n_bytes < sizeof r->err->text ? (int)text->n_bytes : (int)sizeof r->err->text;
    jinja_raise(r, "%.*s", n, text->bytes);
}

static struct jinja_value global_strftime_now(struct jinja_render *r, const struct jinja_call *call) {
    char text[1024], format[256];
    const struct jinja_value v = call->bound[0];
    if (v.kind != JINJA_STRING) jinja_raise(r, "TypeError: strftime() argument 1 must be str");
    if (v.string->n_bytes >= sizeof format) jinja_raise(r, "ValueError: the time format is too long");
    memcpy(format, v.string->bytes, v.string->n_bytes);
    format[v.string->n_bytes] = 0;
    struct tm parts;
    time_t now = r->now_s;
    if (!gmtime_r(&now, &parts)) jinja_raise(r, "ValueError: the time is out of range");
    size_t mark = jinja_mark(r), n = strftime(text, sizeof text, format, &parts);
    jinja_append(r, text, n, !jinja_string_is_untrusted(v.string));
    return jinja_take(r, mark);
}

const struct jinja_builtin jinja_globals[] = {
    {"range", global_range, "start stop step", 1, true},
    {"dict", global_dict, NULL, 0, false},
    {"namespace", global_namespace, NULL, 0, false},
    {"raise_exception", global_raise_exception, "message", 1, false},
    {"strftime_now", global_strftime_now, "format", 1, false},
    {.name = NULL},
};
