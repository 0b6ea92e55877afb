// The two tables of filters.
#pragma once

#include "models/jinja_value.h"

extern const struct jinja_builtin jinja_text_filters[];
extern const struct jinja_builtin jinja_list_filters[];
