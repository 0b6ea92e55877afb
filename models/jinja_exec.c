// Statements.
#include "models/jinja_builtin.h"
#include "models/jinja_eval.h"
#include "models/jinja_print.h"
#include "models/jinja_string.h"

#include <string.h>

static struct jinja_scope *push_scope(struct jinja_render *r, struct jinja_scope *parent) {
    struct jinja_scope *scope = jinja_alloc(r, 1, sizeof *scope); // not on the stack: macros defined inside keep it
    scope->parent = parent;
    r->scope = scope;
    return scope;
}

static void assign(struct jinja_render *r, const struct jinja_node *target, struct jinja_value value) {
    if (target->kind == JINJA_NAME) {
        jinja_bind(r, target->symbol, value);
        return;
    }
    if (target->kind == JINJA_NAMESPACE_SLOT) {
        struct jinja_value space = jinja_lookup(r, target->symbol);
        if (space.kind != JINJA_NAMESPACE)
            jinja_raise(r, "TemplateRuntimeError: cannot assign attribute on non-namespace object");
        jinja_namespace_put(r, space.space, target->text, value);
        return;
    }
    jinja_need_defined(r, value);
    if (!jinja_can_iterate(value))
        jinja_raise(r, "TypeError: cannot unpack non-iterable %s object", jinja_type_name(value));
    const struct jinja_list *list = jinja_iterate(r, value);
    if (list->count != target->n_items)
        jinja_raise(r, "ValueError: %s values to unpack (expected %zu, got %zu)",
                    list->count < target->n_items ? "not enough" : "too many", target->n_items, list->count);
    for (size_t i = 0; i < target->n_items; i++) assign(r, target->items[i], list->items[i]);
}

// The items for which the loop's `if` holds.
static const struct jinja_list *select_items(struct jinja_render *r, const struct jinja_node *node,
                                             const struct jinja_list *all) {
    struct jinja_scope *around = r->scope;
    struct jinja_builder kept = {0};
    for (size_t i = 0; i < all->count; i++) {
        push_scope(r, around);
        jinja_charge(r, 1);
        jinja_bind(r, r->program->loop, jinja_undefined_text(r, "'loop' is undefined in the filter of a loop"));
        assign(r, node->a, all->items[i]);
        if (jinja_truth(jinja_eval(r, node->c))) jinja_push(r, &kept, all->items[i]);
    }
    r->scope = around;
    return jinja_finish(r, &kept, JINJA_LIST).list;
}

static enum jinja_flow exec_body(struct jinja_render *r, const struct jinja_node *body) {
    return jinja_exec(r, body->items, body->n_items);
}

enum jinja_flow jinja_exec_loop(struct jinja_render *r, const struct jinja_node *node, struct jinja_value iterable,
                                int64_t depth0) {
    const struct jinja_list *items = jinja_iterate(r, iterable);
    if (node->c) items = select_items(r, node, items);
    struct jinja_scope *around = r->scope;
    struct jinja_loop *loop = jinja_alloc(r, 1, sizeof *loop);
    *loop = (struct jinja_loop){.items = items, .depth0 = depth0, .scope = around, .node = node->flag ? node : NULL};
    enum jinja_flow flow = JINJA_FLOW_ON;
    for (size_t i = 0; i < items->count && flow != JINJA_FLOW_BREAK; i++) {
        loop->index0 = i;
        jinja_charge(r, 1);
        push_scope(r, around);
        jinja_bind(r, r->program->loop, (struct jinja_value){.kind = JINJA_LOOP, .loop = loop});
        assign(r, node->a, items->items[i]);
        flow = jinja_exec(r, node->items, node->n_items);
    }
    r->scope = around;
    if (items->count || !node->otherwise) return JINJA_FLOW_ON;
    push_scope(r, around);
    flow = exec_body(r, node->otherwise);
    r->scope = around;
    return flow;
}

static enum jinja_flow exec_if(struct jinja_render *r, const struct jinja_node *node) {
    for (size_t i = 0; i < node->n_items; i += 2)
        if (jinja_truth(jinja_eval(r, node->items[i]))) return exec_body(r, node->items[i + 1]);
    return node->b ? exec_body(r, node->b) : JINJA_FLOW_ON;
}

