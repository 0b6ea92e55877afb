#include "base/str.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void str_reserve(struct str *s, size_t n_more) {
    size_t need = 0;
    bool fits = size_add(s->n_bytes, n_more, &need) && size_add(need, 1, &need);
    assert(fits);
    if (need <= s->capacity) return;
    size_t capacity = s->capacity * 2 > need ? s->capacity * 2 : need;
    s->capacity = capacity < 64 ? 64 : capacity;
    s->data = mem_grow(s->data, s->capacity, 1);
}

void str_append(struct str *s, const char *bytes, size_t n_bytes) {
    str_reserve(s, n_bytes);
    if (n_bytes) memcpy(s->data + s->n_bytes, bytes, n_bytes);
    s->n_bytes += n_bytes;
    s->data[s->n_bytes] = 0;
}

void str_append_text(struct str *s, const char *text) {
    str_append(s, text, strlen(text));
}

void str_append_char(struct str *s, char c) {
    str_append(s, &c, 1);
}

void str_vprintf(struct str *s, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    assert(n >= 0);
    str_reserve(s, (size_t)n);
    vsnprintf(s->data + s->n_bytes, (size_t)n + 1, format, again);
    s->n_bytes += (size_t)n;
    va_end(again);
}

void str_printf(struct str *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    str_vprintf(s, format, args);
    va_end(args);
}

void str_clear(struct str *s) {
    s->n_bytes = 0;
    if (s->data) s->data[0] = 0;
}

void str_close(struct str *s) {
    free(s->data);
    *s = (struct str)STR_INIT;
}

const char *str_text(const struct str *s) {
    return s->data ? s->data : "";
}

void str_drop_front(struct str *s, size_t n_bytes) {
    assert(n_bytes <= s->n_bytes);
    if (!n_bytes) return;
    memmove(s->data, s->data + n_bytes, s->n_bytes - n_bytes + 1);
    s->n_bytes -= n_bytes;
}

struct str_view str_view_of(const char *text) {
    return (struct str_view){text, strlen(text)};
}

bool str_view_equal(struct str_view a, struct str_view b) {
    return a.n_bytes == b.n_bytes && (a.n_bytes == 0 || memcmp(a.data, b.data, a.n_bytes) == 0);
}

bool str_view_starts_with(struct str_view s, struct str_view prefix) {
    return s.n_bytes >= prefix.n_bytes && (prefix.n_bytes == 0 || memcmp(s.data, prefix.data, prefix.n_bytes) == 0);
}

bool str_view_is_plain_name(struct str_view s) {
    for (size_t i = 0; i < s.n_bytes; i++) {
        char c = s.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '.' && c != '_' && c != '-') return false;
    }
    return s.n_bytes > 0;
}
