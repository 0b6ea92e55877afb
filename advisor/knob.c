#include "advisor/knob.h"

#include <string.h>

static const char *const names[KNOBS] = {
    [KNOB_SEQUENCES] = "sequences",       [KNOB_CHUNK] = "chunk",   [KNOB_PROMPT_ROWS] = "prompt_rows",
    [KNOB_ADMISSION] = "admission",       [KNOB_DRAFTS] = "drafts", [KNOB_THREADS] = "threads",
    [KNOB_PREFIX_CACHE] = "prefix_cache",
};

const char *knob_name(enum knob_id id) {
    return names[id];
}

int knob_find(const char *name) {
    for (int id = 0; id < KNOBS; id++)
        if (strcmp(name, names[id]) == 0) return id;
    return -1;
}
