#include "models/normalizer.h"

#include "base/utf8.h"
#include "models/bpe.h"

#include <string.h>

static void step_close(struct normalizer_step *step) {
    pattern_close(step->pattern);
    str_close(&step->content);
}

void normalizer_close(struct normalizer *normalizer) {
    for (size_t i = 0; i < normalizer->n_steps; i++) step_close(&normalizer->steps[i]);
    normalizer->n_steps = 0;
}

int normalizer_add(struct normalizer *normalizer, struct normalizer_step step, struct err *err) {
    if (normalizer->n_steps == NORMALIZER_STEPS_MAX) {
        step_close(&step);
        return err_set(err, ERR_LIMIT, "more than %d normalizers", NORMALIZER_STEPS_MAX);
    }
    normalizer->steps[normalizer->n_steps++] = step;
    return 0;
}

static struct str_view view_of(const struct prompt_text *prompt) {
    return (struct str_view){prompt->text.data, prompt->text.n_bytes};
}

// Lower case as in Unicode's full mapping: one code point maps to two.
static void lower_case(const struct prompt_text *in, struct prompt_text *out) {
    struct str_view text = view_of(in);
    size_t part = 0, copied = 0;
    for (size_t at = 0, length; at < text.n_bytes; at += length) {
        uint32_t c;
        length = utf8_read(text.data + at, &c);
        uint32_t lower = unicode_lower(c);
        if (lower == c && c != 0x130) continue;
        prompt_text_append_part(out, in, copied, at, &part);
        char bytes[4];
        size_t n_bytes = utf8_encode(c == 0x130 ? 'i' : lower, bytes);
        bool trusted = prompt_text_is_trusted(in, at, at + length, &part);
        prompt_text_append(out, bytes, n_bytes, trusted);
        if (c == 0x130) prompt_text_append(out, "\xcc\x87", 2, trusted); // combining dot above
        copied = at + length;
    }
    prompt_text_append_part(out, in, copied, text.n_bytes, &part);
}

static void strip(const struct normalizer_step *step, const struct prompt_text *in, struct prompt_text *out) {
    struct str_view text = view_of(in);
    size_t begin = step->strip_left ? unicode_run(text, 0, UNICODE_SPACE, false) : 0, end = begin, part = 0;
    if (!step->strip_right) end = text.n_bytes;
    for (size_t at = begin, length; at < text.n_bytes && step->strip_right; at += length)
        if (!(unicode_class_at(text, at, &length) & UNICODE_SPACE)) end = at + length;
    prompt_text_append_part(out, in, begin, end, &part);
}

static void strip_accents(const struct prompt_text *in, struct prompt_text *out) {
    struct str_view text = view_of(in);
    size_t part = 0;
    for (size_t at = 0; at < text.n_bytes;) {
        size_t end = unicode_run(text, at, UNICODE_MARK, true);
        prompt_text_append_part(out, in, at, end, &part);
        at = unicode_run(text, end, UNICODE_MARK, false);
    }
}

static void prepend(const struct normalizer_step *step, const struct prompt_text *in, struct prompt_text *out) {
    size_t part = 0;
    if (!in->text.n_bytes) return;
    bool trusted = prompt_text_is_trusted(in, 0, 1, &part);
    prompt_text_append(out, step->content.data, step->content.n_bytes, trusted);
    prompt_text_append_part(out, in, 0, in->text.n_bytes, &part);
}

static int replace(const struct normalizer_step *step, const struct prompt_text *in, struct prompt_text *out,
                   struct pattern_budget *budget, struct err *err) {
    struct str_view text = view_of(in);
    struct pattern_search search;
    struct text_range match;
    size_t part = 0, copied = 0;
    int found;
    pattern_search_open(&search, step->pattern, text, budget);
    while ((found = pattern_search_next(&search, &match, err)) == 1) {
        prompt_text_append_part(out, in, copied, match.begin, &part);
        prompt_text_append(out, step->content.data, step->content.n_bytes,
                           prompt_text_is_trusted(in, match.begin, match.end, &part));
        copied = match.end;
        if (out->text.n_bytes > BPE_PIECE_BYTES_MAX) {
            found = err_set(err, ERR_LIMIT, "the normalised text is too long");
            break;
        }
    }
    pattern_search_close(&search);
    if (!found) prompt_text_append_part(out, in, copied, text.n_bytes, &part);
    return found;
}

static int run_step(const struct normalizer_step *step, const struct prompt_text *in, struct prompt_text *out,
                    struct pattern_budget *budget, struct err *err) {
    switch (step->kind) {
    case NORMALIZER_FORM:
        unicode_normalize(step->form, in, out);
        break;
    case NORMALIZER_LOWERCASE:
        lower_case(in, out);
        break;
    case NORMALIZER_STRIP:
        strip(step, in, out);
        break;
    case NORMALIZER_STRIP_ACCENTS:
        strip_accents(in, out);
        break;
    case NORMALIZER_PREPEND:
        prepend(step, in, out);
        break;
    case NORMALIZER_REPLACE:
        return in->text.n_bytes ? replace(step, in, out, budget, err) : 0;
    }
    return 0;
}

int normalizer_run(const struct normalizer *normalizer, struct prompt_text *text, struct prompt_text *spare,
                   struct pattern_budget *budget, struct err *err) {
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        prompt_text_clear(spare);
        int rc = run_step(&normalizer->steps[i], text, spare, budget, err);
        if (rc) return rc;
        struct prompt_text swap = *text;
        *text = *spare;
        *spare = swap;
        if (text->text.n_bytes > BPE_PIECE_BYTES_MAX) return err_set(err, ERR_LIMIT, "the normalised text is too long");
    }
    return 0;
}

size_t normalizer_shrink_max(const struct normalizer *normalizer) {
    // Composing makes 9 bytes into 3 (Hangul), or 8 into 3; compatibility forms make 4 bytes into 1 first; the lower
    // case of U+212A takes 1 byte instead of 3.
    size_t shrink = 1;
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        const struct normalizer_step *step = &normalizer->steps[i];
        if (step->kind == NORMALIZER_FORM)
            shrink *= step->form.compatible ? 12 : 3;
        else if (step->kind == NORMALIZER_LOWERCASE)
            shrink *= 3;
        else if (step->kind == NORMALIZER_REPLACE && pattern_literal_bytes(step->pattern) && step->content.n_bytes)
            shrink *= (pattern_literal_bytes(step->pattern) + step->content.n_bytes - 1) / step->content.n_bytes;
        else if (step->kind != NORMALIZER_PREPEND)
            return 0;
    }
    return shrink;
}
