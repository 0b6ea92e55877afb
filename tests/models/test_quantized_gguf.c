// A GGUF file that is written quantised holds the quantised matrices, and all else as it was.
#include "tests/test.h"

#include "base/file_map.h"
#include "kernels/offline.h"
#include "models/gguf.h"
#include "models/model.h"
#include "models/quantized_gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define GOLDEN TEST_SOURCE_DIR "/tests/golden/"
enum { COLUMNS_MAX = 1024 };

struct written {
    struct model *from, *to;
    struct quantized_entry *entries;
    size_t n_entries;
    char folder[64], path[80];
};

static struct model *open_model(const char *path) {
    struct model *model = NULL;
    struct err err = {0};
    if (model_open(&model, &(struct model_options){.path = path}, &err)) fail_msg("%s", err.text);
    return model;
}

static void write_quantised(struct written *w, const char *name, enum tensor_format format) {
    const struct quantizer_options how = {QUANTIZER_NEAREST, format, TENSOR_GROUP, TENSOR_F16};
    char path[512];
    struct pool *pool;
    struct err err = {0};
    snprintf(path, sizeof path, GOLDEN "%s/model.gguf", name);
    *w = (struct written){.from = open_model(path), .folder = "/tmp/optima-test-XXXXXX"};
    w->entries = calloc(1000, sizeof *w->entries);
    assert_int_equal(pool_open(&pool, 1, &err), 0);
    const struct model_spec *spec = &w->from->spec;
    for (int32_t i = 0; i < spec->n_layers; i++) {
        const struct tensor *matrix;
        for (size_t m = 0; (matrix = layer_matrix(spec, &spec->layers[i], m)); m++) {
            if (matrix == &spec->layers[i].router || matrix->n_cols % TENSOR_GROUP) continue;
            struct quantized_entry *entry = &w->entries[w->n_entries++];
            entry->matrix = matrix;
            quantizer_run(&entry->quantized, matrix, &how, NULL, pool, offline_kernels());
        }
    }
    pool_close(pool);
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->path, sizeof w->path, "%s/out.gguf", w->folder);
    if (quantized_gguf_write(w->from, w->entries, w->n_entries, w->path, &err)) fail_msg("%s", err.text);
    w->to = open_model(w->path);
}

static void written_close(struct written *w) {
    for (size_t i = 0; i < w->n_entries; i++) quantized_free(&w->entries[i].quantized);
    free(w->entries);
    model_close(w->from), model_close(w->to);
    unlink(w->path);
    assert_int_equal(rmdir(w->folder), 0); // nothing else was left there
}

static const struct quantized *find(const struct written *w, const struct tensor *matrix) {
    for (size_t i = 0; i < w->n_entries; i++)
        if (w->entries[i].matrix == matrix) return &w->entries[i].quantized;
    return NULL;
}

static void check_matrices(const struct written *w, enum tensor_format format) {
    int n_quantised = 0, n_left = 0;
    for (int32_t i = 0; i < w->from->spec.n_layers; i++) {
        const struct tensor *old, *new;
        for (size_t m = 0; (old = layer_matrix(&w->from->spec, &w->from->spec.layers[i], m)); m++) {
            const struct quantized *quantized = find(w, old);
            new = layer_matrix(&w->to->spec, &w->to->spec.layers[i], m);
            assert_int_equal(new->format, quantized ? format : old->format);
            assert_true(old->n_cols <= COLUMNS_MAX);
            for (int32_t row = 0; row < old->n_rows; row++) {
                float expected[COLUMNS_MAX], got[COLUMNS_MAX];
                tensor_values(new, row, got);
                if (quantized)
                    quantized_values(quantized, row, expected);
                else
                    tensor_values(old, row, expected);
                assert_memory_equal(expected, got, (size_t)old->n_cols * sizeof *got);
            }
            n_quantised += quantized != NULL, n_left += !quantized;
        }
    }
    assert_true(n_quantised > 0 && n_left > 0);
}

static void check_values(const struct written *w, uint32_t file_type) {
    struct file_map old_file, new_file;
    struct gguf old, new;
    struct err err = {0};
    assert_int_equal(file_map_open(&old_file, w->from->path, &err), 0);
    assert_int_equal(file_map_open(&new_file, w->path, &err), 0);
    assert_int_equal(gguf_open(&old, old_file.data, old_file.n_bytes, &err), 0);
    assert_int_equal(gguf_open(&new, new_file.data, new_file.n_bytes, &err), 0);
    int64_t number = 0;
    assert_int_equal(gguf_get_int(&new, "general.quantization_version", 0, 9, &number, &err), 0);
    assert_int_equal(number, 2);
    assert_int_equal(gguf_get_int(&new, "general.file_type", 0, 99, &number, &err), 0);
    assert_true(number == file_type || !gguf_find(&old, "general.file_type"));
    const struct str_view all = old.all_values;
    const struct gguf_value *type = gguf_find(&old, "general.file_type");
    for (size_t i = 0; i < all.n_bytes; i++)
        if (!type || i < (size_t)(type->data - all.data) || i >= (size_t)(type->data - all.data) + 4)
            assert_int_equal(all.data[i], new.all_values.data[i]);
    gguf_close(&old), gguf_close(&new);
    file_map_close(&old_file), file_map_close(&new_file);
}

static void matrices_are_the_quantised_ones_and_all_else_stays(void **state) {
    (void)state;
    static const char *const names[] = {"mixtral", "qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int is_int4 = 0; is_int4 < 2; is_int4++) {
            struct written w;
            write_quantised(&w, names[i], is_int4 ? TENSOR_INT4 : TENSOR_INT8);
            check_matrices(&w, is_int4 ? TENSOR_INT4 : TENSOR_INT8);
            check_values(&w, is_int4 ? 2 : 7);
            struct err err = {0};
            assert_int_equal(quantized_gguf_write(w.from, w.entries, w.n_entries, w.path, &err), ERR_INVALID);
            assert_non_null(strstr(err.text, "exists"));
            written_close(&w);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(matrices_are_the_quantised_ones_and_all_else_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
