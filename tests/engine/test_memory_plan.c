// The memory plan keeps its promises: what it grants fits, a lone sequence of the granted context fits into the cache,
// and impossible wishes are refused with a reason.
#include "tests/test.h"

#include "base/memory_available.h"
#include "engine/memory_plan.h"

static struct model_spec spec_of_0_6b(void) {
    return (struct model_spec){.n_layers = 28,
                               .hidden = 1024,
                               .n_heads = 16,
                               .n_kv_heads = 8,
                               .head_dim = 128,
                               .mlp_width = 3072,
                               .vocab = 151936,
                               .context_max = 40960,
                               .n_parameters = 596000000};
}

static void plans_fit(void **state) {
    (void)state;
    struct model_spec spec = spec_of_0_6b();
    // 28 layers * 8 heads * 128 * 2 (K and V) * 2 bytes * 16 tokens = 1,835,008 bytes a block
    static const struct {
        struct engine_options options;
        uint64_t budget;
        int32_t context, n_blocks;
    } rows[] = {
        {{.context = 4096, .kv_bytes = (uint64_t)1 << 30}, 0, 4096, 585},
        {{.context = 0, .kv_bytes = (uint64_t)1 << 30}, 0, 585 * 16, 585},
        {{.context = 1024, .sequences_max = 2}, (uint64_t)4 << 30, 1024, 128},
        {{.context = 1024, .sequences_max = 128}, (uint64_t)1 << 30, 1024, 585},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct memory_plan plan;
        struct err err = {0};
        assert_int_equal(memory_plan_make(&plan, &spec, 151669, &rows[i].options, rows[i].budget, &err), 0);
        assert_int_equal(plan.kv.format, KV_BF16);
        assert_int_equal(plan.limits.n_blocks, rows[i].n_blocks);
        assert_int_equal(plan.limits.context, rows[i].context);
        assert_true(plan.limits.sequences_max <= plan.limits.rows_max);
        assert_true(plan.limits.logit_rows_max >= plan.limits.sequences_max);
        assert_true(plan.limits.n_blocks * plan.limits.block_tokens >= plan.limits.context);
        assert_true(plan.limits.seen_max >= plan.limits.context);
    }
}

static void impossible_wishes_are_refused(void **state) {
    (void)state;
    struct model_spec spec = spec_of_0_6b();
    static const struct engine_options wishes[] = {{.context = 40961}, {.kv_bytes = 1000}, {.kv_format = "fp4"}};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        struct memory_plan plan;
        struct err err = {0};
        assert_true(memory_plan_make(&plan, &spec, 151669, &wishes[i], (uint64_t)8 << 30, &err) < 0);
        assert_true(strlen(err.text) > 10);
    }
}

static void small_models_keep_f32(void **state) {
    (void)state;
    struct model_spec spec = {.n_layers = 5,
                              .hidden = 64,
                              .n_heads = 8,
                              .n_kv_heads = 4,
                              .head_dim = 8,
                              .mlp_width = 172,
                              .vocab = 512,
                              .context_max = 512,
                              .n_parameters = 260000};
    struct memory_plan plan;
    struct err err = {0};
    assert_int_equal(memory_plan_make(&plan, &spec, 512, &(struct engine_options){0}, (uint64_t)1 << 30, &err), 0);
    assert_int_equal(plan.kv.format, KV_F32);
    assert_int_equal(plan.limits.n_blocks, 128 * 512 / 16);
    assert_true(memory_available_bytes() > 0);
}

// One layer of width 256 with every matrix 256 x 256 but k and v (128 x 256), an embedding of 1000 rows, all in F32.
static void weights_take_what_their_format_needs(void **state) {
    (void)state;
    struct tensor square = {.n_rows = 256, .n_cols = 256}, half = {.n_rows = 128, .n_cols = 256};
    struct layer_spec layer = {
        .wq = square, .wk = half, .wv = half, .wo = square, .gate = square, .up = square, .down = square};
    struct model_spec spec = {
        .n_layers = 1, .layers = &layer, .tied = true, .embed = {.n_rows = 1000, .n_cols = 256}, .head = square};
    const uint64_t n = 6 * 65536, n_out = 5 * 256 + 2 * 128, embed = 256000;
    const uint64_t table = 63 * 16 * (256 + 8 * 2); // in INT8: blocks of 16 outputs, groups of 32 inputs
    static const char *const names[] = {"auto", "bf16", "fp8", "int8", "int4"};
    const uint64_t expected[] = {4 * (n + embed), 2 * (n + embed), n + 4 * 2 * n_out + 2 * embed,
                                 n + 2 * 8 * n_out + table, n / 2 + 2 * 8 * n_out + table};
    struct err err = {0};
    struct backend *backend;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.instruction_set = "ref"}, &err), 0);
    for (size_t i = 0; i < 5; i++) {
        enum weight_format format;
        assert_int_equal(memory_plan_weight_format(&format, names[i], &err), 0);
        assert_int_equal(memory_plan_weight_bytes(backend, &spec, format), expected[i]);
        assert_int_equal(memory_plan_check_weights(backend, &spec, format, expected[i], &err), 0);
        assert_int_equal(memory_plan_check_weights(backend, &spec, format, expected[i] - 1, &err), ERR_LIMIT);
    }
    assert_non_null(strstr(err.text, "no format"));
    assert_int_equal(memory_plan_check_weights(backend, &spec, WEIGHT_AS_IS, expected[2], &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "--weights fp8"));
    enum weight_format format;
    assert_int_equal(memory_plan_weight_format(&format, "int2", &err), ERR_INVALID);
    backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_fit),
        cmocka_unit_test(impossible_wishes_are_refused),
        cmocka_unit_test(small_models_keep_f32),
        cmocka_unit_test(weights_take_what_their_format_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
