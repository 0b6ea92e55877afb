// A program on the device: operations with their vectors and weights resolved, and the memory of their activations.
#include "base/mem.h"
#include "kernels/comm.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/sample.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cuda_program_open(struct program **out, struct backend *backend, const struct program_shape *shape,
                      struct err *err) {
    if (shape->logit_rows_max > DRAWN_MAX)
        return err_set(err, ERR_LIMIT, "at most %d rows of a step can have logits on this device", DRAWN_MAX);
    if (comm_n_ranks(shape->comm) > 1)
        return err_set(err, ERR_UNSUPPORTED, "a model cannot be shared by ranks on this device");
    // Kernels count the elements of rows, of slots and of what is made of them in 32 bits.
    const int64_t n_slots = (int64_t)shape->rows_max * (shape->n_hit > 1 ? shape->n_hit : 1);
    if (n_slots * (shape->expert_width > shape->hidden ? shape->expert_width : shape->hidden) > INT32_MAX)
        return err_set(err, ERR_LIMIT,
                       "steps of %d rows are too many for this device: each hits %d experts of width %d",
                       shape->rows_max, shape->n_hit, shape->expert_width);
    struct cuda_program *p = mem_alloc_zero(1, sizeof *p);
    program_begin(&p->common, backend, shape);
    p->backend = (struct cuda_backend *)backend;
    p->next = p->backend->programs;
    p->backend->programs = p;
    *out = &p->common;
    return 0;
}

static void close_events(struct cuda_program *p) {
    for (int i = 0; p->marks && i <= p->n_ops; i++)
        if (p->marks[i]) cudaEventDestroy(p->marks[i]);
    free((void *)p->marks);
}

void cuda_program_close(struct program *program) {
    struct cuda_program *p = (struct cuda_program *)program;
    struct cuda_backend *backend = p->backend;
    (void)cuda_enter(backend);
    if (backend->failure.code) { // what waits on the device for a rank that has gone would wait for ever
        device_comm_close(p->ranks, false);
        p->ranks = NULL;
    }
    (void)cudaStreamSynchronize(backend->stream);
    device_comm_close(p->ranks, true);
    struct cuda_program **link = &backend->programs;
    while (*link != p) link = &(*link)->next;
    *link = p->next;
    if (backend->last_program == p) backend->last_program = NULL;
    cuda_graphs_close(p);
    close_events(p);
    if (p->product_engine) product_engine_close(p->product_engine);
    for (int i = 0; i < STEPS_MAX; i++) {
        if (p->staged[i]) cudaFreeHost(p->staged[i]);
        if (p->landed[i]) cudaFreeHost(p->landed[i]);
    }
    device_memory_close(&p->memory);
    device_memory_close(&p->vector_memory);
    free(p->logits_on_host);
    free(p->vectors);
    free(p->ops);
    free(p);
}

// ------------------------------------------------------------------------------------------------------ recording

// NULL after a failure, which p keeps.
static void *copy_to_device(struct cuda_program *p, const void *host, size_t n_bytes) {
    void *device = p->failure.code ? NULL : device_memory_take(&p->vector_memory, n_bytes, &p->failure);
    // In the stream of the steps: nothing else would wait for the end of a copy from pageable memory.
    if (device && cuda_check(cudaMemcpyAsync(device, host, n_bytes, cudaMemcpyHostToDevice, p->backend->stream),
                             "copying a vector to the device", &p->failure))
        return NULL;
    return device;
}

// The vector on the device, copied there when it is first seen. NULL stays NULL.
static const float *take_vector(struct cuda_program *p, const float *host, int32_t n) {
    if (!host || p->failure.code) return NULL;
    for (int i = 0; i < p->n_vectors; i++)
        if (p->vectors[i].host == host && p->vectors[i].n == n) return p->vectors[i].device;
    const float *device = copy_to_device(p, host, (size_t)n * sizeof *host);
    if (!device) return NULL;
    p->vectors = mem_grow(p->vectors, (size_t)p->n_vectors + 1, sizeof *p->vectors);
    p->vectors[p->n_vectors++] = (struct cuda_vector){host, n, device};
    return device;
}

static const struct device_weight *weight_of(const struct tensor *tensor) {
    return &((const struct cuda_weight *)tensor->handle)->device;
}

