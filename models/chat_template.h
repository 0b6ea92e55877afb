// Chat templates: a small Jinja interpreter with Hugging Face's settings (trim_blocks, lstrip_blocks, loop controls, a
// sandbox without host objects) and budgets of steps, depth and output.
//
// Owner: the model. Read-only once it is loaded; then any thread may render at the same time. Templates come from model
// files only, never from clients.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "models/prompt_text.h"
#include <stdbool.h>
#include <stdint.h>

struct chat_template;

// Parses; ERR_FORMAT with the line of the template otherwise.
int chat_template_open(struct chat_template **out, struct str_view source, struct err *err)
    __attribute__((warn_unused_result));
void chat_template_close(struct chat_template *chat_template);
size_t chat_template_bytes(const struct chat_template *chat_template); // of memory that its programs take

// While loading. A second template, which renders in place of the first when the variable `tools` holds something
// (Hugging Face's "tool_use").
int chat_template_add_tool_use(struct chat_template *chat_template, struct str_view source, struct err *err)
    __attribute__((warn_unused_result));
// While loading. A variable of the model's own: bos_token, eos_token ... Its text is trusted and goes before a client's
// variable of that name. text.data == NULL: the model has no such token. The first call for a name decides.
void chat_template_add_token(struct chat_template *chat_template, const char *name, struct str_view text);

struct template_limits {
    uint64_t steps;      // evaluated nodes; 0: 1e6, and 2 for each byte of the context
    size_t output_bytes; // 0: 8 MiB
    int depth;           // nested calls, statements and expressions; 0: 400
};

struct chat_template_input {
    // A JSON object: messages, tools, add_generation_prompt, and any other variables. Its strings are untrusted;
    // numbers keep their form (1 and 1.0 differ, as in Python). It has passed json_validate.
    struct str_view context_json;
    int64_t now_s; // for strftime_now: seconds since 1970
    struct template_limits limits;
};

// Renders into *out. ERR_INVALID: the template raised an exception or met a wrong value (text as Python would say it);
// ERR_LIMIT: a budget was used up.
int chat_template_render(const struct chat_template *chat_template, const struct chat_template_input *input,
                         struct prompt_text *out, struct err *err) __attribute__((warn_unused_result));

// True when the template mentions the variable, for example "tools" or "enable_thinking".
bool chat_template_uses(const struct chat_template *chat_template, const char *variable);
