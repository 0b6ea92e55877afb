#include "models/quantized_entries.h"

#include <stdlib.h>

static int compare(const void *a, const void *b) {
    const char *x = ((const struct quantized_entry *)a)->matrix->data,
               *y = ((const struct quantized_entry *)b)->matrix->data;
    return (x > y) - (x < y);
}

void quantized_entries_sort(struct quantized_entry *entries, size_t n) {
    qsort(entries, n, sizeof *entries, compare);
}

const struct quantized_entry *quantized_entries_of(const struct quantized_entry *entries, size_t n,
                                                   const struct stored_tensor *stored, size_t *n_of) {
    const char *at = stored->data, *end = stored->data + stored->n_bytes;
    const struct quantized_entry *first = NULL;
    *n_of = 0;
    for (size_t i = 0; i < n && at < end; i++) {
        const struct tensor *matrix = entries[i].matrix;
        if ((const char *)matrix->data != at || matrix->n_cols != stored->shape[stored->n_dims - 1]) continue;
        if (!first) first = &entries[i];
        if (&entries[i] != first + *n_of) return NULL;
        at += tensor_bytes(matrix);
        ++*n_of;
    }
    return first && at == end && stored->n_dims >= 2 ? first : NULL;
}
