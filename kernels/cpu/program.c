// A program: recorded operations, and the memory of their activations in one mapping.
#include "base/mem.h"
#include "kernels/cpu/cpu.h"
#include "kernels/packed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SPLITS_PER_TILE_MAX = 256, PLACE_ALIGN = 64 };

struct layout {
    char *base; // NULL: sizes are counted only
    size_t used;
};

static void *place(struct layout *layout, size_t count, size_t n_bytes) {
    void *at = layout->base ? layout->base + layout->used : NULL;
    layout->used += (count * n_bytes + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN;
    return at;
}

// Of a row in any form.
static size_t prepared_bytes(const struct cpu_program *p, int32_t n) {
    size_t most = 0;
    for (enum row_form form = 0; form < ROW_FORMS; form++) {
        size_t n_bytes = p->backend->kernels->activation_bytes(row_form_format(form), n);
        if (n_bytes > most) most = n_bytes;
    }
    return most;
}

static void place_activations(struct cpu_program *p, struct layout *layout) {
    const struct program_shape *shape = &p->common.shape;
    size_t rows = (size_t)shape->rows_max, logit_rows = (size_t)shape->logit_rows_max;
    const int32_t widest = shape->hidden > shape->q_width ? shape->hidden : shape->q_width;
    const int32_t widest_made = shape->mlp_width > shape->q_width ? shape->mlp_width : shape->q_width;
    p->token = place(layout, rows, sizeof *p->token);
    for (int32_t i = 0; i < shape->n_ropes; i++) {
        p->rope_cosine[i] = place(layout, rows * (size_t)shape->ropes[i].n_dims / 2, sizeof(float));
        p->rope_sine[i] = place(layout, rows * (size_t)shape->ropes[i].n_dims / 2, sizeof(float));
    }
    p->residual = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    p->normed = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    size_t grouped = (rows + ACTIVATION_ROWS - 1) / ACTIVATION_ROWS * ACTIVATION_ROWS;
    for (enum row_form form = ROWS_EXACT + 1; form < ROW_FORMS; form++)
        p->rows[form] = place(layout, grouped, p->backend->kernels->activation_bytes(row_form_format(form), widest));
    p->made = place(layout, grouped, prepared_bytes(p, widest_made));
    p->query = place(layout, rows * (size_t)shape->q_width, sizeof(float));
    p->key = place(layout, rows * (size_t)shape->kv_width, sizeof(float));
    p->value = place(layout, rows * (size_t)shape->kv_width, sizeof(float));
    p->attention = place(layout, rows * (size_t)shape->q_width, sizeof(float));
    p->gate = place(layout, rows * (size_t)shape->mlp_width, sizeof(float));
    p->up = place(layout, rows * (size_t)shape->mlp_width, sizeof(float));
    p->linear = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    p->logits = place(layout, logit_rows * (size_t)shape->vocab, sizeof(float));
    p->own_logits = p->logits;
    if (shape->comm) {
        size_t n_ranks = (size_t)comm_n_ranks(shape->comm), most = ((size_t)shape->vocab + n_ranks - 1) / n_ranks;
        p->own_logits = place(layout, logit_rows * most, sizeof(float));
        p->all_logits = place(layout, n_ranks * logit_rows * most, sizeof(float));
    }
    p->results = place(layout, logit_rows, sizeof *p->results);
}

static void place_moe(struct cpu_program *p, struct layout *layout) {
    const struct program_shape *shape = &p->common.shape;
    struct cpu_moe *moe = &p->moe;
    size_t rows = (size_t)shape->rows_max, n_experts = (size_t)shape->n_experts, n_hits = rows * (size_t)shape->n_hit;
    // Each expert may waste all but one slot of a group.
    size_t n_groups = n_experts < n_hits ? n_experts : n_hits, width = (size_t)shape->expert_width;
    size_t n_slots = n_hits + n_groups * (ACTIVATION_ROWS - 1);
    moe->router = place(layout, rows * n_experts, sizeof *moe->router);
    moe->expert = place(layout, n_hits, sizeof *moe->expert);
    moe->weight = place(layout, n_hits, sizeof *moe->weight);
    moe->slot = place(layout, n_hits, sizeof *moe->slot);
    moe->first = place(layout, n_experts, sizeof *moe->first);
    moe->count = place(layout, n_experts, sizeof *moe->count);
    moe->hit = place(layout, n_experts, sizeof *moe->hit);
    moe->input = place(layout, n_slots, prepared_bytes(p, shape->hidden));
    moe->middle = place(layout, n_slots, prepared_bytes(p, shape->expert_width));
    moe->gate = place(layout, n_slots * width, sizeof *moe->gate);
    moe->up = place(layout, n_slots * width, sizeof *moe->up);
    moe->out = place(layout, n_slots * (size_t)shape->hidden, sizeof *moe->out);
}

static void place_scratch(struct cpu_program *p, struct layout *layout) {
    size_t n_threads = (size_t)pool_size(p->backend->pool), vocab = (size_t)p->common.shape.vocab;
    size_t partial_floats = (size_t)ATTENTION_QUERIES_MAX * (size_t)p->backend->common.kv.head_dim;
    p->tiles = place(layout, (size_t)p->common.shape.rows_max, sizeof *p->tiles);
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

int cpu_program_open(struct program **out, struct backend *backend, const struct program_shape *shape,
                     struct err *err) {
    struct cpu_program *p = mem_alloc_zero(1, sizeof *p);
    program_begin(&p->common, backend, shape);
    p->backend = (struct cpu_backend *)backend;
    p->group_max = 1;
    struct layout layout = {0};
    place_activations(p, &layout);
    if (shape->n_experts) place_moe(p, &layout);
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
    if (shape->n_experts) place_moe(p, &layout);
    place_scratch(p, &layout);
    if (shape->comm) comm_reserve(shape->comm, (size_t)shape->rows_max * (size_t)shape->hidden);
    p->backend->activation_bytes += p->activation_bytes;
    p->backend->workspace_bytes += p->memory_bytes - p->activation_bytes;
    p->next = p->backend->programs;
    p->backend->programs = p;
    *out = &p->common;
    return 0;
}

void cpu_program_close(struct program *program) {
    struct cpu_program *p = (struct cpu_program *)program;
    struct cpu_backend *backend = p->backend;
    if (backend->last_program == p) backend->last_program = NULL;
    backend->activation_bytes -= p->activation_bytes;
    backend->workspace_bytes -= p->memory_bytes - p->activation_bytes;
    struct cpu_program **link = &backend->programs;
    while (*link != p) link = &(*link)->next;
    *link = p->next;
    munmap(p->memory, p->memory_bytes);
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == OP_MOE) free((void *)(uintptr_t)p->ops[i].moe.experts);
    free(p->ops);
    free((void *)p->taken);
    free(p);
}

// Puts the weight that the backend made in the place of the model's.
static void take_weight(struct cpu_program *p, struct tensor *weight) {
    *weight = *(const struct tensor *)weight->handle;
    p->weight_bytes +=
        (double)(tensor_format_is_quantised(weight->format) ? packed_bytes(weight) : tensor_bytes(weight));
    p->row_flops += 2.0 * weight->n_rows * weight->n_cols;
}

// Whether rows prepared for one matrix serve the other.
static bool takes_same_rows(const struct tensor *a, const struct tensor *b) {
    return row_form(a->format) == row_form(b->format);
}

// A row reads some of the experts: their cost is that of one row.
static void take_experts(struct cpu_program *p, struct op_moe *op) {
    struct expert *experts = mem_alloc((size_t)op->n_experts * sizeof *experts);
    double bytes = p->weight_bytes, flops = p->row_flops, share = (double)op->n_hit / op->n_experts;
    for (int32_t e = 0; e < op->n_experts; e++) {
        experts[e] = op->experts[e];
        take_weight(p, &experts[e].gate);
        take_weight(p, &experts[e].up);
        take_weight(p, &experts[e].down);
        const struct tensor *first = &experts[0].gate;
        p->experts_differ |= !takes_same_rows(&experts[e].gate, first) || !takes_same_rows(&experts[e].up, first) ||
                             !takes_same_rows(&experts[e].down, &experts[0].down);
    }
    p->weight_bytes = bytes + share * (p->weight_bytes - bytes);
    p->row_flops = flops + share * (p->row_flops - flops);
    op->experts = experts;
    take_weight(p, &op->router);
}

static void take_weights(struct cpu_program *p, struct op *op) {
    switch (op->kind) {
    case OP_EMBED: // a row reads one row of it
        op->embed.table = *(const struct tensor *)op->embed.table.handle;
        break;
    case OP_ATTENTION_IN:
        take_weight(p, &op->attention_in.wq);
        take_weight(p, &op->attention_in.wk);
        take_weight(p, &op->attention_in.wv);
        break;
    case OP_LINEAR_ADD:
        take_weight(p, &op->linear_add.weight);
        break;
    case OP_MLP_IN:
        take_weight(p, &op->mlp_in.gate);
        take_weight(p, &op->mlp_in.up);
        break;
    case OP_MOE:
        take_experts(p, &op->moe);
        break;
    case OP_HEAD:
        take_weight(p, &op->head.weight);
        break;
    case OP_ATTENTION:
    case OP_SAMPLE:
    case OP_KINDS:
        break;
    }
}

void cpu_program_add(struct program *program, const struct op *op) {
    struct cpu_program *p = (struct cpu_program *)program;
    if (op->kind == OP_ATTENTION) {
        int32_t group = op->attention.n_heads / op->attention.n_kv_heads;
        assert(group <= ATTENTION_QUERIES_MAX);
        if (group > p->group_max) p->group_max = group;
    }
    if (p->n_ops == p->ops_capacity) {
        p->ops_capacity = p->ops_capacity ? 2 * p->ops_capacity : 64;
        p->ops = mem_grow(p->ops, (size_t)p->ops_capacity, sizeof *p->ops);
    }
    p->ops[p->n_ops] = *op;
    take_weights(p, &p->ops[p->n_ops++]);
}

// Rows are made for the matrix that comes next.
static void check_order(const struct cpu_program *p) {
    for (int32_t i = 0; i < p->n_ops; i++) {
        const enum op_kind kind = p->ops[i].kind;
        const bool makes = kind == OP_ATTENTION || kind == OP_MLP_IN, takes = kind == OP_LINEAR_ADD;
        assert(!makes || (i + 1 < p->n_ops && p->ops[i + 1].kind == OP_LINEAR_ADD));
        assert(!takes ||
               (i > 0 && p->ops[i - 1].kind == (p->ops[i].linear_add.source == SOURCE_MLP ? OP_MLP_IN : OP_ATTENTION)));
    }
}

int cpu_program_prepare(struct program *program, struct err *err) {
    struct cpu_program *p = (struct cpu_program *)program;
    check_order(p);
    if (p->experts_differ)
        return err_set(err, ERR_UNSUPPORTED,
                       "some experts of a layer are too large or too small for the format of others");
    p->taken = mem_alloc_zero((size_t)p->n_ops * STAGES_MAX, sizeof *p->taken);
    return 0;
}
