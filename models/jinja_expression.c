// Expressions, from the loosest operator to names and literals.
#include "models/jinja_builtin.h"
#include "models/jinja_grammar.h"
#include "models/jinja_method.h"

#include <string.h>

static const struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filters);
static const struct jinja_node *parse_postfix(struct jinja_parser *p, const struct jinja_node *node);

static const struct jinja_node *new_const(struct jinja_parser *p, struct jinja_value value) {
    struct jinja_node *node = jinja_new_node(p, JINJA_CONST);
    node->value = value;
    return node;
}

static const struct jinja_node *read_name(struct jinja_parser *p) {
    struct str_view name = p->token.text;
    static const struct {
        const char *name;
        struct jinja_value value;
    } constants[] = {
        {"true", {.kind = JINJA_BOOL, .boolean = true}},
        {"True", {.kind = JINJA_BOOL, .boolean = true}},
        {"false", {.kind = JINJA_BOOL, .boolean = false}},
        {"False", {.kind = JINJA_BOOL, .boolean = false}},
        {"none", {.kind = JINJA_NONE}},
        {"None", {.kind = JINJA_NONE}},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (jinja_at_name(p, constants[i].name)) {
            jinja_next_token(p);
            return new_const(p, constants[i].value);
        }
    const struct jinja_node *node = jinja_new_name(p, name);
    p->program->is_read[node->symbol] = true;
    if (p->signature) {
        p->signature->uses_varargs |= node->symbol == p->program->varargs;
        p->signature->uses_kwargs |= node->symbol == p->program->kwargs;
        p->signature->uses_caller |= node->symbol == p->program->caller;
    }
    jinja_next_token(p);
    return node;
}

static const struct jinja_node *read_strings(struct jinja_parser *p) {
    struct str_view text = p->token.text;
    size_t capacity = 0;
    jinja_next_token(p);
    while (p->token.kind == JINJA_TOKEN_STRING) { // adjacent literals are one
        size_t n_bytes = text.n_bytes + p->token.text.n_bytes;
        if (n_bytes > capacity) {
            capacity = n_bytes * 2;
            text.data = memcpy(jinja_parser_alloc(p, capacity, 1), text.data, text.n_bytes);
        }
        memcpy((char *)text.data + text.n_bytes, p->token.text.data, p->token.text.n_bytes);
        text.n_bytes = n_bytes;
        jinja_next_token(p);
    }
    return new_const(p, jinja_string_value(jinja_new_string(p, text)));
}

static bool at_tuple_end(const struct jinja_parser *p) {
    return p->token.kind == JINJA_TOKEN_VARIABLE_END || p->token.kind == JINJA_TOKEN_BLOCK_END || jinja_at(p, ")");
}

const struct jinja_node *jinja_parse_tuple(struct jinja_parser *p,
                                           const struct jinja_node *(*parse)(struct jinja_parser *p), bool may_be_empty,
                                           const char *end_name) {
    struct jinja_node_list list = {0};
    bool is_tuple = false;
    for (;;) {
        if (at_tuple_end(p) || (end_name && jinja_at_name(p, end_name))) break;
        jinja_add_node(p, &list, parse(p));
        if (!jinja_skip(p, ",")) break;
        is_tuple = true;
    }
    if (!is_tuple && list.count) return list.items[0];
    if (!is_tuple && !may_be_empty) jinja_unexpected(p, "an expression");
    struct jinja_node *node = jinja_new_node(p, JINJA_MAKE_TUPLE);
    jinja_set_items(node, &list);
    return node;
}

static const struct jinja_node *read_list(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_MAKE_LIST);
    struct jinja_node_list list = {0};
    jinja_next_token(p);
    while (!jinja_at(p, "]")) {
        if (list.count) jinja_expect(p, ",");
        if (jinja_at(p, "]")) break;
        jinja_add_node(p, &list, jinja_parse_expression(p));
    }
    jinja_next_token(p);
    jinja_set_items(node, &list);
    return node;
}

static const struct jinja_node *read_dict(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_MAKE_DICT);
    struct jinja_node_list list = {0};
    jinja_next_token(p);
    while (!jinja_at(p, "}")) {
        if (list.count) jinja_expect(p, ",");
        if (jinja_at(p, "}")) break;
        jinja_add_node(p, &list, jinja_parse_expression(p));
        jinja_expect(p, ":");
        jinja_add_node(p, &list, jinja_parse_expression(p));
    }
    jinja_next_token(p);
    jinja_set_items(node, &list);
    return node;
}

