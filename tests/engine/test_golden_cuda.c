// Models of some families, those with experts among them, on the emulated CUDA device: logits equal Hugging Face
// transformers' in float32 within 1e-4 of the largest logit.
//
// tests/golden/README.md says where the models and their logits come from.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "base/file_map.h"

#include <stdlib.h>

enum { TOKENS_MAX = 64, CHUNK = 20 };

#define PLUGIN TEST_BINARY_DIR "/../emulated/liboptima_cuda.so"

static void check_golden(const char *name) {
    int32_t tokens[TOKENS_MAX];
    char folder[1024], path[1100];
    snprintf(folder, sizeof folder, "%s/tests/golden/%s", TEST_SOURCE_DIR, name);
    snprintf(path, sizeof path, "%s/logits.f32", folder);
    int n = golden_read_tokens(folder, tokens, TOKENS_MAX);
    struct file_map want;
    struct err err = {0};
    if (file_map_open(&want, path, &err)) fail_msg("%s", err.text);
    struct lone_options options = {.path = folder, .device = PLUGIN};
    struct lone_engine lone;
    assert_true(lone_open(&lone, &options));
    float *got = malloc(want.n_bytes), *reference = malloc(want.n_bytes);
    memcpy(reference, want.data, want.n_bytes);
    const size_t vocab = (size_t)lone.model->spec.vocab;
    for (int first = 0; first < n; first += CHUNK)
        lone_compute(&lone, tokens + first, first, n - first < CHUNK ? n - first : CHUNK, got + (size_t)first * vocab);
    golden_check_close(name, "CUDA", got, reference, want.n_bytes / sizeof(float));
    free(got), free(reference);
    lone_close(&lone);
    file_map_close(&want);
}

static void logits_equal_transformers(void **state) {
    (void)state;
    static const char *const names[] = {
        "mixtral", "mixtral_window",       "qwen3_moe", "qwen3_moe_every_layer", "llama_yarn",
        "qwen3",   "qwen3_moe_sparse_step"};
    if (access(PLUGIN, R_OK) != 0) {
        print_message("skipped: the emulated plugin was not built\n");
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_golden(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_equal_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
