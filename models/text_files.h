// The text side of a model from its files: tokenizer and chat template.
#pragma once

#include "base/err.h"
#include "models/folder.h"
#include "models/gguf.h"
#include "models/model.h"

// tokenizer.json with tokenizer_config.json; the template from chat_template.jinja, else tokenizer_config.json, else
// chat_template.json. What is not there becomes NULL. A template that does not parse is an error when `strict`,
// otherwise one warning and NULL: the model can still complete text.
int text_open_folder(struct model_text *out, const struct folder *folder, bool strict, struct err *err)
    __attribute__((warn_unused_result));
// The tokenizer alone, from a file of the folder that has the form of tokenizer.json; ERR_NOT_FOUND when it is not
// there.
int text_open_tokenizer(struct model_text *out, const struct folder *folder, const char *name, struct err *err)
    __attribute__((warn_unused_result));
// From the keys of an open GGUF file, which may be closed afterwards. path is for error texts.
int text_open_gguf(struct model_text *out, const struct gguf *gguf, const char *path, bool strict, struct err *err)
    __attribute__((warn_unused_result));
