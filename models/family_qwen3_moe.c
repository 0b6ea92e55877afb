// Qwen3-MoE: Qwen3 with experts in the layers that decoder_sparse_step and mlp_only_layers leave; norm_topk_prob says
// whether the weights of those that a token hits are normalised again.
#include "models/family.h"

static const struct expert_tensors experts = {
    .hf = {"mlp.gate.weight", "mlp.experts.%d.gate_proj.weight", "mlp.experts.%d.up_proj.weight",
           "mlp.experts.%d.down_proj.weight"},
    .gguf = {"ffn_gate_inp.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"},
};

const struct model_family family_qwen3_moe = {
    .name = "qwen3_moe",
    .architectures = (const char *const[]){"Qwen3MoeForCausalLM", NULL},
    .model_type = "qwen3_moe",
    .gguf_architecture = "qwen3moe",
    .layer_tensors = llama_layer_tensors,
    .n_layer_tensors = N_LLAMA_LAYER_TENSORS,
    .experts = &experts,
    .configure = qwen3_configure,
};
