// What changes logits before a draw: edits and the penalties of tokens that were seen. Shared by all instruction sets,
// because it touches a few logits only.
#pragma once

#include "kernels/backend.h"

// Returns `logits` when nothing changes them, otherwise `copy` [vocab], edited.
const float *sample_edit(const float *logits, int32_t vocab, const struct sample_params *params,
                         const struct step_input *input, float *copy);
