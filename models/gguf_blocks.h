// GGUF's block formats as rows of codes with scales. Nothing is lost but this: the scales of Q4_K, Q5_K, Q6_K and
// IQ4_XS are products of two numbers, which a device may round, and in Q6_K sixteen of 32 values are rounded to a
// quarter of the steps of the others (see the file).
#pragma once

#include "base/mem.h"
#include "kernels/tensor.h"
#include "models/stored_tensor.h"

// The form that kernels take; false: not a block format, or one that is of no use here.
bool gguf_blocks_form(enum stored_format format, enum tensor_format *out);

// The rows of a tensor, n_cols values each. releasable: its memory is that of a mapped file and may be given back.
// Lives in the arena.
const struct tensor_rows *gguf_blocks_open(struct arena *arena, const struct stored_tensor *tensor, int32_t n_cols,
                                           bool releasable);
