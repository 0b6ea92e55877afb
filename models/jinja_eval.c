#include "models/jinja_eval.h"

#include "models/jinja_print.h"
#include "models/jinja_string.h"

#include <string.h>

struct jinja_value jinja_lookup(struct jinja_render *r, int symbol) {
    size_t visited = 0;
    for (struct jinja_scope *scope = r->scope; scope; scope = scope->parent)
        for (struct jinja_binding *binding = scope->bindings; binding; binding = binding->next) {
            if (binding->symbol == symbol) return binding->value;
            if (++visited % 16 == 0) jinja_charge(r, 1);
        }
    return r->globals[symbol];
}

void jinja_bind(struct jinja_render *r, int symbol, struct jinja_value value) {
    if (!r->scope) {
        r->globals[symbol] = value;
        return;
    }
    for (struct jinja_binding *binding = r->scope->bindings; binding; binding = binding->next)
        if (binding->symbol == symbol) {
            binding->value = value;
            return;
        }
    struct jinja_binding *binding = jinja_alloc(r, 1, sizeof *binding);
    *binding = (struct jinja_binding){symbol, value, r->scope->bindings};
    r->scope->bindings = binding;
}

static struct jinja_value eval_name(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value v = jinja_lookup(r, node->symbol);
    return v.kind == JINJA_ABSENT ? jinja_undefined(r, JINJA_NO_NAME, jinja_none(), node->text) : v;
}

static struct jinja_value eval_sequence(struct jinja_render *r, const struct jinja_node *node, enum jinja_kind kind) {
    struct jinja_list *list = jinja_list_new(r, node->n_items);
    for (size_t i = 0; i < node->n_items; i++) list->items[i] = jinja_eval(r, node->items[i]);
    return jinja_list_value(kind, list);
}

static struct jinja_value eval_dict(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_dict *dict = jinja_dict_new(r, node->n_items / 2);
    for (size_t i = 0; i < node->n_items; i += 2) {
        struct jinja_value key = jinja_eval(r, node->items[i]);
        jinja_dict_put(r, dict, key, jinja_eval(r, node->items[i + 1]));
    }
    return (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
}

static struct jinja_value eval_item(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value object = jinja_eval(r, node->a);
    if (node->b->kind != JINJA_SLICE) return jinja_get_item(r, object, jinja_eval(r, node->b));
    const struct jinja_node *parts[3] = {node->b->a, node->b->b, node->b->c};
    struct jinja_value bounds[3];
    for (int i = 0; i < 3; i++) bounds[i] = parts[i] ? jinja_eval(r, parts[i]) : jinja_none();
    return jinja_get_slice(r, object, bounds);
}

static struct jinja_value eval_call(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value callee = jinja_eval(r, node->a);
    struct jinja_call call = jinja_eval_arguments(r, node->call);
    return jinja_call_value(r, callee, &call, (struct jinja_value){.kind = JINJA_ABSENT});
}

static struct jinja_value eval_builtin(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value self = jinja_eval(r, node->a);
    if (!node->builtin)
        jinja_raise(r, "TemplateRuntimeError: No %s named '%.*s' found.",
                    node->kind == JINJA_FILTER ? "filter" : "test", (int)(node->text->n_bytes & 0x7f),
                    node->text->bytes);
    struct jinja_call call = jinja_eval_arguments(r, node->call);
    call.self = self;
    return jinja_call_builtin(r, node->builtin, &call);
}

static struct jinja_value eval_conditional(struct jinja_render *r, const struct jinja_node *node) {
    if (jinja_truth(jinja_eval(r, node->a))) return jinja_eval(r, node->b);
    if (node->c) return jinja_eval(r, node->c);
    return jinja_undefined_text(r, "the inline if-expression evaluated to false and no else section was defined.");
}

static struct jinja_value eval_concat(struct jinja_render *r, const struct jinja_node *node) {
    // All operands first: what they build lies above the mark only while they run.
    struct jinja_list *list = jinja_list_new(r, node->n_items);
    for (size_t i = 0; i < node->n_items; i++) list->items[i] = jinja_eval(r, node->items[i]);
    size_t mark = jinja_mark(r);
    for (size_t i = 0; i < node->n_items; i++) jinja_append_str(r, list->items[i]);
    return jinja_take(r, mark);
}

static struct jinja_value eval_compare(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value left = jinja_eval(r, node->a);
    for (size_t i = 0; i < node->n_items; i++) {
        struct jinja_value right = jinja_eval(r, node->items[i]);
        if (!jinja_compare(r, (enum jinja_comparison)node->operators[i], left, right)) return jinja_bool(false);
        left = right;
    }
    return jinja_bool(true);
}

static struct jinja_value eval_logic(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value left = jinja_eval(r, node->a);
    return jinja_truth(left) == (node->kind == JINJA_OR) ? left : jinja_eval(r, node->b);
}

static struct jinja_value eval_binary(struct jinja_render *r, const struct jinja_node *node) {
    struct jinja_value left = jinja_eval(r, node->a);
    return jinja_binary(r, (enum jinja_binary)node->op, left, jinja_eval(r, node->b));
}

static struct jinja_value eval_node(struct jinja_render *r, const struct jinja_node *node) {
    switch ((enum jinja_node_kind)node->kind) {
    case JINJA_CONST:
        return node->value;
    case JINJA_NAME:
        return eval_name(r, node);
    case JINJA_MAKE_LIST:
        return eval_sequence(r, node, JINJA_LIST);
    case JINJA_MAKE_TUPLE:
        return eval_sequence(r, node, JINJA_TUPLE);
    case JINJA_MAKE_DICT:
        return eval_dict(r, node);
    case JINJA_ATTRIBUTE:
        return jinja_get_attribute(r, jinja_eval(r, node->a), node->text);
    case JINJA_ITEM:
        return eval_item(r, node);
    case JINJA_CALL:
        return eval_call(r, node);
    case JINJA_FILTER:
    case JINJA_TEST:
        return eval_builtin(r, node);
    case JINJA_NOT:
        return jinja_bool(!jinja_truth(jinja_eval(r, node->a)));
    case JINJA_NEGATE:
        return jinja_negate(r, jinja_eval(r, node->a));
    case JINJA_POSITIVE:
        return jinja_positive(r, jinja_eval(r, node->a));
    case JINJA_AND:
    case JINJA_OR:
        return eval_logic(r, node);
    case JINJA_CONDITIONAL:
        return eval_conditional(r, node);
    case JINJA_BINARY:
        return eval_binary(r, node);
    case JINJA_CONCAT:
        return eval_concat(r, node);
    case JINJA_COMPARE:
        return eval_compare(r, node);
    default:
        jinja_raise(r, "this cannot stand in an expression");
    }
}

struct jinja_value jinja_eval(struct jinja_render *r, const struct jinja_node *node) {
    jinja_enter(r);
    struct jinja_value v = eval_node(r, node);
    jinja_leave(r);
    return v;
}
