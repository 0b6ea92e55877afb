// Matrix products of row-major weights with any number of activation rows. Included once for each instruction set.
//
// Every output element has one vector of sums along k, added up by one fixed tree: so its bits are the same in every
// tile shape. Tiles of TILE_WEIGHTS x TILE_ROWS elements keep the multipliers busy when there are many rows. When all
// rows fit into one tile the weights come from memory: then a tile takes its weight rows from as many places of the
// range, long streams which the processor fetches ahead better than short rows side by side.
#include "kernels/cpu/packed.h"

enum { GEMV_WEIGHTS = 8, TILE_MAX = 24, CACHE_LINE_BYTES = 64, BLOCK_BYTES = 128 * 1024, AHEAD_BYTES = 512 };

struct dot_tile {
    const char *weights, *activations;       // of the tile's first rows
    size_t weight_stride, activation_stride; // bytes
    int32_t n_in;
    bool stream; // what follows each weight row comes next
};

VEC_INLINE void dot_sums(const struct dot_tile *tile, enum tensor_format format, int32_t n_weights, int32_t n_rows,
                         vec *sums) {
    const int32_t step = dot_elements(format), whole = tile->n_in / step * step, rest = tile->n_in - whole;
    const size_t weight_bytes = format == TENSOR_F32 ? 4 : 2, activation_bytes = dot_activation_bytes(format);
    for (int32_t i = 0; i < n_weights * n_rows; i++) sums[i] = vec_zero();
    vec activation[TILE_ROWS];
    for (int32_t k = 0; k < whole; k += step) {
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++)
            activation[r] = dot_load_activation(
                tile->activations + (size_t)r * tile->activation_stride + (size_t)k * activation_bytes, format);
#pragma GCC unroll 8
        for (int32_t w = 0; w < n_weights; w++) {
            const char *at = tile->weights + (size_t)w * tile->weight_stride + (size_t)k * weight_bytes;
            vec weight = dot_load_weight(at, format);
            if (tile->stream) _mm_prefetch(at + AHEAD_BYTES, _MM_HINT_T0);
#pragma GCC unroll 8
            for (int32_t r = 0; r < n_rows; r++)
                sums[w * n_rows + r] = dot_step(sums[w * n_rows + r], weight, activation[r], format);
        }
    }
    if (rest == 0) return;
#pragma GCC unroll 8
    for (int32_t r = 0; r < n_rows; r++)
        activation[r] = dot_load_activation_n(
            tile->activations + (size_t)r * tile->activation_stride + (size_t)whole * activation_bytes, format, rest);
#pragma GCC unroll 8
    for (int32_t w = 0; w < n_weights; w++) {
        const char *at = tile->weights + (size_t)w * tile->weight_stride + (size_t)whole * weight_bytes;
        vec weight = dot_load_weight_n(at, format, rest);
#pragma GCC unroll 8
        for (int32_t r = 0; r < n_rows; r++)
            sums[w * n_rows + r] = dot_step(sums[w * n_rows + r], weight, activation[r], format);
    }
}

// Outputs are `spacing` apart; n_weights is 1 or a multiple of 4.
VEC_INLINE void dot_store(const vec *sums, const float *bias, float *out, size_t out_stride, int32_t spacing,
                          int32_t n_weights, int32_t n_rows) {
#pragma GCC unroll 8
    for (int32_t r = 0; r < n_rows; r++) {
        float *to = out + (size_t)r * out_stride;
        if (n_weights == 1) *to = bias ? vec_sum(sums[r]) + *bias : vec_sum(sums[r]);
#pragma GCC unroll 2
        for (int32_t w = 0; w + 4 <= n_weights; w += 4) {
            float four[4];
            _mm_storeu_ps(four, vec_sum4(sums[w * n_rows + r], sums[(w + 1) * n_rows + r], sums[(w + 2) * n_rows + r],
                                         sums[(w + 3) * n_rows + r]));
#pragma GCC unroll 4
            for (int32_t i = 0; i < 4; i++) {
                int32_t at = (w + i) * spacing;
                to[at] = bias ? four[i] + bias[at] : four[i];
            }
        }
    }
}

// Outputs first, first + spacing, ... of rows [row, row + n_rows).
VEC_INLINE void dot_tile_run(const struct matmul *m, enum tensor_format format, int32_t first, int32_t spacing,
                             int32_t row, int32_t n_weights, int32_t n_rows) {
    size_t row_bytes = (size_t)m->weight->n_cols * (format == TENSOR_F32 ? 4 : 2);
    struct dot_tile tile = {.weights = (const char *)m->weight->data + (size_t)first * row_bytes,
                            .activations = (const char *)m->activations + (size_t)row * m->activation_stride,
                            .weight_stride = (size_t)spacing * row_bytes,
                            .activation_stride = m->activation_stride,
                            .n_in = m->weight->n_cols,
                            .stream = spacing > 1};
    vec sums[TILE_MAX];
    dot_sums(&tile, format, n_weights, n_rows, sums);
    dot_store(sums, m->bias ? m->bias + first : NULL, m->out + (size_t)row * m->out_stride + first, m->out_stride,
              spacing, n_weights, n_rows);
}

