#include "models/safetensors.h"

#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// The limit of the reference implementation; a header of a large mixture-of-experts model takes some 10 MB.
enum { HEADER_BYTES_MAX = 100000000, ELEMENTS_MAX = 4000000 };

static const struct dtype {
    const char *name;
    int n_bits;
    enum stored_format format;
} dtypes[] = {
    {"F32", 32, STORED_F32},
    {"F16", 16, STORED_F16},
    {"BF16", 16, STORED_BF16},
    {"BOOL", 8, STORED_OTHER},
    {"U8", 8, STORED_OTHER},
    {"I8", 8, STORED_I8},
    {"F8_E5M2", 8, STORED_OTHER},
    {"F8_E4M3", 8, STORED_F8_E4M3},
    {"F8_E8M0", 8, STORED_OTHER},
    {"F8_E4M3FNUZ", 8, STORED_OTHER},
    {"F8_E5M2FNUZ", 8, STORED_OTHER},
    {"I16", 16, STORED_OTHER},
    {"U16", 16, STORED_OTHER},
    {"I32", 32, STORED_I32},
    {"U32", 32, STORED_OTHER},
    {"C64", 64, STORED_OTHER},
    {"F64", 64, STORED_OTHER},
    {"I64", 64, STORED_I64},
    {"U64", 64, STORED_OTHER},
    {"F4", 4, STORED_OTHER},
    {"F6_E2M3", 6, STORED_OTHER},
    {"F6_E3M2", 6, STORED_OTHER},
};

static const struct dtype *find_dtype(const char *name) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    return NULL;
}

// An integer from 0 to 2^53, which a double holds exactly.
static bool item_size(const cJSON *item, size_t *out) {
    if (!cJSON_IsNumber(item)) return false;
    double value = item->valuedouble;
    if (!(value >= 0 && value <= 0x1p53) || value != floor(value)) return false;
    *out = (size_t)value;
    return true;
}

static int read_shape(struct stored_tensor *tensor, const cJSON *shape, size_t *n_elements, struct err *err) {
    if (!cJSON_IsArray(shape)) return err_set(err, ERR_FORMAT, "tensor \"%s\" has no shape", tensor->name);
    size_t product = 1;
    const cJSON *item;
    cJSON_ArrayForEach(item, shape) {
        size_t dim = 0;
        if (tensor->n_dims == STORED_DIMS_MAX)
            return err_set(err, ERR_FORMAT, "tensor \"%s\" has more than %d dimensions", tensor->name, STORED_DIMS_MAX);
        if (!item_size(item, &dim) || !size_mul(product, dim, &product))
            return err_set(err, ERR_FORMAT, "tensor \"%s\" has an impossible shape", tensor->name);
        tensor->shape[tensor->n_dims++] = (int64_t)dim;
    }
    *n_elements = product;
    return 0;
}

static int read_entry(struct stored_tensor *tensor, const cJSON *entry, const char *buffer, size_t buffer_bytes,
                      struct err *err) {
    const cJSON *dtype_item = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
    const struct dtype *dtype = cJSON_IsString(dtype_item) ? find_dtype(dtype_item->valuestring) : NULL;
    if (!dtype) return err_set(err, ERR_FORMAT, "tensor \"%s\" has an unknown dtype", tensor->name);
    tensor->format = dtype->format;
    tensor->format_name = dtype->name;
    size_t n_elements = 0, n_bits = 0;
    int rc = read_shape(tensor, cJSON_GetObjectItemCaseSensitive(entry, "shape"), &n_elements, err);
    if (rc) return rc;
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    size_t begin = 0, end = 0;
    if (cJSON_GetArraySize(offsets) != 2 || !item_size(cJSON_GetArrayItem(offsets, 0), &begin) ||
        !item_size(cJSON_GetArrayItem(offsets, 1), &end) || begin > end || end > buffer_bytes)
        return err_set(err, ERR_FORMAT, "tensor \"%s\" does not lie within the file", tensor->name);
    if (!size_mul(n_elements, (size_t)dtype->n_bits, &n_bits) || n_bits % 8 || n_bits / 8 != end - begin)
        return err_set(err, ERR_FORMAT, "tensor \"%s\" has %zu bytes, its shape and dtype ask for %zu", tensor->name,
                       end - begin, n_bits / 8);
    tensor->data = buffer + begin;
    tensor->n_bytes = end - begin;
    return 0;
}

static int compare_places(const void *a, const void *b) {
    const struct stored_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

// Tensors in the order of their places must follow each other without a hole and fill the buffer.
static int check_places(struct stored_tensor *tensors, size_t count, const char *buffer, size_t buffer_bytes,
                        struct err *err) {
    if (count) qsort(tensors, count, sizeof *tensors, compare_places);
    const char *expected = buffer;
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].data != expected)
            return err_set(err, ERR_FORMAT, "tensor \"%s\" overlaps another or leaves a hole", tensors[i].name);
        expected += tensors[i].n_bytes;
    }
    if ((size_t)(expected - buffer) != buffer_bytes)
        return err_set(err, ERR_FORMAT, "the tensors take %zu bytes, the file has %zu for them",
                       (size_t)(expected - buffer), buffer_bytes);
    return 0;
}

int safetensors_read(stored_tensor_vec *out, struct arena *arena, const char *data, size_t n_bytes, struct err *err) {
    uint64_t header_bytes = 0;
    if (n_bytes >= 8) memcpy(&header_bytes, data, 8);
    if (n_bytes < 8 || header_bytes > n_bytes - 8 || header_bytes > HEADER_BYTES_MAX || !header_bytes || data[8] != '{')
        return err_set(err, ERR_FORMAT, "not a safetensors file (no header of plausible length)");
    const char *buffer = data + 8 + header_bytes;
    size_t buffer_bytes = n_bytes - 8 - (size_t)header_bytes, first = out->count;
    struct json_limits limits = {.depth = 4, .elements = ELEMENTS_MAX};
    cJSON *header = NULL;
    int rc = json_parse(&header, data + 8, (size_t)header_bytes, &limits, err);
    if (rc) return err_prefix(err, "header");
    const cJSON *entry;
    cJSON_ArrayForEach(entry, header) {
        if (strcmp(entry->string, "__metadata__") == 0) continue;
        struct stored_tensor tensor = {.name = arena_copy_string(arena, entry->string, strlen(entry->string))};
        rc = read_entry(&tensor, entry, buffer, buffer_bytes, err);
        if (rc) break;
        vec_push(out, tensor);
    }
    if (!rc) rc = check_places(out->items ? out->items + first : NULL, out->count - first, buffer, buffer_bytes, err);
    if (rc) out->count = first;
    cJSON_Delete(header);
    return rc;
}
