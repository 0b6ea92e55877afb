// From operations of a program to launches. All of them compute the rows of a bucket; the step in device memory says
// which of them are real.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sample.h"

#include <assert.h>

// Runs launchers until one fails: RUN(rows_norm(...)).
#define RUN(launch)                                                                                                    \
    do {                                                                                                               \
        cudaError_t run_error = (launch);                                                                              \
        if (run_error != cudaSuccess) return run_error;                                                                \
    } while (0)

// Adds up what all ranks have in values[n].
static cudaError_t meet_sum(struct cuda_program *p, float *values, int32_t n_rows) {
    if (!p->ranks) return cudaSuccess;
    size_t n = (size_t)n_rows * (size_t)p->common.shape.hidden;
    struct err err;
    if (device_comm_sum(p->ranks, values, n, p->backend->stream, &err) == 0) return cudaSuccess;
    if (!p->backend->failure.code) p->backend->failure = err;
    return cudaErrorUnknown;
}

// Every rank gets the logits of the whole vocabulary, and draws the same tokens from them.
static cudaError_t meet_logits(struct cuda_program *p, int32_t n_rows) {
    if (!p->ranks) return cudaSuccess;
    const struct program_shape *shape = &p->common.shape;
    size_t n = (size_t)n_rows * (size_t)p->own_logits_stride;
    struct err err;
    if (device_comm_all_gather(p->ranks, p->own_logits, n, p->all_logits, p->backend->stream, &err) == 0)
        return rows_join_logits(&(struct rows_join_logits){.step = p->step,
                                                           .n_rows = n_rows,
                                                           .n_part = p->own_logits_stride,
                                                           .vocab = shape->vocab,
                                                           .parts = p->all_logits,
                                                           .logits = p->logits},
                                p->backend->stream);
    if (!p->backend->failure.code) p->backend->failure = err;
    return cudaErrorUnknown;
}

static cudaError_t run_embed(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    const struct program_shape *shape = &p->common.shape;
    struct rows_embed embed = {.step = p->step,
                               .n_rows = bucket->n_rows,
                               .table = op->weight[0],
                               .first_token = shape->vocab_first,
                               .drawn = p->backend->drawn,
                               .scale = op->op.embed.scale,
                               .residual = p->residual,
                               .n_ropes = shape->n_ropes};
    for (int32_t i = 0; i < shape->n_ropes; i++)
        embed.ropes[i] = (struct rows_rope){.inverse_frequency = p->frequency[i],
                                            .cosine = p->cosine[i],
                                            .sine = p->sine[i],
                                            .n_dims = shape->ropes[i].n_dims,
                                            .scale = shape->ropes[i].scale};
    RUN(rows_embed(&embed, p->backend->stream));
    return meet_sum(p, p->residual, bucket->n_rows);
}

static cudaError_t run_norm_to(struct cuda_program *p, const struct cuda_op *op, float eps, int32_t n_rows,
                               bool logit_rows, void *out, enum operand_format format) {
    return rows_norm(&(struct rows_norm){.step = p->step,
                                         .n_rows = n_rows,
                                         .n = p->common.shape.hidden,
                                         .logit_rows = logit_rows,
                                         .x = p->residual,
                                         .weight = op->norm,
                                         .eps = eps,
                                         .out = out,
                                         .format = format},
                     p->backend->stream);
}

static cudaError_t run_norm(struct cuda_program *p, const struct cuda_op *op, float eps, int32_t n_rows,
                            bool logit_rows) {
    return run_norm_to(p, op, eps, n_rows, logit_rows, p->operand, op->in_format);
}

// Whether something stands between a projection and its addition to the residual.
static bool is_added_apart(const struct cuda_program *p, const struct cuda_op *op) {
    return op->post_norm || p->ranks;
}

