// Quantises weights and activations, in plain C that compilers turn into vectors: included once for each instruction
// set, with the same bits everywhere.
#pragma once

#include "base/number.h"
#include "kernels/packed.h"

#include <float.h>
#include <math.h>

enum { PACK_LANES = 16, PACK_CANDIDATES = 8 };

// To the nearest whole number, ties to even, for |x| < 2^22.
static inline int32_t packed_round(float x) {
    uint32_t bits;
    x += 0x1.8p23f;
    memcpy(&bits, &x, sizeof bits);
    return (int32_t)(bits - 0x4b400000u);
}

// The largest magnitude of n numbers, a multiple of PACK_LANES; what is not finite is larger than all numbers.
static inline float packed_largest(const float *x, int32_t n) {
    uint32_t most[PACK_LANES] = {0}, all = 0;
    for (int32_t k = 0; k < n; k += PACK_LANES)
        for (int j = 0; j < PACK_LANES; j++) {
            uint32_t bits;
            memcpy(&bits, &x[k + j], sizeof bits);
            bits &= 0x7fffffff;
            most[j] = bits > most[j] ? bits : most[j];
        }
    for (int j = 0; j < PACK_LANES; j++) all = most[j] > all ? most[j] : all;
    return f32_from_bits(all);
}

// What is as large as 2^100 counts as not finite.
static inline void packed_activation_group(struct packed_group *to, const float *x) {
    float largest = packed_largest(x, PACKED_GROUP);
    bool finite = largest < 0x1p100f;
    float factor = finite && largest > 0x1p-120f ? 127 / largest : 0;
    int32_t sum = 0;
    for (int k = 0; k < PACKED_GROUP; k++) {
        int32_t number = finite ? packed_round(x[k] * factor) : 0;
        to->numbers[k] = (int8_t)number;
        sum += number;
    }
    to->scale = finite ? f32_from_bits(f32_bits(largest / 127) & ~3u) : NAN;
    to->shift = -0x1.8p23f * to->scale;
    to->total = (float)sum * to->scale;
    to->start_int8 = PACKED_START - 128 * sum;
    to->start_int4 = PACKED_START - 8 * sum;
}

// Inputs [first, first + count), whole groups but for the end of the row.
static inline void packed_activation(char *row, const float *x, int32_t n, int32_t first, int32_t count) {
    struct packed_group *groups = (struct packed_group *)(void *)row;
    for (int32_t g = first / PACKED_GROUP; g < packed_groups(first + count); g++) {
        const int32_t left = n - g * PACKED_GROUP;
        float padded[PACKED_GROUP] = {0};
        if (left < PACKED_GROUP) memcpy(padded, x + g * PACKED_GROUP, (size_t)left * sizeof *x);
        packed_activation_group(&groups[g], left < PACKED_GROUP ? padded : x + g * PACKED_GROUP);
    }
}

// x * factor as whole numbers in [least, most]; *products and *squares: sums of x * number and number^2, each times its
// importance where there is one.
static inline void pack_try(const float *x, const float *importance, int32_t n, float factor, float least, float most,
                            float *products, float *squares) {
    float xq[PACK_LANES] = {0}, qq[PACK_LANES] = {0};
    for (int32_t k = 0; k < n; k += PACK_LANES)
        for (int j = 0; j < PACK_LANES; j++) {
            float q = x[k + j] * factor;
            q = q < least ? least : q;
            q = q > most ? most : q;
            q = (q + 0x1.8p23f) - 0x1.8p23f;
            const float weighted = importance ? importance[k + j] * q : q;
            xq[j] += x[k + j] * weighted;
            qq[j] += q * weighted;
        }
    *products = *squares = 0;
    for (int j = 0; j < PACK_LANES; j++) *products += xq[j], *squares += qq[j];
}

