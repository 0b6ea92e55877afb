// Walks the tree of a template.
#pragma once

#include "models/jinja_ast.h"

enum jinja_flow { JINJA_FLOW_ON, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE };

struct jinja_value jinja_eval(struct jinja_render *r, const struct jinja_node *node);
// Appends what the statements print; says whether a break or continue is under way.
enum jinja_flow jinja_exec(struct jinja_render *r, const struct jinja_node *const *statements, size_t count);

void jinja_bind(struct jinja_render *r, int symbol, struct jinja_value value); // in the innermost scope
struct jinja_value jinja_lookup(struct jinja_render *r, int symbol);           // JINJA_ABSENT: not bound

// Calls a function, method or macro. `caller` is what a call block hands over, or absent.
struct jinja_value jinja_call_value(struct jinja_render *r, struct jinja_value callee, const struct jinja_call *call,
                                    struct jinja_value caller);
// Calls a builtin with self and arguments; binds them to its parameters first.
struct jinja_value jinja_call_builtin(struct jinja_render *r, const struct jinja_builtin *builtin,
                                      const struct jinja_call *call);
// Evaluates the arguments at a call.
struct jinja_call jinja_eval_arguments(struct jinja_render *r, const struct jinja_arguments *arguments);
// Runs a for-loop's body over items; for loop(...) of recursive loops as well.
enum jinja_flow jinja_exec_loop(struct jinja_render *r, const struct jinja_node *node, struct jinja_value iterable,
                                int64_t depth0);
