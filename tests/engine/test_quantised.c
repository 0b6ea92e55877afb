// Models in every quantised form have the logits of their dequantised weights, but for the rounding of activations, and
// not a bit of them depends on chunks, threads or the instruction set's tiles.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "base/file_map.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>

enum { TOKENS_MAX = 64 };
#define CHECKPOINTS TEST_SOURCE_DIR "/tests/golden/quantised"

static bool compute(const struct lone_options *options, const int32_t *tokens, int n, int chunk, float *logits) {
    struct lone_engine lone;
    if (!lone_open(&lone, options)) return false;
    for (int first = 0; first < n; first += chunk) {
        int count = n - first < chunk ? n - first : chunk;
        lone_compute(&lone, tokens + first, first, count, logits + first * lone.model->spec.vocab);
    }
    lone_close(&lone);
    return true;
}

// Root mean square of the differences over that of the logits.
static double difference(const float *got, const float *want, size_t n) {
    double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        error += pow((double)got[i] - (double)want[i], 2);
        square += pow((double)want[i], 2);
    }
    return sqrt(error / square);
}

static void check_checkpoint(const char *name, const char *weights, double tolerance) {
    char folder[512], path[600];
    int32_t tokens[TOKENS_MAX];
    struct err err = {0};
    struct file_map want;
    snprintf(folder, sizeof folder, CHECKPOINTS "/%s", name);
    snprintf(path, sizeof path, "%s/logits.f32", folder);
    if (file_map_open(&want, path, &err)) fail_msg("%s", err.text);
    const size_t n_logits = want.n_bytes / sizeof(float);
    const int n = golden_read_tokens(folder, tokens, TOKENS_MAX);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    static const char *const instruction_sets[] = {"ref", "avx2", "auto"};
    float *first = malloc(want.n_bytes), *again = malloc(want.n_bytes), *expected = malloc(want.n_bytes);
    memcpy(expected, want.data, want.n_bytes);
    for (size_t i = 0; i < 3; i++) {
        struct lone_options options = {.path = access(path, R_OK) == 0 ? path : folder,
                                       .instruction_set = instruction_sets[i],
                                       .n_threads = 1,
                                       .weights = weights};
        if (!compute(&options, tokens, n, n, first)) continue;
        double got = difference(first, expected, n_logits);
        if (!(got <= tolerance)) fail_msg("%s, %s, %s: %g of the logits", name, weights, instruction_sets[i], got);
        options.n_threads = 2;
        compute(&options, tokens, n, 5, again);
        if (memcmp(first, again, want.n_bytes) != 0) fail_msg("%s, %s: chunks change bits", name, instruction_sets[i]);
    }
    free(first), free(again), free(expected);
    file_map_close(&want);
}

static void logits_are_those_of_the_dequantised_weights(void **state) {
    (void)state;
    DIR *dir = opendir(CHECKPOINTS);
    assert_non_null(dir);
    int n_checked = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        const bool is_float = strncmp(entry->d_name, "fp8", 3) == 0; // multiplies activations rounded to BF16
        check_checkpoint(entry->d_name, "auto", is_float ? 1e-2 : 4e-2);
        n_checked++;
    }
    closedir(dir);
    assert_int_equal(n_checked, 16);
}

// From any form to any other.
static void quantised_weights_can_be_converted(void **state) {
    (void)state;
    static const char *const names[] = {"awq", "fp8_blocks", "int8", "gguf_small"};
    static const struct {
        const char *weights;
        double tolerance;
    } formats[] = {{"bf16", 2e-2}, {"fp8", 1e-1}, {"int8", 3e-2}, {"int4", 4e-1}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
            check_checkpoint(names[i], formats[f].weights, formats[f].tolerance);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_are_those_of_the_dequantised_weights),
                                       cmocka_unit_test(quantised_weights_can_be_converted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
