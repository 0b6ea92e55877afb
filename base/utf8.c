#include "base/utf8.h"

#include <assert.h>
#include <string.h>

// Length of the sequence that a lead byte announces, and the range of its second byte; 0 for no lead byte.
static unsigned lead_length(unsigned char lead, unsigned char *second_min, unsigned char *second_max) {
    *second_min = 0x80, *second_max = 0xbf;
    if (lead < 0x80) return 1;
    if (lead < 0xc2) return 0;
    if (lead < 0xe0) return 2;
    if (lead < 0xf0) {
        if (lead == 0xe0) *second_min = 0xa0;
        if (lead == 0xed) *second_max = 0x9f;
        return 3;
    }
    if (lead > 0xf4) return 0;
    if (lead == 0xf0) *second_min = 0x90;
    if (lead == 0xf4) *second_max = 0x8f;
    return 4;
}

// Bytes at the front that are a valid beginning of one sequence; *length is what the lead byte announces.
static unsigned sequence_prefix(const unsigned char *p, size_t n, unsigned *length) {
    unsigned char min, max;
    *length = lead_length(p[0], &min, &max);
    if (!*length) return 0;
    unsigned i = 1;
    for (; i < *length && i < n; i++) {
        if (p[i] < min || p[i] > max) break;
        min = 0x80, max = 0xbf;
    }
    return i;
}

size_t utf8_decode(const char *bytes, size_t n_bytes, uint32_t *code_point) {
    const unsigned char *p = (const unsigned char *)bytes;
    unsigned length;
    if (sequence_prefix(p, n_bytes, &length) != length || !length) return 0;
    static const unsigned char lead_mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t value = p[0] & lead_mask[length];
    for (unsigned i = 1; i < length; i++) value = value << 6 | (p[i] & 0x3f);
    *code_point = value;
    return length;
}

size_t utf8_encode(uint32_t c, char out[4]) {
    assert(c <= 0x10ffff && (c < 0xd800 || c > 0xdfff));
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[n] | c);
    return n;
}

size_t utf8_valid_prefix(const char *bytes, size_t n_bytes) {
    size_t i = 0;
    while (i < n_bytes) {
        uint64_t word;
        if (n_bytes - i >= 8 && (memcpy(&word, bytes + i, 8), !(word & 0x8080808080808080u))) {
            i += 8;
            continue;
        }
        uint32_t c;
        size_t n = utf8_decode(bytes + i, n_bytes - i, &c);
        if (!n) break;
        i += n;
    }
    return i;
}

size_t utf8_length(const char *bytes, size_t n_bytes) {
    size_t count = 0;
    for (size_t i = 0; i < n_bytes; i++) count += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return count;
}

void utf8_filter_push(struct utf8_filter *filter, const char *bytes, size_t n_bytes, struct str *out) {
    size_t i = 0;
    while (filter->n_held && i < n_bytes) {
        unsigned char joined[4];
        memcpy(joined, filter->held, filter->n_held);
        joined[filter->n_held] = (unsigned char)bytes[i];
        unsigned length, n = filter->n_held + 1;
        if (sequence_prefix(joined, n, &length) == n) {
            i++;
            memcpy(filter->held, joined, n);
            filter->n_held = n;
            if (n < length) continue;
            str_append(out, (const char *)joined, n);
        } else {
            str_append(out, "\xef\xbf\xbd", 3);
        }
        filter->n_held = 0;
    }
    while (i < n_bytes) {
        size_t valid = utf8_valid_prefix(bytes + i, n_bytes - i);
        str_append(out, bytes + i, valid);
        i += valid;
        if (i == n_bytes) return;
        unsigned length, n = sequence_prefix((const unsigned char *)bytes + i, n_bytes - i, &length);
        if (n && i + n == n_bytes) {
            memcpy(filter->held, bytes + i, n);
            filter->n_held = n;
            return;
        }
        str_append(out, "\xef\xbf\xbd", 3);
        i += n ? n : 1;
    }
}

void utf8_filter_finish(struct utf8_filter *filter, struct str *out) {
    if (filter->n_held) str_append(out, "\xef\xbf\xbd", 3);
    filter->n_held = 0;
}
