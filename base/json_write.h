// JSON written member by member into a string builder; commas are put where they belong.
//
// name: of the member; NULL inside an array and for the outermost value. Each value leaves a comma behind it, which the
// end of its container takes away; json_write_close takes that of the outermost value.
#pragma once

#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

void json_write_begin(struct str *out, const char *name, char opening);    // '{' or '['
void json_write_end(struct str *out, char closing);                        // '}' or ']'
void json_write_text(struct str *out, const char *name, const char *text); // NULL: null
void json_write_number(struct str *out, const char *name, double value);   // null when it is not finite
void json_write_int(struct str *out, const char *name, int64_t value);
void json_write_bool(struct str *out, const char *name, bool value);
void json_write_null(struct str *out, const char *name);
void json_write_close(struct str *out); // after the outermost value: takes the comma behind it away
