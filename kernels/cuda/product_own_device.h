// Matrix products for few rows on tensor cores: weights stream once from memory into fragments. What the kernels for
// one product (product_own.cu) and for the products of experts (experts_own.cu, experts_many.cu) have in common.
//
// In mma.m16n8k16 outputs are the 16 rows of A, tokens the 8 columns of B. A warp takes a tile of 32 outputs (two A)
// and a slice of the inputs; slices are the warps of one block, and their partial sums are added in the order of the
// slices. The order in which an element is summed is therefore a function of the weights' sizes alone.
//
// Which input is which k inside an mma does not matter as long as A and B agree. So lane (g, t) = (lane / 4, lane % 4)
// loads 16 neighbouring bytes of row g, and they serve several k-steps:
//
//   chunk: 64 bytes of a row     lane t's 16 bytes          piece: what two mma consume, 8 inputs a lane
//   F16, BF16   32 inputs        inputs  8 t ..  8 t + 7    1: those
//   FP8         64 inputs        inputs 16 t .. 16 t + 15   2: inputs 16 t + 8 piece .. + 7
//   INT4       128 inputs        (see int4_nibble)          4: inputs 32 piece + 8 t .. + 7
//
// The piece's eight inputs are four pairs; pairs 0 and 1 are a lane's two registers of B (k = 2t, 2t+1 and 2t+8, 2t+9)
// in the first mma, pairs 2 and 3 in the second. Tokens are loaded 16 bytes at a time with the same order.
#pragma once

#include "kernels/cuda/product_own_parts.h"

// What a lane reads: for each A (m) the rows g and g + 8 of the tile.
struct own_lane {
    const unsigned char *data[2];    // of row g
    int32_t data_step[2];            // bytes to row g + 8
    int32_t group[2], group_step[2]; // index of the first scale of row g; to that of row g + 8
    int32_t weight[2];
    const struct device_weight *weights; // of which weight[] tells one
    const uint16_t *x;                   // of token g
    int32_t x_step;                      // elements between tokens that are eight apart
    int32_t x_at[4];                     // of gathered tokens: elements from x
    int32_t n_tokens;                    // from token g on
    int32_t end;                         // chunks that this lane reads
};

// Which weight a tile belongs to and its first output; GATE: 16 outputs of both weights.
struct own_tile {
    int32_t weight, first;
};

static __device__ __forceinline__ struct own_tile own_tile_at(const struct own_arguments *a, int32_t tile) {
    if (a->p.output == PRODUCT_GATE) return {0, tile * (TILE / 2)};
    int32_t w = 0;
    for (int32_t i = 1; i < a->p.n_weights; i++) w += tile >= a->tile_first[i];
    return {w, (tile - a->tile_first[w]) * TILE};
}

// The four pairs of a piece from a lane's 16 bytes, exact. `zero`: minus 128 minus the zero point, twice, in BF16.
template <int FORMAT>
static __device__ __forceinline__ void own_pairs(uint32_t pairs[4], const uint32_t w[4], int piece, uint32_t zero) {
    if (own_is_fp8<FORMAT>()) {
        e4m3x4_to_bf16(w[2 * piece], pairs);
        e4m3x4_to_bf16(w[2 * piece + 1], pairs + 2);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) pairs[i] = own_is_int4<FORMAT>() ? int4_pair_to_bf16(w[piece], i, zero) : w[i];
    }
}

template <int FORMAT>
static __device__ __forceinline__ void own_mma(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    if (FORMAT == OWN_F16)
        mma_f16(d, a, b);
    else
        mma_bf16(d, a, b);
}

static __device__ __forceinline__ void own_load_words(uint32_t to[4], uint4 from) {
    to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
}

template <int FORMAT>
static __device__ __forceinline__ void own_load_weights(uint32_t w[4][4], const struct own_lane *lane, int32_t chunk) {
    bool inside = chunk < lane->end;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const unsigned char *row = lane->data[i / 2] + (i % 2 ? lane->data_step[i / 2] : 0);
        own_load_words(w[i], load_streaming_16_if(inside, row + (int64_t)chunk * 64));
    }
}