static void take_weight(struct cuda_op *op, const struct tensor *tensor) {
    op->weight[op->n_weights++] = weight_of(tensor);
}

// Weights that one kernel multiplies share their format.
static void check_formats(struct cuda_program *p, const struct cuda_op *op, const char *names) {
    for (int i = 1; i < op->n_weights; i++)
        if (op->weight[i]->format != op->weight[0]->format && !p->failure.code)
            err_set(&p->failure, ERR_UNSUPPORTED,
                    "%s of a layer have different formats; --weights bf16, fp8 or int4 makes them equal", names);
}

static void resolve_attention_in(struct cuda_program *p, struct cuda_op *op) {
    const struct op_attention_in *in = &op->op.attention_in;
    const struct program_shape *shape = &p->common.shape;
    take_weight(op, &in->wq);
    take_weight(op, &in->wk);
    take_weight(op, &in->wv);
    check_formats(p, op, "queries, keys and values");
    op->norm = take_vector(p, in->norm_weight, shape->hidden);
    op->bias[0] = take_vector(p, in->bq, shape->q_width);
    op->bias[1] = take_vector(p, in->bk, shape->kv_width);
    op->bias[2] = take_vector(p, in->bv, shape->kv_width);
    op->q_norm = take_vector(p, in->q_norm, in->norms_all_heads ? shape->q_width : in->head_dim);
    op->k_norm = take_vector(p, in->k_norm, in->norms_all_heads ? shape->kv_width : in->head_dim);
    p->n_heads = in->n_heads;
}

// What the operation before it writes is what this product reads.
static void resolve_linear_add(struct cuda_program *p, struct cuda_op *op) {
    const struct op_linear_add *add = &op->op.linear_add;
    take_weight(op, &add->weight);
    op->bias[0] = take_vector(p, add->bias, p->common.shape.hidden);
    op->post_norm = take_vector(p, add->post_norm_weight, p->common.shape.hidden);
    enum op_kind source = add->source == SOURCE_MLP ? OP_MLP_IN : OP_ATTENTION;
    int i = p->n_ops - 1;
    while (i >= 0 && p->ops[i].op.kind != source) i--;
    assert(i >= 0);
    p->ops[i].out_format = operand_format_for(op->weight[0]->format);
}

static void resolve_mlp_in(struct cuda_program *p, struct cuda_op *op) {
    const struct op_mlp_in *in = &op->op.mlp_in;
    take_weight(op, &in->gate);
    take_weight(op, &in->up);
    check_formats(p, op, "gate and up projections");
    op->norm = take_vector(p, in->norm_weight, p->common.shape.hidden);
    op->bias[0] = take_vector(p, in->gate_bias, p->common.shape.mlp_width);
    op->bias[1] = take_vector(p, in->up_bias, p->common.shape.mlp_width);
}

static void refuse(struct cuda_program *p, bool lacks, const char *what) {
    if (lacks && !p->failure.code) err_set(&p->failure, ERR_UNSUPPORTED, "%s are not supported on a CUDA device", what);
}

// Kernels find the weights of an expert that a row hits in tables on the device.
static void resolve_moe(struct cuda_program *p, struct cuda_op *op) {
    const struct op_moe *moe = &op->op.moe;
    const size_t n = (size_t)moe->n_experts;
    refuse(p, moe->router_bias || moe->gate_bias || moe->up_bias || moe->down_bias, "experts with biases");
    refuse(p, moe->activation == ACTIVATION_SWIGLU_CLAMPED, "clamped activations");
    struct device_weight *in = mem_alloc(2 * n * sizeof *in), *out = mem_alloc(n * sizeof *out);
    for (size_t e = 0; e < n; e++) {
        in[2 * e] = *weight_of(&moe->experts[e].gate);
        in[2 * e + 1] = *weight_of(&moe->experts[e].up);
        out[e] = *weight_of(&moe->experts[e].down);
        assert(in[2 * e].format == in[0].format && in[2 * e + 1].format == in[0].format);
        assert(out[e].format == out[0].format);
    }
    take_weight(op, &moe->router);
    op->norm = take_vector(p, moe->norm_weight, p->common.shape.hidden);
    op->experts = (struct cuda_experts){.gate = weight_of(&moe->experts[0].gate),
                                        .up = weight_of(&moe->experts[0].up),
                                        .down = weight_of(&moe->experts[0].down),
                                        .all_in = copy_to_device(p, in, 2 * n * sizeof *in),
                                        .all_out = copy_to_device(p, out, n * sizeof *out),
                                        .in_format = operand_format_for(in->format)};
    op->out_format = operand_format_for(out->format);
    free(in), free(out);
}

