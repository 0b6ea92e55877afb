// BF16 matrix products with AMX.
//
// Sixteen weight rows are the first operand of the tile product, as they lie in the file; sixteen activation rows are
// the second, stored by activation_prepare in blocks of 32 columns:
//
//     byte (row / 16) * 16 * activation_bytes + (k / 32) * 1024 + (k % 32) / 2 * 64 + (row % 16) * 4 + (k % 2) * 2
//
// so a tile of sums is [weight row, activation row]. Sums run along k, block after block, in one order for every
// number of rows.
//
// With few activation rows the weights come from memory, so a tile takes its sixteen weight rows from sixteen places
// of the range: as many long streams, which the processor fetches ahead better than short rows side by side.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/vec_avx512.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK_COLUMNS = 32, CACHED_BYTES = 256 * 1024, AHEAD_BYTES = 512, PEAK_TILES = 4 };
enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
// Tile registers behind the sums of (weight tile, activation group) The instructions' names take numbers.
#define WEIGHT_0 4
#define WEIGHT_1 5
#define GROUP_0 6
#define GROUP_1 7

bool amx_permitted(void) {
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

// Weight tiles, and with them sums, of n_weights <= 16 rows.
static void tiles_open(int32_t n_weights) {
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < N_TILES; i++) {
        config.row_bytes[i] = TILE_ROW_BYTES;
        config.n_rows[i] = i < GROUP_0 ? (uint8_t)n_weights : TILE;
    }
    tile_config_load(&config);
}

