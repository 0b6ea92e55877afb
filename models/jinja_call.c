// Calls: binding arguments to parameters of builtins and macros.
#include "models/jinja_eval.h"
#include "models/jinja_string.h"

#include <string.h>

// The names of a builtin's parameters, cut at blanks.
static size_t split_parameters(const char *text, struct str_view names[JINJA_BOUND_MAX]) {
    size_t count = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        names[count++] = (struct str_view){text, n};
        text += n + (text[n] == ' ');
    }
    return count;
}

static noreturn void raise_keyword(struct jinja_render *r, const char *function, const struct jinja_string *keyword) {
    int n = keyword->n_bytes < 60 ? (int)keyword->n_bytes : 60;
    jinja_raise(r, "TypeError: %s() got an unexpected keyword argument '%.*s'", function, n, keyword->bytes);
}

struct jinja_value jinja_call_builtin(struct jinja_render *r, const struct jinja_builtin *builtin,
                                      const struct jinja_call *call) {
    struct jinja_call bound = *call;
    bound.name = builtin->name;
    if (!builtin->parameters) return builtin->function(r, &bound);
    struct str_view names[JINJA_BOUND_MAX];
    size_t count = split_parameters(builtin->parameters, names);
    if (call->n_keywords && builtin->positional_only)
        jinja_raise(r, "TypeError: %s() takes no keyword arguments", builtin->name);
    if (call->n_args > count)
        jinja_raise(r, "TypeError: %s() takes at most %zu arguments (%zu given)", builtin->name, count, call->n_args);
    memset(bound.bound, 0, sizeof bound.bound);
    for (size_t i = 0; i < call->n_args; i++) bound.bound[i] = call->args[i];
    for (size_t k = 0; k < call->n_keywords; k++) {
        const struct jinja_string *name = call->keywords[k].name;
        size_t i = 0;
        while (i < count && !str_view_equal(names[i], (struct str_view){name->bytes, name->n_bytes})) i++;
        if (i == count) raise_keyword(r, builtin->name, name);
        if (bound.bound[i].kind != JINJA_ABSENT)
            jinja_raise(r, "TypeError: %s() got multiple values for argument '%.*s'", builtin->name,
                        (int)names[i].n_bytes, names[i].data);
        bound.bound[i] = call->keywords[k].value;
    }
    for (int i = 0; i < builtin->n_required; i++)
        if (bound.bound[i].kind == JINJA_ABSENT)
            jinja_raise(r, "TypeError: %s() missing a required argument: '%.*s'", builtin->name, (int)names[i].n_bytes,
                        names[i].data);
    return builtin->function(r, &bound);
}

struct jinja_call jinja_eval_arguments(struct jinja_render *r, const struct jinja_arguments *arguments) {
    struct jinja_call call = {.self = {.kind = JINJA_ABSENT}};
    struct jinja_builder positional = {0};
    for (size_t i = 0; i < arguments->n_positional; i++)
        jinja_push(r, &positional, jinja_eval(r, arguments->positional[i]));
    if (arguments->star) {
        const struct jinja_list *more = jinja_iterate(r, jinja_eval(r, arguments->star));
        for (size_t i = 0; i < more->count; i++) jinja_push(r, &positional, more->items[i]);
    }
    struct jinja_value extra = {.kind = JINJA_ABSENT};
    if (arguments->double_star) extra = jinja_eval(r, arguments->double_star);
    if (extra.kind != JINJA_ABSENT && extra.kind != JINJA_DICT)
        jinja_raise(r, "TypeError: argument after ** must be a mapping, not %s", jinja_type_name(extra));
    size_t n_extra = extra.kind == JINJA_DICT ? extra.dict->count : 0;
    struct jinja_keyword *keywords = NULL;
    if (arguments->n_keywords + n_extra) keywords = jinja_alloc(r, arguments->n_keywords + n_extra, sizeof *keywords);
    for (size_t i = 0; i < arguments->n_keywords; i++)
        keywords[i] = (struct jinja_keyword){arguments->keywords[i].name, jinja_eval(r, arguments->keywords[i].value)};
    for (size_t i = 0; i < n_extra; i++) {
        const struct jinja_entry *entry = &extra.dict->entries[i];
        if (entry->key.kind != JINJA_STRING) jinja_raise(r, "TypeError: keywords must be strings");
        keywords[arguments->n_keywords + i] = (struct jinja_keyword){entry->key.string, entry->value};
    }
    call.args = positional.items;
    call.n_args = positional.count;
    call.keywords = keywords;
    call.n_keywords = arguments->n_keywords + n_extra;
    return call;
}

// The macro's parameter of that name, or SIZE_MAX.
static size_t find_parameter(const struct jinja_signature *signature, const struct jinja_string *name) {
    for (size_t i = 0; i < signature->count; i++)
        if (jinja_string_equal(signature->names[i], name)) return i;
    return SIZE_MAX;
}

