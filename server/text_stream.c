#include "server/text_stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void stop_set_add(struct stop_set *set, struct arena *arena, const char *text, size_t n_bytes) {
    assert(set->n < STOP_STRINGS_MAX && n_bytes > 0 && n_bytes <= STOP_STRING_BYTES_MAX);
    uint16_t *failure = arena_alloc_zero(arena, n_bytes + 1, sizeof *failure);
    for (size_t i = 1, border = 0; i < n_bytes; i++) {
        while (border && text[i] != text[border]) border = failure[border];
        if (text[i] == text[border]) border++;
        failure[i + 1] = (uint16_t)border;
    }
    set->strings[set->n++] = (struct stop_string){text, n_bytes, failure};
}

void text_stream_open(struct text_stream *stream, const struct text_stream_options *options) {
    *stream = (struct text_stream){.options = *options};
}

void text_stream_close(struct text_stream *stream) {
    str_close(&stream->held);
    vec_free(&stream->spans);
}

// Follows the stop strings through the held text from byte i_first on. Returns the string that ended first and, in
// *end, the offset in `held` behind it; NULL when none ended.
static const struct stop_string *find_stop(struct text_stream *stream, size_t i_first, size_t *end) {
    const struct stop_set *stops = stream->options.stops;
    const struct stop_string *found = NULL;
    for (size_t i = i_first; i < stream->held.n_bytes && !found; i++) {
        char c = stream->held.data[i];
        for (size_t s = 0; s < stops->n; s++) {
            const struct stop_string *stop = &stops->strings[s];
            size_t k = stream->matched[s];
            if (k == stop->n_bytes) k = stop->failure[k];
            while (k && c != stop->text[k]) k = stop->failure[k];
            if (c == stop->text[k]) k++;
            stream->matched[s] = (uint16_t)k;
            bool counts = stream->n_tokens > stream->options.n_tokens_min;
            if (k == stop->n_bytes && counts && (!found || stop->n_bytes > found->n_bytes)) {
                found = stop;
                *end = i + 1;
            }
        }
    }
    return found;
}

// Bytes at the end of the held text that may become a stop string.
static size_t n_bytes_undecided(const struct text_stream *stream) {
    size_t most = 0;
    for (size_t s = 0; s < stream->options.stops->n; s++) {
        const struct stop_string *stop = &stream->options.stops->strings[s];
        size_t k = stream->matched[s];
        if (k == stop->n_bytes) k = stop->failure[k]; // a match that did not count
        if (k > most) most = k;
    }
    return most;
}

static void release(struct text_stream *stream, size_t n_bytes, struct str *out) {
    str_append(out, str_text(&stream->held), n_bytes);
    str_drop_front(&stream->held, n_bytes);
    stream->n_released += n_bytes;
}

// The last token's span begins at `begin`; spans of tokens that share an unfinished code point end together.
static void note_span(struct text_stream *stream, uint64_t begin, bool silent) {
    if (!stream->options.track_tokens) return;
    struct token_span span = {begin, UINT64_MAX, silent};
    vec_push(&stream->spans, span);
    if (stream->filter.n_held) return;
    for (size_t i = stream->spans.count; i > stream->spans_first && stream->spans.items[i - 1].end == UINT64_MAX; i--)
        stream->spans.items[i - 1].end = stream->n_text;
}

bool text_stream_push(struct text_stream *stream, const char *bytes, size_t n_bytes, struct str *out) {
    assert(!stream->ended);
    uint64_t begin = stream->n_text;
    size_t i_new = stream->held.n_bytes;
    stream->n_tokens++;
    utf8_filter_push(&stream->filter, bytes, n_bytes, &stream->held);
    stream->n_text += stream->held.n_bytes - i_new;
    note_span(stream, begin, n_bytes == 0);
    size_t end = 0;
    const struct stop_string *stop = find_stop(stream, i_new, &end);
    if (!stop) {
        release(stream, stream->held.n_bytes - n_bytes_undecided(stream), out);
        return false;
    }
    release(stream, stream->options.include_stop ? end : end - stop->n_bytes, out);
    str_clear(&stream->held);
    stream->ended = true;
    return true;
}

void text_stream_finish(struct text_stream *stream, struct str *out) {
    if (stream->ended) return;
    size_t n_before = stream->held.n_bytes;
    utf8_filter_finish(&stream->filter, &stream->held);
    stream->n_text += stream->held.n_bytes - n_before;
    release(stream, stream->held.n_bytes, out);
    stream->ended = true;
}

enum token_fate text_stream_next_fate(struct text_stream *stream) {
    if (stream->spans_first == stream->spans.count) {
        stream->spans.count = stream->spans_first = 0;
        return TOKEN_PENDING;
    }
    const struct token_span *span = &stream->spans.items[stream->spans_first];
    enum token_fate fate = TOKEN_PENDING;
    if (span->silent)
        fate = TOKEN_DROPPED;
    else if (span->end <= stream->n_released)
        fate = TOKEN_RELEASED;
    else if (stream->ended)
        fate = span->begin < stream->n_released ? TOKEN_RELEASED : TOKEN_DROPPED;
    if (fate != TOKEN_PENDING) stream->spans_first++;
    return fate;
}
