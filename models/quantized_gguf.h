// Writes a model that came from a GGUF file as a new GGUF file with quantised matrices: INT4 as Q4_0, INT8 as Q8_0.
// Keys and values, tokenizer and template among them, and all other tensors stay as they are.
#pragma once

#include "base/err.h"
#include "models/model.h"
#include "models/quantized_entries.h"

// Writes OUT, which must not exist. entries: any of the matrices, all in INT4 or all in INT8, with 32 inputs a scale
// and scales in F16; sorted here. A tensor of the file is written quantised when all of it is among them.
int quantized_gguf_write(const struct model *model, struct quantized_entry *entries, size_t n_entries, const char *out,
                         struct err *err) __attribute__((warn_unused_result));
