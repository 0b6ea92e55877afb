// Products of experts for many slots. A block computes 64 slots for four tiles of 32 outputs, a warp one tile, with the
// fragments of product_own_device.h. Weights and rows of x come by asynchronous copies, several chunks ahead; of the
// weights every lane reads what it copied itself, the rows are shared by all warps.
//
// In shared memory, for each chunk on its way: weights [4][thread][16 bytes], of the four rows of a lane, then x
// [piece][64 slots][64 bytes], where lane t finds its eight inputs of a piece at 16 t. Eight lanes that read at once
// then meet all banks.
#include "kernels/cuda/experts_device.h"
#include "kernels/cuda/product_own_device.h"

enum {
    WARPS = 4,
    THREADS = WARPS * 32,
    SLOTS = EXPERT_SLOTS_MANY,
    NT = SLOTS / 8,
    WEIGHT_BYTES = WARPS * TILE * 64, // of a chunk
};

template <int FORMAT> static __host__ __device__ constexpr int many_stages() {
    return own_is_int4<FORMAT>() ? 3 : 4;
}

template <int FORMAT> static __host__ __device__ constexpr int many_chunk_bytes() {
    return WEIGHT_BYTES + own_pieces<FORMAT>() * SLOTS * 64;
}

// Where unit u, which is eight neighbouring inputs of a chunk, of a slot lies behind the weights.
template <int FORMAT> static __device__ __forceinline__ int many_unit_at(int slot, int u) {
    int piece = own_is_fp8<FORMAT>() ? u % 2 : u / 4, t = own_is_fp8<FORMAT>() ? u / 2 : u % 4;
    return (piece * SLOTS + slot) * 64 + t * 16;
}

// Begins to copy a chunk to `to`. x_at: where the slots' rows begin in x, in elements; -1: no such slot.
template <int FORMAT>
static __device__ __forceinline__ void many_copy(unsigned char *to, const struct own_arguments *a,
                                                 const struct own_lane *lane, const int32_t *x_at, int32_t chunk) {
    constexpr int UNITS = own_pieces<FORMAT>() * 4;
    const int32_t n_in = a->weight[0].n_in;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const unsigned char *row = lane->data[i / 2] + (i % 2 ? lane->data_step[i / 2] : 0);
        copy_async_16(to + (i * THREADS + threadIdx.x) * 16, row + (int64_t)chunk * 64, chunk < lane->end);
    }
#pragma unroll
    for (int i = 0; i < SLOTS * UNITS / THREADS; i++) {
        const int slot = (i * THREADS + (int)threadIdx.x) / UNITS, u = (int)threadIdx.x % UNITS;
        const int32_t k = (chunk * UNITS + u) * 8, at = x_at[slot];
        const bool inside = at >= 0 && k < n_in;
        copy_async_16(to + WEIGHT_BYTES + many_unit_at<FORMAT>(slot, u),
                      (const uint16_t *)a->p.x + (inside ? at + k : 0), inside);
    }
}

template <int FORMAT>
static __device__ __forceinline__ void many_multiply(float sum[2][NT][4], const unsigned char *chunk,
                                                     const struct own_scales *scales) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    uint32_t w[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++) own_load_words(w[i], load_16(chunk + (i * THREADS + threadIdx.x) * 16));
#pragma unroll
    for (int piece = 0; piece < own_pieces<FORMAT>(); piece++) {
        uint32_t pairs[4][4];
#pragma unroll
        for (int row = 0; row < 4; row++) own_pairs<FORMAT>(pairs[row], w[row], piece, scales->zero[row]);
#pragma unroll
        for (int n = 0; n < NT; n++) {
            uint32_t x[4];
            own_load_words(x, load_16(chunk + WEIGHT_BYTES + (piece * SLOTS + n * 8 + g) * 64 + t * 16));
            own_multiply<FORMAT>(sum[0][n], pairs, x);
            own_multiply<FORMAT>(sum[1][n], pairs + 2, x);
        }
    }
}

