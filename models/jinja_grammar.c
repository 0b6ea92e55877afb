#include "models/jinja_grammar.h"

#include "base/utf8.h"

#include <string.h>

// Far beyond the longest real template.
enum { NODES_MAX = 250000 };

void *jinja_parser_alloc(struct jinja_parser *p, size_t count, size_t n_bytes) {
    size_t total = 0;
    void *memory = size_mul(count ? count : 1, n_bytes, &total) ? arena_try_alloc(&p->program->arena, total) : NULL;
    if (!memory) jinja_syntax_error(&p->lexer, p->token.line, "the template is too large");
    return memset(memory, 0, total);
}

struct jinja_node *jinja_new_node(struct jinja_parser *p, enum jinja_node_kind kind) {
    if (++p->n_nodes > NODES_MAX) jinja_syntax_error(&p->lexer, p->token.line, "the template is too large");
    struct jinja_node *node = jinja_parser_alloc(p, 1, sizeof *node);
    node->kind = (uint8_t)kind;
    node->line = p->token.line;
    return node;
}

const struct jinja_node *jinja_new_name(struct jinja_parser *p, struct str_view name) {
    struct jinja_node *node = jinja_new_node(p, JINJA_NAME);
    node->symbol = jinja_intern(p, name);
    node->text = jinja_new_string(p, name);
    return node;
}

void jinja_add_node(struct jinja_parser *p, struct jinja_node_list *list, const struct jinja_node *node) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 4;
        const struct jinja_node **items = jinja_parser_alloc(p, list->capacity, sizeof(struct jinja_node *));
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
    }
    list->items[list->count++] = node;
}

void jinja_set_items(struct jinja_node *node, const struct jinja_node_list *list) {
    node->items = list->items;
    node->n_items = list->count;
}

const struct jinja_string *jinja_new_string(struct jinja_parser *p, struct str_view text) {
    struct jinja_string *s = jinja_parser_alloc(p, 1, sizeof *s);
    *s = (struct jinja_string){text.data, text.n_bytes, utf8_length(text.data, text.n_bytes), NULL, 1, true, false};
    return s;
}

int jinja_intern(struct jinja_parser *p, struct str_view name) {
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

void jinja_next_token(struct jinja_parser *p) {
    p->token = p->ahead;
    p->ahead = jinja_lexer_next(&p->lexer);
}

bool jinja_token_is(const struct jinja_token *token, enum jinja_token_kind kind, const char *text) {
    return token->kind == kind && str_view_equal(token->text, str_view_of(text));
}
bool jinja_at_name(const struct jinja_parser *p, const char *name) {
    return jinja_token_is(&p->token, JINJA_TOKEN_NAME, name);
}
bool jinja_at(const struct jinja_parser *p, const char *sign) {
    return jinja_token_is(&p->token, JINJA_TOKEN_OPERATOR, sign);
}
bool jinja_skip_name(struct jinja_parser *p, const char *name) {
    bool here = jinja_at_name(p, name);
    if (here) jinja_next_token(p);
    return here;
}
bool jinja_skip(struct jinja_parser *p, const char *sign) {
    bool here = jinja_at(p, sign);
    if (here) jinja_next_token(p);
    return here;
}

noreturn void jinja_unexpected(struct jinja_parser *p, const char *expected) {
    const char *what = p->token.kind == JINJA_TOKEN_END            ? "end of template"
                       : p->token.kind == JINJA_TOKEN_BLOCK_END    ? "end of statement block"
                       : p->token.kind == JINJA_TOKEN_VARIABLE_END ? "end of print statement"
                                                                   : NULL;
    if (what) jinja_syntax_error(&p->lexer, p->token.line, "expected %s, got the %s", expected, what);
    int n = p->token.text.n_bytes < 40 ? (int)p->token.text.n_bytes : 40;
    jinja_syntax_error(&p->lexer, p->token.line, "expected %s, got '%.*s'", expected, n, p->token.text.data);
}

void jinja_expect(struct jinja_parser *p, const char *sign) {
    if (!jinja_skip(p, sign)) jinja_unexpected(p, sign);
}
struct str_view jinja_expect_name(struct jinja_parser *p) {
    if (p->token.kind != JINJA_TOKEN_NAME) jinja_unexpected(p, "a name");
    struct str_view name = p->token.text;
    jinja_next_token(p);
    return name;
}
void jinja_expect_block_end(struct jinja_parser *p) {
    if (p->token.kind != JINJA_TOKEN_BLOCK_END) jinja_unexpected(p, "end of statement block");
    jinja_next_token(p);
}

void jinja_nest(struct jinja_parser *p) {
    if (++p->depth > JINJA_NESTING_MAX) jinja_syntax_error(&p->lexer, p->token.line, "nested too deeply");
}
void jinja_unnest(struct jinja_parser *p) {
    p->depth--;
}
