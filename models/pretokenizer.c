#include "models/pretokenizer.h"

#include "base/utf8.h"

#include <string.h>

// ---- GPT-2's characters for bytes: printable ones stand for themselves, the others follow from U+0100 on ----

static bool is_printable(unsigned byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// The bytes that are not printable are 0..32, 127..160 and 173, in this order.
static unsigned hidden_index(unsigned byte) {
    return byte <= 32 ? byte : byte <= 160 ? byte - 127 + 33 : 67;
}
enum { N_HIDDEN = 68 };

void byte_map_append(struct str *out, struct str_view bytes) {
    str_reserve(out, bytes.n_bytes * 2);
    char *p = out->data + out->n_bytes;
    for (size_t i = 0; i < bytes.n_bytes; i++) {
        unsigned byte = (unsigned char)bytes.data[i];
        if (byte > 32 && byte < 127) {
            *p++ = (char)byte;
            continue;
        }
        unsigned c = is_printable(byte) ? byte : 256 + hidden_index(byte);
        *p++ = (char)(0xc0 | c >> 6);
        *p++ = (char)(0x80 | (c & 0x3f));
    }
    *p = 0;
    out->n_bytes = (size_t)(p - out->data);
}

int byte_map_byte(uint32_t c) {
    if (c < 256) return is_printable(c) ? (int)c : -1;
    if (c >= 256 + N_HIDDEN) return -1;
    unsigned index = c - 256;
    return (int)(index <= 32 ? index : index < 67 ? index - 33 + 127 : 173);
}

// ---- stages ----

void pretokenizer_close(struct pretokenizer *pretokenizer) {
    for (size_t i = 0; i < pretokenizer->n_stages; i++) pattern_close(pretokenizer->stages[i].pattern);
    pretokenizer->n_stages = 0;
}

int pretokenizer_add(struct pretokenizer *pretokenizer, struct pretokenizer_stage stage, struct err *err) {
    if (pretokenizer->n_stages == PRETOKENIZER_STAGES_MAX) {
        pattern_close(stage.pattern);
        return err_set(err, ERR_LIMIT, "more than %d pre-tokenizers", PRETOKENIZER_STAGES_MAX);
    }
    struct pretokenizer_stage *added = &pretokenizer->stages[pretokenizer->n_stages++];
    *added = stage;
    if (stage.mark.n_bytes) {
        memcpy(added->mark_bytes, stage.mark.data, stage.mark.n_bytes);
        added->mark.data = added->mark_bytes;
    }
    return 0;
}

void pretokenizer_work_close(struct pretokenizer_work *work) {
    for (size_t i = 0; i < PRETOKENIZER_STAGES_MAX; i++) str_close(&work->texts[i]);
}

struct run {
    const struct pretokenizer *pretokenizer;
    struct pretokenizer_work *work;
    piece_function take;
    void *context;
    struct err *err;
};

static int run_stage(const struct run *run, size_t i_stage, struct str_view text, bool at_start);

// Turns matches and the text between them into pieces. One element is held back, because the next may join it.
struct splitter {
    const struct run *run;
    size_t i_stage;
    enum split_behavior behavior;
    struct str_view text;
    bool at_start;
    bool has_held, held_is_match;
    struct text_range held;
};

static int hand_on(const struct splitter *s, struct text_range range) {
    struct str_view piece = {s->text.data + range.begin, range.end - range.begin};
    return run_stage(s->run, s->i_stage + 1, piece, s->at_start && range.begin == 0);
}

// True when the element belongs to the one that is held.
static bool joins_held(const struct splitter *s, bool is_match) {
    switch (s->behavior) {
    case SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !s->held_is_match;
    case SPLIT_MERGED_WITH_NEXT:
        return !is_match && s->held_is_match;
    case SPLIT_CONTIGUOUS:
        return is_match == s->held_is_match;
    case SPLIT_REMOVED:
    case SPLIT_ISOLATED:
        return false;
    }
    return false;
}

static int take_element(struct splitter *s, struct text_range range, bool is_match) {
    if (s->behavior == SPLIT_REMOVED && is_match) return 0;
    if (s->behavior == SPLIT_REMOVED || s->behavior == SPLIT_ISOLATED) return hand_on(s, range);
    if (s->has_held && joins_held(s, is_match)) {
        s->held.end = range.end;
        s->held_is_match = is_match;
        return 0;
    }
    int rc = s->has_held ? hand_on(s, s->held) : 0;
    s->held = range;
    s->held_is_match = is_match;
    s->has_held = true;
    return rc;
}

static int split(const struct run *run, size_t i_stage, struct str_view text, bool at_start) {
    const struct pretokenizer_stage *stage = &run->pretokenizer->stages[i_stage];
    struct splitter s = {
        .run = run, .i_stage = i_stage, .behavior = stage->behavior, .text = text, .at_start = at_start};
    struct pattern_search search;
    pattern_search_open(&search, stage->pattern, text, &run->work->budget);
    struct text_range match;
    size_t done = 0;
    int rc = 0, found;
    while (!rc && (found = pattern_search_next(&search, &match, run->err)) != 0) {
        if (found < 0) {
            rc = found;
            break;
        }
        if (match.begin > done) rc = take_element(&s, (struct text_range){done, match.begin}, stage->inverted);
        if (!rc) rc = take_element(&s, match, !stage->inverted);
        done = match.end;
    }
    pattern_search_close(&search);
    if (!rc && done < text.n_bytes) rc = take_element(&s, (struct text_range){done, text.n_bytes}, stage->inverted);
    if (!rc && s.has_held) rc = hand_on(&s, s.held);
    return rc;
}

static struct str_view view_of(const struct str *s) {
    return (struct str_view){s->data, s->n_bytes};
}

static struct str_view put_space_in_front(struct str *out, struct str_view text) {
    if (text.data[0] == ' ') return text;
    str_clear(out);
    str_append_char(out, ' ');
    str_append(out, text.data, text.n_bytes);
    return view_of(out);
}

static void replace_spaces(struct str *out, struct str_view text, struct str_view mark) {
    for (const char *at = text.data, *end = text.data + text.n_bytes; at < end;) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        str_append(out, at, (size_t)((space ? space : end) - at));
        if (!space) return;
        str_append(out, mark.data, mark.n_bytes);
        at = space + 1;
    }
}