// Rows [row, row + n_rows) of the activations, all of the range of outputs.
VEC_INLINE void dot_rows(const struct matmul *m, enum tensor_format format, int32_t row, int32_t n_rows) {
    const int32_t end = m->out_first + m->out_count, group = n_rows == 1 ? GEMV_WEIGHTS : TILE_WEIGHTS;
    int32_t i = m->out_first, length = m->out_count / group;
    if (m->n_rows <= TILE_ROWS && length > 1) {
        for (; i < m->out_first + length; i++) dot_tile_run(m, format, i, length, row, group, n_rows);
        i = m->out_first + length * group;
    }
    for (; i + group <= end; i += group) dot_tile_run(m, format, i, 1, row, group, n_rows);
    for (; i < end; i++) dot_tile_run(m, format, i, 1, row, 1, n_rows);
}

VEC_INLINE void dot_rows_left(const struct matmul *m, enum tensor_format format, int32_t row, int32_t n_rows) {
    switch (n_rows) {
    case 1:
        dot_rows(m, format, row, 1);
        break;
    case 2:
        dot_rows(m, format, row, 2);
        break;
    case 3:
        dot_rows(m, format, row, 3);
        break;
#if defined(__AVX512F__)
    case 4:
        dot_rows(m, format, row, 4);
        break;
    case 5:
        dot_rows(m, format, row, 5);
        break;
    case 6:
        dot_rows(m, format, row, 6);
        break;
#endif
    default:
        break;
    }
}

// Weights pass in blocks that stay in the second-level cache while all rows, cut into even tiles, pass them.
VEC_INLINE void matmul_format(const struct matmul *m, enum tensor_format format) {
    const int32_t n_tiles = (m->n_rows + TILE_ROWS - 1) / TILE_ROWS, end = m->out_first + m->out_count;
    size_t row_bytes = (size_t)m->weight->n_cols * (format == TENSOR_F32 ? 4 : 2);
    int32_t block_rows = (int32_t)(BLOCK_BYTES / row_bytes) / GEMV_WEIGHTS * GEMV_WEIGHTS;
    if (block_rows < GEMV_WEIGHTS) block_rows = GEMV_WEIGHTS;
    if (n_tiles == 1) block_rows = m->out_count;
    struct matmul block = *m;
    for (block.out_first = m->out_first; block.out_first < end; block.out_first += block_rows) {
        block.out_count = end - block.out_first < block_rows ? end - block.out_first : block_rows;
        for (int32_t t = 0; t < n_tiles; t++) {
            int32_t row = m->n_rows * t / n_tiles, next = m->n_rows * (t + 1) / n_tiles;
            dot_rows_left(&block, format, row, next - row);
        }
    }
}

// One function a format, so that the compiler sees each as a constant.
static void matmul_f32(const struct matmul *m) {
    matmul_format(m, TENSOR_F32);
}
static void matmul_f16(const struct matmul *m) {
    matmul_format(m, TENSOR_F16);
}
static void matmul_bf16(const struct matmul *m) {
    matmul_format(m, TENSOR_BF16);
}

void KERNEL(matmul)(const struct matmul *m) {
    switch (m->weight->format) {
    case TENSOR_F32:
        matmul_f32(m);
        break;
    case TENSOR_F16:
        matmul_f16(m);
        break;
    case TENSOR_BF16:
        matmul_bf16(m);
        break;
    default:
        KERNEL(matmul_packed)(m);
        break;
    }
}

size_t KERNEL(activation_bytes)(enum tensor_format format, int32_t n) {
    if (tensor_format_is_quantised(format)) return KERNEL(activation_packed_bytes)(format, n);
    size_t n_bytes = (size_t)n * dot_activation_bytes(format);
    return (n_bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
}

void KERNEL(activation_prepare)(void *out, int32_t row, const float *x, enum tensor_format format, int32_t n,
                                int32_t first, int32_t count) {
    char *to = (char *)out + (size_t)row * KERNEL(activation_bytes)(format, n);
    if (tensor_format_is_quantised(format)) {
        KERNEL(activation_pack)(to, x, format, n, first, count);
        return;
    }
    if (format != TENSOR_BF16) {
        memcpy(to + (size_t)first * sizeof *x, x + first, (size_t)count * sizeof *x);
        return;
    }
    for (int32_t i = first; i < first + count; i += VEC_N) {
        int32_t left = first + count - i;
        if (left >= VEC_N)
            dot_store_rounded(to, i, vec_load(x + i), VEC_N);
        else
            dot_store_rounded(to, i, vec_load_n(x + i, left), left);
    }
}
