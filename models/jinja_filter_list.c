// Filters of lists, dicts and anything else that can be iterated.
#include "models/jinja_builtin.h"
#include "models/jinja_eval.h"
#include "models/jinja_filter.h"
#include "models/jinja_method.h"
#include "models/jinja_operator.h"
#include "models/jinja_print.h"
#include "models/jinja_sort.h"
#include "models/jinja_string.h"

#include <string.h>

static const struct jinja_value absent = {.kind = JINJA_ABSENT};

static bool given(const struct jinja_call *call, int i) {
    return call->bound[i].kind != JINJA_ABSENT && call->bound[i].kind != JINJA_NONE;
}

static struct jinja_value filter_length(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_int((int64_t)jinja_length(r, call->self));
}

static struct jinja_value filter_default(struct jinja_render *r, const struct jinja_call *call) {
    bool missing = call->self.kind == JINJA_UNDEFINED || (jinja_arg_bool(call, 1, false) && !jinja_truth(call->self));
    if (!missing) return call->self;
    return call->bound[0].kind == JINJA_ABSENT ? jinja_text(r, "", 0, true) : call->bound[0];
}

static struct jinja_value filter_list(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_list *list = jinja_alloc(r, 1, sizeof *list);
    const struct jinja_list *items = jinja_iterate(r, call->self);
    list->items = items->items; // items never change, so both may share them
    list->count = items->count;
    return jinja_list_value(JINJA_LIST, list);
}

static struct jinja_value filter_first(struct jinja_render *r, const struct jinja_call *call) {
    if (call->self.kind == JINJA_GENERATOR && call->self.list->taken < call->self.list->count)
        return call->self.list->items[call->self.list->taken++];
    const struct jinja_list *list = jinja_iterate(r, call->self);
    return list->count ? list->items[0] : jinja_undefined_text(r, "No first item, sequence was empty.");
}

static struct jinja_value filter_last(struct jinja_render *r, const struct jinja_call *call) {
    if (call->self.kind == JINJA_GENERATOR) jinja_raise(r, "TypeError: 'generator' object is not reversible");
    const struct jinja_list *list = jinja_iterate(r, call->self);
    return list->count ? list->items[list->count - 1] : jinja_undefined_text(r, "No last item, sequence was empty.");
}

static struct jinja_value filter_reverse(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_value bounds[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
    if (call->self.kind == JINJA_STRING) return jinja_get_slice(r, call->self, bounds);
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_list *reversed = jinja_list_new(r, list->count);
    for (size_t i = 0; i < list->count; i++) reversed->items[i] = list->items[list->count - 1 - i];
    return jinja_list_value(call->self.kind == JINJA_GENERATOR ? JINJA_LIST : JINJA_GENERATOR, reversed);
}

static struct jinja_value filter_join(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_value separator =
        call->bound[0].kind == JINJA_ABSENT ? jinja_text(r, "", 0, true) : jinja_to_string(r, call->bound[0]);
    struct jinja_list *parts = jinja_list_new(r, list->count);
    for (size_t i = 0; i < list->count; i++)
        parts->items[i] = given(call, 1) ? jinja_get_path(r, list->items[i], call->bound[1], absent) : list->items[i];
    size_t mark = jinja_mark(r);
    jinja_charge(r, list->count / 4);
    for (size_t i = 0; i < list->count; i++) {
        if (i) jinja_append_string(r, separator.string);
        jinja_append_str(r, parts->items[i]);
    }
    return jinja_take(r, mark);
}

static struct jinja_value filter_items(struct jinja_render *r, const struct jinja_call *call) {
    if (call->self.kind == JINJA_UNDEFINED) return jinja_list_value(JINJA_GENERATOR, jinja_list_new(r, 0));
    if (call->self.kind != JINJA_DICT) jinja_raise(r, "TypeError: Can only get item pairs from a mapping.");
    const struct jinja_dict *dict = call->self.dict;
    struct jinja_list *list = jinja_list_new(r, dict->count);
    for (size_t i = 0; i < dict->count; i++)
        list->items[i] = jinja_pair(r, dict->entries[i].key, dict->entries[i].value);
    return jinja_list_value(JINJA_GENERATOR, list);
}

// Calling filters and tests by name, for map, select and their kin.

static struct jinja_value call_named(struct jinja_render *r, struct jinja_value name, bool is_filter,
                                     struct jinja_value self, const struct jinja_call *rest) {
    const struct jinja_builtin *builtin = NULL;
    if (name.kind == JINJA_STRING)
        builtin = is_filter ? jinja_find_filter(name.string->bytes, name.string->n_bytes)
                            : jinja_builtin_find(jinja_tests, name.string->bytes, name.string->n_bytes);
    if (!builtin) {
        name = jinja_to_string(r, name);
        jinja_raise(r, "TemplateRuntimeError: No %s named '%.*s'.", is_filter ? "filter" : "test",
                    (int)(name.string->n_bytes & 0x7f), name.string->bytes);
    }
    struct jinja_call call = *rest;
    call.self = self;
    jinja_enter(r);
    struct jinja_value v = jinja_call_builtin(r, builtin, &call);
    jinja_leave(r);
    return v;
}

// The arguments behind the first n.
static struct jinja_call drop_args(const struct jinja_call *call, size_t n) {
    struct jinja_call rest = *call;
    rest.args = call->n_args > n ? call->args + n : NULL;
    rest.n_args = call->n_args > n ? call->n_args - n : 0;
    return rest;
}

static struct jinja_value keyword(const struct jinja_call *call, const char *name) {
    for (size_t i = 0; i < call->n_keywords; i++)
        if (jinja_text_is(jinja_string_value(call->keywords[i].name), name)) return call->keywords[i].value;
    return (struct jinja_value){.kind = JINJA_ABSENT};
}

static struct jinja_value filter_map(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_builder mapped = {0};
    if (!jinja_truth(call->self)) return jinja_finish(r, &mapped, JINJA_GENERATOR);
    struct jinja_value attribute = keyword(call, "attribute"), otherwise = keyword(call, "default");
    bool by_attribute = !call->n_args && attribute.kind != JINJA_ABSENT;
    if (!by_attribute && !call->n_args) jinja_raise(r, "FilterArgumentError: map requires a filter argument");
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_call rest = drop_args(call, 1);
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value v;
        jinja_charge(r, 1);
        if (by_attribute)
            v = jinja_get_path(r, list->items[i], attribute, otherwise);
        else
            v = call_named(r, call->args[0], true, list->items[i], &rest);
        jinja_push(r, &mapped, v);
    }
    return jinja_finish(r, &mapped, JINJA_GENERATOR);
}

