// Operators as Python defines them, and attribute and item access as Jinja's sandbox defines it.
#pragma once

#include "models/jinja_value.h"

enum jinja_binary { JINJA_ADD, JINJA_SUB, JINJA_MUL, JINJA_DIV, JINJA_FLOORDIV, JINJA_MOD, JINJA_POW };
enum jinja_comparison { JINJA_EQ, JINJA_NE, JINJA_LT, JINJA_LE, JINJA_GT, JINJA_GE, JINJA_IN, JINJA_NOT_IN };

bool jinja_equal(struct jinja_render *r, struct jinja_value a, struct jinja_value b);
// Negative, 0 or positive; raises for values that Python cannot order. `sign` names the operator in the error.
int jinja_order(struct jinja_render *r, struct jinja_value a, struct jinja_value b, const char *sign);
bool jinja_contains(struct jinja_render *r, struct jinja_value container, struct jinja_value item);
bool jinja_compare(struct jinja_render *r, enum jinja_comparison op, struct jinja_value a, struct jinja_value b);
struct jinja_value jinja_binary(struct jinja_render *r, enum jinja_binary op, struct jinja_value a,
                                struct jinja_value b);
struct jinja_value jinja_negate(struct jinja_render *r, struct jinja_value v);
struct jinja_value jinja_positive(struct jinja_render *r, struct jinja_value v);

double jinja_as_double(struct jinja_render *r, struct jinja_value v); // v is a number

// a.name: attributes (methods) first, then items.
struct jinja_value jinja_get_attribute(struct jinja_render *r, struct jinja_value object,
                                       const struct jinja_string *name);
// a[key]: items first, then attributes.
struct jinja_value jinja_get_item(struct jinja_render *r, struct jinja_value object, struct jinja_value key);
// a[start:stop:step]; none or absent where not given.
struct jinja_value jinja_get_slice(struct jinja_render *r, struct jinja_value object,
                                   const struct jinja_value bounds[3]);
// "a.b.0": what filters call an attribute. `otherwise` stands in for every undefined step, unless it is absent or none.
struct jinja_value jinja_get_path(struct jinja_render *r, struct jinja_value object, struct jinja_value path,
                                  struct jinja_value otherwise);
