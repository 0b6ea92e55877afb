// GGUF files: values come out as they were written, and no byte of a file can do harm.
#include "tests/test.h"

#include "base/file_map.h"
#include "base/log.h"
#include "models/gguf_blocks.h"
#include "tests/models/gguf_builder.h"

#include <math.h>

// A copy that ends exactly at its last byte, so that the sanitizer sees a read too far.
static int exercise_exact(const char *bytes, size_t n_bytes, struct err *err) {
    char *exact = mem_alloc(n_bytes);
    memcpy(exact, bytes, n_bytes);
    int rc = exercise_gguf(exact, n_bytes, err);
    free(exact);
    return rc;
}

static void tiny_file_is_read(void **state) {
    (void)state;
    struct gguf_builder b;
    build_tiny_gguf(&b);
    struct gguf gguf;
    struct err err = {0};
    assert_int_equal(gguf_open(&gguf, b.bytes.data, b.bytes.n_bytes, &err), 0);
    assert_int_equal(gguf.version, 3);
    int64_t integer = -7;
    assert_int_equal(gguf_get_int(&gguf, "llama.block_count", 0, 10, &integer, &err), 0);
    assert_int_equal(integer, 1);
    assert_int_equal(gguf_get_int(&gguf, "absent", 0, 10, &integer, &err), 0);
    assert_int_equal(integer, 1);
    assert_int_equal(gguf_get_int(&gguf, "llama.context_length", 0, 10, &integer, &err), ERR_INVALID);
    assert_int_equal(gguf_get_int(&gguf, "general.architecture", 0, 10, &integer, &err), ERR_INVALID);
    double number = 0;
    assert_int_equal(gguf_get_double(&gguf, "llama.rope.freq_base", &number, &err), 0);
    assert_true(number == 10000);
    struct str_view text = {0};
    assert_int_equal(gguf_get_string(&gguf, "general.architecture", &text, &err), 0);
    assert_true(str_view_equal(text, STR_VIEW("llama")));
    struct gguf_array array;
    assert_int_equal(gguf_get_array(&gguf, "tokenizer.ggml.tokens", &array, &err), 0);
    static const char *const tokens[] = {"<unk>", "a", "</s>", ""};
    for (int i = 0; i < 4; i++) {
        assert_true(gguf_array_next_string(&array, &text));
        assert_true(str_view_equal(text, str_view_of(tokens[i])));
    }
    assert_false(gguf_array_next_string(&array, &text));
    const struct stored_tensor *down = gguf_tensor(&gguf, "blk.0.ffn_down.weight");
    assert_non_null(down);
    assert_int_equal(down->shape[0], 32); // outermost first
    assert_int_equal(down->shape[1], 64);
    assert_ptr_equal(down->data + down->n_bytes, b.bytes.data + b.bytes.n_bytes);
    assert_null(gguf_tensor(&gguf, "blk.1.ffn_down.weight"));
    gguf_close(&gguf);
    assert_int_equal(exercise_exact(b.bytes.data, b.bytes.n_bytes, &err), 0);
    builder_close(&b);
}

