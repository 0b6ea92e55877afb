#include "models/jinja_operator.h"

#include "models/jinja_format.h"
#include "models/jinja_loop.h"
#include "models/jinja_method.h"
#include "models/jinja_print.h"
#include "models/jinja_string.h"

#include <math.h>
#include <string.h>

double jinja_as_double(struct jinja_render *r, struct jinja_value v) {
    if (v.kind == JINJA_BIG) jinja_raise(r, "OverflowError: integers beyond 64 bits cannot be computed with");
    return v.kind == JINJA_FLOAT ? v.real : (double)jinja_as_int(v);
}

// Exact for every pair of a 64-bit integer and a double.
static int order_int_double(int64_t i, double d) {
    if (isnan(d)) return 1;
    if (d >= 0x1p63) return -1;
    if (d < -0x1p63) return 1;
    int64_t whole = (int64_t)d;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = d - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static int order_numbers(struct jinja_value a, struct jinja_value b) {
    if (a.kind == JINJA_FLOAT && b.kind == JINJA_FLOAT) return a.real < b.real ? -1 : a.real != b.real;
    if (a.kind == JINJA_FLOAT) return -order_int_double(jinja_as_int(b), a.real);
    if (b.kind == JINJA_FLOAT) return order_int_double(jinja_as_int(a), b.real);
    int64_t x = jinja_as_int(a), y = jinja_as_int(b);
    return x < y ? -1 : x > y;
}

static bool lists_equal(struct jinja_render *r, const struct jinja_list *a, const struct jinja_list *b) {
    if (a == b) return true;
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (!jinja_equal(r, a->items[i], b->items[i])) return false;
    return true;
}

static bool dicts_equal(struct jinja_render *r, const struct jinja_dict *a, const struct jinja_dict *b) {
    if (a == b) return true;
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct jinja_value *other = jinja_dict_find(r, b, a->entries[i].key);
        if (!other || !jinja_equal(r, a->entries[i].value, *other)) return false;
    }
    return true;
}

bool jinja_equal(struct jinja_render *r, struct jinja_value a, struct jinja_value b) {
    if (jinja_is_number(a) && jinja_is_number(b)) return order_numbers(a, b) == 0;
    if (a.kind != b.kind) return false;
    bool equal;
    switch (a.kind) {
    case JINJA_NONE:
    case JINJA_UNDEFINED:
        return true;
    case JINJA_STRING:
    case JINJA_BIG:
        jinja_charge_bytes(r, a.string->n_bytes);
        return jinja_string_equal(a.string, b.string);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
        jinja_enter(r);
        equal = lists_equal(r, a.list, b.list);
        jinja_leave(r);
        return equal;
    case JINJA_DICT:
        jinja_enter(r);
        equal = dicts_equal(r, a.dict, b.dict);
        jinja_leave(r);
        return equal;
    default:
        return a.list == b.list; // identity: every other kind holds a pointer
    }
}

static int order_strings(struct jinja_render *r, const struct jinja_string *a, const struct jinja_string *b) {
    size_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
    jinja_charge_bytes(r, n);
    int order = memcmp(a->bytes, b->bytes, n); // the order of UTF-8 bytes is that of code points
    return order ? order : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

int jinja_order(struct jinja_render *r, struct jinja_value a, struct jinja_value b, const char *sign) {
    jinja_need_defined(r, a);
    jinja_need_defined(r, b);
    if (jinja_is_number(a) && jinja_is_number(b)) return order_numbers(a, b);
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) return order_strings(r, a.string, b.string);
    if (a.kind != b.kind || (a.kind != JINJA_LIST && a.kind != JINJA_TUPLE))
        jinja_raise(r, "TypeError: '%s' not supported between instances of '%s' and '%s'", sign, jinja_type_name(a),
                    jinja_type_name(b));
    size_t n = a.list->count < b.list->count ? a.list->count : b.list->count;
    int order = (a.list->count > b.list->count) - (a.list->count < b.list->count);
    jinja_enter(r);
    for (size_t i = 0; i < n; i++)
        if (!jinja_equal(r, a.list->items[i], b.list->items[i])) {
            order = jinja_order(r, a.list->items[i], b.list->items[i], sign);
            break;
        }
    jinja_leave(r);
    return order;
}

