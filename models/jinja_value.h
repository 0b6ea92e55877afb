// Values of the template language, with Python's semantics, and the rendering that owns them.
//
// Everything made while rendering lies in one arena with a limit. Lists, tuples, dicts and strings never change once
// they are built (the sandbox refuses append, pop, update ...), so they share memory freely; namespaces are the only
// mutable objects. An error anywhere leaves the rendering by longjmp to where it began, which is safe because nothing
// inside owns anything but arena memory.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "models/prompt_text.h"
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

enum jinja_kind {
    JINJA_ABSENT, // no value at all: an argument that was not given, a name that is not bound
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_BIG, // an integer beyond 64 bits from the context: it prints and compares for equality, nothing more
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_RANGE,
    JINJA_KEYS,   // dict.keys()
    JINJA_VALUES, // dict.values()
    JINJA_ITEMS,  // dict.items()
    JINJA_GENERATOR,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_METHOD,
    JINJA_FUNCTION,
};

// Why a value is undefined; decides the text of the error when it is used.
enum jinja_undefined {
    JINJA_NO_NAME,      // 'x' is undefined
    JINJA_NO_ATTRIBUTE, // 'dict object' has no attribute 'x'
    JINJA_NO_ELEMENT,   // list object has no element 3
    JINJA_UNSAFE,       // the sandbox refuses the attribute
    JINJA_NO_SUCH,      // the string is the whole text
};

// UTF-8 text that remembers which bytes the template wrote. Origins alternate: the first n bytes up to ends[0] are
// `trusted`, those up to ends[1] are not, and so on. A text of one origin has ends == NULL.
struct jinja_string {
    const char *bytes;
    size_t n_bytes;
    size_t n_chars; // SIZE_MAX: not counted yet
    const size_t *ends;
    uint32_t n_runs; // 1 when ends is NULL
    bool trusted;    // of the first run
    bool markup;     // made by |safe or |escape: plain text joined with it by + is HTML-escaped, as in Python
};

struct jinja_value {
    uint8_t kind;   // enum jinja_kind
    bool untrusted; // of a bool or number: it came from the request
    uint8_t reason; // of an undefined value: enum jinja_undefined
    uint8_t owner;  // of an undefined value: the kind of the object that lacks it
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct jinja_string *string; // also JINJA_BIG (its digits) and JINJA_UNDEFINED (its name or text)
        struct jinja_list *list;
        const struct jinja_dict *dict;
        struct jinja_namespace *space;
        struct jinja_loop *loop;
        const struct jinja_macro *macro;
        const struct jinja_method *method;
        const struct jinja_builtin *function;
    };
};

struct jinja_list {
    struct jinja_value *items;
    size_t count;
    struct jinja_room *room;   // of a list made by +; otherwise NULL
    size_t taken;              // of a generator: items that were consumed
    int64_t start, stop, step; // of a range
};

// Room behind the items of lists that share their beginning: whoever holds all that is used may append in place, so
// that templates which build a list item by item, list = list + [item], do not copy it every time.
struct jinja_room {
    size_t used, capacity;
};

struct jinja_entry {
    struct jinja_value key, value;
};

struct jinja_dict {
    struct jinja_entry *entries; // in the order of insertion
    size_t count;
    uint32_t *index; // open addressing over entry numbers + 1; NULL for few entries
    size_t index_size;
};

// Called with `self` and either raw arguments or, when the builtin declares parameters, `bound` ones.
struct jinja_keyword {
    const struct jinja_string *name;
    struct jinja_value value;
};

enum { JINJA_BOUND_MAX = 6 };

struct jinja_call {
    struct jinja_value self;
    const struct jinja_value *args;
    size_t n_args;
    const struct jinja_keyword *keywords;
    size_t n_keywords;
    struct jinja_value bound[JINJA_BOUND_MAX]; // JINJA_ABSENT where not given
    const char *name;                          // of what is called, for error texts
};

struct jinja_render;

struct jinja_builtin {
    const char *name;
    struct jinja_value (*function)(struct jinja_render *r, const struct jinja_call *call);
    const char *parameters; // names separated by blanks; NULL: takes any arguments raw
    int n_required;
    bool positional_only;
};

struct jinja_method {
    struct jinja_value self;
    const struct jinja_builtin *builtin; // NULL: exists in Python, but not here
    const char *name;
};

struct jinja_binding {
    int symbol;
    struct jinja_value value;
    struct jinja_binding *next;
};

// Names bound by one for-iteration, macro call or with-block. The outermost names live in jinja_render.globals.
struct jinja_scope {
    struct jinja_binding *bindings;
    struct jinja_scope *parent; // NULL: next are the globals
};

struct jinja_namespace {
    struct jinja_keyword *items;
    size_t count, capacity;
};

struct jinja_loop {
    const struct jinja_list *items;
    size_t index0;
    int64_t depth0;
    bool has_changed_args;
    struct jinja_value changed;    // the last arguments of loop.changed(), as a tuple
    const struct jinja_node *node; // of a recursive loop; otherwise NULL
    struct jinja_scope *scope;     // where a recursive loop was written
};

struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope; // where it was defined
    const char *name;
};

struct jinja_program;