static const struct jinja_node *parse_primary(struct jinja_parser *p) {
    if (p->token.kind == JINJA_TOKEN_NAME) return read_name(p);
    if (p->token.kind == JINJA_TOKEN_STRING) return read_strings(p);
    if (p->token.kind == JINJA_TOKEN_NUMBER) {
        const struct jinja_node *node = new_const(p, p->token.value);
        jinja_next_token(p);
        return node;
    }
    if (jinja_skip(p, "(")) {
        const struct jinja_node *node = jinja_parse_tuple(p, jinja_parse_expression, true, NULL);
        jinja_expect(p, ")");
        return node;
    }
    if (jinja_at(p, "[")) return read_list(p);
    if (jinja_at(p, "{")) return read_dict(p);
    jinja_unexpected(p, "an expression");
}

static const struct jinja_node *slice_bound(struct jinja_parser *p) {
    if (jinja_at(p, ":") || jinja_at(p, "]") || jinja_at(p, ",")) return NULL;
    return jinja_parse_expression(p);
}

static const struct jinja_node *parse_subscript(struct jinja_parser *p) {
    const struct jinja_node *start = slice_bound(p);
    if (!jinja_at(p, ":")) {
        if (!start) jinja_unexpected(p, "an expression");
        return start;
    }
    struct jinja_node *node = jinja_new_node(p, JINJA_SLICE);
    node->a = start;
    jinja_next_token(p);
    node->b = slice_bound(p);
    if (jinja_skip(p, ":")) node->c = slice_bound(p);
    return node;
}

static const struct jinja_node *parse_brackets(struct jinja_parser *p, const struct jinja_node *object) {
    struct jinja_node *node = jinja_new_node(p, JINJA_ITEM);
    struct jinja_node_list list = {0};
    jinja_next_token(p);
    do jinja_add_node(p, &list, parse_subscript(p));
    while (jinja_skip(p, ",") && !jinja_at(p, "]"));
    jinja_expect(p, "]");
    node->a = object;
    node->b = list.items[0];
    if (list.count > 1) {
        struct jinja_node *tuple = jinja_new_node(p, JINJA_MAKE_TUPLE);
        for (size_t i = 0; i < list.count; i++)
            if (list.items[i]->kind == JINJA_SLICE) jinja_unexpected(p, "an index that is not a slice");
        jinja_set_items(tuple, &list);
        node->b = tuple;
    }
    return node;
}

static const struct jinja_node *parse_dot(struct jinja_parser *p, const struct jinja_node *object) {
    jinja_next_token(p);
    if (p->token.kind == JINJA_TOKEN_NUMBER && p->token.value.kind == JINJA_INT) {
        struct jinja_node *node = jinja_new_node(p, JINJA_ITEM);
        node->a = object;
        node->b = new_const(p, p->token.value);
        jinja_next_token(p);
        return node;
    }
    struct jinja_node *node = jinja_new_node(p, JINJA_ATTRIBUTE);
    node->a = object;
    node->text = jinja_new_string(p, jinja_expect_name(p));
    return node;
}

static void add_keyword(struct jinja_parser *p, struct jinja_arguments *args, struct str_view name,
                        const struct jinja_node *value) {
    if ((args->n_keywords & (args->n_keywords - 1)) == 0) { // grows at powers of two
        size_t capacity = args->n_keywords ? args->n_keywords * 2 : 1;
        struct jinja_keyword_node *keywords = jinja_parser_alloc(p, capacity, sizeof *keywords);
        if (args->n_keywords) memcpy(keywords, args->keywords, args->n_keywords * sizeof *keywords);
        args->keywords = keywords;
    }
    args->keywords[args->n_keywords++] = (struct jinja_keyword_node){jinja_new_string(p, name), value};
}

static const struct jinja_arguments *parse_arguments(struct jinja_parser *p) {
    struct jinja_arguments *args = jinja_parser_alloc(p, 1, sizeof *args);
    struct jinja_node_list positional = {0};
    bool first = true;
    jinja_expect(p, "(");
    while (!jinja_at(p, ")")) {
        if (!first) jinja_expect(p, ",");
        if (jinja_at(p, ")")) break;
        first = false;
        if (!args->star && !args->double_star && jinja_skip(p, "*")) {
            args->star = jinja_parse_expression(p);
        } else if (!args->double_star && jinja_skip(p, "**")) {
            args->double_star = jinja_parse_expression(p);
        } else if (p->token.kind == JINJA_TOKEN_NAME && jinja_token_is(&p->ahead, JINJA_TOKEN_OPERATOR, "=") &&
                   !args->double_star) {
            struct str_view name = jinja_expect_name(p);
            jinja_next_token(p);
            add_keyword(p, args, name, jinja_parse_expression(p));
        } else {
            if (args->star || args->double_star || args->n_keywords) jinja_unexpected(p, "a keyword argument");
            jinja_add_node(p, &positional, jinja_parse_expression(p));
        }
    }
    jinja_next_token(p);
    args->positional = positional.items;
    args->n_positional = positional.count;
    return args;
}

