// The special tokens that a chat template may name: bos_token, eos_token, pad_token ...
#pragma once

#include "models/chat_template.h"
#include "models/folder.h"
#include "models/gguf.h"
#include "models/tokenizer.h"

// From tokenizer_config.json, else special_tokens_map.json, else the tokenizer (which may be NULL).
int template_tokens_read_folder(struct chat_template *chat_template, const struct folder *folder,
                                const struct tokenizer *tokenizer, struct err *err) __attribute__((warn_unused_result));
int template_tokens_read_gguf(struct chat_template *chat_template, const struct gguf *gguf,
                              const struct tokenizer *tokenizer, struct err *err) __attribute__((warn_unused_result));