// What a group has for the lane's four rows.
struct own_scales {
    float scale[4];
    uint32_t zero[4]; // minus 128 minus the zero point, twice, in BF16
};

template <int FORMAT>
static __device__ __forceinline__ void own_load_scales(struct own_scales *to, const struct own_arguments *a,
                                                       const struct own_lane *lane, int32_t k) {
    int32_t group = min(k, a->weight[0].n_in - 1) >> a->group_shift;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const struct device_weight *weight = &lane->weights[lane->weight[i / 2]];
        int32_t at = lane->group[i / 2] + (i % 2 ? lane->group_step[i / 2] : 0) + group;
        if (FORMAT == OWN_FP8_GROUPED) {
            to->scale[i] = weight->scale[at];
        } else {
            to->scale[i] = to_float(((const struct f16 *)weight->scale_f16)[at]);
            to->zero[i] = weight->zero ? (0xc300u + weight->zero[at]) * 0x10001u : 0xc308c308u;
        }
    }
}

// Eight inputs of the lane's n-th token, zeros beyond the last token and the last input.
template <int FORMAT, bool GATHER>
static __device__ __forceinline__ void own_load_token(uint32_t x[4], const struct own_lane *lane, int n, int32_t chunk,
                                                      int piece) {
    int32_t k = chunk * own_pieces<FORMAT>() * 32 + piece * (own_is_int4<FORMAT>() ? 32 : 8);
    bool inside = chunk < lane->end && n * 8 < lane->n_tokens;
    int32_t at = GATHER ? lane->x_at[n] : n * opaque(lane->x_step);
    own_load_words(x, load_16_if(inside, lane->x + (at + k)));
}

// A piece of one A with eight tokens.
template <int FORMAT>
static __device__ __forceinline__ void own_multiply(float sum[4], const uint32_t pairs[2][4], const uint32_t x[4]) {
    const uint32_t first[4] = {pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]};
    const uint32_t second[4] = {pairs[0][2], pairs[1][2], pairs[0][3], pairs[1][3]};
    own_mma<FORMAT>(sum, first, x);
    own_mma<FORMAT>(sum, second, x + 2);
}

// Adds the sums of a group, times its scales, and begins the next ones.
template <int NT>
static __device__ __forceinline__ void own_add_group(float sum[2][NT][4], float part[2][NT][4], const float scale[4]) {
#pragma unroll
    for (int i = 0; i < 8 * NT; i++) {
        int m = i / 4 / NT, n = i / 4 % NT, element = i % 4;
        sum[m][n][element] = fmaf(scale[m * 2 + element / 2], part[m][n][element], sum[m][n][element]);
        part[m][n][element] = 0;
    }
}

// Whether tokens travel with the weights: where they need few registers.
template <int FORMAT, int NT> static __device__ constexpr bool own_tokens_travel() {
    return own_pieces<FORMAT>() * NT <= 2;
}

