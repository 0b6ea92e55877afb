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
    static const char *const names[] = {"mixtral",
                                        "mixtral_window",
                                        "qwen3_moe",
                                        "qwen3_moe_every_layer",
                                        "llama_yarn",
                                        "qwen3",
                                        "qwen3_moe_sparse_step",
                                        "gemma2",
                                        "gemma3",
                                        "phi3_long",
                                        "olmo2_biases",
                                        "smollm3"};
    if (access(PLUGIN, R_OK) != 0) {
        print_message("skipped: the emulated plugin was not built\n");
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i += TEST_STRIDE) check_golden(names[i]);
}

static void what_the_device_lacks_is_refused_in_one_line(void **state) {
    (void)state;
    if (access(PLUGIN, R_OK) != 0) skip();
    struct backend *backend = NULL;
    struct model *model = NULL;
    struct engine *engine = NULL;
    struct err err = {0};
    struct engine_options options = {.kv_bytes = 16 << 20, .kv_format = "f32", .steps_in_flight = 1};
    if (backend_open(&backend, &(struct backend_options){.device = PLUGIN}, &err)) fail_msg("%s", err.text);
    if (model_open(&model, &(struct model_options){.path = TEST_SOURCE_DIR "/tests/golden/gpt_oss"}, &err))
        fail_msg("%s", err.text);
    assert_int_equal(engine_open(&engine, model, backend, &options, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "attention sinks are not supported on a CUDA device"));
    backend_close(backend);
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_equal_transformers),
                                       cmocka_unit_test(what_the_device_lacks_is_refused_in_one_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
