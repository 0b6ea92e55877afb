#include "models/checkpoint_internal.h"

#include "base/json.h"
#include "base/number.h"
#include "base/rng.h"
#include "kernels/random_weights.h"
#include "models/gguf_blocks.h"
#include "models/safetensors.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SHARDS_MAX = 4096, INDEX_ELEMENTS_MAX = 4000000 };

static struct checkpoint *new_checkpoint(enum source kind, const char *path) {
    struct checkpoint *checkpoint = mem_alloc_zero(1, sizeof *checkpoint);
    checkpoint->kind = kind;
    checkpoint->path = arena_copy_string(&checkpoint->arena, path, strlen(path));
    map_open(&checkpoint->names, 256, false);
    return checkpoint;
}

void checkpoint_close(struct checkpoint *checkpoint) {
    if (!checkpoint) return;
    for (size_t i = 0; i < checkpoint->files.count; i++) folder_file_close(&checkpoint->files.items[i]);
    vec_free(&checkpoint->files);
    vec_free(&checkpoint->tensors);
    map_close(&checkpoint->names);
    free(checkpoint->used);
    arena_close(&checkpoint->arena);
    free(checkpoint);
}

static int add_names(struct checkpoint *checkpoint, size_t first, const char *file, struct err *err) {
    for (size_t i = first; i < checkpoint->tensors.count; i++) {
        const char *name = checkpoint->tensors.items[i].name;
        if (!map_put(&checkpoint->names, name, strlen(name), i))
            return err_set(err, ERR_FORMAT, "%s/%s: tensor \"%.100s\" is in another file too", checkpoint->path, file,
                           name);
    }
    return 0;
}

static int add_file(struct checkpoint *checkpoint, const struct folder *folder, const char *name, struct err *err) {
    struct folder_file file;
    int rc = folder_file_open(folder, name, &file, err);
    if (rc) return rc;
    vec_push(&checkpoint->files, file);
    // Reading ahead begins now and is over by the time that the first step needs the pages.
    checkpoint->mapped = file.map.data != NULL;
    if (file.map.data) madvise((void *)(uintptr_t)file.map.data, file.n_bytes, MADV_WILLNEED);
    size_t first = checkpoint->tensors.count;
    rc = safetensors_read(&checkpoint->tensors, &checkpoint->arena, file.data, file.n_bytes, err);
    if (rc) return err_prefix(err, "%s/%s", folder->path, name);
    const char *kept_name = arena_copy_string(&checkpoint->arena, name, strlen(name));
    for (size_t i = first; i < checkpoint->tensors.count; i++) checkpoint->tensors.items[i].file = kept_name;
    return add_names(checkpoint, first, name, err);
}

// Opens each file that the index names, once, and checks that every tensor of the index is in some file.
static int add_shards(struct checkpoint *checkpoint, const struct folder *folder, const cJSON *weight_map,
                      struct err *err) {
    struct map seen;
    map_open(&seen, 64, false);
    int rc = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, weight_map) {
        if (!cJSON_IsString(item)) {
            rc = err_set(err, ERR_FORMAT, "%s: weight_map holds something that is no file name", folder->path);
            break;
        }
        if (!map_put(&seen, item->valuestring, strlen(item->valuestring), 1)) continue;
        if (seen.count > SHARDS_MAX) rc = err_set(err, ERR_LIMIT, "%s: more than %d files", folder->path, SHARDS_MAX);
        if (!rc) rc = add_file(checkpoint, folder, item->valuestring, err);
        if (rc) break;
    }
    map_close(&seen);
    if (rc) return rc;
    cJSON_ArrayForEach(item, weight_map) {
        if (!checkpoint_has(checkpoint, item->string))
            return err_set(err, ERR_FORMAT, "%s/%s: no tensor \"%.100s\", which the index puts there", folder->path,
                           item->valuestring, item->string);
    }
    return 0;
}

