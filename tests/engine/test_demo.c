// The embedded demo model answers as transformers does with the same files: prompts become the same ids, and greedy
// decoding finds the same tokens.
//
// tests/golden/make_demo.py says how demo_greedy.json was made.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "base/file_map.h"
#include "base/json.h"
#include "models/tokenizer.h"

#include <stdlib.h>

enum { TOKENS_MAX = 512 };

static void check_prompt_ids(const struct tokenizer *tokenizer, const char *text, const int32_t *want, int n_want) {
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    prompt_text_append(&prompt, text, strlen(text), true);
    token_vec ids = {0};
    struct err err = {0};
    struct tokenizer_encode_options options = {0};
    assert_int_equal(tokenizer_encode(tokenizer, &prompt, &options, &ids, &err), 0);
    assert_int_equal(ids.count, n_want);
    assert_memory_equal(ids.items, want, (size_t)n_want * sizeof *want);
    vec_free(&ids);
    prompt_text_close(&prompt);
}

static void check_case(struct lone_engine *lone, const cJSON *golden) {
    int32_t prompt[TOKENS_MAX], want[TOKENS_MAX];
    int n_prompt = golden_read_ids(golden, "prompt_ids", prompt, TOKENS_MAX),
        n_want = golden_read_ids(golden, "greedy_ids", want, TOKENS_MAX);
    assert_true(n_prompt > 0 && n_want > 0);
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(golden, "prompt"));
    check_prompt_ids(lone->model->tokenizer, text, prompt, n_prompt);
    int32_t next = lone_compute(lone, prompt, 0, n_prompt, NULL);
    for (int i = 0; i < n_want; i++) {
        if (next != want[i]) fail_msg("\"%s\": token %d is %d instead of %d", text, i, next, want[i]);
        next = lone_compute(lone, &want[i], n_prompt + i, 1, NULL);
    }
}

static void the_demo_answers_as_transformers_does(void **state) {
    (void)state;
    struct file_map map;
    struct err err = {0};
    if (file_map_open(&map, TEST_SOURCE_DIR "/tests/golden/demo_greedy.json", &err)) fail_msg("%s", err.text);
    struct json_limits limits = JSON_LIMITS_FILE;
    cJSON *tree, *golden;
    if (json_parse(&tree, map.data, map.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    static const char *const instruction_sets[] = {"ref", "avx2", "avx512", "auto"};
    for (size_t i = 0; i < sizeof instruction_sets / sizeof *instruction_sets; i++) {
        struct lone_engine lone;
        if (!lone_open(&lone, &(struct lone_options){.instruction_set = instruction_sets[i]})) continue;
        cJSON_ArrayForEach(golden, cJSON_GetObjectItemCaseSensitive(tree, "cases")) check_case(&lone, golden);
        lone_close(&lone);
    }
    cJSON_Delete(tree);
    file_map_close(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_demo_answers_as_transformers_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
