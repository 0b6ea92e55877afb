// The `loop` variable inside a for.
#pragma once

#include "models/jinja_value.h"

// False when there is no such attribute.
bool jinja_loop_attribute(struct jinja_render *r, struct jinja_loop *loop, const struct jinja_string *name,
                          struct jinja_value *value);
