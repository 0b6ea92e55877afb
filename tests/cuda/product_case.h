// A matrix product with operands on the device, and what it should give in double precision.
#pragma once

#include "tests/test.h"

#include "kernels/cuda/product_parts.h"
#include "tests/cuda/random_weight.h"

#include <math.h>

enum { ROWS_MAX = 130 };

typedef cudaError_t run_product(void *context, const struct product *p);

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

static inline void operands_make(struct operands *o, const struct product_case *c, uint64_t key) {
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

static inline void operands_free(struct operands *o) {
    for (int i = 0; i < o->p.n_weights; i++) free(o->weight[i].value), free(o->bias[i]);
    free(o->x), free(o->before);
    device_buffers_free(&o->buffers);
}

static inline double dot(const struct operands *o, int weight, size_t row, size_t output) {
    size_t n_in = (size_t)o->p.weight[0]->n_in;
    double sum = (double)o->bias[weight][output];
    for (size_t k = 0; k < n_in; k++) sum += o->x[row * n_in + k] * o->weight[weight].value[output * n_in + k];
    return sum;
}

static inline double activated(double x, enum activation activation) {
    if (activation == ACTIVATION_SILU) return x / (1 + exp(-x));
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static inline double expected(const struct operands *o, size_t row, size_t column) {
    const struct product *p = &o->p;
    if (p->output == PRODUCT_GATE) return activated(dot(o, 0, row, column), p->activation) * dot(o, 1, row, column);
    int weight = 0;
    size_t output = column;
    while (output >= (size_t)p->weight[weight]->n_out) output -= (size_t)p->weight[weight++]->n_out;
    double value = (double)p->scale * dot(o, weight, row, output);
    return p->output == PRODUCT_ADD_F32 ? value + (double)o->before[row * (size_t)p->out_stride + column] : value;
}

static inline double element(const struct operands *o, const char *out, size_t row, size_t column) {
    size_t at = row * (size_t)o->p.out_stride + column;
    if (o->element_bytes == sizeof(float)) return (double)((const float *)(const void *)out)[at];
    uint16_t half = ((const uint16_t *)(const void *)out)[at];
    return (double)(o->p.out_format == OPERAND_BF16 ? f32_from_bf16(half) : f32_from_f16(half));
}

// The output of the first n_rows rows; the caller frees. What lies between and behind the rows must stay.
static inline char *run_rows(struct operands *o, run_product *run, void *context, int32_t n_rows) {
    size_t row_bytes = (size_t)o->p.out_stride * o->element_bytes, bytes = ((size_t)n_rows + 1) * row_bytes;
    struct device_buffers mine = {0};
    o->p.n_rows = n_rows;
    o->p.out = device_poisoned(&mine, bytes);
    if (o->p.output == PRODUCT_ADD_F32) cudaMemcpy(o->p.out, o->before, (size_t)n_rows * row_bytes, cudaMemcpyDefault);
    char *before = device_download(o->p.out, bytes);
    assert_int_equal(run(context, &o->p), cudaSuccess);
    char *out = device_download(o->p.out, bytes);
    device_buffers_free(&mine);
    for (size_t row = 0; row <= (size_t)n_rows; row++) {
        size_t columns = row < (size_t)n_rows ? o->n_columns * o->element_bytes : 0;
        assert_memory_equal(out + row * row_bytes + columns, before + row * row_bytes + columns, row_bytes - columns);
    }
    free(before);
    return out;
}

// Relative error of the first rows, in the Frobenius norm; rows in all positions of a tile are enough.
static inline double relative_error(const struct operands *o, const char *out, int32_t n_rows) {
    double error = 0, norm = 0;
    for (int32_t row = 0; row < n_rows; row += row < 18 ? 1 : 13)
        for (size_t i = 0; i < o->n_columns; i++) {
            double want = expected(o, (size_t)row, i), got = element(o, out, (size_t)row, i);
            error += (got - want) * (got - want), norm += want * want;
        }
    return sqrt(error / norm);
}

// Weight kinds, by name.
#define KIND_BF16                                                                                                      \
    { DEVICE_BF16, 0, false }
#define KIND_F16                                                                                                       \
    { DEVICE_F16, 0, false }
#define KIND_F32                                                                                                       \
    { DEVICE_F32, 0, false }
#define KIND_FP8                                                                                                       \
    { DEVICE_FP8, 0, false }
#define KIND_FP8_128                                                                                                   \
    { DEVICE_FP8, 128, false }
#define KIND_INT4(group, zeros)                                                                                        \
    { DEVICE_INT4, group, zeros }
