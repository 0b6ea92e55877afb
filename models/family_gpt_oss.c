// gpt-oss: experts in every layer, with biases, a clamped SwiGLU and a router that has a bias too; biases on q, k, v
// and o; a sink for each head; a window in every other layer. Its experts are MXFP4 as published.
#include "models/family.h"

#define FIELD(name) offsetof(struct layer_spec, name)

static const struct layer_tensor layer_tensors[] = {
    {"input_layernorm.weight", "attn_norm.weight", FIELD(attention_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"self_attn.q_proj.weight", "attn_q.weight", FIELD(wq), DIM_QUERY, DIM_HIDDEN, 0},
    {"self_attn.k_proj.weight", "attn_k.weight", FIELD(wk), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.v_proj.weight", "attn_v.weight", FIELD(wv), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.o_proj.weight", "attn_output.weight", FIELD(wo), DIM_HIDDEN, DIM_QUERY, 0},
    {"self_attn.q_proj.bias", "attn_q.bias", FIELD(bq), DIM_ONE, DIM_QUERY, TRAIT_QKV_BIAS},
    {"self_attn.k_proj.bias", "attn_k.bias", FIELD(bk), DIM_ONE, DIM_KV, TRAIT_QKV_BIAS},
    {"self_attn.v_proj.bias", "attn_v.bias", FIELD(bv), DIM_ONE, DIM_KV, TRAIT_QKV_BIAS},
    {"self_attn.o_proj.bias", "attn_output.bias", FIELD(bo), DIM_ONE, DIM_HIDDEN, TRAIT_O_BIAS},
    {"self_attn.sinks", "attn_sinks.weight", FIELD(sinks), DIM_ONE, DIM_HEADS, 0},
    {"post_attention_layernorm.weight", "post_attention_norm.weight", FIELD(mlp_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"mlp.router.bias", "ffn_gate_inp.bias", FIELD(router_bias), DIM_ONE, DIM_EXPERTS, 0},
};

static const struct expert_tensors experts = {
    .hf = {"mlp.router.weight", "mlp.experts.gate_up_proj", "mlp.experts.gate_up_proj", "mlp.experts.down_proj",
           "mlp.experts.gate_up_proj_bias", "mlp.experts.gate_up_proj_bias", "mlp.experts.down_proj_bias"},
    .gguf = {"ffn_gate_inp.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight",
             "ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias"},
};

static void set_defaults(struct model_config *config) {
    config->attention_bias = true;
    config->rope.theta = 150000;
    config->window = 128;
    config->window_period = 2;
    if (config->from_gguf) config->rope.truncate = false; // no key says it
}

static int configure(struct model_config *config, struct err *err) {
    if (!config->n_experts) return err_set(err, ERR_INVALID, "num_local_experts is missing or 0");
    config->is_renormalised = true;
    config->activation = ACTIVATION_SWIGLU_CLAMPED;
    if (config->attention_bias) config->traits |= TRAIT_QKV_BIAS | TRAIT_O_BIAS;
    return config_use_window_period(config, err);
}

const struct model_family family_gpt_oss = {
    .name = "gpt_oss",
    .architectures = (const char *const[]){"GptOssForCausalLM", NULL},
    .model_type = "gpt_oss",
    .gguf_architecture = "gpt-oss",
    .turn_end = "<|return|>",
    .layer_tensors = layer_tensors,
    .n_layer_tensors = sizeof layer_tensors / sizeof *layer_tensors,
    .experts = &experts,
    .features = FEATURE_MXFP4 | FEATURE_WINDOW_PATTERN,
    .set_defaults = set_defaults,
    .configure = configure,
};