void cuda_program_add(struct program *program, const struct op *op) {
    struct cuda_program *p = (struct cuda_program *)program;
    struct cuda_op resolved = {.op = *op};
    if (!p->failure.code) p->failure.code = cuda_check(cuda_enter(p->backend), "recording a program", &p->failure);
    switch (op->kind) {
    case OP_EMBED:
        take_weight(&resolved, &op->embed.table);
        break;
    case OP_ATTENTION_IN:
        resolve_attention_in(p, &resolved);
        break;
    case OP_LINEAR_ADD:
        resolve_linear_add(p, &resolved);
        break;
    case OP_MLP_IN:
        resolve_mlp_in(p, &resolved);
        break;
    case OP_HEAD:
        take_weight(&resolved, &op->head.weight);
        resolved.norm = take_vector(p, op->head.norm_weight, p->common.shape.hidden);
        break;
    case OP_MOE:
        resolve_moe(p, &resolved);
        break;
    case OP_ATTENTION:
        refuse(p, op->attention.sinks, "attention sinks");
        break;
    case OP_SAMPLE:
    case OP_KINDS:
        break;
    }
    if (resolved.n_weights > 0) resolved.in_format = operand_format_for(resolved.weight[0]->format);
    if (p->n_ops == p->ops_capacity) {
        p->ops_capacity = p->ops_capacity ? 2 * p->ops_capacity : 64;
        p->ops = mem_grow(p->ops, (size_t)p->ops_capacity, sizeof *p->ops);
    }
    p->ops[p->n_ops++] = resolved;
}

// ------------------------------------------------------------------------------------------------------ memory

struct layout {
    struct device_memory *memory; // NULL: sizes are counted only
    size_t n_bytes;
};

// The memory has been reserved, so taking it cannot fail.
static void *place(struct layout *layout, size_t count, size_t n_bytes) {
    size_t needed = (count * n_bytes + DEVICE_ALIGN - 1) / DEVICE_ALIGN * DEVICE_ALIGN;
    layout->n_bytes += needed;
    if (!layout->memory) return NULL;
    void *at = device_memory_take(layout->memory, needed, NULL);
    assert(at);
    return at;
}

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t operand_bytes_max(const struct cuda_program *p) {
    size_t most = operand_bytes(OPERAND_BF16);
    for (int i = 0; i < p->n_ops; i++) most = max_size(most, operand_bytes(p->ops[i].in_format));
    return most;
}

static void place_experts(struct cuda_program *p, struct layout *layout) {
    const struct program_shape *shape = &p->common.shape;
    size_t rows = (size_t)shape->rows_max, n_slots = rows * (size_t)shape->n_hit, in = 0, middle = 0;
    for (int i = 0; i < p->n_ops; i++) {
        const struct cuda_op *op = &p->ops[i];
        if (op->op.kind != OP_MOE) continue;
        if (op->experts.in_format != op->in_format) in = max_size(in, operand_bytes(op->experts.in_format));
        middle = max_size(middle, operand_bytes(op->out_format));
    }
    p->router = place(layout, rows * (size_t)shape->n_experts, sizeof(float));
    p->expert_in = place(layout, rows * (size_t)shape->hidden, in);
    p->expert_middle = place(layout, n_slots * (size_t)shape->expert_width, middle);
    p->expert_out = place(layout, n_slots * (size_t)shape->hidden, sizeof(float));
    p->slots = (struct experts_slots){
        .expert = place(layout, n_slots, sizeof(int32_t)),
        .weight = place(layout, n_slots, sizeof(float)),
        .slot = place(layout, n_slots, sizeof(int32_t)),
        .row = place(layout, n_slots, sizeof(int32_t)),
        .tiles = place(layout, n_slots, sizeof(struct expert_tile)), // of one slot or more
        .n_tiles = place(layout, 1, sizeof(int32_t)),
    };
}