static int add_indexed(struct checkpoint *checkpoint, const struct folder *folder, struct folder_file *index,
                       struct err *err) {
    struct json_limits limits = {.depth = 8, .elements = INDEX_ELEMENTS_MAX};
    cJSON *root = NULL;
    int rc = json_parse(&root, index->data ? index->data : "", index->n_bytes, &limits, err);
    if (rc) return err_prefix(err, "%s/model.safetensors.index.json", folder->path);
    const cJSON *weight_map = cJSON_GetObjectItemCaseSensitive(root, "weight_map");
    if (cJSON_IsObject(weight_map) && weight_map->child)
        rc = add_shards(checkpoint, folder, weight_map, err);
    else
        rc = err_set(err, ERR_FORMAT, "%s/model.safetensors.index.json: no weight_map", folder->path);
    cJSON_Delete(root);
    return rc;
}

static int add_folder(struct checkpoint *checkpoint, const struct folder *folder, struct err *err) {
    struct folder_file index;
    int rc = folder_file_open(folder, "model.safetensors.index.json", &index, err);
    if (!rc) {
        rc = add_indexed(checkpoint, folder, &index, err);
        folder_file_close(&index);
        return rc;
    }
    if (rc != ERR_NOT_FOUND) return rc;
    rc = add_file(checkpoint, folder, "model.safetensors", err);
    if (rc != ERR_NOT_FOUND) return rc;
    char name[256];
    rc = folder_find_suffix(folder, ".safetensors", "consolidated", name, err);
    return rc ? rc : add_file(checkpoint, folder, name, err);
}

int checkpoint_open_folder(struct checkpoint **out, const struct folder *folder, struct err *err) {
    struct checkpoint *checkpoint = new_checkpoint(SOURCE_FILES, folder->path);
    int rc = add_folder(checkpoint, folder, err);
    if (rc) {
        checkpoint_close(checkpoint);
        return rc;
    }
    checkpoint->used = mem_alloc_zero(checkpoint->tensors.count, sizeof *checkpoint->used);
    *out = checkpoint;
    return 0;
}

void checkpoint_open_gguf(struct checkpoint **out, const struct gguf *gguf, bool mapped, const char *path) {
    struct checkpoint *checkpoint = new_checkpoint(SOURCE_GGUF, path);
    checkpoint->mapped = mapped;
    for (size_t i = 0; i < gguf->tensors.count; i++) vec_push(&checkpoint->tensors, gguf->tensors.items[i]);
    int rc = add_names(checkpoint, 0, "", NULL);
    assert(rc == 0); // gguf_open refuses names that are there twice
    checkpoint->used = mem_alloc_zero(checkpoint->tensors.count, sizeof *checkpoint->used);
    *out = checkpoint;
}

void checkpoint_open_random(struct checkpoint **out, enum tensor_format format, uint64_t seed, const char *path) {
    *out = new_checkpoint(SOURCE_RANDOM, path);
    (*out)->random_format = format;
    (*out)->random_seed = seed;
}

bool checkpoint_is_random(const struct checkpoint *checkpoint) {
    return checkpoint->kind == SOURCE_RANDOM;
}

void checkpoint_expect_quantised(struct checkpoint *checkpoint, const struct quantization *quantization) {
    checkpoint->quantization = *quantization;
}

bool checkpoint_has(const struct checkpoint *checkpoint, const char *name) {
    uint64_t index = 0;
    return checkpoint->kind == SOURCE_RANDOM || map_get(&checkpoint->names, name, strlen(name), &index) ||
           checkpoint_is_quantised(checkpoint, name);
}

static void print_shape(struct str *out, const struct stored_tensor *tensor) {
    str_append_char(out, '[');
    for (int i = 0; i < tensor->n_dims; i++) str_printf(out, "%s%lld", i ? ", " : "", (long long)tensor->shape[i]);
    str_append_char(out, ']');
}

static bool is_plain(enum stored_format format) {
    return format <= STORED_BF16;
}

