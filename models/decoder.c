#include "models/decoder.h"

#include "models/pretokenizer.h"
#include "models/unicode.h"

#include <string.h>

static void step_close(struct decoder_step *step) {
    pattern_close(step->pattern);
    str_close(&step->content);
}

void decoder_close(struct decoder *decoder) {
    for (size_t i = 0; i < decoder->n_steps; i++) step_close(&decoder->steps[i]);
    decoder->n_steps = 0;
}

int decoder_add(struct decoder *decoder, struct decoder_step step, struct err *err) {
    if (decoder->n_steps == DECODER_STEPS_MAX) {
        step_close(&step);
        return err_set(err, ERR_LIMIT, "more than %d decoders", DECODER_STEPS_MAX);
    }
    decoder->steps[decoder->n_steps++] = step;
    return 0;
}

bool decoder_minds_first(const struct decoder *decoder) {
    for (size_t i = 0; i < decoder->n_steps; i++)
        if (decoder->steps[i].kind == DECODER_METASPACE && !decoder->steps[i].keeps_first) return true;
    return false;
}

// A token with a character that stands for no byte is taken as it is.
static void map_bytes(struct str_view token, struct str *out) {
    size_t before = out->n_bytes;
    for (size_t at = 0; at < token.n_bytes;) {
        uint32_t c;
        at += utf8_read(token.data + at, &c);
        int byte = byte_map_byte(c);
        if (byte < 0) {
            out->n_bytes = before;
            str_append(out, token.data, token.n_bytes);
            return;
        }
        str_append_char(out, (char)byte);
    }
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static void fall_back(struct str_view token, struct str *out) {
    bool shape = token.n_bytes == 6 && str_view_starts_with(token, STR_VIEW("<0x")) && token.data[5] == '>';
    int high = shape ? hex_digit(token.data[3]) : -1, low = shape ? hex_digit(token.data[4]) : -1;
    if (high >= 0 && low >= 0)
        str_append_char(out, (char)(high << 4 | low));
    else
        str_append(out, token.data, token.n_bytes);
}

static int replace(const struct decoder_step *step, struct str_view token, struct str *out, struct err *err) {
    struct pattern_search search;
    struct text_range match;
    size_t copied = 0;
    int found;
    struct pattern_budget budget = {0};
    pattern_search_open(&search, step->pattern, token, &budget);
    while ((found = pattern_search_next(&search, &match, err)) == 1) {
        str_append(out, token.data + copied, match.begin - copied);
        str_append(out, step->content.data, step->content.n_bytes);
        copied = match.end;
    }
    pattern_search_close(&search);
    str_append(out, token.data + copied, token.n_bytes - copied);
    return found;
}

static struct str_view view_of(const struct str *s) {
    return (struct str_view){s->data, s->n_bytes};
}

static void unmark(const struct decoder_step *step, struct str_view token, bool first, struct str *out) {
    struct str_view mark = view_of(&step->content);
    for (size_t at = 0, length; at < token.n_bytes; at += length) {
        uint32_t c;
        length = utf8_read(token.data + at, &c);
        bool marked = str_view_starts_with((struct str_view){token.data + at, token.n_bytes - at}, mark);
        if (!marked)
            str_append(out, token.data + at, length);
        else if (!first || step->keeps_first)
            str_append_char(out, ' ');
    }
}

static void strip(const struct decoder_step *step, struct str_view token, struct str *out) {
    struct str_view content = view_of(&step->content);
    for (size_t i = 0; i < step->start && str_view_starts_with(token, content); i++)
        token.data += content.n_bytes, token.n_bytes -= content.n_bytes;
    for (size_t i = 0; i < step->stop && token.n_bytes >= content.n_bytes; i++) {
        if (memcmp(token.data + token.n_bytes - content.n_bytes, content.data, content.n_bytes) != 0) break;
        token.n_bytes -= content.n_bytes;
    }
    str_append(out, token.data, token.n_bytes);
}

static int run_step(const struct decoder_step *step, struct str_view token, bool first, struct str *out,
                    struct err *err) {
    switch (step->kind) {
    case DECODER_BYTE_MAP:
        map_bytes(token, out);
        break;
    case DECODER_BYTE_FALLBACK:
        fall_back(token, out);
        break;
    case DECODER_REPLACE:
        return token.n_bytes ? replace(step, token, out, err) : 0;
    case DECODER_METASPACE:
        unmark(step, token, first, out);
        break;
    case DECODER_STRIP:
        strip(step, token, out);
        break;
    }
    return 0;
}

int decoder_token(const struct decoder *decoder, struct str_view token, bool first, struct str *out, struct err *err) {
    if (decoder->n_steps == 1) return run_step(&decoder->steps[0], token, first, out, err);
    struct str now = STR_INIT, next = STR_INIT;
    str_append(&now, token.data, token.n_bytes);
    int rc = 0;
    for (size_t i = 0; i < decoder->n_steps && !rc; i++) {
        str_clear(&next);
        rc = run_step(&decoder->steps[i], view_of(&now), first, &next, err);
        struct str swap = now;
        now = next;
        next = swap;
    }
    if (!rc) str_append(out, now.data, now.n_bytes);
    str_close(&now);
    str_close(&next);
    return rc;
}
