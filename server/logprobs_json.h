// Log probabilities as the two endpoints write them, appended token by token.
//
// Chat: {"content":[{"token","logprob","bytes","top_logprobs":[...]}],"refusal":null}. Completions: four arrays of
// equal length, {"tokens","token_logprobs","top_logprobs","text_offset"}; offsets count code points of the returned
// text.
#pragma once

#include "base/str.h"
#include "kernels/backend.h"
#include "models/tokenizer.h"
#include <stdbool.h>
#include <stdint.h>

// The owner sets tokenizer, chat, n_top and text; the rest begins as zero.
struct logprobs_json {
    const struct tokenizer *tokenizer;
    bool chat;
    int32_t n_top;           // alternatives to show
    struct detokenizer text; // at the beginning of the text; completions
    size_t n_tokens;         // appended since the last write
    uint64_t offset;         // code points of the text so far; completions
    struct str parts[4];     // chat: content; completions: tokens, token_logprobs, top_logprobs, text_offset
};

void logprobs_json_close(struct logprobs_json *json);
size_t logprobs_json_bytes(const struct logprobs_json *json);

// One token; sample == NULL: a token without a probability (the first of a prompt), whose id is `token`.
void logprobs_json_add(struct logprobs_json *json, int32_t token, const struct sample_result *sample);
// Appends the JSON value with everything since the last write, and forgets it.
void logprobs_json_write(struct logprobs_json *json, struct str *out);

// One entry of vLLM's prompt_logprobs: {"<id>":{"logprob","rank","decoded_token"}, ...}.
void prompt_logprobs_append(struct str *out, const struct tokenizer *tokenizer, const struct sample_result *sample,
                            int32_t n_top);
