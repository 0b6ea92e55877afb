// What the files of the checkpoint share.
#pragma once

#include "base/map.h"
#include "models/checkpoint.h"

enum source { SOURCE_FILES, SOURCE_GGUF, SOURCE_RANDOM };

struct checkpoint {
    enum source kind;
    const char *path; // for error texts
    struct arena arena;
    VEC_OF(struct folder_file) files;
    stored_tensor_vec tensors; // of the files; GGUF: a copy of its list
    struct map names;          // index into tensors
    bool *used;                // [tensors.count]
    bool mapped;               // the files' memory may go back to the system
    struct quantization quantization;
    enum tensor_format random_format;
    uint64_t random_seed, n_random;
    uint64_t n_parameters, n_bytes;
};

// The tensor "BASE.SUFFIX", or NULL: there is none. Found, it counts as used.
const struct stored_tensor *checkpoint_take(struct checkpoint *checkpoint, struct str_view base, const char *suffix);

// Whether the matrix "X.weight" is stored as the checkpoint's quantization says.
bool checkpoint_is_quantised(const struct checkpoint *checkpoint, const char *name);
// Such a matrix: out->n_rows and n_cols are given, format and rows are filled.
int checkpoint_bind_quantised(struct checkpoint *checkpoint, const char *name, struct tensor *out, struct err *err)
    __attribute__((warn_unused_result));
// Whether a tensor that nobody asked for is there because of the quantisation and says nothing about weights.
bool checkpoint_is_by_product(const struct checkpoint *checkpoint, const struct stored_tensor *tensor);
