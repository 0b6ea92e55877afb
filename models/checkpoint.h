// The weights of a model by name, wherever they come from: safetensors, GGUF, or random numbers.
//
// Single-precision, half and bfloat16 matrices stay where the file is mapped. Quantised ones are rows that the device
// decodes from there and packs. Random weights are keys by which it draws them.
//
// Owner: the model; everything that it hands out lives until checkpoint_close. One thread.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "kernels/tensor.h"
#include "models/folder.h"
#include "models/gguf.h"
#include "models/mxfp4.h"
#include "models/quantization.h"
#include <stdbool.h>
#include <stdint.h>

struct checkpoint;

// All *.safetensors of a folder: those that model.safetensors.index.json names, else model.safetensors, else the only
// one.
int checkpoint_open_folder(struct checkpoint **out, const struct folder *folder, struct err *err)
    __attribute__((warn_unused_result));
// The tensors of an open GGUF file, which outlives the checkpoint. mapped: its bytes are those of a file map. path is
// for error texts.
void checkpoint_open_gguf(struct checkpoint **out, const struct gguf *gguf, bool mapped, const char *path);
// Every tensor that is asked for exists: matrices have a random_key, biases are drawn, norms are 1. The same for one
// seed everywhere.
void checkpoint_open_random(struct checkpoint **out, enum tensor_format format, uint64_t seed, const char *path);
void checkpoint_close(struct checkpoint *checkpoint);

bool checkpoint_is_random(const struct checkpoint *checkpoint);
// Matrices of the files may be stored as the configuration says.
void checkpoint_expect_quantised(struct checkpoint *checkpoint, const struct quantization *quantization);

bool checkpoint_has(const struct checkpoint *checkpoint, const char *name); // random: always

// A tensor must be there with this shape and in a format that can be used; the error gives expected and actual.
// Matrices are [n_rows, n_cols].
int checkpoint_matrix(struct checkpoint *checkpoint, const char *name, int32_t n_rows, int32_t n_cols,
                      struct tensor *out, struct err *err) __attribute__((warn_unused_result));
// n matrices of one shape in one tensor [n, n_rows, n_cols], into out[i * stride] for i < n.
int checkpoint_matrices(struct checkpoint *checkpoint, const char *name, int32_t n, int32_t n_rows, int32_t n_cols,
                        struct tensor *out, size_t stride, struct err *err) __attribute__((warn_unused_result));
// The same from MXFP4 as gpt-oss has it, in tensors NAME_blocks [n, n_rows * step, n_cols / 32, 16] and NAME_scales, of
// which the matrices are the rows of `range`.
int checkpoint_mxfp4(struct checkpoint *checkpoint, const char *name, const struct mxfp4_range *range, int32_t n,
                     int32_t n_rows, int32_t n_cols, struct tensor *out, size_t stride, struct err *err)
    __attribute__((warn_unused_result));
// [n], converted to F32 in the checkpoint's memory.
int checkpoint_vector(struct checkpoint *checkpoint, const char *name, int32_t n, const float **out, struct err *err)
    __attribute__((warn_unused_result));

// [n_vectors, n_each] in the same way.
int checkpoint_vectors(struct checkpoint *checkpoint, const char *name, int32_t n_vectors, int32_t n_each,
                       const float **out, struct err *err) __attribute__((warn_unused_result));

// Refuses tensors that nobody asked for, unless one of the patterns (NULL at the end) matches: "*x" ends in x, "x*"
// begins with x, otherwise equal.
int checkpoint_refuse_unused(const struct checkpoint *checkpoint, const char *const *ignored, struct err *err)
    __attribute__((warn_unused_result));

// Matrices are not read any more: their memory goes back to the system.
void checkpoint_release(struct checkpoint *checkpoint);

uint64_t checkpoint_parameters(const struct checkpoint *checkpoint); // elements of all tensors that were asked for
uint64_t checkpoint_bytes(const struct checkpoint *checkpoint);      // as held in memory
// All tensors of the files, in their order; none for random weights.
const struct stored_tensor *checkpoint_tensors(const struct checkpoint *checkpoint, size_t *n);
