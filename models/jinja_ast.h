// What a template is once it is parsed. Read-only afterwards; threads share it.
#pragma once

#include "base/map.h"
#include "models/jinja_operator.h"
#include "models/jinja_value.h"

enum jinja_node_kind {
    // Expressions: which fields of the node they use.
    JINJA_CONST,       // value
    JINJA_NAME,        // symbol, text
    JINJA_MAKE_LIST,   // items
    JINJA_MAKE_TUPLE,  // items
    JINJA_MAKE_DICT,   // items: key, value, key, value ...
    JINJA_ATTRIBUTE,   // a.text
    JINJA_ITEM,        // a[b]
    JINJA_SLICE,       // as b of an item: [a:b:c], each may be NULL
    JINJA_CALL,        // a(call)
    JINJA_FILTER,      // a|text(call); a is NULL for the first filter of a block
    JINJA_TEST,        // a is text(call)
    JINJA_NOT,         // not a
    JINJA_NEGATE,      // -a
    JINJA_POSITIVE,    // +a
    JINJA_AND,         // a and b
    JINJA_OR,          // a or b
    JINJA_CONDITIONAL, // b if a else c; c may be NULL
    JINJA_BINARY,      // a op b
    JINJA_CONCAT,      // items joined by ~
    JINJA_COMPARE,     // a, then items[i] with operators[i]
    // Statements.
    JINJA_DATA,         // value: text of the template
    JINJA_PRINT,        // {{ a }}
    JINJA_IF,           // items: condition, body, condition, body ...; b: the else body or NULL
    JINJA_FOR,          // for a in b if c: items; otherwise: body; `flag`: recursive
    JINJA_SET,          // a = b
    JINJA_SET_BLOCK,    // a = captured items, through the filter b or NULL
    JINJA_MACRO_NODE,   // text, symbol, signature, items
    JINJA_CALL_BLOCK,   // call a with a caller of signature and items; a NULL: {% generation %}
    JINJA_FILTER_BLOCK, // captured items through the filter a
    JINJA_WITH,         // parallel: target a, values; items
    JINJA_BODY,         // items
    JINJA_SCOPE,        // items in a scope of their own
    JINJA_BREAK,
    JINJA_CONTINUE,
    // Targets of assignments: JINJA_NAME, JINJA_MAKE_TUPLE of targets, and this one.
    JINJA_NAMESPACE_SLOT, // symbol, text: ns.text
};

struct jinja_keyword_node {
    const struct jinja_string *name;
    const struct jinja_node *value;
};

struct jinja_arguments {
    const struct jinja_node **positional;
    size_t n_positional;
    struct jinja_keyword_node *keywords;
    size_t n_keywords;
    const struct jinja_node *star, *double_star; // f(*star, **double_star) or NULL
};

struct jinja_signature {
    int *parameters; // symbols
    const struct jinja_string **names;
    const struct jinja_node **defaults; // NULL: none
    size_t count;
    bool uses_varargs, uses_kwargs, uses_caller;
};

struct jinja_node {
    uint8_t kind; // enum jinja_node_kind
    uint8_t op;   // enum jinja_binary
    bool flag;
    int line, symbol;
    const struct jinja_node *a, *b, *c;
    const struct jinja_node **items;
    size_t n_items;
    union {
        struct jinja_value value;
        const struct jinja_string *text;
    };
    union {
        const struct jinja_arguments *call;
        const struct jinja_signature *signature;
        const uint8_t *operators; // enum jinja_comparison
        const struct jinja_node *otherwise;
    };
    const struct jinja_builtin *builtin; // of a filter or test; NULL: unknown, an error once it is reached
};

struct jinja_program {
    struct arena arena;
    struct map symbols; // name -> number
    struct str_view *names;
    bool *is_read; // whether an expression reads the name
    size_t n_symbols, symbols_capacity;
    const struct jinja_node *body;
    // Symbols that the evaluator binds itself.
    int loop, caller, varargs, kwargs;
};
