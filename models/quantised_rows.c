#include "models/quantised_rows.h"

#include "base/file_map.h"
#include "base/number.h"

#include <math.h>
#include <string.h>

struct quantised_rows {
    struct tensor_rows common;
    struct quantised_matrix matrix;
    enum tensor_format form;
};

// Where output c of eight neighbours is in a word of AWQ, in units of four bits.
static const int awq_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static uint32_t load_word(const char *words, size_t index) {
    uint32_t word;
    memcpy(&word, words + index * sizeof word, sizeof word);
    return word;
}

static float load_scale(const struct quantised_matrix *m, int32_t output, int32_t group) {
    const size_t at = (size_t)(output / m->rows_per_scale) * m->scale_row + (size_t)group * m->scale_col;
    float single;
    uint16_t half;
    if (m->scales->format == STORED_F32) {
        memcpy(&single, m->scales->data + at * sizeof single, sizeof single);
        return single;
    }
    memcpy(&half, m->scales->data + at * sizeof half, sizeof half);
    return m->scales->format == STORED_F16 ? f32_from_f16(half) : f32_from_bf16(half);
}

// In units of codes as they are decoded: unsigned.
static int32_t load_zero(const struct quantised_matrix *m, int32_t output, int32_t group) {
    const int n = 32 / m->bits;
    const size_t n_out = (size_t)m->n_out, o = (size_t)output, g = (size_t)group;
    const int32_t mask = (1 << m->bits) - 1;
    switch (m->zeros_layout) {
    case ZEROS_NONE:
        break;
    case ZEROS_GPTQ:
        return ((int32_t)(load_word(m->zeros->data, g * (n_out / (size_t)n) + o / (size_t)n) >> output % n * m->bits) +
                m->zero_added) &
               mask;
    case ZEROS_AWQ:
        return (int32_t)(load_word(m->zeros->data, g * (n_out / 8) + o / 8) >> 4 * awq_place[output % 8]) & mask;
    case ZEROS_ROWS:
        return (int32_t)(load_word(m->zeros->data, o / (size_t)n * (size_t)m->n_groups + g) >> output % n * m->bits) &
               mask;
    case ZEROS_BYTES:
        return (int8_t)m->zeros->data[o * (size_t)m->n_groups + g] + 128;
    }
    return 1 << (m->bits - 1);
}

// Rows of outputs whose codes lie in columns.
static void decode_columns(const struct quantised_matrix *m, int32_t first, int32_t n, struct tensor_row *out) {
    const int per_word = 32 / m->bits;
    const uint32_t mask = (1u << m->bits) - 1;
    const size_t n_out = (size_t)m->n_out;
    if (m->layout == CODES_OUTPUTS) {
        for (int32_t k = 0; k < m->n_in; k++)
            for (int32_t i = 0; i < n; i++) {
                const int32_t o = first + i;
                const uint32_t word = load_word(m->codes->data, (size_t)k * (n_out / 8) + (size_t)o / 8);
                out[i].codes[k] = (uint8_t)(word >> 4 * awq_place[o % 8] & 15);
            }
        return;
    }
    for (int32_t k = 0; k < m->n_in; k += per_word)
        for (int32_t i = 0; i < n; i++) {
            uint32_t word = load_word(m->codes->data, (size_t)(k / per_word) * n_out + (size_t)(first + i));
            for (int32_t j = 0; j < per_word; j++, word >>= m->bits) out[i].codes[k + j] = (uint8_t)(word & mask);
        }
}

static void decode_row_codes(const struct quantised_matrix *m, int32_t output, uint8_t *codes) {
    const size_t n_in = (size_t)m->n_in;
    const int per_word = 32 / m->bits;
    const size_t n_words = (n_in + (size_t)per_word - 1) / (size_t)per_word;
    if (m->layout == CODES_FP8) {
        memcpy(codes, m->codes->data + (size_t)output * n_in, n_in);
        return;
    }
    if (m->layout == CODES_INT8) {
        const char *from = m->codes->data + (size_t)output * n_in;
        for (size_t k = 0; k < n_in; k++) codes[k] = (uint8_t)from[k] ^ 128;
        return;
    }
    for (size_t w = 0; w < n_words; w++) {
        uint32_t word = load_word(m->codes->data, (size_t)output * n_words + w);
        for (size_t k = w * (size_t)per_word; k < (w + 1) * (size_t)per_word && k < n_in; k++, word >>= m->bits)
            codes[k] = (uint8_t)(word & ((1u << m->bits) - 1));
    }
}

