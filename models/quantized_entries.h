// Which tensors of a model's files its quantised matrices stand for.
#pragma once

#include "models/quantizer.h"
#include "models/stored_tensor.h"

// A matrix of the model's spec and what became of it.
struct quantized_entry {
    const struct tensor *matrix;
    struct quantized quantized;
};

// By place in the files.
void quantized_entries_sort(struct quantized_entry *entries, size_t n);

// The *n_of sorted entries whose matrices together are the stored tensor: some families find several in one. NULL:
// there are none, or not all of it is among them.
const struct quantized_entry *quantized_entries_of(const struct quantized_entry *entries, size_t n,
                                                   const struct stored_tensor *stored, size_t *n_of);
