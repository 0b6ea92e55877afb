// What holds for every tokenizer: trust, incremental decoding, bounds, time on texts made to be slow, and refusals.
#include "tests/models/tokenizer_files.h"

#include "base/rng.h"
#include "base/utf8.h"

#include <stdlib.h>

#define DATA TEST_SHARED_DIR "/data/"

// Byte tokens, a few merges, markers of every kind. Llama 2's normalizer puts a mark in front.
static struct tokenizer *open_small(void) {
    struct str json = STR_INIT;
    str_append_text(
        &json, "{\"added_tokens\":["
               "{\"id\":1,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"
               "{\"id\":2,\"content\":\"<|end|>\",\"special\":true,\"normalized\":true},"
               "{\"id\":3,\"content\":\"[x]\",\"special\":true,\"normalized\":false,\"lstrip\":true,\"rstrip\":true},"
               "{\"id\":4,\"content\":\"<tool>\",\"special\":false,\"normalized\":false},"
               "{\"id\":5,\"content\":\"  \",\"special\":false,\"normalized\":false}],"
               "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":null,"
               "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
               "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
               "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"ignore_merges\":true,\"vocab\":{"
               "\"<unk>\":0,\"<s>\":1,\"<|end|>\":2,\"[x]\":3,\"<\":262,\"s\":263,\">\":264,\"<s\":265,\"a\":266,"
               "\"aa\":267,\"aaaa\":268");
    for (int i = 0; i < 256; i++) str_printf(&json, ",\"<0x%02X>\":%d", i, 6 + i);
    str_append_text(&json, "},\"merges\":[\"< s\",\"<s >\",\"a a\",\"aa aa\"]}}");
    struct tokenizer *t = open_json_text(str_text(&json), NULL);
    str_close(&json);
    return t;
}

static const char *const shared_tokenizers[] = {
    DATA "models/stories260K/hf",
    DATA "models/stories260K/stories260K.f32.gguf",
    DATA "tokenizers/gpt2",
    DATA "tokenizers/llama2",
    DATA "tokenizers/llama3",
    DATA "tokenizers/mistral-7b-v0.3",
    DATA "tokenizers/phi-3",
    DATA "tokenizers/qwen2.5",
    DATA "tokenizers/gguf-vocab/ggml-vocab-gpt-2.gguf",
    DATA "tokenizers/gguf-vocab/ggml-vocab-llama-spm.gguf",
};

// The small one, and every one in the shared data when it is here.
static void with_every_tokenizer(void (*check)(const struct tokenizer *t)) {
    struct tokenizer *t = open_small();
    check(t);
    tokenizer_close(t);
    for (size_t i = 0; i < sizeof shared_tokenizers / sizeof *shared_tokenizers; i++) {
        const char *path = shared_tokenizers[i];
        if (access(path, R_OK) != 0) continue;
        t = strstr(path, ".gguf") ? open_gguf_file(path) : open_json_folder(path);
        check(t);
        tokenizer_close(t);
    }
}

static token_vec encode_prompt(const struct tokenizer *t, const struct prompt_text *prompt) {
    token_vec ids = {0};
    struct err err = {0};
    struct tokenizer_encode_options options = {0};
    if (tokenizer_encode(t, prompt, &options, &ids, &err)) fail_msg("%s", err.text);
    return ids;
}

static bool holds(const token_vec *ids, int32_t id) {
    for (size_t i = 0; i < ids->count; i++)
        if (ids->items[i] == id) return true;
    return false;
}

static bool text_makes(const struct tokenizer *t, struct str_view text, size_t n_trusted, int32_t id) {
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    prompt_text_append(&prompt, text.data, n_trusted, true);
    prompt_text_append(&prompt, text.data + n_trusted, text.n_bytes - n_trusted, false);
    token_vec ids = encode_prompt(t, &prompt);
    bool found = holds(&ids, id);
    vec_free(&ids);
    prompt_text_close(&prompt);
    return found;
}

static void check_special_needs_trust(const struct tokenizer *t) {
    int n = 0;
    for (int32_t id = 0; id < tokenizer_vocab(t); id++) {
        struct str_view text = tokenizer_token_text(t, id);
        if (!tokenizer_is_special(t, id) || !text.n_bytes) continue;
        assert_true(text_makes(t, text, text.n_bytes, id));
        assert_false(text_makes(t, text, 0, id));
        for (size_t cut = 1; cut < text.n_bytes; cut++)
            if (utf8_is_valid(text.data, cut)) assert_false(text_makes(t, text, cut, id));
        n++;
    }
    assert_true(n > 0);
}

