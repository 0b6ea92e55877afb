// What an answer says, as its bytes arrive: server-sent events or one JSON document of an OpenAI-compatible server.
//
// Owned by one exchange, on the thread of its loop. Nothing is allocated for events that arrive whole.
#pragma once

#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum { ANSWER_BYTES_MAX = 64 << 20 }; // of one event, or of a document

// Tokens as the server counts them; -1: it has not said.
struct usage {
    int64_t prompt, cached, output;
};

struct answer {
    bool is_stream;  // set once the head is known
    bool keep_text;  // collect what was generated in `text`
    struct str held; // of a stream: the line that is not complete; else the document
    struct str text;
    struct str problem; // one sentence, the first that was found; empty: none
    struct usage usage;
    int64_t n_choices; // that have said why they ended
    bool ended;        // "[DONE]" of a stream
    bool malformed;    // what arrived is not what the API says; else a problem is the server's error
};

void answer_begin(struct answer *answer, bool keep_text); // empty, memory kept
void answer_close(struct answer *answer);

// Bytes of the body. Returns how many of the events in them bring something that was generated.
int answer_read(struct answer *answer, const char *bytes, size_t n_bytes);
// The body is complete. Returns whether a document (no stream) brings something that was generated.
int answer_end(struct answer *answer);
