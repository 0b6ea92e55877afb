// Our own matrix products against sums in double precision, at the edges of tiles, and their promise: an element's bits
// depend on its row alone.
#include "tests/cuda/product_case.h"
#include "tests/cuda/thread_order.h"

static cudaError_t run_own(void *context, const struct product *p) {
    (void)context;
    return product_own_fits(p->weight[0]) ? product_own(p, NULL) : cudaErrorInvalidValue;
}

static cudaError_t run_plain(void *context, const struct product *p) {
    (void)context;
    return product_plain(p, NULL);
}

static void check_case(const struct product_case *c, run_product *run, double tolerance, uint64_t key) {
    static const int32_t row_counts[] = {1, 2, 7, 8, 9, 16, 33, 64, 65};
    struct operands o;
    operands_make(&o, c, key);
    size_t row_bytes = (size_t)o.p.out_stride * o.element_bytes;
    char *all = run_rows(&o, run, NULL, ROWS_MAX);
    double error = relative_error(&o, all, ROWS_MAX);
    if (!(error <= tolerance))
        print_error("format %d output %d n_in %d: error %g\n", (int)c->kind.format, (int)c->output, c->n_in, error);
    assert_true(error <= tolerance);
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        order_threads(key + i);
        char *some = run_rows(&o, run, NULL, row_counts[i]);
        for (size_t row = 0; row < (size_t)row_counts[i]; row++)
            assert_memory_equal(some + row * row_bytes, all + row * row_bytes, o.n_columns * o.element_bytes);
        free(some);
    }
    free(all);
    operands_free(&o);
}

static void tensor_core_products_are_exact_sums(void **state) {
    (void)state;
    static const struct product_case cases[] = {
        {KIND_BF16, PRODUCT_STORE_F32, 1, {32}, 256, false, 0, 0},
        {KIND_BF16, PRODUCT_STORE_F32, 3, {33, 16, 1}, 40, true, 0, 0},
        {KIND_BF16, PRODUCT_ADD_F32, 1, {50}, 320, true, 0, 0},
        {KIND_BF16, PRODUCT_GATE, 2, {17, 17}, 96, true, OPERAND_F32, ACTIVATION_SILU},
        {KIND_F16, PRODUCT_STORE_F32, 2, {8, 31}, 64, false, 0, 0},
        {KIND_F16, PRODUCT_GATE, 2, {16, 16}, 48, false, OPERAND_F32, ACTIVATION_GELU_TANH},
        {KIND_FP8, PRODUCT_STORE_F32, 1, {40}, 272, true, 0, 0},
        {KIND_FP8, PRODUCT_GATE, 2, {20, 20}, 128, false, OPERAND_F32, ACTIVATION_SILU},
        {KIND_FP8_128, PRODUCT_ADD_F32, 1, {36}, 384, false, 0, 0},
        {KIND_INT4(128, false), PRODUCT_STORE_F32, 3, {32, 8, 8}, 256, true, 0, 0},
        {KIND_INT4(128, true), PRODUCT_GATE, 2, {18, 18}, 384, true, OPERAND_F32, ACTIVATION_SILU},
        {KIND_INT4(64, true), PRODUCT_ADD_F32, 1, {16}, 256, false, 0, 0},
        {KIND_INT4(32, false), PRODUCT_STORE_F32, 1, {34}, 128, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i], run_own, 1e-5, 1000 * (i + 1));
}

static void plain_products_are_exact_sums(void **state) {
    (void)state;
    static const struct product_case cases[] = {
        {KIND_F32, PRODUCT_STORE_F32, 3, {20, 5, 3}, 172, true, 0, 0},
        {KIND_F32, PRODUCT_GATE, 2, {9, 9}, 64, false, OPERAND_F32, ACTIVATION_SILU},
        {KIND_F16, PRODUCT_ADD_F32, 1, {12}, 172, false, 0, 0},
        {KIND_BF16, PRODUCT_STORE_F32, 1, {7}, 3, true, 0, 0},
        {KIND_FP8, PRODUCT_GATE, 2, {6, 6}, 172, false, OPERAND_F32, ACTIVATION_GELU_TANH},
        {KIND_FP8_128, PRODUCT_STORE_F32, 1, {5}, 256, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i], run_plain, 1e-6, 900 * (i + 1));
}

static void gated_outputs_are_rounded_once(void **state) {
    (void)state;
    static const struct product_case bf16 = {KIND_BF16,    PRODUCT_GATE,   2, {16, 16}, 64, false,
                                             OPERAND_BF16, ACTIVATION_SILU};
    static const struct product_case f16 = {KIND_F16, PRODUCT_GATE, 2,           {16, 16},
                                            64,       false,        OPERAND_F16, ACTIVATION_SILU};
    check_case(&bf16, run_own, 2.5e-3, 5);
    check_case(&f16, run_own, 3e-4, 6);
    check_case(&f16, run_plain, 3e-4, 7);
}

// Row k of x is 1 at input k alone, so that row k of the output is column k of the weight, to the last bit. Every INT4
// code comes at every place of a word, every FP8 code comes.
static void codes_are_unpacked_exactly(void **state) {
    (void)state;
    static const struct product_case cases[] = {
        {KIND_FP8, PRODUCT_STORE_F32, 1, {48}, 128, false, 0, 0},
        {KIND_FP8_128, PRODUCT_STORE_F32, 1, {48}, 128, false, 0, 0},
        {KIND_INT4(128, false), PRODUCT_STORE_F32, 1, {48}, 128, false, 0, 0},
        {KIND_INT4(32, true), PRODUCT_STORE_F32, 1, {48}, 128, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum { N_IN = 128, N_OUT = 48 };
        struct operands o;
        operands_make(&o, &cases[i], 300 + i);
        o.p.scale = 1;
        static uint16_t x[ROWS_MAX * N_IN];
        for (size_t k = 0; k < N_IN; k++) x[k * N_IN + k] = bf16_from_f32(1);
        o.p.x = device_upload(&o.buffers, x, sizeof x);
        size_t bytes = cases[i].kind.format == DEVICE_INT4 ? N_IN / 2 * N_OUT : N_IN * N_OUT;
        uint8_t *codes = device_download(o.weight[0].device.data, bytes);
        bool seen[256] = {false};
        char *out = run_rows(&o, run_own, NULL, ROWS_MAX);
        for (size_t j = 0; j < N_OUT * N_IN; j++) {
            size_t k = j % N_IN, nibble = j - k + (size_t)int4_nibble((int32_t)k);
            assert_true(element(&o, out, k, j / N_IN) == (double)(float)o.weight[0].value[j]);
            if (cases[i].kind.format == DEVICE_INT4)
                seen[(codes[nibble / 2] >> nibble % 2 * 4 & 15) * 8 + nibble % 8] = true;
            else
                seen[codes[j]] = true;
        }
        for (int code = 0; code < (cases[i].kind.format == DEVICE_INT4 ? 128 : 256); code++)
            assert_true(seen[code] || (cases[i].kind.format == DEVICE_FP8 && code % 128 == 127)); // NaN
        free(codes), free(out);
        operands_free(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensor_core_products_are_exact_sums),
        cmocka_unit_test(codes_are_unpacked_exactly),
        cmocka_unit_test(plain_products_are_exact_sums),
        cmocka_unit_test(gated_outputs_are_rounded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
