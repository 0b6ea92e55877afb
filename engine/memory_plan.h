// How much memory a model needs to serve and how the KV cache is cut: decided once, before anything is allocated.
#pragma once

#include "base/err.h"
#include "engine/engine.h"
#include "models/model.h"
#include <stdint.h>

struct memory_plan {
    struct engine_limits limits;
    struct kv_shape kv;
};

// options: as for engine_open, with 0 = auto. available_bytes: memory that may be used for the KV cache and
// activations. ERR_INVALID: an option is out of range; ERR_LIMIT: not even one block fits.
int memory_plan_make(struct memory_plan *out, const struct model_spec *spec, int32_t n_token_ids,
                     const struct engine_options *options, uint64_t available_bytes, struct err *err)
    __attribute__((warn_unused_result));
