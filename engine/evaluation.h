// How well a model predicts a text, and how far its predictions are from those of a reference.
//
// The text is read in windows. Only tokens behind others of their window are scored, by the logits before them.
// Thread: the step thread of both engines.
#pragma once

#include "base/err.h"
#include "base/statistics.h"
#include "engine/engine.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum evaluation_rule {
    // As transformers' guide to perplexity: windows begin `stride` tokens apart, and each scores what those before it
    // have not. With stride < window every token but the text's first is scored once, behind at least
    // window - stride others (those of the first window aside).
    EVALUATION_SLIDING,
    // As llama.cpp's perplexity: windows follow each other without overlap, each scores its second half, what is left
    // at the end is not read, and the model's beginning of text, where it wants one, takes the place of a window's
    // first token.
    EVALUATION_HALVES,
};

struct evaluation_window {
    size_t first;          // token of the text
    int32_t n, n_unscored; // tokens; those from the window's token n_unscored on are scored
};

// The window after *window; begin with {0}. False: there is none. 2 <= length, 1 <= stride <= length.
bool evaluation_next_window(struct evaluation_window *window, enum evaluation_rule rule, int32_t length, int32_t stride,
                            size_t n_tokens);

// The sum of p * ln(p / q) for p = softmax(reference), q = softmax(logits), in nats. *agrees: the largest of both is
// the same token, the first among equals.
double evaluation_divergence(const float *reference, const float *logits, int32_t n, bool *agrees);

struct evaluation_options {
    enum evaluation_rule rule;
    int32_t window, stride; // tokens; within the engines' context. EVALUATION_HALVES: no stride
    int32_t bos;            // EVALUATION_HALVES: in place of each window's first token; -1: nothing
    void (*progress)(void *context, size_t done, size_t total); // in tokens; may be NULL
    void *progress_context;
};

// One entry for each scored token, in their order.
struct evaluation {
    size_t n_scored;
    size_t *token;          // its place in the text
    double *nats;           // its negative logprob
    double *reference_nats; // likewise; without a reference NULL, as what follows
    double *divergence;     // of the prediction from the reference's
    bool *agrees;           // whether both find the same token the most probable
};

// reference: NULL, or an engine of the same vocabulary. ERR_INVALID: too few tokens, ids that a model does not have,
// logits that are not finite.
int evaluation_run(struct evaluation *out, struct engine *engine, struct engine *reference, const int32_t *tokens,
                   size_t n_tokens, const struct evaluation_options *options, struct err *err)
    __attribute__((warn_unused_result));
void evaluation_close(struct evaluation *evaluation);

struct evaluation_summary {
    struct interval perplexity, reference_perplexity;
    struct interval difference; // of perplexities; paired, so that what both find hard does not count
    struct interval divergence; // nats a token
    double divergence_median, divergence_p99, divergence_max;
    double agreement; // share of tokens, 0 .. 1
};
void evaluation_summarise(const struct evaluation *evaluation, struct evaluation_summary *out);
