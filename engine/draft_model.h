// A small model guesses for a large one.
//
// It runs on the same device, with a program and a KV cache of its own, over all sequences that want drafts: one step
// for each draft, after the step in which it catches up with what the target has drawn since. It draws with the same
// seeds, positions and noise as the target, so that it draws the same token nearly as often as any rule of acceptance
// would allow. Thread: that which opened it, until the step thread takes over.
#pragma once

#include "base/err.h"
#include "engine/engine.h"
#include "engine/proposer.h"

struct draft_model_options {
    const char *path;                       // as for model_open
    const struct model *target;             // outlives the proposer
    struct engine *engine;                  // of the target
    struct backend *backend;                // of the target; outlives the proposer
    struct backend_options backend_options; // with which that was opened
    const char *kv_format, *weights;        // as in engine_options
};

// ERR_INVALID: its tokens are not those of the target; names the first that differs. Adds a row to *ledger.
int draft_model_open(struct proposer **out, const struct draft_model_options *options, struct memory_ledger *ledger,
                     struct err *err) __attribute__((warn_unused_result));

// Whether a model has a draft beside it: the embedded demo has, and so has a folder with a model in its folder "draft".
// Its path into out.
bool draft_model_find(const char *target_path, char out[4096]);

// ERR_INVALID: a token of one is not that of the other, or the draft has no embedding for one. A draft without a
// tokenizer of its own uses the target's.
int draft_model_check_tokens(const struct model *target, const struct model *draft, struct err *err)
    __attribute__((warn_unused_result));