bool jinja_contains(struct jinja_render *r, struct jinja_value container, struct jinja_value item) {
    if (container.kind == JINJA_STRING) {
        if (item.kind != JINJA_STRING)
            jinja_raise(r, "TypeError: 'in <string>' requires string as left operand, not %s", jinja_type_name(item));
        return jinja_string_find(r, container.string, item.string, 0) != SIZE_MAX;
    }
    if (container.kind == JINJA_DICT) return jinja_dict_find(r, container.dict, item) != NULL;
    if (!jinja_can_iterate(container))
        jinja_raise(r, "TypeError: argument of type '%s' is not iterable", jinja_type_name(container));
    const struct jinja_list *list = jinja_iterate(r, container);
    jinja_charge(r, list->count / 8);
    for (size_t i = 0; i < list->count; i++)
        if (jinja_equal(r, list->items[i], item)) return true;
    return false;
}

bool jinja_compare(struct jinja_render *r, enum jinja_comparison op, struct jinja_value a, struct jinja_value b) {
    bool nan = (a.kind == JINJA_FLOAT && isnan(a.real)) || (b.kind == JINJA_FLOAT && isnan(b.real));
    switch (op) {
    case JINJA_EQ:
        return jinja_equal(r, a, b);
    case JINJA_NE:
        return !jinja_equal(r, a, b);
    case JINJA_LT:
        return jinja_order(r, a, b, "<") < 0 && !nan;
    case JINJA_LE:
        return jinja_order(r, a, b, "<=") <= 0 && !nan;
    case JINJA_GT:
        return jinja_order(r, a, b, ">") > 0 && !nan;
    case JINJA_GE:
        return jinja_order(r, a, b, ">=") >= 0 && !nan;
    case JINJA_IN:
        return jinja_contains(r, b, a);
    case JINJA_NOT_IN:
        break;
    }
    return !jinja_contains(r, b, a);
}

static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

static noreturn void raise_operands(struct jinja_render *r, enum jinja_binary op, struct jinja_value a,
                                    struct jinja_value b) {
    const char *x = jinja_type_name(a), *y = jinja_type_name(b);
    if (op == JINJA_ADD && (a.kind == JINJA_STRING || a.kind == JINJA_LIST || a.kind == JINJA_TUPLE))
        jinja_raise(r, "TypeError: can only concatenate %s (not \"%s\") to %s", x, y, x);
    jinja_raise(r, "TypeError: unsupported operand type(s) for %s: '%s' and '%s'", signs[op], x, y);
}

static noreturn void raise_overflow(struct jinja_render *r) {
    jinja_raise(r, "OverflowError: the result does not fit into 64 bits");
}

static int64_t floor_divide(struct jinja_render *r, int64_t a, int64_t b) {
    if (a == INT64_MIN && b == -1) raise_overflow(r);
    int64_t quotient = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

static int64_t power(struct jinja_render *r, int64_t base, int64_t exponent) {
    int64_t result = 1;
    while (exponent) {
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result)) raise_overflow(r);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) raise_overflow(r);
    }
    return result;
}

static struct jinja_value integer_result(struct jinja_render *r, enum jinja_binary op, int64_t a, int64_t b) {
    int64_t result = 0;
    bool overflow = false;
    if (b == 0 && (op == JINJA_DIV || op == JINJA_FLOORDIV || op == JINJA_MOD))
        jinja_raise(r, "ZeroDivisionError: division by zero");
    switch (op) {
    case JINJA_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case JINJA_SUB:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_MUL:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_DIV:
        return jinja_float((double)a / (double)b);
    case JINJA_FLOORDIV:
        result = floor_divide(r, a, b);
        break;
    case JINJA_MOD:
        result = b == -1 ? 0 : a - b * floor_divide(r, a, b);
        break;
    case JINJA_POW:
        if (b < 0) return jinja_float(pow((double)a, (double)b));
        result = power(r, a, b);
        break;
    }
    if (overflow) raise_overflow(r);
    return jinja_int(result);
}

