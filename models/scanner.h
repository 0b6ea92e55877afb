// The regular expressions of well-known tokenizers as scanners of linear time.
#pragma once

#include "base/str.h"
#include "models/pattern.h"
#include <stdbool.h>
#include <stddef.h>

struct scanner;

// The scanner that does exactly what the regular expression does; NULL when it is not a known one.
const struct scanner *scanner_of_regex(struct str_view regex);
const struct scanner *scanner_named(enum pattern_name name);

// The first match that begins at `from` or later; false when there is none. text is valid UTF-8.
bool scanner_find(const struct scanner *scanner, struct str_view text, size_t from, struct text_range *match);
