// Matrix products of an 8 B model: our kernel, cuBLASLt, and what the program takes of the two.
#include "bench/gpu/measure.h"

#include "base/number.h"
#include "base/rng.h"
#include "kernels/cuda/product_parts.h"

#include <math.h>
#include <stdlib.h>

enum { COMPARE_ROWS_MAX = 256, OWN_ROWS_MAX = 256 };

struct matrix_shape {
    const char *name;
    int32_t n_out, n_in;
    bool gated; // two weights of n_out
};

// One shape in one format with the memory that all its products use.
struct products {
    struct bench *bench;
    const struct matrix_shape *shape;
    enum device_format format;
    int n_copies, n_weights;
    struct device_weight *weights; // [n_copies][n_weights]
    const void *x;
    void *out, *x_fp8;
    float *x_scale;
    struct library *library;
    struct product_engine *engine;
    int32_t n_rows;
};

static void *take_for_engine(void *context, size_t n_bytes) {
    return memory_take(context, n_bytes);
}

// All copies are one weight with many outputs; each is a slice of it.
static void make_weights(struct products *p) {
    struct bench *bench = p->bench;
    const int32_t n_out = p->shape->n_out, n_in = p->shape->n_in;
    const int32_t n_all = n_out * p->n_weights;
    size_t one = device_weight_bytes(p->format, n_all, n_in);
    p->n_copies = copies_beyond_l2(bench, one);
    struct device_weight all;
    void *memory = memory_take(bench, device_weight_bytes(p->format, n_all * p->n_copies, n_in));
    if (!memory) fail("no device memory for weights");
    CHECK(device_weight_random(&all, p->format, n_all * p->n_copies, n_in, rng_key(3, 0, 0), bench->quantiles, memory,
                               bench->stream));
    CHECK(cudaStreamSynchronize(bench->stream)); // products read weights before they wait
    int n = p->n_copies * p->n_weights;
    p->weights = calloc((size_t)n, sizeof *p->weights);
    if (!p->weights) fail("no memory");
    for (int i = 0; i < n; i++) {
        size_t row = (size_t)i * (size_t)n_out, elements = row * (size_t)n_in,
               groups = row * (size_t)(n_in / all.group);
        p->weights[i] = all;
        p->weights[i].n_out = n_out;
        size_t at = p->format == DEVICE_INT4 ? elements / 2 : p->format == DEVICE_FP8 ? elements : elements * 2;
        p->weights[i].data = (const char *)all.data + at;
        if (all.scale) p->weights[i].scale = all.scale + groups;
        if (all.scale_f16) p->weights[i].scale_f16 = (const char *)all.scale_f16 + groups * 2;
    }
}

static struct product product_of(const struct products *p, int turn) {
    const struct device_weight *weights = &p->weights[turn % p->n_copies * p->n_weights];
    struct product product = {.output = p->shape->gated ? PRODUCT_GATE : PRODUCT_STORE_F32,
                              .n_weights = p->n_weights,
                              .x = p->x,
                              .n_rows = p->n_rows,
                              .out = p->out,
                              .out_stride = p->shape->n_out,
                              .out_format = OPERAND_BF16,
                              .scale = 1,
                              .activation = ACTIVATION_SILU};
    for (int i = 0; i < p->n_weights; i++) product.weight[i] = &weights[i];
    return product;
}

static cudaError_t run_own(void *context, int turn, cudaStream_t stream) {
    const struct product product = product_of(context, turn);
    return product_own(&product, stream);
}

static cudaError_t run_engine(void *context, int turn, cudaStream_t stream) {
    const struct products *p = context;
    const struct product product = product_of(p, turn);
    return product_run(p->engine, &product, stream);
}

// The bare product of the library: gate and up as one weight, without what follows; FP8 with activations that are FP8
// already.
static cudaError_t by_library(const struct products *p, int turn, bool choose, cudaStream_t stream) {
    const struct device_weight *weight = &p->weights[turn % p->n_copies * p->n_weights];
    const bool fp8 = p->format == DEVICE_FP8;
    const struct library_product op = {.format = p->format,
                                       .weight = weight->data,
                                       .x = fp8 ? p->x_fp8 : p->x,
                                       .weight_scale = weight->scale,
                                       .x_scale = fp8 ? p->x_scale : NULL,
                                       .n_out = weight->n_out * p->n_weights,
                                       .n_in = weight->n_in,
                                       .n_rows = p->n_rows,
                                       .out = p->out,
                                       .out_stride = (int64_t)weight->n_out * p->n_weights,
                                       .out_bf16 = p->shape->gated,
                                       .alpha = 1};
    return library_run(p->library, &op, choose, stream);
}

static cudaError_t run_library(void *context, int turn, cudaStream_t stream) {
    return by_library(context, turn, false, stream);
}

static double number_at(const struct products *p, const void *out, size_t i) {
    if (!p->shape->gated) return (double)((const float *)out)[i];
    return (double)f32_from_bf16(((const uint16_t *)out)[i]);
}

