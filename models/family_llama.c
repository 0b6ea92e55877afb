// Llama 2 and 3.x, and everything that took over their block: TinyLlama, SmolLM2, Yi, DeepSeek-LLM. attention_bias puts
// biases on q, k, v and o; mlp_bias on all three matrices of the feed-forward.
#include "models/family.h"

#define FIELD(name) offsetof(struct layer_spec, name)

const struct layer_tensor llama_layer_tensors[N_LLAMA_LAYER_TENSORS] = {
    {"input_layernorm.weight", "attn_norm.weight", FIELD(attention_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"self_attn.q_proj.weight", "attn_q.weight", FIELD(wq), DIM_QUERY, DIM_HIDDEN, 0},
    {"self_attn.k_proj.weight", "attn_k.weight", FIELD(wk), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.v_proj.weight", "attn_v.weight", FIELD(wv), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.o_proj.weight", "attn_output.weight", FIELD(wo), DIM_HIDDEN, DIM_QUERY, 0},
    {"self_attn.q_proj.bias", "attn_q.bias", FIELD(bq), DIM_ONE, DIM_QUERY, TRAIT_QKV_BIAS},
    {"self_attn.k_proj.bias", "attn_k.bias", FIELD(bk), DIM_ONE, DIM_KV, TRAIT_QKV_BIAS},
    {"self_attn.v_proj.bias", "attn_v.bias", FIELD(bv), DIM_ONE, DIM_KV, TRAIT_QKV_BIAS},
    {"self_attn.o_proj.bias", "attn_output.bias", FIELD(bo), DIM_ONE, DIM_HIDDEN, TRAIT_O_BIAS},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", FIELD(q_norm), DIM_ONE, DIM_HEAD, TRAIT_QK_NORM},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", FIELD(k_norm), DIM_ONE, DIM_HEAD, TRAIT_QK_NORM},
    {"post_attention_layernorm.weight", "ffn_norm.weight", FIELD(mlp_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"mlp.gate_proj.weight", "ffn_gate.weight", FIELD(gate), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.up_proj.weight", "ffn_up.weight", FIELD(up), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.down_proj.weight", "ffn_down.weight", FIELD(down), DIM_HIDDEN, DIM_MLP, 0},
    {"mlp.gate_proj.bias", "ffn_gate.bias", FIELD(gate_bias), DIM_ONE, DIM_MLP, TRAIT_MLP_BIAS},
    {"mlp.up_proj.bias", "ffn_up.bias", FIELD(up_bias), DIM_ONE, DIM_MLP, TRAIT_MLP_BIAS},
    {"mlp.down_proj.bias", "ffn_down.bias", FIELD(down_bias), DIM_ONE, DIM_HIDDEN, TRAIT_MLP_BIAS},
};

static int configure(struct model_config *config, struct err *err) {
    (void)err;
    // GGUF files of Mistral models call themselves "llama" too and then carry the window.
    config->window_rule = config->from_gguf && config->window ? WINDOW_ALL : WINDOW_NONE;
    if (config->from_gguf) return 0;
    if (config->attention_bias) config->traits |= TRAIT_QKV_BIAS | TRAIT_O_BIAS;
    if (config->mlp_bias) config->traits |= TRAIT_MLP_BIAS;
    return 0;
}

const struct model_family family_llama = {
    .name = "llama",
    .architectures = (const char *const[]){"LlamaForCausalLM", NULL},
    .model_type = "llama",
    .gguf_architecture = "llama",
    .gguf_interleaved = true,
    .layer_tensors = llama_layer_tensors,
    .n_layer_tensors = N_LLAMA_LAYER_TENSORS,
    .configure = configure,
};
