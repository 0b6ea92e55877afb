#include "models/jinja_parser.h"

#include "base/utf8.h"
#include "models/jinja_builtin.h"
#include "models/jinja_lexer.h"
#include "models/jinja_method.h"

#include <stdlib.h>
#include <string.h>

struct parser {
    struct jinja_lexer lexer;
    struct jinja_program *program;
    struct jinja_token token, ahead; // the current one and the one behind it
    int depth;
    size_t n_nodes;
    int loop_depth; // for-loops around, within the same macro
    // Inside if-statements and conditional expressions an unknown filter or test is an error only when it is reached.
    bool soft;
    struct jinja_signature *signature; // of the macro around, to note the use of varargs, kwargs and caller
    jmp_buf escape;
};

// Far beyond the longest real template.
enum { NODES_MAX = 250000, MEMORY_BYTES_MAX = 96 << 20 };

struct node_list {
    const struct jinja_node **items;
    size_t count, capacity;
};

static const struct jinja_node *parse_expression(struct parser *p);
static const struct jinja_node *parse_or(struct parser *p);
static const struct jinja_node *parse_unary(struct parser *p, bool with_filters);
static const struct jinja_node *parse_postfix(struct parser *p, const struct jinja_node *node);

// Memory and tokens.

static void *alloc(struct parser *p, size_t count, size_t n_bytes) {
    size_t total = 0;
    void *memory = size_mul(count ? count : 1, n_bytes, &total) ? arena_try_alloc(&p->program->arena, total) : NULL;
    if (!memory) jinja_syntax_error(&p->lexer, p->token.line, "the template is too large");
    return memset(memory, 0, total);
}

static struct jinja_node *new_node(struct parser *p, enum jinja_node_kind kind) {
    if (++p->n_nodes > NODES_MAX) jinja_syntax_error(&p->lexer, p->token.line, "the template is too large");
    struct jinja_node *node = alloc(p, 1, sizeof *node);
    node->kind = (uint8_t)kind;
    node->line = p->token.line;
    return node;
}

static void add(struct parser *p, struct node_list *list, const struct jinja_node *node) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 4;
        const struct jinja_node **items = alloc(p, list->capacity, sizeof(struct jinja_node *));
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
    }
    list->items[list->count++] = node;
}

static void set_items(struct jinja_node *node, const struct node_list *list) {
    node->items = list->items;
    node->n_items = list->count;
}

static const struct jinja_string *new_string(struct parser *p, struct str_view text) {
    struct jinja_string *s = alloc(p, 1, sizeof *s);
    *s = (struct jinja_string){text.data, text.n_bytes, utf8_length(text.data, text.n_bytes), NULL, 1, true, false};
    return s;
}

static int intern(struct parser *p, struct str_view name) {
    struct jinja_program *program = p->program;
    uint64_t known;
    if (map_get(&program->symbols, name.data, name.n_bytes, &known)) return (int)known;
    if (program->n_symbols == program->symbols_capacity) {
        program->symbols_capacity = program->symbols_capacity ? program->symbols_capacity * 2 : 64;
        program->names = mem_grow(program->names, program->symbols_capacity, sizeof *program->names);
        program->is_read = mem_grow(program->is_read, program->symbols_capacity, sizeof *program->is_read);
    }
    program->names[program->n_symbols] = name;
    program->is_read[program->n_symbols] = false;
    map_put(&program->symbols, name.data, name.n_bytes, program->n_symbols);
    return (int)program->n_symbols++;
}

static void next(struct parser *p) {
    p->token = p->ahead;
    p->ahead = jinja_lexer_next(&p->lexer);
}

static bool token_is(const struct jinja_token *token, enum jinja_token_kind kind, const char *text) {
    return token->kind == kind && str_view_equal(token->text, str_view_of(text));
}
static bool at_name(const struct parser *p, const char *name) { return token_is(&p->token, JINJA_TOKEN_NAME, name); }
static bool at_operator(const struct parser *p, const char *sign) {
    return token_is(&p->token, JINJA_TOKEN_OPERATOR, sign);
}
static bool skip_name(struct parser *p, const char *name) {
    bool here = at_name(p, name);
    if (here) next(p);
    return here;
}
static bool skip_operator(struct parser *p, const char *sign) {
    bool here = at_operator(p, sign);
    if (here) next(p);
    return here;
}

