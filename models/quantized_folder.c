#include "models/quantized_folder.h"

#include "base/new_folder.h"
#include "models/folder.h"
#include "models/stored_tensor.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 1024, PIECE_BYTES = 1 << 16 };

// Beside the weights; what is not there is left out.
static const char *const copied_files[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
};

enum part { PART_COPY, PART_CODES, PART_SCALES, PART_SHAPE };

// A tensor of the new files.
struct new_tensor {
    char *name;
    const char *dtype;
    int item_bytes, n_dims;
    int64_t shape[STORED_DIMS_MAX];
    size_t n_bytes;
    enum part part;
    const struct stored_tensor *stored;
    const struct quantized_entry *entries; // [n_entries] whose rows it holds
    size_t n_entries;
};
typedef VEC_OF(struct new_tensor) new_tensor_vec;

struct writing {
    const struct model *model;
    struct quantized_entry *entries;
    size_t n_entries;
    struct folder source;
    struct new_folder folder;
    struct arena arena;
    VEC_OF(const char *) ignored; // modules that stay as they are
    uint64_t total_bytes;
    cJSON *weight_map;
};

static bool is_packed(const struct quantized *q) {
    return q->format == TENSOR_INT4 || (q->format == TENSOR_INT8 && q->group < q->n_cols);
}

static int value_bits(const struct quantized *q) {
    return q->format == TENSOR_INT4 ? 4 : 8;
}

// ------------------------------------------------------------------------------------------------------ which tensors

static const char *const weight_suffix = ".weight";

static bool has_weight_suffix(const char *name) {
    size_t n = strlen(name), m = strlen(weight_suffix);
    return n > m && strcmp(name + n - m, weight_suffix) == 0;
}

static struct new_tensor *add_tensor(struct writing *w, new_tensor_vec *tensors, const struct stored_tensor *stored,
                                     const char *suffix) {
    struct new_tensor tensor = {.name = arena_printf(&w->arena, "%s%s", stored->name, suffix), .stored = stored};
    vec_push(tensors, tensor);
    return &tensors->items[tensors->count - 1];
}

static void add_copy(struct writing *w, new_tensor_vec *tensors, const struct stored_tensor *stored) {
    struct new_tensor *t = add_tensor(w, tensors, stored, "");
    size_t n_values = 1;
    t->part = PART_COPY;
    t->dtype = stored->format_name;
    t->n_dims = stored->n_dims;
    for (int d = 0; d < t->n_dims; d++) {
        t->shape[d] = stored->shape[d];
        n_values *= (size_t)stored->shape[d];
    }
    t->n_bytes = stored->n_bytes;
    t->item_bytes = n_values ? (int)(t->n_bytes / n_values) : 1;
    if (t->n_dims != 2 || !has_weight_suffix(stored->name) || strstr(stored->name, "embed_tokens")) return;
    vec_push(&w->ignored, arena_copy_string(&w->arena, stored->name, strlen(stored->name) - strlen(weight_suffix)));
}

static void add_quantized(struct writing *w, new_tensor_vec *tensors, const struct stored_tensor *stored,
                          const struct quantized_entry *entries, size_t n) {
    const struct quantized *q = &entries->quantized;
    const bool packed = is_packed(q);
    const int64_t n_rows = stored->shape[0], n_codes = packed ? (int64_t)q->n_cols * value_bits(q) / 32 : q->n_cols;
    struct new_tensor *codes = add_tensor(w, tensors, stored, packed ? "_packed" : "");
    *codes = (struct new_tensor){.name = codes->name,
                                 .dtype = packed                    ? "I32"
                                          : q->format == TENSOR_FP8 ? "F8_E4M3"
                                                                    : "I8",
                                 .item_bytes = packed ? 4 : 1,
                                 .n_dims = 2,
                                 .shape = {n_rows, n_codes},
                                 .n_bytes = (size_t)(n_rows * n_codes) * (packed ? 4 : 1),
                                 .part = PART_CODES,
                                 .entries = entries,
                                 .n_entries = n};
    struct new_tensor *scales = add_tensor(w, tensors, stored, "_scale");
    *scales = (struct new_tensor){.name = scales->name,
                                  .dtype = q->scale_format == TENSOR_BF16 ? "BF16" : "F16",
                                  .item_bytes = 2,
                                  .n_dims = 2,
                                  .shape = {n_rows, q->n_groups},
                                  .n_bytes = (size_t)n_rows * (size_t)q->n_groups * 2,
                                  .part = PART_SCALES,
                                  .entries = entries,
                                  .n_entries = n};
    if (!packed) return;
    struct new_tensor *shape = add_tensor(w, tensors, stored, "_shape");
    *shape = (struct new_tensor){.name = shape->name,
                                 .dtype = "I64",
                                 .item_bytes = 8,
                                 .n_dims = 1,
                                 .shape = {2},
                                 .n_bytes = 16,
                                 .part = PART_SHAPE,
                                 .stored = stored};
}

// ------------------------------------------------------------------------------------------------------------ a file

