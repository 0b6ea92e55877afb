#include "models/jinja_method.h"

#include "models/jinja_operator.h"

#include <string.h>

const struct jinja_builtin *jinja_builtin_find(const struct jinja_builtin *rows, const char *name, size_t n_bytes) {
    for (; rows->name; rows++)
        if (strlen(rows->name) == n_bytes && !memcmp(rows->name, name, n_bytes)) return rows;
    return NULL;
}

struct jinja_value jinja_method_new(struct jinja_render *r, struct jinja_value self,
                                    const struct jinja_builtin *builtin, const char *name) {
    struct jinja_method *method = jinja_alloc(r, 1, sizeof *method);
    *method = (struct jinja_method){self, builtin, name};
    return (struct jinja_value){.kind = JINJA_METHOD, .method = method};
}

static struct jinja_value entries_as(struct jinja_render *r, const struct jinja_dict *dict, enum jinja_kind kind) {
    struct jinja_list *list = jinja_list_new(r, dict->count);
    for (size_t i = 0; i < dict->count; i++) {
        const struct jinja_entry *entry = &dict->entries[i];
        list->items[i] = kind == JINJA_KEYS     ? entry->key
                         : kind == JINJA_VALUES ? entry->value
                                                : jinja_pair(r, entry->key, entry->value);
    }
    return jinja_list_value(kind, list);
}

static struct jinja_value dict_keys(struct jinja_render *r, const struct jinja_call *call) {
    return entries_as(r, call->self.dict, JINJA_KEYS);
}
static struct jinja_value dict_values(struct jinja_render *r, const struct jinja_call *call) {
    return entries_as(r, call->self.dict, JINJA_VALUES);
}
static struct jinja_value dict_items(struct jinja_render *r, const struct jinja_call *call) {
    return entries_as(r, call->self.dict, JINJA_ITEMS);
}
static struct jinja_value dict_get(struct jinja_render *r, const struct jinja_call *call) {
    const struct jinja_value *found = jinja_dict_find(r, call->self.dict, call->bound[0]);
    if (found) return *found;
    return call->bound[1].kind == JINJA_ABSENT ? jinja_none() : call->bound[1];
}
static struct jinja_value dict_copy(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return call->self;
}

static struct jinja_value list_count(struct jinja_render *r, const struct jinja_call *call) {
    int64_t count = 0;
    for (size_t i = 0; i < call->self.list->count; i++)
        count += jinja_equal(r, call->self.list->items[i], call->bound[0]);
    jinja_charge(r, call->self.list->count / 8);
    return jinja_int(count);
}
static struct jinja_value list_index(struct jinja_render *r, const struct jinja_call *call) {
    jinja_charge(r, call->self.list->count / 8);
    for (size_t i = 0; i < call->self.list->count; i++)
        if (jinja_equal(r, call->self.list->items[i], call->bound[0])) return jinja_int((int64_t)i);
    jinja_raise(r, "ValueError: value is not in list");
}
static struct jinja_value list_copy(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return call->self; // lists never change
}

// Rows without a function change the object, which the sandbox refuses.
static const struct jinja_builtin dict_methods[] = {
    {"items", dict_items, "", 0, true},
    {"get", dict_get, "key default", 1, true},
    {"keys", dict_keys, "", 0, true},
    {"values", dict_values, "", 0, true},
    {"copy", dict_copy, "", 0, true},
    {.name = "clear"},
    {.name = "pop"},
    {.name = "popitem"},
    {.name = "setdefault"},
    {.name = "update"},
    {.name = NULL},
};

static const struct jinja_builtin list_methods[] = {
    {"count", list_count, "value", 1, true},
    {"index", list_index, "value", 1, true},
    {"copy", list_copy, "", 0, true},
    {.name = "append"},
    {.name = "clear"},
    {.name = "extend"},
    {.name = "insert"},
    {.name = "pop"},
    {.name = "remove"},
    {.name = "reverse"},
    {.name = "sort"},
    {.name = NULL},
};

static const struct jinja_builtin tuple_methods[] = {
    {"count", list_count, "value", 1, true},
    {"index", list_index, "value", 1, true},
    {.name = NULL},
};

bool jinja_method_find(struct jinja_render *r, struct jinja_value object, const struct jinja_string *name,
                       struct jinja_value *value) {
    const struct jinja_builtin *rows = object.kind == JINJA_STRING ? jinja_string_methods
                                       : object.kind == JINJA_DICT ? dict_methods
                                       : object.kind == JINJA_LIST ? list_methods
                                                                   : tuple_methods;
    if (rows == tuple_methods && object.kind != JINJA_TUPLE && object.kind != JINJA_RANGE) return false;
    const struct jinja_builtin *row = jinja_builtin_find(rows, name->bytes, name->n_bytes);
    if (!row) return false;
    if (row->function)
        *value = jinja_method_new(r, object, row, row->name);
    else
        *value = jinja_undefined(r, JINJA_UNSAFE, object, name);
    return true;
}
