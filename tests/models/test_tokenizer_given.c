// Every expected id and decoded text that comes with the shared data: made by transformers' users, SentencePiece and
// llama.cpp, for real vocabularies.
#include "tests/models/tokenizer_files.h"

#include "base/json.h"

#include <stdlib.h>

#define TOKENIZERS TEST_SHARED_DIR "/data/tokenizers/"
#define EXPECTED TEST_SHARED_DIR "/data/expected/"
#define STORIES TEST_SHARED_DIR "/data/models/stories260K/"

// cJSON's strings end at U+0000, which two of the texts hold: it travels as a private character.
#define NUL_ESCAPE "\\u0000"
#define STAND_IN_ESCAPE "\\ue000"
#define STAND_IN "\xee\x80\x80"

static struct str text_of(const cJSON *object, const char *key) {
    struct str text = STR_INIT;
    const char *at = cJSON_GetObjectItemCaseSensitive(object, key)->valuestring;
    for (const char *found; (found = strstr(at, STAND_IN)); at = found + strlen(STAND_IN)) {
        str_append(&text, at, (size_t)(found - at));
        str_append_char(&text, 0);
    }
    str_append_text(&text, at);
    return text;
}

static cJSON *open_json_file(const char *path) {
    struct file_map map;
    struct err err = {0};
    cJSON *tree;
    struct json_limits limits = JSON_LIMITS_FILE;
    if (file_map_open(&map, path, &err)) fail_msg("%s", err.text);
    struct str json = STR_INIT;
    str_append(&json, map.data, map.n_bytes);
    file_map_close(&map);
    for (char *found = json.data; (found = strstr(found, NUL_ESCAPE));)
        memcpy(found, STAND_IN_ESCAPE, strlen(NUL_ESCAPE));
    if (json_parse(&tree, json.data, json.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    str_close(&json);
    return tree;
}

static struct tokenizer *open_any(const char *path) {
    return strstr(path, ".gguf") ? open_gguf_file(path) : open_json_folder(path);
}

static void assert_ids(const char *what, const char *text, const token_vec *ids, const cJSON *expected) {
    bool same = cJSON_GetArraySize(expected) == (int)ids->count;
    size_t i = 0;
    for (const cJSON *item = expected->child; item && same; item = item->next, i++)
        same = item->valuedouble == ids->items[i];
    if (same) return;
    struct str got = STR_INIT;
    for (i = 0; i < ids->count; i++) str_printf(&got, " %d", ids->items[i]);
    char *wanted = cJSON_PrintUnformatted(expected);
    fail_msg("%s: \"%.200s\" gave%s instead of %s", what, text, str_text(&got), wanted);
}

// What transformers does to decoded text unless told otherwise (clean_up_tokenization_spaces); not a tokenizer's part.
static void clean_up(struct str *text) {
    static const char *const pairs[][2] = {{" .", "."},     {" ?", "?"},     {" !", "!"},   {" ,", ","},
                                           {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct str out = STR_INIT;
        const char *at = str_text(text);
        for (const char *found; (found = strstr(at, pairs[i][0])); at = found + strlen(pairs[i][0])) {
            str_append(&out, at, (size_t)(found - at));
            str_append_text(&out, pairs[i][1]);
        }
        str_append_text(&out, at);
        str_close(text);
        *text = out;
    }
}

static void assert_decoded(const struct tokenizer *t, const char *what, const cJSON *ids, struct str expected) {
    token_vec vec = {0};
    struct str text = STR_INIT;
    struct err err = {0};
    for (const cJSON *item = ids->child; item; item = item->next) vec_push(&vec, (int32_t)item->valuedouble);
    assert_int_equal(tokenizer_decode(t, vec.items, vec.count, false, &text, &err), 0);
    struct str_view wanted = {str_text(&expected), expected.n_bytes};
    if (!str_view_equal((struct str_view){str_text(&text), text.n_bytes}, wanted)) clean_up(&text);
    if (!str_view_equal((struct str_view){str_text(&text), text.n_bytes}, wanted))
        fail_msg("%s: decoded \"%s\" instead of \"%s\"", what, str_text(&text), wanted.data);
    str_close(&expected);
    vec_free(&vec);
    str_close(&text);
}

// The folder's tokenizer.json has lost U+00A0: a plain space stands in its three tokens. The GGUF file of the same
// vocabulary has it, and is held to the same cases.
static bool lost_from_llama2(const char *path, const cJSON *item) {
    return strstr(path, "llama2") && strstr(cJSON_GetObjectItemCaseSensitive(item, "text")->valuestring, "\xc2\xa0");
}

static void check_ids(const struct tokenizer *t, const char *what, const cJSON *item, const char *key, bool trusted,
                      bool add_special) {
    struct str text = text_of(item, "text");
    token_vec ids = encode_text(t, str_text(&text), text.n_bytes, trusted, add_special);
    assert_ids(what, str_text(&text), &ids, cJSON_GetObjectItemCaseSensitive(item, key));
    vec_free(&ids);
    str_close(&text);
}

static void ids_of_transformers(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/transformers.js_expected_ids.json");
    static const struct {
        const char *set, *path;
        bool no_special; // made without beginning-of-text tokens
    } sets[] = {
        {"Xenova/gpt2", TOKENIZERS "gpt2", false},
        {"openai-community/gpt2", TOKENIZERS "gpt2", false},
        {"openai-community/gpt2", TOKENIZERS "gguf-vocab/ggml-vocab-gpt-2.gguf", false},
        {"Xenova/llama-tokenizer", TOKENIZERS "llama2", false},
        {"Xenova/llama-tokenizer", TOKENIZERS "gguf-vocab/ggml-vocab-llama-spm.gguf", false},
        {"Xenova/llama3-tokenizer", TOKENIZERS "llama3", true},
        {"Xenova/llama3-tokenizer-new", TOKENIZERS "llama3", false},
        {"Xenova/Qwen1.5-0.5B-Chat", TOKENIZERS "qwen2.5", false},
    };
    cJSON *file = open_json_file(EXPECTED "transformers.js_expected_ids.json");
    int n = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct tokenizer *t = open_any(sets[i].path);
        const cJSON *set = cJSON_GetObjectItemCaseSensitive(file, sets[i].set);
        assert_non_null(set);
        for (const cJSON *item = set->child; item; item = item->next, n++) {
            if (lost_from_llama2(sets[i].path, item)) continue;
            check_ids(t, sets[i].set, item, "ids", true, !sets[i].no_special);
            assert_decoded(t, sets[i].set, cJSON_GetObjectItemCaseSensitive(item, "ids"), text_of(item, "decoded"));
        }
        tokenizer_close(t);
    }
    assert_true(n > 150);
    cJSON_Delete(file);
}

// tokenizer.json's Metaspace puts no mark in front of a space or another mark, SentencePiece does; what is right for
// tokenizer.json then is in ids_of_mistral.
static bool begins_marked(const cJSON *item) {
    const char *text = cJSON_GetObjectItemCaseSensitive(item, "text")->valuestring;
    return *text == ' ' || strncmp(text, "\xe2\x96\x81", 3) == 0;
}

// The SentencePiece model of stories260K drops extra spaces; its tokenizer.json and GGUF cannot say so.
static bool has_extra_spaces(const cJSON *item) {
    const char *text = cJSON_GetObjectItemCaseSensitive(item, "text")->valuestring;
    return begins_marked(item) || strstr(text, "  ") || (*text && text[strlen(text) - 1] == ' ');
}

static void ids_of_sentencepiece(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/sentencepiece_ids.json");
    static const struct {
        const char *set, *path;
    } sets[] = {
        {"llama2", TOKENIZERS "llama2"},
        {"llama2", TOKENIZERS "gguf-vocab/ggml-vocab-llama-spm.gguf"},
        {"mistral_v3", TOKENIZERS "mistral-7b-v0.3"},
        {"stories260K_tok512", STORIES "hf"},
        {"stories260K_tok512", STORIES "stories260K.f32.gguf"},
    };
    cJSON *file = open_json_file(EXPECTED "sentencepiece_ids.json");
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct tokenizer *t = open_any(sets[i].path);
        const cJSON *cases = cJSON_GetObjectItemCaseSensitive(
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(file, "sets"), sets[i].set), "cases");
        for (const cJSON *item = cases->child; item; item = item->next) {
            if (lost_from_llama2(sets[i].path, item)) continue;
            if (strstr(sets[i].path, "mistral") && begins_marked(item)) continue;
            if (strstr(sets[i].path, "stories") && has_extra_spaces(item)) continue;
            // SentencePiece takes markers in the text as text.
            check_ids(t, sets[i].path, item, "ids", false, false);
            assert_decoded(t, sets[i].path, cJSON_GetObjectItemCaseSensitive(item, "ids"), text_of(item, "decoded"));
        }
        tokenizer_close(t);
    }
    cJSON_Delete(file);
}

