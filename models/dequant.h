// GGUF's block formats as single-precision numbers.
#pragma once

#include "models/stored_tensor.h"
#include <stdbool.h>
#include <stddef.h>

enum { DEQUANT_BLOCK = 32 }; // values in a block of Q8_0 and Q4_0

bool dequant_knows(enum stored_format format);
size_t dequant_block_bytes(enum stored_format format);
// n_values is a multiple of DEQUANT_BLOCK; blocks may have any alignment.
void dequant(enum stored_format format, const void *blocks, size_t n_values, float *out);
