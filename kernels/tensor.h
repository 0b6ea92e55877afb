// A matrix of weights as the loader sees it and as the backend holds it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// From FP8 on, the values of a matrix are codes with scales. A model that has such a matrix says where its rows come
// from; a backend packs them in its own way, the CPU as kernels/packed.h says.
enum tensor_format {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_FP8,         // scale * E4M3
    TENSOR_INT8,        // scale * (code - 128)
    TENSOR_INT4,        // scale * (code - 8)
    TENSOR_INT8_OFFSET, // scale * code + offset
    TENSOR_INT4_OFFSET,
};

static inline bool tensor_format_is_quantised(enum tensor_format format) {
    return format >= TENSOR_FP8;
}
static inline bool tensor_format_is_integer(enum tensor_format format) {
    return format >= TENSOR_INT8;
}
static inline bool tensor_format_is_int4(enum tensor_format format) {
    return format == TENSOR_INT4 || format == TENSOR_INT4_OFFSET;
}
static inline bool tensor_format_has_offsets(enum tensor_format format) {
    return format >= TENSOR_INT8_OFFSET;
}

enum {
    TENSOR_GROUP = 32,    // neighbouring inputs that share a scale; wider groups repeat theirs
    TENSOR_ROWS_MAX = 16, // rows that are decoded at once
};

static inline int32_t tensor_groups(int32_t n_cols) {
    return (n_cols + TENSOR_GROUP - 1) / TENSOR_GROUP;
}

// One row of a quantised matrix, in memory of the caller.
struct tensor_row {
    uint8_t *codes; // [n_cols]: 0..255, 0..15 (one a byte), or E4M3
    float *scales;  // [tensor_groups]
    float *offsets; // [tensor_groups]; of formats that have them
};

// Where the rows of a quantised matrix come from. Owned by the model.
struct tensor_rows {
    const char *name; // for error texts
    int32_t n_rows, n_cols;
    // Rows first .. first+n-1, n <= TENSOR_ROWS_MAX. Any thread may call it, several at once.
    void (*decode)(const struct tensor_rows *rows, int32_t first, int32_t n, struct tensor_row *out);
    // Rows [first, first + n) are not read soon: their memory may go back to the system. NULL: it may not.
    void (*release)(const struct tensor_rows *rows, int32_t first, int32_t n);
};

// Row-major [n_rows, n_cols], columns contiguous. A linear layer's weight is [n_out, n_in]; a vector is [1, n].
struct tensor {
    enum tensor_format format;
    int32_t n_rows, n_cols;
    const void *data;               // host memory, any alignment, owned by the model; NULL: see below, or absent
    const struct tensor_rows *rows; // of quantised formats; the matrix is a part of it, which begins at:
    int32_t row_first, col_first;   // col_first: a multiple of TENSOR_GROUP
    void *handle;                   // what backend_weight_load made of it; NULL before
    uint64_t random_key;            // not 0: the device makes its values, as kernels/random_weights.h says
};

static inline bool tensor_present(const struct tensor *t) {
    return t->data || t->rows || t->random_key;
}

// Of a value.
static inline size_t tensor_format_bytes(enum tensor_format format) {
    return format == TENSOR_F32 ? 4 : tensor_format_is_quantised(format) ? 1 : 2;
}

// Of a row-major matrix; of a quantised one, codes with scales and offsets in F16 (FP8: F32 for 128 inputs).
size_t tensor_bytes(const struct tensor *t);

// Rows [first, first + n) of a quantised matrix, n <= TENSOR_ROWS_MAX; out[n] has room for n_cols rounded up to
// TENSOR_GROUP.
void tensor_rows_decode(const struct tensor *t, int32_t first, int32_t n, struct tensor_row *out);
// n values of a row in single precision.
void tensor_row_values(const struct tensor_row *row, enum tensor_format format, int32_t n, float *out);

// The rows [first, first + count) of a tensor that is not loaded yet, where they are.
struct tensor tensor_take_rows(const struct tensor *full, int32_t first, int32_t count);

// Values [n_cols] of a row in single precision, whatever the format; not of random tensors.
void tensor_values(const struct tensor *t, int32_t row, float *out);

// "f32", "f16", "bf16", "fp8", "int8", "int4", and with offsets "int8+", "int4+".
const char *tensor_format_name(enum tensor_format format);
