// The tokenizers of GGUF files: merging by score, named pre-tokenizers, and refusal of what is wrong in the file.
// Expected ids are worked out by hand from the scores in gguf_tokenizer.h.
#include "tests/models/tokenizer_files.h"

#include "tests/models/gguf_tokenizer.h"

static int open_built(struct tokenizer **t, const struct gguf_builder *b, struct err *err) {
    struct gguf gguf;
    int rc = gguf_open(&gguf, b->bytes.data, b->bytes.n_bytes, err);
    if (rc) return rc;
    rc = tokenizer_open_gguf(t, &gguf, err);
    gguf_close(&gguf);
    return rc;
}

static struct tokenizer *open_described(const struct gguf_tokenizer *description) {
    struct gguf_builder b;
    struct tokenizer *t;
    struct err err = {0};
    build_tokenizer_gguf(&b, description);
    if (open_built(&t, &b, &err)) fail_msg("%s", err.text);
    builder_close(&b);
    return t;
}

struct id_row {
    const char *text;
    bool trusted, add_special;
    int n;
    int32_t ids[12];
};

static void check_rows(const struct tokenizer *t, const struct id_row *rows, size_t n_rows) {
    for (size_t i = 0; i < n_rows; i++) {
        token_vec ids = encode_text(t, rows[i].text, strlen(rows[i].text), rows[i].trusted, rows[i].add_special);
        bool same = ids.count == (size_t)rows[i].n;
        for (size_t k = 0; same && k < ids.count; k++) same = ids.items[k] == rows[i].ids[k];
        for (size_t k = 0; !same && k < ids.count; k++) printf("%d ", ids.items[k]);
        if (!same) fail_msg("\"%s\" gave other ids", rows[i].text);
        vec_free(&ids);
    }
}

static void pieces_merge_by_score(void **state) {
    (void)state;
    static const struct id_row rows[] = {
        {"", false, false, 0, {0}},
        {"", false, true, 1, {1}},
        {"a", false, true, 2, {1, 12}},
        {"ab", false, false, 2, {6, 9}},        // "ab" (-3) before "_a" (-4)
        {"aba", false, false, 2, {12, 10}},     // "ba" (-2) first, then "_a"; "_" "aba" cannot come any more
        {"baba", false, false, 3, {6, 10, 10}}, // "ba" from the left; "bab" is unused
        {" a", false, false, 2, {6, 12}},       // the mark in front comes always
        {"A", false, false, 2, {6, 3}},         // by its byte
        {"\xc3\xa9", false, false, 3, {6, 4, 5}},
        {"z", false, false, 2, {6, 0}},        // no byte token
        {"<s>", false, false, 3, {6, 17, 16}}, // "<s" merges; the marker itself is never made from text
        {"<s>a", true, false, 2, {1, 12}},     // a marker where trusted; a mark behind it
        {"[m]b", true, false, 3, {18, 6, 8}},
        {"ab<s", true, false, 3, {6, 9, 17}},
    };
    struct tokenizer *t = open_described(&small_sentencepiece);
    check_rows(t, rows, sizeof rows / sizeof *rows);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_is_special(t, 0) && tokenizer_is_special(t, 1) && !tokenizer_is_special(t, 18));
    tokenizer_close(t);
}

// The two ways of merging, by list of positions and by scanning, agree where a piece is just short or just long.
static void length_of_a_piece_changes_nothing(void **state) {
    (void)state;
    struct tokenizer *t = open_described(&small_sentencepiece);
    for (size_t n = 1; n < 200; n++) {
        struct str text = STR_INIT;
        for (size_t i = 0; i < n; i++) str_append_text(&text, "ba");
        token_vec ids = encode_text(t, text.data, text.n_bytes, false, false);
        assert_int_equal(ids.count, n + 1);
        for (size_t i = 1; i < ids.count; i++) assert_int_equal(ids.items[i], 10);
        vec_free(&ids);
        str_close(&text);
    }
    tokenizer_close(t);
}

static void words_merge_by_rank(void **state) {
    (void)state;
    static const struct id_row rows[] = {
        {"ab ab", false, true, 2, {3, 4}},
        {"11", false, false, 2, {6, 6}}, // this pre-tokenizer takes digits one by one
        {"ab<|end|>", true, false, 2, {3, 5}},
        {"z", false, false, 0, {0}},
    };
    struct tokenizer *t = open_described(&small_byte_level);
    check_rows(t, rows, sizeof rows / sizeof *rows);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), 5);
    tokenizer_close(t);
}