// The scale with which the squared error of n numbers, a multiple of PACK_LANES, is the least of some: candidates give
// whole numbers, and these their best scale. Candidates lie around the one that maps the largest value to the end of
// the range; the negative end is one farther, so the sign of a scale says which end of the group is there. importance:
// weights of the squares, or NULL. NaN: a number is not finite.
static inline float pack_search(const float *x, const float *importance, int32_t n, float least, float most) {
    float largest = packed_largest(x, n), signed_largest = largest, best = 0, scale = 0;
    if (largest == 0) return 0;
    if (!(largest <= FLT_MAX)) return NAN;
    for (int32_t k = 0; k < n; k++)
        if (x[k] == -largest) signed_largest = -largest;
    const bool narrow = most < 100;
    for (int c = 0; c < (narrow ? PACK_CANDIDATES : 2); c++) {
        float end = narrow ? least - 0.25f * (float)(c - 4) : least + 0.5f * (float)c, products, squares;
        pack_try(x, importance, n, end / signed_largest, least, most, &products, &squares);
        if (squares > 0 && products * (products / squares) > best)
            best = products * (products / squares), scale = products / squares;
    }
    return scale;
}

static inline uint16_t pack_scale(const float *x, float least, float most) {
    float scale = pack_search(x, NULL, PACKED_GROUP, least, most);
    return f16_from_f32(isnan(scale) ? scale : fmaxf(fminf(scale, 65504), -65504));
}

static inline void pack_group(char *group, int output, const float *x, uint16_t scale, enum tensor_format format) {
    const float step = f32_from_f16(scale), factor = step != 0 ? 1 / step : 0;
    const float least = format == TENSOR_INT8 ? -127 : -8, most = format == TENSOR_INT8 ? 127 : 7;
    const int32_t zero = packed_zero(format);
    uint8_t numbers[PACKED_GROUP];
    for (int k = 0; k < PACKED_GROUP; k++) {
        float q = x[k] * factor;
        q = q < least ? least : q;
        q = q > most ? most : q;
        numbers[k] = (uint8_t)((packed_round(q) + zero) & (2 * zero - 1));
    }
    for (int quad = 0; quad < PACKED_GROUP / PACKED_QUAD; quad++)
        for (int i = 0; i < PACKED_QUAD; i++) {
            uint8_t number = numbers[quad * PACKED_QUAD + i];
            if (format == TENSOR_INT8)
                group[quad * PACKED_LINE + output * PACKED_QUAD + i] = (char)number;
            else if (quad % 2 == 0)
                group[quad / 2 * PACKED_LINE + output * PACKED_QUAD + i] = (char)number;
            else
                group[quad / 2 * PACKED_LINE + output * PACKED_QUAD + i] |= (char)(number << 4);
        }
}

static inline void pack_integers(char *block, const float *rows, enum tensor_format format, int32_t n) {
    uint16_t *scales = (uint16_t *)(void *)(block + packed_scales_at(format, n));
    for (int32_t g = 0; g < packed_groups(n); g++)
        for (int output = 0; output < PACKED_OUTPUTS; output++) {
            const int32_t k = g * PACKED_GROUP, left = n - k;
            const float *x = rows + (size_t)output * (size_t)n + k;
            float padded[PACKED_GROUP] = {0};
            memcpy(padded, x, (size_t)(left < PACKED_GROUP ? left : PACKED_GROUP) * sizeof *x);
            uint16_t scale = format == TENSOR_INT8 ? pack_scale(padded, -127, 127) : pack_scale(padded, -8, 7);
            scales[g * PACKED_OUTPUTS + output] = scale;
            pack_group(block + (size_t)g * packed_group_bytes(format), output, padded, scale, format);
        }
}