static double float_modulo(double a, double b) {
    double rest = fmod(a, b);
    if (rest == 0) return copysign(0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

static struct jinja_value float_result(struct jinja_render *r, enum jinja_binary op, double a, double b) {
    if (b == 0 && (op == JINJA_DIV || op == JINJA_FLOORDIV || op == JINJA_MOD))
        jinja_raise(r, "ZeroDivisionError: float division by zero");
    switch (op) {
    case JINJA_ADD:
        return jinja_float(a + b);
    case JINJA_SUB:
        return jinja_float(a - b);
    case JINJA_MUL:
        return jinja_float(a * b);
    case JINJA_DIV:
        return jinja_float(a / b);
    case JINJA_FLOORDIV:
        return jinja_float(floor((a - float_modulo(a, b)) / b + 0.5));
    case JINJA_MOD:
        return jinja_float(float_modulo(a, b));
    case JINJA_POW:
        break;
    }
    return jinja_float(pow(a, b));
}

static struct jinja_list *append_list(struct jinja_render *r, const struct jinja_list *a, const struct jinja_list *b) {
    struct jinja_list *list = jinja_alloc(r, 1, sizeof *list);
    list->count = a->count + b->count;
    list->items = a->items;
    list->room = a->room;
    if (!list->room || list->room->used != a->count || list->room->capacity < list->count) {
        list->room = jinja_alloc(r, 1, sizeof *list->room);
        list->room->capacity = list->count + list->count / 2;
        list->items = jinja_alloc(r, list->room->capacity, sizeof *list->items);
        if (a->count) memcpy(list->items, a->items, a->count * sizeof *list->items);
    }
    if (b->count) memcpy(list->items + a->count, b->items, b->count * sizeof *list->items);
    list->room->used = list->count;
    return list;
}

static struct jinja_value concatenate(struct jinja_render *r, struct jinja_value a, struct jinja_value b) {
    if (a.kind == JINJA_STRING) {
        bool markup = a.string->markup || b.string->markup;
        if (markup) a = jinja_escape(r, a), b = jinja_escape(r, b);
        if (!b.string->n_bytes) return a;
        if (!a.string->n_bytes) return b;
        size_t mark = jinja_mark(r);
        jinja_append_string(r, a.string);
        jinja_append_string(r, b.string);
        return jinja_with_markup(r, jinja_take(r, mark), markup);
    }
    return jinja_list_value(a.kind, append_list(r, a.list, b.list));
}

static struct jinja_value repeat(struct jinja_render *r, struct jinja_value v, int64_t times) {
    size_t n = times > 0 ? (size_t)times : 0;
    if (v.kind == JINJA_STRING) {
        size_t mark = jinja_mark(r);
        if (!v.string->n_bytes) return v;
        jinja_charge(r, n / 8);
        for (size_t i = 0; i < n; i++) jinja_append_string(r, v.string);
        return jinja_with_markup(r, jinja_take(r, mark), v.string->markup);
    }
    size_t count = 0;
    if (!size_mul(v.list->count, n, &count)) jinja_exhausted(r, "too much memory");
    struct jinja_list *list = jinja_list_new(r, count);
    for (size_t i = 0; i < count; i++) list->items[i] = v.list->items[i % v.list->count];
    return jinja_list_value(v.kind, list);
}

static bool is_sequence(struct jinja_value v) {
    return v.kind == JINJA_STRING || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE;
}

struct jinja_value jinja_binary(struct jinja_render *r, enum jinja_binary op, struct jinja_value a,
                                struct jinja_value b) {
    if (op == JINJA_MOD && a.kind == JINJA_STRING) return jinja_percent_format(r, a.string, b);
    jinja_need_defined(r, a);
    jinja_need_defined(r, b);
    if (a.kind == JINJA_BIG || b.kind == JINJA_BIG) jinja_as_double(r, a.kind == JINJA_BIG ? a : b);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        bool integers = jinja_is_integer(a) && jinja_is_integer(b);
        struct jinja_value v = integers ? integer_result(r, op, jinja_as_int(a), jinja_as_int(b))
                                        : float_result(r, op, jinja_as_double(r, a), jinja_as_double(r, b));
        v.untrusted = a.untrusted || b.untrusted;
        return v;
    }
    if (op == JINJA_ADD && a.kind == b.kind && is_sequence(a)) return concatenate(r, a, b);
    if (op == JINJA_MUL && is_sequence(a) && jinja_is_integer(b)) return repeat(r, a, jinja_as_int(b));
    if (op == JINJA_MUL && is_sequence(b) && jinja_is_integer(a)) return repeat(r, b, jinja_as_int(a));
    raise_operands(r, op, a, b);
}

struct jinja_value jinja_negate(struct jinja_render *r, struct jinja_value v) {
    jinja_need_defined(r, v);
    if (v.kind == JINJA_FLOAT) {
        v.real = -v.real;
        return v;
    }
    if (!jinja_is_integer(v)) jinja_raise(r, "TypeError: bad operand type for unary -: '%s'", jinja_type_name(v));
    return jinja_binary(r, JINJA_SUB, jinja_int(0), v);
}

struct jinja_value jinja_positive(struct jinja_render *r, struct jinja_value v) {
    jinja_need_defined(r, v);
    if (!jinja_is_number(v)) jinja_raise(r, "TypeError: bad operand type for unary +: '%s'", jinja_type_name(v));
    return v.kind == JINJA_FLOAT ? v : jinja_binary(r, JINJA_ADD, jinja_int(0), v);
}

// Attributes and items.

static bool is_internal(const struct jinja_string *name) {
    return name->n_bytes > 4 && !memcmp(name->bytes, "__", 2) && !memcmp(name->bytes + name->n_bytes - 2, "__", 2);
}

// False when the object has no such attribute.
static bool find_attribute(struct jinja_render *r, struct jinja_value object, const struct jinja_string *name,
                           struct jinja_value *value) {
    if (is_internal(name)) {
        *value = jinja_undefined(r, JINJA_UNSAFE, object, name);
        return true;
    }
    if (object.kind == JINJA_MACRO && jinja_text_is(jinja_string_value(name), "name")) {
        *value = jinja_text(r, object.macro->name, strlen(object.macro->name), true);
        return true;
    }
    if (object.kind == JINJA_LOOP) return jinja_loop_attribute(r, object.loop, name, value);
    if (object.kind == JINJA_NAMESPACE) {
        const struct jinja_value *found = jinja_namespace_find(object.space, name);
        if (found) *value = *found;
        return found != NULL;
    }
    return jinja_method_find(r, object, name, value);
}

static bool find_item(struct jinja_render *r, struct jinja_value object, struct jinja_value key,
                      struct jinja_value *value) {
    if (object.kind == JINJA_DICT) {
        if (key.kind == JINJA_LIST || key.kind == JINJA_DICT) return false;
        const struct jinja_value *found = jinja_dict_find(r, object.dict, key);
        if (found) *value = *found;
        return found != NULL;
    }
    bool indexed = object.kind == JINJA_STRING || object.kind == JINJA_LIST || object.kind == JINJA_TUPLE ||
                   object.kind == JINJA_RANGE;
    if (!indexed || !jinja_is_integer(key)) return false;
    int64_t length = (int64_t)jinja_length(r, object), i = jinja_as_int(key);
    if (i < 0) i += length;
    if (i < 0 || i >= length) return false;
    if (object.kind == JINJA_STRING) {
        size_t begin = jinja_string_offset(r, object.string, (size_t)i);
        *value =
            jinja_string_value(jinja_string_slice(r, object.string, begin, jinja_string_next(object.string, begin)));
    } else {
        *value = object.list->items[i];
    }
    return true;
}

struct jinja_value jinja_get_attribute(struct jinja_render *r, struct jinja_value object,
                                       const struct jinja_string *name) {
    struct jinja_value value;
    jinja_need_defined(r, object);
    if (find_attribute(r, object, name, &value)) return value;
    if (find_item(r, object, jinja_string_value(name), &value)) return value;
    return jinja_undefined(r, JINJA_NO_ATTRIBUTE, object, name);
}

struct jinja_value jinja_get_item(struct jinja_render *r, struct jinja_value object, struct jinja_value key) {
    struct jinja_value value;
    jinja_need_defined(r, object);
    if (find_item(r, object, key, &value)) return value;
    if (key.kind == JINJA_STRING) {
        if (find_attribute(r, object, key.string, &value)) return value;
        return jinja_undefined(r, JINJA_NO_ATTRIBUTE, object, key.string);
    }
    size_t mark = jinja_mark(r);
    jinja_append_repr(r, key);
    return jinja_undefined(r, JINJA_NO_ELEMENT, object, jinja_take(r, mark).string);
}

static int64_t slice_number(struct jinja_render *r, struct jinja_value v) {
    jinja_need_defined(r, v);
    if (!jinja_is_integer(v))
        jinja_raise(r, "TypeError: slice indices must be integers or None or have an __index__ method");
    return jinja_as_int(v);
}

static int64_t clip_step(struct jinja_render *r, struct jinja_value v) {
    if (v.kind == JINJA_ABSENT || v.kind == JINJA_NONE) return 1;
    int64_t step = slice_number(r, v);
    return step < INT32_MIN ? INT32_MIN : step > INT32_MAX ? INT32_MAX : step;
}

// Python's slice.indices for one bound.
static int64_t clip_bound(struct jinja_render *r, struct jinja_value v, int64_t length, int64_t low, int64_t high,
                          int64_t otherwise) {
    if (v.kind == JINJA_ABSENT || v.kind == JINJA_NONE) return otherwise;
    int64_t i = slice_number(r, v);
    if (i < 0) i = i < -length ? -1 - length : i + length;
    return i < low ? low : i > high ? high : i;
}

static struct jinja_value slice_string(struct jinja_render *r, const struct jinja_string *s, int64_t start,
                                       size_t count, int64_t step) {
    if (step == 1) {
        size_t begin = jinja_string_offset(r, s, (size_t)start);
        size_t end = jinja_string_offset(r, s, (size_t)start + count);
        return jinja_string_value(jinja_string_slice(r, s, begin, end));
    }
    const struct jinja_list *characters = jinja_iterate(r, jinja_string_value(s));
    size_t mark = jinja_mark(r);
    jinja_charge(r, count / 4);
    for (size_t k = 0; k < count; k++) jinja_append_string(r, characters->items[start + (int64_t)k * step].string);
    return jinja_with_markup(r, jinja_take(r, mark), s->markup);
}

struct jinja_value jinja_get_slice(struct jinja_render *r, struct jinja_value object,
                                   const struct jinja_value bounds[3]) {
    jinja_need_defined(r, object);
    bool sliceable = object.kind == JINJA_STRING || object.kind == JINJA_LIST || object.kind == JINJA_TUPLE ||
                     object.kind == JINJA_RANGE;
    if (!sliceable) jinja_raise(r, "TypeError: '%s' object is not subscriptable", jinja_type_name(object));
    int64_t length = (int64_t)jinja_length(r, object);
    int64_t step = clip_step(r, bounds[2]);
    if (step == 0) jinja_raise(r, "ValueError: slice step cannot be zero");
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    int64_t start = clip_bound(r, bounds[0], length, low, high, step > 0 ? low : high);
    int64_t stop = clip_bound(r, bounds[1], length, low, high, step > 0 ? high : low);
    int64_t span = step > 0 ? stop - start : start - stop, pace = step > 0 ? step : -step;
    size_t count = span > 0 ? (size_t)((span + pace - 1) / pace) : 0;
    if (!count) start = 0;
    if (object.kind == JINJA_STRING) return slice_string(r, object.string, start, count, step);
    struct jinja_list *list = jinja_list_new(r, step == 1 ? 0 : count);
    list->count = count;
    if (step == 1) list->items = object.list->items + start;
    for (size_t k = 0; step != 1 && k < count; k++) list->items[k] = object.list->items[start + (int64_t)k * step];
    return jinja_list_value(object.kind, list);
}

static struct jinja_value get_step(struct jinja_render *r, struct jinja_value object, struct jinja_value key,
                                   struct jinja_value otherwise) {
    struct jinja_value v = jinja_get_item(r, object, key);
    bool replaced = v.kind == JINJA_UNDEFINED && otherwise.kind != JINJA_ABSENT && otherwise.kind != JINJA_NONE;
    return replaced ? otherwise : v;
}

struct jinja_value jinja_get_path(struct jinja_render *r, struct jinja_value object, struct jinja_value path,
                                  struct jinja_value otherwise) {
    if (path.kind != JINJA_STRING) return get_step(r, object, path, otherwise);
    const struct jinja_string *s = path.string, dot = {.bytes = ".", .n_bytes = 1, .n_chars = 1, .n_runs = 1};
    for (size_t begin = 0; begin <= s->n_bytes;) {
        size_t end = jinja_string_find(r, s, &dot, begin);
        if (end == SIZE_MAX) end = s->n_bytes;
        struct jinja_value key = jinja_string_value(jinja_string_slice(r, s, begin, end));
        int64_t number = 0;
        bool digits = end > begin && end - begin < 10;
        for (size_t i = begin; i < end && digits; i++) {
            digits = s->bytes[i] >= '0' && s->bytes[i] <= '9';
            number = number * 10 + (s->bytes[i] - '0');
        }
        object = get_step(r, object, digits ? jinja_int(number) : key, otherwise);
        begin = end + 1;
    }
    return object;
}
