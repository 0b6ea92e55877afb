#include "models/mxfp4.h"

#include "base/number.h"

const uint8_t mxfp4_codes[16] = {128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116};

float mxfp4_scale(uint8_t exponent) {
    if (exponent == 255) return f32_from_bits(0x7fc00000);
    return exponent < 2 ? f32_from_bits(0x200000u << exponent) : f32_from_bits((uint32_t)(exponent - 1) << 23);
}

struct mxfp4_rows {
    struct tensor_rows common;
    const unsigned char *blocks, *scales;
    struct mxfp4_range range;
};

static void decode_row(const struct mxfp4_rows *rows, int32_t row, struct tensor_row *out) {
    const struct tensor_rows *common = &rows->common;
    const size_t n_groups = (size_t)common->n_cols / MXFP4_GROUP;
    const size_t at = ((size_t)rows->range.first + (size_t)row * (size_t)rows->range.step) * n_groups;
    const unsigned char *block = rows->blocks + at * (MXFP4_GROUP / 2);
    for (size_t g = 0; g < n_groups; g++) out->scales[g] = mxfp4_scale(rows->scales[at + g]);
    for (size_t i = 0; i < (size_t)common->n_cols / 2; i++) {
        out->codes[2 * i] = mxfp4_codes[block[i] & 15];
        out->codes[2 * i + 1] = mxfp4_codes[block[i] >> 4];
    }
}

static void decode_rows(const struct tensor_rows *common, int32_t first, int32_t n, struct tensor_row *out) {
    for (int32_t i = 0; i < n; i++) decode_row((const struct mxfp4_rows *)common, first + i, &out[i]);
}

const struct tensor_rows *mxfp4_open(struct arena *arena, const struct stored_tensor *blocks,
                                     const struct stored_tensor *scales, int32_t n_rows, int32_t n_cols,
                                     const struct mxfp4_range *range) {
    struct mxfp4_rows *rows = arena_alloc_zero(arena, 1, sizeof *rows);
    rows->common =
        (struct tensor_rows){.name = blocks->name, .n_rows = n_rows, .n_cols = n_cols, .decode = decode_rows};
    rows->blocks = (const unsigned char *)blocks->data;
    rows->scales = (const unsigned char *)scales->data;
    rows->range = *range;
    return &rows->common;
}
