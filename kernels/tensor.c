#include "kernels/tensor.h"

#include "base/mem.h"
#include "base/number.h"
#include "base/rng.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FP8_GROUP = 128 };

size_t tensor_bytes(const struct tensor *t) {
    const size_t n_rows = (size_t)t->n_rows, n_values = n_rows * (size_t)t->n_cols;
    const size_t n_groups = n_rows * (size_t)tensor_groups(t->n_cols);
    if (!tensor_format_is_quantised(t->format)) return n_values * tensor_format_bytes(t->format);
    if (t->format == TENSOR_FP8) return n_values + n_rows * ((size_t)(t->n_cols + FP8_GROUP - 1) / FP8_GROUP) * 4;
    return (tensor_format_is_int4(t->format) ? (n_values + 1) / 2 : n_values) +
           n_groups * (tensor_format_has_offsets(t->format) ? 4 : 2);
}

// Of a part that does not have all columns, the whole row is decoded first.
static void decode_part(const struct tensor *t, int32_t row, struct tensor_row *out) {
    const size_t n_groups = (size_t)tensor_groups(t->rows->n_cols), first = (size_t)(t->col_first / TENSOR_GROUP);
    const size_t n_part = (size_t)tensor_groups(t->n_cols);
    float *scales = mem_alloc_zero(2 * n_groups, sizeof *scales);
    struct tensor_row whole = {mem_alloc(n_groups * TENSOR_GROUP), scales, scales + n_groups};
    t->rows->decode(t->rows, row, 1, &whole);
    memcpy(out->codes, whole.codes + t->col_first, (size_t)t->n_cols);
    memcpy(out->scales, whole.scales + first, n_part * sizeof *scales);
    if (tensor_format_has_offsets(t->format)) memcpy(out->offsets, whole.offsets + first, n_part * sizeof *scales);
    free(whole.codes), free(scales);
}

void tensor_rows_decode(const struct tensor *t, int32_t first, int32_t n, struct tensor_row *out) {
    assert(first >= 0 && n > 0 && n <= TENSOR_ROWS_MAX && first + n <= t->n_rows);
    if (t->col_first == 0 && t->n_cols == t->rows->n_cols)
        t->rows->decode(t->rows, t->row_first + first, n, out);
    else
        for (int32_t i = 0; i < n; i++) decode_part(t, t->row_first + first + i, &out[i]);
}

void tensor_row_values(const struct tensor_row *row, enum tensor_format format, int32_t n, float *out) {
    const bool has_offsets = tensor_format_has_offsets(format);
    const int32_t zero = has_offsets ? 0 : tensor_format_is_int4(format) ? 8 : 128;
    for (int32_t k = 0; k < n; k++) {
        const int32_t group = k / TENSOR_GROUP;
        const float code = format == TENSOR_FP8 ? f32_from_e4m3(row->codes[k]) : (float)(row->codes[k] - zero);
        out[k] = has_offsets ? row->scales[group] * code + row->offsets[group] : row->scales[group] * code;
    }
}

static void decode_values(const struct tensor *t, int32_t row, float *out) {
    const size_t n_groups = (size_t)tensor_groups(t->n_cols);
    float *scales = mem_alloc_zero(2 * n_groups, sizeof *scales);
    struct tensor_row codes = {mem_alloc(n_groups * TENSOR_GROUP), scales, scales + n_groups};
    tensor_rows_decode(t, row, 1, &codes);
    tensor_row_values(&codes, t->format, t->n_cols, out);
    free(codes.codes), free(scales);
}

void tensor_values(const struct tensor *t, int32_t row, float *out) {
    const size_t n = (size_t)t->n_cols;
    if (tensor_format_is_quantised(t->format)) {
        decode_values(t, row, out);
        return;
    }
    const char *at = (const char *)t->data + (size_t)row * n * tensor_format_bytes(t->format);
    if (t->format == TENSOR_F32) {
        memcpy(out, at, n * sizeof *out);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, at + 2 * i, sizeof half);
        out[i] = t->format == TENSOR_F16 ? f32_from_f16(half) : f32_from_bf16(half);
    }
}

const char *tensor_format_name(enum tensor_format format) {
    static const char *const names[] = {"f32", "f16", "bf16", "fp8", "int8", "int4", "int8+", "int4+"};
    return names[format];
}

struct tensor tensor_take_rows(const struct tensor *full, int32_t first, int32_t count) {
    assert(first >= 0 && count > 0 && first + count <= full->n_rows && !full->handle);
    struct tensor part = *full;
    part.n_rows = count;
    if (full->random_key)
        part.random_key = rng_key(full->random_key, (uint64_t)first, 0);
    else if (full->rows)
        part.row_first += first;
    else
        part.data = (const char *)full->data + (size_t)first * tensor_bytes(full) / (size_t)full->n_rows;
    return part;
}
