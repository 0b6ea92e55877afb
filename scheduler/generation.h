// What clients of the step loop ask for and what they get back: a request for tokens, and the events that answer it.
#pragma once

#include "kernels/backend.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GENERATION_CHOICES_MAX = 128, GENERATION_STOP_TOKENS_MAX = 32 };

// One request: a prompt and n sequences that continue it. Copied by step_loop_submit.
struct generation {
    uint64_t id;           // chosen by the caller, unique among living requests
    const int32_t *prompt; // [n_prompt], n_prompt >= 1
    int32_t n_prompt;
    int32_t n_choices;  // 1..GENERATION_CHOICES_MAX; choice i draws with choice_index i
    int32_t max_tokens; // per choice, >= 0; n_prompt + max_tokens <= context
    int32_t min_tokens; // stop tokens are banned before that many tokens
    bool ignore_eos;    // stop tokens do not stop (and are not banned)
    int32_t n_stop_tokens;
    int32_t stop_tokens[GENERATION_STOP_TOKENS_MAX];
    struct sample_params sampling; // temperature .. frequency_penalty, seed, n_top_logprobs; the rest is ignored
    const struct logit_edit *bias; // [n_bias]
    int32_t n_bias;
    int32_t n_prompt_top_logprobs; // -1: none; >= 0: logprobs of prompt[1..] with that many alternatives
    uint64_t key_id;               // whose request: fairness between keys, and the salt of the prefix cache
    uint64_t cache_salt;           // != 0: shares cached prefixes only with requests of this key and salt
    uint64_t arrived_ns;           // clock_now_ns at arrival, for the queue's statistics
};

enum finish_reason { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_ABORT, FINISH_ERROR };

enum generation_event_kind {
    EVENT_PROMPT_LOGPROB, // logprob of prompt[index], index = 1.. in order, once a request, before any token
    EVENT_TOKEN,          // token `index` (from 0) of a choice was drawn; finish says whether it was the last
    EVENT_FINISHED,       // the choice ended without a token (max_tokens 0, abort, error)
};

struct generation_event {
    uint64_t id;
    enum generation_event_kind kind;
    enum finish_reason finish; // FINISH_NONE while the choice goes on
    int32_t choice;
    int32_t index;
    int32_t n_cached; // prompt tokens that the request took from the prefix cache; set with the first token
    bool has_logprobs;
    bool with_prompts;           // the step that made it computed rows of prompts too
    struct sample_result sample; // token; logprobs when has_logprobs
    uint64_t scheduled_ns;       // when its first row was planned; 0: never
    uint64_t at_ns;              // when the step that made it was collected; 0: no step did (abort)
};

// A growable list of events, for the macros of base/mem.h.
struct generation_events {
    struct generation_event *items;
    size_t count, capacity;
};