static void impossible_files_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *label; // the field that is changed, in all its places together unless `place` >= 0
        int place;
        uint64_t value;
        const char *expected; // part of the error
    } rows[] = {
        {"version", 0, 1, "GGUF version 1"},
        {"version", 0, 0x03000000, "big-endian"},
        {"n_tensors", 0, UINT64_MAX, "too short for its counts"},
        {"n_values", 0, UINT64_MAX, "too short for its counts"},
        {"n_tensors", 0, 12, "tensor 11"},
        {"general.alignment", 0, 0, "general.alignment"},
        {"general.alignment", 0, 48, "not a power of two"},
        {"general.alignment", 0, 1 << 17, "general.alignment"},
        {"key length", 3, 65536, "key 3"},
        {"type", 2, 13, "unknown type 13"},
        {"element type", 0, GGUF_ARRAY, "unknown type 9"},
        {"array count", 0, UINT64_MAX, "malformed or does not lie"},
        {"n_dims", 0, 0, "0 dimensions"},
        {"n_dims", 0, 5, "5 dimensions"},
        {"ne0", 0, 0, "impossible shape"},
        {"ne1", 0, (uint64_t)1 << 63, "impossible shape"},
        {"ne1", 0, (uint64_t)1 << 59, "impossible shape"},
        {"ne0", 3, 33, "impossible in Q8_0"},
        {"format", 0, 4, "unknown format 4"},
        {"format", 0, 99, "unknown format 99"},
        {"offset", 1, 32, "not where the one before it ends"},
        {"offset", 1, UINT64_MAX - 31, "not where the one before it ends"},
        {"name length", 0, 256, "name of tensor 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gguf_builder b;
        build_tiny_gguf(&b);
        int place = 0;
        for (size_t f = 0; f < b.fields.count; f++) {
            const struct gguf_field *field = &b.fields.items[f];
            if (strcmp(field->label, rows[i].label) == 0 && place++ == rows[i].place)
                memcpy(b.bytes.data + field->at, &rows[i].value, field->width);
        }
        assert_true(place > rows[i].place);
        struct err err = {0};
        int rc = exercise_exact(b.bytes.data, b.bytes.n_bytes, &err);
        if (!rc || !strstr(err.text, rows[i].expected)) fail_msg("row %zu: \"%s\"", i, err.text);
        builder_close(&b);
    }
}

static void names_are_unique(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *expected; // names of equal length
    } rows[] = {{"llama.block_count", "general.alignment", "is there twice"},
                {"blk.0.ffn_up.weight", "blk.0.attn_q.weight", "has the name of another"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gguf_builder b;
        build_tiny_gguf(&b);
        char *at = memmem(b.bytes.data, b.bytes.n_bytes, rows[i].from, strlen(rows[i].from));
        memcpy(at, rows[i].to, strlen(rows[i].to));
        struct err err = {0};
        assert_int_equal(exercise_exact(b.bytes.data, b.bytes.n_bytes, &err), ERR_FORMAT);
        assert_non_null(strstr(err.text, rows[i].expected));
        builder_close(&b);
    }
}

static void every_field_may_hold_anything(void **state) {
    (void)state;
    static const uint64_t values[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
    struct gguf_builder b;
    build_tiny_gguf(&b);
    int n_refused = 0;
    for (size_t f = 0; f < b.fields.count; f++) {
        const struct gguf_field *field = &b.fields.items[f];
        char original[8];
        memcpy(original, b.bytes.data + field->at, field->width);
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            memcpy(b.bytes.data + field->at, &values[v], field->width);
            struct err err = {0};
            int rc = exercise_exact(b.bytes.data, b.bytes.n_bytes, &err);
            assert_true(rc == 0 || err.text[0]); // a refusal says why
            n_refused += rc != 0;
        }
        memcpy(b.bytes.data + field->at, original, field->width);
    }
    assert_true(n_refused > 100);
    builder_close(&b);
}

static void truncated_files_are_refused(void **state) {
    (void)state;
    struct gguf_builder b;
    build_tiny_gguf(&b);
    struct err err = {0};
    for (size_t n = 0; n < b.bytes.n_bytes; n++) assert_int_not_equal(exercise_exact(b.bytes.data, n, &err), 0);
    builder_close(&b);
    SKIP_WITHOUT_SHARED("data/models/stories260K/stories260K.q4_0.gguf");
    struct file_map map;
    assert_int_equal(file_map_open(&map, TEST_SHARED_DIR "/data/models/stories260K/stories260K.q4_0.gguf", &err), 0);
    for (size_t n = 0; n < map.n_bytes; n += 97) {
        struct gguf gguf;
        assert_int_not_equal(gguf_open(&gguf, map.data, n, &err), 0);
    }
    file_map_close(&map);
}