static const struct jinja_node *parse_call(struct jinja_parser *p, const struct jinja_node *callee) {
    struct jinja_node *node = jinja_new_node(p, JINJA_CALL);
    node->a = callee;
    node->call = parse_arguments(p);
    return node;
}

// A filter or test: its name, and its row in the table. Names with dots, which Jinja's extensions may have, are
// unknown.
static struct jinja_node *parse_named(struct jinja_parser *p, enum jinja_node_kind kind,
                                      const struct jinja_node *operand) {
    struct jinja_node *node = jinja_new_node(p, kind);
    struct str_view name = jinja_expect_name(p);
    bool dotted = jinja_at(p, ".");
    while (jinja_skip(p, ".")) jinja_expect_name(p);
    node->a = operand;
    node->text = jinja_new_string(p, name);
    if (!dotted)
        node->builtin = kind == JINJA_FILTER ? jinja_find_filter(name.data, name.n_bytes)
                                             : jinja_builtin_find(jinja_tests, name.data, name.n_bytes);
    if (!node->builtin && !p->soft && !p->unknown) p->unknown = node;
    return node;
}

const struct jinja_node *jinja_parse_filter(struct jinja_parser *p, const struct jinja_node *operand) {
    struct jinja_node *node = parse_named(p, JINJA_FILTER, operand);
    static const struct jinja_arguments none;
    node->call = jinja_at(p, "(") ? parse_arguments(p) : &none;
    return node;
}

static bool at_test_argument(const struct jinja_parser *p) {
    if (p->token.kind == JINJA_TOKEN_NAME)
        return !jinja_at_name(p, "else") && !jinja_at_name(p, "or") && !jinja_at_name(p, "and");
    return p->token.kind == JINJA_TOKEN_STRING || p->token.kind == JINJA_TOKEN_NUMBER || jinja_at(p, "[") ||
           jinja_at(p, "{");
}

static const struct jinja_node *parse_test(struct jinja_parser *p, const struct jinja_node *operand) {
    bool negated = jinja_skip_name(p, "not");
    struct jinja_node *node = parse_named(p, JINJA_TEST, operand);
    struct jinja_arguments *args = jinja_parser_alloc(p, 1, sizeof *args);
    node->call = args;
    if (jinja_at(p, "(")) {
        node->call = parse_arguments(p);
    } else if (at_test_argument(p)) {
        if (jinja_at_name(p, "is")) jinja_unexpected(p, "only one test in a row");
        struct jinja_node_list list = {0};
        jinja_add_node(p, &list, parse_postfix(p, parse_primary(p)));
        args->positional = list.items;
        args->n_positional = 1;
    }
    if (!negated) return node;
    struct jinja_node *inverse = jinja_new_node(p, JINJA_NOT);
    inverse->a = node;
    return inverse;
}

static const struct jinja_node *parse_postfix(struct jinja_parser *p, const struct jinja_node *node) {
    for (;;) {
        if (jinja_at(p, "."))
            node = parse_dot(p, node);
        else if (jinja_at(p, "["))
            node = parse_brackets(p, node);
        else if (jinja_at(p, "("))
            node = parse_call(p, node);
        else
            return node;
    }
}

static const struct jinja_node *parse_filters(struct jinja_parser *p, const struct jinja_node *node) {
    for (;;) {
        if (jinja_skip(p, "|"))
            node = jinja_parse_filter(p, node);
        else if (jinja_skip_name(p, "is"))
            node = parse_test(p, node);
        else if (jinja_at(p, "("))
            node = parse_call(p, node);
        else
            return node;
    }
}

