// A string builder: bytes that grow, always followed by a NUL that is not counted.
#pragma once

#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>

struct str {
    char *data; // NULL while nothing was appended; NUL-terminated afterwards
    size_t n_bytes, capacity;
};

#define STR_INIT                                                                                                       \
    { 0 }

// A view of bytes that someone else owns; not NUL-terminated.
struct str_view {
    const char *data;
    size_t n_bytes;
};

#define STR_VIEW(literal) ((struct str_view){(literal), sizeof(literal) - 1})

void str_append(struct str *s, const char *bytes, size_t n_bytes);
void str_append_text(struct str *s, const char *text); // NUL-terminated text
void str_append_char(struct str *s, char c);
void str_printf(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void str_vprintf(struct str *s, const char *format, va_list args);
void str_reserve(struct str *s, size_t n_more);     // room for n_more bytes beyond n_bytes
void str_clear(struct str *s);                      // empty, memory kept
void str_close(struct str *s);                      // empty, memory freed
const char *str_text(const struct str *s);          // never NULL; valid until the next change
void str_drop_front(struct str *s, size_t n_bytes); // removes the first n_bytes

struct str_view str_view_of(const char *text); // of NUL-terminated text
bool str_view_equal(struct str_view a, struct str_view b);
bool str_view_starts_with(struct str_view s, struct str_view prefix);
// At least one byte, all of [A-Za-z0-9._-]: safe in a header, a log line and an error.
bool str_view_is_plain_name(struct str_view s);