static void place_all(struct cuda_program *p, struct layout *layout) {
    const struct program_shape *shape = &p->common.shape;
    size_t rows = (size_t)shape->rows_max, logit_rows = (size_t)shape->logit_rows_max;
    size_t widest_rows = rows > logit_rows ? rows : logit_rows, operand = operand_bytes_max(p);
    p->step = place(layout, 1, p->pack.n_bytes);
    for (int32_t i = 0; i < shape->n_ropes; i++) {
        p->cosine[i] = place(layout, rows * (size_t)shape->ropes[i].n_dims / 2, sizeof(float));
        p->sine[i] = place(layout, rows * (size_t)shape->ropes[i].n_dims / 2, sizeof(float));
    }
    p->residual = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    p->operand = place(layout, widest_rows * (size_t)shape->hidden, operand);
    p->qkv = place(layout, rows * (size_t)(shape->q_width + 2 * shape->kv_width), sizeof(float));
    p->query = place(layout, rows * (size_t)shape->q_width, sizeof(float));
    p->attention = place(layout, rows * (size_t)shape->q_width, operand);
    p->mlp = place(layout, rows * (size_t)shape->mlp_width, operand);
    p->linear = place(layout, rows * (size_t)shape->hidden, sizeof(float));
    if (shape->n_experts) place_experts(p, layout);
    p->partials = place(layout, 1, p->pack.attention.partial_bytes);
    p->logits = place(layout, logit_rows * (size_t)shape->vocab, sizeof(float));
    p->own_logits = p->logits;
    p->own_logits_stride = shape->vocab;
    if (p->ranks) {
        int32_t n_ranks = comm_n_ranks(shape->comm);
        p->own_logits_stride = (shape->vocab + n_ranks - 1) / n_ranks;
        p->own_logits = place(layout, logit_rows * (size_t)p->own_logits_stride, sizeof(float));
        p->all_logits = place(layout, (size_t)n_ranks * logit_rows * (size_t)p->own_logits_stride, sizeof(float));
    }
    p->sample_workspace = place(layout, 1, sample_workspace_bytes(shape->logit_rows_max, shape->vocab));
    p->results = place(layout, logit_rows, sizeof *p->results);
}

// Padding rows of some buffers are read before they were ever written: they must hold numbers.
static int take_memory(struct cuda_program *p, struct err *err) {
    struct layout layout = {0};
    place_all(p, &layout);
    int rc = device_memory_reserve(&p->memory, layout.n_bytes, err);
    if (rc) return err_prefix(err, "activations of %d rows", p->common.shape.rows_max);
    rc = cuda_check(cudaMemsetAsync(p->memory.last, 0, p->memory.last_bytes, p->backend->stream),
                    "clearing activations", err);
    p->activation_bytes = layout.n_bytes;
    layout = (struct layout){.memory = &p->memory};
    place_all(p, &layout);
    return rc;
}

static int take_pinned(struct cuda_program *p, struct err *err) {
    size_t result_bytes = (size_t)p->common.shape.logit_rows_max * sizeof(struct sample_result);
    int rc = 0;
    for (int i = 0; !rc && i < STEPS_MAX; i++) {
        rc = cuda_check(cudaMallocHost((void **)&p->staged[i], p->pack.n_bytes), "taking pinned memory", err);
        if (!rc) rc = cuda_check(cudaMallocHost((void **)&p->landed[i], result_bytes), "taking pinned memory", err);
    }
    p->marks = mem_alloc_zero((size_t)p->n_ops + 1, sizeof *p->marks);
    for (int i = 0; !rc && i <= p->n_ops; i++) rc = cuda_check(cudaEventCreate(&p->marks[i]), "creating an event", err);
    return rc;
}

// ------------------------------------------------------------------------------------------------------ preparing

static int32_t max_i32(int32_t a, int32_t b) {
    return a > b ? a : b;
}

static void *allocate_for_products(void *context, size_t n_bytes) {
    return device_memory_take(&((struct cuda_program *)context)->memory, n_bytes, NULL);
}

// The format by which products take their workspace: that of most work to multiply many rows.
static enum device_format widest_format(const struct cuda_program *p) {
    enum device_format format = DEVICE_F32;
    for (int i = 0; i < p->n_ops; i++)
        if (p->ops[i].n_weights > 0 && p->ops[i].op.kind != OP_EMBED && p->ops[i].weight[0]->format > format)
            format = p->ops[i].weight[0]->format;
    return format;
}