static void special_tokens_need_trust(void **state) {
    (void)state;
    with_every_tokenizer(check_special_needs_trust);
}

// In front of, between and behind untrusted text: a chat prompt.
static void markers_match_around_untrusted_text(void **state) {
    (void)state;
    struct tokenizer *t = open_small();
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    prompt_text_append(&prompt, "<s>a", 4, true);
    prompt_text_append(&prompt, "<s><|end|>[x]<tool>  ", 21, false);
    prompt_text_append(&prompt, "<|end|><s", 9, true);
    prompt_text_append(&prompt, ">", 1, false);
    prompt_text_append(&prompt, " [x]", 4, true);
    prompt_text_append(&prompt, "\t\ta", 3, false);
    token_vec ids = encode_prompt(t, &prompt);
    // <s> a | < s > as text, the others as bytes | "  " | <|end|> <s + > [x] with the blanks around it, a
    const int32_t expected_front[] = {1, 266, 265, 264, 262, 6 + '|'}, expected_back[] = {5, 2, 265, 264, 3, 266};
    assert_true(ids.count > 12);
    assert_memory_equal(ids.items, expected_front, sizeof expected_front);
    assert_memory_equal(ids.items + ids.count - 6, expected_back, sizeof expected_back);
    int n_special = 0;
    for (size_t i = 0; i < ids.count; i++) n_special += tokenizer_is_special(t, ids.items[i]) || ids.items[i] == 4;
    assert_int_equal(n_special, 3);
    vec_free(&ids);
    prompt_text_close(&prompt);
    tokenizer_close(t);
}

// Composition across the border must not let untrusted text into a marker that is looked for after normalising.
static void trust_survives_normalising(void **state) {
    (void)state;
    struct tokenizer *t = open_small();
    assert_true(text_makes(t, STR_VIEW("e\xcc\x81<|end|>"), 10, 2));
    assert_false(text_makes(t, STR_VIEW("e\xcc\x81<|end|>"), 9, 2));
    assert_true(text_makes(t, STR_VIEW("<|end|>e\xcc\x81"), 7, 2));
    assert_false(text_makes(t, STR_VIEW("<|end|>e\xcc\x81"), 6, 2));
    // The mark joins the ">", which then is no longer trusted.
    assert_false(text_makes(t, STR_VIEW("<|end|>\xcc\xb8"), 7, 2));
    tokenizer_close(t);
}

static void check_incremental(const struct tokenizer *t) {
    uint64_t counter = 0;
    for (int round = 0; round < 60; round++) {
        int32_t ids[40];
        bool skip = round % 2;
        for (size_t i = 0; i < 40; i++) {
            uint64_t draw = rng_u32(rng_key(7, (uint64_t)round, 1), counter++);
            // Small ids are where bytes and markers are.
            uint64_t n = (uint64_t)tokenizer_vocab(t), below = draw & 1 && n > 300 ? 300 : n;
            ids[i] = (int32_t)(draw * below >> 32);
        }
        struct str whole = STR_INIT, pieces = STR_INIT, raw = STR_INIT, bytes = STR_INIT;
        struct err err = {0};
        struct utf8_filter filter = {0};
        struct detokenizer d = {.tokenizer = t, .skip_special = skip};
        assert_int_equal(tokenizer_decode(t, ids, 40, skip, &whole, &err), 0);
        for (size_t i = 0; i < 40; i++) {
            str_clear(&raw);
            detokenizer_push(&d, ids[i], &raw);
            utf8_filter_push(&filter, str_text(&raw), raw.n_bytes, &pieces);
            str_clear(&bytes);
            tokenizer_token_bytes(t, ids[i], &bytes);
            bool hidden = skip && tokenizer_is_special(t, ids[i]);
            // At the beginning a blank may be missing.
            if (d.stripped == UINT32_MAX && i > 3 && !hidden) assert_string_equal(str_text(&raw), str_text(&bytes));
        }
        utf8_filter_finish(&filter, &pieces);
        assert_int_equal(whole.n_bytes, pieces.n_bytes);
        assert_memory_equal(str_text(&whole), str_text(&pieces), whole.n_bytes);
        str_close(&whole);
        str_close(&pieces);
        str_close(&raw);
        str_close(&bytes);
    }
}

static void decoding_piece_by_piece_equals_decoding_whole(void **state) {
    (void)state;
    with_every_tokenizer(check_incremental);
}

