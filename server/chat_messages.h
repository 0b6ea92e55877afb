// The messages of a chat request as the variables of a chat template.
//
// Every message is checked; content parts of text are joined, members that are null are left out, the arguments of tool
// calls become objects where they are JSON, "developer" becomes "system". Everything else reaches the template as sent.
// Any thread.
#pragma once

#include "base/str.h"
#include "server/request_fields.h"

enum { CHAT_MESSAGES_MAX = 4096, CHAT_PARTS_MAX = 1024 };

// Appends the JSON object that chat_template_render takes. *final_content becomes the raw literal of the last message's
// content, a view into *context (empty when it has none). 0, or -1 with a 400 that names the message.
int chat_messages_context(const struct request *request, struct str *context, struct str_view *final_content,
                          struct api_error *error) __attribute__((warn_unused_result));
