#include "models/jinja_string.h"

#include "base/utf8.h"

#include <string.h>

bool jinja_string_equal(const struct jinja_string *a, const struct jinja_string *b) {
    return a->n_bytes == b->n_bytes && !memcmp(a->bytes, b->bytes, a->n_bytes);
}

size_t jinja_string_length(struct jinja_render *r, const struct jinja_string *s) {
    if (s->n_chars != SIZE_MAX) return s->n_chars;
    jinja_charge_bytes(r, s->n_bytes);
    // Strings of the template, which threads share, are counted when they are parsed; this one is the rendering's own.
    struct jinja_string *own = (struct jinja_string *)s;
    own->n_chars = utf8_length(s->bytes, s->n_bytes);
    return own->n_chars;
}

size_t jinja_string_next(const struct jinja_string *s, size_t offset) {
    if (offset >= s->n_bytes) return s->n_bytes;
    do offset++;
    while (offset < s->n_bytes && ((unsigned char)s->bytes[offset] & 0xc0) == 0x80);
    return offset;
}

size_t jinja_string_offset(struct jinja_render *r, const struct jinja_string *s, size_t n) {
    size_t length = jinja_string_length(r, s);
    if (n >= length) return s->n_bytes;
    if (length == s->n_bytes) return n;
    jinja_charge_bytes(r, n);
    size_t offset = 0;
    for (size_t i = 0; i < n; i++) offset = jinja_string_next(s, offset);
    return offset;
}

static bool run_trusted(const struct jinja_string *s, uint32_t run) {
    return s->trusted == (run % 2 == 0);
}
static size_t run_end(const struct jinja_string *s, uint32_t run) {
    return s->ends ? s->ends[run] : s->n_bytes;
}

