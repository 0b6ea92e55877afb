// OLMo 2: norms only behind attention and feed-forward, and over all heads of q and of k together.
#include "models/family.h"

#define FIELD(name) offsetof(struct layer_spec, name)

static const struct layer_tensor layer_tensors[] = {
    {"self_attn.q_proj.weight", "attn_q.weight", FIELD(wq), DIM_QUERY, DIM_HIDDEN, 0},
    {"self_attn.k_proj.weight", "attn_k.weight", FIELD(wk), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.v_proj.weight", "attn_v.weight", FIELD(wv), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.o_proj.weight", "attn_output.weight", FIELD(wo), DIM_HIDDEN, DIM_QUERY, 0},
    {"self_attn.q_proj.bias", "attn_q.bias", FIELD(bq), DIM_ONE, DIM_QUERY, TRAIT_QKV_BIAS},
    {"self_attn.k_proj.bias", "attn_k.bias", FIELD(bk), DIM_ONE, DIM_KV, TRAIT_QKV_BIAS},
    {"self_attn.v_proj.bias", "attn_v.bias", FIELD(bv), DIM_ONE, DIM_KV, TRAIT_QKV_BIAS},
    {"self_attn.o_proj.bias", "attn_output.bias", FIELD(bo), DIM_ONE, DIM_HIDDEN, TRAIT_O_BIAS},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", FIELD(q_norm), DIM_ONE, DIM_QUERY, 0},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", FIELD(k_norm), DIM_ONE, DIM_KV, 0},
    {"post_attention_layernorm.weight", "post_attention_norm.weight", FIELD(attention_post_norm), DIM_ONE, DIM_HIDDEN,
     0},
    {"mlp.gate_proj.weight", "ffn_gate.weight", FIELD(gate), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.up_proj.weight", "ffn_up.weight", FIELD(up), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.down_proj.weight", "ffn_down.weight", FIELD(down), DIM_HIDDEN, DIM_MLP, 0},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", FIELD(mlp_post_norm), DIM_ONE, DIM_HIDDEN, 0},
};

// A window in the file is that of OLMo 3, whose layers are rotated differently.
static int configure(struct model_config *config, struct err *err) {
    if (config->from_gguf && config->window)
        return err_set(err, ERR_UNSUPPORTED, "olmo2.attention.sliding_window (OLMo 3) is not supported");
    config->window_rule = WINDOW_NONE;
    config->norms_all_heads = true;
    if (config->attention_bias) config->traits |= TRAIT_QKV_BIAS | TRAIT_O_BIAS;
    return 0;
}

const struct model_family family_olmo2 = {
    .name = "olmo2",
    .architectures = (const char *const[]){"Olmo2ForCausalLM", NULL},
    .model_type = "olmo2",
    .gguf_architecture = "olmo2",
    .layer_tensors = layer_tensors,
    .n_layer_tensors = sizeof layer_tensors / sizeof *layer_tensors,
    .configure = configure,
};
