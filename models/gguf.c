#include "models/gguf.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_BYTES_MAX = 65535,
    NAME_BYTES_MAX = 255,
    STRING_BYTES_MAX = 16 << 20,
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MAX = 65536,
    DIMS_MAX = 4,
    VALUE_BYTES_MIN = 8 + 4 + 1,         // empty key, type, one byte
    TENSOR_BYTES_MIN = 8 + 4 + 8 + 4 + 8 // empty name, one dimension, type, offset
};

static const size_t type_bytes[GGUF_TYPES] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

// The numbers that ggml gives to tensor formats. Rows without a name are unused or were withdrawn.
static const struct tensor_type {
    const char *name;
    uint32_t block_elements, block_bytes;
    enum stored_format format;
} tensor_types[] = {
    [0] = {"F32", 1, 4, STORED_F32},           [1] = {"F16", 1, 2, STORED_F16},
    [2] = {"Q4_0", 32, 18, STORED_Q4_0},       [3] = {"Q4_1", 32, 20, STORED_Q4_1},
    [6] = {"Q5_0", 32, 22, STORED_Q5_0},       [7] = {"Q5_1", 32, 24, STORED_Q5_1},
    [8] = {"Q8_0", 32, 34, STORED_Q8_0},       [10] = {"Q2_K", 256, 84, STORED_OTHER},
    [11] = {"Q3_K", 256, 110, STORED_OTHER},   [12] = {"Q4_K", 256, 144, STORED_Q4_K},
    [13] = {"Q5_K", 256, 176, STORED_Q5_K},    [14] = {"Q6_K", 256, 210, STORED_Q6_K},
    [16] = {"IQ2_XXS", 256, 66, STORED_OTHER}, [17] = {"IQ2_XS", 256, 74, STORED_OTHER},
    [18] = {"IQ3_XXS", 256, 98, STORED_OTHER}, [19] = {"IQ1_S", 256, 50, STORED_OTHER},
    [20] = {"IQ4_NL", 32, 18, STORED_IQ4_NL},  [21] = {"IQ3_S", 256, 110, STORED_OTHER},
    [22] = {"IQ2_S", 256, 82, STORED_OTHER},   [23] = {"IQ4_XS", 256, 136, STORED_IQ4_XS},
    [24] = {"I8", 1, 1, STORED_OTHER},         [25] = {"I16", 1, 2, STORED_OTHER},
    [26] = {"I32", 1, 4, STORED_OTHER},        [27] = {"I64", 1, 8, STORED_OTHER},
    [28] = {"F64", 1, 8, STORED_OTHER},        [29] = {"IQ1_M", 256, 56, STORED_OTHER},
    [30] = {"BF16", 1, 2, STORED_BF16},        [34] = {"TQ1_0", 256, 54, STORED_OTHER},
    [35] = {"TQ2_0", 256, 66, STORED_OTHER},   [39] = {"MXFP4", 32, 17, STORED_MXFP4},
    [40] = {"NVFP4", 64, 36, STORED_OTHER},
};

struct reader {
    const char *data;
    size_t n_bytes, at;
};

static size_t bytes_left(const struct reader *reader) {
    return reader->n_bytes - reader->at;
}

static bool read_bytes(struct reader *reader, void *out, size_t n_bytes) {
    if (bytes_left(reader) < n_bytes) return false;
    memcpy(out, reader->data + reader->at, n_bytes);
    reader->at += n_bytes;
    return true;
}

static bool read_u32(struct reader *reader, uint32_t *out) {
    return read_bytes(reader, out, sizeof *out);
}
static bool read_u64(struct reader *reader, uint64_t *out) {
    return read_bytes(reader, out, sizeof *out);
}

static bool read_string(struct reader *reader, size_t limit, struct str_view *out) {
    uint64_t n_bytes = 0;
    if (!read_u64(reader, &n_bytes) || n_bytes > limit || n_bytes > bytes_left(reader)) return false;
    *out = (struct str_view){reader->data + reader->at, (size_t)n_bytes};
    reader->at += (size_t)n_bytes;
    return true;
}