template <int FORMAT>
static __device__ __forceinline__ void many_sum(float sum[2][NT][4], unsigned char *shared,
                                                const struct own_arguments *a, const struct own_lane *lane,
                                                const int32_t *x_at, int32_t n_chunks) {
    constexpr int STAGES = many_stages<FORMAT>(), BYTES = many_chunk_bytes<FORMAT>();
    struct own_scales scales = {}, next = {};
    float part[2][NT][4] = {}; // of a group
    if (own_grouped<FORMAT>()) own_load_scales<FORMAT>(&next, a, lane, 0);
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < n_chunks) many_copy<FORMAT>(shared + s * BYTES, a, lane, x_at, s);
        copy_async_commit();
    }
    int from = 0, to = STAGES - 1;
#pragma unroll 1
    for (int32_t chunk = 0; chunk < n_chunks; chunk++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads(); // the chunk is there for all, and all are done with the one before it
        if (chunk + STAGES - 1 < n_chunks) many_copy<FORMAT>(shared + to * BYTES, a, lane, x_at, chunk + STAGES - 1);
        copy_async_commit();
        scales = next;
        if (own_grouped<FORMAT>()) own_load_scales<FORMAT>(&next, a, lane, (chunk + 1) * own_pieces<FORMAT>() * 32);
        many_multiply<FORMAT>(own_grouped<FORMAT>() ? part : sum, shared + from * BYTES, &scales);
        if (own_grouped<FORMAT>()) own_add_group<NT>(sum, part, scales.scale);
        from = from + 1 == STAGES ? 0 : from + 1;
        to = to + 1 == STAGES ? 0 : to + 1;
    }
}

template <int FORMAT>
static __global__ void __launch_bounds__(THREADS, own_grouped<FORMAT>() ? 2 : 3)
    experts_many_kernel(const __grid_constant__ struct own_arguments a,
                        const __grid_constant__ struct experts_view experts) {
    __shared__ float partial[WARPS][8 * PARTIAL_PITCH];
    __shared__ struct device_weight weights[EXPERT_WEIGHTS];
    __shared__ int32_t x_at[SLOTS];
    DYNAMIC_SHARED(unsigned char, shared);
    struct product_rows rows;
    dependency_launch();
    dependency_wait();
    if (!expert_tile_take(&rows, weights, &experts)) return;
    const int32_t inputs = own_pieces<FORMAT>() * 32, n_in = a.weight[0].n_in, n_chunks = (n_in + inputs - 1) / inputs;
    if (threadIdx.x < SLOTS) {
        const int32_t slot = rows.first + (int32_t)threadIdx.x;
        x_at[threadIdx.x] = slot < rows.end ? row_of_x(&rows, slot) * n_in : -1;
    }
    const int warp = threadIdx.x / 32;
    const int32_t tile = blockIdx.y * WARPS + warp;
    struct own_lane lane;
    own_lane_at<FORMAT, NT, false>(&lane, &a, &rows, tile, n_chunks);
    float sum[2][NT][4] = {};
    __syncthreads();
    many_sum<FORMAT>(sum, shared, &a, &lane, x_at, n_chunks);
    own_write<NT>(sum, &a, &rows, partial, tile, warp);
}

template <int FORMAT>
static cudaError_t many_launch(const struct experts_product *op, const struct own_arguments *a, cudaStream_t stream) {
    dim3 grid((unsigned)op->n_tiles_max, (unsigned)((a->n_tiles + WARPS - 1) / WARPS));
    return launch(experts_many_kernel<FORMAT>, grid, dim3(THREADS), many_stages<FORMAT>() * many_chunk_bytes<FORMAT>(),
                  stream, true, *a, experts_view_of(op));
}

bool experts_many_fits(const struct device_weight *weight) {
    return product_own_fits(weight) && own_format_of(weight) != OWN_INT4_FINE;
}

cudaError_t experts_many(const struct experts_product *op, cudaStream_t stream) {
    struct own_arguments a;
    own_fill(&a, &op->product);
    a.n_slices = 1;
    switch (own_format_of(op->product.weight[0])) {
    case OWN_F16:
        return many_launch<OWN_F16>(op, &a, stream);
    case OWN_BF16:
        return many_launch<OWN_BF16>(op, &a, stream);
    case OWN_FP8:
        return many_launch<OWN_FP8>(op, &a, stream);
    case OWN_FP8_GROUPED:
        return many_launch<OWN_FP8_GROUPED>(op, &a, stream);
    case OWN_INT4:
        return many_launch<OWN_INT4>(op, &a, stream);
    }
    return cudaErrorInvalidValue;
}