// What the program's way gives against our own kernel, in the Frobenius norm.
static double difference(struct products *p) {
    if (p->n_rows > COMPARE_ROWS_MAX) return NAN;
    size_t n = (size_t)p->n_rows * (size_t)p->shape->n_out, n_bytes = n * (p->shape->gated ? 2 : 4);
    void *own = malloc(n_bytes), *engine = malloc(n_bytes);
    if (!own || !engine) fail("no memory");
    double error = 0, norm = 0;
    CHECK(run_own(p, 0, p->bench->stream));
    CHECK(cudaStreamSynchronize(p->bench->stream));
    CHECK(cudaMemcpy(own, p->out, n_bytes, cudaMemcpyDeviceToHost));
    CHECK(cudaMemsetAsync(p->out, 0xff, n_bytes, p->bench->stream));
    CHECK(run_engine(p, 0, p->bench->stream));
    CHECK(cudaStreamSynchronize(p->bench->stream));
    CHECK(cudaMemcpy(engine, p->out, n_bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        double a = number_at(p, own, i), b = number_at(p, engine, i);
        error += (a - b) * (a - b), norm += a * a;
    }
    free(own), free(engine);
    return sqrt(error / norm);
}

static const char *format_name(enum device_format format) {
    return format == DEVICE_BF16 ? "bf16" : format == DEVICE_FP8 ? "fp8" : "int4";
}

static void print_way(struct products *p, const char *way, measured_run *run, double differs) {
    const struct matrix_shape *shape = p->shape;
    const int32_t n_all = shape->n_out * p->n_weights;
    const double rows = p->n_rows, out_bytes = shape->gated ? 2 : 4;
    const bool fp8 = p->format == DEVICE_FP8 && p->bench->fp8_flops_per_s > 0;
    struct figure figure = {.operation = shape->name,
                            .format = format_name(p->format),
                            .way = way,
                            .rows = p->n_rows,
                            .n_bytes = (double)device_weight_bytes(p->format, n_all, shape->n_in) +
                                       rows * shape->n_in * 2 + rows * shape->n_out * out_bytes,
                            .n_flops = 2 * rows * n_all * shape->n_in,
                            .difference = differs};
    snprintf(figure.shape, sizeof figure.shape, "%dx%d", n_all, shape->n_in);
    int n_runs = p->n_copies < 4 && !p->bench->toy ? 4 : p->n_copies;
    figure.us = measure_us(p->bench, run, p, n_runs);
    figure.limit_us = least_us(p->bench, figure.n_bytes, figure.n_flops,
                               fp8 ? p->bench->fp8_flops_per_s : p->bench->bf16_flops_per_s);
    print_figure(p->bench, &figure);
}

static void run_rows(struct products *p) {
    struct err err = {0};
    const struct product product = product_of(p, 0);
    if (product_prepare(p->engine, &product, &err)) fail(err.text);
    double differs = difference(p);
    if (p->n_rows <= OWN_ROWS_MAX) print_way(p, "own", run_own, NAN);
    bool has_library = p->format == DEVICE_BF16 || (p->format == DEVICE_FP8 && p->bench->fp8_flops_per_s > 0);
    if (p->format == DEVICE_FP8 && has_library)
        CHECK(product_quantize_rows(p->x_fp8, p->x_scale, p->x, p->n_rows, p->shape->n_in, p->bench->stream));
    if (has_library && by_library(p, 0, true, p->bench->stream) == cudaSuccess)
        print_way(p, "cublaslt", run_library, NAN);
    print_way(p, "program", run_engine, differs);
}

static void run_shape(struct bench *bench, const struct matrix_shape *shape, enum device_format format,
                      const int32_t *rows, int n_rows) {
    const int32_t rows_max = rows[n_rows - 1];
    struct err err = {0};
    int mark = bench->n_memory;
    struct products p = {.bench = bench, .shape = shape, .format = format, .n_weights = shape->gated ? 2 : 1};
    const struct product_engine_options options = {.format = format,
                                                   .rows_max = rows_max,
                                                   .n_in_max = shape->n_in,
                                                   .n_out_max = shape->n_out,
                                                   .mlp_width = shape->gated ? shape->n_out : 0};
    p.x = memory_random(bench, (size_t)rows_max * (size_t)shape->n_in);
    make_weights(&p);
    p.out = memory_take(bench, (size_t)rows_max * (size_t)shape->n_out * 4);
    p.x_fp8 = memory_take(bench, (size_t)rows_max * (size_t)shape->n_in);
    p.x_scale = memory_take(bench, (size_t)rows_max * 4);
    void *workspace = memory_take(bench, LIBRARY_WORKSPACE_BYTES);
    if (!p.x || !p.out || !p.x_fp8 || !p.x_scale || !workspace) fail("no device memory");
    if (library_open(&p.library, workspace, &err)) fail(err.text);
    if (product_engine_open(&p.engine, &options, take_for_engine, bench, bench->stream, &err)) fail(err.text);
    for (int i = 0; i < n_rows; i++) {
        p.n_rows = rows[i];
        run_rows(&p);
    }
    product_engine_close(p.engine);
    library_close(p.library);
    free(p.weights);
    memory_release(bench, mark);
}

void bench_products(struct bench *bench) {
    static const struct matrix_shape shapes[] = {{"product qkv", 6144, 4096, false},
                                                 {"product o", 4096, 4096, false},
                                                 {"product gate up", 14336, 4096, true},
                                                 {"product down", 4096, 14336, false},
                                                 {"product head", 128256, 4096, false}};
    static const struct matrix_shape toys[] = {{"product qkv", 48, 128, false},
                                               {"product gate up", 32, 128, true},
                                               {"product down", 32, 256, false},
                                               {"product head", 64, 128, false}};
    static const int32_t rows[] = {1, 8, 16, 64, 256, 2048}, toy_rows[] = {1, 8, 72};
    const struct matrix_shape *all = bench->toy ? toys : shapes;
    const int n_shapes = bench->toy ? sizeof toys / sizeof *toys : sizeof shapes / sizeof *shapes;
    for (int i = 0; i < n_shapes; i++) {
        const bool is_head = i == n_shapes - 1; // BF16 in every precision of the layers, at most 256 rows
        for (int f = DEVICE_BF16; f <= (is_head ? DEVICE_BF16 : DEVICE_INT4); f++)
            run_shape(bench, &all[i], (enum device_format)f, bench->toy ? toy_rows : rows,
                      bench->toy ? 3
                      : is_head  ? 5
                                 : 6);
    }
}
