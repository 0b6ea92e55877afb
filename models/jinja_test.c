// Tests: what may stand behind `is`.
#include "models/jinja_builtin.h"
#include "models/jinja_method.h"
#include "models/jinja_operator.h"
#include "models/jinja_string.h"

#include <math.h>
#include <string.h>

static struct jinja_value test_defined(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind != JINJA_UNDEFINED);
}
static struct jinja_value test_undefined(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_UNDEFINED);
}
static struct jinja_value test_none(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_NONE);
}
static struct jinja_value test_boolean(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_BOOL);
}
static struct jinja_value test_true(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_BOOL && call->self.boolean);
}
static struct jinja_value test_false(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_BOOL && !call->self.boolean);
}
static struct jinja_value test_string(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_STRING);
}
static struct jinja_value test_number(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(jinja_is_number(call->self) || call->self.kind == JINJA_BIG);
}
static struct jinja_value test_integer(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_INT || call->self.kind == JINJA_BIG);
}
static struct jinja_value test_float(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_FLOAT);
}
static struct jinja_value test_mapping(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_DICT);
}
static struct jinja_value test_iterable(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(jinja_can_iterate(call->self));
}
// What has a length and can be indexed; an undefined value counts, as it does in Jinja.
static struct jinja_value test_sequence(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    uint8_t kind = call->self.kind;
    return jinja_bool(kind == JINJA_STRING || kind == JINJA_DICT || kind == JINJA_LIST || kind == JINJA_TUPLE ||
                      kind == JINJA_RANGE || kind == JINJA_UNDEFINED);
}
static struct jinja_value test_callable(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    uint8_t kind = call->self.kind;
    return jinja_bool(kind == JINJA_MACRO || kind == JINJA_METHOD || kind == JINJA_FUNCTION || kind == JINJA_LOOP ||
                      kind == JINJA_UNDEFINED);
}
static struct jinja_value test_escaped(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    return jinja_bool(call->self.kind == JINJA_STRING && call->self.string->markup);
}

static struct jinja_value string_property(struct jinja_render *r, const struct jinja_call *call, const char *method) {
    if (call->self.kind != JINJA_STRING) return jinja_bool(false);
    return jinja_builtin_find(jinja_string_methods, method, strlen(method))->function(r, call);
}
static struct jinja_value test_upper(struct jinja_render *r, const struct jinja_call *call) {
    return string_property(r, call, "isupper");
}
static struct jinja_value test_lower(struct jinja_render *r, const struct jinja_call *call) {
    return string_property(r, call, "islower");
}

static bool divisible(struct jinja_render *r, struct jinja_value v, struct jinja_value by, double rest) {
    struct jinja_value modulo = jinja_binary(r, JINJA_MOD, v, by);
    return jinja_is_number(modulo) && jinja_as_double(r, modulo) == rest;
}
static struct jinja_value test_odd(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(divisible(r, call->self, jinja_int(2), 1));
}
static struct jinja_value test_even(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(divisible(r, call->self, jinja_int(2), 0));
}
static struct jinja_value test_divisibleby(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(divisible(r, call->self, call->bound[0], 0));
}

static struct jinja_value test_eq(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(jinja_compare(r, JINJA_EQ, call->self, call->bound[0]));
}
static struct jinja_value test_ne(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(jinja_compare(r, JINJA_NE, call->self, call->bound[0]));
}
static struct jinja_value test_lt(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(jinja_compare(r, JINJA_LT, call->self, call->bound[0]));
}
static struct jinja_value test_le(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(jinja_compare(r, JINJA_LE, call->self, call->bound[0]));
}
static struct jinja_value test_gt(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(jinja_compare(r, JINJA_GT, call->self, call->bound[0]));
}
static struct jinja_value test_ge(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(jinja_compare(r, JINJA_GE, call->self, call->bound[0]));
}
static struct jinja_value test_in(struct jinja_render *r, const struct jinja_call *call) {
    return jinja_bool(jinja_compare(r, JINJA_IN, call->self, call->bound[0]));
}
// Identity: of none, booleans and small integers by value, of everything else by object.
static struct jinja_value test_sameas(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    struct jinja_value a = call->self, b = call->bound[0];
    if (a.kind != b.kind) return jinja_bool(false);
    if (a.kind == JINJA_NONE) return jinja_bool(true);
    if (a.kind == JINJA_BOOL) return jinja_bool(a.boolean == b.boolean);
    if (a.kind == JINJA_STRING) return jinja_bool(jinja_string_equal(a.string, b.string));
    return jinja_bool(a.integer == b.integer);
}
static struct jinja_value test_filter(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    const struct jinja_value v = call->self;
    return jinja_bool(v.kind == JINJA_STRING && jinja_find_filter(v.string->bytes, v.string->n_bytes));
}
static struct jinja_value test_test(struct jinja_render *r, const struct jinja_call *call) {
    (void)r;
    const struct jinja_value v = call->self;
    return jinja_bool(v.kind == JINJA_STRING && jinja_builtin_find(jinja_tests, v.string->bytes, v.string->n_bytes));
}

const struct jinja_builtin jinja_tests[] = {
    {"defined", test_defined, "", 0, true},     {"undefined", test_undefined, "", 0, true},
    {"none", test_none, "", 0, true},           {"boolean", test_boolean, "", 0, true},
    {"true", test_true, "", 0, true},           {"false", test_false, "", 0, true},
    {"string", test_string, "", 0, true},       {"number", test_number, "", 0, true},
    {"integer", test_integer, "", 0, true},     {"float", test_float, "", 0, true},
    {"mapping", test_mapping, "", 0, true},     {"iterable", test_iterable, "", 0, true},
    {"sequence", test_sequence, "", 0, true},   {"callable", test_callable, "", 0, true},
    {"escaped", test_escaped, "", 0, true},     {"upper", test_upper, "", 0, true},
    {"lower", test_lower, "", 0, true},         {"odd", test_odd, "", 0, true},
    {"even", test_even, "", 0, true},           {"divisibleby", test_divisibleby, "num", 1, false},
    {"eq", test_eq, "other", 1, false},         {"equalto", test_eq, "other", 1, false},
    {"==", test_eq, "other", 1, false},         {"ne", test_ne, "other", 1, false},
    {"!=", test_ne, "other", 1, false},         {"lt", test_lt, "other", 1, false},
    {"lessthan", test_lt, "other", 1, false},   {"<", test_lt, "other", 1, false},
    {"le", test_le, "other", 1, false},         {"<=", test_le, "other", 1, false},
    {"gt", test_gt, "other", 1, false},         {"greaterthan", test_gt, "other", 1, false},
    {">", test_gt, "other", 1, false},          {"ge", test_ge, "other", 1, false},
    {">=", test_ge, "other", 1, false},         {"in", test_in, "seq", 1, false},
    {"sameas", test_sameas, "other", 1, false}, {"filter", test_filter, "", 0, true},
    {"test", test_test, "", 0, true},           {.name = NULL},
};
