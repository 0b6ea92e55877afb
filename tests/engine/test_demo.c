// The embedded demo model answers as transformers does with the same files: prompts become the same ids, and greedy
// decoding finds the same tokens.
//
// tests/golden/make_demo.py says how demo_greedy.json was made.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "base/file_map.h"
#include "base/json.h"
#include "models/tokenizer.h"

#include <math.h>
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

static cJSON *read_goldens(void) {
    struct file_map map;
    struct err err = {0};
    if (file_map_open(&map, TEST_SOURCE_DIR "/tests/golden/demo_greedy.json", &err)) fail_msg("%s", err.text);
    struct json_limits limits = JSON_LIMITS_FILE;
    cJSON *tree;
    if (json_parse(&tree, map.data, map.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    file_map_close(&map);
    return tree;
}

static void the_demo_answers_as_transformers_does(void **state) {
    (void)state;
    cJSON *tree = read_goldens(), *golden;
    static const char *const instruction_sets[] = {"auto", "avx512", "avx2", "ref"};
    const size_t n = TEST_SEES_THREADS ? 1 : sizeof instruction_sets / sizeof *instruction_sets; // the others take long
    for (size_t i = 0; i < n; i++) {
        struct lone_engine lone;
        if (!lone_open(&lone, &(struct lone_options){.instruction_set = instruction_sets[i]})) continue;
        cJSON_ArrayForEach(golden, cJSON_GetObjectItemCaseSensitive(tree, "cases")) check_case(&lone, golden);
        lone_close(&lone);
    }
    cJSON_Delete(tree);
}

// Divergence from `exact` [vocab] to `other`, in nats; *agrees: both have the same largest.
static double divergence(const float *exact, const float *other, int32_t vocab, bool *agrees) {
    int32_t a = 0, b = 0;
    double sum_a = 0, sum_b = 0, result = 0;
    for (int32_t i = 0; i < vocab; i++) {
        if (exact[i] > exact[a]) a = i;
        if (other[i] > other[b]) b = i;
    }
    for (int32_t i = 0; i < vocab; i++) {
        sum_a += exp((double)(exact[i] - exact[a]));
        sum_b += exp((double)(other[i] - other[b]));
    }
    for (int32_t i = 0; i < vocab; i++) {
        double log_a = (double)(exact[i] - exact[a]) - log(sum_a), log_b = (double)(other[i] - other[b]) - log(sum_b);
        result += exp(log_a) * (log_a - log_b);
    }
    *agrees = a == b;
    return result;
}

// Mean divergence over the questions and answers above, and how often both expect the same token.
struct quality {
    double divergence, agreement;
};

static struct quality compare(const cJSON *tree, const struct lone_options *exact_options,
                              const struct lone_options *other_options) {
    struct lone_engine exact, other;
    assert_true(lone_open(&exact, exact_options) && lone_open(&other, other_options));
    const int32_t vocab = engine_limits(exact.engine)->vocab;
    float *logits[2];
    for (int i = 0; i < 2; i++) logits[i] = calloc((size_t)TOKENS_MAX * (size_t)vocab, sizeof(float));
    double sum = 0;
    int n_agree = 0, n_tokens = 0;
    const cJSON *golden;
    cJSON_ArrayForEach(golden, cJSON_GetObjectItemCaseSensitive(tree, "cases")) {
        int32_t ids[TOKENS_MAX];
        int n = golden_read_ids(golden, "prompt_ids", ids, TOKENS_MAX);
        n += golden_read_ids(golden, "greedy_ids", ids + n, TOKENS_MAX - n);
        lone_compute(&exact, ids, 0, n, logits[0]), lone_compute(&other, ids, 0, n, logits[1]);
        for (int i = 0; i < n; i++, n_tokens++) {
            bool agrees;
            sum += divergence(logits[0] + i * vocab, logits[1] + i * vocab, vocab, &agrees);
            n_agree += agrees;
        }
    }
    free(logits[0]), free(logits[1]);
    lone_close(&exact), lone_close(&other);
    return (struct quality){sum / n_tokens, (double)n_agree / n_tokens};
}

static void small_formats_say_nearly_the_same(void **state) {
    (void)state;
    static const struct {
        const char *name;
        struct lone_options exact, other;
        double divergence, agreement; // at most, at least
    } cases[] = {{"weights in int8", {0}, {.weights = "int8"}, 1e-4, 0.99},
                 {"weights in fp8", {0}, {.weights = "fp8"}, 1e-3, 0.98},
                 {"weights in int4", {0}, {.weights = "int4"}, 2e-2, 0.95},
                 {"kv in int8", {.kv_format = "bf16"}, {.kv_format = "int8"}, 1e-3, 0.99},
                 {"kv in fp8", {.kv_format = "bf16"}, {.kv_format = "fp8"}, 1e-2, 0.98}};
    cJSON *tree = read_goldens();
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct quality q = compare(tree, &cases[c].exact, &cases[c].other);
        printf("%s: divergence %.2g, %.1f %% of tokens agree\n", cases[c].name, q.divergence, 100 * q.agreement);
        assert_true(q.divergence <= cases[c].divergence);
        assert_true(q.agreement >= cases[c].agreement);
    }
    cJSON_Delete(tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_demo_answers_as_transformers_does),
                                       cmocka_unit_test(small_formats_say_nearly_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
