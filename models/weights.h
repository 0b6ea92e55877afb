// From a configuration and a checkpoint to a model_spec: asks for every tensor that the family expects.
#pragma once

#include "models/checkpoint.h"
#include "models/config.h"
#include "models/model.h"

// Lists live in the arena, tensors in the checkpoint.
int weights_bind(struct model_spec *out, struct arena *arena, const struct model_config *config,
                 struct checkpoint *checkpoint, struct err *err) __attribute__((warn_unused_result));
