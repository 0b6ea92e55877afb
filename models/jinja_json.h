// JSON text to values and back, as Python's json module reads and writes it.
#pragma once

#include "models/jinja_value.h"

// Reads text that has passed json_validate. Strings and numbers are untrusted; strings without escapes share the text.
struct jinja_value jinja_read_json(struct jinja_render *r, const char *text, size_t n_bytes);

struct jinja_json_style {
    bool ensure_ascii, sort_keys;
    const struct jinja_string *indent; // of one level; NULL: everything on one line
    const struct jinja_string *item_separator, *key_separator;
};
// json.dumps. What it writes around the values counts as the request's.
void jinja_append_json(struct jinja_render *r, struct jinja_value v, const struct jinja_json_style *style);
