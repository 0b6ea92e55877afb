// A matrix of weights as the loader sees it and as the backend holds it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The last three are forms of a backend alone, packed as kernels/packed.h says: no model has them.
enum tensor_format { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_FP8, TENSOR_INT8, TENSOR_INT4 };

// Row-major [n_rows, n_cols], columns contiguous. A linear layer's weight is [n_out, n_in]; a vector is [1, n].
struct tensor {
    enum tensor_format format;
    int32_t n_rows, n_cols;
    const void *data;    // host memory, any alignment, owned by the model; NULL: the tensor is absent or random
    void *handle;        // what backend_weight_load made of it; NULL before
    uint64_t random_key; // not 0: the device makes its values, as kernels/random_weights.h says
};

static inline bool tensor_present(const struct tensor *t) { return t->data || t->random_key; }

static inline size_t tensor_format_bytes(enum tensor_format format) { return format == TENSOR_F32 ? 4 : 2; }

// Of a row-major matrix.
static inline size_t tensor_bytes(const struct tensor *t) {
    return (size_t)t->n_rows * (size_t)t->n_cols * tensor_format_bytes(t->format);
}

// "f32", "f16", "bf16", "fp8", "int8", "int4".
const char *tensor_format_name(enum tensor_format format);
