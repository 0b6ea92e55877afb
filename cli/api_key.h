// The key that a client of a server presents.
#pragma once

#include "base/err.h"

// The first word of the file; *out is freed by the caller.
int api_key_read(char **out, const char *path, struct err *err) __attribute__((warn_unused_result));
