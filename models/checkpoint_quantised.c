// From the tensors of a quantised module to one matrix: which there must be, in which shapes.
#include "base/number.h"
#include "models/checkpoint_internal.h"
#include "models/quantised_rows.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 512 };
enum { FLOATS = 1 << STORED_F32 | 1 << STORED_F16 | 1 << STORED_BF16 };

static struct str_view base_of(const char *name) {
    size_t n = strlen(name), suffix = strlen(".weight");
    return n > suffix && strcmp(name + n - suffix, ".weight") == 0 ? (struct str_view){name, n - suffix}
                                                                   : (struct str_view){name, 0};
}

static const struct stored_tensor *find(const struct checkpoint *checkpoint, struct str_view base, const char *suffix,
                                        uint64_t *index) {
    char name[NAME_BYTES];
    int n = snprintf(name, sizeof name, "%.*s.%s", (int)base.n_bytes, base.data, suffix);
    if (n < 0 || (size_t)n >= sizeof name || !map_get(&checkpoint->names, name, (size_t)n, index)) return NULL;
    return &checkpoint->tensors.items[*index];
}

const struct stored_tensor *checkpoint_take(struct checkpoint *checkpoint, struct str_view base, const char *suffix) {
    uint64_t index = 0;
    const struct stored_tensor *tensor = find(checkpoint, base, suffix, &index);
    if (tensor) checkpoint->used[index] = true;
    return tensor;
}

bool checkpoint_is_quantised(const struct checkpoint *checkpoint, const char *name) {
    const struct str_view base = base_of(name);
    const struct stored_tensor *weight;
    uint64_t index;
    if (!base.n_bytes) return false;
    switch (checkpoint->quantization.method) {
    case QUANTIZATION_NONE:
        break;
    case QUANTIZATION_AWQ:
    case QUANTIZATION_GPTQ:
        return find(checkpoint, base, "qweight", &index) != NULL;
    case QUANTIZATION_PACKED:
        return find(checkpoint, base, "weight_packed", &index) != NULL;
    case QUANTIZATION_BYTES:
        weight = find(checkpoint, base, "weight", &index);
        return weight && (weight->format == STORED_I8 || weight->format == STORED_F8_E4M3);
    }
    return false;
}

static void print_dims(struct str *out, const int64_t *dims, int n_dims) {
    str_append_char(out, '[');
    for (int i = 0; i < n_dims; i++) str_printf(out, "%s%lld", i ? ", " : "", (long long)dims[i]);
    str_append_char(out, ']');
}

// A tensor that must be there, in one of the formats and with this shape.
static int expect(struct checkpoint *checkpoint, struct str_view base, const char *suffix, unsigned formats,
                  const char *format_names, const int64_t dims[2], int n_dims, const struct stored_tensor **out,
                  struct err *err) {
    const struct stored_tensor *tensor = *out = checkpoint_take(checkpoint, base, suffix);
    struct str expected = STR_INIT, found = STR_INIT;
    print_dims(&expected, dims, n_dims);
    if (tensor) print_dims(&found, tensor->shape, tensor->n_dims);
    int rc = 0;
    if (!tensor)
        rc = err_set(err, ERR_FORMAT, "%s: expected a tensor \"%.*s.%s\" %s %s, there is none", checkpoint->path,
                     (int)base.n_bytes, base.data, suffix, format_names, str_text(&expected));
    else if (!(formats >> tensor->format & 1) || strcmp(str_text(&expected), str_text(&found)) != 0)
        rc = err_set(err, ERR_FORMAT, "%s: tensor \"%s\": expected %s %s, found %s %s", checkpoint->path, tensor->name,
                     format_names, str_text(&expected), tensor->format_name, str_text(&found));
    str_close(&expected);
    str_close(&found);
    return rc;
}