// The run that holds the byte at `offset`.
static uint32_t run_at(const struct jinja_string *s, size_t offset) {
    uint32_t low = 0, high = s->n_runs - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (run_end(s, middle) > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

const struct jinja_string *jinja_string_slice(struct jinja_render *r, const struct jinja_string *s, size_t begin,
                                              size_t end) {
    if (begin == 0 && end >= s->n_bytes) return s;
    struct jinja_string *slice = jinja_alloc(r, 1, sizeof *slice);
    *slice = (struct jinja_string){.n_chars = SIZE_MAX, .n_runs = 1, .trusted = s->trusted, .markup = s->markup};
    if (begin >= end) {
        slice->bytes = "";
        return slice;
    }
    slice->bytes = s->bytes + begin;
    slice->n_bytes = end - begin;
    uint32_t first = run_at(s, begin), last = run_at(s, end - 1);
    slice->trusted = run_trusted(s, first);
    if (first == last) return slice;
    slice->n_runs = last - first + 1;
    size_t *ends = jinja_alloc(r, slice->n_runs, sizeof *ends);
    for (uint32_t i = first; i <= last; i++) ends[i - first] = (i == last ? end : run_end(s, i)) - begin;
    slice->ends = ends;
    return slice;
}

size_t jinja_string_find(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *part,
                         size_t from) {
    if (from > s->n_bytes) return SIZE_MAX;
    if (!part->n_bytes) return from;
    const char *at = memmem(s->bytes + from, s->n_bytes - from, part->bytes, part->n_bytes);
    size_t found = at ? (size_t)(at - s->bytes) : SIZE_MAX;
    jinja_charge_bytes(r, (at ? found : s->n_bytes) - from);
    return found;
}

size_t jinja_string_find_last(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *part,
                              size_t end) {
    if (part->n_bytes > end) return SIZE_MAX;
    for (size_t i = end - part->n_bytes;; i--) {
        if (i % 64 == 0) jinja_charge(r, 1 + part->n_bytes / 16);
        if (!memcmp(s->bytes + i, part->bytes, part->n_bytes)) return i;
        if (i == 0) return SIZE_MAX;
    }
}

bool jinja_string_is_untrusted(const struct jinja_string *s) {
    return s->n_bytes && (s->n_runs > 1 || !s->trusted);
}

bool jinja_range_is_untrusted(const struct jinja_string *s, size_t begin, size_t end) {
    if (begin >= end) return false;
    uint32_t run = run_at(s, begin);
    return run_at(s, end - 1) != run || !run_trusted(s, run);
}

void jinja_append(struct jinja_render *r, const char *bytes, size_t n_bytes, bool trusted) {
    size_t used = r->out.text.n_bytes;
    if (n_bytes > r->output_limit || used > r->output_limit - n_bytes) jinja_exhausted(r, "too much output");
    jinja_charge_bytes(r, n_bytes);
    prompt_text_append(&r->out, bytes, n_bytes, trusted);
}

void jinja_append_text(struct jinja_render *r, const char *text, bool trusted) {
    jinja_append(r, text, strlen(text), trusted);
}

void jinja_append_slice(struct jinja_render *r, const struct jinja_string *s, size_t begin, size_t end) {
    if (begin >= end) return;
    for (uint32_t run = run_at(s, begin); begin < end; run++) {
        size_t stop = run_end(s, run) < end ? run_end(s, run) : end;
        jinja_append(r, s->bytes + begin, stop - begin, run_trusted(s, run));
        begin = stop;
    }
}

void jinja_append_string(struct jinja_render *r, const struct jinja_string *s) {
    jinja_append_slice(r, s, 0, s->n_bytes);
}

void jinja_append_fill(struct jinja_render *r, char c, size_t count) {
    char block[64];
    memset(block, c, sizeof block);
    while (count) {
        size_t n = count < sizeof block ? count : sizeof block;
        jinja_append(r, block, n, true);
        count -= n;
    }
}

struct jinja_value jinja_take(struct jinja_render *r, size_t mark) {
    const struct prompt_text *out = &r->out;
    size_t n_bytes = out->text.n_bytes - mark;
    if (!n_bytes) return jinja_text(r, "", 0, true);
    char *bytes = jinja_alloc(r, n_bytes, 1);
    memcpy(bytes, out->text.data + mark, n_bytes);
    struct jinja_value v = jinja_text(r, bytes, n_bytes, true);
    struct jinja_string *s = (struct jinja_string *)v.string;
    size_t first = out->n_parts;
    while (first && out->parts[first - 1].end > mark) first--;
    s->trusted = out->parts[first].trusted;
    s->n_runs = (uint32_t)(out->n_parts - first);
    if (s->n_runs > 1) {
        size_t *ends = jinja_alloc(r, s->n_runs, sizeof *ends);
        for (uint32_t i = 0; i < s->n_runs; i++) ends[i] = out->parts[first + i].end - mark;
        s->ends = ends;
    }
    prompt_text_cut(&r->out, mark);
    return v;
}

void jinja_append_mapped(struct jinja_render *r, const struct jinja_string *s,
                         int (*map)(uint32_t code_point, uint32_t previous, uint32_t out[3])) {
    jinja_charge(r, s->n_bytes / 16);
    uint32_t previous = 0, run = 0;
    for (size_t i = 0; i < s->n_bytes;) {
        uint32_t code_point = 0xfffd, mapped[3];
        size_t n = utf8_decode(s->bytes + i, s->n_bytes - i, &code_point);
        while (run_end(s, run) <= i) run++;
        int count = map(code_point, previous, mapped);
        for (int k = 0; k < count; k++) {
            char bytes[4];
            jinja_append(r, bytes, utf8_encode(mapped[k], bytes), run_trusted(s, run));
        }
        previous = code_point;
        i += n ? n : 1;
    }
}

struct jinja_value jinja_with_markup(struct jinja_render *r, struct jinja_value text, bool markup) {
    if (text.string->markup == markup) return text;
    struct jinja_string *s = jinja_alloc(r, 1, sizeof *s);
    *s = *text.string;
    s->markup = markup;
    return jinja_string_value(s);
}

struct jinja_value jinja_escape(struct jinja_render *r, struct jinja_value text) {
    static const char special[] = "&<>'\"";
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const struct jinja_string *s = text.string;
    if (s->markup) return text;
    size_t mark = jinja_mark(r), plain = 0;
    jinja_charge_bytes(r, s->n_bytes * 4);
    for (size_t i = 0; i < s->n_bytes; i++) {
        const char *found = s->bytes[i] ? strchr(special, s->bytes[i]) : NULL;
        if (!found) continue;
        jinja_append_slice(r, s, plain, i);
        jinja_append_text(r, entities[found - special], !jinja_string_is_untrusted(s));
        plain = i + 1;
    }
    if (!plain) return jinja_with_markup(r, text, true);
    jinja_append_slice(r, s, plain, s->n_bytes);
    return jinja_with_markup(r, jinja_take(r, mark), true);
}

bool jinja_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool strips(const struct jinja_string *chars, const char *bytes, size_t n) {
    if (chars) return memmem(chars->bytes, chars->n_bytes, bytes, n) != NULL;
    uint32_t code_point = 'x';
    return utf8_decode(bytes, n, &code_point) && jinja_is_space(code_point);
}

void jinja_string_strip(struct jinja_render *r, const struct jinja_string *s, const struct jinja_string *chars,
                        bool left, bool right, size_t *begin, size_t *end) {
    size_t from = 0, to = s->n_bytes;
    while (left && from < to) {
        size_t next = jinja_string_next(s, from);
        if (!strips(chars, s->bytes + from, next - from)) break;
        from = next;
    }
    while (right && to > from) {
        size_t last = to - 1;
        while (last > from && ((unsigned char)s->bytes[last] & 0xc0) == 0x80) last--;
        if (!strips(chars, s->bytes + last, to - last)) break;
        to = last;
    }
    jinja_charge(r, (s->n_bytes - (to - from)) * (1 + (chars ? chars->n_bytes : 0) / 64) / 32);
    *begin = from;
    *end = to;
}