static int open_products(struct cuda_program *p, struct err *err) {
    const struct program_shape *shape = &p->common.shape;
    int32_t widest_in = max_i32(shape->hidden, max_i32(shape->q_width, shape->mlp_width));
    int32_t widest_out = max_i32(max_i32(widest_in, shape->vocab), shape->q_width + 2 * shape->kv_width);
    widest_out = max_i32(widest_out, shape->n_experts);
    struct product_engine_options options = {.deterministic = p->backend->deterministic,
                                             .format = widest_format(p),
                                             .rows_max = max_i32(shape->rows_max, shape->logit_rows_max),
                                             .n_in_max = widest_in,
                                             .n_out_max = widest_out,
                                             .mlp_width = shape->mlp_width};
    struct cuda_backend *backend = p->backend;
    int rc = product_engine_open(&p->product_engine, &options, allocate_for_products, p, backend->stream, err);
    if (!rc)
        snprintf(backend->common.description, sizeof backend->common.description, "%s, %s", backend->hardware,
                 product_engine_description(p->product_engine));
    return rc;
}

// Whether two operations are the same product but for the numbers in it, as those of different layers are.
static bool is_same_product(const struct cuda_op *a, const struct cuda_op *b) {
    if (a->op.kind != b->op.kind || a->n_weights != b->n_weights || !a->post_norm != !b->post_norm) return false;
    if (a->out_format != b->out_format || a->in_format != b->in_format) return false;
    for (int i = 0; i < a->n_weights; i++) {
        const struct device_weight *v = a->weight[i], *w = b->weight[i];
        if (v->format != w->format || v->n_out != w->n_out || v->n_in != w->n_in || v->group != w->group) return false;
        if (!a->bias[i] != !b->bias[i] || !v->zero != !w->zero) return false;
    }
    return true;
}

static int prepare_op(struct cuda_program *p, int op, struct err *err) {
    for (int i = 0; i < op; i++)
        if (is_same_product(&p->ops[i], &p->ops[op])) return 0;
    bool is_head = p->ops[op].op.kind == OP_HEAD;
    int n = is_head ? p->n_logit_buckets : p->n_row_buckets, rc = 0;
    for (int i = 0; !rc && i < n; i++) {
        struct bucket bucket = {.n_rows = is_head ? 0 : p->row_buckets[i],
                                .n_logit_rows = is_head ? p->logit_buckets[i] : 0};
        rc = cuda_op_prepare(p, op, &bucket, err);
    }
    return rc;
}

int cuda_program_prepare(struct program *program, struct err *err) {
    struct cuda_program *p = (struct cuda_program *)program;
    struct cuda_backend *backend = p->backend;
    if (p->failure.code) return err_set(err, p->failure.code, "%s", p->failure.text);
    int rc = cuda_check(cuda_enter(backend), "preparing a program", err);
    if (rc) return rc;
    const struct kv_shape *kv = &backend->common.kv;
    p->attention_limits = (struct attention_limits){.rows_max = program->shape.rows_max,
                                                    .sequences_max = program->shape.sequences_max,
                                                    .n_heads = p->n_heads ? p->n_heads : kv->n_kv_heads,
                                                    .n_kv_heads = kv->n_kv_heads,
                                                    .head_dim = kv->head_dim,
                                                    .n_processors = backend->n_processors,
                                                    .deterministic = backend->deterministic};
    cuda_pack_limits(&p->pack, program, &p->attention_limits);
    cuda_buckets_choose(p);
    for (int32_t i = 0; i < program->shape.n_ropes; i++)
        p->frequency[i] = take_vector(p, program->ropes[i].inverse_frequency, program->ropes[i].n_dims / 2);
    if (p->failure.code) return err_set(err, p->failure.code, "%s", p->failure.text);
    if (program->shape.comm) rc = device_comm_open(&p->ranks, program->shape.comm, err);
    if (!rc) rc = take_memory(p, err);
    if (!rc) rc = take_pinned(p, err);
    if (!rc) rc = open_products(p, err);
    for (int i = 0; !rc && i < p->n_ops; i++) rc = prepare_op(p, i, err);
    return rc ? rc : cuda_check(cudaStreamSynchronize(backend->stream), "preparing a program", err);
}
