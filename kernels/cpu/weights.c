// Weights on the CPU: used where the model mapped them, or rounded to BF16 in memory of the backend.
#include "base/mem.h"
#include "base/number.h"
#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct cpu_weights {
    struct cpu_weights *next;
    struct tensor tensor;
    void *copy; // NULL: the model's data
    size_t copy_bytes;
};

struct rounding {
    const struct tensor *from;
    uint16_t *to;
};

static void round_row(const struct tensor *from, size_t row, uint16_t *to) {
    size_t n = (size_t)from->n_cols;
    const char *at = (const char *)from->data + row * n * tensor_format_bytes(from->format);
    for (size_t i = 0; i < n; i++) {
        float x;
        uint16_t half;
        if (from->format == TENSOR_F32) {
            memcpy(&x, at + 4 * i, sizeof x);
        } else {
            memcpy(&half, at + 2 * i, sizeof half);
            x = f32_from_f16(half);
        }
        to[i] = bf16_from_f32(x);
    }
}

static void round_rows(void *argument, int worker, int n_workers) {
    const struct rounding *rounding = argument;
    const struct tensor *from = rounding->from;
    for (size_t row = (size_t)worker; row < (size_t)from->n_rows; row += (size_t)n_workers)
        round_row(from, row, rounding->to + row * (size_t)from->n_cols);
}

static int round_to_bf16(struct cpu_backend *backend, struct cpu_weights *weight, struct err *err) {
    struct tensor from = weight->tensor;
    weight->tensor.format = TENSOR_BF16;
    size_t n_bytes = tensor_bytes(&weight->tensor);
    void *copy = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return err_set(err, ERR_LIMIT, "no memory for %zu bytes of weights in bf16", n_bytes);
    madvise(copy, n_bytes, MADV_HUGEPAGE);
    struct rounding rounding = {&from, copy};
    pool_run(backend->pool, pool_size(backend->pool), round_rows, &rounding);
    weight->tensor.data = weight->copy = copy;
    weight->copy_bytes = n_bytes;
    backend->weights_bytes += n_bytes;
    return 0;
}

int cpu_weight_load(struct backend *common, struct tensor *tensor, enum weight_format format, struct err *err) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    if (format != WEIGHT_AS_IS && format != WEIGHT_BF16)
        return err_set(err, ERR_INVALID, "weights in %s do not exist on this device", weight_format_name(format));
    struct cpu_weights *weight = mem_alloc_zero(1, sizeof *weight);
    weight->tensor = *tensor;
    if (format == WEIGHT_BF16 && tensor->format != TENSOR_BF16) {
        int rc = round_to_bf16(backend, weight, err);
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
}
