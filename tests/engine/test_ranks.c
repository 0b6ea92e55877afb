// Ranks that share a model compute what one computes: logits within 1e-4 of transformers', and equal bits on every
// rank.
#include "tests/engine/lone_sequence.h"
#include "tests/engine/thread_comm.h"
#include "tests/test.h"

#include "base/file_map.h"

#include <stdlib.h>

enum { TOKENS_MAX = 64 };

struct follower {
    struct lone_options options;
    int rc;
};

static void *follow(void *argument) {
    struct follower *follower = argument;
    struct lone_engine lone;
    if (!lone_open(&lone, &follower->options)) return NULL;
    struct err err = {0};
    follower->rc = engine_follow(lone.engine, &err);
    lone_close(&lone);
    return NULL;
}

static void check_ranks(const char *name, int n_ranks, int n_threads, float tolerance) {
    char folder[512], path[600];
    snprintf(folder, sizeof folder, "%s/tests/golden/%s", TEST_SOURCE_DIR, name);
    snprintf(path, sizeof path, "%s/logits.f32", folder);
    int32_t tokens[TOKENS_MAX];
    int n = golden_read_tokens(folder, tokens, TOKENS_MAX);
    struct file_map want;
    struct err err = {0};
    if (file_map_open(&want, path, &err)) fail_msg("%s", err.text);
    float *got = malloc(want.n_bytes), *expected = malloc(want.n_bytes);
    memcpy(expected, want.data, want.n_bytes);

    struct thread_ranks ranks;
    thread_ranks_open(&ranks, n_ranks);
    struct follower followers[THREAD_RANKS_MAX];
    pthread_t threads[THREAD_RANKS_MAX];
    for (int i = 1; i < n_ranks; i++) {
        followers[i] = (struct follower){
            .options = {.path = folder, .n_threads = n_threads, .comm = &ranks.ranks[i].common}, .rc = -1};
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &followers[i]), 0);
    }
    struct lone_engine lone;
    assert_true(lone_open(
        &lone, &(struct lone_options){.path = folder, .n_threads = n_threads, .comm = &ranks.ranks[0].common}));
    size_t vocab = (size_t)lone.model->spec.vocab;
    for (int first = 0; first < n; first += 16)
        lone_compute(&lone, tokens + first, first, n - first < 16 ? n - first : 16, got + (size_t)first * vocab);
    lone_close(&lone);
    for (int i = 1; i < n_ranks; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(followers[i].rc, 0);
    }
    golden_check_within(tolerance, name, "ranks", got, expected, want.n_bytes / sizeof(float));
    thread_ranks_close(&ranks);
    free(got), free(expected);
    file_map_close(&want);
}

// Biases of o and down, which only one rank may add; tied and untied heads; windows; norms of heads; odd widths;
// experts.
static void ranks_compute_what_one_computes(void **state) {
    (void)state;
    static const char *const names[] = {"llama2",
                                        "llama_linear_biases",
                                        "llama3_tied",
                                        "mistral_window",
                                        "qwen3",
                                        "qwen3_tied_biases",
                                        "qwen2_upper_window",
                                        "mixtral",
                                        "qwen3_moe",
                                        "gemma2",
                                        "gemma3",
                                        "phi3_long",
                                        "smollm3_listed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_ranks(names[i], 2, 1, 1e-4f);
    check_ranks("llama2", 4, 1, 1e-4f);
    check_ranks("llama2", 2, 2, 1e-4f);
    check_ranks("gpt_oss", 2, 1, 5e-2f); // activations of 8 bits
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_compute_what_one_computes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
