#include "base/err.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *format, ...) {
    assert(code < 0);
    if (!err) return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return code;
}

int err_prefix(struct err *err, const char *format, ...) {
    assert(err && err->code < 0);
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t n = strlen(err->text);
    if (snprintf(err->text + n, sizeof err->text - n, ": %s", old) < 0) err->text[n] = 0;
    return err->code;
}