// The matrix product of an operation; false: it has none.
static bool product_of(const struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket,
                       struct product *out) {
    const struct program_shape *shape = &p->common.shape;
    *out = (struct product){.n_weights = op->n_weights, .n_rows = bucket->n_rows, .x = p->operand, .scale = 1};
    for (int i = 0; i < op->n_weights; i++) {
        out->weight[i] = op->weight[i];
        out->bias[i] = op->bias[i];
    }
    switch (op->op.kind) {
    case OP_ATTENTION_IN:
        out->output = PRODUCT_STORE_F32;
        out->out = p->qkv;
        out->out_stride = shape->q_width + 2 * shape->kv_width;
        return true;
    case OP_LINEAR_ADD:
        out->x = op->op.linear_add.source == SOURCE_MLP ? p->mlp : p->attention;
        out->output = is_added_apart(p, op) ? PRODUCT_STORE_F32 : PRODUCT_ADD_F32;
        out->out = is_added_apart(p, op) ? p->linear : p->residual;
        out->out_stride = shape->hidden;
        if (!is_added_apart(p, op)) out->scale = op->op.linear_add.scale;
        return true;
    case OP_MLP_IN:
        out->output = PRODUCT_GATE;
        out->out = p->mlp;
        out->out_stride = shape->mlp_width;
        out->out_format = op->out_format;
        out->activation = op->op.mlp_in.activation;
        return true;
    case OP_HEAD:
        out->output = PRODUCT_STORE_F32;
        out->n_rows = bucket->n_logit_rows;
        out->out = p->own_logits;
        out->out_stride = p->own_logits_stride;
        out->scale = op->op.head.scale;
        return true;
    case OP_MOE: // with the router
        out->output = PRODUCT_STORE_F32;
        out->out = p->router;
        out->out_stride = shape->n_experts;
        return true;
    case OP_EMBED:
    case OP_ATTENTION:
    case OP_SAMPLE:
    case OP_KINDS:
        break;
    }
    return false;
}

static cudaError_t run_product(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    struct product product;
    bool has_product = product_of(p, op, bucket, &product);
    assert(has_product);
    return product_run(p->product_engine, &product, p->backend->stream);
}

static cudaError_t run_attention_in(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    const struct op_attention_in *in = &op->op.attention_in;
    bool rotates = in->rope >= 0;
    RUN(run_norm(p, op, in->norm_eps, bucket->n_rows, false));
    RUN(run_product(p, op, bucket));
    if (in->norms_all_heads)
        RUN(rows_norm_heads(&(struct rows_norm_heads){.step = p->step,
                                                      .n_rows = bucket->n_rows,
                                                      .n_q = p->common.shape.q_width,
                                                      .n_k = p->common.shape.kv_width,
                                                      .stride = p->common.shape.q_width + 2 * p->common.shape.kv_width,
                                                      .qkv = p->qkv,
                                                      .q_weight = op->q_norm,
                                                      .k_weight = op->k_norm,
                                                      .eps = in->norm_eps},
                            p->backend->stream));
    struct attention_in_finish finish = {.step = p->step,
                                         .n_rows = bucket->n_rows,
                                         .qkv = p->qkv,
                                         .q_norm = in->norms_all_heads ? NULL : op->q_norm,
                                         .k_norm = in->norms_all_heads ? NULL : op->k_norm,
                                         .norm_eps = in->norm_eps,
                                         .cosine = rotates ? p->cosine[in->rope] : NULL,
                                         .sine = rotates ? p->sine[in->rope] : NULL,
                                         .n_dims = rotates ? p->common.shape.ropes[in->rope].n_dims : 0,
                                         .interleaved = rotates && p->common.shape.ropes[in->rope].interleaved,
                                         .n_heads = in->n_heads,
                                         .n_kv_heads = in->n_kv_heads,
                                         .head_dim = in->head_dim,
                                         .kv = p->backend->kv,
                                         .layer = in->layer,
                                         .query = p->query};
    return attention_in_finish(&finish, p->backend->stream);
}

