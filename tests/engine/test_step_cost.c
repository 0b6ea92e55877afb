// What a step must read and compute, against arithmetic by hand.
#include "tests/test.h"

#include "engine/step_cost.h"
#include <math.h>

// Two layers of width 8: q 8x8, k and v 4x8, o 8x8, gate and up 16x8, down 8x16; a head of 32x8. One layer: 576 values.
static void fill(struct model_spec *spec, struct layer_spec layers[2], int32_t window) {
    *spec = (struct model_spec){.n_layers = 2,
                                .hidden = 8,
                                .n_heads = 2,
                                .n_kv_heads = 1,
                                .head_dim = 4,
                                .tied = true,
                                .embed = {.format = TENSOR_BF16, .n_rows = 32, .n_cols = 8},
                                .layers = layers};
    for (int i = 0; i < 2; i++)
        layers[i] = (struct layer_spec){.wq = {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 8},
                                        .wk = {.format = TENSOR_BF16, .n_rows = 4, .n_cols = 8},
                                        .wv = {.format = TENSOR_BF16, .n_rows = 4, .n_cols = 8},
                                        .wo = {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 8},
                                        .gate = {.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                        .up = {.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                        .down = {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 16},
                                        .window = i == 1 ? window : 0};
}

static struct backend *open_backend(void) {
    struct backend *backend = NULL;
    struct err err;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.instruction_set = "ref"}, &err), 0);
    return backend;
}

static void costs_are_those_by_hand(void **state) {
    (void)state;
    struct backend *backend = open_backend();
    static const struct {
        int32_t rows, kv_len, logit_rows, window;
        enum weight_format weights;
        double weight_bytes, kv_bytes, flops;
    } cases[] = {
        // A layer: 576 * 2 bytes; the head: 256 * 2. A token and layer of K and V: 2 * 4 * 4 bytes. Attention: 4 * 8
        // operations a visible key and layer.
        {1, 10, 1, 0, WEIGHT_AS_IS, 2816, 2 * 10 * 32, 2 * 1152 + 2 * 256 + 2 * 10 * 32},
        {3, 3, 0, 0, WEIGHT_AS_IS, 2304, 2 * 3 * 32, 3 * 2 * 1152 + 2 * (1 + 2 + 3) * 32},
        {1, 10, 1, 4, WEIGHT_AS_IS, 2816, (10 + 4) * 32, 2 * 1152 + 2 * 256 + (10 + 4) * 32},
        {2, 10, 1, 4, WEIGHT_AS_IS, 2816, (10 + 5) * 32, 2 * 2 * 1152 + 2 * 256 + (9 + 10 + 4 + 4) * 32},
        // FP8: blocks of 16 outputs, of 8 inputs and a scale of 4 bytes; down has 16 inputs. The head stays.
        {1, 1, 1, 0, WEIGHT_FP8, 2 * 16 * (6 * (8 + 4) + 16 + 4) + 512, 2 * 32, 2 * 1152 + 2 * 256 + 2 * 32},
    };
    const struct kv_shape kv = {2, 1, 4, 16, 8, KV_F32};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_spec spec;
        struct layer_spec layers[2];
        fill(&spec, layers, cases[i].window);
        struct step_sequence sequence = {0, cases[i].rows, cases[i].kv_len, 0};
        struct step_input input = {
            .n_rows = cases[i].rows, .n_sequences = 1, .n_logit_rows = cases[i].logit_rows, .sequences = &sequence};
        struct step_cost cost;
        step_cost_count(&cost, backend, &spec, cases[i].weights, &kv, &input);
        if (cost.weight_bytes != cases[i].weight_bytes || cost.kv_bytes != cases[i].kv_bytes ||
            cost.flops != cases[i].flops)
            fail_msg("case %zu: %g, %g bytes and %g operations", i, cost.weight_bytes, cost.kv_bytes, cost.flops);
    }
    backend_close(backend);
}

// One layer of 4 experts of 16x8, 16x8 and 8x16 values, of which a row hits 1: n rows hit 4 (1 - (3/4)^n) of them.
static void only_experts_hit_are_read(void **state) {
    (void)state;
    struct backend *backend = open_backend();
    struct expert experts[4];
    for (int e = 0; e < 4; e++)
        experts[e] = (struct expert){{.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                     {.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                     {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 16}};
    struct layer_spec layer = {.router = {.format = TENSOR_BF16, .n_rows = 4, .n_cols = 8}, .experts = experts};
    struct model_spec spec = {
        .n_layers = 1, .hidden = 8, .n_heads = 1, .head_dim = 8, .n_experts = 4, .n_hit = 1, .layers = &layer};
    const struct kv_shape kv = {1, 1, 8, 16, 8, KV_F32};
    static const double hit[] = {1, 1.75, 2.3125};
    for (int32_t n = 1; n <= 3; n++) {
        struct step_input input = {.n_rows = n};
        struct step_cost cost;
        step_cost_count(&cost, backend, &spec, WEIGHT_AS_IS, &kv, &input);
        assert_true(fabs(cost.weight_bytes - (64 + hit[n - 1] * 768)) < 1e-9);
        assert_true(cost.flops == n * 2 * (32 + 384));
    }
    backend_close(backend);
}

static void the_slower_of_reading_and_computing_is_the_limit(void **state) {
    (void)state;
    struct model_spec spec = {.embed = {.format = TENSOR_BF16}};
    const struct step_cost cost = {.weight_bytes = 900, .kv_bytes = 100, .flops = 4000};
    static const struct {
        enum tensor_format format;
        enum weight_format weights;
        struct backend_peaks peaks;
        double s;
    } cases[] = {
        {TENSOR_BF16, WEIGHT_AS_IS, {.read_bytes_per_s = 100, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 10},
        {TENSOR_BF16, WEIGHT_AS_IS, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 4},
        {TENSOR_F32, WEIGHT_AS_IS, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 400},
        {TENSOR_F32, WEIGHT_INT4, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 4},
        {TENSOR_BF16, WEIGHT_AS_IS, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10}, 400},
        {TENSOR_BF16, WEIGHT_AS_IS, {.f32_flops_per_s = 10}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spec.embed.format = cases[i].format;
        double s = step_cost_least_s(&cost, &spec, cases[i].weights, &cases[i].peaks);
        if (fabs(s - cases[i].s) > 1e-12) fail_msg("case %zu: %g s", i, s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_those_by_hand),
        cmocka_unit_test(only_experts_hit_are_read),
        cmocka_unit_test(the_slower_of_reading_and_computing_is_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
