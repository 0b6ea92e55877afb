// Memory of weights that no file holds in the form that is needed: dequantised blocks. Pieces are listed first and
// filled together, on every core.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "models/dequant.h"
#include <stdint.h>

struct fill_piece {
    float *out; // pages of its own
    size_t n_values, n_bytes;
    enum stored_format from;
    const char *blocks;
};
struct fill {
    VEC_OF(struct fill_piece) pieces;
    uint64_t n_bytes; // of all pieces
};

void fill_close(struct fill *fill); // frees the memory of all pieces

// The memory of a piece in F32; its content is there after fill_run. NULL: no memory, the error says how much was asked
// for.
const void *fill_dequant(struct fill *fill, enum stored_format format, const char *blocks, size_t n_values,
                         struct err *err);

int fill_run(struct fill *fill, void (*progress)(void *context, uint64_t done, uint64_t total), void *context,
             struct err *err) __attribute__((warn_unused_result));
