// A real trained model writes exactly the greedy text that an independent implementation wrote, from each of its files.
// Integer weights multiply rounded activations: there, each token of that text is the likeliest, or nearly.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "base/file_map.h"
#include "base/json.h"

enum { TOKENS_MAX = 512, VOCAB = 512 };

// slack: by how much the logit of a token may be below the largest.
static void check_case(struct lone_engine *lone, const char *path, const cJSON *expected, float slack) {
    static float logits[TOKENS_MAX * VOCAB];
    int32_t prompt[TOKENS_MAX], want[TOKENS_MAX];
    int n_prompt = golden_read_ids(expected, "prompt_ids", prompt, TOKENS_MAX),
        n_want = golden_read_ids(expected, "ids", want, TOKENS_MAX);
    assert_true(n_prompt > 0 && n_want > n_prompt);
    int32_t next = lone_compute(lone, prompt, 0, n_prompt, logits);
    const float *last = logits + (size_t)(n_prompt - 1) * VOCAB;
    for (int i = n_prompt; i < n_want; i++, last = logits) {
        if (next != want[i] && !(last[want[i]] >= last[next] - slack))
            fail_msg("%s: token %d is %d instead of %d, better by %g", path, i, next, want[i],
                     (double)(last[next] - last[want[i]]));
        next = lone_compute(lone, &want[i], i, 1, logits);
    }
}

static void check_file(const char *model_path, const char *expected_path, float slack) {
    struct file_map map;
    struct err err = {0};
    if (file_map_open(&map, expected_path, &err)) fail_msg("%s", err.text);
    struct json_limits limits = JSON_LIMITS_FILE;
    cJSON *tree, *expected;
    if (json_parse(&tree, map.data, map.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    static const char *const instruction_sets[] = {"auto", "avx2", "ref"};
    const size_t n = TEST_SEES_THREADS ? 1 : sizeof instruction_sets / sizeof *instruction_sets; // the others take long
    for (size_t i = 0; i < n; i++) {
        struct lone_engine lone;
        if (!lone_open(&lone, &(struct lone_options){.path = model_path, .instruction_set = instruction_sets[i]}))
            continue;
        cJSON_ArrayForEach(expected, cJSON_GetObjectItemCaseSensitive(tree, "cases"))
            check_case(&lone, model_path, expected, slack);
        lone_close(&lone);
    }
    cJSON_Delete(tree);
    file_map_close(&map);
}

static void unquantised_files_agree(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/stories260K/expected_greedy.json");
#define DATA TEST_SHARED_DIR "/data/models/stories260K"
    check_file(DATA "/hf", DATA "/expected_greedy.json", 0);
    check_file(DATA "/stories260K.f32.gguf", DATA "/expected_greedy.json", 0);
    check_file(DATA "/stories260K.f16.gguf", DATA "/expected_greedy.json", 0);
}

static void quantised_files_agree_with_their_dequantised_weights(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/stories260K/expected_greedy.json");
    check_file(DATA "/stories260K.q8_0.gguf", TEST_SOURCE_DIR "/tests/golden/stories260K_q8_0.json", 0.15f);
    check_file(DATA "/stories260K.q4_0.gguf", TEST_SOURCE_DIR "/tests/golden/stories260K_q4_0.json", 0.15f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unquantised_files_agree),
        cmocka_unit_test(quantised_files_agree_with_their_dequantised_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