static noreturn void unexpected(struct parser *p, const char *expected) {
    const char *what = p->token.kind == JINJA_TOKEN_END            ? "end of template"
                       : p->token.kind == JINJA_TOKEN_BLOCK_END    ? "end of statement block"
                       : p->token.kind == JINJA_TOKEN_VARIABLE_END ? "end of print statement"
                                                                   : NULL;
    if (what) jinja_syntax_error(&p->lexer, p->token.line, "expected %s, got the %s", expected, what);
    int n = p->token.text.n_bytes < 40 ? (int)p->token.text.n_bytes : 40;
    jinja_syntax_error(&p->lexer, p->token.line, "expected %s, got '%.*s'", expected, n, p->token.text.data);
}

static void expect_operator(struct parser *p, const char *sign) {
    if (!skip_operator(p, sign)) unexpected(p, sign);
}
static struct str_view expect_name(struct parser *p) {
    if (p->token.kind != JINJA_TOKEN_NAME) unexpected(p, "a name");
    struct str_view name = p->token.text;
    next(p);
    return name;
}
static void expect_block_end(struct parser *p) {
    if (p->token.kind != JINJA_TOKEN_BLOCK_END) unexpected(p, "end of statement block");
    next(p);
}

static void enter(struct parser *p) {
    if (++p->depth > JINJA_NESTING_MAX) jinja_syntax_error(&p->lexer, p->token.line, "nested too deeply");
}
static void leave(struct parser *p) { p->depth--; }

// Expressions.

static const struct jinja_node *new_const(struct parser *p, struct jinja_value value) {
    struct jinja_node *node = new_node(p, JINJA_CONST);
    node->value = value;
    return node;
}

static const struct jinja_node *new_name(struct parser *p, struct str_view name) {
    struct jinja_node *node = new_node(p, JINJA_NAME);
    node->symbol = intern(p, name);
    node->text = new_string(p, name);
    return node;
}

static const struct jinja_node *read_name(struct parser *p) {
    struct str_view name = p->token.text;
    static const struct {
        const char *name;
        struct jinja_value value;
    } constants[] = {
        {"true", {.kind = JINJA_BOOL, .boolean = true}},   {"True", {.kind = JINJA_BOOL, .boolean = true}},
        {"false", {.kind = JINJA_BOOL, .boolean = false}}, {"False", {.kind = JINJA_BOOL, .boolean = false}},
        {"none", {.kind = JINJA_NONE}},                    {"None", {.kind = JINJA_NONE}},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (at_name(p, constants[i].name)) {
            next(p);
            return new_const(p, constants[i].value);
        }
    const struct jinja_node *node = new_name(p, name);
    p->program->is_read[node->symbol] = true;
    if (p->signature) {
        p->signature->uses_varargs |= node->symbol == p->program->varargs;
        p->signature->uses_kwargs |= node->symbol == p->program->kwargs;
        p->signature->uses_caller |= node->symbol == p->program->caller;
    }
    next(p);
    return node;
}

static const struct jinja_node *read_strings(struct parser *p) {
    struct str_view text = p->token.text;
    size_t capacity = 0;
    next(p);
    while (p->token.kind == JINJA_TOKEN_STRING) { // adjacent literals are one
        size_t n_bytes = text.n_bytes + p->token.text.n_bytes;
        if (n_bytes > capacity) {
            capacity = n_bytes * 2;
            text.data = memcpy(alloc(p, capacity, 1), text.data, text.n_bytes);
        }
        memcpy((char *)text.data + text.n_bytes, p->token.text.data, p->token.text.n_bytes);
        text.n_bytes = n_bytes;
        next(p);
    }
    return new_const(p, jinja_string_value(new_string(p, text)));
}

static bool at_tuple_end(const struct parser *p) {
    return p->token.kind == JINJA_TOKEN_VARIABLE_END || p->token.kind == JINJA_TOKEN_BLOCK_END || at_operator(p, ")");
}

// Expressions separated by commas; one without a comma is itself.
static const struct jinja_node *parse_tuple(struct parser *p, const struct jinja_node *(*parse)(struct parser *p),
                                            bool may_be_empty, const char *end_name) {
    struct node_list list = {0};
    bool is_tuple = false;
    for (;;) {
        if (at_tuple_end(p) || (end_name && at_name(p, end_name))) break;
        add(p, &list, parse(p));
        if (!skip_operator(p, ",")) break;
        is_tuple = true;
    }
    if (!is_tuple && list.count) return list.items[0];
    if (!is_tuple && !may_be_empty) unexpected(p, "an expression");
    struct jinja_node *node = new_node(p, JINJA_MAKE_TUPLE);
    set_items(node, &list);
    return node;
}

static const struct jinja_node *read_list(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_MAKE_LIST);
    struct node_list list = {0};
    next(p);
    while (!at_operator(p, "]")) {
        if (list.count) expect_operator(p, ",");
        if (at_operator(p, "]")) break;
        add(p, &list, parse_expression(p));
    }
    next(p);
    set_items(node, &list);
    return node;
}