struct jinja_render {
    const struct jinja_program *program;
    struct arena arena;
    struct prompt_text out; // the output, and above a mark whatever string is being built
    size_t output_limit;
    uint64_t steps_left;
    int depth_left;
    struct jinja_value *globals; // [program's symbols]
    struct jinja_scope *scope;   // innermost; NULL: only the globals
    int64_t now_s;
    struct err *err;
    jmp_buf escape;
};

// Errors and budgets.
noreturn void jinja_raise(struct jinja_render *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
noreturn void jinja_exhausted(struct jinja_render *r, const char *what); // ERR_LIMIT
void jinja_charge(struct jinja_render *r, size_t steps);
void jinja_charge_bytes(struct jinja_render *r, size_t n_bytes);
static inline void jinja_enter(struct jinja_render *r) {
    if (r->depth_left-- <= 0) jinja_exhausted(r, "nesting is too deep");
    jinja_charge(r, 1);
}
static inline void jinja_leave(struct jinja_render *r) {
    r->depth_left++;
}
void *jinja_alloc(struct jinja_render *r, size_t count, size_t n_bytes); // zeroed

// Constructors.
static inline struct jinja_value jinja_none(void) {
    return (struct jinja_value){.kind = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool b) {
    return (struct jinja_value){.kind = JINJA_BOOL, .boolean = b};
}
static inline struct jinja_value jinja_int(int64_t i) {
    return (struct jinja_value){.kind = JINJA_INT, .integer = i};
}
static inline struct jinja_value jinja_float(double d) {
    return (struct jinja_value){.kind = JINJA_FLOAT, .real = d};
}
static inline struct jinja_value jinja_string_value(const struct jinja_string *s) {
    return (struct jinja_value){.kind = JINJA_STRING, .string = s};
}
struct jinja_value jinja_undefined(struct jinja_render *r, enum jinja_undefined reason, struct jinja_value owner,
                                   const struct jinja_string *name);
struct jinja_value jinja_undefined_text(struct jinja_render *r, const char *text);
// The bytes are not copied and must live as long as the rendering.
struct jinja_value jinja_text(struct jinja_render *r, const char *bytes, size_t n_bytes, bool trusted);
struct jinja_list *jinja_list_new(struct jinja_render *r, size_t count); // items are absent values
struct jinja_value jinja_list_value(enum jinja_kind kind, struct jinja_list *list);
struct jinja_value jinja_pair(struct jinja_render *r, struct jinja_value a, struct jinja_value b); // a tuple

// A list that grows while it is built.
struct jinja_builder {
    struct jinja_value *items;
    size_t count, capacity;
};
void jinja_push(struct jinja_render *r, struct jinja_builder *builder, struct jinja_value item);
struct jinja_value jinja_finish(struct jinja_render *r, struct jinja_builder *builder, enum jinja_kind kind);

// Dicts are filled through a builder with room for a known number of entries and then never change.
struct jinja_dict *jinja_dict_new(struct jinja_render *r, size_t capacity);
void jinja_dict_put(struct jinja_render *r, struct jinja_dict *dict, struct jinja_value key, struct jinja_value value);
const struct jinja_value *jinja_dict_find(struct jinja_render *r, const struct jinja_dict *dict,
                                          struct jinja_value key); // NULL: not there
const struct jinja_value *jinja_dict_find_text(struct jinja_render *r, const struct jinja_dict *dict, const char *bytes,
                                               size_t n_bytes);
struct jinja_value *jinja_namespace_find(const struct jinja_namespace *space, const struct jinja_string *name);
void jinja_namespace_put(struct jinja_render *r, struct jinja_namespace *space, const struct jinja_string *name,
                         struct jinja_value value);

// Facts about a value.
static inline bool jinja_is_listlike(struct jinja_value v) {
    return v.kind >= JINJA_LIST && v.kind <= JINJA_GENERATOR;
}
static inline bool jinja_is_integer(struct jinja_value v) {
    return v.kind == JINJA_BOOL || v.kind == JINJA_INT;
}
static inline bool jinja_is_number(struct jinja_value v) {
    return jinja_is_integer(v) || v.kind == JINJA_FLOAT;
}
static inline int64_t jinja_as_int(struct jinja_value v) {
    return v.kind == JINJA_BOOL ? v.boolean : v.integer;
}
const char *jinja_type_name(struct jinja_value v); // as Python: "str", "NoneType"
bool jinja_truth(struct jinja_value v);
bool jinja_text_is(struct jinja_value v, const char *text);
// The items of anything that can be iterated, a generator's only once; raises otherwise.
const struct jinja_list *jinja_iterate(struct jinja_render *r, struct jinja_value v);
bool jinja_can_iterate(struct jinja_value v);
size_t jinja_length(struct jinja_render *r, struct jinja_value v); // len(v); raises when it has none
noreturn void jinja_raise_undefined(struct jinja_render *r, struct jinja_value v);
// Raises when v is undefined: for operations that Python's Undefined refuses.
static inline void jinja_need_defined(struct jinja_render *r, struct jinja_value v) {
    if (v.kind == JINJA_UNDEFINED) jinja_raise_undefined(r, v);
}
// The n-th bound argument as an integer, a truth value or a string, or what stands in for it.
int64_t jinja_arg_int(struct jinja_render *r, const struct jinja_call *call, int i, int64_t otherwise);
bool jinja_arg_bool(const struct jinja_call *call, int i, bool otherwise);