// The sum over the warp's slice of the inputs. Weights are on their way before the kernel waits for the one before it.
template <int FORMAT, int NT, bool GATHER>
static __device__ __forceinline__ void own_sum_slice(float sum[2][NT][4], const struct own_arguments *a,
                                                     const struct own_lane *lane, int32_t chunk, int32_t end) {
    constexpr int STAGES = own_stages<FORMAT, NT>(), PIECES = own_pieces<FORMAT>();
    constexpr int TRAVEL = own_tokens_travel<FORMAT, NT>() ? STAGES * PIECES : 0;
    uint32_t w[STAGES][4][4], ahead[TRAVEL + 1][NT][4];
    struct own_scales scales = {}, next = {};
    float part[2][NT][4] = {}; // of a group
    float(*into)[NT][4] = own_grouped<FORMAT>() ? part : sum;
    // In one straight run of code ptxas moves loads behind the wait; it moves nothing out of a branch.
    if (chunk < end)
#pragma unroll
        for (int s = 0; s < STAGES; s++) own_load_weights<FORMAT>(w[s], lane, chunk + s);
    if (own_grouped<FORMAT>()) own_load_scales<FORMAT>(&next, a, lane, chunk * PIECES * 32);
    dependency_wait();
#pragma unroll
    for (int i = 0; i < TRAVEL * NT; i++) {
        int at = i / NT;
        own_load_token<FORMAT, GATHER>(ahead[at][i % NT], lane, i % NT, chunk + at / PIECES, at % PIECES);
    }
#pragma unroll 1
    for (; chunk < end; chunk += STAGES) {
#pragma unroll
        for (int s = 0; s < STAGES; s++) {
            int32_t at = opaque(chunk + s);
            if (at >= end) break;
            scales = next;
            if (own_grouped<FORMAT>()) own_load_scales<FORMAT>(&next, a, lane, (at + 1) * PIECES * 32);
#pragma unroll
            for (int piece = 0; piece < PIECES; piece++) {
                if (FORMAT == OWN_INT4_FINE && piece > 0)
                    own_load_scales<FORMAT>(&scales, a, lane, (at * PIECES + piece) * 32);
                uint32_t pairs[4][4];
#pragma unroll
                for (int row = 0; row < 4; row++) own_pairs<FORMAT>(pairs[row], w[s][row], piece, scales.zero[row]);
#pragma unroll
                for (int n = 0; n < NT; n++) {
                    uint32_t *x = ahead[TRAVEL ? s * PIECES + piece : 0][n];
                    if (!TRAVEL) own_load_token<FORMAT, GATHER>(x, lane, n, at, piece);
                    own_multiply<FORMAT>(into[0][n], pairs, x);
                    own_multiply<FORMAT>(into[1][n], pairs + 2, x);
                    if (TRAVEL) own_load_token<FORMAT, GATHER>(x, lane, n, at + STAGES, piece);
                }
                if (own_grouped<FORMAT>() && (FORMAT == OWN_INT4_FINE || piece == PIECES - 1))
                    own_add_group<NT>(sum, part, scales.scale);
            }
            own_load_weights<FORMAT>(w[s], lane, at + STAGES);
        }
    }
}

// x w + bias of one output, from the slices' sums.
static __device__ __forceinline__ float own_finish(const struct own_arguments *a, const struct device_weight *weights,
                                                   int32_t weight, int32_t output, float sum) {
    const struct device_weight *w = &weights[weight];
    if (w->format == DEVICE_INT4) sum *= w->multiplier;
    if (w->format == DEVICE_FP8 && w->group == w->n_in) sum *= w->scale[output];
    return a->p.bias[weight] ? sum + a->p.bias[weight][output] : sum;
}

// Adds the slices of eight tokens and writes them. `partial` [n_slices][8][PARTIAL_PITCH] of this tile.
static __device__ void own_write_tokens(const struct own_arguments *a, const struct product_rows *rows,
                                        const float *partial, int32_t tile, int32_t token_first, int thread) {
    const bool gate = a->p.output == PRODUCT_GATE;
    const int outputs = gate ? TILE / 2 : TILE;
    struct own_tile at = own_tile_at(a, tile);
#pragma unroll 1
    for (int i = thread; i < outputs * 8; i += a->n_slices * 32) {
        int32_t token = i / outputs, output = i % outputs;
        if (tile >= a->n_tiles || token_first + token >= rows->end) continue;
        if (at.first + output >= a->weight[at.weight].n_out) continue;
        float sum[2] = {0, 0};
        for (int slice = 0; slice < a->n_slices; slice++) {
            const float *from = partial + (slice * 8 + token) * PARTIAL_PITCH + output;
            sum[0] += from[0];
            if (gate) sum[1] += from[TILE / 2];
        }
        float value = own_finish(a, rows->weights, at.weight, at.first + output, sum[0]);
        if (gate) {
            value = activate(value, a->p.activation) * own_finish(a, rows->weights, 1, at.first + output, sum[1]);
            store_operand(a->p.out, (token_first + token) * a->p.out_stride + at.first + output, a->p.out_format,
                          value);
        } else {
            int32_t column = at.first + output;
            for (int w = 0; w < at.weight; w++) column += a->weight[w].n_out;
            store_output(&a->p, token_first + token, column, value);
        }
    }
}

