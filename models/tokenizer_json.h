// Between the two halves of the reader of tokenizer.json. Private to models/tokenizer_json*.c.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "models/tokenizer.h"
#include <cjson/cJSON.h>

// The member, or NULL when it is missing or null.
const cJSON *json_member(const cJSON *object, const char *key);
// Refuses fields that are not listed ("a|b|c"), fields that stand twice, and what is no object.
int json_check_keys(const cJSON *object, const char *what, const char *keys, struct err *err)
    __attribute__((warn_unused_result));
// A string member as a view into the tree; missing or null leaves *out as it was.
int json_get_text(const cJSON *object, const char *key, struct str_view *out, struct err *err)
    __attribute__((warn_unused_result));

// Each fills one part of the tokenizer; NULL: the file has none.
int tokenizer_json_normalizer(struct tokenizer *tokenizer, const cJSON *object, struct err *err)
    __attribute__((warn_unused_result));
int tokenizer_json_pretokenizer(struct tokenizer *tokenizer, const cJSON *object, struct err *err)
    __attribute__((warn_unused_result));
int tokenizer_json_decoder(struct tokenizer *tokenizer, const cJSON *object, struct err *err)
    __attribute__((warn_unused_result));
int tokenizer_json_postprocessor(struct tokenizer *tokenizer, const cJSON *object, struct err *err)
    __attribute__((warn_unused_result));