// Steps over `count` elements and checks them.
static bool skip_elements(struct reader *reader, enum gguf_type type, size_t count) {
    if (type == GGUF_STRING) {
        if (count > bytes_left(reader) / 8) return false;
        struct str_view text;
        for (size_t i = 0; i < count; i++)
            if (!read_string(reader, STRING_BYTES_MAX, &text)) return false;
        return true;
    }
    if (count > bytes_left(reader) / type_bytes[type]) return false;
    if (type == GGUF_BOOL)
        for (size_t i = 0; i < count; i++)
            if ((unsigned char)reader->data[reader->at + i] > 1) return false;
    reader->at += count * type_bytes[type];
    return true;
}

static int read_value(struct gguf *gguf, struct reader *reader, struct err *err) {
    struct gguf_value value = {.count = 1};
    uint32_t type = 0;
    uint64_t count = 1;
    if (!read_string(reader, KEY_BYTES_MAX, &value.key) || !read_u32(reader, &type))
        return err_set(err, ERR_FORMAT, "key %zu does not lie within the file", gguf->values.count);
    value.is_array = type == GGUF_ARRAY;
    if (value.is_array && (!read_u32(reader, &type) || !read_u64(reader, &count)))
        return err_set(err, ERR_FORMAT, "the array of key %zu does not lie within the file", gguf->values.count);
    if (type >= GGUF_TYPES || type == GGUF_ARRAY)
        return err_set(err, ERR_FORMAT, "key %zu has the unknown type %" PRIu32, gguf->values.count, type);
    value.type = (enum gguf_type)type;
    value.count = (size_t)count;
    value.data = reader->data + reader->at;
    if (!skip_elements(reader, value.type, value.count))
        return err_set(err, ERR_FORMAT, "the value of key %zu is malformed or does not lie within the file",
                       gguf->values.count);
    if (!map_put(&gguf->keys, value.key.data, value.key.n_bytes, gguf->values.count))
        return err_set(err, ERR_FORMAT, "key %zu is there twice", gguf->values.count);
    vec_push(&gguf->values, value);
    return 0;
}

// Reads one tensor's description; `offset` is where its bytes must begin in the data section.
static int read_tensor(struct gguf *gguf, struct reader *reader, uint64_t *offset, struct err *err) {
    struct stored_tensor tensor = {0};
    struct str_view name;
    uint32_t n_dims = 0, type = 0;
    size_t index = gguf->tensors.count;
    if (!read_string(reader, NAME_BYTES_MAX, &name) || memchr(name.data, 0, name.n_bytes) || !read_u32(reader, &n_dims))
        return err_set(err, ERR_FORMAT, "the name of tensor %zu is malformed", index);
    tensor.name = arena_copy_string(&gguf->arena, name.data, name.n_bytes);
    if (n_dims < 1 || n_dims > DIMS_MAX)
        return err_set(err, ERR_FORMAT, "tensor %zu has %" PRIu32 " dimensions", index, n_dims);
    tensor.n_dims = (int)n_dims;
    uint64_t elements = 1, dim = 0;
    for (uint32_t i = 0; i < n_dims; i++) {
        if (!read_u64(reader, &dim) || dim < 1 || dim > INT64_MAX || __builtin_mul_overflow(elements, dim, &elements))
            return err_set(err, ERR_FORMAT, "tensor %zu has an impossible shape", index);
        tensor.shape[n_dims - 1 - i] = (int64_t)dim;
    }
    uint64_t stored_offset = 0, n_bytes = 0;
    if (!read_u32(reader, &type) || !read_u64(reader, &stored_offset))
        return err_set(err, ERR_FORMAT, "tensor %zu does not lie within the file", index);
    if (type >= sizeof tensor_types / sizeof *tensor_types || !tensor_types[type].name)
        return err_set(err, ERR_FORMAT, "tensor %zu has the unknown format %" PRIu32, index, type);
    const struct tensor_type *format = &tensor_types[type];
    tensor.format = format->format;
    tensor.format_name = format->name;
    if ((uint64_t)tensor.shape[n_dims - 1] % format->block_elements ||
        __builtin_mul_overflow(elements / format->block_elements, format->block_bytes, &n_bytes))
        return err_set(err, ERR_FORMAT, "tensor %zu has a shape that is impossible in %s", index, format->name);
    if (stored_offset != *offset)
        return err_set(err, ERR_FORMAT, "tensor %zu is not where the one before it ends", index);
    tensor.n_bytes = n_bytes;
    if (__builtin_add_overflow(*offset, n_bytes, offset))
        return err_set(err, ERR_FORMAT, "tensor %zu has an impossible size", index);
    if (!map_put(&gguf->names, tensor.name, name.n_bytes, index))
        return err_set(err, ERR_FORMAT, "tensor %zu has the name of another", index);
    vec_push(&gguf->tensors, tensor);
    return 0;
}

