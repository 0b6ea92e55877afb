// What the two halves of the parser share: its state, nodes and tokens. Everything that fails leaves by the lexer's
// escape, with the line in the error.
#pragma once

#include "models/jinja_ast.h"
#include "models/jinja_lexer.h"

struct jinja_parser {
    struct jinja_lexer lexer;
    struct jinja_program *program;
    struct jinja_token token, ahead; // the current one and the one behind it
    int depth;
    size_t n_nodes;
    int loop_depth; // for-loops around, within the same macro
    // Inside if-statements and conditional expressions an unknown filter or test is an error only when it is reached.
    bool soft;
    const struct jinja_node *unknown;  // the first unknown filter or test since the last statement, outside of those
    struct jinja_signature *signature; // of the macro around, to note the use of varargs, kwargs and caller
    jmp_buf escape;
};

struct jinja_node_list {
    const struct jinja_node **items;
    size_t count, capacity;
};

// Nodes and memory, which live as long as the program.
void *jinja_parser_alloc(struct jinja_parser *p, size_t count, size_t n_bytes); // zeroed
struct jinja_node *jinja_new_node(struct jinja_parser *p, enum jinja_node_kind kind);
const struct jinja_node *jinja_new_name(struct jinja_parser *p, struct str_view name);
const struct jinja_string *jinja_new_string(struct jinja_parser *p, struct str_view text);
int jinja_intern(struct jinja_parser *p, struct str_view name); // the name's symbol
void jinja_add_node(struct jinja_parser *p, struct jinja_node_list *list, const struct jinja_node *node);
void jinja_set_items(struct jinja_node *node, const struct jinja_node_list *list);

// Tokens: jinja_at* ask, jinja_skip* move on when it is there, jinja_expect* fail when it is not.
void jinja_next_token(struct jinja_parser *p);
bool jinja_token_is(const struct jinja_token *token, enum jinja_token_kind kind, const char *text);
bool jinja_at_name(const struct jinja_parser *p, const char *name);
bool jinja_at(const struct jinja_parser *p, const char *sign);
bool jinja_skip_name(struct jinja_parser *p, const char *name);
bool jinja_skip(struct jinja_parser *p, const char *sign);
void jinja_expect(struct jinja_parser *p, const char *sign);
struct str_view jinja_expect_name(struct jinja_parser *p);
void jinja_expect_block_end(struct jinja_parser *p);
noreturn void jinja_unexpected(struct jinja_parser *p, const char *expected);
void jinja_nest(struct jinja_parser *p); // one level deeper, up to JINJA_NESTING_MAX
void jinja_unnest(struct jinja_parser *p);

// Expressions.
const struct jinja_node *jinja_parse_expression(struct jinja_parser *p);
const struct jinja_node *jinja_parse_or(struct jinja_parser *p); // an expression without a conditional
const struct jinja_node *jinja_parse_filter(struct jinja_parser *p, const struct jinja_node *operand);
// Expressions separated by commas; one without a comma is itself. Ends also in front of the name `end_name`, if given.
const struct jinja_node *jinja_parse_tuple(struct jinja_parser *p,
                                           const struct jinja_node *(*parse)(struct jinja_parser *p), bool may_be_empty,
                                           const char *end_name);
