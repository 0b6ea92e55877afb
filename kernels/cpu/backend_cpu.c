// The CPU as a backend. Host and device share the cores, so a step runs when it is collected.
#include "base/clock.h"
#include "base/mem.h"
#include "base/memory_available.h"
#include "base/memory_resident.h"
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    HUGE_LAYER_BYTES = 8 << 20,
    KV_PIECE_BYTES = 2 << 20, // touched at once
    KV_SPARE_SHARE = 4,       // while memory for such a share of the cache is free
};

static void cpu_close(struct backend *common) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    if (!backend->shares_pool) pool_close(backend->pool);
    cpu_weights_close(backend);
    if (backend->kv_data) munmap(backend->kv_data, backend->kv_bytes);
    free(backend);
}

static int cpu_open(struct backend **out, const struct backend_options *options, struct err *err) {
    const char *wanted = options->instruction_set ? options->instruction_set : "auto";
    struct cpu_backend *backend = mem_alloc_zero(1, sizeof *backend);
    backend->kernels = cpu_kernels_find(wanted);
    backend->observer = options->observer;
    int rc = 0;
    if (!backend->kernels)
        rc = err_set(err, ERR_UNSUPPORTED, "no instruction set \"%s\" on this processor; the best here is %s", wanted,
                     cpu_kernels_find("auto")->name);
    backend->shares_pool = options->beside != NULL;
    if (options->beside)
        backend->pool = ((struct cpu_backend *)options->beside)->pool;
    else if (!rc)
        rc = pool_open(&backend->pool, options->n_threads > 0 ? options->n_threads : pool_cores(), err);
    if (rc) {
        cpu_close(&backend->common);
        return rc;
    }
    int n_threads = backend->own_threads_max = backend->common.n_threads = pool_size(backend->pool);
    backend->threads_max =
        options->beside ? ((struct cpu_backend *)options->beside)->threads_max : &backend->own_threads_max;
    snprintf(backend->common.description, sizeof backend->common.description, "cpu, %s, %d thread%s",
             backend->kernels->description, n_threads, n_threads == 1 ? "" : "s");
    backend->common.steps_in_flight = 1;
    *out = &backend->common;
    return 0;
}

static void cpu_limit_threads(struct backend *common, int n) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    *backend->threads_max = n < common->n_threads ? n : common->n_threads;
}

static uint64_t cpu_memory_available(const struct backend *common) {
    (void)common;
    return memory_available_bytes();
}

static void cpu_memory(const struct backend *common, struct backend_memory *out) {
    const struct cpu_backend *backend = (const struct cpu_backend *)common;
    *out = (struct backend_memory){.weights_bytes = backend->weights_bytes,
                                   .mapped_bytes = backend->mapped_bytes,
                                   .kv_bytes = backend->kv_bytes,
                                   .activation_bytes = backend->activation_bytes,
                                   .workspace_bytes = backend->workspace_bytes};
    if (backend->kv_data) out->kv_resident_bytes = memory_resident_bytes(backend->kv_data, backend->kv_bytes);
    for (const struct cpu_program *p = backend->programs; p; p = p->next) {
        out->activation_resident_bytes += memory_resident_bytes(p->memory, p->activation_bytes);
        out->workspace_resident_bytes +=
            memory_resident_bytes((char *)p->memory + p->activation_bytes, p->memory_bytes - p->activation_bytes);
    }
}

static int cpu_kv_open(struct backend *common, const struct kv_shape *shape, struct err *err) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    assert(shape->block_tokens == KV_BLOCK_TOKENS);
    if (shape->head_dim > HEAD_DIM_MAX)
        return err_set(err, ERR_UNSUPPORTED, "heads of %d dimensions; at most %d work", shape->head_dim, HEAD_DIM_MAX);
    if (shape->format == KV_INT8 && shape->head_dim % KV_QUAD)
        return err_set(err, ERR_UNSUPPORTED, "heads of %d dimensions; a KV cache in int8 takes multiples of %d",
                       shape->head_dim, KV_QUAD);
    size_t n_bytes;
    if (!size_mul(kv_bytes_per_block(shape), (size_t)shape->n_blocks, &n_bytes))
        return err_set(err, ERR_LIMIT, "a KV cache of %d blocks is too large", shape->n_blocks);
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return err_set(err, ERR_IO, "cannot reserve %zu bytes for the KV cache", n_bytes);
    // Blocks of a head are small and lie apart: most reads would miss the table of small pages. A little cache keeps
    // them, because it is touched page by page.
    if (n_bytes / (size_t)shape->n_layers >= HUGE_LAYER_BYTES) madvise(data, n_bytes, MADV_HUGEPAGE);
    backend->kv_data = data;
    backend->kv_bytes = n_bytes;
    return 0;
}