static bool round_up(uint64_t *value, uint64_t alignment) {
    if (__builtin_add_overflow(*value, alignment - 1, value)) return false;
    *value &= ~(alignment - 1);
    return true;
}

static int read_tensors(struct gguf *gguf, struct reader *reader, uint64_t n_tensors, struct err *err) {
    gguf->alignment = ALIGNMENT_DEFAULT;
    int rc = gguf_get_int(gguf, "general.alignment", 1, ALIGNMENT_MAX, &gguf->alignment, err);
    if (rc) return rc;
    const int64_t alignment = gguf->alignment;
    if (alignment & (alignment - 1))
        return err_set(err, ERR_FORMAT, "general.alignment is %" PRId64 ", not a power of two", alignment);
    uint64_t end = 0, section = 0;
    for (uint64_t i = 0; i < n_tensors; i++) {
        if (!round_up(&end, (uint64_t)alignment))
            return err_set(err, ERR_FORMAT, "the tensors have an impossible size");
        rc = read_tensor(gguf, reader, &end, err);
        if (rc) return rc;
    }
    section = reader->at;
    if (!n_tensors) return 0;
    if (!round_up(&section, (uint64_t)alignment) || section > reader->n_bytes || end > reader->n_bytes - section)
        return err_set(err, ERR_FORMAT, "the tensors take %" PRIu64 " bytes, which the file does not have", end);
    // Only now, behind the last description, is it known where the data begin.
    end = section;
    for (size_t i = 0; i < gguf->tensors.count; i++) {
        struct stored_tensor *tensor = &gguf->tensors.items[i];
        round_up(&end, (uint64_t)alignment);
        tensor->data = reader->data + end;
        end += tensor->n_bytes;
    }
    return 0;
}

static int read_file(struct gguf *gguf, struct reader *reader, struct err *err) {
    char magic[4] = {0};
    uint64_t n_tensors = 0, n_values = 0;
    if (!read_bytes(reader, magic, sizeof magic) || memcmp(magic, "GGUF", 4) != 0 || !read_u32(reader, &gguf->version))
        return err_set(err, ERR_FORMAT, "not a GGUF file");
    if (gguf->version && !(gguf->version & 0xffff)) return err_set(err, ERR_UNSUPPORTED, "a big-endian GGUF file");
    if (gguf->version != 2 && gguf->version != 3)
        return err_set(err, ERR_UNSUPPORTED, "GGUF version %" PRIu32 " (2 and 3 are supported)", gguf->version);
    if (!read_u64(reader, &n_tensors) || !read_u64(reader, &n_values) ||
        n_values > bytes_left(reader) / VALUE_BYTES_MIN || n_tensors > bytes_left(reader) / TENSOR_BYTES_MIN)
        return err_set(err, ERR_FORMAT, "the file is too short for its counts of keys and tensors");
    gguf->all_values.data = reader->data + reader->at;
    for (uint64_t i = 0; i < n_values; i++) {
        int rc = read_value(gguf, reader, err);
        if (rc) return rc;
    }
    gguf->all_values.n_bytes = (size_t)(reader->data + reader->at - gguf->all_values.data);
    return read_tensors(gguf, reader, n_tensors, err);
}

int gguf_open(struct gguf *out, const char *data, size_t n_bytes, struct err *err) {
    *out = (struct gguf){0};
    map_open(&out->keys, 64, false);
    map_open(&out->names, 64, false);
    struct reader reader = {.data = data, .n_bytes = n_bytes};
    int rc = read_file(out, &reader, err);
    if (rc) gguf_close(out);
    return rc;
}

void gguf_close(struct gguf *gguf) {
    vec_free(&gguf->values);
    vec_free(&gguf->tensors);
    map_close(&gguf->keys);
    map_close(&gguf->names);
    arena_close(&gguf->arena);
}

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key) {
    uint64_t index = 0;
    return map_get(&gguf->keys, key, strlen(key), &index) ? &gguf->values.items[index] : NULL;
}

const struct stored_tensor *gguf_tensor(const struct gguf *gguf, const char *name) {
    uint64_t index = 0;
    return map_get(&gguf->names, name, strlen(name), &index) ? &gguf->tensors.items[index] : NULL;
}

