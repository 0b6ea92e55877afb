// safetensors: a JSON header that names tensors, and their bytes.
//
//     0        8                8+N                          end
//     | u64 N  | N bytes JSON   | data, offsets count from here |
//
// Format: https://github.com/huggingface/safetensors. Any bytes are safe to read.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "models/stored_tensor.h"

// Appends every tensor of a file that is in memory; their data point into it. Names live in `arena`.
// ERR_FORMAT: the header is malformed, or the offsets leave a hole, overlap or do not match shapes and formats.
int safetensors_read(stored_tensor_vec *out, struct arena *arena, const char *data, size_t n_bytes, struct err *err)
    __attribute__((warn_unused_result));