static void ids_out_of_range_are_refused(void **state) {
    (void)state;
    struct tokenizer *t = open_small();
    struct str text = STR_INIT;
    struct err err = {0};
    const int32_t bad[] = {-1, INT32_MIN, INT32_MAX, tokenizer_vocab(t)};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(tokenizer_decode(t, &bad[i], 1, false, &text, &err), ERR_INVALID);
        struct detokenizer d = {.tokenizer = t};
        detokenizer_push(&d, bad[i], &text);
        tokenizer_token_bytes(t, bad[i], &text);
        assert_false(tokenizer_is_special(t, bad[i]));
        assert_int_equal(text.n_bytes, 0);
    }
    str_close(&text);
    tokenizer_close(t);
}

// A unit repeated many times: what one position costs must not grow with the text, or this never ends.
static const char *const slow_units[] = {
    "a",
    " ",
    "\n",
    "1",
    "=",
    "\t \n",
    "<|im_start|>",
    "<",
    "\xf0\x9f\x91\xa8\xe2\x80\x8d",
    "e\xcc\x81\xcc\xa3",
    "\xcc\x81\xcc\xa3",
    "\xe1\x84\x80\xe1\x85\xa1",
    "\xe6\xbc\xa2",
    "'",
    "'s",
    "A",
    "aA",
    "\xd7\x90 ",
    "\xc2\xa0",
    "\r",
    "(",
    "ab \n",
};

static void check_slow_text(const struct tokenizer *t) {
#if defined(__SANITIZE_THREAD__)
    enum { N_BYTES = 1 << 14 };
#else
    enum { N_BYTES = 1 << 18 };
#endif
    struct tokenizer_encode_options options = {0};
    for (size_t i = 0; i < sizeof slow_units / sizeof *slow_units; i++) {
        struct prompt_text prompt = PROMPT_TEXT_INIT;
        token_vec ids = {0};
        struct str decoded = STR_INIT;
        struct err err = {0};
        size_t n = strlen(slow_units[i]);
        // Many parts, or one.
        for (size_t k = 0; prompt.text.n_bytes + n <= N_BYTES; k++)
            prompt_text_append(&prompt, slow_units[i], n, i % 2 ? k % 2 : true);
        assert_int_equal(tokenizer_encode(t, &prompt, &options, &ids, &err), 0);
        assert_true(ids.count >= tokenizer_tokens_min(t, prompt.text.n_bytes));
        assert_int_equal(tokenizer_decode(t, ids.items, ids.count, false, &decoded, &err), 0);
        // Normalising may have composed the text.
        if (slow_units[i][0] > 0) assert_true(decoded.n_bytes + 1 >= prompt.text.n_bytes);
        vec_free(&ids);
        str_close(&decoded);
        prompt_text_close(&prompt);
    }
}

static void no_text_is_slow(void **state) {
    (void)state;
    struct tokenizer *t = open_small();
    check_slow_text(t);
    tokenizer_close(t);
    static const char *const paths[] = {DATA "tokenizers/qwen2.5",
                                        DATA "tokenizers/gguf-vocab/ggml-vocab-llama-spm.gguf"};
    for (size_t i = 0; i < 2; i++) {
        if (access(paths[i], R_OK) != 0) continue;
        t = i ? open_gguf_file(paths[i]) : open_json_folder(paths[i]);
        check_slow_text(t);
        tokenizer_close(t);
    }
}

