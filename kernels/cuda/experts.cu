// Experts: which ones the rows hit, their slots and tiles, and the sum of what the experts made of a row.
#include "kernels/cuda/device.h"
#include "kernels/cuda/experts.h"

enum {
    ROUTE_THREADS = 512,
    ROUTE_WARPS = ROUTE_THREADS / 32,
    ROWS_AT_ONCE = 32, // so few rows are routed and sorted by one block
    SUM_THREADS = 256,
};

// --------------------------------------------------------------------------------------------------------- hits

// A candidate of a row: the larger comes first, the lower number among equals.
struct candidate {
    float p; // NaN counts as -1
    int32_t expert;
};

static __device__ __forceinline__ bool is_before(struct candidate a, struct candidate b) {
    return a.p > b.p || (a.p == b.p && a.expert < b.expert);
}

static __device__ __forceinline__ struct candidate warp_first(struct candidate mine) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        struct candidate other = {__shfl_xor_sync(FULL_MASK, mine.p, distance),
                                  __shfl_xor_sync(FULL_MASK, mine.expert, distance)};
        if (is_before(other, mine)) mine = other;
    }
    return mine;
}

// p[i] of expert 32 i + lane: the softmax of the logits; -2 where there is no such expert.
template <int HELD>
static __device__ __forceinline__ void soften(float p[HELD], const float *logits, int32_t n_experts, int lane) {
    float largest = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        p[i] = i * 32 + lane < n_experts ? logits[i * 32 + lane] : -INFINITY;
        largest = fmaxf(largest, p[i]);
    }
    largest = warp_max(largest);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        p[i] = i * 32 + lane < n_experts ? expf(p[i] - largest) : 0.0f;
        sum += p[i];
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i < HELD; i++) p[i] = i * 32 + lane < n_experts ? p[i] / sum : -2.0f;
}

// A warp finds the hits of one row.
template <int HELD> static __device__ void route_row(const struct experts_route *op, int32_t row, int lane) {
    float p[HELD], of_hits = 0;
    unsigned taken = 0; // bits of this lane's experts
    soften<HELD>(p, op->logits + (int64_t)row * op->n_experts, op->n_experts, lane);
#pragma unroll 1
    for (int32_t n = 0; n < op->n_hit; n++) {
        struct candidate best = {-3.0f, INT32_MAX};
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            struct candidate one = {p[i] == p[i] ? p[i] : -1.0f, i * 32 + lane};
            if (!(taken >> i & 1) && is_before(one, best)) best = one;
        }
        best = warp_first(best);
        if (best.expert % 32 == lane) taken |= 1u << best.expert / 32;
        of_hits += best.p < 0 ? NAN : best.p;
    }
    int32_t before = 0; // hits of lower numbers
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        unsigned hits = __ballot_sync(FULL_MASK, taken >> i & 1);
        if (taken >> i & 1) {
            int64_t at = (int64_t)row * op->n_hit + before + __popc(hits & ((1u << lane) - 1));
            op->slots.expert[at] = i * 32 + lane;
            op->slots.weight[at] = op->renormalised ? p[i] / of_hits : p[i];
        }
        before += __popc(hits);
    }
}

// -------------------------------------------------------------------------------------------------------- slots

struct sorting {
    int32_t count[EXPERTS_MAX]; // slots of an expert, then the next free one
    int32_t warp_slots[ROUTE_WARPS], warp_tiles[ROUTE_WARPS];
};

// The sum of the lanes' values before this one; *total: of all.
static __device__ __forceinline__ int32_t warp_sum_before(int32_t value, int lane, int32_t *total) {
    int32_t sum = value;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        int32_t other = __shfl_up_sync(FULL_MASK, sum, distance);
        if (lane >= distance) sum += other;
    }
    *total = __shfl_sync(FULL_MASK, sum, 31);
    return sum - value;
}

// Gives each expert its slots and tiles. A thread takes the neighbours 2 t and 2 t + 1.
static __device__ void place_experts(const struct experts_route *op, struct sorting *sorting) {
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    int32_t count[2], n_tiles[2], total_slots, total_tiles;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        count[i] = 2 * thread + i < op->n_experts ? sorting->count[2 * thread + i] : 0;
        n_tiles[i] = (count[i] + op->tile_slots - 1) / op->tile_slots;
    }
    int32_t slot = warp_sum_before(count[0] + count[1], lane, &total_slots);
    int32_t tile = warp_sum_before(n_tiles[0] + n_tiles[1], lane, &total_tiles);
    if (lane == 0) sorting->warp_slots[warp] = total_slots, sorting->warp_tiles[warp] = total_tiles;
    __syncthreads();
    for (int w = 0; w < warp; w++) slot += sorting->warp_slots[w], tile += sorting->warp_tiles[w];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (2 * thread + i < op->n_experts) sorting->count[2 * thread + i] = slot;
        const int32_t end = slot + count[i];
        for (; slot < end; slot = min(slot + op->tile_slots, end))
            op->slots.tiles[tile++] = {2 * thread + i, slot, min(slot + op->tile_slots, end)};
    }
    if (thread == ROUTE_THREADS - 1) *op->slots.n_tiles = tile;
}

