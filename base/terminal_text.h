// Markdown for a terminal: lines are wrapped at words to a width, with items and numbered paragraphs hanging; headings,
// bold and code are styled. Tables and indented blocks stay as they are. What Markdown this is: headings, paragraphs,
// "- " and "1. " items, tables, blocks of four blanks, **bold**, `code`.
#pragma once

#include "base/str.h"
#include <stdbool.h>

// width: columns, at least 20. styled: with escape sequences (ECMA-48), else with the marks as they are.
void terminal_text_append(struct str *out, const char *markdown, int width, bool styled);
