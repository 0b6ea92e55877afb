// Writes a model with quantised matrices as a Hugging Face folder in the format of compressed-tensors, which Optima,
// vLLM and transformers read:
//
//     INT4, INT8 in groups   pack-quantized   X.weight_packed I32 [out, in * bits / 32], X.weight_scale [out, in /
//     group],
//                                             X.weight_shape I64 [2]
//     INT8, a scale a row    int-quantized    X.weight I8 [out, in], X.weight_scale [out, 1]
//     FP8, a scale a row     float-quantized  X.weight F8_E4M3 [out, in], X.weight_scale [out, 1]
//
// Packed values lie along the inputs, the first in the lowest bits, plus half their range. All other tensors stay as
// they are, in files of the same names.
#pragma once

#include "base/err.h"
#include "models/model.h"
#include "models/quantized_entries.h"

// Writes OUT, which must not exist. entries: any of the matrices, all quantised in one way; sorted here. A tensor of
// the files is written quantised when all of it is among them.
int quantized_folder_write(const struct model *model, struct quantized_entry *entries, size_t n_entries,
                           const char *out, struct err *err) __attribute__((warn_unused_result));
