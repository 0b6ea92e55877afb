// What the kernels of product_own_device.h are launched with, and what follows from the format of the weights.
#pragma once

#include "kernels/cuda/product_device.h"

// OWN_INT4_FINE: groups smaller than a chunk.
enum own_format { OWN_F16, OWN_BF16, OWN_FP8, OWN_FP8_GROUPED, OWN_INT4, OWN_INT4_FINE };

enum {
    TILE = 32,          // outputs of a warp
    WARPS_MAX = 8,      // of a block
    PARTIAL_PITCH = 36, // floats between tokens of a partial sum: lanes then meet no common bank
    SLICES_MANY = 8,    // of the inputs, for small weights
    SLICES_FEW = 4,     // for weights with enough tiles to fill the device
    TILES_MANY = 264,
};

struct own_arguments {
    struct product p;
    struct device_weight weight[PRODUCT_WEIGHTS_MAX];
    int32_t tile_first[PRODUCT_WEIGHTS_MAX]; // of each weight; GATE: not used
    int32_t n_tiles, n_slices;
    int32_t group_shift; // log2 of the group
};

template <int FORMAT> static __device__ constexpr bool own_is_int4() {
    return FORMAT == OWN_INT4 || FORMAT == OWN_INT4_FINE;
}

template <int FORMAT> static __device__ constexpr bool own_is_fp8() {
    return FORMAT == OWN_FP8 || FORMAT == OWN_FP8_GROUPED;
}

template <int FORMAT> static __device__ constexpr int own_pieces() {
    return own_is_int4<FORMAT>() ? 4 : own_is_fp8<FORMAT>() ? 2 : 1;
}

template <int FORMAT> static __device__ constexpr bool own_grouped() {
    return own_is_int4<FORMAT>() || FORMAT == OWN_FP8_GROUPED;
}

// Registers and chunks on their way, weighed so that nothing spills on any device and a multiprocessor has at least
// 48 KiB of weights on their way for 8 rows, 32 KiB for more (groups below 128: 16 KiB). A kernel gets the registers
// that so many threads and blocks leave to each: 384 in one block 168, 256 in two 128, 256 in one 255.
template <int FORMAT, int NT> static __device__ constexpr int own_threads() {
    return own_grouped<FORMAT>() && FORMAT != OWN_INT4_FINE && NT < 4 ? 384 : 256;
}

template <int FORMAT, int NT> static __device__ constexpr int own_blocks() {
    return own_grouped<FORMAT>() || NT == 4 ? 1 : 2;
}

template <int FORMAT, int NT> static __device__ constexpr int own_stages() {
    if (FORMAT == OWN_INT4_FINE && NT == 4) return 1;
    if (FORMAT == OWN_INT4 && NT > 1) return 2;
    return own_pieces<FORMAT>() * NT == 1 ? 4 : 3;
}

static inline int own_format_of(const struct device_weight *weight) {
    switch (weight->format) {
    case DEVICE_F16:
        return OWN_F16;
    case DEVICE_BF16:
        return OWN_BF16;
    case DEVICE_FP8:
        return weight->group == weight->n_in ? OWN_FP8 : OWN_FP8_GROUPED;
    case DEVICE_INT4:
        return weight->group < 128 ? OWN_INT4_FINE : OWN_INT4;
    case DEVICE_F32:
        break;
    }
    return -1;
}

static inline void own_fill(struct own_arguments *a, const struct product *p) {
    *a = own_arguments{};
    a->p = *p;
    for (int i = 0; i < p->n_weights; i++) {
        a->weight[i] = *p->weight[i];
        a->tile_first[i] = a->n_tiles;
        a->n_tiles += (p->weight[i]->n_out + TILE - 1) / TILE;
    }
    if (p->output == PRODUCT_GATE) a->n_tiles = (p->weight[0]->n_out + TILE / 2 - 1) / (TILE / 2);
    a->n_slices = a->n_tiles < TILES_MANY ? SLICES_MANY : SLICES_FEW;
    for (int32_t group = p->weight[0]->group; group > 1; group /= 2) a->group_shift++;
}

// Tiles of outputs that a block of NT takes: more of them share the tokens that it loads.
template <int NT> static inline int32_t own_tiles(const struct own_arguments *a) {
    return NT == 4 ? WARPS_MAX / a->n_slices : 1;
}