static struct jinja_value choose(struct jinja_render *r, const struct jinja_call *call, bool by_attribute, bool keep) {
    struct jinja_builder chosen = {0};
    size_t used = by_attribute ? 1 : 0;
    if (!jinja_truth(call->self)) return jinja_finish(r, &chosen, JINJA_GENERATOR);
    if (by_attribute && !call->n_args) jinja_raise(r, "FilterArgumentError: Missing parameter for attribute name");
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_call rest = drop_args(call, used + 1);
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value v = list->items[i];
        jinja_charge(r, 1);
        if (by_attribute) v = jinja_get_path(r, v, call->args[0], absent);
        if (call->n_args > used) v = call_named(r, call->args[used], false, v, &rest);
        if (jinja_truth(v) == keep) jinja_push(r, &chosen, list->items[i]);
    }
    return jinja_finish(r, &chosen, JINJA_GENERATOR);
}
static struct jinja_value filter_select(struct jinja_render *r, const struct jinja_call *call) {
    return choose(r, call, false, true);
}
static struct jinja_value filter_reject(struct jinja_render *r, const struct jinja_call *call) {
    return choose(r, call, false, false);
}
static struct jinja_value filter_selectattr(struct jinja_render *r, const struct jinja_call *call) {
    return choose(r, call, true, true);
}
static struct jinja_value filter_rejectattr(struct jinja_render *r, const struct jinja_call *call) {
    return choose(r, call, true, false);
}

// Sorting and grouping.

static struct jinja_value sort_key(struct jinja_render *r, struct jinja_value v, bool case_sensitive) {
    return v.kind == JINJA_STRING && !case_sensitive ? jinja_mapped(r, v, jinja_lower) : v;
}

static struct jinja_value key_of(struct jinja_render *r, struct jinja_value item, struct jinja_value attribute,
                                 bool case_sensitive) {
    bool has_attribute = attribute.kind != JINJA_ABSENT && attribute.kind != JINJA_NONE;
    if (has_attribute) item = jinja_get_path(r, item, attribute, absent);
    return sort_key(r, item, case_sensitive);
}

// "a,b" names several attributes, by which items are sorted in turn.
static struct jinja_value keys_of(struct jinja_render *r, struct jinja_value item, struct jinja_value attribute,
                                  bool case_sensitive) {
    const struct jinja_string comma = {.bytes = ",", .n_bytes = 1, .n_chars = 1, .n_runs = 1};
    if (attribute.kind != JINJA_STRING || jinja_string_find(r, attribute.string, &comma, 0) == SIZE_MAX)
        return key_of(r, item, attribute, case_sensitive);
    struct jinja_builder keys = {0};
    for (size_t begin = 0; begin <= attribute.string->n_bytes;) {
        size_t end = jinja_string_find(r, attribute.string, &comma, begin);
        if (end == SIZE_MAX) end = attribute.string->n_bytes;
        struct jinja_value one = jinja_string_value(jinja_string_slice(r, attribute.string, begin, end));
        jinja_push(r, &keys, key_of(r, item, one, case_sensitive));
        begin = end + 1;
    }
    return jinja_finish(r, &keys, JINJA_LIST);
}

