// Layouts: reference implementation in gguf-py's quants.py. d, m and dmin are F16; in blocks of 32, low halves of bytes
// are values 0 to 15 and high halves 16 to 31.
#include "models/gguf_blocks.h"

#include "base/file_map.h"
#include "base/number.h"
#include "models/mxfp4.h"

#include <assert.h>
#include <string.h>

// One block's codes, and the scale and offset of every 32 of them.
typedef void decode_block(const unsigned char *block, uint8_t *codes, float *scales, float *offsets);

static float load_f16(const unsigned char *p) {
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return f32_from_f16(bits);
}

static void halves(const unsigned char *q, uint8_t *codes) {
    for (int i = 0; i < 16; i++) {
        codes[i] = q[i] & 15;
        codes[i + 16] = q[i] >> 4;
    }
}

static void looked_up(const unsigned char *q, const uint8_t table[16], uint8_t *codes) {
    for (int i = 0; i < 16; i++) {
        codes[i] = table[q[i] & 15];
        codes[i + 16] = table[q[i] >> 4];
    }
}

static void decode_q4_0(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    *scales = load_f16(block);
    halves(block + 2, codes);
}

static void decode_q4_1(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    *scales = load_f16(block);
    *offsets = load_f16(block + 2);
    halves(block + 4, codes);
}

// The fifth bit of value i is bit i of `high`.
static void add_fifth_bits(const unsigned char *high, uint8_t *codes) {
    uint32_t bits;
    memcpy(&bits, high, sizeof bits);
    for (int i = 0; i < 32; i++) codes[i] |= (uint8_t)((bits >> i & 1) << 4);
}

static void decode_q5_0(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    *scales = load_f16(block);
    halves(block + 6, codes);
    add_fifth_bits(block + 2, codes);
    for (int i = 0; i < 32; i++) codes[i] = (uint8_t)(codes[i] + 128 - 16);
}

static void decode_q5_1(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    *scales = load_f16(block);
    *offsets = load_f16(block + 2);
    halves(block + 8, codes);
    add_fifth_bits(block + 4, codes);
}

static void decode_q8_0(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    *scales = load_f16(block);
    for (int i = 0; i < 32; i++) codes[i] = block[2 + i] ^ 128;
}

// Eight pairs of a scale and a minimum, six bits each, in twelve bytes; scaled.
static void decode_k_scales(const unsigned char *block, float *scales, float *offsets) {
    const float d = load_f16(block), dmin = load_f16(block + 2);
    const unsigned char *s = block + 4;
    for (int j = 0; j < 8; j++) {
        int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
        scales[j] = d * (float)scale;
        offsets[j] = -dmin * (float)minimum;
    }
}

// Of each 64 values, the low halves of 32 bytes are the first 32, the high halves the others.
static void decode_k_halves(const unsigned char *q, uint8_t *codes) {
    for (int i = 0; i < 4; i++, q += 32, codes += 64)
        for (int j = 0; j < 32; j++) {
            codes[j] = q[j] & 15;
            codes[j + 32] = q[j] >> 4;
        }
}

static void decode_q4_k(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    decode_k_scales(block, scales, offsets);
    decode_k_halves(block + 16, codes);
}

static void decode_q5_k(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    decode_k_scales(block, scales, offsets);
    decode_k_halves(block + 48, codes);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 32; j++) codes[32 * i + j] |= (uint8_t)((block[16 + j] >> i & 1) << 4);
}

// The 256 six-bit values less 32.
static void decode_q6_k_values(const unsigned char *block, int8_t *values) {
    const unsigned char *low = block, *high = block + 128;
    for (int i = 0; i < 2; i++, low += 64, high += 32, values += 128)
        for (int j = 0; j < 32; j++) {
            values[j] = (int8_t)(((low[j] & 15) | (high[j] & 3) << 4) - 32);
            values[j + 32] = (int8_t)(((low[j + 32] & 15) | (high[j] >> 2 & 3) << 4) - 32);
            values[j + 64] = (int8_t)((low[j] >> 4 | (high[j] >> 4 & 3) << 4) - 32);
            values[j + 96] = (int8_t)((low[j + 32] >> 4 | high[j] >> 6 << 4) - 32);
        }
}

// Sixteen values share a scale here, 32 share it in kernels. A quarter of the larger of two scales serves both: in its
// steps the values of the larger scale are four times what they were, exactly, and the others are rounded.
static void decode_q6_k(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    int8_t values[256];
    decode_q6_k_values(block, values);
    const int8_t *given = (const int8_t *)block + 192;
    const float d = load_f16(block + 208);
    for (int g = 0; g < 8; g++) {
        const int first = given[2 * g], second = given[2 * g + 1];
        const int larger = second * second > first * first ? second : first;
        scales[g] = d * (float)larger / 4;
        for (int half = 0; half < 2; half++) {
            // 2^16 times the steps of a value.
            const int32_t steps = larger ? given[2 * g + half] * (4 << 16) / larger : 0;
            for (int i = 32 * g + 16 * half; i < 32 * g + 16 * half + 16; i++) {
                int32_t code = ((values[i] * steps + (1 << 15)) >> 16) + 128;
                codes[i] = (uint8_t)(code > 255 ? 255 : code);
            }
        }
    }
}