static const struct jinja_node *read_dict(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_MAKE_DICT);
    struct node_list list = {0};
    next(p);
    while (!at_operator(p, "}")) {
        if (list.count) expect_operator(p, ",");
        if (at_operator(p, "}")) break;
        add(p, &list, parse_expression(p));
        expect_operator(p, ":");
        add(p, &list, parse_expression(p));
    }
    next(p);
    set_items(node, &list);
    return node;
}

static const struct jinja_node *parse_primary(struct parser *p) {
    if (p->token.kind == JINJA_TOKEN_NAME) return read_name(p);
    if (p->token.kind == JINJA_TOKEN_STRING) return read_strings(p);
    if (p->token.kind == JINJA_TOKEN_NUMBER) {
        const struct jinja_node *node = new_const(p, p->token.value);
        next(p);
        return node;
    }
    if (skip_operator(p, "(")) {
        const struct jinja_node *node = parse_tuple(p, parse_expression, true, NULL);
        expect_operator(p, ")");
        return node;
    }
    if (at_operator(p, "[")) return read_list(p);
    if (at_operator(p, "{")) return read_dict(p);
    unexpected(p, "an expression");
}

static const struct jinja_node *slice_bound(struct parser *p) {
    if (at_operator(p, ":") || at_operator(p, "]") || at_operator(p, ",")) return NULL;
    return parse_expression(p);
}

static const struct jinja_node *parse_subscript(struct parser *p) {
    const struct jinja_node *start = slice_bound(p);
    if (!at_operator(p, ":")) {
        if (!start) unexpected(p, "an expression");
        return start;
    }
    struct jinja_node *node = new_node(p, JINJA_SLICE);
    node->a = start;
    next(p);
    node->b = slice_bound(p);
    if (skip_operator(p, ":")) node->c = slice_bound(p);
    return node;
}

static const struct jinja_node *parse_brackets(struct parser *p, const struct jinja_node *object) {
    struct jinja_node *node = new_node(p, JINJA_ITEM);
    struct node_list list = {0};
    next(p);
    do add(p, &list, parse_subscript(p));
    while (skip_operator(p, ",") && !at_operator(p, "]"));
    expect_operator(p, "]");
    node->a = object;
    node->b = list.items[0];
    if (list.count > 1) {
        struct jinja_node *tuple = new_node(p, JINJA_MAKE_TUPLE);
        for (size_t i = 0; i < list.count; i++)
            if (list.items[i]->kind == JINJA_SLICE) unexpected(p, "an index that is not a slice");
        set_items(tuple, &list);
        node->b = tuple;
    }
    return node;
}

static const struct jinja_node *parse_dot(struct parser *p, const struct jinja_node *object) {
    next(p);
    if (p->token.kind == JINJA_TOKEN_NUMBER && p->token.value.kind == JINJA_INT) {
        struct jinja_node *node = new_node(p, JINJA_ITEM);
        node->a = object;
        node->b = new_const(p, p->token.value);
        next(p);
        return node;
    }
    struct jinja_node *node = new_node(p, JINJA_ATTRIBUTE);
    node->a = object;
    node->text = new_string(p, expect_name(p));
    return node;
}

static void add_keyword(struct parser *p, struct jinja_arguments *args, struct str_view name,
                        const struct jinja_node *value) {
    if ((args->n_keywords & (args->n_keywords - 1)) == 0) { // grows at powers of two
        size_t capacity = args->n_keywords ? args->n_keywords * 2 : 1;
        struct jinja_keyword_node *keywords = alloc(p, capacity, sizeof *keywords);
        if (args->n_keywords) memcpy(keywords, args->keywords, args->n_keywords * sizeof *keywords);
        args->keywords = keywords;
    }
    args->keywords[args->n_keywords++] = (struct jinja_keyword_node){new_string(p, name), value};
}

