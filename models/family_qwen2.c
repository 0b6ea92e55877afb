// Qwen2 and Qwen2.5: biases on q, k and v always, never on o. The window counts only when use_sliding_window says so,
// in the layers from max_window_layers on.
#include "models/family.h"

static int configure(struct model_config *config, struct err *err) {
    (void)err;
    config->traits |= TRAIT_QKV_BIAS;
    config_use_optional_window(config);
    return 0;
}

const struct model_family family_qwen2 = {
    .name = "qwen2",
    .architectures = (const char *const[]){"Qwen2ForCausalLM", NULL},
    .model_type = "qwen2",
    .gguf_architecture = "qwen2",
    .layer_tensors = llama_layer_tensors,
    .n_layer_tensors = N_LLAMA_LAYER_TENSORS,
    .configure = configure,
};
