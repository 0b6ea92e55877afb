// The engine's ways: cuBLASLt as it is emulated, expansion in slices, temporaries of gate and up, and our own kernels.
#include "tests/cuda/product_case.h"
#if defined(OPTIMA_CUDA_EMULATION)
#include "tests/cuda_emulation/emulation_control.h"
#endif

static void *allocate(void *context, size_t n_bytes) {
    return device_poisoned(context, n_bytes);
}

static cudaError_t run_engine(void *context, const struct product *p) {
    return product_run(context, p, NULL);
}

static cudaError_t run_prepared(void *context, const struct product *p) {
    struct err err = {0};
    size_t element = p->output == PRODUCT_GATE ? operand_bytes(p->out_format) : sizeof(float);
    size_t bytes = (size_t)p->n_rows * (size_t)p->out_stride * element;
    void *before = device_download(p->out, bytes);
    int rc = product_prepare(context, p, &err);
    // Preparing leaves anything in the output; what is added to must be there again.
    cudaMemcpy(p->out, before, bytes, cudaMemcpyHostToDevice);
    free(before);
    return rc ? cudaErrorUnknown : product_run(context, p, NULL);
}

static struct product_engine *engine_open(struct device_buffers *memory, const struct product_engine_options *options) {
    struct product_engine *engine = NULL;
    struct err err = {0};
    assert_int_equal(product_engine_open(&engine, options, allocate, memory, NULL, &err), 0);
    return engine;
}

static struct product_engine_options options_for(const struct product_case *c) {
    // The largest product is said to be smaller than it is, so that expansion goes in slices.
    return (struct product_engine_options){.format = c->kind.format,
                                           .rows_max = ROWS_MAX,
                                           .n_in_max = c->n_in,
                                           .n_out_max = 64,
                                           .mlp_width = c->output == PRODUCT_GATE ? c->n_out[0] : 0};
}

static double engine_error(const struct product_case *c, run_product *run, int32_t n_rows, uint64_t key) {
    struct device_buffers memory = {0};
    struct product_engine_options options = options_for(c);
    struct product_engine *engine = engine_open(&memory, &options);
    struct operands o;
    operands_make(&o, c, key);
    char *out = run_rows(&o, run, engine, n_rows);
    double error = relative_error(&o, out, n_rows);
    free(out);
    operands_free(&o);
    product_engine_close(engine);
    device_buffers_free(&memory);
    return error;
}

static const struct product_case cases[] = {
    {KIND_F32, PRODUCT_STORE_F32, 3, {20, 5, 3}, 172, true, 0, 0},
    {KIND_F32, PRODUCT_GATE, 2, {9, 9}, 64, true, OPERAND_F32, ACTIVATION_SILU},
    {KIND_F16, PRODUCT_ADD_F32, 1, {24}, 64, true, 0, 0},
    {KIND_BF16, PRODUCT_STORE_F32, 2, {32, 8}, 96, false, 0, 0},
    {KIND_BF16, PRODUCT_STORE_F32, 1, {7}, 172, false, 0, 0}, // n_in is no multiple of 8: never by the library
    {KIND_BF16, PRODUCT_GATE, 2, {24, 24}, 64, true, OPERAND_BF16, ACTIVATION_GELU_TANH},
    {KIND_FP8, PRODUCT_STORE_F32, 3, {32, 16, 8}, 128, true, 0, 0},
    {KIND_FP8, PRODUCT_ADD_F32, 1, {150}, 64, false, 0, 0}, // 150 is no multiple of 8: expanded, in slices
    {KIND_FP8, PRODUCT_GATE, 2, {24, 24}, 96, true, OPERAND_BF16, ACTIVATION_SILU},
    {KIND_FP8_128, PRODUCT_STORE_F32, 1, {32}, 256, false, 0, 0},
    {KIND_INT4(128, false), PRODUCT_STORE_F32, 1, {200}, 128, true, 0, 0},
    {KIND_INT4(64, true), PRODUCT_GATE, 2, {136, 136}, 128, false, OPERAND_BF16, ACTIVATION_SILU},
};

// Of sums of exact operands; of outputs or expanded weights rounded to BF16; of activations rounded to E4M3.
static double tolerance(const struct product_case *c, int32_t n_rows, bool has_fp8) {
    bool library = n_rows > 8, expanded = c->kind.format == DEVICE_FP8 || c->kind.format == DEVICE_INT4;
    if (library && has_fp8 && c->kind.format == DEVICE_FP8 && !c->kind.group) return 4e-2;
    if (library && expanded) return 6e-3;
    return c->output == PRODUCT_GATE && c->out_format == OPERAND_BF16 ? 6e-3 : 1e-5;
}

static bool multiplies_fp8(void) {
    struct device_buffers memory = {0};
    struct product_engine_options options = {.format = DEVICE_FP8, .rows_max = 8, .n_in_max = 128, .n_out_max = 64};
    struct product_engine *engine = engine_open(&memory, &options);
    bool by_library = strstr(product_engine_description(engine), "FP8 by channel and token");
    assert_true(by_library || strstr(product_engine_description(engine), "expanded to BF16"));
    product_engine_close(engine);
    device_buffers_free(&memory);
    return by_library;
}