size_t amx_activation_bytes(enum tensor_format format, int32_t n) {
    if (format != TENSOR_BF16) return avx512_activation_bytes(format, n);
    return (size_t)((n + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS) * TILE_ROW_BYTES;
}

void amx_activation_prepare(void *out, int32_t row, const float *x, enum tensor_format format, int32_t n, int32_t first,
                            int32_t count) {
    if (format != TENSOR_BF16) {
        avx512_activation_prepare(out, row, x, format, n, first, count);
        return;
    }
    size_t group_bytes = TILE * amx_activation_bytes(format, n);
    char *to = (char *)out + (size_t)(row / TILE) * group_bytes + (size_t)(row % TILE) * 4;
    to += (size_t)first / BLOCK_COLUMNS * TILE_BYTES;
    const int32_t end = (first + count + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS * BLOCK_COLUMNS;
    for (int32_t k = first; k < end; k += VEC_N, to += TILE_BYTES / 2) {
        int32_t left = n - k;
        uint16_t pairs[VEC_N];
        vec_store_bf16(pairs, left >= VEC_N ? vec_load(x + k) : left > 0 ? vec_load_n(x + k, left) : vec_zero());
        for (int i = 0; i < VEC_N / 2; i++) memcpy(to + i * TILE_ROW_BYTES, &pairs[2 * i], 4);
    }
}

// A tile's weight rows along k: whole blocks where they lie, then a copy of the last columns with zeros behind them.
struct weight_tile {
    const char *rows;
    size_t stride;
    char last[TILE_BYTES];
};

static void weight_tile_open(struct weight_tile *tile, const struct tensor *weight, int32_t first, int32_t spacing,
                             int32_t n_weights) {
    size_t row_bytes = (size_t)weight->n_cols * 2;
    tile->stride = (size_t)spacing * row_bytes;
    tile->rows = (const char *)weight->data + (size_t)first * row_bytes;
    size_t rest_bytes = (size_t)(weight->n_cols % BLOCK_COLUMNS) * 2;
    if (rest_bytes == 0) return;
    memset(tile->last, 0, sizeof tile->last);
    for (int32_t i = 0; i < n_weights; i++)
        memcpy(tile->last + i * TILE_ROW_BYTES, tile->rows + (size_t)i * tile->stride + row_bytes - rest_bytes,
               rest_bytes);
    tile_memory_written(tile);
}

struct product {
    const struct matmul *m;
    int32_t first, n_weights, spacing; // weight rows of each tile: first, first + spacing, ...
    int32_t row, n_rows;               // activation rows, at most two groups
};

// One block of 32 columns: loads what the tiles need and adds n_tiles x n_groups products.
VEC_INLINE void multiply_block(const struct weight_tile *weights, const char *groups, size_t group_bytes, int32_t block,
                               bool whole, int32_t n_tiles, int32_t n_groups) {
    size_t at = (size_t)block * TILE_ROW_BYTES;
    const char *group = groups + (size_t)block * TILE_BYTES;
    _tile_loadd(GROUP_0, group, TILE_ROW_BYTES);
    if (n_groups == 2) _tile_loadd(GROUP_1, group + group_bytes, TILE_ROW_BYTES);
    _tile_loadd(WEIGHT_0, whole ? weights[0].rows + at : weights[0].last, whole ? weights[0].stride : TILE_ROW_BYTES);
    _tile_dpbf16ps(SUM_00, WEIGHT_0, GROUP_0);
    if (n_groups == 2) _tile_dpbf16ps(SUM_01, WEIGHT_0, GROUP_1);
    if (n_tiles == 1) return;
    _tile_loadd(WEIGHT_1, whole ? weights[1].rows + at : weights[1].last, whole ? weights[1].stride : TILE_ROW_BYTES);
    _tile_dpbf16ps(SUM_10, WEIGHT_1, GROUP_0);
    if (n_groups == 2) _tile_dpbf16ps(SUM_11, WEIGHT_1, GROUP_1);
}

// sums[weight row][activation row] to out[activation row][weight row].
static void store_sums(const struct product *p, float *sums, int32_t first, int32_t row, int32_t n_rows) {
    const struct matmul *m = p->m;
    const __mmask16 lanes = (__mmask16)((1u << p->n_weights) - 1);
    const __m512i places = vec_multiples(p->spacing);
    vec bias = m->bias ? _mm512_mask_i32gather_ps(vec_zero(), lanes, places, m->bias + first, 4) : vec_zero();
    if (n_rows > 1)
        vec_transpose(sums);
    else
        _mm512_store_ps(sums, vec_load_strided(sums, TILE));
    for (int32_t r = 0; r < n_rows; r++) {
        vec x = _mm512_load_ps(sums + r * TILE);
        float *to = m->out + (size_t)(row + r) * m->out_stride + first;
        if (m->bias) x = vec_add(x, bias);
        if (p->spacing == 1)
            _mm512_mask_storeu_ps(to, lanes, x);
        else
            _mm512_mask_i32scatter_ps(to, lanes, places, x, 4);
    }
}

// n_tiles x n_groups tiles of outputs.
VEC_INLINE void multiply_tiles(const struct product *p, int32_t n_tiles, int32_t n_groups) {
    const struct tensor *weight = p->m->weight;
    struct weight_tile weights[2];
    float sums[2][2][TILE * TILE] __attribute__((aligned(64)));
    const size_t group_bytes = TILE * amx_activation_bytes(TENSOR_BF16, weight->n_cols);
    const char *groups = (const char *)p->m->activations + (size_t)(p->row / TILE) * group_bytes;
    for (int32_t i = 0; i < n_tiles; i++)
        weight_tile_open(&weights[i], weight, p->first + i * TILE, p->spacing, p->n_weights);
    sums_zero();
    int32_t n_whole = weight->n_cols / BLOCK_COLUMNS;
    for (int32_t b = 0; b < n_whole; b++) {
        multiply_block(weights, groups, group_bytes, b, true, n_tiles, n_groups);
        if (p->spacing == 1) continue;
        const char *ahead = weights[0].rows + (size_t)b * TILE_ROW_BYTES + AHEAD_BYTES;
        for (int32_t i = 0; i < TILE; i++) _mm_prefetch(ahead + (size_t)i * weights[0].stride, _MM_HINT_T0);
    }
    if (weight->n_cols % BLOCK_COLUMNS) multiply_block(weights, groups, group_bytes, n_whole, false, n_tiles, n_groups);
    _tile_stored(SUM_00, sums[0][0], TILE_ROW_BYTES);
    if (n_groups == 2) _tile_stored(SUM_01, sums[0][1], TILE_ROW_BYTES);
    if (n_tiles == 2) _tile_stored(SUM_10, sums[1][0], TILE_ROW_BYTES);
    if (n_tiles == 2 && n_groups == 2) _tile_stored(SUM_11, sums[1][1], TILE_ROW_BYTES);
    for (int32_t i = 0; i < n_tiles; i++)
        for (int32_t g = 0; g < n_groups; g++) {
            int32_t left = p->n_rows - g * TILE;
            store_sums(p, sums[i][g], p->first + i * TILE, p->row + g * TILE, left < TILE ? left : TILE);
        }
}

// Weight rows [first, end), whole tiles except for a single one that is shorter, and all activation rows.
static void multiply_range(const struct matmul *m, int32_t first, int32_t end) {
    int32_t n_weights = end - first < TILE ? end - first : TILE;
    for (int32_t row = 0; row < m->n_rows; row += 2 * TILE) {
        struct product p = {.m = m, .n_weights = n_weights, .spacing = 1, .row = row};
        p.n_rows = m->n_rows - row < 2 * TILE ? m->n_rows - row : 2 * TILE;
        for (p.first = first; p.first < end;) {
            bool two = p.first + 2 * TILE <= end;
            if (two && p.n_rows > TILE)
                multiply_tiles(&p, 2, 2);
            else if (two)
                multiply_tiles(&p, 2, 1);
            else if (p.n_rows > TILE)
                multiply_tiles(&p, 1, 2);
            else
                multiply_tiles(&p, 1, 1);
            p.first += two ? 2 * TILE : TILE;
        }
    }
}

// Sixteen streams of `length` weight rows each, and at most two groups of activation rows.
static void multiply_streams(const struct matmul *m, int32_t length) {
    struct product p = {.m = m, .n_weights = TILE, .spacing = length, .n_rows = m->n_rows};
    for (p.first = m->out_first; p.first < m->out_first + length; p.first++) {
        if (p.n_rows > TILE)
            multiply_tiles(&p, 1, 2);
        else
            multiply_tiles(&p, 1, 1);
    }
}

// Weights pass in blocks that stay in the second-level cache while all activation rows pass them.
static void multiply_blocks(const struct matmul *m, int32_t end) {
    int32_t block = (int32_t)((size_t)CACHED_BYTES / ((size_t)m->weight->n_cols * 2)) / (2 * TILE) * (2 * TILE);
    if (block < 2 * TILE) block = 2 * TILE;
    for (int32_t first = m->out_first; first < end; first += block)
        multiply_range(m, first, first + block < end ? first + block : end);
}

void amx_matmul(const struct matmul *m) {
    if (tensor_format_is_quantised(m->weight->format)) {
        amx_matmul_packed(m);
        return;
    }
    if (m->weight->format != TENSOR_BF16) {
        avx512_matmul(m);
        return;
    }
    int32_t length = m->out_count / TILE, whole_end = m->out_first + length * TILE, end = m->out_first + m->out_count;
    tiles_open(TILE);
    if (m->n_rows <= 2 * TILE && length > 1)
        multiply_streams(m, length);
    else
        multiply_blocks(m, whole_end);
    if (whole_end < end) {
        tiles_open(end - whole_end);
        multiply_range(m, whole_end, end);
    }
    _tile_release(); // idle tiles would slow down every switch of threads
}

double amx_peak_bf16(int32_t n) {
    static const char zeros[TILE_BYTES] __attribute__((aligned(64)));
    tiles_open(TILE);
    sums_zero();
    _tile_loadd(WEIGHT_0, zeros, TILE_ROW_BYTES);
    _tile_loadd(GROUP_0, zeros, TILE_ROW_BYTES);
    for (int32_t i = 0; i < n / 8; i++) {
        _tile_dpbf16ps(SUM_00, WEIGHT_0, GROUP_0);
        _tile_dpbf16ps(SUM_01, WEIGHT_0, GROUP_0);
        _tile_dpbf16ps(SUM_10, WEIGHT_0, GROUP_0);
        _tile_dpbf16ps(SUM_11, WEIGHT_0, GROUP_0);
    }
    _tile_release();
    return 2.0 * PEAK_TILES * TILE * TILE * BLOCK_COLUMNS * (n / 8);
}
