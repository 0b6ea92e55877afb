// Checkpoints in every quantised form hold the values that their own formulas give (tests/golden/make_checkpoints.py),
// and what does not fit together is refused with the tensor, what was expected and what is there.
#include "tests/test.h"

#include "base/file_map.h"
#include "base/json.h"
#include "base/log.h"
#include "models/model.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECKPOINTS TEST_SOURCE_DIR "/tests/golden/quantised"

static void model_path(const char *name, char out[512]) {
    snprintf(out, 512, CHECKPOINTS "/%s/model.gguf", name);
    if (access(out, R_OK) != 0) snprintf(out, 512, CHECKPOINTS "/%s", name);
}

static struct model *open_checkpoint(const char *name) {
    char path[512];
    struct model *model = NULL;
    struct err err = {0};
    model_path(name, path);
    if (model_open(&model, &(struct model_options){.path = path}, &err)) fail_msg("%s", err.text);
    return model;
}

// All rows of a matrix times p[k] = (37 k mod 101 - 50) / 50, against what the script computed. tolerance: of the
// largest product.
static void check_matrix(const struct tensor *matrix, const cJSON *expected, const char *what, double tolerance) {
    const size_t n_groups = (size_t)tensor_groups(matrix->n_cols);
    struct tensor_row rows[TENSOR_ROWS_MAX];
    float *values = malloc((size_t)matrix->n_cols * sizeof *values);
    for (int i = 0; i < TENSOR_ROWS_MAX; i++)
        rows[i] = (struct tensor_row){malloc(n_groups * TENSOR_GROUP), malloc(n_groups * sizeof(float)),
                                      malloc(n_groups * sizeof(float))};
    assert_int_equal(cJSON_GetArraySize(expected), matrix->n_rows);
    double largest = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, expected) largest = fmax(largest, fabs(item->valuedouble));
    item = expected->child;
    for (int32_t first = 0; first < matrix->n_rows; first += TENSOR_ROWS_MAX) {
        int32_t n = matrix->n_rows - first < TENSOR_ROWS_MAX ? matrix->n_rows - first : TENSOR_ROWS_MAX;
        tensor_rows_decode(matrix, first, n, rows);
        for (int32_t i = 0; i < n; i++, item = item->next) {
            double sum = 0;
            tensor_row_values(&rows[i], matrix->format, matrix->n_cols, values);
            for (int32_t k = 0; k < matrix->n_cols; k++) sum += (double)values[k] * (k * 37 % 101 - 50) / 50;
            if (!(fabs(sum - item->valuedouble) <= tolerance * largest))
                fail_msg("%s, row %d: %g, expected %g", what, first + i, sum, item->valuedouble);
        }
    }
    for (int i = 0; i < TENSOR_ROWS_MAX; i++) free(rows[i].codes), free(rows[i].scales), free(rows[i].offsets);
    free(values);
}

static void check_checkpoint(const char *name) {
    struct model *model = open_checkpoint(name);
    const struct layer_spec *layer = &model->spec.layers[0];
    const struct tensor *const matrices[] = {&layer->wq,   &layer->wk, &layer->wv,  &layer->wo,
                                             &layer->gate, &layer->up, &layer->down};
    char path[512], what[600];
    struct err err = {0};
    struct file_map map;
    snprintf(path, sizeof path, CHECKPOINTS "/%s/projections.json", name);
    if (file_map_open(&map, path, &err)) fail_msg("%s", err.text);
    struct json_limits limits = JSON_LIMITS_FILE;
    cJSON *tree, *item;
    if (json_parse(&tree, map.data, map.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    size_t i = 0;
    // 8-bit numbers of a group where its inputs were apart; sixteen of 32 values of Q6_K.
    double tolerance = strstr(name, "act_order") ? 1e-2 : strcmp(name, "gguf_k") == 0 ? 8e-3 : 1e-5;
    cJSON_ArrayForEach(item, tree) {
        snprintf(what, sizeof what, "%s: %s", name, item->string);
        assert_true(tensor_format_is_quantised(matrices[i]->format) && i < 7);
        check_matrix(matrices[i++], item, what, tolerance);
    }
    cJSON_Delete(tree);
    file_map_close(&map);
    model_close(model);
}

static void every_form_holds_its_values(void **state) {
    (void)state;
    DIR *dir = opendir(CHECKPOINTS);
    assert_non_null(dir);
    int n_checked = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        check_checkpoint(entry->d_name);
        n_checked++;
    }
    closedir(dir);
    assert_int_equal(n_checked, 16);
}

// No more bits than the file has, but for orders of inputs that groups of neighbours cannot follow.
static void forms_keep_their_bits(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum tensor_format format; // of q
    } rows[] = {
        {"awq", TENSOR_INT4_OFFSET},          {"gptq", TENSOR_INT4_OFFSET},        {"gptq_symmetric", TENSOR_INT4},
        {"gptq_v2_act_order", TENSOR_INT8},   {"gptq_8_bits", TENSOR_INT8_OFFSET}, {"packed", TENSOR_INT4},
        {"packed_zeros", TENSOR_INT4_OFFSET}, {"packed_8_bits", TENSOR_INT8},      {"int8", TENSOR_INT8},
        {"int8_zeros", TENSOR_INT8_OFFSET},   {"fp8_channels", TENSOR_FP8},        {"fp8_tensors", TENSOR_FP8},
        {"fp8_blocks", TENSOR_FP8},           {"gguf_small", TENSOR_INT4},         {"gguf_k", TENSOR_INT4_OFFSET}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model *model = open_checkpoint(rows[i].name);
        assert_string_equal(tensor_format_name(model->spec.layers[0].wq.format), tensor_format_name(rows[i].format));
        model_close(model);
    }
}

