// Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: the Llama block with q, k and v in one tensor and gate and up in another; long
// contexts by factors for each pair of dimensions, of which some may not be rotated at all.
#include "models/family.h"

#define FIELD(name) offsetof(struct layer_spec, name)

static const struct layer_tensor layer_tensors[] = {
    {"input_layernorm.weight", "attn_norm.weight", FIELD(attention_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"self_attn.qkv_proj.weight", "attn_qkv.weight", FIELD(wq), DIM_QUERY, DIM_HIDDEN, 0},
    {"self_attn.qkv_proj.weight", "attn_qkv.weight", FIELD(wk), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.qkv_proj.weight", "attn_qkv.weight", FIELD(wv), DIM_KV, DIM_HIDDEN, 0},
    {"self_attn.o_proj.weight", "attn_output.weight", FIELD(wo), DIM_HIDDEN, DIM_QUERY, 0},
    {"post_attention_layernorm.weight", "ffn_norm.weight", FIELD(mlp_norm), DIM_ONE, DIM_HIDDEN, 0},
    {"mlp.gate_up_proj.weight", "ffn_up.weight", FIELD(gate), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.gate_up_proj.weight", "ffn_up.weight", FIELD(up), DIM_MLP, DIM_HIDDEN, 0},
    {"mlp.down_proj.weight", "ffn_down.weight", FIELD(down), DIM_HIDDEN, DIM_MLP, 0},
};

static int configure(struct model_config *config, struct err *err) {
    (void)err;
    config->window_rule = config->window ? WINDOW_ALL : WINDOW_NONE;
    return 0;
}

const struct model_family family_phi3 = {
    .name = "phi3",
    .architectures = (const char *const[]){"Phi3ForCausalLM", NULL},
    .model_type = "phi3",
    .gguf_architecture = "phi3",
    .turn_end = "<|end|>",
    .layer_tensors = layer_tensors,
    .n_layer_tensors = sizeof layer_tensors / sizeof *layer_tensors,
    .features = FEATURE_PARTIAL_ROPE | FEATURE_LONG_ROPE,
    .configure = configure,
};
