// UTF-8: validation, single code points, and a filter that never lets half a code point through.
#pragma once

#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes of the longest valid prefix (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF).
size_t utf8_valid_prefix(const char *bytes, size_t n_bytes);
static inline bool utf8_is_valid(const char *bytes, size_t n_bytes) {
    return utf8_valid_prefix(bytes, n_bytes) == n_bytes;
}

// Reads one code point; returns its length in bytes, or 0 when the bytes are not valid there. n_bytes > 0.
size_t utf8_decode(const char *bytes, size_t n_bytes, uint32_t *code_point);
// Writes 1 to 4 bytes; code_point must be a Unicode scalar value.
size_t utf8_encode(uint32_t code_point, char out[4]);
// Code points in valid UTF-8.
size_t utf8_length(const char *bytes, size_t n_bytes);

// Passes bytes on as text. Up to three bytes of an unfinished sequence are held back; each maximal subpart
// of a broken sequence becomes one U+FFFD (Unicode 15, section 3.9).
struct utf8_filter {
    unsigned char held[4];
    unsigned n_held;
};
void utf8_filter_push(struct utf8_filter *filter, const char *bytes, size_t n_bytes, struct str *out);
void utf8_filter_finish(struct utf8_filter *filter, struct str *out); // what is held becomes U+FFFD