// ---------------------------------------------------------------------------------------------------- refusals

static char folder[] = "/tmp/optima-quantised-XXXXXX";

static void write_file(const char *name, const char *data, size_t n_bytes) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n_bytes, file), n_bytes);
    fclose(file);
}

// Replaces text in a copy of a file, with as many bytes, every time it is there.
static void copy_edited(const char *checkpoint, const char *name, const char *from, const char *to) {
    char path[512];
    struct err err = {0};
    struct file_map map;
    snprintf(path, sizeof path, CHECKPOINTS "/%s/%s", checkpoint, name);
    if (file_map_open(&map, path, &err)) fail_msg("%s", err.text);
    size_t n = from ? strlen(from) : 0, n_found = 0;
    char *data = malloc(map.n_bytes);
    memcpy(data, map.data, map.n_bytes);
    for (size_t i = 0; from && i + n <= map.n_bytes; i++)
        if (memcmp(data + i, from, n) == 0) memcpy(data + i, to, n), n_found++;
    if (from && (n_found == 0 || strlen(to) != n))
        fail_msg("%s: no \"%s\" to be replaced in %s", checkpoint, from, name);
    write_file(name, data, map.n_bytes);
    free(data);
    file_map_close(&map);
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"config.json", "model.safetensors"};
    char path[256];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    return 0;
}

static void what_does_not_fit_together_is_refused(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    static const struct {
        const char *checkpoint, *file, *from, *to;
        const char *said; // in the error
    } rows[] = {
        {"gptq", "config.json", "\"quant_method\": \"gptq\"", "\"quant_method\": \"hqqq\"", "quant_method \"hqqq\""},
        {"gptq", "config.json", "\"bits\": 4", "\"bits\": 3", "bits 3"},
        {"gptq", "config.json", "\"bits\": 4", "\"bits\": 8",
         "q_proj.qweight\": expected I32 [32, 128], found I32 [16"},
        {"gptq", "config.json", "\"group_size\": 32", "\"group_size\": 64", "q_proj.qzeros\": expected I32 [2, 16]"},
        {"gptq", "config.json", "\"group_size\": 32", "\"group_size\": 16", "group_size 16"},
        {"gptq", "model.safetensors", "q_proj.scales", "q_proj.scalez", "q_proj.scales\" F16 [4, 128], there is none"},
        {"gptq", "model.safetensors", "q_proj.g_idx", "q_proj.g_idy", "does not have"},
        {"awq", "config.json", "\"version\": \"gemm\"", "\"version\": \"gemv\"", "version \"gemv\""},
        {"awq", "config.json", "\"bits\": 4", "\"bits\": 8", "8 bits"},
        {"packed", "config.json", "pack-quantized", "marlin-24-xxx!", "marlin-24"},
        {"packed", "config.json", "\"num_bits\": 4", "\"num_bits\": 8", "expected I32 [128, 32], found I32 [128, 16]"},
        {"packed", "config.json", "\"type\": \"int\"", "\"type\": \"cat\"", "type \"cat\""},
        {"packed", "model.safetensors", "weight_scale", "weight_scald", "weight_scale\" BF16 [128, 1], there is none"},
        {"fp8_blocks", "config.json", "\"fmt\": \"e4m3\"", "\"fmt\": \"e5m2\"", "fmt \"e5m2\""},
        {"fp8_channels", "config.json", "\"strategy\": \"channel\"", "\"strategy\": \"chanted\"",
         "strategy \"chanted\""},
        {"fp8_channels", "model.safetensors", "k_proj.weight_scale", "k_proj.weight_scalf", "k_proj.weight_scale"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static const char *const files[] = {"config.json", "model.safetensors"};
        for (size_t f = 0; f < 2; f++) {
            bool edited = strcmp(files[f], rows[i].file) == 0;
            copy_edited(rows[i].checkpoint, files[f], edited ? rows[i].from : NULL, rows[i].to);
        }
        struct model *model = NULL;
        struct err err = {0};
        int rc = model_open(&model, &(struct model_options){.path = folder}, &err);
        if (rc == 0) fail_msg("%s with \"%s\" was accepted", rows[i].checkpoint, rows[i].to);
        if (!strstr(err.text, rows[i].said)) fail_msg("\"%s\" does not say \"%s\"", err.text, rows[i].said);
    }
}

int main(void) {
    log_level_set(LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_holds_its_values),
        cmocka_unit_test(forms_keep_their_bits),
        cmocka_unit_test_teardown(what_does_not_fit_together_is_refused, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
