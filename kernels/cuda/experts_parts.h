// The ways of a product of experts, each in the file of its kernel.
#pragma once

#include "kernels/cuda/experts.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EXPERT_WEIGHTS = 2,     // of one product: gate and up, or down
    EXPERT_SLOTS_FEW = 8,   // in a tile, of experts that few rows hit
    EXPERT_SLOTS_SOME = 32, // the most that experts_own takes
    EXPERT_SLOTS_MANY = 64, // those of experts_many
};

// On tensor cores, for few slots: weights stream once from memory for each tile. Wants product_own_fits; tiles of
// EXPERT_SLOTS_FEW or, but for INT4 in groups below 128, EXPERT_SLOTS_SOME. An element depends on its row alone.
cudaError_t experts_own(const struct experts_product *op, cudaStream_t stream);

// On tensor cores, for many slots: the block's warps share what they load of x. Tiles of EXPERT_SLOTS_MANY. Sums are in
// another order than those of experts_own.
bool experts_many_fits(const struct device_weight *weight);
cudaError_t experts_many(const struct experts_product *op, cudaStream_t stream);

// Every size and format but INT4, without tensor cores; tiles of any size. An element depends on its row alone.
cudaError_t experts_plain(const struct experts_product *op, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
