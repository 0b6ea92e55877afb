// Stable sorting by keys that Python can order.
#pragma once

#include "models/jinja_value.h"

struct jinja_sortable {
    struct jinja_value key, value;
};

// Sorts in place, stably; equal keys keep their order also when reversed, as in Python.
void jinja_sort(struct jinja_render *r, struct jinja_sortable *items, size_t count, bool reverse);
// A copy of the dict's entries in the order of their keys.
struct jinja_entry *jinja_sort_entries(struct jinja_render *r, const struct jinja_dict *dict);
