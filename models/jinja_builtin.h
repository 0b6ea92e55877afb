// The tables of filters, tests and global functions. A filter's self is what stands before the bar, a test's what
// stands before `is`. Rows end with a NULL name.
#pragma once

#include "models/jinja_value.h"

const struct jinja_builtin *jinja_find_filter(const char *name, size_t n_bytes); // NULL: there is none
extern const struct jinja_builtin jinja_tests[];
extern const struct jinja_builtin jinja_globals[];
