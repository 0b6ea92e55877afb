// Both of Python's string formatting languages: "%s" % x and "{}".format(x).
#pragma once

#include "models/jinja_value.h"

struct jinja_value jinja_percent_format(struct jinja_render *r, const struct jinja_string *format,
                                        struct jinja_value args);
struct jinja_value jinja_str_format(struct jinja_render *r, const struct jinja_call *call); // self.format(...)