static void check_cases(bool has_fp8, bool only_fp8) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const int32_t rows[] = {3, 30, ROWS_MAX};
        if (only_fp8 && cases[i].kind.format != DEVICE_FP8) continue;
        for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
            double plain = engine_error(&cases[i], run_engine, rows[j], i + 1);
            double prepared = engine_error(&cases[i], run_prepared, rows[j], i + 1);
            double limit = tolerance(&cases[i], rows[j], has_fp8);
            if (!(plain <= limit && prepared <= limit))
                print_error("case %zu, %d rows, fp8 %d: %g %g\n", i, rows[j], has_fp8, plain, prepared);
            assert_true(plain <= limit && prepared <= limit);
        }
    }
}

static void every_way_gives_the_product(void **state) {
    (void)state;
    check_cases(multiplies_fp8(), false);
}

#if defined(OPTIMA_CUDA_EMULATION)
static void what_the_library_lacks_is_expanded(void **state) {
    (void)state;
    const struct emulation_device hopper = emulation_device_get();
    struct emulation_device older = hopper;
    assert_true(multiplies_fp8());
    older.major = 8, older.minor = 9;
    emulation_device_set(&older);
    assert_false(multiplies_fp8());
    older.minor = 0;
    emulation_device_set(&older);
    check_cases(false, true);
    emulation_device_set(&hopper);
}
#endif

#if defined(OPTIMA_CUDA_EMULATION)
static cudaError_t run_own(void *context, const struct product *p) {
    (void)context;
    return product_own(p, NULL);
}

// Not every device and version has every product; the first call of the library fails here.
static void what_the_library_refuses_takes_our_kernel(void **state) {
    (void)state;
    static const struct product_case refused = {KIND_BF16, PRODUCT_STORE_F32, 1, {40}, 96, true, 0, 0};
    struct device_buffers memory = {0};
    struct product_engine_options options = options_for(&refused);
    struct product_engine *engine = engine_open(&memory, &options);
    struct operands o;
    struct err err = {0};
    operands_make(&o, &refused, 31);
    o.p.n_rows = ROWS_MAX;
    o.p.out = device_poisoned(&memory, (size_t)ROWS_MAX * (size_t)o.p.out_stride * sizeof(float));
    emulation_fail_after(0, cudaErrorNotSupported, false);
    assert_int_equal(product_prepare(engine, &o.p, &err), 0);
    emulation_fail_after(0, cudaSuccess, false);
    char *out = run_rows(&o, run_engine, engine, ROWS_MAX), *own = run_rows(&o, run_own, NULL, ROWS_MAX);
    assert_memory_equal(out, own, ROWS_MAX * (size_t)o.p.out_stride * sizeof(float));
    free(out), free(own);
    operands_free(&o);
    product_engine_close(engine);
    device_buffers_free(&memory);
}
#endif

// Bits of a row do not depend on how many there are, above and below all limits.
static void deterministic_products_take_our_kernels(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct device_buffers memory = {0};
        struct product_engine_options options = options_for(&cases[i]);
        options.deterministic = true;
        struct product_engine *engine = engine_open(&memory, &options);
        assert_int_equal(memory.count, 0);
        struct operands o;
        operands_make(&o, &cases[i], 70 + i);
        char *one = run_rows(&o, run_engine, engine, 1), *all = run_rows(&o, run_engine, engine, ROWS_MAX);
        assert_memory_equal(one, all, o.n_columns * o.element_bytes);
        free(one), free(all);
        operands_free(&o);
        product_engine_close(engine);
        device_buffers_free(&memory);
    }
}

// Two weights that lie behind one another are one for the library.
static void neighbours_are_multiplied_together(void **state) {
    (void)state;
    static const struct product_case whole = {KIND_BF16, PRODUCT_STORE_F32, 1, {48}, 64, false, 0, 0};
    struct device_buffers memory = {0};
    struct product_engine_options options = options_for(&whole);
    struct product_engine *engine = engine_open(&memory, &options);
    struct operands o;
    operands_make(&o, &whole, 11);
    char *expected_out = run_rows(&o, run_engine, engine, ROWS_MAX);
    struct device_weight parts[2] = {o.weight[0].device, o.weight[0].device};
    parts[0].n_out = 40, parts[1].n_out = 8;
    parts[1].data = (const char *)parts[0].data + 40 * 64 * 2;
    o.p.n_weights = 2, o.p.weight[0] = &parts[0], o.p.weight[1] = &parts[1];
    char *out = run_rows(&o, run_engine, engine, ROWS_MAX);
    for (size_t row = 0; row < ROWS_MAX; row++) {
        size_t at = row * (size_t)o.p.out_stride * sizeof(float);
        assert_memory_equal(out + at, expected_out + at, 48 * sizeof(float));
    }
    free(out), free(expected_out);
    o.p.n_weights = 1;
    operands_free(&o);
    product_engine_close(engine);
    device_buffers_free(&memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_gives_the_product),
#if defined(OPTIMA_CUDA_EMULATION)
        cmocka_unit_test(what_the_library_lacks_is_expanded),
        cmocka_unit_test(what_the_library_refuses_takes_our_kernel),
#endif
        cmocka_unit_test(deterministic_products_take_our_kernels),
        cmocka_unit_test(neighbours_are_multiplied_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
