// Products of experts for few slots: see product_own_device.h.
#include "kernels/cuda/experts_device.h"
#include "kernels/cuda/product_own_device.h"

// Scattered rows need a few more registers than rows side by side; see own_threads.
template <int FORMAT, int NT> static __device__ constexpr int experts_threads() {
    return FORMAT == OWN_INT4 && NT == 1 ? 256 : own_threads<FORMAT, NT>();
}

template <int FORMAT, int NT>
static __global__ void __launch_bounds__(experts_threads<FORMAT, NT>(), own_blocks<FORMAT, NT>())
    experts_own_kernel(const __grid_constant__ struct own_arguments a,
                       const __grid_constant__ struct experts_view experts) {
    __shared__ float partial[WARPS_MAX][8 * PARTIAL_PITCH];
    __shared__ struct device_weight weights[EXPERT_WEIGHTS];
    struct product_rows rows;
    dependency_launch();
    dependency_wait();
    if (!expert_tile_take(&rows, weights, &experts)) return;
    own_block<FORMAT, NT, true>(&a, &rows, partial);
}

template <int FORMAT, int NT>
static cudaError_t experts_own_launch(const struct experts_product *op, const struct own_arguments *a,
                                      cudaStream_t stream) {
    int32_t tiles = own_tiles<NT>(a); // of outputs; blocks of the same ones are neighbours, for the L2
    dim3 grid((unsigned)op->n_tiles_max, (unsigned)((a->n_tiles + tiles - 1) / tiles));
    dim3 block((unsigned)(tiles * a->n_slices * 32));
    return launch(experts_own_kernel<FORMAT, NT>, grid, block, 0, stream, true, *a, experts_view_of(op));
}

template <int FORMAT>
static cudaError_t experts_own_slots(const struct experts_product *op, const struct own_arguments *a,
                                     cudaStream_t stream) {
    return op->tile_slots == EXPERT_SLOTS_FEW ? experts_own_launch<FORMAT, 1>(op, a, stream)
                                              : experts_own_launch<FORMAT, 4>(op, a, stream);
}

cudaError_t experts_own(const struct experts_product *op, cudaStream_t stream) {
    struct own_arguments a;
    own_fill(&a, &op->product);
    switch (own_format_of(op->product.weight[0])) {
    case OWN_F16:
        return experts_own_slots<OWN_F16>(op, &a, stream);
    case OWN_BF16:
        return experts_own_slots<OWN_BF16>(op, &a, stream);
    case OWN_FP8:
        return experts_own_slots<OWN_FP8>(op, &a, stream);
    case OWN_FP8_GROUPED:
        return experts_own_slots<OWN_FP8_GROUPED>(op, &a, stream);
    case OWN_INT4:
        return experts_own_slots<OWN_INT4>(op, &a, stream);
    case OWN_INT4_FINE:
        // More slots at a time would not fit into registers beside the scales.
        return op->tile_slots == EXPERT_SLOTS_FEW ? experts_own_launch<OWN_INT4_FINE, 1>(op, &a, stream)
                                                  : cudaErrorInvalidValue;
    }
    return cudaErrorInvalidValue;
}