static struct jinja_sortable *sorted_items(struct jinja_render *r, const struct jinja_list *list,
                                           struct jinja_value attribute, bool case_sensitive, bool reverse) {
    struct jinja_sortable *items = jinja_alloc(r, list->count, sizeof *items);
    for (size_t i = 0; i < list->count; i++)
        items[i] = (struct jinja_sortable){keys_of(r, list->items[i], attribute, case_sensitive), list->items[i]};
    jinja_sort(r, items, list->count, reverse);
    return items;
}

static struct jinja_value filter_sort(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_sortable *items =
        sorted_items(r, list, call->bound[2], jinja_arg_bool(call, 1, false), jinja_arg_bool(call, 0, false));
    struct jinja_list *sorted = jinja_list_new(r, list->count);
    for (size_t i = 0; i < list->count; i++) sorted->items[i] = items[i].value;
    return jinja_list_value(JINJA_LIST, sorted);
}

static struct jinja_value filter_dictsort(struct jinja_render *r, const struct jinja_call *call) {
    if (call->self.kind != JINJA_DICT)
        jinja_raise(r, "TypeError: dictsort needs a mapping, not %s", jinja_type_name(call->self));
    bool case_sensitive = jinja_arg_bool(call, 0, false);
    bool by_value = jinja_text_is(call->bound[1], "value");
    if (call->bound[1].kind != JINJA_ABSENT && !by_value && !jinja_text_is(call->bound[1], "key"))
        jinja_raise(r, "FilterArgumentError: You can only sort by either \"key\" or \"value\"");
    const struct jinja_dict *dict = call->self.dict;
    struct jinja_sortable *items = jinja_alloc(r, dict->count, sizeof *items);
    for (size_t i = 0; i < dict->count; i++) {
        const struct jinja_entry *entry = &dict->entries[i];
        items[i].key = sort_key(r, by_value ? entry->value : entry->key, case_sensitive);
        items[i].value = jinja_pair(r, entry->key, entry->value);
    }
    jinja_sort(r, items, dict->count, jinja_arg_bool(call, 2, false));
    struct jinja_list *sorted = jinja_list_new(r, dict->count);
    for (size_t i = 0; i < dict->count; i++) sorted->items[i] = items[i].value;
    return jinja_list_value(JINJA_LIST, sorted);
}

static struct jinja_value filter_unique(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_dict *seen = jinja_dict_new(r, list->count);
    struct jinja_builder unique = {0};
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value key = key_of(r, list->items[i], call->bound[1], jinja_arg_bool(call, 0, false));
        size_t known = seen->count;
        jinja_charge(r, 1);
        jinja_dict_put(r, seen, key, jinja_none());
        if (seen->count > known) jinja_push(r, &unique, list->items[i]);
    }
    return jinja_finish(r, &unique, JINJA_GENERATOR);
}

static struct jinja_value filter_groupby(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_value attribute = call->bound[0], otherwise = call->bound[1];
    bool case_sensitive = jinja_arg_bool(call, 2, false);
    struct jinja_sortable *items = jinja_alloc(r, list->count, sizeof *items);
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value key = jinja_get_path(r, list->items[i], attribute, otherwise);
        items[i] = (struct jinja_sortable){sort_key(r, key, case_sensitive), list->items[i]};
    }
    jinja_sort(r, items, list->count, false);
    struct jinja_builder groups = {0};
    for (size_t begin = 0, end; begin < list->count; begin = end) {
        struct jinja_builder group = {0};
        for (end = begin; end < list->count && jinja_equal(r, items[begin].key, items[end].key); end++)
            jinja_push(r, &group, items[end].value);
        if (end == begin) end++; // NaN equals nothing, not even itself
        struct jinja_value grouper = jinja_get_path(r, items[begin].value, attribute, otherwise);
        jinja_push(r, &groups, jinja_pair(r, grouper, jinja_finish(r, &group, JINJA_LIST)));
    }
    return jinja_finish(r, &groups, JINJA_LIST);
}

