// From the bytes of tokens to text, token by token: never half a code point, never a part of a stop string.
//
// The text is the same whether it is taken after every token or once at the end. A stop string matches across token
// borders; the match that ends first wins (of those that end together the longest). What might still become a stop
// string is held back.
// One thread at a time; the stop set is read-only and may be shared by many streams.
#pragma once

#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include <stdbool.h>
#include <stdint.h>

enum { STOP_STRINGS_MAX = 16, STOP_STRING_BYTES_MAX = 256 };

// Stop strings with their Knuth-Morris-Pratt failure tables.
struct stop_string {
    const char *text;
    size_t n_bytes;    // 1..STOP_STRING_BYTES_MAX
    uint16_t *failure; // [n_bytes + 1]: longest proper border of the first i bytes
};
struct stop_set {
    struct stop_string strings[STOP_STRINGS_MAX];
    size_t n;
};
// text must live as long as the set; the table comes from the arena. The set must have room.
void stop_set_add(struct stop_set *set, struct arena *arena, const char *text, size_t n_bytes);

struct text_stream_options {
    const struct stop_set *stops;
    bool include_stop;    // the stop string is part of the text
    bool track_tokens;    // text_stream_next_fate will be asked
    int32_t n_tokens_min; // stop strings that end within the first so many tokens do not count
};

// One token's stretch of the text.
struct token_span {
    uint64_t begin, end; // offsets in the whole text; end is UINT64_MAX while a code point is unfinished
    bool silent;         // gave no bytes
};

struct text_stream {
    struct text_stream_options options;
    struct utf8_filter filter;
    struct str held;                    // text that was not released
    uint16_t matched[STOP_STRINGS_MAX]; // bytes of each stop string that the text's end matches
    uint64_t n_text;                    // bytes of text so far, held ones included
    uint64_t n_released;
    int32_t n_tokens;
    bool ended;                      // a stop string matched or text_stream_finish was called
    VEC_OF(struct token_span) spans; // of tokens whose fate was not told yet, from spans_first on
    size_t spans_first;
};

void text_stream_open(struct text_stream *stream, const struct text_stream_options *options);
void text_stream_close(struct text_stream *stream);

// The bytes of one token, perhaps none. Appends to *out what can be released. True: a stop string has matched, nothing
// more will come.
bool text_stream_push(struct text_stream *stream, const char *bytes, size_t n_bytes, struct str *out);
// The end for another reason: what was held back is released.
void text_stream_finish(struct text_stream *stream, struct str *out);

// What became of the next token in order: its text was released, it has no text in the answer, or it is not known yet.
enum token_fate { TOKEN_PENDING, TOKEN_RELEASED, TOKEN_DROPPED };
enum token_fate text_stream_next_fate(struct text_stream *stream);
