// Logits equal Hugging Face transformers' in float32 within 1e-4 of the largest logit, for every supported family, and
// do not change in a single bit with chunk size, thread count or steps in flight.
//
// tests/golden/README.md says where the models and their logits come from.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "base/file_map.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>

enum { TOKENS_MAX = 512 };

static bool compute_in_chunks(const struct lone_options *options, const int32_t *tokens, int n, int chunk,
                              float *logits) {
    struct lone_engine lone;
    if (!lone_open(&lone, options)) return false;
    size_t vocab = (size_t)lone.model->spec.vocab;
    for (int first = 0; first < n; first += chunk) {
        int count = n - first < chunk ? n - first : chunk;
        lone_compute(&lone, tokens + first, first, count, logits + (size_t)first * vocab);
    }
    lone_close(&lone);
    return true;
}

// The model in `folder` against the tokens and logits in `expected`.
static void check_golden(const char *folder, const char *expected, const char *name, float tolerance) {
    int32_t tokens[TOKENS_MAX];
    int n = golden_read_tokens(expected, tokens, TOKENS_MAX);
    char path[1100];
    snprintf(path, sizeof path, "%s/logits.f32", expected);
    struct file_map want;
    struct err err = {0};
    if (file_map_open(&want, path, &err)) fail_msg("%s", err.text);
    size_t n_logits = want.n_bytes / sizeof(float);
    float *first = malloc(want.n_bytes), *again = malloc(want.n_bytes), *reference = malloc(want.n_bytes);
    memcpy(reference, want.data, want.n_bytes);
    static const char *const instruction_sets[] = {"ref", "avx2", "auto"};
    for (size_t i = 0; i < 3; i++) {
        struct lone_options options = {.path = folder, .instruction_set = instruction_sets[i], .n_threads = 1};
        if (!compute_in_chunks(&options, tokens, n, 32, first)) continue;
        golden_check_within(tolerance, name, instruction_sets[i], first, reference, n_logits);
        static const struct { int chunk, threads, in_flight; } variants[] = {{1, 1, 1}, {7, 2, 1}, {16, 2, 2}};
        for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
            options.n_threads = variants[v].threads;
            options.steps_in_flight = variants[v].in_flight;
            compute_in_chunks(&options, tokens, n, variants[v].chunk, again);
            if (memcmp(first, again, want.n_bytes) != 0)
                fail_msg("%s, %s: logits change with chunks of %d on %d threads", name, instruction_sets[i],
                         variants[v].chunk, variants[v].threads);
        }
    }
    // The same weights as GGUF, in single precision, where there are any.
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    struct lone_options options = {.path = path, .instruction_set = "auto", .n_threads = 1};
    if (access(path, R_OK) == 0 && compute_in_chunks(&options, tokens, n, 32, first))
        golden_check_close(name, "GGUF", first, reference, n_logits);
    free(first), free(again), free(reference);
    file_map_close(&want);
}

static void logits_equal_transformers(void **state) {
    (void)state;
    DIR *dir = opendir(TEST_SOURCE_DIR "/tests/golden");
    assert_non_null(dir);
    int n_checked = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char folder[1024], path[1100];
        snprintf(folder, sizeof folder, "%s/tests/golden/%s", TEST_SOURCE_DIR, entry->d_name);
        snprintf(path, sizeof path, "%s/logits.f32", folder);
        if (entry->d_name[0] == '.' || access(path, R_OK) != 0) continue;
        // Experts in MXFP4 meet activations of 8 bits.
        check_golden(folder, folder, entry->d_name, strncmp(entry->d_name, "gpt_oss", 7) == 0 ? 5e-2f : 1e-4f);
        n_checked++;
    }
    closedir(dir);
    assert_true(n_checked >= 8);
}

static void logits_of_given_models_equal_transformers(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/tiny_random/tiny_gemma3/config.json");
    // Its weights are BF16, so activations are rounded to 8 bits before each product here.
    check_golden(TEST_SHARED_DIR "/data/models/tiny_random/tiny_gemma3",
                 TEST_SOURCE_DIR "/tests/golden/given/tiny_gemma3", "tiny_gemma3", 2e-2f);
}

// Where the context that is served ends with the original one, transformers and others use the short factors.
static void short_contexts_have_their_own_rotation(void **state) {
    (void)state;
    const char *folder = TEST_SOURCE_DIR "/tests/golden/phi3_long";
    int32_t tokens[TOKENS_MAX];
    golden_read_tokens(folder, tokens, TOKENS_MAX);
    struct file_map want;
    struct err err = {0};
    if (file_map_open(&want, TEST_SOURCE_DIR "/tests/golden/phi3_long/logits_short.f32", &err))
        fail_msg("%s", err.text);
    float *got = malloc(want.n_bytes), *expected = malloc(want.n_bytes);
    memcpy(expected, want.data, want.n_bytes);
    compute_in_chunks(&(struct lone_options){.path = folder, .context = 16}, tokens, 16, 16, got);
    golden_check_close("phi3_long", "auto", got, expected, want.n_bytes / sizeof(float));
    free(got), free(expected);
    file_map_close(&want);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_equal_transformers),
                                       cmocka_unit_test(short_contexts_have_their_own_rotation),
                                       cmocka_unit_test(logits_of_given_models_equal_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