// Applies a chain of filters whose innermost has no operand yet to a value.
static struct jinja_value apply_filters(struct jinja_render *r, const struct jinja_node *filter,
                                        struct jinja_value value) {
    if (!filter) return value;
    jinja_enter(r);
    value = apply_filters(r, filter->a, value);
    struct jinja_call call = jinja_eval_arguments(r, filter->call);
    if (!filter->builtin) jinja_raise(r, "TemplateRuntimeError: No such filter found.");
    call.self = value;
    value = jinja_call_builtin(r, filter->builtin, &call);
    jinja_leave(r);
    return value;
}

// Runs the statements in a scope of their own and gives what they printed.
static struct jinja_value capture(struct jinja_render *r, const struct jinja_node *node, enum jinja_flow *flow) {
    struct jinja_scope *around = r->scope;
    size_t mark = jinja_mark(r);
    push_scope(r, around);
    *flow = jinja_exec(r, node->items, node->n_items);
    r->scope = around;
    return jinja_take(r, mark);
}

static enum jinja_flow exec_captured(struct jinja_render *r, const struct jinja_node *node) {
    enum jinja_flow flow;
    struct jinja_value text = capture(r, node, &flow);
    if (flow != JINJA_FLOW_ON) return flow;
    if (node->kind == JINJA_SET_BLOCK)
        assign(r, node->a, apply_filters(r, node->b, text));
    else
        jinja_append_str(r, apply_filters(r, node->a, text));
    return JINJA_FLOW_ON;
}

static struct jinja_value new_macro(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_macro *macro = jinja_alloc(r, 1, sizeof *macro);
    *macro = (struct jinja_macro){node, r->scope, arena_copy_string(&r->arena, node->text->bytes, node->text->n_bytes)};
    return (struct jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

static void exec_call_block(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value caller = new_macro(r, node), result;
    if (node->a) {
        struct jinja_value callee = jinja_eval(r, node->a->a);
        struct jinja_call call = jinja_eval_arguments(r, node->a->call);
        result = jinja_call_value(r, callee, &call, caller);
    } else {
        result = jinja_call_value(r, caller, &(struct jinja_call){0}, (struct jinja_value){.kind = JINJA_ABSENT});
    }
    jinja_append_str(r, result);
}

static enum jinja_flow exec_with(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_scope *around = r->scope;
    struct jinja_value values = jinja_eval(r, node->b);
    push_scope(r, around);
    assign(r, node->a, values);
    enum jinja_flow flow = jinja_exec(r, node->items, node->n_items);
    r->scope = around;
    return flow;
}

static enum jinja_flow exec_scope(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_scope *around = r->scope;
    push_scope(r, around);
    enum jinja_flow flow = jinja_exec(r, node->items, node->n_items);
    r->scope = around;
    return flow;
}

static enum jinja_flow exec_node(struct jinja_render *r, const struct jinja_node *node) {
    switch ((enum jinja_node_kind)node->kind) {
    case JINJA_DATA:
        jinja_append_string(r, node->value.string);
        return JINJA_FLOW_ON;
    case JINJA_PRINT: {
        struct jinja_value v = jinja_eval(r, node->a);
        jinja_append_str(r, v);
        return JINJA_FLOW_ON;
    }
    case JINJA_IF:
        return exec_if(r, node);
    case JINJA_FOR:
        return jinja_exec_loop(r, node, jinja_eval(r, node->b), 0);
    case JINJA_SET:
        assign(r, node->a, jinja_eval(r, node->b));
        return JINJA_FLOW_ON;
    case JINJA_SET_BLOCK:
    case JINJA_FILTER_BLOCK:
        return exec_captured(r, node);
    case JINJA_MACRO_NODE:
        jinja_bind(r, node->symbol, new_macro(r, node));
        return JINJA_FLOW_ON;
    case JINJA_CALL_BLOCK:
        exec_call_block(r, node);
        return JINJA_FLOW_ON;
    case JINJA_WITH:
        return exec_with(r, node);
    case JINJA_SCOPE:
        return exec_scope(r, node);
    case JINJA_BODY:
        return exec_body(r, node);
    case JINJA_BREAK:
        return JINJA_FLOW_BREAK;
    case JINJA_CONTINUE:
        return JINJA_FLOW_CONTINUE;
    default:
        jinja_raise(r, "this cannot stand as a statement");
    }
}

enum jinja_flow jinja_exec(struct jinja_render *r, const struct jinja_node *const *statements, size_t count) {
    enum jinja_flow flow = JINJA_FLOW_ON;
    jinja_enter(r);
    for (size_t i = 0; i < count && flow == JINJA_FLOW_ON; i++) {
        jinja_charge(r, 1);
        flow = exec_node(r, statements[i]);
    }
    jinja_leave(r);
    return flow;
}
