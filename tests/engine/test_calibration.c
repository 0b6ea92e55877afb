// What a model's matrices multiply is seen, by each expert those rows that hit it, and knowing it makes the error of
// their outputs smaller.
#include "tests/test.h"

#include "base/rng.h"
#include "engine/calibration.h"
#include "kernels/offline.h"
#include "models/quantizer.h"

#include <stdlib.h>

enum { N_TOKENS = 600, WINDOW = 60 };

static struct model *open_model(const char *name) {
    struct model *model = NULL;
    struct err err = {0};
    char path[512];
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/golden/%s", name);
    if (model_open(&model, &(struct model_options){.path = path}, &err)) fail_msg("%s", err.text);
    return model;
}

static void calibrate(struct calibration *out, struct model *model) {
    int32_t tokens[N_TOKENS];
    struct err err = {0};
    const uint32_t vocab = (uint32_t)model->spec.vocab;
    for (uint64_t i = 0; i < N_TOKENS; i++) tokens[i] = (int32_t)(rng_u32(rng_key(1, 2, 3), i) % vocab);
    if (calibration_run(out, model, 0, model->spec.n_layers, tokens, N_TOKENS, WINDOW, &err)) fail_msg("%s", err.text);
}

static void every_row_is_seen_once(void **state) {
    (void)state;
    static const char *const names[] = {"qwen3", "mixtral", "qwen3_moe", "gpt_oss"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        struct model *model = open_model(names[n]);
        const struct model_spec *spec = &model->spec;
        struct calibration c;
        calibrate(&c, model);
        for (int32_t i = 0; i < spec->n_layers; i++) {
            const bool has_experts = spec->layers[i].experts != NULL;
            const size_t n_rows = calibration_sums_of(&c, i, CALIBRATION_MLP)->n_rows;
            assert_true(n_rows >= N_TOKENS - N_TOKENS / WINDOW); // a window's last token is only predicted
            assert_int_equal(calibration_sums_of(&c, i, CALIBRATION_ATTENTION)->n_rows, n_rows);
            assert_int_equal(calibration_sums_of(&c, i, CALIBRATION_OUT)->n_rows, n_rows);
            size_t n_down = 0;
            for (int e = 0; e < (has_experts ? spec->n_experts : 1); e++)
                n_down += calibration_sums_of(&c, i, CALIBRATION_DOWN + e)->n_rows;
            assert_int_equal(n_down, has_experts ? n_rows * (size_t)spec->n_hit : n_rows);
        }
        calibration_close(&c);
        model_close(model);
    }
}

static void experts_lose_less_when_they_were_seen(void **state) {
    (void)state;
    struct model *model = open_model("qwen3_moe_every_layer");
    const struct kernel_table *kernels = offline_kernels();
    struct pool *pool;
    struct calibration c;
    struct err err = {0};
    calibrate(&c, model);
    assert_int_equal(pool_open(&pool, 1, &err), 0);
    double searched = 0, measured = 0;
    int n_seen = 0;
    for (int32_t i = 0; i < model->spec.n_layers; i++)
        for (int e = 0; e < model->spec.n_experts; e++) {
            const struct calibration_sums *sums = calibration_sums_of(&c, i, CALIBRATION_DOWN + e);
            const struct tensor *down = &model->spec.layers[i].experts[e].down;
            if (sums->n_rows < 64) continue;
            struct quantizer_moments moments = quantizer_moments_make(sums->sums, sums->n, sums->n_rows, pool, kernels);
            for (int knows = 0; knows < 2; knows++) {
                const struct quantizer_options how = {knows ? QUANTIZER_MEASURED : QUANTIZER_SEARCHED, TENSOR_INT4,
                                                      TENSOR_GROUP, TENSOR_F16};
                struct quantized quantized;
                quantizer_run(&quantized, down, &how, knows ? &moments : NULL, pool, kernels);
                *(knows ? &measured : &searched) += quantizer_error(&quantized, down, sums->sums, pool, kernels);
                quantized_free(&quantized);
            }
            quantizer_moments_free(&moments);
            n_seen++;
        }
    pool_close(pool);
    calibration_close(&c);
    model_close(model);
    printf("%d experts: error %.4f searched, %.4f measured\n", n_seen, searched / n_seen, measured / n_seen);
    assert_true(n_seen > 2);
    assert_true(measured < 0.9 * searched);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_row_is_seen_once),
                                       cmocka_unit_test(experts_lose_less_when_they_were_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
