#include "models/jinja_value.h"

#include "base/map.h"
#include "models/jinja_operator.h"
#include "models/jinja_string.h"

#include <stdio.h>
#include <string.h>

noreturn void jinja_raise(struct jinja_render *r, const char *format, ...) {
    char text[sizeof r->err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    err_set(r->err, ERR_INVALID, "%s", text);
    longjmp(r->escape, 1);
}

noreturn void jinja_exhausted(struct jinja_render *r, const char *what) {
    err_set(r->err, ERR_LIMIT, "the chat template uses too much: %s", what);
    longjmp(r->escape, 1);
}

void jinja_charge(struct jinja_render *r, size_t steps) {
    if (steps > r->steps_left) jinja_exhausted(r, "too many steps");
    r->steps_left -= steps;
}

// Work over bytes is about a hundred times cheaper than evaluating a node.
void jinja_charge_bytes(struct jinja_render *r, size_t n_bytes) {
    jinja_charge(r, n_bytes / 256);
}

void *jinja_alloc(struct jinja_render *r, size_t count, size_t n_bytes) {
    size_t total = 0;
    void *p = size_mul(count, n_bytes, &total) ? arena_try_alloc(&r->arena, total ? total : 1) : NULL;
    if (!p) jinja_exhausted(r, "too much memory");
    jinja_charge(r, total / 4096);
    return memset(p, 0, total ? total : 1);
}

struct jinja_value jinja_undefined(struct jinja_render *r, enum jinja_undefined reason, struct jinja_value owner,
                                   const struct jinja_string *name) {
    jinja_charge(r, 1);
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .reason = (uint8_t)reason, .owner = owner.kind, .string = name};
}

struct jinja_value jinja_undefined_text(struct jinja_render *r, const char *text) {
    return jinja_undefined(r, JINJA_NO_SUCH, jinja_none(), jinja_text(r, text, strlen(text), true).string);
}

struct jinja_value jinja_text(struct jinja_render *r, const char *bytes, size_t n_bytes, bool trusted) {
    struct jinja_string *s = jinja_alloc(r, 1, sizeof *s);
    *s = (struct jinja_string){bytes, n_bytes, SIZE_MAX, NULL, 1, trusted, false};
    return jinja_string_value(s);
}

struct jinja_list *jinja_list_new(struct jinja_render *r, size_t count) {
    struct jinja_list *list = jinja_alloc(r, 1, sizeof *list);
    list->items = jinja_alloc(r, count, sizeof *list->items);
    list->count = count;
    return list;
}

struct jinja_value jinja_list_value(enum jinja_kind kind, struct jinja_list *list) {
    return (struct jinja_value){.kind = (uint8_t)kind, .list = list};
}

struct jinja_value jinja_pair(struct jinja_render *r, struct jinja_value a, struct jinja_value b) {
    struct jinja_list *list = jinja_list_new(r, 2);
    list->items[0] = a;
    list->items[1] = b;
    return jinja_list_value(JINJA_TUPLE, list);
}

void jinja_push(struct jinja_render *r, struct jinja_builder *builder, struct jinja_value item) {
    if (builder->count == builder->capacity) {
        size_t capacity = builder->capacity ? builder->capacity * 2 : 8;
        struct jinja_value *items = jinja_alloc(r, capacity, sizeof *items);
        if (builder->count) memcpy(items, builder->items, builder->count * sizeof *items);
        builder->items = items;
        builder->capacity = capacity;
    }
    builder->items[builder->count++] = item;
}

struct jinja_value jinja_finish(struct jinja_render *r, struct jinja_builder *builder, enum jinja_kind kind) {
    struct jinja_list *list = jinja_alloc(r, 1, sizeof *list);
    list->items = builder->items;
    list->count = builder->count;
    return jinja_list_value(kind, list);
}

// Dicts. Up to this many entries a plain scan is faster than an index.
enum { DICT_SCAN_MAX = 8 };

// Equal keys hash alike, as in Python: 1 == 1.0 == True.
static uint64_t key_hash(struct jinja_render *r, struct jinja_value key) {
    switch (key.kind) {
    case JINJA_STRING:
        jinja_charge_bytes(r, key.string->n_bytes);
        return hash_bytes_seeded(key.string->bytes, key.string->n_bytes);
    case JINJA_BOOL:
    case JINJA_INT: {
        double d = (double)jinja_as_int(key);
        return hash_bytes_seeded(&d, sizeof d);
    }
    case JINJA_FLOAT: {
        double d = key.real == 0 ? 0 : key.real;
        return hash_bytes_seeded(&d, sizeof d);
    }
    case JINJA_TUPLE: {
        uint64_t hash = 17;
        jinja_enter(r);
        for (size_t i = 0; i < key.list->count; i++) hash = hash * 31 + key_hash(r, key.list->items[i]);
        jinja_leave(r);
        return hash;
    }
    case JINJA_LIST:
    case JINJA_DICT:
        jinja_raise(r, "TypeError: unhashable type: '%s'", jinja_type_name(key));
    default:
        return key.kind;
    }
}