static struct jinja_value extreme(struct jinja_render *r, const struct jinja_call *call, int sign) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    bool case_sensitive = jinja_arg_bool(call, 0, false);
    if (!list->count) return jinja_undefined_text(r, "No aggregated item, sequence was empty.");
    struct jinja_value best = list->items[0], best_key = key_of(r, best, call->bound[1], case_sensitive);
    for (size_t i = 1; i < list->count; i++) {
        struct jinja_value key = key_of(r, list->items[i], call->bound[1], case_sensitive);
        jinja_charge(r, 1);
        if (jinja_order(r, key, best_key, sign < 0 ? "<" : ">") * sign <= 0) continue;
        best = list->items[i];
        best_key = key;
    }
    return best;
}
static struct jinja_value filter_min(struct jinja_render *r, const struct jinja_call *call) {
    return extreme(r, call, -1);
}
static struct jinja_value filter_max(struct jinja_render *r, const struct jinja_call *call) {
    return extreme(r, call, 1);
}

static struct jinja_value filter_sum(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    struct jinja_value sum = call->bound[1].kind == JINJA_ABSENT ? jinja_int(0) : call->bound[1];
    if (sum.kind == JINJA_STRING) jinja_raise(r, "TypeError: sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value v =
            given(call, 0) ? jinja_get_path(r, list->items[i], call->bound[0], absent) : list->items[i];
        jinja_charge(r, 1);
        sum = jinja_binary(r, JINJA_ADD, sum, v);
    }
    return sum;
}

// A copy of items [begin, end), and `fill` items behind it.
static struct jinja_value part_of(struct jinja_render *r, const struct jinja_list *list, size_t begin, size_t end,
                                  size_t n_fill, struct jinja_value fill) {
    struct jinja_list *part = jinja_list_new(r, end - begin + n_fill);
    for (size_t i = 0; i < part->count; i++) part->items[i] = begin + i < end ? list->items[begin + i] : fill;
    return jinja_list_value(JINJA_LIST, part);
}

static struct jinja_value filter_batch(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    int64_t width = jinja_arg_int(r, call, 0, 0);
    if (width <= 0) jinja_raise(r, "ValueError: batch needs a positive number");
    struct jinja_builder batches = {0};
    for (size_t begin = 0; begin < list->count;) {
        size_t left = list->count - begin, n = left < (size_t)width ? left : (size_t)width;
        size_t n_fill = given(call, 1) ? (size_t)width - n : 0;
        jinja_push(r, &batches, part_of(r, list, begin, begin + n, n_fill, call->bound[1]));
        begin += n;
    }
    return jinja_finish(r, &batches, JINJA_GENERATOR);
}

static struct jinja_value filter_slice(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_list *list = jinja_iterate(r, call->self);
    int64_t n_slices = jinja_arg_int(r, call, 0, 0);
    if (n_slices <= 0) jinja_raise(r, "ZeroDivisionError: integer division or modulo by zero");
    struct jinja_builder slices = {0};
    size_t each = list->count / (size_t)n_slices, longer = list->count % (size_t)n_slices, begin = 0;
    for (size_t i = 0; i < (size_t)n_slices; i++) {
        size_t n = each + (i < longer);
        jinja_charge(r, 1);
        jinja_push(r, &slices, part_of(r, list, begin, begin + n, given(call, 1) && i >= longer, call->bound[1]));
        begin += n;
    }
    return jinja_finish(r, &slices, JINJA_GENERATOR);
}

const struct jinja_builtin jinja_list_filters[] = {
    {"length", filter_length, "", 0, true},
    {"count", filter_length, "", 0, true},
    {"default", filter_default, "default_value boolean", 0, false},
    {"d", filter_default, "default_value boolean", 0, false},
    {"list", filter_list, "", 0, true},
    {"first", filter_first, "", 0, true},
    {"last", filter_last, "", 0, true},
    {"reverse", filter_reverse, "", 0, true},
    {"join", filter_join, "d attribute", 0, false},
    {"items", filter_items, "", 0, true},
    {"map", filter_map, NULL, 0, false},
    {"select", filter_select, NULL, 0, false},
    {"reject", filter_reject, NULL, 0, false},
    {"selectattr", filter_selectattr, NULL, 0, false},
    {"rejectattr", filter_rejectattr, NULL, 0, false},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0, false},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0, false},
    {"unique", filter_unique, "case_sensitive attribute", 0, false},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1, false},
    {"min", filter_min, "case_sensitive attribute", 0, false},
    {"max", filter_max, "case_sensitive attribute", 0, false},
    {"sum", filter_sum, "attribute start", 0, false},
    {"batch", filter_batch, "linecount fill_with", 1, false},
    {"slice", filter_slice, "slices fill_with", 1, false},
    {.name = NULL},
};

const struct jinja_builtin *jinja_find_filter(const char *name, size_t n_bytes) {
    const struct jinja_builtin *row = jinja_builtin_find(jinja_text_filters, name, n_bytes);
    return row ? row : jinja_builtin_find(jinja_list_filters, name, n_bytes);
}