struct kv_layer cpu_kv_layer(const struct cpu_backend *backend, int32_t layer) {
    const struct kv_shape *kv = &backend->common.kv;
    size_t layer_bytes = (size_t)kv_bytes_per_block(kv) / (size_t)kv->n_layers * (size_t)kv->n_blocks;
    return (struct kv_layer){.data = (char *)backend->kv_data + (size_t)layer * layer_bytes,
                             .format = kv->format,
                             .n_kv_heads = kv->n_kv_heads,
                             .head_dim = kv->head_dim};
}

// A piece is of one layer.
static bool cpu_touch_kv(struct backend *common, int32_t n_blocks) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    const struct kv_shape *kv = &common->kv;
    if (backend->kv_blocks_touched >= n_blocks || cpu_memory_available(common) < backend->kv_bytes / KV_SPARE_SHARE)
        return false;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const size_t block_bytes = kv_bytes_per_block(kv) / (size_t)kv->n_layers;
    const int32_t left = kv->n_blocks - backend->kv_blocks_touched, some = (int32_t)(KV_PIECE_BYTES / block_bytes) + 1;
    const int32_t count = some < left ? some : left;
    const uintptr_t first = (uintptr_t)cpu_kv_layer(backend, backend->kv_layers_touched).data +
                            (size_t)backend->kv_blocks_touched * block_bytes;
    const uintptr_t begin = first / page * page, end = (first + (size_t)count * block_bytes + page - 1) / page * page;
    if (madvise((void *)begin, end - begin, MADV_POPULATE_WRITE) != 0) return false; // old systems cannot
    if (++backend->kv_layers_touched == kv->n_layers) {
        backend->kv_layers_touched = 0;
        backend->kv_blocks_touched += count;
    }
    return true;
}

static void cpu_submit(struct backend *common, struct program *program, const struct step_input *input) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    backend->steps[backend->n_submitted++ % STEPS_SUBMITTED_MAX] =
        (struct submitted_step){.program = (struct cpu_program *)program, .input = input};
}

static int cpu_collect(struct backend *common, struct sample_result *results, struct step_times *times,
                       struct err *err) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    struct submitted_step step = backend->steps[backend->n_collected++ % STEPS_SUBMITTED_MAX];
    const struct sample_result *before = backend->last_program ? backend->last_program->results : NULL;
    uint64_t start = clock_now_ns();
    cpu_program_run(step.program, step.input, before, times);
    times->total_ns = clock_now_ns() - start;
    backend->last_program = step.program;
    times->n_experts_hit = step.program->n_experts_hit;
    memcpy(results, step.program->results, (size_t)step.input->n_logit_rows * sizeof *results);
    if (!step.program->comm_err.code) return 0;
    return err_set(err, step.program->comm_err.code, "%s", step.program->comm_err.text);
}

static const float *cpu_logits(struct backend *common, int32_t logit_row) {
    const struct cpu_program *program = ((struct cpu_backend *)common)->last_program;
    assert(program && logit_row >= 0 && logit_row < program->common.shape.logit_rows_max);
    return program->logits + (size_t)logit_row * (size_t)program->common.shape.vocab;
}

const struct backend_driver cpu_driver = {.abi = BACKEND_DRIVER_ABI,
                                          .name = "cpu",
                                          .keeps_int8 = true,
                                          .open = cpu_open,
                                          .close = cpu_close,
                                          .memory_available = cpu_memory_available,
                                          .memory = cpu_memory,
                                          .limit_threads = cpu_limit_threads,
                                          .measure_peaks = cpu_measure_peaks,
                                          .weight_bytes = cpu_weight_bytes,
                                          .weight_load = cpu_weight_load,
                                          .kv_open = cpu_kv_open,
                                          .touch_kv = cpu_touch_kv,
                                          .program_open = cpu_program_open,
                                          .program_add = cpu_program_add,
                                          .program_prepare = cpu_program_prepare,
                                          .program_close = cpu_program_close,
                                          .submit = cpu_submit,
                                          .collect = cpu_collect,
                                          .logits = cpu_logits};
