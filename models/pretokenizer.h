// The stages between normalised text and the model: they cut text into pieces and may change its characters.
//
// Owner: the tokenizer. Read-only after opening.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "models/pattern.h"
#include <stdbool.h>

// What becomes of the matches of a Split; the text between them is always kept.
enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS, // neighbouring matches become one piece
};

enum pretokenizer_kind {
    PRETOKENIZER_SPLIT,
    PRETOKENIZER_SPACE_IN_FRONT, // unless there is one
    PRETOKENIZER_METASPACE,      // spaces become the mark; perhaps one in front
    PRETOKENIZER_BYTE_MAP,       // every byte becomes one of GPT-2's 256 characters
};

enum metaspace_scheme { METASPACE_ALWAYS, METASPACE_FIRST, METASPACE_NEVER };

struct pretokenizer_stage {
    enum pretokenizer_kind kind;
    struct pattern *pattern; // owned
    enum split_behavior behavior;
    bool inverted;        // matches and the text between them change places
    struct str_view mark; // Metaspace's, 1 to 4 bytes
    char mark_bytes[4];
    enum metaspace_scheme scheme;
};

enum { PRETOKENIZER_STAGES_MAX = 16 };

struct pretokenizer {
    struct pretokenizer_stage stages[PRETOKENIZER_STAGES_MAX];
    size_t n_stages;
};

void pretokenizer_close(struct pretokenizer *pretokenizer);
// Takes ownership of the stage's pattern, also when it fails: ERR_LIMIT, too many stages.
int pretokenizer_add(struct pretokenizer *pretokenizer, struct pretokenizer_stage stage, struct err *err)
    __attribute__((warn_unused_result));

// Memory of one encoding; zero it before the first run.
struct pretokenizer_work {
    struct str texts[PRETOKENIZER_STAGES_MAX];
    struct pattern_budget budget;
};
void pretokenizer_work_close(struct pretokenizer_work *work);

// Takes one piece, which is never empty and valid only during the call.
typedef int (*piece_function)(void *context, struct str_view piece, struct err *err);

// Calls take(context, piece) for every piece of valid UTF-8 text, in order. at_start: it is the beginning of the
// prompt.
int pretokenizer_run(const struct pretokenizer *pretokenizer, struct pretokenizer_work *work, struct str_view text,
                     bool at_start, piece_function take, void *context, struct err *err)
    __attribute__((warn_unused_result));

// GPT-2's 256 characters.
void byte_map_append(struct str *out, struct str_view bytes);
// The byte that a character stands for, or -1.
int byte_map_byte(uint32_t code_point);