static struct str_view to_metaspace(const struct pretokenizer_stage *stage, struct str *out, struct str_view text,
                                    bool at_start) {
    bool marked = text.data[0] == ' ' || str_view_starts_with(text, stage->mark);
    bool wanted = stage->scheme == METASPACE_ALWAYS || (stage->scheme == METASPACE_FIRST && at_start);
    str_clear(out);
    if (wanted && !marked) str_append(out, stage->mark.data, stage->mark.n_bytes);
    replace_spaces(out, text, stage->mark);
    return view_of(out);
}

static int run_stage(const struct run *run, size_t i_stage, struct str_view text, bool at_start) {
    if (!text.n_bytes) return 0;
    if (i_stage == run->pretokenizer->n_stages) return run->take(run->context, text, run->err);
    const struct pretokenizer_stage *stage = &run->pretokenizer->stages[i_stage];
    struct str *out = &run->work->texts[i_stage];
    switch (stage->kind) {
    case PRETOKENIZER_SPLIT:
        return split(run, i_stage, text, at_start);
    case PRETOKENIZER_SPACE_IN_FRONT:
        text = put_space_in_front(out, text);
        break;
    case PRETOKENIZER_METASPACE:
        text = to_metaspace(stage, out, text, at_start);
        break;
    case PRETOKENIZER_BYTE_MAP:
        str_clear(out);
        byte_map_append(out, text);
        text = view_of(out);
        break;
    }
    return run_stage(run, i_stage + 1, text, at_start);
}

int pretokenizer_run(const struct pretokenizer *pretokenizer, struct pretokenizer_work *work, struct str_view text,
                     bool at_start, piece_function take, void *context, struct err *err) {
    struct run run = {.pretokenizer = pretokenizer, .work = work, .take = take, .context = context, .err = err};
    return run_stage(&run, 0, text, at_start);
}