// An expression that is not known and backtracks without end stops with an error.
static void regular_expressions_have_limits(void **state) {
    (void)state;
    struct tokenizer *t = open_json_text(
        "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+b\"},\"behavior\":\"Isolated\"},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        NULL);
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    token_vec ids = {0};
    struct err err = {0};
    for (int i = 0; i < 5000; i++) prompt_text_append(&prompt, "a", 1, false);
    assert_int_equal(tokenizer_encode(t, &prompt, &(struct tokenizer_encode_options){0}, &ids, &err), ERR_LIMIT);
    assert_int_equal(ids.count, 0);
    prompt_text_close(&prompt);
    vec_free(&ids);
    tokenizer_close(t);
}

static void counts_and_bytes_are_checked(void **state) {
    (void)state;
    struct tokenizer *t = open_small();
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    token_vec ids = {0};
    struct err err = {0};
    prompt_text_append(&prompt, "bbbb", 4, true);
    vec_push(&ids, 7);
    assert_int_equal(tokenizer_encode(t, &prompt, &(struct tokenizer_encode_options){.n_tokens_max = 3}, &ids, &err),
                     ERR_LIMIT);
    assert_int_equal(ids.count, 1);
    assert_int_equal(tokenizer_encode(t, &prompt, &(struct tokenizer_encode_options){.n_tokens_max = 4}, &ids, &err),
                     0);
    assert_int_equal(ids.count, 5);
    prompt_text_append(&prompt, "\xff", 1, true);
    assert_int_equal(tokenizer_encode(t, &prompt, &(struct tokenizer_encode_options){0}, &ids, &err), ERR_INVALID);
    assert_int_equal(ids.count, 5);
    prompt_text_close(&prompt);
    vec_free(&ids);
    tokenizer_close(t);
}

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static void config_says_what_stands_around_text(void **state) {
    (void)state;
    static const char file[] =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":\"</s>\","
        "\"special\":true}]," MODEL "}";
    static const struct {
        const char *config;
        int32_t ids[4];
        size_t n;
    } rows[] = {
        {NULL, {2}, 1},
        {"{\"bos_token\":\"<s>\"}", {2}, 1},
        {"{\"bos_token\":\"<s>\",\"add_bos_token\":true}", {3, 2}, 2},
        {"{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\",\"add_bos_token\":true,\"add_eos_token\":true}",
         {3, 2, 4},
         3},
        {"{\"bos_token\":null,\"add_bos_token\":true}", {2}, 1},
        {"{\"added_tokens_decoder\":{\"9\":{\"content\":\"ab\",\"special\":false},\"7\":{\"content\":\"<x>\"}}}",
         {2},
         1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tokenizer *t = open_json_text(file, rows[i].config);
        token_vec ids = encode_text(t, "ab", 2, true, true);
        assert_int_equal(ids.count, rows[i].n);
        assert_memory_equal(ids.items, rows[i].ids, rows[i].n * sizeof *ids.items);
        vec_free(&ids);
        tokenizer_close(t);
    }
}

static void what_is_not_known_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *says;
    } rows[] = {
        {"", "value is missing"},
        {"[]", "object"},
        {"{}", "model"},
        {"{\"extra\":1," MODEL "}", "extra"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "Unigram"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", "model.vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "integer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e9},\"merges\":[]}}", "integer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", "integer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "twice"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "twice"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a c\"]}}", "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "pairs"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}", "unk_token"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "dropout"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}," MODEL "}", "Precompiled"},
        {"{\"normalizer\":{\"type\":\"NFC\",\"x\":1}," MODEL "}", "\"x\""},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}," MODEL "}",
         "regular expression"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"content\":\"\"}," MODEL "}", "&&"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}," MODEL "}", "pattern"},
        {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}", "UnicodeScripts"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Odd\"}," MODEL "}",
         "Odd"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}," MODEL "}", "one character"},
        {"{\"decoder\":{\"type\":\"WordPiece\"}," MODEL "}", "WordPiece"},
        {"{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":\"Metaspace\","
         "\"replacement\":\"_\"}]}," MODEL "}",
         "this place"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}," MODEL
         "}",
         "described"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"a\",7],\"cls\":[\"a\",0]}," MODEL "}",
         "vocabulary"},
        {"{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\"}]," MODEL "}", "another token"},
        {"{\"added_tokens\":[{\"id\":-1,\"content\":\"<s>\"}]," MODEL "}", "\"id\""},
        {"{\"added_tokens\":[{\"content\":\"<s>\"}]," MODEL "}", "id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\u0000\":0},\"merges\":[]}}", "U+0000"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tokenizer *t;
        struct err err = {0};
        if (!tokenizer_open_json(&t, str_view_of(rows[i].json), (struct str_view){0}, &err))
            fail_msg("%s was accepted", rows[i].json);
        assert_null(t);
        if (!strstr(err.text, rows[i].says)) fail_msg("\"%s\" does not say \"%s\"", err.text, rows[i].says);
        assert_null(strchr(err.text, '\n'));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_tokens_need_trust),
        cmocka_unit_test(markers_match_around_untrusted_text),
        cmocka_unit_test(trust_survives_normalising),
        cmocka_unit_test(decoding_piece_by_piece_equals_decoding_whole),
        cmocka_unit_test(ids_out_of_range_are_refused),
        cmocka_unit_test(no_text_is_slow),
        cmocka_unit_test(regular_expressions_have_limits),
        cmocka_unit_test(counts_and_bytes_are_checked),
        cmocka_unit_test(config_says_what_stands_around_text),
        cmocka_unit_test(what_is_not_known_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