// A scale, and where there are zero points an offset, for each 32 inputs.
static void decode_scales(const struct quantised_matrix *m, enum tensor_format form, int32_t output,
                          struct tensor_row *out) {
    float scale = 0, offset = 0;
    for (int32_t t = 0, last = -1; t < tensor_groups(m->n_in); t++) {
        const int32_t g = t * TENSOR_GROUP / m->group;
        if (g != last) scale = load_scale(m, output, g);
        if (g != last && tensor_format_has_offsets(form)) offset = -scale * (float)load_zero(m, output, g);
        out->scales[t] = scale;
        if (tensor_format_has_offsets(form)) out->offsets[t] = offset;
        last = g;
    }
}

// Neighbours with different scales become 8-bit numbers of one.
static void decode_scattered(const struct quantised_matrix *m, int32_t output, struct tensor_row *out) {
    for (int32_t k = 0; k < m->n_in; k += TENSOR_GROUP) {
        float values[TENSOR_GROUP], largest = 0;
        const int32_t n = m->n_in - k < TENSOR_GROUP ? m->n_in - k : TENSOR_GROUP;
        for (int32_t i = 0; i < n; i++) {
            const int32_t g = m->group_of[k + i];
            values[i] = load_scale(m, output, g) * (float)(out->codes[k + i] - load_zero(m, output, g));
            largest = fabsf(values[i]) > largest || isnan(values[i]) ? fabsf(values[i]) : largest;
        }
        const float scale = f32_from_f16(f16_from_f32(largest / 127)), factor = scale > 0 ? 1 / scale : 0;
        for (int32_t i = 0; i < n; i++) {
            const float code = rintf(values[i] * factor);
            out->codes[k + i] = (uint8_t)(128 + (code > 127 ? 127 : code > -127 ? (int)code : -127));
        }
        out->scales[k / TENSOR_GROUP] = largest <= 65504 ? scale : largest;
    }
}

static void decode_rows(const struct tensor_rows *common, int32_t first, int32_t n, struct tensor_row *out) {
    const struct quantised_rows *rows = (const struct quantised_rows *)common;
    const struct quantised_matrix *m = &rows->matrix;
    const bool in_columns = m->layout == CODES_INPUTS || m->layout == CODES_OUTPUTS;
    if (in_columns) decode_columns(m, first, n, out);
    for (int32_t i = 0; i < n; i++) {
        if (!in_columns) decode_row_codes(m, first + i, out[i].codes);
        if (m->group_of)
            decode_scattered(m, first + i, &out[i]);
        else
            decode_scales(m, rows->form, first + i, &out[i]);
    }
}

static void release_rows(const struct tensor_rows *common, int32_t first, int32_t n) {
    const struct quantised_matrix *m = &((const struct quantised_rows *)common)->matrix;
    const size_t row_bytes = m->codes->n_bytes / (size_t)m->n_out;
    if (m->layout == CODES_INPUTS || m->layout == CODES_OUTPUTS)
        file_map_release(m->codes->data, m->codes->n_bytes);
    else
        file_map_release(m->codes->data + (size_t)first * row_bytes, (size_t)n * row_bytes);
}

enum tensor_format quantised_rows_form(const struct quantised_matrix *matrix) {
    if (matrix->layout == CODES_FP8) return TENSOR_FP8;
    if (matrix->group_of) return TENSOR_INT8;
    if (matrix->zeros_layout != ZEROS_NONE) return matrix->bits == 4 ? TENSOR_INT4_OFFSET : TENSOR_INT8_OFFSET;
    return matrix->bits == 4 ? TENSOR_INT4 : TENSOR_INT8;
}

const struct tensor_rows *quantised_rows_open(struct arena *arena, const struct quantised_matrix *matrix) {
    struct quantised_rows *rows = arena_alloc_zero(arena, 1, sizeof *rows);
    rows->matrix = *matrix;
    rows->form = quantised_rows_form(matrix);
    rows->common = (struct tensor_rows){.name = matrix->name,
                                        .n_rows = matrix->n_out,
                                        .n_cols = matrix->n_in,
                                        .decode = decode_rows,
                                        .release = matrix->releasable ? release_rows : NULL};
    return &rows->common;
}
