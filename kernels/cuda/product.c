// Which way a matrix product goes, and what cuBLASLt needs around it.
#include "kernels/cuda/product.h"

#include "base/mem.h"
#include "kernels/cuda/product_parts.h"
#include "kernels/cuda/quantize.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    OWN_ROWS_ALWAYS = 8,       // a product of so few rows is bound by the weights' bytes, which our kernel reads once
    GATE_ROWS = 2048,          // gate and up lie in memory for so many rows at a time
    EXPANDED_BYTES = 40 << 20, // weights of a slice, still in the L2 when they are multiplied
    EXPANDED_OUTPUTS = 64,     // slices are multiples of this
};

// What was faster for a size; beyond PRODUCT_OWN_ROWS rows, whether the library has the product at all.
struct choice {
    enum product_output output;
    enum device_format format;
    int32_t n_out, n_in, n_rows;
    bool by_library;
};

struct product_engine {
    struct product_engine_options options;
    cudaStream_t stream;
    struct library *library; // NULL when deterministic
    bool fp8;                // the library multiplies FP8
    void *expanded;          // EXPANDED_BYTES or less of BF16 weights; NULL: the weights are not quantised
    size_t expanded_bytes;
    void *gate; // gate and up side by side
    size_t gate_bytes;
    void *x_fp8; // [rows_max, n_in_max]
    float *x_scale;
    VEC_OF(struct choice) choices;
    char description[96];
};

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

struct memory {
    void *(*allocate)(void *context, size_t n_bytes);
    void *context;
    struct err *err;
};

static int take(const struct memory *from, void **out, size_t n_bytes) {
    *out = from->allocate(from->context, n_bytes);
    if (*out) return 0;
    return err_set(from->err, ERR_LIMIT, "no %zu MB of device memory for the workspace of matrix products",
                   (n_bytes >> 20) + 1);
}

static int open_library(struct product_engine *engine, const struct memory *memory, cudaStream_t stream) {
    const struct product_engine_options *o = &engine->options;
    const bool quantised = o->format == DEVICE_FP8 || o->format == DEVICE_INT4;
    const size_t rows = (size_t)o->rows_max, row_bytes = (size_t)o->n_in_max * 2;
    void *workspace = NULL, *x_scale = NULL;
    int rc = take(memory, &workspace, LIBRARY_WORKSPACE_BYTES);
    if (!rc) rc = library_open(&engine->library, workspace, memory->err);
    engine->gate_bytes = min_size(rows, GATE_ROWS) * 2 * (size_t)o->mlp_width * 2;
    if (!rc && engine->gate_bytes) rc = take(memory, &engine->gate, engine->gate_bytes);
    if (rc || !quantised) return rc;
    engine->fp8 = o->format == DEVICE_FP8 && library_has_fp8(engine->library, workspace, stream);
    if (engine->fp8) {
        rc = take(memory, &engine->x_fp8, rows * (size_t)o->n_in_max);
        if (!rc) rc = take(memory, &x_scale, rows * sizeof(float));
        engine->x_scale = x_scale;
    }
    size_t slice = EXPANDED_OUTPUTS * row_bytes;
    engine->expanded_bytes = min_size(EXPANDED_BYTES, (size_t)o->n_out_max * row_bytes + slice);
    if (engine->expanded_bytes < slice) engine->expanded_bytes = slice;
    return rc ? rc : take(memory, &engine->expanded, engine->expanded_bytes);
}

static void describe(struct product_engine *engine) {
    const char *how = engine->options.format == DEVICE_INT4 || engine->options.format == DEVICE_FP8
                          ? (engine->fp8 ? ", FP8 by channel and token" : ", quantised weights expanded to BF16")
                          : "";
    if (engine->library)
        snprintf(engine->description, sizeof engine->description, "cuBLASLt %zu.%zu%s", cublasLtGetVersion() / 10000,
                 cublasLtGetVersion() / 100 % 100, how);
    else
        snprintf(engine->description, sizeof engine->description, "own kernels alone, deterministic");
}