// Finds a tensor and holds it to the expectation, without the dimensions that are 0.
static int find_shape(struct checkpoint *checkpoint, const char *name, const int32_t shape[4],
                      const struct stored_tensor **out, struct err *err) {
    uint64_t index = 0;
    struct stored_tensor wanted = {0};
    for (int i = 0; i < 4; i++)
        if (shape[i]) wanted.shape[wanted.n_dims++] = shape[i];
    struct str expected = STR_INIT, found = STR_INIT;
    print_shape(&expected, &wanted);
    int rc = 0;
    const struct stored_tensor *tensor = NULL;
    if (map_get(&checkpoint->names, name, strlen(name), &index)) {
        tensor = &checkpoint->tensors.items[index];
        checkpoint->used[index] = true;
        print_shape(&found, tensor);
        if (strcmp(str_text(&found), str_text(&expected)) != 0)
            rc = err_set(err, ERR_FORMAT, "%s: tensor \"%s\": expected %s, found %s", checkpoint->path, name,
                         str_text(&expected), str_text(&found));
    } else {
        rc = err_set(err, ERR_FORMAT, "%s: expected a tensor \"%s\" %s, there is none", checkpoint->path, name,
                     str_text(&expected));
    }
    str_close(&expected);
    str_close(&found);
    if (!rc) *out = tensor;
    return rc;
}

// The same, in a format that holds weights.
static int find_tensor(struct checkpoint *checkpoint, const char *name, const int32_t shape[4],
                       const struct stored_tensor **out, struct err *err) {
    const struct stored_tensor *tensor = NULL;
    int rc = find_shape(checkpoint, name, shape, &tensor, err);
    if (rc) return rc;
    enum tensor_format form;
    if (!is_plain(tensor->format) && !gguf_blocks_form(tensor->format, &form))
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor \"%s\": the format %s is not supported (%s are)",
                       checkpoint->path, name, tensor->format_name,
                       checkpoint->kind == SOURCE_GGUF ? "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, "
                                                         "Q6_K, IQ4_NL, IQ4_XS and MXFP4"
                                                       : "F32, F16 and BF16");
    *out = tensor;
    return 0;
}

static void count(struct checkpoint *checkpoint, const struct tensor *tensor) {
    checkpoint->n_parameters += (uint64_t)tensor->n_rows * (uint64_t)tensor->n_cols;
    checkpoint->n_bytes += tensor_bytes(tensor);
}

static enum tensor_format tensor_format_of(enum stored_format format) {
    return format == STORED_F32 ? TENSOR_F32 : format == STORED_F16 ? TENSOR_F16 : TENSOR_BF16;
}

// n matrices [n_rows, n_cols] of one tensor, as kernels take them: where they are mapped, or as rows to be decoded.
// out describes the first.
static int bind_values(struct checkpoint *checkpoint, const char *name, int32_t n, struct tensor *out,
                       struct err *err) {
    if (n == 0 && checkpoint_is_quantised(checkpoint, name))
        return checkpoint_bind_quantised(checkpoint, name, out, err);
    const struct stored_tensor *tensor = NULL;
    const int32_t shape[4] = {n, out->n_rows, out->n_cols};
    int rc = find_tensor(checkpoint, name, shape, &tensor, err);
    if (rc) return rc;
    if (is_plain(tensor->format)) {
        out->format = tensor_format_of(tensor->format);
        out->data = tensor->data;
        return 0;
    }
    if ((int64_t)(n ? n : 1) * out->n_rows > INT32_MAX)
        return err_set(err, ERR_LIMIT, "%s: tensor \"%s\" has too many rows", checkpoint->path, name);
    gguf_blocks_form(tensor->format, &out->format);
    out->rows = gguf_blocks_open(&checkpoint->arena, tensor, out->n_cols, checkpoint->mapped);
    return 0;
}

static void bind_random(struct checkpoint *checkpoint, struct tensor *out) {
    out->format = checkpoint->random_format;
    out->random_key = rng_key(checkpoint->random_seed, checkpoint->n_random++, 0);
}

int checkpoint_matrix(struct checkpoint *checkpoint, const char *name, int32_t n_rows, int32_t n_cols,
                      struct tensor *out, struct err *err) {
    return checkpoint_matrices(checkpoint, name, 0, n_rows, n_cols, out, 0, err);
}

