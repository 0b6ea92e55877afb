// Weights on the CPU: used where the model mapped them, or, rounded to BF16 or drawn, in memory of the backend.
#include "base/mem.h"
#include "base/number.h"
#include "kernels/cpu/cpu.h"
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

// Values of a copy in the making: `from` in another format, or random.
struct making {
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

static int make_copy(struct cpu_backend *backend, struct cpu_weights *weight, enum tensor_format format,
                     struct err *err) {
    struct making making = {.from = weight->tensor, .format = format};
    weight->tensor.format = format;
    size_t n_bytes = tensor_bytes(&weight->tensor);
    void *copy = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return err_set(err, ERR_LIMIT, "no memory for %zu MB of weights", n_bytes >> 20);
    madvise(copy, n_bytes, MADV_HUGEPAGE);
    if (weight->tensor.random_key && !backend->quantiles) {
        backend->quantiles = mem_alloc(sizeof *backend->quantiles);
        random_quantiles_make(backend->quantiles);
    }
    making.quantiles = backend->quantiles;
    making.to = copy;
    pool_run(backend->pool, pool_size(backend->pool), make_values, &making);
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
    enum tensor_format kept = format == WEIGHT_BF16 ? TENSOR_BF16 : tensor->format;
    if (tensor->random_key || kept != tensor->format) {
        int rc = make_copy(backend, weight, kept, err);
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
