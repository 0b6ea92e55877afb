// One living request: its prompts, its choices, and how they become an answer.
//
// Life: a route calls completion_start on the loop thread; text work runs on the worker pool; the prompts go to the
// step loop as generations; events come back and become text; the answer is streamed or collected. A completion frees
// itself when its exchange has ended or its client has gone. All on the loop thread, but text_work.
#pragma once

#include "base/mem.h"
#include "models/tokenizer.h"
#include "scheduler/step_loop.h"
#include "server/http.h"
#include "server/logprobs_json.h"
#include "server/request_fields.h"
#include "server/text_stream.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct server;

typedef VEC_OF(struct sample_result) sample_vec;

struct prompt {
    token_vec ids;
    struct str text;        // what echo gives back
    int32_t max_tokens;     // for each choice
    uint64_t generation_id; // 0: not submitted yet
    int32_t n_cached;       // tokens that the prefix cache had
    sample_vec logprobs;    // of tokens 1.., when asked for
};

struct choice {
    struct text_stream stream;
    struct detokenizer detokenizer;
    struct logprobs_json logprobs;
    sample_vec undecided; // tokens whose fate the stream has not told, from undecided_first on
    size_t undecided_first;
    struct str text;           // released; streaming: and not sent yet
    enum finish_reason finish; // FINISH_NONE while it lives
    bool begun;                // the first token has come; echo is in the text
    bool announced;            // streaming: the role was sent
    bool closed;               // streaming: the finish reason was sent
    int32_t n_generated;
    uint64_t scheduled_ns, first_token_ns, last_token_ns;
    uint64_t gap_ns;       // before its last tokens; 0: they are the first
    int32_t n_gap_tokens;  // that came together behind it
    bool gap_with_prompts; // in a step with rows of prompts
};

struct completion {
    struct server *server;
    struct http_exchange *exchange; // NULL: the client has gone
    enum endpoint endpoint;
    char id[48];
    int64_t created_s;
    uint64_t arrived_ns, key_id, submitted_ns;

    uv_work_t work;
    bool is_working; // the worker pool has it: only text_work may touch what follows
    struct str body;
    struct arena arena;
    struct request request;
    struct api_error error;
    struct prompt *prompts; // [n_prompts]
    struct choice *choices; // [n_prompts * request.n_choices], prompt by prompt
    int32_t n_prompts, n_choices;

    int32_t n_submitted;        // prompts
    int32_t n_open;             // submitted choices that have not finished
    int32_t n_finished;         // choices
    enum finish_reason failure; // FINISH_ERROR or FINISH_ABORT when a choice ended so
    size_t n_collected;         // bytes of text and log probabilities that events have brought
    bool stream_begun;
    uint64_t watched_ns;                // when that was looked at last
    uint64_t untaken_ns;                // since when the client leaves text untaken; 0: it does not
    bool is_blocked;                    // counted as a blocked stream
    bool is_touched;                    // has something to write after this round of events
    struct str chunk_head;              // the beginning of every chunk, up to the choices
    struct completion *previous, *next; // living completions, oldest first
};

void completion_start(struct server *server, struct http_exchange *exchange, enum endpoint endpoint);
// Takes one event of generation `i_prompt`; writes nothing yet.
void completion_take(struct completion *completion, int32_t i_prompt, const struct generation_event *event);
// Writes what can be written; ends and frees the completion when it is complete.
void completion_flush(struct completion *completion);
// Gives the step loop the prompts that found no room before.
void completion_submit(struct completion *completion);
// Ends it now with an error: as the answer, or as the last event of a stream.
void completion_fail(struct completion *completion, const struct api_error *error);

// ---- text_work.c: on the worker pool. Reads the body into request and prompts, or sets completion->error.
void text_work(struct completion *completion);
// Tokenises into *prompt, within the context. 0, or -1 with completion->error set.
struct prompt_text;
int text_work_encode(struct completion *completion, const struct prompt_text *text, const char *param,
                     struct prompt *prompt) __attribute__((warn_unused_result));
int text_work_too_long(struct completion *completion, int64_t n_prompt, const char *param);
int chat_read_prompt(struct completion *completion);         // chat.c
int completions_read_prompts(struct completion *completion); // completions.c

// ---- completion_json.c: what goes over the wire.
void completion_json_head(struct completion *completion); // prepares chunk_head
void completion_json_chunk(const struct completion *completion, struct choice *choice, bool role, bool finish,
                           struct str *out);
void completion_json_usage_chunk(const struct completion *completion, struct str *out);
void completion_json_answer(struct completion *completion, struct str *out);