static const struct jinja_arguments *parse_arguments(struct parser *p) {
    struct jinja_arguments *args = alloc(p, 1, sizeof *args);
    struct node_list positional = {0};
    bool first = true;
    expect_operator(p, "(");
    while (!at_operator(p, ")")) {
        if (!first) expect_operator(p, ",");
        if (at_operator(p, ")")) break;
        first = false;
        if (!args->star && !args->double_star && skip_operator(p, "*")) {
            args->star = parse_expression(p);
        } else if (!args->double_star && skip_operator(p, "**")) {
            args->double_star = parse_expression(p);
        } else if (p->token.kind == JINJA_TOKEN_NAME && token_is(&p->ahead, JINJA_TOKEN_OPERATOR, "=") &&
                   !args->double_star) {
            struct str_view name = expect_name(p);
            next(p);
            add_keyword(p, args, name, parse_expression(p));
        } else {
            if (args->star || args->double_star || args->n_keywords) unexpected(p, "a keyword argument");
            add(p, &positional, parse_expression(p));
        }
    }
    next(p);
    args->positional = positional.items;
    args->n_positional = positional.count;
    return args;
}

static const struct jinja_node *parse_call(struct parser *p, const struct jinja_node *callee) {
    struct jinja_node *node = new_node(p, JINJA_CALL);
    node->a = callee;
    node->call = parse_arguments(p);
    return node;
}

// A filter or test: its name, and its row in the table. Names with dots, which Jinja's extensions may have, are unknown.
static struct jinja_node *parse_named(struct parser *p, enum jinja_node_kind kind, const struct jinja_node *operand) {
    struct jinja_node *node = new_node(p, kind);
    struct str_view name = expect_name(p);
    bool dotted = at_operator(p, ".");
    while (skip_operator(p, ".")) expect_name(p);
    node->a = operand;
    node->text = new_string(p, name);
    if (!dotted)
        node->builtin = kind == JINJA_FILTER ? jinja_find_filter(name.data, name.n_bytes)
                                             : jinja_builtin_find(jinja_tests, name.data, name.n_bytes);
    if (!node->builtin && !p->soft)
        jinja_syntax_error(&p->lexer, node->line, "No %s named '%.*s'.", kind == JINJA_FILTER ? "filter" : "test",
                           name.n_bytes < 80 ? (int)name.n_bytes : 80, name.data);
    return node;
}

static const struct jinja_node *parse_filter(struct parser *p, const struct jinja_node *operand) {
    struct jinja_node *node = parse_named(p, JINJA_FILTER, operand);
    static const struct jinja_arguments none;
    node->call = at_operator(p, "(") ? parse_arguments(p) : &none;
    return node;
}

static bool at_test_argument(const struct parser *p) {
    if (p->token.kind == JINJA_TOKEN_NAME) return !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and");
    return p->token.kind == JINJA_TOKEN_STRING || p->token.kind == JINJA_TOKEN_NUMBER || at_operator(p, "[") ||
           at_operator(p, "{");
}

static const struct jinja_node *parse_test(struct parser *p, const struct jinja_node *operand) {
    bool negated = skip_name(p, "not");
    struct jinja_node *node = parse_named(p, JINJA_TEST, operand);
    struct jinja_arguments *args = alloc(p, 1, sizeof *args);
    node->call = args;
    if (at_operator(p, "(")) {
        node->call = parse_arguments(p);
    } else if (at_test_argument(p)) {
        if (at_name(p, "is")) unexpected(p, "only one test in a row");
        struct node_list list = {0};
        add(p, &list, parse_postfix(p, parse_primary(p)));
        args->positional = list.items;
        args->n_positional = 1;
    }
    if (!negated) return node;
    struct jinja_node *inverse = new_node(p, JINJA_NOT);
    inverse->a = node;
    return inverse;
}

static const struct jinja_node *parse_postfix(struct parser *p, const struct jinja_node *node) {
    for (;;) {
        if (at_operator(p, "."))
            node = parse_dot(p, node);
        else if (at_operator(p, "["))
            node = parse_brackets(p, node);
        else if (at_operator(p, "("))
            node = parse_call(p, node);
        else
            return node;
    }
}

static const struct jinja_node *parse_filters(struct parser *p, const struct jinja_node *node) {
    for (;;) {
        if (skip_operator(p, "|"))
            node = parse_filter(p, node);
        else if (skip_name(p, "is"))
            node = parse_test(p, node);
        else if (at_operator(p, "("))
            node = parse_call(p, node);
        else
            return node;
    }
}

