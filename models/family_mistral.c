// Mistral: the Llama block without biases; the first models have a sliding window in every layer, Ministral in the
// layers that layer_types lists, Nemo has heads whose width is not hidden / heads. GGUF files call themselves "llama".
#include "models/family.h"

static int configure(struct model_config *config, struct err *err) {
    (void)err;
    config->window_rule = config->layer_is_sliding ? WINDOW_LISTED : WINDOW_ALL;
    return 0;
}

const struct model_family family_mistral = {
    .name = "mistral",
    .architectures = (const char *const[]){"MistralForCausalLM", "MinistralForCausalLM", NULL},
    .model_type = "mistral",
    .gguf_architecture = NULL,
    .layer_tensors = llama_layer_tensors,
    .n_layer_tensors = N_LLAMA_LAYER_TENSORS,
    .configure = configure,
};
