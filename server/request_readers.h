// Readers of the request fields that are more than a number, a flag or a text. Part of request_fields.
#pragma once

#include "server/request_fields.h"

struct field_input {
    const char *name;
    struct str_view value; // raw JSON, not null
    struct request *request;
    struct arena *arena;
    const struct request_rules *rules;
    struct api_error *error;
};

typedef int field_reader(const struct field_input *in); // 0, or -1 with the error set

field_reader read_stop, read_stop_token_ids, read_logit_bias, read_stream_options, read_response_format,
    read_tool_choice, read_modalities, read_template_kwargs, read_reasoning_effort, read_best_of, read_messages,
    read_prompt;

int field_wrong_type(const struct field_input *in, const char *expected); // "an integer"
char json_first(struct str_view value);                                   // the byte that tells a value's kind
bool json_is_number(struct str_view value);
// A string literal as NUL-terminated text in the arena (json_validate has refused U+0000).
const char *arena_json_string(struct arena *arena, struct str_view literal, size_t *n_bytes);