static const struct jinja_node *parse_unary(struct parser *p, bool with_filters) {
    const struct jinja_node *node;
    enter(p);
    if (at_operator(p, "-") || at_operator(p, "+")) {
        struct jinja_node *sign = new_node(p, at_operator(p, "-") ? JINJA_NEGATE : JINJA_POSITIVE);
        next(p);
        sign->a = parse_unary(p, false);
        node = sign;
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    if (with_filters) node = parse_filters(p, node);
    leave(p);
    return node;
}

static const struct jinja_node *new_binary(struct parser *p, enum jinja_node_kind kind, const struct jinja_node *a,
                                           const struct jinja_node *b) {
    struct jinja_node *node = new_node(p, kind);
    node->a = a;
    node->b = b;
    return node;
}

static const struct jinja_node *new_arithmetic(struct parser *p, enum jinja_binary op, const struct jinja_node *a,
                                               const struct jinja_node *b) {
    struct jinja_node *node = new_node(p, JINJA_BINARY);
    node->op = (uint8_t)op;
    node->a = a;
    node->b = b;
    return node;
}

static const struct jinja_node *parse_power(struct parser *p) {
    const struct jinja_node *left = parse_unary(p, true);
    while (skip_operator(p, "**")) left = new_arithmetic(p, JINJA_POW, left, parse_unary(p, true));
    return left;
}

static const struct jinja_node *parse_product(struct parser *p) {
    const struct jinja_node *left = parse_power(p);
    for (;;) {
        enum jinja_binary op = at_operator(p, "*")    ? JINJA_MUL
                               : at_operator(p, "/")  ? JINJA_DIV
                               : at_operator(p, "//") ? JINJA_FLOORDIV
                               : at_operator(p, "%")  ? JINJA_MOD
                                                      : JINJA_ADD;
        if (op == JINJA_ADD) return left;
        next(p);
        left = new_arithmetic(p, op, left, parse_power(p));
    }
}

static const struct jinja_node *parse_concat(struct parser *p) {
    const struct jinja_node *left = parse_product(p);
    if (!at_operator(p, "~")) return left;
    struct jinja_node *node = new_node(p, JINJA_CONCAT);
    struct node_list list = {0};
    add(p, &list, left);
    while (skip_operator(p, "~")) add(p, &list, parse_product(p));
    set_items(node, &list);
    return node;
}

static const struct jinja_node *parse_sum(struct parser *p) {
    const struct jinja_node *left = parse_concat(p);
    while (at_operator(p, "+") || at_operator(p, "-")) {
        enum jinja_binary op = at_operator(p, "+") ? JINJA_ADD : JINJA_SUB;
        next(p);
        left = new_arithmetic(p, op, left, parse_concat(p));
    }
    return left;
}

// False when no comparison stands here; otherwise it is skipped.
static bool skip_comparison(struct parser *p, enum jinja_comparison *op) {
    static const char *const ordered[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int i = 0; i < 6; i++)
        if (skip_operator(p, ordered[i])) {
            *op = (enum jinja_comparison)i;
            return true;
        }
    *op = at_name(p, "in") ? JINJA_IN : JINJA_NOT_IN;
    if (*op == JINJA_NOT_IN) {
        if (!at_name(p, "not") || !token_is(&p->ahead, JINJA_TOKEN_NAME, "in")) return false;
        next(p);
    }
    next(p);
    return true;
}

static const struct jinja_node *parse_comparison(struct parser *p) {
    const struct jinja_node *left = parse_sum(p);
    struct node_list list = {0};
    enum jinja_comparison op;
    uint8_t few[64]; // a longer chain is a syntax error
    while (list.count < sizeof few && skip_comparison(p, &op)) {
        few[list.count] = (uint8_t)op;
        add(p, &list, parse_sum(p));
    }
    if (!list.count) return left;
    struct jinja_node *node = new_node(p, JINJA_COMPARE);
    uint8_t *kept = alloc(p, list.count, 1);
    memcpy(kept, few, list.count);
    node->a = left;
    node->operators = kept;
    set_items(node, &list);
    return node;
}

static const struct jinja_node *parse_not(struct parser *p) {
    if (!at_name(p, "not")) return parse_comparison(p);
    struct jinja_node *node = new_node(p, JINJA_NOT);
    enter(p);
    next(p);
    node->a = parse_not(p);
    leave(p);
    return node;
}

static const struct jinja_node *parse_and(struct parser *p) {
    const struct jinja_node *left = parse_not(p);
    while (skip_name(p, "and")) left = new_binary(p, JINJA_AND, left, parse_not(p));
    return left;
}

static const struct jinja_node *parse_or(struct parser *p) {
    const struct jinja_node *left = parse_and(p);
    while (skip_name(p, "or")) left = new_binary(p, JINJA_OR, left, parse_and(p));
    return left;
}

static const struct jinja_node *parse_expression(struct parser *p) {
    bool soft = p->soft;
    enter(p);
    const struct jinja_node *node = parse_or(p);
    while (at_name(p, "if")) {
        struct jinja_node *conditional = new_node(p, JINJA_CONDITIONAL);
        p->soft = true;
        next(p);
        conditional->b = node;
        conditional->a = parse_or(p);
        if (skip_name(p, "else")) conditional->c = parse_expression(p);
        node = conditional;
    }
    p->soft = soft;
    leave(p);
    return node;
}

// Statements.

static const struct jinja_node *parse_statement(struct parser *p);

static bool at_any_name(const struct parser *p, const char *const *names) {
    for (; *names; names++)
        if (at_name(p, *names)) return true;
    return false;
}

static const struct jinja_node *parse_print(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_PRINT);
    next(p);
    node->a = parse_tuple(p, parse_expression, false, NULL);
    if (p->token.kind != JINJA_TOKEN_VARIABLE_END) unexpected(p, "end of print statement");
    next(p);
    return node;
}