// FP8's steps grow with the number, so that the largest value at the end of the range is near the best for any row.
static inline void pack_fp8(char *block, const float *rows, int32_t n) {
    float *scales = (float *)(void *)(block + packed_scales_at(TENSOR_FP8, n));
    for (int output = 0; output < PACKED_OUTPUTS; output++) {
        const float *x = rows + (size_t)output * (size_t)n;
        float largest = 0;
        for (int32_t k = 0; k < n; k++) largest = fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
        for (int32_t g = 0; g * PACKED_FP8_GROUP < n; g++) scales[g * PACKED_OUTPUTS + output] = largest / 448;
        const float factor = largest > 0x1p-110f ? 448 / largest : 0;
        for (int32_t k = 0; k < n; k++)
            block[k / PACKED_QUAD * PACKED_LINE + output * PACKED_QUAD + k % PACKED_QUAD] =
                (char)e4m3_from_f32(x[k] * factor);
    }
}

// Rows [16, n] to a block.
static inline void pack_block(char *block, const float *rows, enum tensor_format format, int32_t n) {
    memset(block, 0, packed_block_bytes(format, n));
    if (format == TENSOR_FP8)
        pack_fp8(block, rows, n);
    else if (format == TENSOR_INT8) // each with its constants
        pack_integers(block, rows, TENSOR_INT8, n);
    else
        pack_integers(block, rows, TENSOR_INT4, n);
}

// A group of one output. codes [32].
static inline void fill_group(char *group, int output, const uint8_t *codes, bool is_int4) {
    char *to = group + output * PACKED_QUAD;
    for (int quad = 0; quad < PACKED_GROUP / PACKED_QUAD; quad += is_int4 ? 2 : 1) {
        uint32_t four, next;
        memcpy(&four, codes + quad * PACKED_QUAD, sizeof four);
        if (is_int4) {
            memcpy(&next, codes + (quad + 1) * PACKED_QUAD, sizeof next);
            four |= next << 4;
        }
        memcpy(to + (is_int4 ? quad / 2 : quad) * PACKED_LINE, &four, sizeof four);
    }
}

static inline void fill_integers(char *block, const struct tensor_row *rows, enum tensor_format format, bool is_int4,
                                 int32_t n) {
    const int32_t n_groups = packed_groups(n);
    uint16_t *scales = (uint16_t *)(void *)(block + packed_scales_at(format, n));
    uint16_t *offsets = (uint16_t *)(void *)(block + packed_offsets_at(format, n));
    for (int32_t g = 0; g < n_groups; g++)
        for (int output = 0; output < PACKED_OUTPUTS; output++) {
            const struct tensor_row *row = &rows[output];
            const int32_t at = g * PACKED_OUTPUTS + output;
            fill_group(block + (size_t)g * packed_group_bytes(format), output, row->codes + g * PACKED_GROUP, is_int4);
            scales[at] = f16_from_f32(row->scales[g]);
            if (tensor_format_has_offsets(format)) offsets[at] = f16_from_f32(row->offsets[g]);
        }
}

static inline void fill_fp8(char *block, const struct tensor_row *rows, int32_t n) {
    float *scales = (float *)(void *)(block + packed_scales_at(TENSOR_FP8, n));
    for (int32_t g = 0; g < packed_groups(n); g++)
        for (int output = 0; output < PACKED_OUTPUTS; output++)
            fill_group(block + (size_t)g * packed_group_bytes(TENSOR_FP8), output,
                       rows[output].codes + g * PACKED_GROUP, false);
    for (int32_t k = 0; k < n; k += PACKED_FP8_GROUP)
        for (int output = 0; output < PACKED_OUTPUTS; output++)
            scales[k / PACKED_FP8_GROUP * PACKED_OUTPUTS + output] = rows[output].scales[k / TENSOR_GROUP];
}

// Sixteen rows that are quantised already to a block; their codes go on to the end of the last group.
static inline void fill_block(char *block, const struct tensor_row *rows, enum tensor_format format, int32_t n) {
    memset(block + packed_scales_at(format, n), 0, packed_block_bytes(format, n) - packed_scales_at(format, n));
    if (format == TENSOR_FP8)
        fill_fp8(block, rows, n);
    else if (tensor_format_is_int4(format)) // each with its constant
        fill_integers(block, rows, format, true, n);
    else
        fill_integers(block, rows, format, false, n);
}