// 128 more than the values, which are whole numbers.
static const uint8_t iq4_codes[16] = {128 - 127, 128 - 104, 128 - 83, 128 - 65, 128 - 49, 128 - 35,
                                      128 - 22,  128 - 10,  128 + 1,  128 + 13, 128 + 25, 128 + 38,
                                      128 + 53,  128 + 69,  128 + 89, 128 + 113};

static void decode_iq4_nl(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    *scales = load_f16(block);
    looked_up(block + 2, iq4_codes, codes);
}

static void decode_iq4_xs(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    const float d = load_f16(block);
    uint16_t high;
    memcpy(&high, block + 2, sizeof high);
    for (int g = 0; g < 8; g++) {
        int low = block[4 + g / 2] >> 4 * (g % 2) & 15;
        scales[g] = d * (float)((low | (high >> 2 * g & 3) << 4) - 32);
        looked_up(block + 8 + 16 * g, iq4_codes, codes + 32 * g);
    }
}

static void decode_mxfp4(const unsigned char *block, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    *scales = mxfp4_scale(block[0]);
    looked_up(block + 1, mxfp4_codes, codes);
}

static const struct block_format {
    enum tensor_format form;
    int n_values, n_bytes; // of a block
    decode_block *decode;
} formats[] = {
    [STORED_Q4_0] = {TENSOR_INT4, 32, 18, decode_q4_0},
    [STORED_Q4_1] = {TENSOR_INT4_OFFSET, 32, 20, decode_q4_1},
    [STORED_Q5_0] = {TENSOR_INT8, 32, 22, decode_q5_0},
    [STORED_Q5_1] = {TENSOR_INT8_OFFSET, 32, 24, decode_q5_1},
    [STORED_Q8_0] = {TENSOR_INT8, 32, 34, decode_q8_0},
    [STORED_Q4_K] = {TENSOR_INT4_OFFSET, 256, 144, decode_q4_k},
    [STORED_Q5_K] = {TENSOR_INT8_OFFSET, 256, 176, decode_q5_k},
    [STORED_Q6_K] = {TENSOR_INT8, 256, 210, decode_q6_k},
    [STORED_IQ4_NL] = {TENSOR_INT8, 32, 18, decode_iq4_nl},
    [STORED_IQ4_XS] = {TENSOR_INT8, 256, 136, decode_iq4_xs},
    [STORED_MXFP4] = {TENSOR_INT8, 32, 17, decode_mxfp4},
};

bool gguf_blocks_form(enum stored_format format, enum tensor_format *out) {
    if (format < STORED_Q4_0 || format >= STORED_OTHER) return false;
    *out = formats[format].form;
    return true;
}

struct gguf_rows {
    struct tensor_rows common;
    const struct block_format *format;
    const unsigned char *blocks;
    size_t row_bytes;
};

static void decode_rows(const struct tensor_rows *common, int32_t first, int32_t n, struct tensor_row *out) {
    const struct gguf_rows *rows = (const struct gguf_rows *)common;
    const struct block_format *format = rows->format;
    const unsigned char *block = rows->blocks + (size_t)first * rows->row_bytes;
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < common->n_cols; k += format->n_values, block += format->n_bytes)
            format->decode(block, out[i].codes + k, out[i].scales + k / TENSOR_GROUP,
                           out[i].offsets + k / TENSOR_GROUP);
}

static void release_rows(const struct tensor_rows *common, int32_t first, int32_t n) {
    const struct gguf_rows *rows = (const struct gguf_rows *)common;
    file_map_release((const char *)rows->blocks + (size_t)first * rows->row_bytes, (size_t)n * rows->row_bytes);
}

const struct tensor_rows *gguf_blocks_open(struct arena *arena, const struct stored_tensor *tensor, int32_t n_cols,
                                           bool releasable) {
    const struct block_format *format = &formats[tensor->format];
    assert(n_cols % format->n_values == 0);
    struct gguf_rows *rows = arena_alloc_zero(arena, 1, sizeof *rows);
    rows->format = format;
    rows->blocks = (const unsigned char *)tensor->data;
    rows->row_bytes = (size_t)(n_cols / format->n_values) * (size_t)format->n_bytes;
    rows->common = (struct tensor_rows){.name = tensor->name,
                                        .n_rows = (int32_t)(tensor->n_bytes / rows->row_bytes),
                                        .n_cols = n_cols,
                                        .decode = decode_rows,
                                        .release = releasable ? release_rows : NULL};
    return &rows->common;
}
