// Statements.
#include "models/jinja_parser.h"

#include "models/jinja_grammar.h"

#include <stdlib.h>
#include <string.h>

enum { MEMORY_BYTES_MAX = 96 << 20 }; // far beyond the longest real template

static const struct jinja_node *parse_statement(struct jinja_parser *p);

static bool at_any_name(const struct jinja_parser *p, const char *const *names) {
    for (; *names; names++)
        if (jinja_at_name(p, *names)) return true;
    return false;
}

static void check_unknown(struct jinja_parser *p) {
    if (!p->unknown) return;
    const struct jinja_string *name = p->unknown->text;
    jinja_syntax_error(&p->lexer, p->unknown->line, "No %s named '%.*s'.",
                       p->unknown->kind == JINJA_FILTER ? "filter" : "test",
                       name->n_bytes < 80 ? (int)name->n_bytes : 80, name->bytes);
}

static const struct jinja_node *parse_print(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_PRINT);
    jinja_next_token(p);
    node->a = jinja_parse_tuple(p, jinja_parse_expression, false, NULL);
    if (p->token.kind != JINJA_TOKEN_VARIABLE_END) jinja_unexpected(p, "end of print statement");
    jinja_next_token(p);
    return node;
}

// Text, prints and statements up to a block whose tag is one of `ends` (NULL: the end of the template); stands on that
// tag.
static void parse_body(struct jinja_parser *p, struct jinja_node_list *list, const char *const *ends) {
    jinja_nest(p);
    for (;;) {
        if (p->token.kind == JINJA_TOKEN_DATA) {
            struct jinja_node *node = jinja_new_node(p, JINJA_DATA);
            node->value = jinja_string_value(jinja_new_string(p, p->token.text));
            jinja_add_node(p, list, node);
            jinja_next_token(p);
        } else if (p->token.kind == JINJA_TOKEN_VARIABLE_BEGIN) {
            jinja_add_node(p, list, parse_print(p));
        } else if (p->token.kind == JINJA_TOKEN_BLOCK_BEGIN) {
            jinja_next_token(p);
            if (ends && at_any_name(p, ends)) break;
            jinja_add_node(p, list, parse_statement(p));
            jinja_expect_block_end(p);
        } else if (!ends && p->token.kind == JINJA_TOKEN_END) {
            break;
        } else {
            jinja_unexpected(p, ends ? ends[0] : "the end of the template");
        }
        check_unknown(p);
    }
    jinja_unnest(p);
}

// The body of a statement, up to and with its end tag (but not that tag's end).
static void parse_block(struct jinja_parser *p, struct jinja_node *node, const char *end) {
    const char *const ends[] = {end, NULL};
    struct jinja_node_list list = {0};
    jinja_expect_block_end(p);
    parse_body(p, &list, ends);
    jinja_next_token(p);
    jinja_set_items(node, &list);
}

// As parse_block for bodies that are scopes of their own; filters must exist in them even within an if.
static void parse_scope(struct jinja_parser *p, struct jinja_node *node, const char *end) {
    bool soft = p->soft;
    p->soft = false;
    parse_block(p, node, end);
    p->soft = soft;
}