static void write_codes(struct new_file *file, const struct quantized *q) {
    const size_t n = (size_t)q->n_rows * (size_t)q->n_cols; // a multiple of 2 where two share a byte
    uint8_t piece[PIECE_BYTES];
    for (size_t at = 0; at < n;) {
        size_t used = 0;
        for (; used < PIECE_BYTES && at < n; used++) {
            const uint8_t *codes = q->codes + at;
            if (q->format == TENSOR_INT4)
                piece[used] = (uint8_t)(codes[0] | codes[1] << 4), at += 2;
            else
                piece[used] = q->format == TENSOR_INT8 && !is_packed(q) ? codes[0] ^ 0x80 : codes[0], at++;
        }
        new_file_write(file, piece, used);
    }
}

static void write_tensor(struct new_file *file, const struct new_tensor *t) {
    if (t->part == PART_COPY) new_file_write(file, t->stored->data, t->n_bytes);
    if (t->part == PART_SHAPE) new_file_write(file, t->stored->shape, t->n_bytes);
    for (size_t i = 0; i < t->n_entries; i++) {
        const struct quantized *q = &t->entries[i].quantized;
        if (t->part == PART_CODES) write_codes(file, q);
        if (t->part == PART_SCALES)
            new_file_write(file, q->scales, (size_t)q->n_rows * (size_t)q->n_groups * sizeof *q->scales);
    }
}

static void append_header(struct str *header, const new_tensor_vec *tensors) {
    size_t at = 0;
    str_append_text(header, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (size_t i = 0; i < tensors->count; i++) {
        const struct new_tensor *t = &tensors->items[i];
        str_append_text(header, ", ");
        json_append_string(header, t->name, strlen(t->name));
        str_printf(header, ": {\"dtype\": \"%s\", \"shape\": [", t->dtype);
        for (int d = 0; d < t->n_dims; d++) str_printf(header, "%s%lld", d ? ", " : "", (long long)t->shape[d]);
        str_printf(header, "], \"data_offsets\": [%zu, %zu]}", at, at + t->n_bytes);
        at += t->n_bytes;
    }
    str_append_char(header, '}');
    while (header->n_bytes % 8) str_append_char(header, ' ');
}

// Wide items first, so that all are aligned; the names decide among equals.
static int compare_tensors(const void *a, const void *b) {
    const struct new_tensor *x = a, *y = b;
    return x->item_bytes != y->item_bytes ? y->item_bytes - x->item_bytes : strcmp(x->name, y->name);
}

static int write_file(struct writing *w, const char *name, new_tensor_vec *tensors, struct err *err) {
    qsort(tensors->items, tensors->count, sizeof *tensors->items, compare_tensors);
    struct new_file file;
    int rc = new_file_open(&file, &w->folder, name, err);
    if (rc) return rc;
    struct str header = STR_INIT;
    append_header(&header, tensors);
    uint64_t n_header = header.n_bytes;
    new_file_write(&file, &n_header, sizeof n_header);
    new_file_write(&file, header.data, header.n_bytes);
    str_close(&header);
    for (size_t i = 0; i < tensors->count; i++) {
        write_tensor(&file, &tensors->items[i]);
        w->total_bytes += tensors->items[i].n_bytes;
        cJSON_AddStringToObject(w->weight_map, tensors->items[i].name, name);
    }
    return new_file_close(&file, err);
}

static int write_tensors(struct writing *w, const char *name, struct err *err) {
    size_t n;
    const struct stored_tensor *stored = model_stored_tensors(w->model, &n);
    new_tensor_vec tensors = {0};
    for (size_t i = 0; i < n; i++) {
        if (strcmp(stored[i].file, name) != 0) continue;
        size_t n_entries;
        const struct quantized_entry *entries = quantized_entries_of(w->entries, w->n_entries, &stored[i], &n_entries);
        if (entries && stored[i].n_dims == 2)
            add_quantized(w, &tensors, &stored[i], entries, n_entries);
        else
            add_copy(w, &tensors, &stored[i]);
    }
    int rc = write_file(w, name, &tensors, err);
    vec_free(&tensors);
    return rc;
}

static int write_files(struct writing *w, struct err *err) {
    size_t n, n_files = 0;
    const struct stored_tensor *stored = model_stored_tensors(w->model, &n);
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) seen = strcmp(stored[j].file, stored[i].file) == 0;
        if (seen) continue;
        rc = write_tensors(w, stored[i].file, err);
        n_files++;
    }
    if (rc || n_files < 2) return rc;
    struct new_file file;
    rc = new_file_open(&file, &w->folder, "model.safetensors.index.json", err);
    if (rc) return rc;
    char *map = cJSON_Print(w->weight_map);
    struct str text = STR_INIT;
    str_printf(&text, "{\"metadata\": {\"total_size\": %llu}, \"weight_map\": %s}\n",
               (unsigned long long)w->total_bytes, map);
    new_file_write(&file, text.data, text.n_bytes);
    str_close(&text);
    cJSON_free(map);
    return new_file_close(&file, err);
}

