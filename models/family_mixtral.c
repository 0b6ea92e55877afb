// Mixtral: Mistral with experts in every layer, as wide as intermediate_size says, and their weights normalised again.
// GGUF files call themselves "llama".
#include "models/family.h"

static const struct expert_tensors experts = {
    .hf = {"block_sparse_moe.gate.weight", "block_sparse_moe.experts.%d.w1.weight",
           "block_sparse_moe.experts.%d.w3.weight", "block_sparse_moe.experts.%d.w2.weight"},
    .gguf = {"ffn_gate_inp.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"},
};

static int configure(struct model_config *config, struct err *err) {
    if (!config->n_experts) return err_set(err, ERR_INVALID, "num_local_experts is missing or 0");
    config->window_rule = config->window ? WINDOW_ALL : WINDOW_NONE;
    config->is_renormalised = true;
    return 0;
}

const struct model_family family_mixtral = {
    .name = "mixtral",
    .architectures = (const char *const[]){"MixtralForCausalLM", NULL},
    .model_type = "mixtral",
    .gguf_architecture = "llama",
    .gguf_interleaved = true,
    .layer_tensors = llama_layer_tensors,
    .n_layer_tensors = N_LLAMA_LAYER_TENSORS,
    .experts = &experts,
    .configure = configure,
};
