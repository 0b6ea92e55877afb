// Tokens and texts as Hugging Face's tokenizers makes them (tests/golden/make_tokenizer.py): every stage by itself, the
// merging of random models, and real vocabularies on difficult and on long texts.
#include "tests/models/tokenizer_files.h"

#include "base/json.h"

#include <stdlib.h>

#define GOLDEN TEST_SOURCE_DIR "/tests/golden/"

static cJSON *open_golden(const char *name) {
    char path[1024];
    struct file_map map;
    struct err err = {0};
    cJSON *tree;
    struct json_limits limits = JSON_LIMITS_FILE;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (file_map_open(&map, path, &err) || json_parse(&tree, map.data, map.n_bytes, &limits, &err))
        fail_msg("%s", err.text);
    file_map_close(&map);
    return tree;
}

static const cJSON *get(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item) fail_msg("the golden file lacks %s", key);
    return item;
}

// A model given by name stands once in the file.
static struct tokenizer *open_case(const cJSON *file, const cJSON *test) {
    cJSON *whole = cJSON_Duplicate(get(test, "tokenizer"), true);
    const cJSON *model = get(whole, "model");
    if (cJSON_IsString(model)) {
        cJSON *copy = cJSON_Duplicate(get(get(file, "models"), model->valuestring), true);
        cJSON_ReplaceItemInObjectCaseSensitive(whole, "model", copy);
    }
    char *json = cJSON_PrintUnformatted(whole);
    struct tokenizer *t = NULL;
    struct err err = {0};
    if (tokenizer_open_json(&t, str_view_of(json), (struct str_view){0}, &err))
        fail_msg("%s: %s", get(test, "name")->valuestring, err.text);
    free(json);
    cJSON_Delete(whole);
    return t;
}

// FNV-1a over the ids as little-endian 32-bit integers.
static uint64_t hash_ids(const token_vec *ids) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < ids->count; i++)
        for (int shift = 0; shift < 32; shift += 8) {
            hash ^= (uint32_t)ids->items[i] >> shift & 0xff;
            hash *= 0x100000001b3u;
        }
    return hash;
}

static bool has_hash(const token_vec *ids, const cJSON *expected) {
    char hash[32];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_ids(ids));
    return strcmp(hash, expected->valuestring) == 0;
}

// expected: the ids, or their hash.
static bool ids_equal(const token_vec *ids, const cJSON *expected) {
    if (cJSON_IsString(expected)) return has_hash(ids, expected);
    size_t i = 0;
    for (const cJSON *item = expected->child; item; item = item->next, i++)
        if (i >= ids->count || item->valuedouble != ids->items[i]) return false;
    return i == ids->count;
}

static void print_difference(const char *what, const char *text, const token_vec *ids, const cJSON *expected) {
    struct str line = STR_INIT;
    char *wanted = cJSON_PrintUnformatted(expected);
    str_printf(&line, "%s: ", what);
    json_append_string(&line, text, strlen(text));
    str_append_text(&line, " gave");
    for (size_t i = 0; i < ids->count && i < 100; i++) str_printf(&line, " %d", ids->items[i]);
    printf("%s instead of %s\n", str_text(&line), wanted);
    free(wanted);
    str_close(&line);
}

// Returns how many texts differ.
static int check_texts(const struct tokenizer *t, const char *what, const cJSON *texts, const cJSON *ids,
                       bool special) {
    int n_wrong = 0;
    const cJSON *expected = ids->child;
    for (const cJSON *text = texts->child; text; text = text->next, expected = expected->next) {
        assert_non_null(expected);
        token_vec got = encode_text(t, text->valuestring, strlen(text->valuestring), true, special);
        if (!ids_equal(&got, expected)) {
            if (!n_wrong) print_difference(what, text->valuestring, &got, expected);
            n_wrong++;
        }
        vec_free(&got);
    }
    return n_wrong;
}

static void stages_do_what_tokenizers_does(void **state) {
    (void)state;
    cJSON *file = open_golden("tokenizer_stages.json");
    int n_wrong = 0, n_cases = 0;
    for (const cJSON *test = get(file, "cases")->child; test; test = test->next, n_cases++) {
        struct tokenizer *t = open_case(file, test);
        const cJSON *texts = get(test, "texts");
        if (cJSON_IsString(texts)) texts = get(get(file, "texts"), texts->valuestring);
        bool special = cJSON_IsTrue(get(test, "add_special"));
        n_wrong += check_texts(t, get(test, "name")->valuestring, texts, get(test, "ids"), special);
        tokenizer_close(t);
    }
    assert_true(n_cases > 90);
    assert_int_equal(n_wrong, 0);
    cJSON_Delete(file);
}