// Text, prints and statements up to a block whose tag is one of `ends` (NULL: the end of the template); stands on that tag.
static void parse_body(struct parser *p, struct node_list *list, const char *const *ends) {
    enter(p);
    for (;;) {
        if (p->token.kind == JINJA_TOKEN_DATA) {
            struct jinja_node *node = new_node(p, JINJA_DATA);
            node->value = jinja_string_value(new_string(p, p->token.text));
            add(p, list, node);
            next(p);
        } else if (p->token.kind == JINJA_TOKEN_VARIABLE_BEGIN) {
            add(p, list, parse_print(p));
        } else if (p->token.kind == JINJA_TOKEN_BLOCK_BEGIN) {
            next(p);
            if (ends && at_any_name(p, ends)) break;
            add(p, list, parse_statement(p));
            expect_block_end(p);
        } else if (!ends && p->token.kind == JINJA_TOKEN_END) {
            break;
        } else {
            unexpected(p, ends ? ends[0] : "the end of the template");
        }
    }
    leave(p);
}

// The body of a statement, up to and with its end tag (but not that tag's end).
static void parse_block(struct parser *p, struct jinja_node *node, const char *end) {
    const char *const ends[] = {end, NULL};
    struct node_list list = {0};
    expect_block_end(p);
    parse_body(p, &list, ends);
    next(p);
    set_items(node, &list);
}

// As parse_block for bodies that are scopes of their own; filters must exist in them even within an if.
static void parse_scope(struct parser *p, struct jinja_node *node, const char *end) {
    bool soft = p->soft;
    p->soft = false;
    parse_block(p, node, end);
    p->soft = soft;
}