static void ids_of_mistral(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/tokenizers/mistral-7b-v0.3/encodings.json");
    cJSON *file = open_json_file(TOKENIZERS "mistral-7b-v0.3/encodings.json");
    struct tokenizer *t = open_json_folder(TOKENIZERS "mistral-7b-v0.3");
    for (const cJSON *item = cJSON_GetObjectItemCaseSensitive(file, "entries")->child; item; item = item->next) {
        check_ids(t, "mistral", item, "ids", true, false);
        check_ids(t, "mistral", item, "ids_special", true, true);
        assert_decoded(t, "mistral", cJSON_GetObjectItemCaseSensitive(item, "ids"), text_of(item, "decode"));
    }
    tokenizer_close(t);
    cJSON_Delete(file);
}

// .inp: texts between separator lines; .out: a line of ids for each.
static void check_llama_cpp(const struct tokenizer *t, const char *name) {
    char path[1024];
    struct file_map in, out;
    struct err err = {0};
    snprintf(path, sizeof path, TOKENIZERS "gguf-vocab/%s.gguf.inp", name);
    if (file_map_open(&in, path, &err)) fail_msg("%s", err.text);
    snprintf(path, sizeof path, TOKENIZERS "gguf-vocab/%s.gguf.out", name);
    if (file_map_open(&out, path, &err)) fail_msg("%s", err.text);
    static const char separator[] = "\n__ggml_vocab_test__\n";
    const char *line = out.data;
    for (const char *at = in.data, *end = in.data + in.n_bytes, *next; at < end; at = next) {
        const char *stop = memmem(at, (size_t)(end - at), separator, sizeof separator - 1);
        next = stop ? stop + sizeof separator - 1 : end;
        if (!stop) break; // what follows the last separator is no case
        token_vec ids = encode_text(t, at, (size_t)(stop - at), true, false);
        struct str got = STR_INIT, wanted = STR_INIT;
        for (size_t i = 0; i < ids.count; i++) str_printf(&got, " %d", ids.items[i]);
        const char *line_end = memchr(line, '\n', (size_t)(out.data + out.n_bytes - line));
        assert_non_null(line_end);
        str_append(&wanted, line, (size_t)(line_end - line));
        while (wanted.n_bytes && wanted.data[wanted.n_bytes - 1] == ' ') wanted.data[--wanted.n_bytes] = 0;
        if (strcmp(str_text(&got), str_text(&wanted)) != 0)
            fail_msg("%s: \"%.*s\" gave \"%s\" instead of \"%s\"", name, (int)(stop - at), at, str_text(&got),
                     str_text(&wanted));
        line = line_end + 1;
        vec_free(&ids);
        str_close(&got);
        str_close(&wanted);
    }
    file_map_close(&in);
    file_map_close(&out);
}

static void ids_of_llama_cpp(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/tokenizers/gguf-vocab");
    static const struct {
        const char *name, *path;
    } sets[] = {
        {"ggml-vocab-gpt-2", TOKENIZERS "gguf-vocab/ggml-vocab-gpt-2.gguf"},
        {"ggml-vocab-gpt-2", TOKENIZERS "gpt2"},
        {"ggml-vocab-llama-spm", TOKENIZERS "gguf-vocab/ggml-vocab-llama-spm.gguf"},
        {"ggml-vocab-llama-spm", TOKENIZERS "llama2"},
        {"ggml-vocab-llama-bpe", TOKENIZERS "llama3"},
        {"ggml-vocab-qwen2", TOKENIZERS "qwen2.5"},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct tokenizer *t = open_any(sets[i].path);
        check_llama_cpp(t, sets[i].name);
        tokenizer_close(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_of_transformers),
        cmocka_unit_test(ids_of_sentencepiece),
        cmocka_unit_test(ids_of_mistral),
        cmocka_unit_test(ids_of_llama_cpp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
