// The query of a request's target: name=value pairs between ampersands, percent-encoded, a plus for a blank.
#pragma once

#include "base/str.h"
#include "server/api_error.h"

enum { QUERY_VALUE_MAX = 64 }; // bytes of a decoded value, its NUL included; longer ones are refused

struct query_field {
    const char *name; // "window"
    char *value;      // [QUERY_VALUE_MAX]: its decoded text; left as it was when the query does not name it
};

// Fills the values of the fields that the query names. False with a 400 that names the parameter: one that is not in
// the table, is there twice, or has a value that is malformed or too long. What the client sent is not quoted.
bool query_read(const char *query, const struct query_field *fields, int n_fields, struct api_error *error);
