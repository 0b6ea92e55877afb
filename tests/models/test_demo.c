// The embedded demo model is complete and well formed: every file is there, JSON is valid, tensors fill their file.
#include "tests/test.h"

#include "base/json.h"
#include "models/demo/embedded.h"

#include <stdint.h>

static const struct embedded_file *find(const char *name) {
    size_t n;
    const struct embedded_file *files = demo_files(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(files[i].name, name) == 0) return &files[i];
    return NULL;
}

static cJSON *parse(const char *text, size_t n_bytes) {
    struct json_limits limits = JSON_LIMITS_FILE;
    struct err err = {0};
    cJSON *tree = NULL;
    if (json_parse(&tree, text, n_bytes, &limits, &err)) fail_msg("%s", err.text);
    return tree;
}

static void files_are_there_and_aligned(void **state) {
    (void)state;
    static const char *const names[] = {"config.json",           "generation_config.json",  "tokenizer.json",
                                        "tokenizer_config.json", "chat_template.jinja",     "model.safetensors",
                                        "draft/config.json",     "draft/model.safetensors", "heldout.txt"};
    size_t n;
    demo_files(&n);
    assert_int_equal(n, sizeof names / sizeof *names);
    for (size_t i = 0; i < n; i++) {
        const struct embedded_file *file = find(names[i]);
        if (!file) fail_msg("%s is missing", names[i]);
        assert_true(file->n_bytes > 0);
        assert_int_equal((uintptr_t)file->data % 64, 0);
    }
}

static void the_whole_fits_the_repository(void **state) {
    (void)state;
    size_t n, n_bytes = 0;
    const struct embedded_file *files = demo_files(&n);
    for (size_t i = 0; i < n; i++) n_bytes += files[i].n_bytes;
    assert_in_range(n_bytes, 11000000, 16000000);
}

static void json_is_valid(void **state) {
    (void)state;
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json", "draft/config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct embedded_file *file = find(names[i]);
        cJSON_Delete(parse(file->data, file->n_bytes));
    }
}

// Sums the bytes of all tensors; each must lie inside the data and be BF16.
static int64_t tensor_bytes(const cJSON *header, int64_t data_bytes) {
    int64_t sum = 0;
    for (const cJSON *tensor = header->child; tensor; tensor = tensor->next) {
        if (strcmp(tensor->string, "__metadata__") == 0) continue;
        struct err err = {0};
        const char *dtype = NULL;
        assert_int_equal(json_get_string(tensor, "dtype", &dtype, &err), 0);
        assert_string_equal(dtype, "BF16");
        int64_t elements = 1;
        const cJSON *n;
        cJSON_ArrayForEach(n, cJSON_GetObjectItemCaseSensitive(tensor, "shape")) elements *= (int64_t)n->valuedouble;
        const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(tensor, "data_offsets");
        int64_t begin = (int64_t)cJSON_GetArrayItem(offsets, 0)->valuedouble,
                end = (int64_t)cJSON_GetArrayItem(offsets, 1)->valuedouble;
        assert_int_equal(end - begin, 2 * elements);
        assert_in_range(end, 0, data_bytes);
        sum += end - begin;
    }
    return sum;
}

static void tensors_fill_their_files(void **state) {
    (void)state;
    static const char *const names[] = {"model.safetensors", "draft/model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        const struct embedded_file *file = find(names[i]);
        uint64_t header_bytes = 0;
        for (int b = 7; b >= 0; b--) header_bytes = header_bytes << 8 | (unsigned char)file->data[b];
        assert_in_range(header_bytes, 2, file->n_bytes - 8);
        cJSON *header = parse(file->data + 8, header_bytes);
        int64_t data_bytes = (int64_t)(file->n_bytes - 8 - header_bytes);
        assert_int_equal(tensor_bytes(header, data_bytes), data_bytes);
        cJSON_Delete(header);
    }
}

static void draft_speaks_the_same_vocabulary(void **state) {
    (void)state;
    int64_t sizes[2] = {0};
    static const char *const names[] = {"config.json", "draft/config.json"};
    for (size_t i = 0; i < 2; i++) {
        const struct embedded_file *file = find(names[i]);
        cJSON *config = parse(file->data, file->n_bytes);
        struct err err = {0};
        assert_int_equal(json_get_int(config, "vocab_size", 1, 1 << 20, &sizes[i], &err), 0);
        cJSON_Delete(config);
    }
    assert_int_equal(sizes[0], sizes[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_there_and_aligned),
        cmocka_unit_test(the_whole_fits_the_repository),
        cmocka_unit_test(json_is_valid),
        cmocka_unit_test(tensors_fill_their_files),
        cmocka_unit_test(draft_speaks_the_same_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
