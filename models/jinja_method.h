// Methods of strings, lists, tuples and dicts.
#pragma once

#include "models/jinja_value.h"

// False when Python's type has no such attribute. Attributes that would change the object give an unsafe undefined
// value.
bool jinja_method_find(struct jinja_render *r, struct jinja_value object, const struct jinja_string *name,
                       struct jinja_value *value);
struct jinja_value jinja_method_new(struct jinja_render *r, struct jinja_value self,
                                    const struct jinja_builtin *builtin, const char *name);
// Finds a row by name; rows end with a NULL name.
const struct jinja_builtin *jinja_builtin_find(const struct jinja_builtin *rows, const char *name, size_t n_bytes);

extern const struct jinja_builtin jinja_string_methods[]; // ends with a NULL name

// Case changes that filters and methods share.
int jinja_upper(uint32_t code_point, uint32_t previous, uint32_t out[3]);
int jinja_lower(uint32_t code_point, uint32_t previous, uint32_t out[3]);
int jinja_capitalize(uint32_t code_point, uint32_t previous, uint32_t out[3]);
struct jinja_value jinja_mapped(struct jinja_render *r, struct jinja_value text,
                                int (*map)(uint32_t code_point, uint32_t previous, uint32_t out[3]));
// str.replace; count < 0: all.
struct jinja_value jinja_replace(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *from,
                                 const struct jinja_string *to, int64_t count);
// str.splitlines.
struct jinja_value jinja_split_lines(struct jinja_render *r, const struct jinja_string *s, bool keep_ends);
// str.center and friends; `left` of 2 parts of the padding go to the left.
struct jinja_value jinja_pad(struct jinja_render *r, const struct jinja_string *s, int64_t width, char fill, int left);
