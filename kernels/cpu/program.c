// A program: recorded operations, and the memory of their activations in one mapping.
#include "base/mem.h"
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SPLITS_PER_TILE_MAX = 256, PLACE_ALIGN = 64 };

const char *op_kind_name(enum op_kind kind) {
    static const char *const names[OP_KINDS] = {"embed",  "attention_in", "attention", "linear_add",
                                                "mlp_in", "head",         "sample"};
    return names[kind];
}

struct layout {
    char *base; // NULL: sizes are counted only
    size_t used;
};

static void *place(struct layout *layout, size_t count, size_t n_bytes) {
    void *at = layout->base ? layout->base + layout->used : NULL;
    layout->used += (count * n_bytes + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN;
    return at;
}

static void place_activations(struct program *p, struct layout *layout) {
    const struct program_shape *shape = &p->shape;
    size_t rows = (size_t)shape->rows_max, logit_rows = (size_t)shape->logit_rows_max;
    int32_t widest = shape->hidden > shape->mlp_width ? shape->hidden : shape->mlp_width;
    if (shape->q_width > widest) widest = shape->q_width;
    p->token = place(layout, rows, sizeof *p->token);
    for (int32_t i = 0; i < shape->n_ropes; i++) {
        p->rope_cosine[i] = place(layout, rows * (size_t)shape->ropes[i].n_dims / 2, sizeof(float));
        p->rope_sine[i] = place(layout, rows * (size_t)shape->ropes[i].n_dims / 2, sizeof(float));
    }
    p->residual = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    p->normed = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    size_t grouped = (rows + ACTIVATION_ROWS - 1) / ACTIVATION_ROWS * ACTIVATION_ROWS;
    p->rounded = place(layout, grouped, p->backend->kernels->activation_bytes(TENSOR_BF16, widest));
    p->query = place(layout, rows * (size_t)shape->q_width, sizeof(float));
    p->key = place(layout, rows * (size_t)shape->kv_width, sizeof(float));
    p->value = place(layout, rows * (size_t)shape->kv_width, sizeof(float));
    p->attention = place(layout, rows * (size_t)shape->q_width, sizeof(float));
    p->gate = place(layout, rows * (size_t)shape->mlp_width, sizeof(float));
    p->up = place(layout, rows * (size_t)shape->mlp_width, sizeof(float));
    p->linear = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    p->logits = place(layout, logit_rows * (size_t)shape->vocab, sizeof(float));
    p->results = place(layout, logit_rows, sizeof *p->results);
}

static void place_scratch(struct program *p, struct layout *layout) {
    size_t n_threads = (size_t)pool_size(p->backend->pool), vocab = (size_t)p->shape.vocab;
    size_t partial_floats = (size_t)ATTENTION_QUERIES_MAX * (size_t)p->backend->kv.head_dim;
    p->tiles = place(layout, (size_t)p->shape.rows_max, sizeof *p->tiles);
    p->scratch = place(layout, n_threads, sizeof *p->scratch);
    for (size_t i = 0; i < n_threads; i++) {
        struct worker_scratch scratch = {.partial.out = place(layout, partial_floats, sizeof(float)),
                                         .total.out = place(layout, partial_floats, sizeof(float)),
                                         .sample.logits = place(layout, vocab, sizeof(float)),
                                         .sample.block_largest = place(layout, vocab / SAMPLE_BLOCK + 1, sizeof(float)),
                                         .sample.candidates = place(layout, vocab, sizeof *scratch.sample.candidates)};
        if (layout->base) p->scratch[i] = scratch;
    }
    // One worker never splits.
    p->n_partials = n_threads > 1 ? SPLIT_TILES_PER_WORKER * SPLITS_PER_TILE_MAX * (int32_t)n_threads : 0;
    p->partials = place(layout, (size_t)p->n_partials, sizeof *p->partials);
    for (int32_t i = 0; i < p->n_partials; i++) {
        float *out = place(layout, partial_floats, sizeof(float));
        if (layout->base) p->partials[i].out = out;
    }
}

int program_open(struct program **out, struct backend *backend, const struct program_shape *shape, struct err *err) {
    assert(backend->kv_data && shape->n_ropes >= 0 && shape->n_ropes <= 2);
    assert(shape->rows_max > 0 && shape->sequences_max > 0 && shape->logit_rows_max > 0);
    struct program *p = mem_alloc_zero(1, sizeof *p);
    p->backend = backend;
    p->shape = *shape;
    for (int32_t i = 0; i < shape->n_ropes; i++) p->ropes[i] = shape->ropes[i];
    p->shape.ropes = p->ropes;
    p->group_max = 1;
    struct layout layout = {0};
    place_activations(p, &layout);
    p->activation_bytes = layout.used;
    place_scratch(p, &layout);
    p->memory_bytes = layout.used;
    p->memory = mmap(NULL, p->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->memory == MAP_FAILED) {
        free(p);
        return err_set(err, ERR_IO, "cannot reserve %zu bytes for activations", layout.used);
    }
    layout = (struct layout){.base = p->memory};
    place_activations(p, &layout);
    place_scratch(p, &layout);
    backend->activation_bytes += p->activation_bytes;
    backend->workspace_bytes += p->memory_bytes - p->activation_bytes;
    *out = p;
    return 0;
}

void program_close(struct program *program) {
    if (!program) return;
    struct backend *backend = program->backend;
    if (backend->last_program == program) backend->last_program = NULL;
    backend->activation_bytes -= program->activation_bytes;
    backend->workspace_bytes -= program->memory_bytes - program->activation_bytes;
    munmap(program->memory, program->memory_bytes);
    free(program->ops);
    free((void *)program->taken);
    free(program);
}

static void check_weight(struct program *program, const struct tensor *weight, int32_t n_rows, int32_t n_cols) {
    assert(weight->handle && weight->n_rows == n_rows && weight->n_cols == n_cols);
    program->weight_bytes += (double)tensor_bytes(weight);
    program->row_flops += 2.0 * n_rows * n_cols;
}

static void check_attention_in(struct program *program, const struct op_attention_in *op) {
    const struct program_shape *shape = &program->shape;
    const struct kv_shape *kv = &program->backend->kv;
    assert(op->layer >= 0 && op->layer < kv->n_layers);
    assert(op->head_dim == kv->head_dim && op->n_kv_heads == kv->n_kv_heads);
    assert(op->n_heads > 0 && op->n_heads % op->n_kv_heads == 0);
    assert(op->n_heads * op->head_dim == shape->q_width && op->n_kv_heads * op->head_dim == shape->kv_width);
    assert(op->rope >= -1 && op->rope < shape->n_ropes);
    assert(op->rope < 0 ||
           (program->ropes[op->rope].n_dims <= op->head_dim && program->ropes[op->rope].n_dims % 2 == 0));
    check_weight(program, &op->wq, shape->q_width, shape->hidden);
    check_weight(program, &op->wk, shape->kv_width, shape->hidden);
    check_weight(program, &op->wv, shape->kv_width, shape->hidden);
}

static void check_attention(struct program *program, const struct op_attention *op) {
    const struct kv_shape *kv = &program->backend->kv;
    int32_t group = op->n_heads / op->n_kv_heads;
    assert(op->layer >= 0 && op->layer < kv->n_layers && op->head_dim == kv->head_dim);
    assert(op->n_kv_heads == kv->n_kv_heads && op->n_heads == group * op->n_kv_heads);
    assert(op->n_heads * op->head_dim == program->shape.q_width && group <= ATTENTION_QUERIES_MAX);
    if (group > program->group_max) program->group_max = group;
}

static void check_op(struct program *program, const struct op *op) {
    const struct program_shape *shape = &program->shape;
    switch (op->kind) {
    case OP_EMBED:
        assert(op->embed.table.handle && op->embed.table.n_rows == shape->vocab);
        assert(op->embed.table.n_cols == shape->hidden);
        break;
    case OP_ATTENTION_IN:
        check_attention_in(program, &op->attention_in);
        break;
    case OP_ATTENTION:
        check_attention(program, &op->attention);
        break;
    case OP_LINEAR_ADD:
        check_weight(program, &op->linear_add.weight, shape->hidden,
                     op->linear_add.source == SOURCE_MLP ? shape->mlp_width : shape->q_width);
        break;
    case OP_MLP_IN:
        check_weight(program, &op->mlp_in.gate, shape->mlp_width, shape->hidden);
        check_weight(program, &op->mlp_in.up, shape->mlp_width, shape->hidden);
        break;
    case OP_HEAD:
        check_weight(program, &op->head.weight, shape->vocab, shape->hidden);
        break;
    case OP_SAMPLE:
        assert(op->sample.vocab > 0 && op->sample.vocab <= shape->vocab);
        break;
    case OP_KINDS:
        assert(false);
    }
}

void program_add(struct program *program, const struct op *op) {
    check_op(program, op);
    if (program->n_ops == program->ops_capacity) {
        program->ops_capacity = program->ops_capacity ? 2 * program->ops_capacity : 64;
        program->ops = mem_grow(program->ops, (size_t)program->ops_capacity, sizeof *program->ops);
        free((void *)program->taken);
        program->taken = mem_alloc_zero((size_t)program->ops_capacity * STAGES_MAX, sizeof *program->taken);
    }
    program->ops[program->n_ops++] = *op;
}