int product_engine_open(struct product_engine **out, const struct product_engine_options *options,
                        void *(*allocate)(void *context, size_t n_bytes), void *context, cudaStream_t stream,
                        struct err *err) {
    struct product_engine *engine = mem_alloc_zero(1, sizeof *engine);
    const struct memory memory = {allocate, context, err};
    engine->options = *options;
    engine->stream = stream;
    int rc = options->deterministic ? 0 : open_library(engine, &memory, stream);
    if (rc) {
        product_engine_close(engine);
        return rc;
    }
    describe(engine);
    *out = engine;
    return 0;
}

void product_engine_close(struct product_engine *engine) {
    if (!engine) return;
    library_close(engine->library);
    vec_free(&engine->choices);
    free(engine);
}

const char *product_engine_description(const struct product_engine *engine) {
    return engine->description;
}

// ------------------------------------------------------------------------------------------------------- by cuBLASLt

// A product as the library gets it: x in the weights' format.
struct operand {
    const void *x;
    const float *scale; // FP8
    bool expand;        // the weights are expanded to BF16
    bool measure;
};

static size_t element_bytes(enum device_format format) {
    return format == DEVICE_FP8 ? 1 : operand_bytes(operand_format_for(format));
}

static bool is_quantised(const struct device_weight *weight) {
    return weight->format == DEVICE_FP8 || weight->format == DEVICE_INT4;
}

// cuBLASLt wants FP8 on 16 bytes everywhere.
static bool fits_fp8(const struct product_engine *engine, const struct product *p) {
    bool fits = engine->fp8 && p->weight[0]->format == DEVICE_FP8 && p->weight[0]->n_in % 16 == 0;
    fits = fits && (p->output == PRODUCT_GATE || (p->out_stride % 4 == 0 && (uintptr_t)p->out % 16 == 0));
    for (int i = 0; i < p->n_weights; i++)
        fits = fits && p->weight[i]->group == p->weight[i]->n_in && p->weight[i]->n_out % 8 == 0;
    return fits;
}

// How many weights from `first` on lie behind one another in memory, as one.
static int count_neighbours(const struct product *p, int first, bool expand) {
    int n = 1;
    for (; first + n < p->n_weights && !expand; n++) {
        const struct device_weight *a = p->weight[first + n - 1], *b = p->weight[first + n];
        size_t bytes = (size_t)a->n_out * (size_t)a->n_in * element_bytes(a->format);
        if ((const char *)a->data + bytes != (const char *)b->data) break;
        if (a->format == DEVICE_FP8 && a->scale + a->n_out != b->scale) break;
    }
    return n;
}

static cudaError_t multiply_expanded(struct product_engine *engine, const struct device_weight *weight,
                                     struct library_product op, bool measure, cudaStream_t stream) {
    const size_t row_bytes = (size_t)weight->n_in * 2;
    const int32_t slice = (int32_t)(engine->expanded_bytes / row_bytes) / EXPANDED_OUTPUTS * EXPANDED_OUTPUTS;
    const size_t out_bytes = op.out_bf16 ? 2 : sizeof(float);
    char *out = op.out;
    cudaError_t error = cudaSuccess;
    for (int32_t first = 0; first < weight->n_out && error == cudaSuccess; first += slice) {
        op.format = DEVICE_BF16;
        op.weight = engine->expanded;
        op.n_out = weight->n_out - first < slice ? weight->n_out - first : slice;
        op.out = out + (size_t)first * out_bytes;
        error = device_weight_expand(weight, first, op.n_out, engine->expanded, stream);
        if (error == cudaSuccess) error = library_run(engine->library, &op, measure, stream);
    }
    return error;
}

