// What a run sends: prompts and lengths, as requests of the OpenAI API. Session i is the same in every run with the
// same options, whenever it is sent: runs can be compared in pairs.
//
// Prompts are made of words. How many tokens a word and the frame of a request are, the server says: the first
// requests of a run measure it.
#pragma once

#include "base/str.h"
#include "bench/amount.h"
#include "bench/trace.h"

enum endpoint { ENDPOINT_CHAT, ENDPOINT_COMPLETIONS };

struct workload_options {
    const char *model; // NULL: the server's first
    enum endpoint endpoint;
    bool stream, ignore_eos;
    struct amount prompt_tokens, output_tokens;
    int64_t prefix_tokens, n_prefixes; // prompts of a group begin alike; 0: no groups
    int64_t n_turns;                   // of a session
    const struct trace *trace;         // gives lengths and texts; NULL: none
    const char *extra;                 // a JSON object whose members are added to every request; NULL: none
    uint64_t seed;
};

struct workload {
    struct workload_options options;
    double tokens_per_word, frame_tokens; // as the server counts; 1 and 0 when it does not say
};

// A session: one request, or several turns that carry what was said before.
struct session {
    uint64_t number;
    int32_t user, turn;
    struct str said; // messages so far, as JSON objects with a comma behind each
};

// Appends the body of the session's next request; n_output: the tokens it asks for.
void workload_body(const struct workload *workload, struct session *session, struct str *body, int64_t *n_output);
// What the server answered, before the next turn.
void workload_answered(struct session *session, struct str_view text);
// A body with this many words and one token of output, for measuring.
void workload_probe(const struct workload *workload, int64_t n_words, struct str *body);
const char *workload_path(const struct workload *workload);
int64_t workload_n_turns(const struct workload *workload, const struct session *session);