static cudaError_t run_attention(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    const struct op_attention *attention = &op->op.attention;
    struct attention_run run = {.step = p->step,
                                .n_rows = bucket->n_rows,
                                .has_decode = bucket->has_decode,
                                .has_prefill = bucket->has_prefill,
                                .deterministic = p->backend->deterministic,
                                .query = p->query,
                                .kv = p->backend->kv,
                                .layer = attention->layer,
                                .n_heads = attention->n_heads,
                                .scale = attention->scale,
                                .soft_cap = attention->soft_cap,
                                .window = attention->window,
                                .partials = p->partials,
                                .n_processors = p->backend->n_processors,
                                .out = p->attention,
                                .out_format = op->out_format};
    return attention_run(&run, p->backend->stream);
}

static cudaError_t run_linear_add(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    RUN(run_product(p, op, bucket));
    if (!is_added_apart(p, op)) return cudaSuccess;
    RUN(meet_sum(p, p->linear, bucket->n_rows));
    return rows_add(&(struct rows_add){.step = p->step,
                                       .n_rows = bucket->n_rows,
                                       .n = p->common.shape.hidden,
                                       .x = p->linear,
                                       .weight = op->post_norm,
                                       .eps = op->op.linear_add.post_norm_eps,
                                       .scale = op->op.linear_add.scale,
                                       .residual = p->residual},
                    p->backend->stream);
}

// The norm once more in the experts' own format, where that is not the router's.
static cudaError_t run_expert_in(struct cuda_program *p, const struct cuda_op *op, int32_t n_rows, const void **x) {
    const bool is_same = op->experts.in_format == op->in_format;
    *x = is_same ? p->operand : p->expert_in;
    if (is_same) return cudaSuccess;
    return run_norm_to(p, op, op->op.moe.norm_eps, n_rows, false, p->expert_in, op->experts.in_format);
}

static cudaError_t run_route(struct cuda_program *p, const struct cuda_op *op, int32_t n_rows, int32_t tile_slots) {
    const struct op_moe *moe = &op->op.moe;
    return experts_route(&(struct experts_route){.step = p->step,
                                                 .n_rows = n_rows,
                                                 .n_experts = moe->n_experts,
                                                 .n_hit = moe->n_hit,
                                                 .tile_slots = tile_slots,
                                                 .renormalised = moe->renormalised,
                                                 .logits = p->router,
                                                 .slots = p->slots},
                         p->backend->stream);
}

// What all experts together make of all slots.
static cudaError_t run_experts(struct cuda_program *p, const struct cuda_op *op, int32_t n_rows, int32_t tile_slots,
                               const void *x) {
    const struct program_shape *shape = &p->common.shape;
    const struct op_moe *moe = &op->op.moe;
    struct experts_product in = {
        .product = {.output = PRODUCT_GATE,
                    .n_weights = 2,
                    .weight = {op->experts.gate, op->experts.up},
                    .x = x,
                    .n_rows = n_rows * moe->n_hit,
                    .out = p->expert_middle,
                    .out_stride = shape->expert_width,
                    .out_format = op->out_format,
                    .scale = 1,
                    .activation = moe->activation},
        .weights = op->experts.all_in,
        .slots = p->slots,
        .gather = true,
        .n_tiles_max = experts_tiles_max(n_rows, moe->n_hit, moe->n_experts, tile_slots),
        .tile_slots = tile_slots,
    };
    RUN(experts_product(&in, p->backend->stream));
    struct experts_product out = in;
    out.product = (struct product){.output = PRODUCT_STORE_F32,
                                   .n_weights = 1,
                                   .weight = {op->experts.down},
                                   .x = p->expert_middle,
                                   .n_rows = in.product.n_rows,
                                   .out = p->expert_out,
                                   .out_stride = shape->hidden,
                                   .scale = 1};
    out.weights = op->experts.all_out;
    out.gather = false;
    return experts_product(&out, p->backend->stream);
}