// All weights of the product side by side in `out`. `op` has rows, output and alpha.
static cudaError_t multiply(struct product_engine *engine, const struct product *p, const struct operand *operand,
                            struct library_product op, cudaStream_t stream) {
    cudaError_t error = cudaSuccess;
    char *out = op.out;
    for (int i = 0; i < p->n_weights && error == cudaSuccess;) {
        const struct device_weight *weight = p->weight[i];
        const int n = count_neighbours(p, i, operand->expand);
        op.format = weight->format;
        op.weight = weight->data;
        op.weight_scale = weight->scale;
        op.x = operand->x;
        op.x_scale = operand->scale;
        op.n_in = weight->n_in;
        op.out = out;
        op.n_out = 0;
        for (int j = i; j < i + n; j++) op.n_out += p->weight[j]->n_out;
        out += (size_t)op.n_out * (op.out_bf16 ? 2 : sizeof(float));
        error = operand->expand ? multiply_expanded(engine, weight, op, operand->measure, stream)
                                : library_run(engine->library, &op, operand->measure, stream);
        i += n;
    }
    return error;
}

static cudaError_t multiply_gate(struct product_engine *engine, const struct product *p, struct operand operand,
                                 cudaStream_t stream) {
    const bool bf16 = operand_format_for(p->weight[0]->format) == OPERAND_BF16;
    const int32_t n = p->weight[0]->n_out, n_in = p->weight[0]->n_in;
    const int32_t rows = (int32_t)(engine->gate_bytes / ((size_t)n * 2 * (bf16 ? 2 : sizeof(float))));
    const size_t x_row_bytes =
        (size_t)n_in * (operand.scale ? 1 : element_bytes(operand.expand ? DEVICE_BF16 : p->weight[0]->format));
    const char *x = operand.x;
    const float *x_scale = operand.scale;
    cudaError_t error = rows > 0 ? cudaSuccess : cudaErrorInvalidValue;
    for (int32_t first = 0; first < p->n_rows && error == cudaSuccess; first += rows) {
        const int32_t count = p->n_rows - first < rows ? p->n_rows - first : rows;
        operand.x = x + (size_t)first * x_row_bytes;
        operand.scale = x_scale ? x_scale + first : NULL;
        struct library_product op = {
            .n_rows = count, .out = engine->gate, .out_stride = 2 * (int64_t)n, .out_bf16 = bf16, .alpha = 1};
        error = multiply(engine, p, &operand, op, stream);
        struct product_gate gate = {.both = engine->gate,
                                    .both_format = bf16 ? OPERAND_BF16 : OPERAND_F32,
                                    .gate_bias = p->bias[0],
                                    .up_bias = p->bias[1],
                                    .n_rows = count,
                                    .n = n,
                                    .out = (char *)p->out +
                                           (size_t)first * (size_t)p->out_stride * operand_bytes(p->out_format),
                                    .out_stride = p->out_stride,
                                    .out_format = p->out_format,
                                    .activation = p->activation};
        if (error == cudaSuccess) error = product_gate(&gate, stream);
    }
    return error;
}

static cudaError_t by_library(struct product_engine *engine, const struct product *p, bool measure,
                              cudaStream_t stream) {
    const bool fp8 = fits_fp8(engine, p);
    struct operand operand = {.x = p->x, .expand = is_quantised(p->weight[0]) && !fp8, .measure = measure};
    cudaError_t error = cudaSuccess;
    if (fp8) {
        operand.x = engine->x_fp8;
        operand.scale = engine->x_scale;
        error = product_quantize_rows(engine->x_fp8, engine->x_scale, p->x, p->n_rows, p->weight[0]->n_in, stream);
    }
    if (error != cudaSuccess) return error;
    if (p->output == PRODUCT_GATE) return multiply_gate(engine, p, operand, stream);
    struct library_product op = {.n_rows = p->n_rows,
                                 .out = p->out,
                                 .out_stride = p->out_stride,
                                 .add = p->output == PRODUCT_ADD_F32,
                                 .alpha = p->scale};
    error = multiply(engine, p, &operand, op, stream);
    float *out = p->out;
    for (int i = 0; i < p->n_weights && error == cudaSuccess; i++) {
        const int32_t n = p->weight[i]->n_out;
        if (p->bias[i]) error = product_add_bias(out, p->out_stride, p->bias[i], p->scale, p->n_rows, n, stream);
        out += n;
    }
    return error;
}

