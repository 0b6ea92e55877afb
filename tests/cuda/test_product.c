// Our own matrix products against sums in double precision, at the edges of tiles, and their promise: an element's bits
// depend on its row alone.
#include "tests/test.h"

#include "kernels/cuda/product_parts.h"
#include "tests/cuda/random_weight.h"

#include <math.h>

enum { ROWS_MAX = 130 };
static const int32_t row_counts[] = {ROWS_MAX, 1, 2, 7, 8, 9, 16, 33, 64, 65};

typedef cudaError_t run_product(const struct product *p, cudaStream_t stream);

struct product_case {
    struct weight_kind kind;
    enum product_output output;
    int n_weights;
    int32_t n_out[PRODUCT_WEIGHTS_MAX], n_in;
    bool bias;
    enum operand_format out_format;
    enum activation activation;
};

struct operands {
    struct device_buffers buffers;
    struct random_weight weight[PRODUCT_WEIGHTS_MAX];
    float *bias[PRODUCT_WEIGHTS_MAX];
    double *x;
    float *before; // of ADD
    struct product p;
    size_t n_columns, element_bytes;
};

static void operands_make(struct operands *o, const struct product_case *c, uint64_t key) {
    *o = (struct operands){.p = {.output = c->output,
                                 .n_weights = c->n_weights,
                                 .out_format = c->out_format,
                                 .scale = c->output == PRODUCT_GATE ? 1.0f : 0.75f,
                                 .activation = c->activation}};
    enum operand_format format = operand_format_for(c->kind.format);
    for (int i = 0; i < c->n_weights; i++) {
        o->weight[i] = random_weight_make(&o->buffers, c->kind, c->n_out[i], c->n_in, key + 100 * (uint64_t)i);
        o->p.weight[i] = &o->weight[i].device;
        o->bias[i] = calloc((size_t)c->n_out[i], sizeof(float));
        for (int32_t j = 0; c->bias && j < c->n_out[i]; j++) o->bias[i][j] = random_normal(key + 9, (uint64_t)j);
        if (c->bias) o->p.bias[i] = device_upload(&o->buffers, o->bias[i], (size_t)c->n_out[i] * sizeof(float));
    }
    size_t n_x = (size_t)ROWS_MAX * (size_t)c->n_in;
    o->x = malloc(n_x * sizeof(double));
    void *x = malloc(n_x * 4);
    for (size_t i = 0; i < n_x; i++) o->x[i] = store_float(format, x, i, random_normal(key + 50, i));
    o->p.x = device_upload(&o->buffers, x, n_x * operand_bytes(format));
    free(x);
    o->n_columns = (size_t)product_n_out(&o->p);
    o->p.out_stride = (int64_t)o->n_columns + 4;
    o->element_bytes = c->output == PRODUCT_GATE ? operand_bytes(c->out_format) : sizeof(float);
    o->before = malloc(ROWS_MAX * (o->n_columns + 4) * sizeof(float));
    for (size_t i = 0; i < ROWS_MAX * (o->n_columns + 4); i++) o->before[i] = random_normal(key + 70, i);
}

static void operands_free(struct operands *o) {
    for (int i = 0; i < o->p.n_weights; i++) free(o->weight[i].value), free(o->bias[i]);
    free(o->x), free(o->before);
    device_buffers_free(&o->buffers);
}

static double dot(const struct operands *o, int weight, size_t row, size_t output) {
    size_t n_in = (size_t)o->p.weight[0]->n_in;
    double sum = (double)o->bias[weight][output];
    for (size_t k = 0; k < n_in; k++) sum += o->x[row * n_in + k] * o->weight[weight].value[output * n_in + k];
    return sum;
}

