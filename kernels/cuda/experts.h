// Mixture of experts on the device. A slot is one row at one expert that it hits. The slots of an expert lie side by
// side and are cut into tiles, which are the units of work of its products: a block takes one tile, so an expert that
// no row hits costs nothing. Who hits whom is known on the device alone; grids are as large as it can become, and
// blocks behind the last tile end at once.
//
// Which slot of its expert a row gets depends on the order of threads; no result does.
#pragma once

#include "kernels/cuda/device_step.h"
#include "kernels/cuda/product.h"

#ifdef __cplusplus
extern "C" {
#endif

struct expert_tile {
    int32_t expert, first, end; // slots
};

// Device memory for up to n_rows * n_hit slots.
struct experts_slots {
    int32_t *expert;           // [n_rows, n_hit], ascending in a row
    float *weight;             // [n_rows, n_hit]
    int32_t *slot;             // [n_rows, n_hit]
    int32_t *row;              // [n_slots]
    struct expert_tile *tiles; // [experts_tiles_max(...)]
    int32_t *n_tiles;
};

// Tiles that n_rows rows can make.
int32_t experts_tiles_max(int32_t n_rows, int32_t n_hit, int32_t n_experts, int32_t tile_slots);

// Fills `slots`: what op_moe in kernels/backend.h says of p, hits and weights, from the products with the router.
struct experts_route {
    const struct device_step *step;
    int32_t n_rows, n_experts, n_hit, tile_slots;
    bool renormalised;
    const float *logits; // [n_rows, n_experts]
    struct experts_slots slots;
};
cudaError_t experts_route(const struct experts_route *op, cudaStream_t stream);

// A product for the slots of every tile with the weights of its expert.
struct experts_product {
    // As for one expert; weight[]: those of any expert, which tell sizes and format of all. x: [rows, n_in], where
    // `gather`, else [slots, n_in]; out: [slots, out_stride]; STORE or GATE, no biases; n_rows: of all slots, at most.
    struct product product;
    const struct device_weight *weights; // [n_experts, product.n_weights], device memory
    struct experts_slots slots;
    bool gather;
    int32_t n_tiles_max, tile_slots;
};
cudaError_t experts_product(const struct experts_product *op, cudaStream_t stream);

// How many slots a tile should have for steps of n_rows rows. `in`, `out`: weights of any expert, of gate and down.
int32_t experts_tile_slots(const struct device_weight *in, const struct device_weight *out, int32_t n_rows,
                           int32_t n_hit, int32_t n_experts, bool deterministic);

// sum[r] = add ? sum[r] + s : s, where s is the sum over the experts hit, in order of their numbers, of weight times
// out[slot].
struct experts_sum {
    const struct device_step *step;
    int32_t n_rows, n, n_hit;
    struct experts_slots slots;
    const float *out; // [n_slots, n]
    float *sum;       // [n_rows, n]
    bool add;
};
cudaError_t experts_sum(const struct experts_sum *op, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
