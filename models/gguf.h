// GGUF versions 2 and 3: keys with typed values, then tensors.
//
//     magic u32, version u32, n_tensors u64, n_values u64
//     n_values times:  key (u64 length, bytes), type u32, value
//     n_tensors times: name (u64 length, bytes), n_dims u32, dims u64 (innermost first), type u32, offset u64
//     padding to general.alignment (32), then the tensors' bytes, each padded likewise
//
// Everything is little-endian. Any bytes are safe to open: every count and length is checked against the bytes that are
// left before it is used. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
//
// Owner: whoever opened it. Read-only afterwards, any thread may read.
#pragma once

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "models/stored_tensor.h"
#include <stdbool.h>
#include <stdint.h>

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

struct gguf_value {
    struct str_view key;
    enum gguf_type type; // of the value; of the elements when it is an array
    bool is_array;
    size_t count;     // elements; 1 when it is no array
    const char *data; // the first element, any alignment
};

struct gguf {
    uint32_t version;
    VEC_OF(struct gguf_value) values;
    stored_tensor_vec tensors;  // their data point into the file
    struct map keys, names;     // index into values, into tensors
    struct str_view all_values; // the bytes of all keys and values
    int64_t alignment;          // of the tensors' bytes, a power of two
    struct arena arena;
};

// Opens a file that is in memory and stays there until gguf_close.
int gguf_open(struct gguf *out, const char *data, size_t n_bytes, struct err *err) __attribute__((warn_unused_result));
void gguf_close(struct gguf *gguf);

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key);       // NULL: absent
const struct stored_tensor *gguf_tensor(const struct gguf *gguf, const char *name); // NULL: absent

// The number that files give to the format of a stored tensor, by its format_name.
uint32_t gguf_format_number(const char *format_name);

// A missing key gives 0 and leaves *out as it was; a wrong type or a value out of range gives ERR_INVALID and text
// that names the key. Any integer type serves for an integer, any number for a double.
int gguf_get_int(const struct gguf *gguf, const char *key, int64_t min, int64_t max, int64_t *out, struct err *err)
    __attribute__((warn_unused_result));
int gguf_get_double(const struct gguf *gguf, const char *key, double *out, struct err *err)
    __attribute__((warn_unused_result));
int gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, struct err *err)
    __attribute__((warn_unused_result));
// The view lies in the file.
int gguf_get_string(const struct gguf *gguf, const char *key, struct str_view *out, struct err *err)
    __attribute__((warn_unused_result));

// An array is read from front to back: strings have different lengths.
struct gguf_array {
    enum gguf_type type; // of the elements
    size_t count;        // elements that are left; 0 when the key is missing
    const char *next;
};
int gguf_get_array(const struct gguf *gguf, const char *key, struct gguf_array *out, struct err *err)
    __attribute__((warn_unused_result));
// False at the end, and when the elements are of another kind. Numbers of all types but string become doubles.
bool gguf_array_next_string(struct gguf_array *array, struct str_view *out);
bool gguf_array_next_number(struct gguf_array *array, double *out);
