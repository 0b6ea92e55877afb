// Weights on the CPU: used where the model mapped them, or, drawn, rounded to BF16 or quantised, in memory of the
// backend.
#include "base/mem.h"
#include "base/number.h"
#include "kernels/cpu/cpu.h"
#include "kernels/packed.h"
#include "kernels/random_weights.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK_VALUES = 1 << 16 };

struct cpu_weights {
    struct cpu_weights *next;
    struct tensor tensor;
    void *copy; // NULL: the model's data
    size_t copy_bytes;
};

// A copy in the making: `from` in another format, or random.
struct making {
    const struct kernel_table *kernels;
    const struct random_quantiles *quantiles;
    struct tensor from;
    enum tensor_format format;
    char *to;
};

static void round_values(const struct tensor *from, size_t first, size_t n, char *to) {
    const char *at = (const char *)from->data + first * tensor_format_bytes(from->format);
    for (size_t i = 0; i < n; i++) {
        float x;
        uint16_t half;
        if (from->format == TENSOR_F32) {
            memcpy(&x, at + 4 * i, sizeof x);
        } else {
            memcpy(&half, at + 2 * i, sizeof half);
            x = f32_from_f16(half);
        }
        half = bf16_from_f32(x);
        memcpy(to + 2 * i, &half, sizeof half);
    }
}

static void make_values(void *argument, int worker, int n_workers) {
    const struct making *making = argument;
    const struct tensor *from = &making->from;
    size_t n_values = (size_t)from->n_rows * (size_t)from->n_cols;
    for (size_t first = (size_t)worker * CHUNK_VALUES; first < n_values; first += (size_t)n_workers * CHUNK_VALUES) {
        size_t n = n_values - first < CHUNK_VALUES ? n_values - first : CHUNK_VALUES;
        char *to = making->to + first * tensor_format_bytes(making->format);
        if (from->random_key)
            random_weights_draw(making->quantiles, from->random_key, making->format, first, n, to);
        else
            round_values(from, first, n, to);
    }
}

// One output's weights as the model has them, in F32; zeros beyond the last.
static void read_row(const struct making *making, int32_t row, float *out, char *drawn) {
    const struct tensor *from = &making->from;
    const size_t n = (size_t)from->n_cols, first = (size_t)row * n;
    if (row >= from->n_rows) {
        memset(out, 0, n * sizeof *out);
        return;
    }
    const char *at = drawn;
    if (from->random_key)
        random_weights_draw(making->quantiles, from->random_key, from->format, first, n, drawn);
    else
        at = (const char *)from->data + first * tensor_format_bytes(from->format);
    if (from->format == TENSOR_F32) {
        memcpy(out, at, n * sizeof *out);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, at + 2 * i, sizeof half);
        out[i] = from->format == TENSOR_F16 ? f32_from_f16(half) : f32_from_bf16(half);
    }
}

static void make_blocks(void *argument, int worker, int n_workers) {
    const struct making *making = argument;
    const struct tensor *from = &making->from;
    const size_t n = (size_t)from->n_cols, block_bytes = packed_block_bytes(making->format, from->n_cols);
    float *rows = mem_alloc(PACKED_OUTPUTS * n * sizeof *rows), *drawn = mem_alloc((n + 1) * sizeof *drawn);
    for (int32_t first = worker * PACKED_OUTPUTS; first < from->n_rows; first += n_workers * PACKED_OUTPUTS) {
        for (int32_t i = 0; i < PACKED_OUTPUTS; i++) read_row(making, first + i, rows + (size_t)i * n, (char *)drawn);
        char *block = making->to + (size_t)(first / PACKED_OUTPUTS) * block_bytes;
        making->kernels->weight_pack(block, rows, making->format, from->n_cols);
    }
    free(rows), free(drawn);
}

static int make_copy(struct cpu_backend *backend, struct cpu_weights *weight, enum tensor_format format,
                     struct err *err) {
    struct making making = {.kernels = backend->kernels, .from = weight->tensor, .format = format};
    const bool packed = format >= TENSOR_FP8;
    weight->tensor.format = format;
    size_t n_bytes = packed ? packed_bytes(&weight->tensor) : tensor_bytes(&weight->tensor);
    void *copy = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return err_set(err, ERR_LIMIT, "no memory for %zu MB of weights", n_bytes >> 20);
    madvise(copy, n_bytes, MADV_HUGEPAGE);
    if (weight->tensor.random_key && !backend->quantiles) {
        backend->quantiles = mem_alloc(sizeof *backend->quantiles);
        random_quantiles_make(backend->quantiles);
    }
    making.quantiles = backend->quantiles;
    making.to = copy;
    pool_run(backend->pool, pool_size(backend->pool), packed ? make_blocks : make_values, &making);
    weight->tensor.data = weight->copy = copy;
    weight->copy_bytes = n_bytes;
    backend->weights_bytes += n_bytes;
    return 0;
}

int cpu_weight_load(struct backend *common, struct tensor *tensor, enum weight_format format, struct err *err) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    const enum tensor_format formats[] = {[WEIGHT_AS_IS] = tensor->format,
                                          [WEIGHT_BF16] = TENSOR_BF16,
                                          [WEIGHT_FP8] = TENSOR_FP8,
                                          [WEIGHT_INT8] = TENSOR_INT8,
                                          [WEIGHT_INT4] = TENSOR_INT4};
    struct cpu_weights *weight = mem_alloc_zero(1, sizeof *weight);
    weight->tensor = *tensor;
    if (tensor->random_key || formats[format] != tensor->format) {
        int rc = make_copy(backend, weight, formats[format], err);
        if (rc) {
            free(weight);
            return rc;
        }
    }
    weight->next = backend->weights;
    backend->weights = weight;
    tensor->handle = &weight->tensor;
    return 0;
}

void cpu_weights_close(struct cpu_backend *backend) {
    for (struct cpu_weights *weight = backend->weights, *next; weight; weight = next) {
        next = weight->next;
        if (weight->copy) munmap(weight->copy, weight->copy_bytes);
        free(weight);
    }
    free(backend->quantiles);
}
