// Runs one sequence through an engine without a scheduler: for tests that compare logits and greedy tokens.
#pragma once

#include "base/json.h"
#include "engine/engine.h"

struct lone_engine {
    struct model *model;
    struct backend *backend;
    struct engine *engine;
};

struct lone_options {
    const char *path;            // of the model
    const char *device;          // NULL: cpu
    const char *instruction_set; // NULL: auto
    int n_threads;               // 0: auto
    const char *kv_format;       // NULL: f32
    const char *weights;         // NULL: auto
    int32_t steps_in_flight;     // 0: 1
    int32_t context;             // 0: the model's
    struct comm *comm;           // NULL: one rank
};

// False when this processor lacks the instruction set; fails the test with the error's text when anything else goes
// wrong.
bool lone_open(struct lone_engine *lone, const struct lone_options *options);
void lone_close(struct lone_engine *lone);

// Computes tokens [n] from position `first` on as one chunk of rows; the tokens before are in the cache already.
// The block table is a fixed permutation, so that a wrong block shows. logits: [n, vocab] or NULL. Returns the token
// that greedy decoding draws after the last row.
int32_t lone_compute(struct lone_engine *lone, const int32_t *tokens, int32_t first, int32_t n, float *logits);

// The integers of object[key] (an array) into ids [n_max]; fails the test when there are more. Returns how many.
int golden_read_ids(const cJSON *object, const char *key, int32_t *ids, int n_max);

// The prompt of a model below tests/golden; returns how many.
int golden_read_tokens(const char *folder, int32_t *tokens, int n_max);
// Fails the test when logits differ by more than 1e-4 of the largest.
void golden_check_close(const char *name, const char *instruction_set, const float *got, const float *want, size_t n);
// The same with another tolerance.
void golden_check_within(float tolerance, const char *name, const char *instruction_set, const float *got,
                         const float *want, size_t n);