static const struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filters) {
    const struct jinja_node *node;
    jinja_nest(p);
    if (jinja_at(p, "-") || jinja_at(p, "+")) {
        struct jinja_node *sign = jinja_new_node(p, jinja_at(p, "-") ? JINJA_NEGATE : JINJA_POSITIVE);
        jinja_next_token(p);
        sign->a = parse_unary(p, false);
        node = sign;
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    if (with_filters) node = parse_filters(p, node);
    jinja_unnest(p);
    return node;
}

static const struct jinja_node *new_binary(struct jinja_parser *p, enum jinja_node_kind kind,
                                           const struct jinja_node *a, const struct jinja_node *b) {
    struct jinja_node *node = jinja_new_node(p, kind);
    node->a = a;
    node->b = b;
    return node;
}

static const struct jinja_node *new_arithmetic(struct jinja_parser *p, enum jinja_binary op, const struct jinja_node *a,
                                               const struct jinja_node *b) {
    struct jinja_node *node = jinja_new_node(p, JINJA_BINARY);
    node->op = (uint8_t)op;
    node->a = a;
    node->b = b;
    return node;
}

static const struct jinja_node *parse_power(struct jinja_parser *p) {
    const struct jinja_node *left = parse_unary(p, true);
    while (jinja_skip(p, "**")) left = new_arithmetic(p, JINJA_POW, left, parse_unary(p, true));
    return left;
}

static const struct jinja_node *parse_product(struct jinja_parser *p) {
    const struct jinja_node *left = parse_power(p);
    for (;;) {
        enum jinja_binary op = jinja_at(p, "*")    ? JINJA_MUL
                               : jinja_at(p, "/")  ? JINJA_DIV
                               : jinja_at(p, "//") ? JINJA_FLOORDIV
                               : jinja_at(p, "%")  ? JINJA_MOD
                                                   : JINJA_ADD;
        if (op == JINJA_ADD) return left;
        jinja_next_token(p);
        left = new_arithmetic(p, op, left, parse_power(p));
    }
}

static const struct jinja_node *parse_concat(struct jinja_parser *p) {
    const struct jinja_node *left = parse_product(p);
    if (!jinja_at(p, "~")) return left;
    struct jinja_node *node = jinja_new_node(p, JINJA_CONCAT);
    struct jinja_node_list list = {0};
    jinja_add_node(p, &list, left);
    while (jinja_skip(p, "~")) jinja_add_node(p, &list, parse_product(p));
    jinja_set_items(node, &list);
    return node;
}

static const struct jinja_node *parse_sum(struct jinja_parser *p) {
    const struct jinja_node *left = parse_concat(p);
    while (jinja_at(p, "+") || jinja_at(p, "-")) {
        enum jinja_binary op = jinja_at(p, "+") ? JINJA_ADD : JINJA_SUB;
        jinja_next_token(p);
        left = new_arithmetic(p, op, left, parse_concat(p));
    }
    return left;
}

// False when no comparison stands here; otherwise it is skipped.
static bool skip_comparison(struct jinja_parser *p, enum jinja_comparison *op) {
    static const char *const ordered[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int i = 0; i < 6; i++)
        if (jinja_skip(p, ordered[i])) {
            *op = (enum jinja_comparison)i;
            return true;
        }
    *op = jinja_at_name(p, "in") ? JINJA_IN : JINJA_NOT_IN;
    if (*op == JINJA_NOT_IN) {
        if (!jinja_at_name(p, "not") || !jinja_token_is(&p->ahead, JINJA_TOKEN_NAME, "in")) return false;
        jinja_next_token(p);
    }
    jinja_next_token(p);
    return true;
}

static const struct jinja_node *parse_comparison(struct jinja_parser *p) {
    const struct jinja_node *left = parse_sum(p);
    struct jinja_node_list list = {0};
    enum jinja_comparison op;
    uint8_t few[64]; // a longer chain is a syntax error
    while (list.count < sizeof few && skip_comparison(p, &op)) {
        few[list.count] = (uint8_t)op;
        jinja_add_node(p, &list, parse_sum(p));
    }
    if (!list.count) return left;
    struct jinja_node *node = jinja_new_node(p, JINJA_COMPARE);
    uint8_t *kept = jinja_parser_alloc(p, list.count, 1);
    memcpy(kept, few, list.count);
    node->a = left;
    node->operators = kept;
    jinja_set_items(node, &list);
    return node;
}

static const struct jinja_node *parse_not(struct jinja_parser *p) {
    if (!jinja_at_name(p, "not")) return parse_comparison(p);
    struct jinja_node *node = jinja_new_node(p, JINJA_NOT);
    jinja_nest(p);
    jinja_next_token(p);
    node->a = parse_not(p);
    jinja_unnest(p);
    return node;
}

static const struct jinja_node *parse_and(struct jinja_parser *p) {
    const struct jinja_node *left = parse_not(p);
    while (jinja_skip_name(p, "and")) left = new_binary(p, JINJA_AND, left, parse_not(p));
    return left;
}

const struct jinja_node *jinja_parse_or(struct jinja_parser *p) {
    const struct jinja_node *left = parse_and(p);
    while (jinja_skip_name(p, "or")) left = new_binary(p, JINJA_OR, left, parse_and(p));
    return left;
}

const struct jinja_node *jinja_parse_expression(struct jinja_parser *p) {
    bool soft = p->soft;
    const struct jinja_node *unknown = p->unknown;
    jinja_nest(p);
    const struct jinja_node *node = jinja_parse_or(p);
    while (jinja_at_name(p, "if")) {
        struct jinja_node *conditional = jinja_new_node(p, JINJA_CONDITIONAL);
        p->soft = true;
        p->unknown = unknown; // what stands in front of the `if` is conditional, too
        jinja_next_token(p);
        conditional->b = node;
        conditional->a = jinja_parse_or(p);
        if (jinja_skip_name(p, "else")) conditional->c = jinja_parse_expression(p);
        node = conditional;
    }
    p->soft = soft;
    jinja_unnest(p);
    return node;
}
