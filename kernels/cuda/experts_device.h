// How a block of a product of experts finds its tile and the weights of the tile's expert.
#pragma once

#include "kernels/cuda/experts_parts.h"
#include "kernels/cuda/product_device.h"

struct experts_view {
    const struct device_weight *weights; // [n_experts, n_weights]
    int32_t n_weights;
    const struct expert_tile *tiles;
    const int32_t *n_tiles;
    const int32_t *row; // of x, by slot; NULL: x is by slot
};

static inline struct experts_view experts_view_of(const struct experts_product *op) {
    return {op->weights, op->product.n_weights, op->slots.tiles, op->slots.n_tiles,
            op->gather ? op->slots.row : nullptr};
}

// Tile blockIdx.x, for all threads of a block: its rows, and its weights in shared memory. False: there is none.
static __device__ __forceinline__ bool expert_tile_take(struct product_rows *rows,
                                                        struct device_weight weights[EXPERT_WEIGHTS],
                                                        const struct experts_view *view) {
    static_assert(sizeof(struct device_weight) % 8 == 0, "weights are copied in words of 8 bytes");
    if ((int32_t)blockIdx.x >= *view->n_tiles) return false;
    const struct expert_tile tile = view->tiles[blockIdx.x];
    const int words = (int)sizeof(struct device_weight) / 8 * view->n_weights;
    const uint64_t *from = (const uint64_t *)(const void *)(view->weights + (int64_t)tile.expert * view->n_weights);
    for (int i = threadIdx.x; i < words; i += blockDim.x) ((uint64_t *)(void *)weights)[i] = from[i];
    __syncthreads();
    *rows = {weights, tile.first, tile.end, view->row};
    return true;
}
