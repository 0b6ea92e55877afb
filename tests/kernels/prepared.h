// Rows of activations, prepared piece by piece, the last piece first.
#pragma once

#include "kernels/kernel_table.h"

static inline void prepare_in_parts(const struct kernel_table *k, void *out, int32_t row, const float *x,
                                    enum tensor_format format, int32_t n) {
    const int32_t parts[] = {0, n / 3 / ACTIVATION_INPUTS * ACTIVATION_INPUTS,
                             2 * n / 3 / ACTIVATION_INPUTS * ACTIVATION_INPUTS, n};
    for (int i = 2; i >= 0; i--)
        if (parts[i + 1] > parts[i]) k->activation_prepare(out, row, x, format, n, parts[i], parts[i + 1] - parts[i]);
}