static int refuse(const struct checkpoint *checkpoint, const struct quantised_matrix *m, struct err *err) {
    return err_set(err, ERR_UNSUPPORTED, "%s: tensor \"%s\" [%d, %d] cannot be in groups of %d with %d bits",
                   checkpoint->path, m->name, m->n_out, m->n_in, m->group, m->bits);
}

// Bits and groups as they are written, or, where modules differ, as the shapes say.
static int choose_numbers(const struct checkpoint *checkpoint, struct quantised_matrix *m, struct str_view base,
                          struct err *err) {
    const struct quantization *q = &checkpoint->quantization;
    uint64_t index;
    m->bits = q->bits;
    m->group = q->group ? q->group : m->n_in;
    if (q->differs) {
        const struct stored_tensor *codes = find(checkpoint, base, "qweight", &index);
        const struct stored_tensor *scales = find(checkpoint, base, "scales", &index);
        if (codes && codes->n_dims == 2) m->bits = codes->shape[0] * 8 == m->n_in ? 4 : 8;
        if (scales && scales->n_dims == 2 && scales->shape[0] > 0 && scales->shape[0] <= m->n_in)
            m->group = (int32_t)(m->n_in / scales->shape[0]);
    }
    if (m->group > m->n_in) m->group = m->n_in;
    m->n_groups = (m->n_in + m->group - 1) / m->group;
    if (m->group < m->n_in && m->group % TENSOR_GROUP) return refuse(checkpoint, m, err);
    return 0;
}

// Which group each input belongs to; NULL where groups are neighbours.
static int read_order(struct checkpoint *checkpoint, struct quantised_matrix *m, const struct stored_tensor *order,
                      struct err *err) {
    if (!order) return 0;
    if (order->format != STORED_I32 || order->n_dims != 1 || order->shape[0] != m->n_in)
        return err_set(err, ERR_FORMAT, "%s: tensor \"%s\": expected I32 [%d], found %s of %zu bytes", checkpoint->path,
                       order->name, m->n_in, order->format_name, order->n_bytes);
    int32_t *group_of = arena_alloc(&checkpoint->arena, (size_t)m->n_in * sizeof *group_of);
    memcpy(group_of, order->data, order->n_bytes);
    bool scattered = false, absent = true;
    for (int32_t k = 0; k < m->n_in; k++) {
        absent = absent && group_of[k] == -1;
        scattered = scattered || group_of[k] != k / m->group;
    }
    if (absent || !scattered) return 0;
    for (int32_t k = 0; k < m->n_in; k++)
        if (group_of[k] < 0 || group_of[k] >= m->n_groups)
            return err_set(err, ERR_FORMAT, "%s: tensor \"%s\": input %d is in group %d, there are %d",
                           checkpoint->path, order->name, k, group_of[k], m->n_groups);
    m->group_of = group_of;
    return 0;
}

// Whether all zero points are the middle of the range, which kernels take off anyway.
static bool zeros_are_middle(const struct quantised_matrix *m) {
    uint32_t middle = 0, word;
    for (int at = 0; at < 32; at += m->bits) middle |= ((1u << (m->bits - 1)) - (uint32_t)m->zero_added) << at;
    for (size_t i = 0; i < m->zeros->n_bytes / sizeof word; i++) {
        memcpy(&word, m->zeros->data + i * sizeof word, sizeof word);
        if (word != middle) return false;
    }
    return true;
}