uint32_t gguf_format_number(const char *format_name) {
    const uint32_t n = sizeof tensor_types / sizeof *tensor_types;
    for (uint32_t i = 0; i < n; i++)
        if (tensor_types[i].name && strcmp(tensor_types[i].name, format_name) == 0) return i;
    assert(false);
    return n;
}

// Reads one integer of any type; false for other types and for what int64_t does not hold.
static bool load_integer(enum gguf_type type, const char *data, int64_t *out) {
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } v = {0};
    memcpy(&v, data, type_bytes[type]);
    switch (type) {
    case GGUF_U8:
        *out = v.u8;
        return true;
    case GGUF_I8:
        *out = v.i8;
        return true;
    case GGUF_U16:
        *out = v.u16;
        return true;
    case GGUF_I16:
        *out = v.i16;
        return true;
    case GGUF_U32:
        *out = v.u32;
        return true;
    case GGUF_I32:
        *out = v.i32;
        return true;
    case GGUF_I64:
        *out = v.i64;
        return true;
    case GGUF_U64:
        *out = (int64_t)v.u64;
        return v.u64 <= INT64_MAX;
    default:
        return false;
    }
}

static bool load_number(enum gguf_type type, const char *data, double *out) {
    float single = 0;
    int64_t integer = 0;
    uint64_t large = 0;
    switch (type) {
    case GGUF_STRING:
    case GGUF_ARRAY:
    case GGUF_TYPES:
        return false;
    case GGUF_F64:
        memcpy(out, data, sizeof *out);
        return true;
    case GGUF_F32:
        memcpy(&single, data, sizeof single);
        *out = (double)single;
        return true;
    case GGUF_BOOL:
        *out = *data;
        return true;
    case GGUF_U64:
        memcpy(&large, data, sizeof large);
        *out = (double)large;
        return true;
    default:
        load_integer(type, data, &integer);
        *out = (double)integer;
        return true;
    }
}

int gguf_get_int(const struct gguf *gguf, const char *key, int64_t min, int64_t max, int64_t *out, struct err *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) return 0;
    int64_t number = 0;
    if (value->is_array || value->type == GGUF_STRING || !load_integer(value->type, value->data, &number))
        return err_set(err, ERR_INVALID, "%s is not an integer", key);
    if (number < min || number > max)
        return err_set(err, ERR_INVALID, "%s is %" PRId64 ", not within %" PRId64 " and %" PRId64, key, number, min,
                       max);
    *out = number;
    return 0;
}

int gguf_get_double(const struct gguf *gguf, const char *key, double *out, struct err *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) return 0;
    if (value->is_array || value->type == GGUF_BOOL || !load_number(value->type, value->data, out))
        return err_set(err, ERR_INVALID, "%s is not a number", key);
    return 0;
}

int gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, struct err *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) return 0;
    if (value->is_array || value->type != GGUF_BOOL) return err_set(err, ERR_INVALID, "%s is not a bool", key);
    *out = *value->data != 0;
    return 0;
}

// The elements were checked when the file was opened.
static struct str_view load_string(const char *data) {
    uint64_t n_bytes = 0;
    memcpy(&n_bytes, data, sizeof n_bytes);
    return (struct str_view){data + sizeof n_bytes, (size_t)n_bytes};
}

int gguf_get_string(const struct gguf *gguf, const char *key, struct str_view *out, struct err *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) return 0;
    if (value->is_array || value->type != GGUF_STRING) return err_set(err, ERR_INVALID, "%s is not a string", key);
    *out = load_string(value->data);
    return 0;
}

int gguf_get_array(const struct gguf *gguf, const char *key, struct gguf_array *out, struct err *err) {
    *out = (struct gguf_array){0};
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) return 0;
    if (!value->is_array) return err_set(err, ERR_INVALID, "%s is not an array", key);
    *out = (struct gguf_array){.type = value->type, .count = value->count, .next = value->data};
    return 0;
}

bool gguf_array_next_string(struct gguf_array *array, struct str_view *out) {
    if (!array->count || array->type != GGUF_STRING) return false;
    *out = load_string(array->next);
    array->next = out->data + out->n_bytes;
    array->count--;
    return true;
}

bool gguf_array_next_number(struct gguf_array *array, double *out) {
    if (!array->count || !load_number(array->type, array->next, out)) return false;
    array->next += type_bytes[array->type];
    array->count--;
    return true;
}