static const struct jinja_node *parse_target_item(struct jinja_parser *p) {
    if (jinja_skip(p, "(")) {
        jinja_nest(p);
        const struct jinja_node *inner = jinja_parse_tuple(p, parse_target_item, true, NULL);
        jinja_unnest(p);
        jinja_expect(p, ")");
        return inner;
    }
    int line = p->token.line;
    struct str_view name = jinja_expect_name(p);
    static const char *const reserved[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (str_view_equal(name, str_view_of(reserved[i])))
            jinja_syntax_error(&p->lexer, line, "can't assign to '%s'", reserved[i]);
    if (!jinja_skip(p, ".")) return jinja_new_name(p, name);
    struct jinja_node *node = jinja_new_node(p, JINJA_NAMESPACE_SLOT);
    node->symbol = jinja_intern(p, name);
    node->text = jinja_new_string(p, jinja_expect_name(p));
    return node;
}

static const struct jinja_node *parse_target(struct jinja_parser *p, const char *end_name) {
    return jinja_parse_tuple(p, parse_target_item, false, end_name);
}

static const struct jinja_node *parse_body_node(struct jinja_parser *p, const char *const *ends) {
    struct jinja_node *body = jinja_new_node(p, JINJA_BODY);
    struct jinja_node_list list = {0};
    jinja_expect_block_end(p);
    parse_body(p, &list, ends);
    jinja_set_items(body, &list);
    return body;
}

static const struct jinja_node *parse_if(struct jinja_parser *p) {
    static const char *const ends[] = {"endif", "elif", "else", NULL}, *const last[] = {"endif", NULL};
    struct jinja_node *node = jinja_new_node(p, JINJA_IF);
    struct jinja_node_list branches = {0};
    bool soft = p->soft;
    p->soft = true;
    do {
        jinja_next_token(p);
        jinja_add_node(p, &branches, jinja_parse_tuple(p, jinja_parse_or, false, NULL));
        jinja_add_node(p, &branches, parse_body_node(p, ends));
    } while (jinja_at_name(p, "elif"));
    if (jinja_skip_name(p, "else")) node->b = parse_body_node(p, last);
    jinja_next_token(p);
    p->soft = soft;
    jinja_set_items(node, &branches);
    return node;
}

static const struct jinja_node *parse_for(struct jinja_parser *p) {
    static const char *const ends[] = {"endfor", "else", NULL}, *const last[] = {"endfor", NULL};
    struct jinja_node *node = jinja_new_node(p, JINJA_FOR);
    bool soft = p->soft;
    jinja_next_token(p);
    node->a = parse_target(p, "in");
    if (!jinja_skip_name(p, "in")) jinja_unexpected(p, "in");
    node->b = jinja_parse_tuple(p, jinja_parse_or, false, "recursive");
    p->soft = false;
    if (jinja_skip_name(p, "if")) node->c = jinja_parse_expression(p);
    node->flag = jinja_skip_name(p, "recursive");
    struct jinja_node_list list = {0};
    jinja_expect_block_end(p);
    p->loop_depth++;
    parse_body(p, &list, ends);
    p->loop_depth--;
    jinja_set_items(node, &list);
    if (jinja_skip_name(p, "else")) node->otherwise = parse_body_node(p, last);
    jinja_next_token(p);
    p->soft = soft;
    return node;
}

static const struct jinja_node *parse_set(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_SET);
    jinja_next_token(p);
    node->a = parse_target(p, NULL);
    if (jinja_skip(p, "=")) {
        node->b = jinja_parse_tuple(p, jinja_parse_expression, false, NULL);
        return node;
    }
    node->kind = JINJA_SET_BLOCK;
    while (jinja_skip(p, "|")) node->b = jinja_parse_filter(p, node->b);
    parse_scope(p, node, "endset");
    return node;
}

static struct jinja_signature *parse_signature(struct jinja_parser *p) {
    struct jinja_signature *signature = jinja_parser_alloc(p, 1, sizeof *signature);
    struct jinja_node_list names = {0}, defaults = {0};
    bool has_default = false;
    jinja_expect(p, "(");
    while (!jinja_at(p, ")")) {
        if (names.count) jinja_expect(p, ",");
        if (jinja_at(p, ")")) break;
        jinja_add_node(p, &names, jinja_new_name(p, jinja_expect_name(p)));
        if (jinja_skip(p, "=")) {
            has_default = true;
            jinja_add_node(p, &defaults, jinja_parse_expression(p));
        } else {
            if (has_default) jinja_unexpected(p, "a default for every later parameter");
            jinja_add_node(p, &defaults, NULL);
        }
    }
    jinja_next_token(p);
    signature->count = names.count;
    signature->parameters = jinja_parser_alloc(p, names.count, sizeof *signature->parameters);
    signature->names = jinja_parser_alloc(p, names.count, sizeof *signature->names);
    signature->defaults = defaults.items;
    for (size_t i = 0; i < names.count; i++) {
        signature->parameters[i] = names.items[i]->symbol;
        signature->names[i] = names.items[i]->text;
    }
    return signature;
}

// The body of a macro or call block. Uses of varargs, kwargs and caller count for macros around as well.
static void parse_macro_body(struct jinja_parser *p, struct jinja_node *node, struct jinja_signature *signature,
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

static const struct jinja_node *parse_macro(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_MACRO_NODE);
    jinja_next_token(p);
    struct str_view name = jinja_expect_name(p);
    node->symbol = jinja_intern(p, name);
    node->text = jinja_new_string(p, name);
    parse_macro_body(p, node, parse_signature(p), "endmacro");
    return node;
}

static const struct jinja_node *parse_call_block(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_CALL_BLOCK);
    jinja_next_token(p);
    struct jinja_signature *signature =
        jinja_at(p, "(") ? parse_signature(p) : jinja_parser_alloc(p, 1, sizeof *signature);
    node->a = jinja_parse_expression(p);
    if (node->a->kind != JINJA_CALL) jinja_syntax_error(&p->lexer, node->line, "expected call");
    node->text = jinja_new_string(p, STR_VIEW("caller"));
    parse_macro_body(p, node, signature, "endcall");
    return node;
}