// AWQ and GPTQ: scales [groups, out].
static int bind_columns(struct checkpoint *checkpoint, struct quantised_matrix *m, struct str_view base,
                        struct err *err) {
    const bool is_awq = checkpoint->quantization.method == QUANTIZATION_AWQ;
    const int64_t n = 32 / m->bits, n_in = m->n_in, n_out = m->n_out, groups = m->n_groups;
    if (n_out % n || (!is_awq && n_in % n)) return refuse(checkpoint, m, err);
    const int64_t code_dims[2] = {is_awq ? n_in : n_in / n, is_awq ? n_out / n : n_out};
    const unsigned words = 1 << STORED_I32;
    int rc = expect(checkpoint, base, "qweight", words, "I32", code_dims, 2, &m->codes, err);
    if (!rc) rc = expect(checkpoint, base, "qzeros", words, "I32", (int64_t[]){groups, n_out / n}, 2, &m->zeros, err);
    if (!rc) rc = expect(checkpoint, base, "scales", FLOATS, "F16", (int64_t[]){groups, n_out}, 2, &m->scales, err);
    if (!rc) rc = read_order(checkpoint, m, is_awq ? NULL : checkpoint_take(checkpoint, base, "g_idx"), err);
    if (rc) return rc;
    m->layout = is_awq ? CODES_OUTPUTS : CODES_INPUTS;
    m->scale_row = 1;
    m->scale_col = (size_t)n_out;
    m->rows_per_scale = 1;
    m->zero_added = checkpoint->quantization.zeros_are_one_less;
    m->zeros_layout = zeros_are_middle(m) ? ZEROS_NONE : is_awq ? ZEROS_AWQ : ZEROS_GPTQ;
    return 0;
}

static int check_written_shape(struct checkpoint *checkpoint, const struct quantised_matrix *m, struct str_view base,
                               struct err *err) {
    const struct stored_tensor *shape = checkpoint_take(checkpoint, base, "weight_shape");
    int64_t dims[2];
    if (!shape) return 0;
    bool good = shape->format == STORED_I64 && shape->n_bytes == sizeof dims;
    if (good) memcpy(dims, shape->data, sizeof dims);
    if (good && dims[0] == m->n_out && dims[1] == m->n_in) return 0;
    return err_set(err, ERR_FORMAT, "%s: tensor \"%s\": expected %d and %d", checkpoint->path, shape->name, m->n_out,
                   m->n_in);
}

static int bind_packed(struct checkpoint *checkpoint, struct quantised_matrix *m, struct str_view base,
                       struct err *err) {
    const int64_t n = 32 / m->bits, n_out = m->n_out, groups = m->n_groups;
    const int64_t code_dims[2] = {n_out, (m->n_in + n - 1) / n}, scale_dims[2] = {n_out, groups};
    const unsigned words = 1 << STORED_I32;
    int rc = expect(checkpoint, base, "weight_packed", words, "I32", code_dims, 2, &m->codes, err);
    if (!rc) rc = expect(checkpoint, base, "weight_scale", FLOATS, "BF16", scale_dims, 2, &m->scales, err);
    if (!rc) rc = check_written_shape(checkpoint, m, base, err);
    if (!rc) rc = read_order(checkpoint, m, checkpoint_take(checkpoint, base, "weight_g_idx"), err);
    m->layout = CODES_ROWS;
    m->scale_row = (size_t)groups;
    m->scale_col = 1;
    m->rows_per_scale = 1;
    const bool symmetric = checkpoint->quantization.symmetric;
    if (rc || symmetric) {
        checkpoint_take(checkpoint, base, "weight_zero_point"); // some writers keep zeros
        return rc;
    }
    m->zeros_layout = ZEROS_ROWS;
    return expect(checkpoint, base, "weight_zero_point", words, "I32", (int64_t[]){(n_out + n - 1) / n, groups}, 2,
                  &m->zeros, err);
}