static token_vec ids_of(const cJSON *list) {
    token_vec ids = {0};
    for (const cJSON *item = list->child; item; item = item->next) vec_push(&ids, item->valueint);
    return ids;
}

static int check_decoding(const struct tokenizer *t, const char *what, const token_vec *ids, bool skip,
                          const char *wanted) {
    struct str text = STR_INIT;
    struct err err = {0};
    assert_int_equal(tokenizer_decode(t, ids->items, ids->count, skip, &text, &err), 0);
    bool same = strcmp(str_text(&text), wanted) == 0;
    if (!same) printf("%s: decoded \"%s\" instead of \"%s\"\n", what, str_text(&text), wanted);
    str_close(&text);
    return !same;
}

static void decoders_do_what_tokenizers_does(void **state) {
    (void)state;
    cJSON *file = open_golden("tokenizer_stages.json");
    int n_wrong = 0;
    for (const cJSON *test = get(file, "decodings")->child; test; test = test->next) {
        struct tokenizer *t = open_case(file, test);
        const char *name = get(test, "name")->valuestring;
        const cJSON *with = get(test, "texts")->child, *without = get(test, "texts_without_special")->child;
        for (const cJSON *run = get(test, "runs")->child; run;
             run = run->next, with = with->next, without = without->next) {
            token_vec ids = ids_of(run);
            n_wrong += check_decoding(t, name, &ids, false, with->valuestring);
            n_wrong += check_decoding(t, name, &ids, true, without->valuestring);
            vec_free(&ids);
        }
        tokenizer_close(t);
    }
    assert_int_equal(n_wrong, 0);
    cJSON_Delete(file);
}

static int check_long_text(const struct tokenizer *t, const char *what, const cJSON *expected) {
    char path[2048];
    struct file_map map;
    struct err err = {0};
    snprintf(path, sizeof path, TEST_SHARED_DIR "/data/%s", expected->string);
    if (file_map_open(&map, path, &err)) fail_msg("%s", err.text);
    size_t n_bytes = (size_t)get(expected, "bytes")->valuedouble;
    assert_true(n_bytes <= map.n_bytes);
    token_vec ids = encode_text(t, map.data, n_bytes, true, false);
    bool same = has_hash(&ids, get(expected, "hash"));
    if (!same)
        printf("%s: %s gave %zu tokens for %d\n", what, expected->string, ids.count, get(expected, "count")->valueint);
    vec_free(&ids);
    file_map_close(&map);
    return !same;
}

// decoded: the text that encoding and decoding gives, or null where it is the text itself.
static int check_round_trips(const struct tokenizer *t, const char *what, const cJSON *texts, const cJSON *decoded) {
    int n_wrong = 0;
    const cJSON *wanted = decoded->child;
    for (const cJSON *text = texts->child; text; text = text->next, wanted = wanted->next) {
        token_vec ids = encode_text(t, text->valuestring, strlen(text->valuestring), true, false);
        const char *expected = cJSON_IsNull(wanted) ? text->valuestring : wanted->valuestring;
        n_wrong += check_decoding(t, what, &ids, false, expected);
        vec_free(&ids);
    }
    return n_wrong;
}

static void real_vocabularies_do_what_tokenizers_does(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/tokenizers");
    cJSON *file = open_golden("tokenizer_real.json");
    int n_wrong = 0;
    for (const cJSON *test = get(file, "tokenizers")->child; test; test = test->next) {
        char folder[1024];
        snprintf(folder, sizeof folder, TEST_SHARED_DIR "/data/%s", test->string);
        struct tokenizer *t = open_json_folder(folder);
        n_wrong += check_texts(t, test->string, get(file, "texts"), get(test, "ids"), false);
        n_wrong += check_round_trips(t, test->string, get(file, "texts"), get(test, "decoded"));
        for (const cJSON *item = get(test, "long")->child; item; item = item->next)
            n_wrong += check_long_text(t, test->string, item);
        tokenizer_close(t);
    }
    assert_int_equal(n_wrong, 0);
    cJSON_Delete(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_do_what_tokenizers_does),
        cmocka_unit_test(decoders_do_what_tokenizers_does),
        cmocka_unit_test(real_vocabularies_do_what_tokenizers_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