static const struct jinja_node *parse_generation(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_CALL_BLOCK);
    jinja_next_token(p);
    node->text = jinja_new_string(p, STR_VIEW("caller"));
    parse_macro_body(p, node, jinja_parser_alloc(p, 1, sizeof(struct jinja_signature)), "endgeneration");
    return node;
}

static const struct jinja_node *parse_filter_block(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_FILTER_BLOCK);
    do {
        jinja_next_token(p);
        node->a = jinja_parse_filter(p, node->a);
    } while (jinja_at(p, "|"));
    parse_scope(p, node, "endfilter");
    return node;
}

static const struct jinja_node *parse_with(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_WITH);
    struct jinja_node_list targets = {0}, values = {0};
    jinja_next_token(p);
    while (p->token.kind != JINJA_TOKEN_BLOCK_END) {
        if (targets.count) jinja_expect(p, ",");
        jinja_add_node(p, &targets, parse_target_item(p));
        jinja_expect(p, "=");
        jinja_add_node(p, &values, jinja_parse_expression(p));
    }
    struct jinja_node *names = jinja_new_node(p, JINJA_MAKE_TUPLE), *given = jinja_new_node(p, JINJA_MAKE_TUPLE);
    jinja_set_items(names, &targets);
    jinja_set_items(given, &values);
    node->a = names;
    node->b = given;
    parse_scope(p, node, "endwith");
    return node;
}

static const struct jinja_node *parse_named_block(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_SCOPE);
    jinja_next_token(p);
    struct str_view name = jinja_expect_name(p);
    if (!jinja_skip_name(p, "scoped")) jinja_skip_name(p, "required");
    parse_scope(p, node, "endblock");
    if (p->token.kind == JINJA_TOKEN_NAME && str_view_equal(p->token.text, name)) jinja_next_token(p);
    return node;
}

static const struct jinja_node *parse_loop_control(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, jinja_at_name(p, "break") ? JINJA_BREAK : JINJA_CONTINUE);
    if (!p->loop_depth) jinja_syntax_error(&p->lexer, node->line, "'break' or 'continue' outside of a loop");
    jinja_next_token(p);
    return node;
}

static const struct jinja_node *parse_print_statement(struct jinja_parser *p) {
    struct jinja_node *body = jinja_new_node(p, JINJA_BODY);
    struct jinja_node_list list = {0};
    do {
        struct jinja_node *node = jinja_new_node(p, JINJA_PRINT);
        jinja_next_token(p);
        node->a = jinja_parse_expression(p);
        jinja_add_node(p, &list, node);
    } while (jinja_at(p, ","));
    jinja_set_items(body, &list);
    return body;
}

static const struct jinja_node *parse_statement(struct jinja_parser *p) {
    static const struct {
        const char *tag;
        const struct jinja_node *(*parse)(struct jinja_parser *p);
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
        if (jinja_at_name(p, statements[i].tag)) return statements[i].parse(p);
    if (p->token.kind != JINJA_TOKEN_NAME) jinja_unexpected(p, "a tag name");
    jinja_syntax_error(&p->lexer, p->token.line, "Encountered unknown tag '%.*s'.",
                       p->token.text.n_bytes < 40 ? (int)p->token.text.n_bytes : 40, p->token.text.data);
}

static void parse_template(struct jinja_parser *p, struct str_view source) {
    struct jinja_program *program = p->program;
    map_open(&program->symbols, 64, false);
    program->loop = jinja_intern(p, STR_VIEW("loop"));
    program->caller = jinja_intern(p, STR_VIEW("caller"));
    program->varargs = jinja_intern(p, STR_VIEW("varargs"));
    program->kwargs = jinja_intern(p, STR_VIEW("kwargs"));
    jinja_lexer_open(&p->lexer, source);
    p->ahead = jinja_lexer_next(&p->lexer);
    jinja_next_token(p);
    struct jinja_node *body = jinja_new_node(p, JINJA_BODY);
    struct jinja_node_list list = {0};
    parse_body(p, &list, NULL);
    jinja_set_items(body, &list);
    program->body = body;
}

int jinja_parse(struct jinja_program **out, struct str_view source, struct err *err) {
    struct err own;
    struct jinja_parser p = {0};
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

size_t jinja_program_bytes(const struct jinja_program *program) {
    return sizeof *program + program->arena.n_bytes + map_bytes(&program->symbols) +
           program->symbols_capacity * (sizeof *program->names + sizeof *program->is_read);
}

void jinja_program_close(struct jinja_program *program) {
    if (!program) return;
    map_close(&program->symbols);
    free(program->names);
    free(program->is_read);
    arena_close(&program->arena);
    free(program);
}