int checkpoint_matrices(struct checkpoint *checkpoint, const char *name, int32_t n, int32_t n_rows, int32_t n_cols,
                        struct tensor *out, size_t stride, struct err *err) {
    struct tensor first = {.format = TENSOR_F32, .n_rows = n_rows, .n_cols = n_cols};
    int rc = checkpoint->kind == SOURCE_RANDOM ? 0 : bind_values(checkpoint, name, n, &first, err);
    for (int32_t i = 0; !rc && i < (n ? n : 1); i++) {
        struct tensor *matrix = &out[(size_t)i * stride];
        *matrix = first;
        if (checkpoint->kind == SOURCE_RANDOM)
            bind_random(checkpoint, matrix);
        else if (first.rows)
            matrix->row_first = i * n_rows;
        else
            matrix->data = (const char *)first.data + (size_t)i * tensor_bytes(&first);
        count(checkpoint, matrix);
    }
    return rc;
}

int checkpoint_mxfp4(struct checkpoint *checkpoint, const char *name, const struct mxfp4_range *range, int32_t n,
                     int32_t n_rows, int32_t n_cols, struct tensor *out, size_t stride, struct err *err) {
    if (n_cols % MXFP4_GROUP)
        return err_set(err, ERR_FORMAT, "%s: \"%s\": %d inputs are not groups of %d", checkpoint->path, name, n_cols,
                       MXFP4_GROUP);
    const int32_t n_groups = n_cols / MXFP4_GROUP;
    const int32_t shape[4] = {n, n_rows * range->step, n_groups, MXFP4_GROUP / 2};
    const int32_t scales_shape[4] = {n, n_rows * range->step, n_groups};
    const struct stored_tensor *stored[2] = {NULL, NULL};
    char full[300];
    for (int i = 0; i < 2; i++) {
        snprintf(full, sizeof full, "%s_%s", name, i ? "scales" : "blocks");
        int rc = find_shape(checkpoint, full, i ? scales_shape : shape, &stored[i], err);
        if (rc) return rc;
        if (strcmp(stored[i]->format_name, "U8") != 0)
            return err_set(err, ERR_FORMAT, "%s: tensor \"%s\": expected U8, found %s", checkpoint->path, full,
                           stored[i]->format_name);
    }
    if ((int64_t)n * n_rows > INT32_MAX)
        return err_set(err, ERR_LIMIT, "%s: tensor \"%s\" has too many rows", checkpoint->path, full);
    const struct tensor_rows *rows = mxfp4_open(&checkpoint->arena, stored[0], stored[1], n * n_rows, n_cols, range);
    for (int32_t i = 0; i < n; i++) {
        out[(size_t)i * stride] = (struct tensor){
            .format = TENSOR_INT8, .n_rows = n_rows, .n_cols = n_cols, .rows = rows, .row_first = i * n_rows};
        count(checkpoint, &out[(size_t)i * stride]);
    }
    return 0;
}

static void convert_quantised(struct checkpoint *checkpoint, const struct stored_tensor *tensor, int32_t n,
                              float *out) {
    struct tensor matrix = {.n_rows = 1, .n_cols = n};
    gguf_blocks_form(tensor->format, &matrix.format);
    matrix.rows = gguf_blocks_open(&checkpoint->arena, tensor, n, false);
    const size_t n_groups = (size_t)tensor_groups(n);
    struct tensor_row row = {arena_alloc(&checkpoint->arena, n_groups * TENSOR_GROUP),
                             arena_alloc_zero(&checkpoint->arena, n_groups, sizeof(float)),
                             arena_alloc_zero(&checkpoint->arena, n_groups, sizeof(float))};
    tensor_rows_decode(&matrix, 0, 1, &row);
    tensor_row_values(&row, matrix.format, n, out);
}

static void convert_vector(struct checkpoint *checkpoint, const struct stored_tensor *tensor, int32_t n, float *out) {
    if (!is_plain(tensor->format)) {
        convert_quantised(checkpoint, tensor, n, out);
        return;
    }
    if (tensor->format == STORED_F32) {
        memcpy(out, tensor->data, (size_t)n * sizeof *out);
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, tensor->data + (size_t)i * sizeof bits, sizeof bits);
        out[i] = tensor->format == STORED_F16 ? f32_from_f16(bits) : f32_from_bf16(bits);
    }
}

