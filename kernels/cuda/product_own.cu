// One matrix product for few rows on tensor cores: see product_own_device.h.
#include "kernels/cuda/product_own_device.h"

template <int FORMAT, int NT>
static __global__ void __launch_bounds__(own_threads<FORMAT, NT>(), own_blocks<FORMAT, NT>())
    own_kernel(const __grid_constant__ struct own_arguments a) {
    __shared__ float partial[WARPS_MAX][8 * PARTIAL_PITCH];
    dependency_launch();
    const struct product_rows rows = {a.weight, (int32_t)blockIdx.x * NT * 8, a.p.n_rows, nullptr};
    own_block<FORMAT, NT, false>(&a, &rows, partial);
}

bool product_own_fits(const struct device_weight *weight) {
    static const int32_t inputs[] = {8, 8, 16, 128, 128, 128}; // by own_format
    int format = own_format_of(weight);
    return format >= 0 && weight->n_in % inputs[format] == 0;
}

template <int FORMAT, int NT> static cudaError_t own_launch(const struct own_arguments *a, cudaStream_t stream) {
    int32_t tiles = own_tiles<NT>(a); // blocks of the same weights are neighbours, for the L2
    dim3 grid((unsigned)((a->p.n_rows + NT * 8 - 1) / (NT * 8)), (unsigned)((a->n_tiles + tiles - 1) / tiles));
    return launch(own_kernel<FORMAT, NT>, grid, dim3((unsigned)(tiles * a->n_slices * 32)), 0, stream, true, *a);
}

template <int FORMAT> static cudaError_t own_launch_rows(const struct own_arguments *a, cudaStream_t stream) {
    if (a->p.n_rows <= 8) return own_launch<FORMAT, 1>(a, stream);
    if (a->p.n_rows <= 16) return own_launch<FORMAT, 2>(a, stream);
    return own_launch<FORMAT, 4>(a, stream);
}

cudaError_t product_own(const struct product *p, cudaStream_t stream) {
    struct own_arguments a;
    own_fill(&a, p);
    switch (own_format_of(p->weight[0])) {
    case OWN_F16:
        return own_launch_rows<OWN_F16>(&a, stream);
    case OWN_BF16:
        return own_launch_rows<OWN_BF16>(&a, stream);
    case OWN_FP8:
        return own_launch_rows<OWN_FP8>(&a, stream);
    case OWN_FP8_GROUPED:
        return own_launch_rows<OWN_FP8_GROUPED>(&a, stream);
    case OWN_INT4:
        return own_launch_rows<OWN_INT4>(&a, stream);
    case OWN_INT4_FINE:
        return own_launch_rows<OWN_INT4_FINE>(&a, stream);
    }
    return cudaErrorInvalidValue;
}
