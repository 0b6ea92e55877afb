// The CPU as a backend. Host and device share the cores, so a step runs when it is collected.
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int backend_open(struct backend **out, const struct backend_options *options, struct err *err) {
    const char *device = options->device ? options->device : "cpu";
    if (strcmp(device, "cpu") != 0) return err_set(err, ERR_UNSUPPORTED, "no device \"%s\"; there is: cpu", device);
    const char *wanted = options->instruction_set ? options->instruction_set : "auto";
    struct backend *backend = mem_alloc_zero(1, sizeof *backend);
    backend->kernels = cpu_kernels_find(wanted);
    int rc = 0;
    if (!backend->kernels)
        rc = err_set(err, ERR_UNSUPPORTED, "no instruction set \"%s\" on this processor; the best here is %s", wanted,
                     cpu_kernels_find("auto")->name);
    if (!rc) rc = pool_open(&backend->pool, options->n_threads > 0 ? options->n_threads : pool_cores(), err);
    if (rc) {
        backend_close(backend);
        return rc;
    }
    int n_threads = pool_size(backend->pool);
    snprintf(backend->description, sizeof backend->description, "cpu, %s, %d thread%s", backend->kernels->description,
             n_threads, n_threads == 1 ? "" : "s");
    *out = backend;
    return 0;
}

void backend_close(struct backend *backend) {
    if (!backend) return;
    pool_close(backend->pool);
    if (backend->kv_data) munmap(backend->kv_data, backend->kv_bytes);
    free(backend);
}

const char *backend_description(const struct backend *backend) {
    return backend->description;
}

int backend_n_threads(const struct backend *backend) {
    return pool_size(backend->pool);
}

int backend_steps_in_flight(const struct backend *backend) {
    (void)backend;
    return 1;
}

int backend_weight_load(struct backend *backend, struct tensor *tensor, struct err *err) {
    (void)backend;
    (void)err;
    assert(tensor_present(tensor) && tensor->n_rows > 0 && tensor->n_cols > 0);
    tensor->handle = (void *)(uintptr_t)tensor->data; // used where it lies
    return 0;
}

void backend_memory(const struct backend *backend, struct backend_memory *out) {
    *out = (struct backend_memory){.kv_bytes = backend->kv_bytes,
                                   .activation_bytes = backend->activation_bytes,
                                   .workspace_bytes = backend->workspace_bytes};
}

static size_t kv_element_bytes(enum kv_format format) {
    return format == KV_F32 ? 4 : 2;
}

static size_t kv_layer_block_bytes(const struct kv_shape *shape) {
    return 2 * (size_t)shape->n_kv_heads * (size_t)shape->head_dim * (size_t)shape->block_tokens *
           kv_element_bytes(shape->format);
}

uint64_t kv_bytes_per_block(const struct kv_shape *shape) {
    return (uint64_t)kv_layer_block_bytes(shape) * (uint64_t)shape->n_layers;
}

int backend_kv_open(struct backend *backend, const struct kv_shape *shape, struct err *err) {
    assert(!backend->kv_data && shape->n_layers > 0 && shape->n_kv_heads > 0 && shape->n_blocks > 0);
    assert(shape->block_tokens == KV_BLOCK_TOKENS);
    if (shape->head_dim < 1 || shape->head_dim > HEAD_DIM_MAX)
        return err_set(err, ERR_UNSUPPORTED, "heads of %d dimensions; at most %d work", shape->head_dim, HEAD_DIM_MAX);
    size_t n_bytes;
    if (!size_mul(kv_bytes_per_block(shape), (size_t)shape->n_blocks, &n_bytes))
        return err_set(err, ERR_LIMIT, "a KV cache of %d blocks is too large", shape->n_blocks);
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return err_set(err, ERR_IO, "cannot reserve %zu bytes for the KV cache", n_bytes);
    backend->kv = *shape;
    backend->kv_data = data;
    backend->kv_bytes = n_bytes;
    return 0;
}

struct kv_layer cpu_kv_layer(const struct backend *backend, int32_t layer) {
    const struct kv_shape *kv = &backend->kv;
    size_t layer_bytes = kv_layer_block_bytes(kv) * (size_t)kv->n_blocks;
    return (struct kv_layer){.data = (char *)backend->kv_data + (size_t)layer * layer_bytes,
                             .format = kv->format,
                             .n_kv_heads = kv->n_kv_heads,
                             .head_dim = kv->head_dim};
}

void backend_submit(struct backend *backend, struct program *program, const struct step_input *input) {
    assert(backend->n_submitted - backend->n_collected < STEPS_SUBMITTED_MAX);
    backend->steps[backend->n_submitted++ % STEPS_SUBMITTED_MAX] =
        (struct submitted_step){.program = program, .input = input};
}

void backend_collect(struct backend *backend, struct sample_result *results, struct step_times *times) {
    assert(backend->n_collected < backend->n_submitted);
    struct submitted_step step = backend->steps[backend->n_collected++ % STEPS_SUBMITTED_MAX];
    const struct sample_result *before = backend->last_program ? backend->last_program->results : NULL;
    uint64_t start = clock_now_ns();
    *times = (struct step_times){0};
    program_run(step.program, step.input, before, times);
    times->total_ns = clock_now_ns() - start;
    backend->last_program = step.program;
    memcpy(results, step.program->results, (size_t)step.input->n_logit_rows * sizeof *results);
}

const float *backend_logits(struct backend *backend, int32_t logit_row) {
    const struct program *program = backend->last_program;
    assert(program && logit_row >= 0 && logit_row < program->shape.logit_rows_max);
    return program->logits + (size_t)logit_row * (size_t)program->shape.vocab;
}