template <int FORMAT, int NT, bool GATHER>
static __device__ __forceinline__ void own_lane_at(struct own_lane *lane, const struct own_arguments *a,
                                                   const struct product_rows *rows, int32_t tile, int32_t chunk_end) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int32_t token = rows->first + g;
    struct own_tile at = own_tile_at(a, min(tile, a->n_tiles - 1));
    const bool gate = a->p.output == PRODUCT_GATE;
    const int32_t n_in = a->weight[0].n_in, inputs = own_pieces<FORMAT>() * 8;
    const int32_t row_bytes = n_in / inputs * 16;
#pragma unroll
    for (int m = 0; m < 2; m++) {
        int32_t weight = gate ? m : at.weight, row = at.first + g + (gate ? 0 : m * 16);
        // Rows beyond the last are read as the last and not written.
        int32_t last = a->weight[weight].n_out - 1, step = row + 8 <= last ? 8 : 0;
        row = min(row, last);
        lane->data[m] = (const unsigned char *)rows->weights[weight].data + (int64_t)row * row_bytes + t * 16;
        lane->data_step[m] = step * row_bytes;
        lane->group[m] = row * (n_in >> a->group_shift);
        lane->group_step[m] = step * (n_in >> a->group_shift);
        lane->weight[m] = weight;
    }
    lane->weights = rows->weights;
    lane->x = (const uint16_t *)a->p.x + t * (own_is_int4<FORMAT>() ? 8 : inputs);
    if (!GATHER) lane->x += (int64_t)token * n_in;
#pragma unroll
    for (int n = 0; n < (GATHER ? NT : 0); n++) {
        lane->x_at[n] = row_of_x(rows, min(token + n * 8, rows->end - 1)) * n_in;
    }
    lane->x_step = n_in * 8;
    lane->n_tokens = rows->end - token;
    lane->end = min(chunk_end, (n_in / inputs - t + 3) / 4);
}

// Adds the slices of a tile, eight tokens at a time, and writes them. `partial`: of the whole block.
template <int NT>
static __device__ __forceinline__ void own_write(const float sum[2][NT][4], const struct own_arguments *a,
                                                 const struct product_rows *rows, float (*partial)[8 * PARTIAL_PITCH],
                                                 int32_t tile, int tile_in_block) {
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 1
    for (int turn = 0; turn < NT; turn++) {
        if (turn) __syncthreads();
#pragma unroll
        for (int i = 0; i < NT * 8; i++)
            if (i / 8 == turn) {
                int m = i % 8 / 4, element = i % 4;
                partial[warp][(t * 2 + element % 2) * PARTIAL_PITCH + m * 16 + g + element / 2 * 8] =
                    sum[m][i / 8][element];
            }
        __syncthreads();
        own_write_tokens(a, rows, partial[tile_in_block * a->n_slices], tile, rows->first + turn * 8,
                         threadIdx.x - tile_in_block * a->n_slices * 32);
    }
}

// A block of a product: tiles of outputs from blockIdx.y on, its tokens.
template <int FORMAT, int NT, bool GATHER>
static __device__ __forceinline__ void own_block(const struct own_arguments *a, const struct product_rows *rows,
                                                 float (*partial)[8 * PARTIAL_PITCH]) {
    const int warp = threadIdx.x / 32;
    const int slice = warp % a->n_slices, tile_in_block = warp / a->n_slices;
    const int32_t tile = blockIdx.y * (blockDim.x / 32 / a->n_slices) + tile_in_block;
    const int32_t inputs = own_pieces<FORMAT>() * 32, n_chunks = (a->weight[0].n_in + inputs - 1) / inputs;
    const int32_t begin = n_chunks * slice / a->n_slices, end = n_chunks * (slice + 1) / a->n_slices;
    struct own_lane lane;
    own_lane_at<FORMAT, NT, GATHER>(&lane, a, rows, tile, end);
    float sum[2][NT][4] = {};
    own_sum_slice<FORMAT, NT, GATHER>(sum, a, &lane, begin, end);
    own_write<NT>(sum, a, rows, partial, tile, tile_in_block);
}