static cudaError_t run_moe(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    const struct op_moe *moe = &op->op.moe;
    const int32_t n_rows = bucket->n_rows, hidden = p->common.shape.hidden;
    const int32_t tile_slots = experts_tile_slots(op->experts.gate, op->experts.down, n_rows, moe->n_hit,
                                                  moe->n_experts, p->backend->deterministic);
    const void *x;
    RUN(run_norm(p, op, moe->norm_eps, n_rows, false));
    RUN(run_product(p, op, bucket));
    RUN(run_expert_in(p, op, n_rows, &x));
    RUN(run_route(p, op, n_rows, tile_slots));
    RUN(run_experts(p, op, n_rows, tile_slots, x));
    RUN(experts_sum(&(struct experts_sum){.step = p->step,
                                          .n_rows = n_rows,
                                          .n = hidden,
                                          .n_hit = moe->n_hit,
                                          .slots = p->slots,
                                          .out = p->expert_out,
                                          .sum = p->ranks ? p->linear : p->residual,
                                          .add = !p->ranks},
                    p->backend->stream));
    if (!p->ranks) return cudaSuccess;
    RUN(meet_sum(p, p->linear, n_rows));
    return rows_add(
        &(struct rows_add){
            .step = p->step, .n_rows = n_rows, .n = hidden, .x = p->linear, .scale = 1, .residual = p->residual},
        p->backend->stream);
}

static cudaError_t run_head(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    const struct op_head *head = &op->op.head;
    RUN(run_norm(p, op, head->norm_eps, bucket->n_logit_rows, true));
    RUN(run_product(p, op, bucket));
    RUN(meet_logits(p, bucket->n_logit_rows));
    if (head->soft_cap <= 0) return cudaSuccess;
    return rows_scale_cap(p->step, bucket->n_logit_rows, p->common.shape.vocab, p->logits, 1, head->soft_cap,
                          p->backend->stream);
}

static cudaError_t run_sample(struct cuda_program *p, const struct cuda_op *op, const struct bucket *bucket) {
    return sample_run(&(struct sample_run){.step = p->step,
                                           .n_rows = bucket->n_logit_rows,
                                           .logits = p->logits,
                                           .stride = p->common.shape.vocab,
                                           .vocab = op->op.sample.vocab,
                                           .workspace = p->sample_workspace,
                                           .drawn = p->backend->drawn,
                                           .results = p->results},
                      p->backend->stream);
}

cudaError_t cuda_op_run(struct cuda_program *p, int i, const struct bucket *bucket) {
    const struct cuda_op *op = &p->ops[i];
    switch (op->op.kind) {
    case OP_EMBED:
        return run_embed(p, op, bucket);
    case OP_ATTENTION_IN:
        return run_attention_in(p, op, bucket);
    case OP_ATTENTION:
        return run_attention(p, op, bucket);
    case OP_LINEAR_ADD:
        return run_linear_add(p, op, bucket);
    case OP_MLP_IN:
        RUN(run_norm(p, op, op->op.mlp_in.norm_eps, bucket->n_rows, false));
        return run_product(p, op, bucket);
    case OP_HEAD:
        return bucket->n_logit_rows ? run_head(p, op, bucket) : cudaSuccess;
    case OP_SAMPLE:
        return bucket->n_logit_rows ? run_sample(p, op, bucket) : cudaSuccess;
    case OP_MOE:
        return run_moe(p, op, bucket);
    case OP_KINDS:
        break;
    }
    assert(false);
    return cudaErrorInvalidValue;
}

int cuda_op_prepare(struct cuda_program *p, int i, const struct bucket *bucket, struct err *err) {
    struct product product;
    if (!product_of(p, &p->ops[i], bucket, &product) || product.n_rows == 0) return 0;
    return product_prepare(p->product_engine, &product, err);
}