// ------------------------------------------------------------------------------------------------------------- config

// What vLLM and transformers want to know of the weights, and of the activations where those are quantised too.
static cJSON *describe_values(const struct quantized *q, bool activations) {
    const bool by_group = is_packed(q);
    cJSON *values = cJSON_CreateObject();
    cJSON_AddNumberToObject(values, "num_bits", value_bits(q));
    cJSON_AddStringToObject(values, "type", q->format == TENSOR_FP8 ? "float" : "int");
    cJSON_AddBoolToObject(values, "symmetric", true);
    cJSON_AddStringToObject(values, "strategy", activations ? "token" : by_group ? "group" : "channel");
    if (by_group && !activations)
        cJSON_AddNumberToObject(values, "group_size", q->group);
    else
        cJSON_AddNullToObject(values, "group_size");
    cJSON_AddBoolToObject(values, "dynamic", activations);
    cJSON_AddNullToObject(values, "actorder");
    cJSON_AddNullToObject(values, "block_structure");
    return values;
}

static cJSON *describe(const struct writing *w) {
    const struct quantized *q = &w->entries->quantized;
    cJSON *root = cJSON_CreateObject(), *groups = cJSON_AddObjectToObject(root, "config_groups");
    cJSON *group = cJSON_AddObjectToObject(groups, "group_0");
    const char *linear = "Linear";
    bool head_known = false;
    cJSON_AddItemToObject(group, "targets", cJSON_CreateStringArray(&linear, 1));
    cJSON_AddItemToObject(group, "weights", describe_values(q, false));
    cJSON_AddItemToObject(group, "input_activations", is_packed(q) ? cJSON_CreateNull() : describe_values(q, true));
    cJSON_AddNullToObject(group, "output_activations");
    cJSON_AddStringToObject(root, "format",
                            is_packed(q)              ? "pack-quantized"
                            : q->format == TENSOR_FP8 ? "float-quantized"
                                                      : "int-quantized");
    cJSON *ignore = cJSON_AddArrayToObject(root, "ignore");
    for (size_t i = 0; i < w->ignored.count; i++) {
        cJSON_AddItemToArray(ignore, cJSON_CreateString(w->ignored.items[i]));
        head_known |= strcmp(w->ignored.items[i], "lm_head") == 0;
    }
    if (!head_known) cJSON_AddItemToArray(ignore, cJSON_CreateString("lm_head")); // a tied head is a module too
    cJSON_AddNullToObject(root, "kv_cache_scheme");
    cJSON_AddStringToObject(root, "quant_method", "compressed-tensors");
    cJSON_AddStringToObject(root, "quantization_status", "compressed");
    return root;
}

// The configuration as it is, with one more member at its end.
static int write_config(struct writing *w, struct err *err) {
    struct folder_file from;
    int rc = folder_file_open(&w->source, "config.json", &from, err);
    if (rc) return rc;
    size_t n = from.n_bytes;
    while (n > 0 && from.data[n - 1] != '}') n--; // it was read before: it is an object
    struct new_file file;
    rc = new_file_open(&file, &w->folder, "config.json", err);
    if (!rc) {
        cJSON *description = describe(w);
        char *text = cJSON_Print(description);
        new_file_write(&file, from.data, n - 1);
        new_file_write(&file, ", \"quantization_config\": ", strlen(", \"quantization_config\": "));
        new_file_write(&file, text, strlen(text));
        new_file_write(&file, "}\n", 2);
        cJSON_free(text);
        cJSON_Delete(description);
        rc = new_file_close(&file, err);
    }
    folder_file_close(&from);
    return rc;
}

static int copy_files(struct writing *w, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof copied_files / sizeof *copied_files; i++) {
        struct folder_file from;
        rc = folder_file_open_optional(&w->source, copied_files[i], &from, err);
        if (rc || !from.data) continue;
        struct new_file file;
        rc = new_file_open(&file, &w->folder, copied_files[i], err);
        if (!rc) {
            new_file_write(&file, from.data, from.n_bytes);
            rc = new_file_close(&file, err);
        }
        folder_file_close(&from);
    }
    return rc;
}

// ---------------------------------------------------------------------------------------------------------------- all

int quantized_folder_write(const struct model *model, struct quantized_entry *entries, size_t n_entries,
                           const char *out, struct err *err) {
    struct writing w = {.model = model, .entries = entries, .n_entries = n_entries};
    quantized_entries_sort(entries, n_entries);
    int rc = model_folder_open(model, &w.source, err);
    if (rc) return rc;
    rc = new_folder_open(&w.folder, out, err);
    if (!rc) {
        w.weight_map = cJSON_CreateObject();
        rc = write_files(&w, err);
        if (!rc) rc = write_config(&w, err);
        if (!rc) rc = copy_files(&w, err);
        if (!rc) rc = new_folder_finish(&w.folder, err);
        new_folder_close(&w.folder);
        cJSON_Delete(w.weight_map);
    }
    folder_close(&w.source);
    vec_free(&w.ignored);
    arena_close(&w.arena);
    return rc;
}
