// Shared objects that are loaded at run time, so that the program runs where what they need is not installed.
#pragma once

#include "base/err.h"

// Loads `file` from the folder of the running program, else from where the system looks, or, when it contains a slash, from that
// path; it stays loaded. *function (a pointer to a function) is its `symbol`. ERR_NOT_FOUND: there is no such file, or it
// needs what is not there; ERR_INVALID: it has no such symbol.
int plugin_symbol(const char *file, const char *symbol, void *function, struct err *err)
    __attribute__((warn_unused_result));
