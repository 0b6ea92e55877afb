// The weights of a layer that has experts instead of one feed-forward.
#pragma once

#include "models/checkpoint.h"
#include "models/config.h"
#include "models/model.h"

// prefix: what stands before a name in this layer. Lists live in the arena.
int weights_bind_experts(struct layer_spec *layer, struct arena *arena, const struct model_config *config,
                         const char *prefix, struct checkpoint *checkpoint, struct err *err)
    __attribute__((warn_unused_result));