struct jinja_dict *jinja_dict_new(struct jinja_render *r, size_t capacity) {
    struct jinja_dict *dict = jinja_alloc(r, 1, sizeof *dict);
    dict->entries = jinja_alloc(r, capacity, sizeof *dict->entries);
    if (capacity > DICT_SCAN_MAX) {
        dict->index_size = 32;
        while (dict->index_size < capacity * 2) dict->index_size *= 2;
        dict->index = jinja_alloc(r, dict->index_size, sizeof *dict->index);
    }
    return dict;
}

// The number of the key's entry, or SIZE_MAX; *slot is then the free place in the index.
static size_t dict_find(struct jinja_render *r, const struct jinja_dict *dict, struct jinja_value key, size_t *slot) {
    uint64_t hash = key_hash(r, key);
    if (!dict->index) {
        for (size_t i = 0; i < dict->count; i++)
            if (jinja_equal(r, dict->entries[i].key, key)) return i;
        return SIZE_MAX;
    }
    size_t mask = dict->index_size - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        if (!dict->index[i]) {
            *slot = i;
            return SIZE_MAX;
        }
        if (jinja_equal(r, dict->entries[dict->index[i] - 1].key, key)) return dict->index[i] - 1;
    }
}

void jinja_dict_put(struct jinja_render *r, struct jinja_dict *dict, struct jinja_value key, struct jinja_value value) {
    size_t slot = 0;
    size_t i = dict_find(r, dict, key, &slot);
    if (i != SIZE_MAX) {
        dict->entries[i].value = value;
        return;
    }
    dict->entries[dict->count++] = (struct jinja_entry){key, value};
    if (dict->index) dict->index[slot] = (uint32_t)dict->count;
}

const struct jinja_value *jinja_dict_find(struct jinja_render *r, const struct jinja_dict *dict,
                                          struct jinja_value key) {
    size_t slot;
    size_t i = dict_find(r, dict, key, &slot);
    return i == SIZE_MAX ? NULL : &dict->entries[i].value;
}

const struct jinja_value *jinja_dict_find_text(struct jinja_render *r, const struct jinja_dict *dict, const char *bytes,
                                               size_t n_bytes) {
    struct jinja_string key = {.bytes = bytes, .n_bytes = n_bytes, .n_chars = SIZE_MAX, .n_runs = 1};
    return jinja_dict_find(r, dict, jinja_string_value(&key));
}

struct jinja_value *jinja_namespace_find(const struct jinja_namespace *space, const struct jinja_string *name) {
    for (size_t i = 0; i < space->count; i++)
        if (jinja_string_equal(space->items[i].name, name)) return &space->items[i].value;
    return NULL;
}

void jinja_namespace_put(struct jinja_render *r, struct jinja_namespace *space, const struct jinja_string *name,
                         struct jinja_value value) {
    jinja_charge(r, space->count / 4);
    struct jinja_value *known = jinja_namespace_find(space, name);
    if (known) {
        *known = value;
        return;
    }
    if (space->count == space->capacity) {
        size_t capacity = space->capacity ? space->capacity * 2 : 8;
        struct jinja_keyword *items = jinja_alloc(r, capacity, sizeof *items);
        if (space->count) memcpy(items, space->items, space->count * sizeof *items);
        space->items = items;
        space->capacity = capacity;
    }
    space->items[space->count++] = (struct jinja_keyword){name, value};
}

static const char *const type_names[] = {
    [JINJA_ABSENT] = "Undefined",
    [JINJA_UNDEFINED] = "Undefined",
    [JINJA_NONE] = "NoneType",
    [JINJA_BOOL] = "bool",
    [JINJA_INT] = "int",
    [JINJA_BIG] = "int",
    [JINJA_FLOAT] = "float",
    [JINJA_STRING] = "str",
    [JINJA_LIST] = "list",
    [JINJA_TUPLE] = "tuple",
    [JINJA_RANGE] = "range",
    [JINJA_KEYS] = "dict_keys",
    [JINJA_VALUES] = "dict_values",
    [JINJA_ITEMS] = "dict_items",
    [JINJA_GENERATOR] = "generator",
    [JINJA_DICT] = "dict",
    [JINJA_NAMESPACE] = "Namespace",
    [JINJA_LOOP] = "LoopContext",
    [JINJA_MACRO] = "Macro",
    [JINJA_METHOD] = "builtin_function_or_method",
    [JINJA_FUNCTION] = "function",
};

const char *jinja_type_name(struct jinja_value v) {
    return type_names[v.kind];
}