static void draw_bias(uint64_t key, int32_t n, float *out) {
    for (int32_t i = 0; i < n; i++)
        out[i] = (float)(RANDOM_WEIGHTS_DEVIATION *
                         rng_normal_quantile((double)rng_uniform(key, (uint64_t)i) * 0.999 + 0.0005));
}

int checkpoint_vector(struct checkpoint *checkpoint, const char *name, int32_t n, const float **out, struct err *err) {
    return checkpoint_vectors(checkpoint, name, 0, n, out, err);
}

int checkpoint_vectors(struct checkpoint *checkpoint, const char *name, int32_t n_vectors, int32_t n_each,
                       const float **out, struct err *err) {
    const struct stored_tensor *tensor = NULL;
    const int32_t shape[4] = {n_vectors, n_each};
    int rc = checkpoint->kind == SOURCE_RANDOM ? 0 : find_tensor(checkpoint, name, shape, &tensor, err);
    if (rc) return rc;
    const int64_t n_values = (int64_t)(n_vectors ? n_vectors : 1) * n_each;
    if (n_values > INT32_MAX) return err_set(err, ERR_LIMIT, "%s: tensor \"%s\" is too large", checkpoint->path, name);
    const int32_t n = (int32_t)n_values;
    float *values = arena_alloc(&checkpoint->arena, (size_t)n * sizeof *values);
    if (tensor)
        convert_vector(checkpoint, tensor, n, values);
    else if (strstr(name, "bias") || strstr(name, "sinks"))
        draw_bias(rng_key(checkpoint->random_seed, checkpoint->n_random++, 0), n, values);
    else
        for (int32_t i = 0; i < n; i++) values[i] = 1;
    *out = values;
    count(checkpoint, &(struct tensor){.format = TENSOR_F32, .n_rows = 1, .n_cols = n});
    return 0;
}

static bool matches(const char *pattern, const char *name) {
    size_t n = strlen(pattern), m = strlen(name);
    if (pattern[0] == '*') return m >= n - 1 && strcmp(name + m - (n - 1), pattern + 1) == 0;
    if (pattern[n - 1] == '*') return strncmp(name, pattern, n - 1) == 0;
    return strcmp(name, pattern) == 0;
}

static bool is_ignored(const char *const *ignored, const char *name) {
    for (; *ignored; ignored++)
        if (matches(*ignored, name)) return true;
    return false;
}

int checkpoint_refuse_unused(const struct checkpoint *checkpoint, const char *const *ignored, struct err *err) {
    size_t n_unused = 0;
    const struct stored_tensor *first = NULL;
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct stored_tensor *tensor = &checkpoint->tensors.items[i];
        if (checkpoint->used[i] || is_ignored(ignored, tensor->name) || checkpoint_is_by_product(checkpoint, tensor))
            continue;
        if (!n_unused++) first = tensor;
    }
    if (!n_unused) return 0;
    struct str shape = STR_INIT;
    print_shape(&shape, first);
    int rc =
        err_set(err, ERR_UNSUPPORTED, "%s: %zu tensors that this architecture does not have, the first \"%.100s\" %s",
                checkpoint->path, n_unused, first->name, str_text(&shape));
    str_close(&shape);
    return rc;
}

void checkpoint_release(struct checkpoint *checkpoint) {
    for (size_t i = 0; i < checkpoint->files.count; i++) {
        const struct folder_file *file = &checkpoint->files.items[i];
        if (file->map.data) madvise((void *)(uintptr_t)file->map.data, file->n_bytes, MADV_DONTNEED);
    }
}

uint64_t checkpoint_parameters(const struct checkpoint *checkpoint) {
    return checkpoint->n_parameters;
}
uint64_t checkpoint_bytes(const struct checkpoint *checkpoint) {
    return checkpoint->n_bytes;
}

const struct stored_tensor *checkpoint_tensors(const struct checkpoint *checkpoint, size_t *n) {
    *n = checkpoint->tensors.count;
    return checkpoint->tensors.items;
}
