// What can be changed while the server runs, without changing any answer: names, bounds and present values.
//
// A knob is plain data; who owns the setting (step loop, scheduler, backend) takes a new value before the next step.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum knob_id {
    KNOB_SEQUENCES,   // most sequences that run at once                 (--sequences)
    KNOB_CHUNK,       // most rows of one prompt in a step; 0: automatic (--chunk)
    KNOB_PROMPT_ROWS, // most prompt rows beside sequences that decode; 0: automatic (--prompt-rows)
    KNOB_ADMISSION, // share of a sequence's max_tokens, in percent, for which blocks are set aside when it is admitted
                    // (--admission)
    KNOB_DRAFTS,    // most drafts of a sequence in a step; -1: as many as pay; 0: none (--draft-tokens)
    KNOB_THREADS,   // compute threads of a step (--threads)
    KNOB_PREFIX_CACHE, // 1: prompts reuse cached prefixes (0: --no-prefix-cache)
    KNOBS
};

struct knob {
    const char *name; // "sequences": what experiments and requests call it
    const char *flag; // "--sequences"
    int64_t value, low, high;
    bool available; // this server and device have it
};

// Filled and obeyed by the step loop. Any thread.
struct knobs {
    struct knob knob[KNOBS];
};
const char *knob_name(enum knob_id id);
int knob_find(const char *name); // enum knob_id; -1: there is no such knob

// How the advisor changes them: the step loop behind a table, so that experiments are tested without a model.
struct knob_driver {
    void *context;
    void (*read)(void *context, struct knobs *out);
    void (*set)(void *context, enum knob_id id, int64_t value); // value within the knob's bounds
};
