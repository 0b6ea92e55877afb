// Perplexities equal transformers', whatever the windows; divergences equal sums made by hand, and are 0 between a
// model and itself.
//
// tests/golden/README.md says where the models and expected values come from.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "base/file_map.h"
#include "engine/evaluation.h"

#include <math.h>

enum { TOKENS_MAX = 64 };

static void close_to(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g, not %.12g", got, want);
}

// p = (1/4, 1/2, 1/4), q = (1/2, 1/4, 1/4): 1/4 ln(1/2) + 1/2 ln 2 = ln(2) / 4. Adding a number to all logits, or a
// token of probability 0, changes nothing.
static void divergences_are_sums(void **state) {
    (void)state;
    const float ln2 = 0.693147182f, p[] = {0, ln2, 0, -INFINITY}, q[] = {ln2 + 50, 50, 50, -7};
    bool agrees;
    close_to(evaluation_divergence(p, q, 3, &agrees), log(2) / 4, 1e-6);
    assert_false(agrees);
    close_to(evaluation_divergence(p, q, 4, &agrees), log(2) / 4, 1e-6);
    assert_true(evaluation_divergence(q, q, 3, &agrees) == 0);
    assert_true(agrees);
    const float tied[] = {1, 2, 2}, second[] = {0, 5, 0}, third[] = {0, 0, 5};
    evaluation_divergence(tied, second, 3, &agrees);
    assert_true(agrees);
    evaluation_divergence(tied, third, 3, &agrees);
    assert_false(agrees);
}

static cJSON *read_cases(void) {
    struct file_map map;
    struct err err = {0};
    struct json_limits limits = JSON_LIMITS_FILE;
    cJSON *tree;
    if (file_map_open(&map, TEST_SOURCE_DIR "/tests/golden/perplexity.json", &err)) fail_msg("%s", err.text);
    if (json_parse(&tree, map.data, map.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    file_map_close(&map);
    return tree;
}

static int64_t number(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return (int64_t)item->valuedouble;
}

static void check_case(const cJSON *expected, const char *folder) {
    int32_t tokens[TOKENS_MAX];
    size_t n = (size_t)golden_read_tokens(folder, tokens, TOKENS_MAX);
    struct lone_engine lone, reference;
    struct lone_options options = {.path = folder, .n_threads = 1};
    assert_true(lone_open(&lone, &options) && lone_open(&reference, &options));
    const int32_t stride = (int32_t)number(expected, "stride");
    struct evaluation_options windows = {.rule = stride ? EVALUATION_SLIDING : EVALUATION_HALVES,
                                         .window = (int32_t)number(expected, "window"),
                                         .stride = stride,
                                         .bos = -1};
    struct evaluation evaluation;
    struct evaluation_summary summary;
    struct err err = {0};
    if (evaluation_run(&evaluation, lone.engine, reference.engine, tokens, n, &windows, &err)) fail_msg("%s", err.text);
    evaluation_summarise(&evaluation, &summary);
    double want = cJSON_GetObjectItemCaseSensitive(expected, "perplexity")->valuedouble;
    assert_int_equal(evaluation.n_scored, number(expected, "tokens_scored"));
    close_to(summary.perplexity.mean, want, 1e-4 * want);
    assert_true(summary.divergence_max == 0 && summary.divergence.mean == 0 && summary.agreement == 1);
    assert_true(summary.difference.mean == 0 && (summary.difference.low == 0 || evaluation.n_scored < 16));
    evaluation_close(&evaluation);
    lone_close(&reference);
    lone_close(&lone);
}

static void perplexities_equal_transformers(void **state) {
    (void)state;
    cJSON *tree = read_cases();
    const cJSON *item;
    int n_checked = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(tree, "cases")) {
        char folder[1024], config[1100];
        snprintf(folder, sizeof folder, "%s/tests/golden/%s", TEST_SOURCE_DIR,
                 cJSON_GetObjectItemCaseSensitive(item, "model")->valuestring);
        snprintf(config, sizeof config, "%s/config.json", folder);
        if (access(config, R_OK) != 0) continue; // a model with a text, for the tests of the program
        check_case(item, folder);
        n_checked++;
    }
    cJSON_Delete(tree);
    assert_true(n_checked >= 10);
}

// Every divergence of INT4 weights is what the rows of logits of both engines give, and steps of one row with logits
// and of many give the same.
static void divergences_follow_the_logits(void **state) {
    (void)state;
    const char *folder = TEST_SOURCE_DIR "/tests/golden/llama2";
    int32_t tokens[TOKENS_MAX];
    const int n = golden_read_tokens(folder, tokens, TOKENS_MAX);
    struct lone_engine rounded, exact;
    struct lone_options options = {.path = folder, .n_threads = 1};
    assert_true(lone_open(&exact, &options));
    options.weights = "int4";
    assert_true(lone_open(&rounded, &options));
    const size_t vocab = (size_t)exact.model->spec.vocab;
    float *p = test_malloc((size_t)n * vocab * sizeof *p), *q = test_malloc((size_t)n * vocab * sizeof *q);
    lone_compute(&exact, tokens, 0, 32, p);
    lone_compute(&exact, tokens + 32, 32, n - 32, p + 32 * vocab);
    lone_compute(&rounded, tokens, 0, 32, q);
    lone_compute(&rounded, tokens + 32, 32, n - 32, q + 32 * vocab);
    struct evaluation evaluation;
    struct evaluation_options windows = {.window = n, .stride = n};
    assert_int_equal(evaluation_run(&evaluation, rounded.engine, exact.engine, tokens, (size_t)n, &windows, NULL), 0);
    assert_int_equal(evaluation.n_scored, n - 1);
    for (size_t i = 0; i < evaluation.n_scored; i++) {
        bool agrees;
        double want = evaluation_divergence(p + i * vocab, q + i * vocab, (int32_t)vocab, &agrees);
        assert_true(evaluation.divergence[i] == want && evaluation.agrees[i] == agrees && want > 0);
        assert_int_equal(evaluation.token[i], i + 1);
    }
    evaluation_close(&evaluation);
    test_free(p), test_free(q);
    lone_close(&rounded);
    lone_close(&exact);
}

static void impossible_texts_are_refused(void **state) {
    (void)state;
    struct lone_engine lone;
    struct lone_options options = {.path = TEST_SOURCE_DIR "/tests/golden/llama2", .n_threads = 1};
    assert_true(lone_open(&lone, &options));
    struct evaluation evaluation;
    const int32_t tokens[] = {5, 6, 128}, negative[] = {5, -1};
    static const struct evaluation_options sliding = {.window = 8, .stride = 4},
                                           halves = {.rule = EVALUATION_HALVES, .window = 8, .bos = -1};
    assert_int_equal(evaluation_run(&evaluation, lone.engine, NULL, tokens, 1, &sliding, NULL), ERR_INVALID);
    assert_int_equal(evaluation_run(&evaluation, lone.engine, NULL, tokens, 2, &halves, NULL), ERR_INVALID);
    assert_int_equal(evaluation_run(&evaluation, lone.engine, NULL, tokens, 3, &sliding, NULL), ERR_INVALID);
    assert_int_equal(evaluation_run(&evaluation, lone.engine, NULL, negative, 2, &sliding, NULL), ERR_INVALID);
    assert_int_equal(evaluation_run(&evaluation, lone.engine, NULL, tokens, 2, &sliding, NULL), 0);
    evaluation_close(&evaluation);
    lone_close(&lone);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergences_are_sums), cmocka_unit_test(perplexities_equal_transformers),
        cmocka_unit_test(divergences_follow_the_logits), cmocka_unit_test(impossible_texts_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
