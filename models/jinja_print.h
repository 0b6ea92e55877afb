// How values look when they are printed: Python's str() and repr().
#pragma once

#include "models/jinja_value.h"

void jinja_append_str(struct jinja_render *r, struct jinja_value v);
void jinja_append_repr(struct jinja_render *r, struct jinja_value v);
// str(v) as a string value; v itself when it is one.
struct jinja_value jinja_to_string(struct jinja_render *r, struct jinja_value v);
// Python's repr of a float: the shortest digits that read back as the same number.
enum { JINJA_FLOAT_TEXT = 40 };
void jinja_float_text(double d, char out[JINJA_FLOAT_TEXT]);
