// Text whose bytes remember their origin, through slicing, joining and building.
//
// Built text grows at the end of the rendering's output: take a mark, append, then jinja_take cuts everything above the
// mark off and makes a string of it. Marks nest like calls.
#pragma once

#include "models/jinja_value.h"

bool jinja_string_equal(const struct jinja_string *a, const struct jinja_string *b);
size_t jinja_string_length(struct jinja_render *r, const struct jinja_string *s); // in code points
// The byte offset one code point further; s->n_bytes at the end.
size_t jinja_string_next(const struct jinja_string *s, size_t offset);
// The byte offset of the n-th code point; n_bytes when there are fewer.
size_t jinja_string_offset(struct jinja_render *r, const struct jinja_string *s, size_t n);
// Shares the bytes of s.
const struct jinja_string *jinja_string_slice(struct jinja_render *r, const struct jinja_string *s, size_t begin,
                                              size_t end);
// The first place at or after `from` where `part` stands, in bytes; SIZE_MAX when there is none.
size_t jinja_string_find(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *part,
                         size_t from);
// The last place before `end`.
size_t jinja_string_find_last(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *part,
                              size_t end);
bool jinja_string_is_untrusted(const struct jinja_string *s); // any byte of it came from the request
bool jinja_range_is_untrusted(const struct jinja_string *s, size_t begin, size_t end); // the same for a part of it

// The text as markup (or as plain text), and the text HTML-escaped as markup; markup itself stays as it is.
struct jinja_value jinja_with_markup(struct jinja_render *r, struct jinja_value text, bool markup);
struct jinja_value jinja_escape(struct jinja_render *r, struct jinja_value text);

static inline size_t jinja_mark(const struct jinja_render *r) {
    return r->out.text.n_bytes;
}
void jinja_append(struct jinja_render *r, const char *bytes, size_t n_bytes, bool trusted);
void jinja_append_text(struct jinja_render *r, const char *text, bool trusted);
void jinja_append_string(struct jinja_render *r, const struct jinja_string *s);
void jinja_append_slice(struct jinja_render *r, const struct jinja_string *s, size_t begin, size_t end);
void jinja_append_fill(struct jinja_render *r, char c, size_t count); // trusted
struct jinja_value jinja_take(struct jinja_render *r, size_t mark);

// Appends s with every code point mapped; `map` writes one to three code points and returns how many. `previous` is the
// code point before, 0 at the start.
void jinja_append_mapped(struct jinja_render *r, const struct jinja_string *s,
                         int (*map)(uint32_t code_point, uint32_t previous, uint32_t out[3]));
// Python's str.isspace for one code point.
bool jinja_is_space(uint32_t code_point);
// The byte range that is left when code points of `chars` (NULL: white space) go away at the ends.
void jinja_string_strip(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *chars,
                        bool left, bool right, size_t *begin, size_t *end);