// ------------------------------------------------------------------------------------------------------- which way

static cudaError_t by_own(const struct product *p, cudaStream_t stream) {
    return product_own_fits(p->weight[0]) ? product_own(p, stream) : product_plain(p, stream);
}

static bool library_can(const struct product_engine *engine, const struct product *p) {
    if (!engine->library) return false;
    // Odd rows of small models are nothing that the library, or an expansion, would make faster.
    if (p->weight[0]->format != DEVICE_F32 && p->weight[0]->n_in % 8) return false;
    if (is_quantised(p->weight[0]) && !engine->expanded) return false;
    return p->output != PRODUCT_GATE || engine->gate;
}

static struct choice choice_of(const struct product *p) {
    return (struct choice){.output = p->output,
                           .format = p->weight[0]->format,
                           .n_out = product_n_out(p),
                           .n_in = p->weight[0]->n_in,
                           .n_rows = p->n_rows};
}

static struct choice *find_choice(struct product_engine *engine, const struct product *p) {
    const struct choice wanted = choice_of(p);
    for (size_t i = 0; i < engine->choices.count; i++) {
        struct choice *c = &engine->choices.items[i];
        if (c->output == wanted.output && c->format == wanted.format && c->n_out == wanted.n_out &&
            c->n_in == wanted.n_in && c->n_rows == wanted.n_rows)
            return c;
    }
    return NULL;
}

static bool takes_library(struct product_engine *engine, const struct product *p) {
    if (p->n_rows <= OWN_ROWS_ALWAYS || !library_can(engine, p)) return false;
    const struct choice *choice = find_choice(engine, p);
    return choice ? choice->by_library : p->n_rows > PRODUCT_OWN_ROWS;
}

cudaError_t product_run(struct product_engine *engine, const struct product *p, cudaStream_t stream) {
    return takes_library(engine, p) ? by_library(engine, p, false, stream) : by_own(p, stream);
}

struct trial {
    struct product_engine *engine;
    const struct product *p;
};

static cudaError_t try_own(void *context, cudaStream_t stream) {
    const struct trial *trial = context;
    return by_own(trial->p, stream);
}

static cudaError_t try_library(void *context, cudaStream_t stream) {
    const struct trial *trial = context;
    return by_library(trial->engine, trial->p, true, stream);
}

// Many rows are faster by the library wherever it has the product.
static bool is_library_best(struct product_engine *engine, const struct product *p) {
    struct trial trial = {engine, p};
    if (p->n_rows > PRODUCT_OWN_ROWS) return by_library(engine, p, true, engine->stream) == cudaSuccess;
    float library = product_time(try_library, &trial, engine->stream);
    float own = product_time(try_own, &trial, engine->stream);
    return library >= 0 && (own < 0 || library < own);
}

int product_prepare(struct product_engine *engine, const struct product *p, struct err *err) {
    const bool either = p->n_rows > OWN_ROWS_ALWAYS && library_can(engine, p);
    cudaError_t error = cudaSuccess;
    if (either && !find_choice(engine, p)) {
        struct choice choice = choice_of(p);
        choice.by_library = is_library_best(engine, p);
        vec_push(&engine->choices, choice);
        (void)cudaGetLastError();
    }
    error = takes_library(engine, p) ? by_library(engine, p, true, engine->stream) : by_own(p, engine->stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(engine->stream);
    if (error == cudaSuccess) return 0;
    return err_set(err, ERR_IO, "a matrix product of %d rows, %d inputs and %d outputs fails on the device: %s",
                   p->n_rows, p->weight[0]->n_in, product_n_out(p), cudaGetErrorString(error));
}
