// A server that does well, in round numbers; tests change what they are about.
//
// 10 GB/s and 1 TFLOP/s; a step reads 0.9 GB of layers and 0.1 GB of head; a token of context is 100 kB: a step with 8
// rows of 100 tokens reads 1.08 GB, takes at least 108 ms and here 135 ms (1.25 times).
#pragma once

#include "advisor/evidence.h"
#include "advisor/step_model.h"

#include <stddef.h>

extern const struct step_model example_model;
struct evidence example_evidence(void);

// Every number of it, so that tests can make each unknown or absurd.
struct evidence_field {
    const char *name;
    size_t offset; // of a double in struct evidence
};
extern const struct evidence_field evidence_fields[];
extern const int n_evidence_fields;
