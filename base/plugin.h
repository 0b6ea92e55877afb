// Shared objects that are loaded at run time, so that the program runs where what they need is not installed.
#pragma once

#include "base/err.h"
#include <stdbool.h>

// file: a path with a slash, or a file name that is looked for beside the running executable and then where the system
// keeps its libraries. It is never unloaded: libraries of devices keep threads and handlers at exit.
// *function, a pointer to a function, becomes its `symbol`. ERR_NOT_FOUND: no such file; ERR_UNSUPPORTED: it, or a
// library that it needs, cannot be loaded, or it has no such symbol.
int plugin_symbol(const char *file, const char *symbol, void *function, struct err *err)
    __attribute__((warn_unused_result));

// Whether the system finds a shared library of this name.
bool plugin_library_exists(const char *name);
