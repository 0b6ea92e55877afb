// Records a model's forward pass as a program: one function for all families.
#pragma once

#include "kernels/backend.h"
#include "models/model.h"

// Adds the operations of one step, from embedding to sampled tokens. All weights of spec have been loaded.
// n_token_ids: ids at and beyond it are never drawn.
void forward_record(struct program *program, const struct model_spec *spec, int32_t n_token_ids);
