// A tensor as a file describes it, before anything is converted: the same for safetensors and GGUF.
#pragma once

#include "base/mem.h"
#include <stddef.h>
#include <stdint.h>

enum stored_format {
    STORED_F32,
    STORED_F16,
    STORED_BF16,
    STORED_I8,
    STORED_I32,
    STORED_I64,
    STORED_F8_E4M3,
    STORED_Q4_0, // from here GGUF's blocks: models/gguf_blocks.h
    STORED_Q4_1,
    STORED_Q5_0,
    STORED_Q5_1,
    STORED_Q8_0,
    STORED_Q4_K,
    STORED_Q5_K,
    STORED_Q6_K,
    STORED_IQ4_NL,
    STORED_IQ4_XS,
    STORED_MXFP4,
    STORED_OTHER, // known to the file format, of no use as a weight here
};

enum { STORED_DIMS_MAX = 8 };

struct stored_tensor {
    const char *name;        // NUL-terminated
    const char *format_name; // as the file calls it: "BF16", "Q4_K"
    enum stored_format format;
    int n_dims;
    int64_t shape[STORED_DIMS_MAX]; // outermost first, whatever the file's own order
    const char *data;               // inside the file, any alignment
    size_t n_bytes;
    const char *file; // the name of its file in a folder; NULL elsewhere
};

typedef VEC_OF(struct stored_tensor) stored_tensor_vec;
