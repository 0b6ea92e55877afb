// SmolLM3: the Llama block, where every fourth layer knows no positions (NoPE).
#include "models/family.h"

static void set_defaults(struct model_config *config) {
    config->rope.theta = 2e6;
    config->unrotated_period = 4;
    config->tied = true;
}

static int configure(struct model_config *config, struct err *err) {
    if (config->use_sliding_window && !config->layer_is_sliding)
        return err_set(err, ERR_UNSUPPORTED, "use_sliding_window without layer_types is not supported");
    config->window_rule = config->use_sliding_window ? WINDOW_LISTED : WINDOW_NONE;
    if (config->attention_bias) config->traits |= TRAIT_QKV_BIAS | TRAIT_O_BIAS;
    if (config->mlp_bias) config->traits |= TRAIT_MLP_BIAS;
    return 0;
}

const struct model_family family_smollm3 = {
    .name = "smollm3",
    .architectures = (const char *const[]){"SmolLM3ForCausalLM", NULL},
    .model_type = "smollm3",
    .gguf_architecture = "smollm3",
    .turn_end = "<|im_end|>",
    .gguf_interleaved = true,
    .layer_tensors = llama_layer_tensors,
    .n_layer_tensors = N_LLAMA_LAYER_TENSORS,
    .features = FEATURE_UNROTATED,
    .set_defaults = set_defaults,
    .configure = configure,
};