static void what_is_wrong_is_refused(void **state) {
    (void)state;
    static const struct gguf_token bad_text[] = {{"\xff", 0, 1}}, bad_type[] = {{"a", 0, 7}},
                                   bad_score[] = {{"a", __builtin_nanf(""), 1}};
    static const char *const no_pair[] = {"ab"}, *const unknown_pair[] = {"a z"};
    static const struct {
        struct gguf_tokenizer file;
        const char *says;
    } rows[] = {
        {{.model = "bert", .tokens = small_words, .n_tokens = 4}, "neither"},
        {{.model = "llama", .tokens = small_words, .n_tokens = 0}, "tokens"},
        {{.model = "llama", .tokens = bad_text, .n_tokens = 1}, "UTF-8"},
        {{.model = "llama", .tokens = bad_type, .n_tokens = 1}, "token_type"},
        {{.model = "llama", .tokens = bad_score, .n_tokens = 1}, "scores"},
        {{.model = "llama", .tokens = small_words, .n_tokens = 4, .bos = 4}, "bos_token_id"},
        {{.model = "gpt2", .tokens = small_words, .n_tokens = 4}, "pre"},
        {{.model = "gpt2", .pre = "odd", .tokens = small_words, .n_tokens = 4}, "\"odd\""},
        {{.model = "gpt2", .pre = "gpt-2", .tokens = small_words, .n_tokens = 4}, "merges"},
        {{.model = "gpt2", .pre = "gpt-2", .tokens = small_words, .n_tokens = 4, .merges = no_pair, .n_merges = 1},
         "pair"},
        {{.model = "gpt2", .pre = "gpt-2", .tokens = small_words, .n_tokens = 4, .merges = unknown_pair, .n_merges = 1},
         "merge 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gguf_builder b;
        struct tokenizer *t;
        struct err err = {0};
        build_tokenizer_gguf(&b, &rows[i].file);
        assert_int_not_equal(open_built(&t, &b, &err), 0);
        if (!strstr(err.text, rows[i].says)) fail_msg("\"%s\" does not say \"%s\"", err.text, rows[i].says);
        builder_close(&b);
    }
}

// Every count, length, type and id set to values that programs stumble over: opened or refused, never worse.
static void no_field_can_do_harm(void **state) {
    (void)state;
    static const uint64_t values[] = {0, 1, 7, 0x7f, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
    const struct gguf_tokenizer *files[] = {&small_sentencepiece, &small_byte_level};
    for (size_t k = 0; k < 2; k++) {
        struct gguf_builder b;
        build_tokenizer_gguf(&b, files[k]);
        for (size_t i = 0; i < b.fields.count; i++)
            for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
                struct gguf_field field = b.fields.items[i];
                char before[8];
                struct tokenizer *t = NULL;
                struct err err = {0};
                memcpy(before, b.bytes.data + field.at, field.width);
                memcpy(b.bytes.data + field.at, &values[j], field.width);
                if (open_built(&t, &b, &err) == 0) {
                    token_vec ids = encode_text(t, "ab <s>aba11", 11, true, true);
                    for (size_t n = 0; n < ids.count; n++)
                        assert_true(ids.items[n] >= 0 && ids.items[n] < tokenizer_vocab(t));
                    vec_free(&ids);
                    tokenizer_close(t);
                }
                memcpy(b.bytes.data + field.at, before, field.width);
            }
        builder_close(&b);
    }
}

// The same vocabulary from both kinds of file, over a text of 400 kB.
static void gguf_and_json_agree(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/tokenizers/gguf-vocab/ggml-vocab-llama-spm.gguf");
    struct tokenizer *gguf = open_gguf_file(TEST_SHARED_DIR "/data/tokenizers/gguf-vocab/ggml-vocab-llama-spm.gguf");
    struct tokenizer *json = open_json_folder(TEST_SHARED_DIR "/data/tokenizers/llama2");
    struct file_map map;
    struct err err = {0};
    if (file_map_open(&map, TEST_SHARED_DIR "/data/text/wikitext-2/test.txt", &err)) fail_msg("%s", err.text);
    token_vec a = encode_text(gguf, map.data, 400000, false, false),
              b = encode_text(json, map.data, 400000, false, false);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.items, b.items, a.count * sizeof *a.items);
    vec_free(&a);
    vec_free(&b);
    file_map_close(&map);
    tokenizer_close(gguf);
    tokenizer_close(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_merge_by_score), cmocka_unit_test(length_of_a_piece_changes_nothing),
        cmocka_unit_test(words_merge_by_rank),   cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(no_field_can_do_harm),  cmocka_unit_test(gguf_and_json_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