bool jinja_truth(struct jinja_value v) {
    switch (v.kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.boolean;
    case JINJA_INT:
        return v.integer != 0;
    case JINJA_FLOAT:
        return v.real != 0;
    case JINJA_STRING:
        return v.string->n_bytes > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
    case JINJA_KEYS:
    case JINJA_VALUES:
    case JINJA_ITEMS:
        return v.list->count > 0;
    case JINJA_DICT:
        return v.dict->count > 0;
    default:
        return true;
    }
}

bool jinja_text_is(struct jinja_value v, const char *text) {
    size_t n = strlen(text);
    return v.kind == JINJA_STRING && v.string->n_bytes == n && !memcmp(v.string->bytes, text, n);
}

noreturn void jinja_raise_undefined(struct jinja_render *r, struct jinja_value v) {
    int n = v.string->n_bytes < 200 ? (int)v.string->n_bytes : 200;
    const char *name = v.string->bytes;
    struct jinja_value owner = {.kind = v.owner};
    const char *type = v.owner == JINJA_NONE ? "None" : jinja_type_name(owner);
    const char *object = v.owner == JINJA_NONE ? "" : " object";
    switch ((enum jinja_undefined)v.reason) {
    case JINJA_NO_NAME:
        jinja_raise(r, "UndefinedError: '%.*s' is undefined", n, name);
    case JINJA_NO_ATTRIBUTE:
        jinja_raise(r, "UndefinedError: '%s%s' has no attribute '%.*s'", type, object, n, name);
    case JINJA_NO_ELEMENT:
        jinja_raise(r, "UndefinedError: %s%s has no element %.*s", type, object, n, name);
    case JINJA_UNSAFE:
        jinja_raise(r, "SecurityError: access to attribute '%.*s' of '%s' object is unsafe.", n, name,
                    jinja_type_name(owner));
    default:
        jinja_raise(r, "UndefinedError: %.*s", n, name);
    }
}

static struct jinja_list *characters(struct jinja_render *r, const struct jinja_string *s) {
    struct jinja_list *list = jinja_list_new(r, jinja_string_length(r, s));
    size_t begin = 0;
    for (size_t i = 0; i < list->count; i++) {
        size_t end = jinja_string_next(s, begin);
        list->items[i] = jinja_string_value(jinja_string_slice(r, s, begin, end));
        begin = end;
    }
    return list;
}

static struct jinja_list *dict_keys(struct jinja_render *r, const struct jinja_dict *dict) {
    struct jinja_list *list = jinja_list_new(r, dict->count);
    for (size_t i = 0; i < dict->count; i++) list->items[i] = dict->entries[i].key;
    return list;
}

static struct jinja_list *rest_of_generator(struct jinja_render *r, struct jinja_list *generator) {
    struct jinja_list *list = jinja_alloc(r, 1, sizeof *list);
    list->count = generator->count - generator->taken;
    list->items = list->count ? generator->items + generator->taken : NULL;
    generator->taken = generator->count;
    return list;
}

bool jinja_can_iterate(struct jinja_value v) {
    return v.kind == JINJA_UNDEFINED || v.kind == JINJA_STRING || v.kind == JINJA_DICT || v.kind == JINJA_LOOP ||
           jinja_is_listlike(v);
}

const struct jinja_list *jinja_iterate(struct jinja_render *r, struct jinja_value v) {
    switch (v.kind) {
    case JINJA_UNDEFINED:
        if (v.reason == JINJA_UNSAFE) jinja_raise_undefined(r, v);
        return jinja_list_new(r, 0);
    case JINJA_STRING:
        return characters(r, v.string);
    case JINJA_DICT:
        return dict_keys(r, v.dict);
    case JINJA_GENERATOR:
        return rest_of_generator(r, v.list);
    default:
        if (jinja_is_listlike(v)) return v.list;
        jinja_raise(r, "TypeError: '%s' object is not iterable", jinja_type_name(v));
    }
}

size_t jinja_length(struct jinja_render *r, struct jinja_value v) {
    if (v.kind == JINJA_UNDEFINED) return 0;
    if (v.kind == JINJA_STRING) return jinja_string_length(r, v.string);
    if (v.kind == JINJA_DICT) return v.dict->count;
    if (v.kind == JINJA_LOOP) return v.loop->items->count;
    if (jinja_is_listlike(v) && v.kind != JINJA_GENERATOR) return v.list->count;
    jinja_raise(r, "TypeError: object of type '%s' has no len()", jinja_type_name(v));
}

int64_t jinja_arg_int(struct jinja_render *r, const struct jinja_call *call, int i, int64_t otherwise) {
    struct jinja_value v = call->bound[i];
    if (v.kind == JINJA_ABSENT) return otherwise;
    jinja_need_defined(r, v);
    if (!jinja_is_integer(v))
        jinja_raise(r, "TypeError: '%s' object cannot be interpreted as an integer", jinja_type_name(v));
    return jinja_as_int(v);
}

bool jinja_arg_bool(const struct jinja_call *call, int i, bool otherwise) {
    return call->bound[i].kind == JINJA_ABSENT ? otherwise : jinja_truth(call->bound[i]);
}
