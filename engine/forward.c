#include "engine/forward.h"

static void record_attention(struct program *program, const struct model_spec *spec, int32_t layer) {
    const struct layer_spec *l = &spec->layers[layer];
    program_add(program, &(struct op){.kind = OP_ATTENTION_IN,
                                      .attention_in = {.layer = layer,
                                                       .n_heads = spec->n_heads,
                                                       .n_kv_heads = spec->n_kv_heads,
                                                       .head_dim = spec->head_dim,
                                                       .norm_weight = l->attention_norm,
                                                       .norm_eps = spec->norm_eps,
                                                       .wq = l->wq,
                                                       .wk = l->wk,
                                                       .wv = l->wv,
                                                       .bq = l->bq,
                                                       .bk = l->bk,
                                                       .bv = l->bv,
                                                       .q_norm = l->q_norm,
                                                       .k_norm = l->k_norm,
                                                       .norms_all_heads = spec->norms_all_heads,
                                                       .rope = l->rope}});
    program_add(program, &(struct op){.kind = OP_ATTENTION,
                                      .attention = {.layer = layer,
                                                    .n_heads = spec->n_heads,
                                                    .n_kv_heads = spec->n_kv_heads,
                                                    .head_dim = spec->head_dim,
                                                    .scale = spec->attention_scale,
                                                    .window = l->window,
                                                    .soft_cap = spec->attention_soft_cap,
                                                    .sinks = l->sinks}});
    program_add(program, &(struct op){.kind = OP_LINEAR_ADD,
                                      .linear_add = {.source = SOURCE_ATTENTION,
                                                     .weight = l->wo,
                                                     .bias = l->bo,
                                                     .post_norm_weight = l->attention_post_norm,
                                                     .post_norm_eps = spec->norm_eps,
                                                     .scale = 1}});
}

static void record_mlp(struct program *program, const struct model_spec *spec, int32_t layer) {
    const struct layer_spec *l = &spec->layers[layer];
    program_add(program, &(struct op){.kind = OP_MLP_IN,
                                      .mlp_in = {.norm_weight = l->mlp_norm,
                                                 .norm_eps = spec->norm_eps,
                                                 .gate = l->gate,
                                                 .up = l->up,
                                                 .gate_bias = l->gate_bias,
                                                 .up_bias = l->up_bias,
                                                 .activation = spec->activation}});
    program_add(program, &(struct op){.kind = OP_LINEAR_ADD,
                                      .linear_add = {.source = SOURCE_MLP,
                                                     .weight = l->down,
                                                     .bias = l->down_bias,
                                                     .post_norm_weight = l->mlp_post_norm,
                                                     .post_norm_eps = spec->norm_eps,
                                                     .scale = 1}});
}

static void record_experts(struct program *program, const struct model_spec *spec, int32_t layer) {
    const struct layer_spec *l = &spec->layers[layer];
    program_add(program, &(struct op){.kind = OP_MOE,
                                      .moe = {.norm_weight = l->mlp_norm,
                                              .norm_eps = spec->norm_eps,
                                              .router = l->router,
                                              .n_experts = spec->n_experts,
                                              .n_hit = spec->n_hit,
                                              .renormalised = spec->is_renormalised,
                                              .experts = l->experts,
                                              .activation = spec->activation,
                                              .router_bias = l->router_bias,
                                              .gate_bias = l->gate_bias,
                                              .up_bias = l->up_bias,
                                              .down_bias = l->down_bias}});
}

void forward_record(struct program *program, const struct model_spec *spec, int32_t n_token_ids) {
    program_add(program, &(struct op){.kind = OP_EMBED, .embed = {.table = spec->embed, .scale = spec->embed_scale}});
    for (int32_t layer = 0; layer < spec->n_layers; layer++) {
        record_attention(program, spec, layer);
        if (spec->layers[layer].experts)
            record_experts(program, spec, layer);
        else
            record_mlp(program, spec, layer);
    }
    program_add(program, &(struct op){.kind = OP_HEAD,
                                      .head = {.norm_weight = spec->final_norm,
                                               .norm_eps = spec->norm_eps,
                                               .weight = spec->head,
                                               .soft_cap = spec->final_soft_cap,
                                               .scale = 1}});
    program_add(program, &(struct op){.kind = OP_SAMPLE, .sample = {.vocab = n_token_ids}});
}
