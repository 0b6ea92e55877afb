// How much memory a model needs to serve and how the KV cache is cut: decided once, before anything is allocated.
#pragma once

#include "base/err.h"
#include "engine/engine.h"
#include "models/model.h"
#include <stdint.h>

enum { MEMORY_PLAN_SEQUENCES = 128 }; // of one step, where options do not say how many; more wait in the queue

struct memory_plan {
    struct engine_limits limits;
    struct kv_shape kv;
};

// name: of engine_options.weights. ERR_INVALID: there is no such format.
int memory_plan_weight_format(enum weight_format *out, const char *name, struct err *err)
    __attribute__((warn_unused_result));

// The form of a table or router beside layers in `format`: it stays, or becomes BF16, because it is small, or a step
// reads few rows of it. What the model has quantised stays so.
enum weight_format memory_plan_table_format(const struct tensor *tensor, enum weight_format format);
// The form of the head, or of the table that is both: every step reads all of it, so beside integers it is INT8, where
// the device has that. INT4 there would cost more than in layers: it decides what is said.
enum weight_format memory_plan_head_format(const struct backend *backend, const struct tensor *tensor,
                                           enum weight_format format);
// The form of the model's embedding.
enum weight_format memory_plan_embed_format(const struct backend *backend, const struct model_spec *spec,
                                            enum weight_format format);
// The format of a layer's matrix: that of the others, but routers are kept like embeddings.
enum weight_format memory_plan_matrix_format(const struct layer_spec *layer, const struct tensor *matrix,
                                             enum weight_format format);

// What all weights take on a device that keeps them in `format`.
uint64_t memory_plan_weight_bytes(const struct backend *backend, const struct model_spec *spec,
                                  enum weight_format format);

// For weights of which the device makes copies. ERR_LIMIT: they do not fit; says what would.
int memory_plan_check_weights(const struct backend *backend, const struct model_spec *spec, enum weight_format format,
                              uint64_t available_bytes, struct err *err) __attribute__((warn_unused_result));

// What the KV cache may take of the memory that the weights leave: half of a host's, which others need too, and most of
// a device's; activations need the rest.
uint64_t memory_plan_kv_budget(const struct backend *backend, uint64_t left_bytes);

// The cache of one sequence of so many tokens, in the largest format.
uint64_t memory_plan_kv_bytes(const struct model_spec *spec, int32_t n_tokens);

// Rows of a step where the options do not say how many: a device of its own needs more of them to be busy.
int32_t memory_plan_rows(const struct backend *backend);

// options: as for engine_open, with 0 = auto. kv_budget: bytes for the KV cache, where options do not say how many.
// ERR_INVALID: an option is out of range; ERR_LIMIT: not even one block fits.
int memory_plan_make(struct memory_plan *out, const struct model_spec *spec, int32_t n_token_ids,
                     const struct engine_options *options, uint64_t kv_budget, struct err *err)
    __attribute__((warn_unused_result));
