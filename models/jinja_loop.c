#include "models/jinja_loop.h"

#include "models/jinja_method.h"
#include "models/jinja_operator.h"

#include <string.h>

enum loop_attribute { INDEX, INDEX0, REVINDEX, REVINDEX0, FIRST, LAST, LENGTH, DEPTH, DEPTH0, PREVITEM, NEXTITEM };

static const char *const attribute_names[] = {"index",  "index0", "revindex", "revindex0", "first",   "last",
                                              "length", "depth",  "depth0",   "previtem",  "nextitem"};
enum { N_ATTRIBUTES = sizeof attribute_names / sizeof *attribute_names };

static struct jinja_value read_attribute(struct jinja_render *r, const struct jinja_loop *loop,
                                         enum loop_attribute attribute) {
    int64_t i = (int64_t)loop->index0, n = (int64_t)loop->items->count;
    switch (attribute) {
    case INDEX:
        return jinja_int(i + 1);
    case INDEX0:
        return jinja_int(i);
    case REVINDEX:
        return jinja_int(n - i);
    case REVINDEX0:
        return jinja_int(n - i - 1);
    case FIRST:
        return jinja_bool(i == 0);
    case LAST:
        return jinja_bool(i == n - 1);
    case LENGTH:
        return jinja_int(n);
    case DEPTH:
        return jinja_int(loop->depth0 + 1);
    case DEPTH0:
        return jinja_int(loop->depth0);
    case PREVITEM:
        return i > 0 ? loop->items->items[i - 1] : jinja_undefined_text(r, "there is no previous item");
    case NEXTITEM:
        break;
    }
    return i + 1 < n ? loop->items->items[i + 1] : jinja_undefined_text(r, "there is no next item");
}

static struct jinja_value loop_cycle(struct jinja_render *r, const struct jinja_call *call) {
    if (!call->n_args) jinja_raise(r, "TypeError: no items for cycling given");
    return call->args[call->self.loop->index0 % call->n_args];
}

static struct jinja_value loop_changed(struct jinja_render *r, const struct jinja_call *call) {
    struct jinja_list *now = jinja_list_new(r, call->n_args);
    if (call->n_args) memcpy(now->items, call->args, call->n_args * sizeof *call->args);
    struct jinja_value args = jinja_list_value(JINJA_TUPLE, now);
    struct jinja_loop *loop = call->self.loop;
    bool changed = !loop->has_changed_args || !jinja_equal(r, loop->changed, args);
    loop->has_changed_args = true;
    loop->changed = args;
    return jinja_bool(changed);
}

static const struct jinja_builtin loop_methods[] = {
    {"cycle", loop_cycle, NULL, 0, true},
    {"changed", loop_changed, NULL, 0, true},
};

bool jinja_loop_attribute(struct jinja_render *r, struct jinja_loop *loop, const struct jinja_string *name,
                          struct jinja_value *value) {
    struct jinja_value text = jinja_string_value(name);
    for (int i = 0; i < N_ATTRIBUTES; i++)
        if (jinja_text_is(text, attribute_names[i])) {
            *value = read_attribute(r, loop, (enum loop_attribute)i);
            return true;
        }
    for (size_t i = 0; i < sizeof loop_methods / sizeof *loop_methods; i++)
        if (jinja_text_is(text, loop_methods[i].name)) {
            struct jinja_value self = {.kind = JINJA_LOOP, .loop = loop};
            *value = jinja_method_new(r, self, &loop_methods[i], loop_methods[i].name);
            return true;
        }
    return false;
}
