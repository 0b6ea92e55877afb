// Queries, keys and values of a step are finished: norm of each head, rotation, and where they go. A warp takes one
// head of one row; a lane takes four neighbouring elements, and for wide heads four more.
#include "kernels/cuda/attention_device.h"

enum { WARPS = 4, CHUNKS = HEAD_DIM_MAX / (4 * WARP_LANES) };

struct head_values {
    float x[CHUNKS][4];
};

static __device__ __forceinline__ int element(int chunk) {
    return chunk * 4 * WARP_LANES + 4 * (int)(threadIdx.x % WARP_LANES);
}

static __device__ __forceinline__ void norm_head(struct head_values *head, const float *weight, float eps, int n) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) sum += head->x[c][i] * head->x[c][i];
    float factor = rsqrtf(warp_sum(sum) / (float)n + eps);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        if (element(c) >= n) continue;
        float4 w = *reinterpret_cast<const float4 *>(weight + element(c));
        head->x[c][0] *= factor * w.x;
        head->x[c][1] *= factor * w.y;
        head->x[c][2] *= factor * w.z;
        head->x[c][3] *= factor * w.w;
    }
}

// Partners of a rotation lie in other lanes: they meet in `shared`, [HEAD_DIM_MAX] floats of this warp.
static __device__ __forceinline__ void rotate_head(struct head_values *head, const struct attention_in_finish *op,
                                                   int row, float *shared) {
    int half = op->n_dims / 2;
    const float *cosine = op->cosine + (int64_t)row * half, *sine = op->sine + (int64_t)row * half;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        if (element(c) < op->head_dim)
            *reinterpret_cast<float4 *>(shared + element(c)) = {head->x[c][0], head->x[c][1], head->x[c][2],
                                                                head->x[c][3]};
    __syncwarp();
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int d = element(c) + i;
            if (d >= op->n_dims) continue;
            int pair = op->interleaved ? d / 2 : d % half;
            bool is_second = op->interleaved ? d % 2 : d >= half;
            float partner = shared[op->interleaved ? d ^ 1 : is_second ? d - half : d + half];
            float x = head->x[c][i], s = sine[pair];
            head->x[c][i] = x * cosine[pair] + (is_second ? s : -s) * partner;
        }
}

static __device__ __forceinline__ void store_4(void *out, int64_t index, const float x[4], bool is_f32) {
    if (is_f32)
        *reinterpret_cast<float4 *>(static_cast<float *>(out) + index) = {x[0], x[1], x[2], x[3]};
    else
        *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(out) + index) = {pack_bf16(x[0], x[1]),
                                                                            pack_bf16(x[2], x[3])};
}

// One scale for the token and head: the largest magnitude becomes the largest code.
static __device__ __forceinline__ void store_fp8(const struct head_values *head, unsigned char *half, int slot, int n) {
    const float largest_code = 448.0f, smallest = 1e-30f;
    float largest = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) largest = fmaxf(largest, fabsf(head->x[c][i]));
    largest = fmaxf(warp_max(largest), smallest);
    float scale = largest / largest_code, inverse = largest_code / largest;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        const float *x = head->x[c];
        if (element(c) < n)
            *reinterpret_cast<uint32_t *>(half + slot * n + element(c)) =
                e4m3x4_from_float(x[0] * inverse, x[1] * inverse, x[2] * inverse, x[3] * inverse);
    }
    if (threadIdx.x % WARP_LANES == 0) reinterpret_cast<float *>(half + ATTENTION_BLOCK * n)[slot] = scale;
}

static __device__ __forceinline__ void store_kv(const struct head_values *head, const struct attention_in_finish *op,
                                                int row, int kv_head, int which) {
    const struct kv_shape *shape = &op->kv.shape;
    int32_t position = STEP_ARRAY(op->step, int32_t, position)[row];
    int32_t sequence = STEP_ARRAY(op->step, int32_t, sequence)[row];
    int32_t block_first = STEP_ARRAY(op->step, struct step_sequence, sequences)[sequence].block_first;
    int32_t block = STEP_ARRAY(op->step, int32_t, block_table)[block_first + position / ATTENTION_BLOCK];
    int slot = position % ATTENTION_BLOCK;
    const unsigned char *layer = static_cast<const unsigned char *>(op->kv.data) + op->layer * op->kv.layer_bytes;
    size_t half_bytes = attention_half_bytes(shape->format, op->head_dim);
    unsigned char *half =
        const_cast<unsigned char *>(kv_half(layer, op->n_kv_heads, half_bytes, block, kv_head, which));
    if (shape->format == KV_FP8) {
        store_fp8(head, half, slot, op->head_dim);
        return;
    }
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        if (element(c) < op->head_dim)
            store_4(half, (int64_t)slot * op->head_dim + element(c), head->x[c], shape->format == KV_F32);
}

static __global__ void __launch_bounds__(WARPS *WARP_LANES) finish_kernel(struct attention_in_finish op) {
    __shared__ __align__(16) float shared[WARPS][HEAD_DIM_MAX];
    dependency_launch();
    dependency_wait();
    int warp = (int)(threadIdx.x / WARP_LANES), row = (int)blockIdx.x;
    int head_index = (int)blockIdx.y * WARPS + warp, n_all = op.n_heads + 2 * op.n_kv_heads;
    if (row >= op.step->n_rows || head_index >= n_all) return;

    struct head_values head;
    const float *from = op.qkv + ((int64_t)row * n_all + head_index) * op.head_dim;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        float4 x = {0, 0, 0, 0};
        if (element(c) < op.head_dim) x = *reinterpret_cast<const float4 *>(from + element(c));
        head.x[c][0] = x.x;
        head.x[c][1] = x.y;
        head.x[c][2] = x.z;
        head.x[c][3] = x.w;
    }
    bool is_query = head_index < op.n_heads, is_value = head_index >= op.n_heads + op.n_kv_heads;
    const float *norm = is_query ? op.q_norm : op.k_norm;
    if (!is_value && norm) norm_head(&head, norm, op.norm_eps, op.head_dim);
    if (!is_value && op.cosine) rotate_head(&head, &op, row, shared[warp]);
    if (!is_query) {
        store_kv(&head, &op, row, (head_index - op.n_heads) % op.n_kv_heads, is_value);
        return;
    }
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        if (element(c) < op.head_dim)
            store_4(op.query, ((int64_t)row * op.n_heads + head_index) * op.head_dim + element(c), head.x[c],
                    op.kv.shape.format == KV_F32);
}

extern "C" cudaError_t attention_in_finish(const struct attention_in_finish *op, cudaStream_t stream) {
    if (op->head_dim % 4 != 0 || op->head_dim > HEAD_DIM_MAX || op->kv.shape.block_tokens != ATTENTION_BLOCK)
        return cudaErrorInvalidValue;
    unsigned n_heads = (unsigned)(op->n_heads + 2 * op->n_kv_heads);
    return launch(finish_kernel, dim3((unsigned)op->n_rows, (n_heads + WARPS - 1) / WARPS), dim3(WARPS * WARP_LANES), 0,
                  stream, true, *op);
}
