// A model with an engine of its own and a text in its tokens: what `optima eval` and `optima quantize` measure.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "engine/evaluation.h"
#include "models/tokenizer.h"

struct evaluated_options {
    const char *path, *weights, *kv_format, *device;
    int32_t window; // tokens; 0: the model's context, at most EVALUATED_WINDOW_AUTO
};

enum { EVALUATED_WINDOW_AUTO = 2048 };

struct evaluated {
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    const char *weights; // as asked for
    int32_t window;
};

// On failure nothing is left open.
int evaluated_open(struct evaluated *out, const struct evaluated_options *options, struct err *err)
    __attribute__((warn_unused_result));
void evaluated_close(struct evaluated *evaluated);

// The window where none is asked for.
int32_t evaluated_window_auto(const struct model *model);

// The text's tokens, special tokens among them, behind the model's beginning of text where it wants one. ERR_INVALID
// too when `other`, which may be NULL, has another tokenizer: the error names the first difference.
int evaluated_tokens(const struct model *model, const struct model *other, struct str_view text, token_vec *out,
                     struct err *err) __attribute__((warn_unused_result));

// Rule, lengths (stride 0: half a window) and beginning of text.
int evaluated_windows(const struct evaluated *evaluated, const token_vec *tokens, enum evaluation_rule rule,
                      int64_t stride, struct evaluation_options *out, struct err *err)
    __attribute__((warn_unused_result));

// Everything that is said about one evaluation.
struct evaluated_report {
    const struct evaluated *model, *reference; // reference: NULL for none
    const char *text_name;
    const token_vec *tokens;
    const struct evaluation_options *windows;
    const struct evaluation *evaluation;
};
void evaluated_print(const struct evaluated_report *report);                        // for people, to standard output
void evaluated_append_json(const struct evaluated_report *report, struct str *out); // members, without braces
