// Error codes and error text.
//
// A function that can fail for a reason outside the program returns 0 or a negative code and writes one
// sentence for the reader into the caller's `struct err`. Programming errors are assertions and never come
// this way. Any thread may use its own `struct err`.
#pragma once

#include <stdarg.h>

// code, meaning
#define ERR_CODES(X)                                                                                                   \
    X(INVALID, "a value is not allowed")                                                                               \
    X(FORMAT, "a file or message is malformed")                                                                        \
    X(UNSUPPORTED, "a valid request for something that does not exist here")                                           \
    X(NOT_FOUND, "a named thing does not exist")                                                                       \
    X(LIMIT, "a size, time or depth limit was reached")                                                                \
    X(IO, "the operating system refused")                                                                              \
    X(BUSY, "no room at present; try again")                                                                           \
    X(CLOSED, "the other side has gone or is going away")

enum err_code_index {
#define X(name, meaning) ERR_INDEX_##name,
    ERR_CODES(X)
#undef X
};

enum err_code {
    ERR_OK = 0,
#define X(name, meaning) ERR_##name = -1 - ERR_INDEX_##name,
    ERR_CODES(X)
#undef X
};

struct err {
    int code;       // ERR_OK or a negative err_code
    char text[480]; // one sentence without a final newline; empty when code is ERR_OK
};

// Writes code and text (cut at the size of the buffer); returns code. `err` may be NULL.
int err_set(struct err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Puts "prefix: " in front of the text that is there; returns the code that is there.
int err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
