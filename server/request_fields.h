// From a request's body to checked values: one declared table says of every field its type, range, default, endpoint
// and where it lands. Nothing that a client sent goes further without passing it.
//
// An explicit null is the default. What the table does not know is ignored and its name listed (strict: refused). What
// the table knows as lacking is refused.
// Any thread; everything that a request points to lives in the arena or in the body.
#pragma once

#include "base/mem.h"
#include "base/str.h"
#include "kernels/backend.h"
#include "models/model.h"
#include "scheduler/step_loop.h"
#include "server/api_error.h"
#include "server/text_stream.h"
#include <stdbool.h>
#include <stdint.h>

enum endpoint { ENDPOINT_CHAT = 1, ENDPOINT_COMPLETIONS = 2 };

enum { LOGIT_BIAS_MAX = 1024, REQUEST_STOP_TOKENS_MAX = GENERATION_STOP_TOKENS_MAX - MODEL_STOP_TOKENS_MAX };

// What the operator and the model allow.
struct request_rules {
    enum endpoint endpoint;
    bool strict;
    int n_choices_max; // 1..GENERATION_CHOICES_MAX
    int32_t vocab;     // token ids are 0..vocab-1
};

struct request {
    const char *model; // NULL: not said

    // Sampling; NAN and INT64_MIN mean that the client said nothing and the model's default holds.
    double temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    int64_t top_k, seed;
    bool has_seed;
    struct logit_edit *bias; // [n_bias], in the arena
    int32_t n_bias;

    int64_t n_choices;
    int64_t max_tokens; // -1: not said
    int64_t min_tokens;
    struct stop_set stops;
    int32_t stop_tokens[REQUEST_STOP_TOKENS_MAX];
    int32_t n_stop_tokens;
    bool ignore_eos, include_stop, skip_special;

    int64_t n_top_logprobs;        // -1: no logprobs
    bool chat_logprobs;            // the flag that chat requests have besides
    int64_t n_prompt_top_logprobs; // -1: none in the answer (echo with logprobs is n_top_logprobs)
    bool echo;

    bool stream, include_usage, continuous_usage;

    struct str_view messages; // raw JSON array; chat
    struct str_view prompt;   // raw JSON; completions
    bool add_special;         // BOS and the like around the prompt's text
    bool add_generation_prompt, has_add_generation_prompt, continue_final_message;
    struct str_view template_kwargs; // raw JSON object of scalars with names that are not reserved, or empty
    const char *reasoning_effort;    // one of the known words, or NULL
    const char *cache_salt;          // NULL: none

    struct str_view ignored; // names for x-optima-ignored, "a, b"; may be empty
};

// body has passed json_validate. 0, or -1 with a 400 that names the field in *error.
int request_read(struct request *out, struct arena *arena, struct str_view body, const struct request_rules *rules,
                 struct api_error *error) __attribute__((warn_unused_result));

// The sampling parameters with the model's defaults filled in; `random_seed` is for a request without a seed.
struct sample_params request_sampling(const struct request *request, const struct generation_defaults *defaults,
                                      uint64_t random_seed);

// The table, for tests and documents: name of row i with its endpoints, or NULL behind the last.
const char *request_field_name(size_t i, unsigned *endpoints);