static const struct jinja_node *parse_target_item(struct parser *p) {
    if (skip_operator(p, "(")) {
        enter(p);
        const struct jinja_node *inner = parse_tuple(p, parse_target_item, true, NULL);
        leave(p);
        expect_operator(p, ")");
        return inner;
    }
    int line = p->token.line;
    struct str_view name = expect_name(p);
    static const char *const reserved[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (str_view_equal(name, str_view_of(reserved[i])))
            jinja_syntax_error(&p->lexer, line, "can't assign to '%s'", reserved[i]);
    if (!skip_operator(p, ".")) return new_name(p, name);
    struct jinja_node *node = new_node(p, JINJA_NAMESPACE_SLOT);
    node->symbol = intern(p, name);
    node->text = new_string(p, expect_name(p));
    return node;
}

static const struct jinja_node *parse_target(struct parser *p, const char *end_name) {
    return parse_tuple(p, parse_target_item, false, end_name);
}

static const struct jinja_node *parse_body_node(struct parser *p, const char *const *ends) {
    struct jinja_node *body = new_node(p, JINJA_BODY);
    struct node_list list = {0};
    expect_block_end(p);
    parse_body(p, &list, ends);
    set_items(body, &list);
    return body;
}

static const struct jinja_node *parse_if(struct parser *p) {
    static const char *const ends[] = {"endif", "elif", "else", NULL}, *const last[] = {"endif", NULL};
    struct jinja_node *node = new_node(p, JINJA_IF);
    struct node_list branches = {0};
    bool soft = p->soft;
    p->soft = true;
    do {
        next(p);
        add(p, &branches, parse_tuple(p, parse_or, false, NULL));
        add(p, &branches, parse_body_node(p, ends));
    } while (at_name(p, "elif"));
    if (skip_name(p, "else")) node->b = parse_body_node(p, last);
    next(p);
    p->soft = soft;
    set_items(node, &branches);
    return node;
}

static const struct jinja_node *parse_for(struct parser *p) {
    static const char *const ends[] = {"endfor", "else", NULL}, *const last[] = {"endfor", NULL};
    struct jinja_node *node = new_node(p, JINJA_FOR);
    bool soft = p->soft;
    next(p);
    node->a = parse_target(p, "in");
    if (!skip_name(p, "in")) unexpected(p, "in");
    node->b = parse_tuple(p, parse_or, false, "recursive");
    p->soft = false;
    if (skip_name(p, "if")) node->c = parse_expression(p);
    node->flag = skip_name(p, "recursive");
    struct node_list list = {0};
    expect_block_end(p);
    p->loop_depth++;
    parse_body(p, &list, ends);
    p->loop_depth--;
    set_items(node, &list);
    if (skip_name(p, "else")) node->otherwise = parse_body_node(p, last);
    next(p);
    p->soft = soft;
    return node;
}

static const struct jinja_node *parse_set(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_SET);
    next(p);
    node->a = parse_target(p, NULL);
    if (skip_operator(p, "=")) {
        node->b = parse_tuple(p, parse_expression, false, NULL);
        return node;
    }
    node->kind = JINJA_SET_BLOCK;
    while (skip_operator(p, "|")) node->b = parse_filter(p, node->b);
    parse_scope(p, node, "endset");
    return node;
}

static struct jinja_signature *parse_signature(struct parser *p) {
    struct jinja_signature *signature = alloc(p, 1, sizeof *signature);
    struct node_list names = {0}, defaults = {0};
    bool has_default = false;
    expect_operator(p, "(");
    while (!at_operator(p, ")")) {
        if (names.count) expect_operator(p, ",");
        if (at_operator(p, ")")) break;
        add(p, &names, new_name(p, expect_name(p)));
        if (skip_operator(p, "=")) {
            has_default = true;
            add(p, &defaults, parse_expression(p));
        } else {
            if (has_default) unexpected(p, "a default for every later parameter");
            add(p, &defaults, NULL);
        }
    }
    next(p);
    signature->count = names.count;
    signature->parameters = alloc(p, names.count, sizeof *signature->parameters);
    signature->names = alloc(p, names.count, sizeof *signature->names);
    signature->defaults = defaults.items;
    for (size_t i = 0; i < names.count; i++) {
        signature->parameters[i] = names.items[i]->symbol;
        signature->names[i] = names.items[i]->text;
    }
    return signature;
}

// The body of a macro or call block. Uses of varargs, kwargs and caller count for macros around as well.
static void parse_macro_body(struct parser *p, struct jinja_node *node, struct jinja_signature *signature,
                             const char *end) {
    struct jinja_signature *around = p->signature;
    int loop_depth = p->loop_depth;
    node->signature = signature;
    p->signature = signature;
    p->loop_depth = 0;
    parse_scope(p, node, end);
    p->loop_depth = loop_depth;
    p->signature = around;
    if (!around) return;
    around->uses_varargs |= signature->uses_varargs;
    around->uses_kwargs |= signature->uses_kwargs;
    around->uses_caller |= signature->uses_caller;
}

static const struct jinja_node *parse_macro(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_MACRO_NODE);
    next(p);
    struct str_view name = expect_name(p);
    node->symbol = intern(p, name);
    node->text = new_string(p, name);
    parse_macro_body(p, node, parse_signature(p), "endmacro");
    return node;
}

static const struct jinja_node *parse_call_block(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_CALL_BLOCK);
    next(p);
    struct jinja_signature *signature =
        at_operator(p, "(") ? parse_signature(p) : alloc(p, 1, sizeof *signature);
    node->a = parse_expression(p);
    if (node->a->kind != JINJA_CALL) jinja_syntax_error(&p->lexer, node->line, "expected call");
    node->text = new_string(p, STR_VIEW("caller"));
    parse_macro_body(p, node, signature, "endcall");
    return node;
}