// Keywords that are no parameters: kwargs of the macro, when it uses them.
static struct jinja_value extra_keywords(struct jinja_render *r, const struct jinja_macro *macro,
                                         const struct jinja_call *call, struct jinja_value *given) {
    const struct jinja_signature *signature = macro->node->signature;
    struct jinja_dict *extra = jinja_dict_new(r, call->n_keywords);
    for (size_t k = 0; k < call->n_keywords; k++) {
        const struct jinja_keyword *keyword = &call->keywords[k];
        size_t i = find_parameter(signature, keyword->name);
        if (i != SIZE_MAX && given[i].kind != JINJA_ABSENT)
            jinja_raise(r, "TypeError: macro '%s' got multiple values for a keyword argument", macro->name);
        if (i != SIZE_MAX)
            given[i] = keyword->value;
        else if (signature->uses_kwargs)
            jinja_dict_put(r, extra, jinja_string_value(keyword->name), keyword->value);
        else
            jinja_raise(r, "TypeError: macro '%s' takes no keyword argument '%.*s'", macro->name,
                        (int)(keyword->name->n_bytes & 0xff), keyword->name->bytes);
    }
    return (struct jinja_value){.kind = JINJA_DICT, .dict = extra};
}

static struct jinja_value extra_arguments(struct jinja_render *r, const struct jinja_macro *macro,
                                          const struct jinja_call *call) {
    const struct jinja_signature *signature = macro->node->signature;
    size_t n = call->n_args > signature->count ? call->n_args - signature->count : 0;
    if (n && !signature->uses_varargs)
        jinja_raise(r, "TypeError: macro '%s' takes not more than %zu argument(s)", macro->name, signature->count);
    struct jinja_list *extra = jinja_list_new(r, n);
    for (size_t i = 0; i < n; i++) extra->items[i] = call->args[signature->count + i];
    return jinja_list_value(JINJA_TUPLE, extra);
}

static struct jinja_value missing_parameter(struct jinja_render *r, const struct jinja_string *name) {
    char *text = arena_printf(&r->arena, "parameter '%.*s' was not provided", (int)(name->n_bytes & 0x7f), name->bytes);
    return jinja_undefined_text(r, text);
}

// In the macro's own scope and in order: a default may use the parameters before it.
static void bind_parameters(struct jinja_render *r, const struct jinja_signature *signature,
                            const struct jinja_value *given) {
    for (size_t i = 0; i < signature->count; i++) {
        struct jinja_value v = given[i];
        if (v.kind == JINJA_ABSENT)
            v = signature->defaults[i] ? jinja_eval(r, signature->defaults[i])
                                       : missing_parameter(r, signature->names[i]);
        jinja_bind(r, signature->parameters[i], v);
    }
}

static struct jinja_value call_macro(struct jinja_render *r, const struct jinja_macro *macro,
                                     const struct jinja_call *call, struct jinja_value caller) {
    const struct jinja_signature *signature = macro->node->signature;
    const struct jinja_program *program = r->program;
    struct jinja_value *given = jinja_alloc(r, signature->count, sizeof *given);
    for (size_t i = 0; i < signature->count && i < call->n_args; i++) given[i] = call->args[i];
    struct jinja_value kwargs = extra_keywords(r, macro, call, given), varargs = extra_arguments(r, macro, call);
    if (caller.kind != JINJA_ABSENT && !signature->uses_caller)
        jinja_raise(r, "TypeError: macro '%s' was invoked with a caller but does not use it", macro->name);
    if (caller.kind == JINJA_ABSENT) caller = jinja_undefined_text(r, "No caller defined");

    struct jinja_scope *around = r->scope, *scope = jinja_alloc(r, 1, sizeof *scope);
    scope->parent = macro->scope;
    r->scope = scope;
    if (signature->uses_varargs) jinja_bind(r, program->varargs, varargs);
    if (signature->uses_kwargs) jinja_bind(r, program->kwargs, kwargs);
    if (signature->uses_caller) jinja_bind(r, program->caller, caller);
    bind_parameters(r, signature, given);
    size_t mark = jinja_mark(r);
    jinja_exec(r, macro->node->items, macro->node->n_items);
    r->scope = around;
    return jinja_take(r, mark);
}

// loop(items): the recursive loop once more, one level deeper.
static struct jinja_value call_loop(struct jinja_render *r, const struct jinja_loop *loop,
                                    const struct jinja_call *call) {
    if (!loop->node) jinja_raise(r, "TypeError: The loop must have the 'recursive' marker to be called recursively.");
    if (call->n_args != 1) jinja_raise(r, "TypeError: loop() takes exactly one argument");
    struct jinja_scope *around = r->scope;
    r->scope = loop->scope;
    size_t mark = jinja_mark(r);
    jinja_exec_loop(r, loop->node, call->args[0], loop->depth0 + 1);
    r->scope = around;
    return jinja_take(r, mark);
}

struct jinja_value jinja_call_value(struct jinja_render *r, struct jinja_value callee, const struct jinja_call *call,
                                    struct jinja_value caller) {
    struct jinja_value result;
    jinja_need_defined(r, callee);
    jinja_enter(r);
    if (callee.kind == JINJA_MACRO) {
        result = call_macro(r, callee.macro, call, caller);
    } else if (callee.kind == JINJA_METHOD) {
        struct jinja_call own = *call;
        own.self = callee.method->self;
        result = jinja_call_builtin(r, callee.method->builtin, &own);
    } else if (callee.kind == JINJA_FUNCTION) {
        result = jinja_call_builtin(r, callee.function, call);
    } else if (callee.kind == JINJA_LOOP) {
        result = call_loop(r, callee.loop, call);
    } else {
        jinja_raise(r, "TypeError: '%s' object is not callable", jinja_type_name(callee));
    }
    jinja_leave(r);
    return result;
}
