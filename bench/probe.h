// What a run must know of the server before it begins: the model's name, and how it counts tokens.
#pragma once

#include "base/url.h"
#include "bench/workload.h"
#include <stdbool.h>

struct probe_target {
    const struct url *url;
    const char *api_key; // NULL: none
    double timeout_s;    // of each request
};

// The first model that GET /v1/models lists. ERR_IO: no answer; ERR_FORMAT: no list; ERR_LIMIT: too late.
int probe_model(struct str *name, const struct probe_target *target, struct err *err)
    __attribute__((warn_unused_result));

// Sets tokens_per_word and frame_tokens from the prompt_tokens of two requests, of PROBE_WORDS and of twice as many.
// They stay 1 and 0 when the server says no usage; *counts says whether it does. ERR_IO or ERR_UNSUPPORTED: the server
// refuses such requests, with its words.
enum { PROBE_WORDS = 60 };
int probe_tokens(struct workload *workload, const struct probe_target *target, bool *counts, struct err *err)
    __attribute__((warn_unused_result));