// By one block, when the hits of all rows are known.
static __device__ void sort_slots(const struct experts_route *op, struct sorting *sorting) {
    const int32_t n_slots = op->step->n_rows * op->n_hit;
    for (int32_t e = threadIdx.x; e < op->n_experts; e += ROUTE_THREADS) sorting->count[e] = 0;
    __syncthreads();
    for (int32_t i = threadIdx.x; i < n_slots; i += ROUTE_THREADS) atomicAdd(&sorting->count[op->slots.expert[i]], 1);
    __syncthreads();
    place_experts(op, sorting);
    __syncthreads();
    for (int32_t i = threadIdx.x; i < n_slots; i += ROUTE_THREADS) {
        int32_t slot = atomicAdd(&sorting->count[op->slots.expert[i]], 1);
        op->slots.slot[i] = slot;
        op->slots.row[slot] = i / op->n_hit;
    }
}

// A grid of one block also sorts.
template <int HELD>
static __global__ void __launch_bounds__(ROUTE_THREADS) route_kernel(const __grid_constant__ struct experts_route op) {
    __shared__ struct sorting sorting;
    dependency_launch();
    dependency_wait();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int32_t row = blockIdx.x * ROUTE_WARPS + warp; row < op.step->n_rows; row += gridDim.x * ROUTE_WARPS)
        route_row<HELD>(&op, row, lane);
    if (gridDim.x > 1) return;
    __syncthreads();
    sort_slots(&op, &sorting);
}

static __global__ void __launch_bounds__(ROUTE_THREADS) sort_kernel(const __grid_constant__ struct experts_route op) {
    __shared__ struct sorting sorting;
    dependency_launch();
    dependency_wait();
    sort_slots(&op, &sorting);
}

cudaError_t experts_route(const struct experts_route *op, cudaStream_t stream) {
    const bool at_once = op->n_rows <= ROWS_AT_ONCE;
    dim3 grid(at_once ? 1 : (unsigned)((op->n_rows + ROUTE_WARPS - 1) / ROUTE_WARPS)), block(ROUTE_THREADS);
    cudaError_t error = op->n_experts <= 128 ? launch(route_kernel<4>, grid, block, 0, stream, true, *op)
                                             : launch(route_kernel<32>, grid, block, 0, stream, true, *op);
    if (at_once || error != cudaSuccess) return error;
    return launch(sort_kernel, dim3(1), block, 0, stream, true, *op);
}

// ---------------------------------------------------------------------------------------------------------- sum

// A thread has four neighbours, or one where rows are not made of fours.
template <int WIDTH>
static __global__ void __launch_bounds__(SUM_THREADS) sum_kernel(const __grid_constant__ struct experts_sum op) {
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.x, at = (blockIdx.y * SUM_THREADS + threadIdx.x) * WIDTH;
    if (row >= op.step->n_rows || at >= op.n) return;
    const int32_t *slot = op.slots.slot + (int64_t)row * op.n_hit;
    const float *weight = op.slots.weight + (int64_t)row * op.n_hit;
    float *to = op.sum + (int64_t)row * op.n + at;
    float sum[WIDTH] = {};
#pragma unroll 4
    for (int32_t i = 0; i < op.n_hit; i++) {
        const float *from = op.out + (int64_t)slot[i] * op.n + at, factor = weight[i];
        if (WIDTH == 4) {
            const float4 x = *(const float4 *)from;
            sum[0] += factor * x.x, sum[1 % WIDTH] += factor * x.y;
            sum[2 % WIDTH] += factor * x.z, sum[3 % WIDTH] += factor * x.w;
        } else {
            sum[0] += factor * *from;
        }
    }
#pragma unroll
    for (int i = 0; i < WIDTH; i++) to[i] = op.add ? to[i] + sum[i] : sum[i];
}

cudaError_t experts_sum(const struct experts_sum *op, cudaStream_t stream) {
    const int32_t width = op->n % 4 == 0 ? 4 : 1, span = SUM_THREADS * width;
    dim3 grid((unsigned)op->n_rows, (unsigned)((op->n + span - 1) / span)), block(SUM_THREADS);
    return width == 4 ? launch(sum_kernel<4>, grid, block, 0, stream, true, *op)
                      : launch(sum_kernel<1>, grid, block, 0, stream, true, *op);
}