static const struct jinja_node *parse_generation(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_CALL_BLOCK);
    next(p);
    node->text = new_string(p, STR_VIEW("caller"));
    parse_macro_body(p, node, alloc(p, 1, sizeof(struct jinja_signature)), "endgeneration");
    return node;
}

static const struct jinja_node *parse_filter_block(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_FILTER_BLOCK);
    do {
        next(p);
        node->a = parse_filter(p, node->a);
    } while (at_operator(p, "|"));
    parse_scope(p, node, "endfilter");
    return node;
}

static const struct jinja_node *parse_with(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_WITH);
    struct node_list targets = {0}, values = {0};
    next(p);
    while (p->token.kind != JINJA_TOKEN_BLOCK_END) {
        if (targets.count) expect_operator(p, ",");
        add(p, &targets, parse_target_item(p));
        expect_operator(p, "=");
        add(p, &values, parse_expression(p));
    }
    struct jinja_node *names = new_node(p, JINJA_MAKE_TUPLE), *given = new_node(p, JINJA_MAKE_TUPLE);
    set_items(names, &targets);
    set_items(given, &values);
    node->a = names;
    node->b = given;
    parse_scope(p, node, "endwith");
    return node;
}

static const struct jinja_node *parse_named_block(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_SCOPE);
    next(p);
    struct str_view name = expect_name(p);
    if (!skip_name(p, "scoped")) skip_name(p, "required");
    parse_scope(p, node, "endblock");
    if (p->token.kind == JINJA_TOKEN_NAME && str_view_equal(p->token.text, name)) next(p);
    return node;
}

static const struct jinja_node *parse_loop_control(struct parser *p) {
    struct jinja_node *node = new_node(p, at_name(p, "break") ? JINJA_BREAK : JINJA_CONTINUE);
    if (!p->loop_depth) jinja_syntax_error(&p->lexer, node->line, "'break' or 'continue' outside of a loop");
    next(p);
    return node;
}

static const struct jinja_node *parse_print_statement(struct parser *p) {
    struct jinja_node *node = new_node(p, JINJA_PRINT);
    next(p);
    node->a = parse_tuple(p, parse_expression, false, NULL);
    return node;
}

static const struct jinja_node *parse_statement(struct parser *p) {
    static const struct {
        const char *tag;
        const struct jinja_node *(*parse)(struct parser *p);
    } statements[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"generation", parse_generation},
        {"break", parse_loop_control},
        {"continue", parse_loop_control},
        {"block", parse_named_block},
        {"print", parse_print_statement},
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (at_name(p, statements[i].tag)) return statements[i].parse(p);
    if (p->token.kind != JINJA_TOKEN_NAME) unexpected(p, "a tag name");
    jinja_syntax_error(&p->lexer, p->token.line, "Encountered unknown tag '%.*s'.",
                       p->token.text.n_bytes < 40 ? (int)p->token.text.n_bytes : 40, p->token.text.data);
}

static void parse_template(struct parser *p, struct str_view source) {
    struct jinja_program *program = p->program;
    map_open(&program->symbols, 64, false);
    program->loop = intern(p, STR_VIEW("loop"));
    program->caller = intern(p, STR_VIEW("caller"));
    program->varargs = intern(p, STR_VIEW("varargs"));
    program->kwargs = intern(p, STR_VIEW("kwargs"));
    jinja_lexer_open(&p->lexer, source);
    p->ahead = jinja_lexer_next(&p->lexer);
    next(p);
    struct jinja_node *body = new_node(p, JINJA_BODY);
    struct node_list list = {0};
    parse_body(p, &list, NULL);
    set_items(body, &list);
    program->body = body;
}

int jinja_parse(struct jinja_program **out, struct str_view source, struct err *err) {
    struct err own;
    struct parser p = {0};
    struct jinja_program *program = mem_alloc_zero(1, sizeof *program);
    p.program = program;
    program->arena.limit = MEMORY_BYTES_MAX;
    p.lexer.arena = &program->arena;
    p.lexer.err = err ? err : &own;
    p.lexer.escape = &p.escape;
    *out = NULL;
    if (setjmp(p.escape)) {
        jinja_program_close(program);
        return ERR_FORMAT;
    }
    parse_template(&p, source);
    *out = program;
    return 0;
}

void jinja_program_close(struct jinja_program *program) {
    if (!program) return;
    map_close(&program->symbols);
    free(program->names);
    free(program->is_read);
    arena_close(&program->arena);
    free(program);
}
