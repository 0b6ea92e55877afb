#include "kernels/offline.h"

#include "base/mem.h"
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

const struct kernel_table *offline_kernels(void) {
    return cpu_kernels_find("auto");
}

void offline_add(const struct kernel_table *kernels, float *x, const float *y, float scale, int32_t n) {
    kernels->add_scaled(x, y, scale, n);
}

static void transpose(float *out, const float *rows, int32_t n_rows, int32_t n) {
    enum { TILE = 32 };
    for (int32_t first = 0; first < n; first += TILE)
        for (int32_t r = 0; r < n_rows; r++)
            for (int32_t i = first; i < first + TILE && i < n; i++)
                out[(size_t)i * (size_t)n_rows + (size_t)r] = rows[(size_t)r * (size_t)n + (size_t)i];
}

// The products of all pairs of inputs are one matrix product of the inputs [n, n_rows] with themselves.
void offline_add_products(const struct kernel_table *kernels, float *sums, const float *rows, int32_t n_rows, int32_t n,
                          int32_t first, int32_t step) {
    float *inputs = mem_alloc((size_t)n * (size_t)n_rows * sizeof *inputs);
    float *products = mem_alloc((size_t)OFFLINE_BLOCK * (size_t)n * sizeof *products);
    transpose(inputs, rows, n_rows, n);
    const struct tensor weight = {.format = TENSOR_F32, .n_rows = n, .n_cols = n_rows, .data = inputs};
    for (int32_t at = first * OFFLINE_BLOCK; at < n; at += step * OFFLINE_BLOCK) {
        const int32_t count = n - at < OFFLINE_BLOCK ? n - at : OFFLINE_BLOCK;
        kernels->matmul(&(struct matmul){.weight = &weight,
                                         .activations = inputs + (size_t)at * (size_t)n_rows,
                                         .activation_stride = (size_t)n_rows * sizeof *inputs,
                                         .out = products,
                                         .out_stride = (size_t)n,
                                         .n_rows = count,
                                         .out_count = at + count});
        for (int32_t i = 0; i < count; i++)
            kernels->add_scaled(sums + (size_t)(at + i) * (size_t)n, products + (size_t)i * (size_t)n, 1, at + count);
    }
    free(inputs), free(products);
}