static double activated(double x, enum activation activation) {
    if (activation == ACTIVATION_SILU) return x / (1 + exp(-x));
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static double expected(const struct operands *o, size_t row, size_t column) {
    const struct product *p = &o->p;
    if (p->output == PRODUCT_GATE) return activated(dot(o, 0, row, column), p->activation) * dot(o, 1, row, column);
    int weight = 0;
    size_t output = column;
    while (output >= (size_t)p->weight[weight]->n_out) output -= (size_t)p->weight[weight++]->n_out;
    double value = (double)p->scale * dot(o, weight, row, output);
    return p->output == PRODUCT_ADD_F32 ? value + (double)o->before[row * (size_t)p->out_stride + column] : value;
}

static double element(const struct operands *o, const char *out, size_t row, size_t column) {
    size_t at = row * (size_t)o->p.out_stride + column;
    if (o->element_bytes == sizeof(float)) return (double)((const float *)(const void *)out)[at];
    uint16_t half = ((const uint16_t *)(const void *)out)[at];
    return (double)(o->p.out_format == OPERAND_BF16 ? f32_from_bf16(half) : f32_from_f16(half));
}

// The output of the first n_rows rows; the caller frees. What lies between and behind the rows must stay.
static char *run_rows(struct operands *o, run_product *run, int32_t n_rows) {
    size_t row_bytes = (size_t)o->p.out_stride * o->element_bytes, bytes = ((size_t)n_rows + 1) * row_bytes;
    struct device_buffers mine = {0};
    o->p.n_rows = n_rows;
    o->p.out = device_poisoned(&mine, bytes);
    if (o->p.output == PRODUCT_ADD_F32) cudaMemcpy(o->p.out, o->before, (size_t)n_rows * row_bytes, cudaMemcpyDefault);
    char *before = device_download(o->p.out, bytes);
    assert_int_equal(run(&o->p, NULL), cudaSuccess);
    char *out = device_download(o->p.out, bytes);
    device_buffers_free(&mine);
    for (size_t row = 0; row <= (size_t)n_rows; row++) {
        size_t columns = row < (size_t)n_rows ? o->n_columns * o->element_bytes : 0;
        assert_memory_equal(out + row * row_bytes + columns, before + row * row_bytes + columns, row_bytes - columns);
    }
    free(before);
    return out;
}

static void check_case(const struct product_case *c, run_product *run, double tolerance, uint64_t key) {
    struct operands o;
    operands_make(&o, c, key);
    size_t row_bytes = (size_t)o.p.out_stride * o.element_bytes;
    char *all = run_rows(&o, run, ROWS_MAX);
    double error = 0, norm = 0;
    // Rows in all positions of a tile are enough.
    for (size_t row = 0; row < ROWS_MAX; row += row < 18 ? 1 : 13)
        for (size_t i = 0; i < o.n_columns; i++) {
            double want = expected(&o, row, i), got = element(&o, all, row, i);
            error += (got - want) * (got - want), norm += want * want;
        }
    double relative = sqrt(error / norm);
    if (!(relative <= tolerance))
        print_error("format %d output %d n_in %d: error %g\n", (int)c->kind.format, (int)c->output, c->n_in, relative);
    assert_true(relative <= tolerance);
    for (size_t i = 1; i < sizeof row_counts / sizeof *row_counts; i++) {
        char *some = run_rows(&o, run, row_counts[i]);
        for (size_t row = 0; row < (size_t)row_counts[i]; row++)
            assert_memory_equal(some + row * row_bytes, all + row * row_bytes, o.n_columns * o.element_bytes);
        free(some);
    }
    free(all);
    operands_free(&o);
}

#define BF16                                                                                                           \
    { DEVICE_BF16, 0, false }
#define F16                                                                                                            \
    { DEVICE_F16, 0, false }
#define F32                                                                                                            \
    { DEVICE_F32, 0, false }
#define FP8                                                                                                            \
    { DEVICE_FP8, 0, false }
#define FP8_128                                                                                                        \
    { DEVICE_FP8, 128, false }
#define INT4_G(group, zeros)                                                                                           \
    { DEVICE_INT4, group, zeros }

static void tensor_core_products_are_exact_sums(void **state) {
    (void)state;
    static const struct product_case cases[] = {
        {BF16, PRODUCT_STORE_F32, 1, {32}, 256, false, 0, 0},
        {BF16, PRODUCT_STORE_F32, 3, {33, 16, 1}, 40, true, 0, 0},
        {BF16, PRODUCT_ADD_F32, 1, {50}, 320, true, 0, 0},
        {BF16, PRODUCT_GATE, 2, {17, 17}, 96, true, OPERAND_F32, ACTIVATION_SILU},
        {F16, PRODUCT_STORE_F32, 2, {8, 31}, 64, false, 0, 0},
        {F16, PRODUCT_GATE, 2, {16, 16}, 48, false, OPERAND_F32, ACTIVATION_GELU_TANH},
        {FP8, PRODUCT_STORE_F32, 1, {40}, 272, true, 0, 0},
        {FP8, PRODUCT_GATE, 2, {20, 20}, 128, false, OPERAND_F32, ACTIVATION_SILU},
        {FP8_128, PRODUCT_ADD_F32, 1, {36}, 384, false, 0, 0},
        {INT4_G(128, false), PRODUCT_STORE_F32, 3, {32, 8, 8}, 256, true, 0, 0},
        {INT4_G(128, true), PRODUCT_GATE, 2, {18, 18}, 384, true, OPERAND_F32, ACTIVATION_SILU},
        {INT4_G(64, true), PRODUCT_ADD_F32, 1, {16}, 256, false, 0, 0},
        {INT4_G(32, false), PRODUCT_STORE_F32, 1, {34}, 128, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i], product_own, 1e-5, 1000 * (i + 1));
}

static void plain_products_are_exact_sums(void **state) {
    (void)state;
    static const struct product_case cases[] = {
        {F32, PRODUCT_STORE_F32, 3, {20, 5, 3}, 172, true, 0, 0},
        {F32, PRODUCT_GATE, 2, {9, 9}, 64, false, OPERAND_F32, ACTIVATION_SILU},
        {F16, PRODUCT_ADD_F32, 1, {12}, 172, false, 0, 0},
        {BF16, PRODUCT_STORE_F32, 1, {7}, 3, true, 0, 0},
        {FP8, PRODUCT_GATE, 2, {6, 6}, 172, false, OPERAND_F32, ACTIVATION_GELU_TANH},
        {FP8_128, PRODUCT_STORE_F32, 1, {5}, 256, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i], product_plain, 1e-6, 900 * (i + 1));
}

static void gated_outputs_are_rounded_once(void **state) {
    (void)state;
    static const struct product_case bf16 = {BF16, PRODUCT_GATE, 2, {16, 16}, 64, false, OPERAND_BF16, ACTIVATION_SILU};
    static const struct product_case f16 = {F16, PRODUCT_GATE, 2, {16, 16}, 64, false, OPERAND_F16, ACTIVATION_SILU};
    check_case(&bf16, product_own, 2.5e-3, 5);
    check_case(&f16, product_own, 3e-4, 6);
    check_case(&f16, product_plain, 3e-4, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensor_core_products_are_exact_sums),
        cmocka_unit_test(plain_products_are_exact_sums),
        cmocka_unit_test(gated_outputs_are_rounded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
