// Gemma 3, also as the language model inside of one that sees images: Gemma 2 with norms of each head of q and k
// instead of soft caps; five of six layers have the window and a rotation of their own.
#include "models/family.h"

static void set_defaults(struct model_config *config) {
    gemma_set_defaults(config);
    config->vocab = config->from_gguf ? 0 : 262208;
    config->context_max = 131072;
    config->window_period = 6;
    config->rope.theta = 1e6;
    if (!config->from_gguf) config->attention_divisor = 256;
}

static int configure(struct model_config *config, struct err *err) {
    config->traits |= TRAIT_QK_NORM;
    return gemma_configure(config, 62, err);
}

const struct model_family family_gemma3 = {
    .name = "gemma3",
    .architectures = (const char *const[]){"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", NULL},
    .model_type = "gemma3_text",
    .gguf_architecture = "gemma3",
    .turn_end = "<end_of_turn>",
    .layer_tensors = gemma_layer_tensors,
    .n_layer_tensors = N_GEMMA_LAYER_TENSORS,
    .features = FEATURE_SOFT_CAPS | FEATURE_LOCAL_ROPE | FEATURE_WINDOW_PATTERN,
    .set_defaults = set_defaults,
    .configure = configure,
};
