// Gemma 2: norms before and behind attention and feed-forward, whose weights count from 1; embeddings scaled by the
// root of the width; GELU; soft caps on scores and logits; a window in every other layer.
#include "models/family.h"

#define FIELD(name) offsetof(struct layer_spec, name)

const struct layer_tensor gemma_layer_tensors[N_GEMMA_LAYER_TENSORS] = {
    {"input_layernorm.weight", "attn_norm.weight", FIELD(attention_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"self_attn.q_proj.weight", "attn_q.weight", FIELD(wq), DIM_QUERY, DIM_HIDDEN, 0},
    {"self_attn.k_proj.weight", "attn_k.weight", FIELD(wk), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.v_proj.weight", "attn_v.weight", FIELD(wv), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.o_proj.weight", "attn_output.weight", FIELD(wo), DIM_HIDDEN, DIM_QUERY, 0},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", FIELD(q_norm), DIM_ONE, DIM_HEAD, TRAIT_QK_NORM},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", FIELD(k_norm), DIM_ONE, DIM_HEAD, TRAIT_QK_NORM},
    {"post_attention_layernorm.weight", "post_attention_norm.weight", FIELD(attention_post_norm), DIM_ONE, DIM_HIDDEN,
     0},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight", FIELD(mlp_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"mlp.gate_proj.weight", "ffn_gate.weight", FIELD(gate), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.up_proj.weight", "ffn_up.weight", FIELD(up), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.down_proj.weight", "ffn_down.weight", FIELD(down), DIM_HIDDEN, DIM_MLP, 0},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", FIELD(mlp_post_norm), DIM_ONE, DIM_HIDDEN, 0},
};

// Configurations inside of wrappers leave out what is so in most models.
void gemma_set_defaults(struct model_config *config) {
    config->n_heads = 8;
    config->n_kv_heads = 4;
    config->head_dim = 256;
    config->activation = ACTIVATION_GELU_TANH;
    config->window = 4096;
    config->tied = true;
}

int gemma_configure(struct model_config *config, int32_t n_layers_27b, struct err *err) {
    config->scales_embed = true;
    config->adds_one_to_norms = !config->from_gguf; // the converter has added it
    if (config->from_gguf && config->n_layers == n_layers_27b)
        config->attention_divisor = config->hidden / config->n_heads;
    return config_use_window_period(config, err);
}

static void set_defaults(struct model_config *config) {
    gemma_set_defaults(config);
    config->context_max = 8192;
    config->attention_soft_cap = 50;
    config->final_soft_cap = 30;
    config->window_period = 2;
    if (!config->from_gguf) config->attention_divisor = 256;
}

static int configure(struct model_config *config, struct err *err) {
    return gemma_configure(config, 46, err);
}

const struct model_family family_gemma2 = {
    .name = "gemma2",
    .architectures = (const char *const[]){"Gemma2ForCausalLM", NULL},
    .model_type = "gemma2",
    .gguf_architecture = "gemma2",
    .turn_end = "<end_of_turn>",
    .layer_tensors = gemma_layer_tensors,
    .n_layer_tensors = N_GEMMA_LAYER_TENSORS,
    .features = FEATURE_SOFT_CAPS | FEATURE_WINDOW_PATTERN,
    .set_defaults = set_defaults,
    .configure = configure,
};