// Keys and tensors of real files, against what gguf-py prints for them.
static void vocabulary_files_open(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/tokenizers/gguf-vocab");
    static const struct {
        const char *file;
        size_t n_tokens;
    } rows[] = {
        {"ggml-vocab-gpt-2.gguf", 50257}, {"ggml-vocab-llama-bpe.gguf", 128256}, {"ggml-vocab-llama-spm.gguf", 32000}};
    int n_seen = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/data/tokenizers/gguf-vocab/%s", TEST_SHARED_DIR, rows[i].file);
        struct file_map map;
        struct err err = {0};
        if (file_map_open(&map, path, &err)) continue;
        struct gguf gguf;
        struct gguf_array tokens;
        if (gguf_open(&gguf, map.data, map.n_bytes, &err)) fail_msg("%s: %s", rows[i].file, err.text);
        assert_int_equal(gguf_get_array(&gguf, "tokenizer.ggml.tokens", &tokens, &err), 0);
        assert_int_equal(tokens.count, rows[i].n_tokens);
        gguf_close(&gguf);
        file_map_close(&map);
        n_seen++;
    }
    assert_true(n_seen > 0);
}

static void check_blocks(const char *name, enum stored_format format, int32_t n_block, double tolerance) {
    char path[512];
    struct err err = {0};
    struct file_map blocks, expected;
    snprintf(path, sizeof path, "%s/data/expected/gguf_dequant/%s.blocks.bin", TEST_SHARED_DIR, name);
    assert_int_equal(file_map_open(&blocks, path, &err), 0);
    snprintf(path, sizeof path, "%s/data/expected/gguf_dequant/%s.f32.bin", TEST_SHARED_DIR, name);
    assert_int_equal(file_map_open(&expected, path, &err), 0);
    const float *want = (const float *)(const void *)expected.data;
    const int32_t n_rows = (int32_t)(expected.n_bytes / sizeof *want) / n_block;
    struct stored_tensor stored = {.name = name, .format = format, .data = blocks.data, .n_bytes = blocks.n_bytes};
    struct arena arena = ARENA_INIT;
    struct tensor matrix = {.n_rows = n_rows, .n_cols = n_block};
    assert_true(gguf_blocks_form(format, &matrix.format));
    matrix.rows = gguf_blocks_open(&arena, &stored, n_block, false);
    assert_int_equal(matrix.rows->n_rows, n_rows);
    uint8_t codes[256];
    float scales[8], offsets[8], values[256];
    struct tensor_row row = {codes, scales, offsets};
    for (int32_t r = 0; r < n_rows; r++) {
        tensor_rows_decode(&matrix, r, 1, &row);
        tensor_row_values(&row, matrix.format, n_block, values);
        for (int32_t k = 0; k < n_block; k++) {
            double x = (double)values[k], y = (double)want[r * n_block + k];
            double most = tolerance * fabs((double)scales[k / TENSOR_GROUP]);
            if (!(fabs(x - y) <= most || (isnan(x) && isnan(y))))
                fail_msg("%s: block %d, value %d: %g, expected %g", name, r, k, x, y);
        }
    }
    arena_close(&arena);
    file_map_close(&blocks);
    file_map_close(&expected);
}

// Bit for bit what gguf-py computes for the same blocks; Q6_K to half a step of the codes, each a quarter of its own.
static void blocks_hold_what_the_format_says(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/gguf_dequant/manifest.json");
    static const struct {
        const char *name;
        enum stored_format format;
        int32_t n_block;
        double tolerance; // in steps
    } rows[] = {{"Q4_0", STORED_Q4_0, 32, 0},      {"Q4_1", STORED_Q4_1, 32, 0},      {"Q5_0", STORED_Q5_0, 32, 0},
                {"Q5_1", STORED_Q5_1, 32, 0},      {"Q8_0", STORED_Q8_0, 32, 0},      {"Q4_K", STORED_Q4_K, 256, 0},
                {"Q5_K", STORED_Q5_K, 256, 0},     {"Q6_K", STORED_Q6_K, 256, 0.502}, {"IQ4_NL", STORED_IQ4_NL, 32, 0},
                {"IQ4_XS", STORED_IQ4_XS, 256, 0}, {"MXFP4", STORED_MXFP4, 32, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_blocks(rows[i].name, rows[i].format, rows[i].n_block, rows[i].tolerance);
}

int main(void) {
    log_level_set(LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_file_is_read),
        cmocka_unit_test(impossible_files_are_refused),
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(every_field_may_hold_anything),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(vocabulary_files_open),
        cmocka_unit_test(blocks_hold_what_the_format_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