// One scale, one an output, one a group, or one a block.
static int bind_byte_scales(struct checkpoint *checkpoint, struct quantised_matrix *m, struct str_view base,
                            struct err *err) {
    const struct quantization *q = &checkpoint->quantization;
    uint64_t index;
    const char *suffix = find(checkpoint, base, "weight_scale_inv", &index) ? "weight_scale_inv" : "weight_scale";
    const struct stored_tensor *scales = find(checkpoint, base, suffix, &index);
    int64_t dims[2] = {m->n_out, m->n_groups};
    int n_dims = 2;
    m->rows_per_scale = 1;
    if (q->block_cols) {
        m->rows_per_scale = q->block_rows;
        m->group = q->block_cols;
        m->n_groups = (m->n_in + m->group - 1) / m->group;
        dims[0] = (m->n_out + q->block_rows - 1) / q->block_rows;
        dims[1] = m->n_groups;
    } else if (!q->group && scales && scales->n_dims < 2) { // one number, or a list
        n_dims = scales->n_dims;
        dims[0] = n_dims == 1 && scales->shape[0] == 1 ? 1 : m->n_out;
    } else if (!q->group && scales && scales->n_dims == 2 && scales->shape[0] == 1) {
        dims[0] = 1;
    }
    m->scale_row = n_dims == 0 || dims[0] == 1 ? 0 : n_dims == 1 ? 1 : (size_t)dims[1];
    m->scale_col = m->n_groups > 1 ? 1 : 0;
    return expect(checkpoint, base, suffix, FLOATS, "F32", dims, n_dims, &m->scales, err);
}

static int bind_bytes(struct checkpoint *checkpoint, struct quantised_matrix *m, struct str_view base,
                      struct err *err) {
    const int64_t dims[2] = {m->n_out, m->n_in};
    const unsigned formats = 1 << STORED_I8 | 1 << STORED_F8_E4M3;
    int rc = expect(checkpoint, base, "weight", formats, "I8 or F8_E4M3", dims, 2, &m->codes, err);
    if (!rc) rc = bind_byte_scales(checkpoint, m, base, err);
    if (rc) return rc;
    const bool is_float = m->codes->format == STORED_F8_E4M3;
    m->layout = is_float ? CODES_FP8 : CODES_INT8;
    if (is_float && m->group < m->n_in && m->group % 128) return refuse(checkpoint, m, err);
    if (is_float || checkpoint->quantization.symmetric) {
        checkpoint_take(checkpoint, base, "weight_zero_point");
        return 0;
    }
    m->zeros_layout = ZEROS_BYTES;
    return expect(checkpoint, base, "weight_zero_point", 1 << STORED_I8, "I8", (int64_t[]){m->n_out, m->n_groups}, 2,
                  &m->zeros, err);
}

int checkpoint_bind_quantised(struct checkpoint *checkpoint, const char *name, struct tensor *out, struct err *err) {
    const struct str_view base = base_of(name);
    struct quantised_matrix m = {.name = arena_copy_string(&checkpoint->arena, name, strlen(name)),
                                 .n_out = out->n_rows,
                                 .n_in = out->n_cols,
                                 .releasable = checkpoint->mapped};
    int rc = choose_numbers(checkpoint, &m, base, err);
    if (rc) return rc;
    if (checkpoint->quantization.method == QUANTIZATION_PACKED)
        rc = bind_packed(checkpoint, &m, base, err);
    else if (checkpoint->quantization.method == QUANTIZATION_BYTES)
        rc = bind_bytes(checkpoint, &m, base, err);
    else
        rc = bind_columns(checkpoint, &m, base, err);
    if (rc) return rc;
    out->format = quantised_rows_form(&m);
    out->rows = quantised_rows_open(&checkpoint->arena, &m);
    return 0;
}

// Biases that GPTQ's writers add to models that have none are zeros.
static bool is_zero(const struct stored_tensor *tensor) {
    for (size_t i = 0; i < tensor->n_bytes; i++)
        if (tensor->data[i]) return false;
    return true;
}

bool checkpoint_is_by_product(const struct checkpoint *checkpoint, const struct stored_tensor *tensor) {
    static const char *const suffixes[] = {".input_scale", ".input_zero_point", ".output_scale", ".k_scale",
                                           ".v_scale",     ".kv_scale",         ".q_scale",      ".prob_scale"};
    if (!checkpoint->quantization.method) return false;
    const char *last = strrchr(tensor->name, '.');
    if (!last) return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (strcmp(last, suffixes[i]) == 0) return true;
    return checkpoint->quantization.method == QUANTIZATION_GPTQ && strcmp(last, ".bias") == 0 && is_zero(tensor);
}
