// Qwen3: each head of q and k is normalised before the rotation; head_dim is written and wins over hidden / heads.
// Windows as in Qwen2.
#include "models/family.h"

int qwen3_configure(struct model_config *config, struct err *err) {
    (void)err;
    config->traits |= TRAIT_QK_NORM;
    if (config->attention_bias) config->traits |= TRAIT_QKV_BIAS | TRAIT_O_BIAS;
    config_use_optional_window(config);
    return 0;
}

const struct model_family family_qwen3 = {
    .name = "qwen3",
    .architectures = (const char *const[]){"Qwen3ForCausalLM", NULL},
    .model_type = "qwen3",
    .gguf_architecture = "qwen3",
    .layer_tensors = llama_layer_tensors,
    .n_layer_tensors = N_LLAMA_LAYER_TENSORS,
    .configure = qwen3_configure,
};
