// What a model's configuration says, in one form for config.json and for GGUF keys.
//
// Reading gives the numbers as the file has them; the family then decides what they mean (family.h): which biases
// exist, which layers have a window. Everything is checked here: dimensions are within bounds, heads divide, factors
// are finite.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "models/gguf.h"
#include "models/model.h"
#include "models/quantization.h"
#include "models/rope.h"

struct model_family;

// Tensors that only some models have.
enum model_trait {
    TRAIT_QKV_BIAS = 1,
    TRAIT_O_BIAS = 2,
    TRAIT_MLP_BIAS = 4,
    TRAIT_QK_NORM = 8,
};

// Things in a configuration that change the mathematics: refused in families that do not know them.
enum model_feature {
    FEATURE_SOFT_CAPS = 1,
    FEATURE_PARTIAL_ROPE = 2,    // only the first dimensions of a head are rotated
    FEATURE_LONG_ROPE = 4,       // factors for each pair, others for long contexts
    FEATURE_LOCAL_ROPE = 8,      // layers with a window are rotated differently
    FEATURE_UNROTATED = 16,      // some layers have no rotation
    FEATURE_WINDOW_PATTERN = 32, // GGUF: which layers have the window
    FEATURE_MXFP4 = 64,
};

enum window_rule {
    WINDOW_NONE,       // every layer sees everything
    WINDOW_ALL,        // every layer has the window
    WINDOW_FROM_LAYER, // layers from window_first_layer on
    WINDOW_LISTED,     // layers whose layer_is_sliding is set
    WINDOW_PERIODIC,   // all but each window_period-th
};

struct model_config {
    const struct model_family *family;
    bool from_gguf;
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, mlp_width, vocab, context_max;
    int32_t n_experts, n_hit, expert_width; // 0 in families without experts, and in models that have none
    bool is_renormalised;                   // norm_topk_prob; the family may decide
    const bool *layer_is_dense;             // [n_layers] has no experts all the same; NULL: none
    double norm_eps;
    enum activation activation;
    bool tied;                        // the head is the embedding table, even if the file has another
    enum tensor_format weight_format; // "dtype": what random weights are made in
    struct rope_config rope;
    struct rope_config local_rope;  // of layers with a window, in families that know FEATURE_LOCAL_ROPE
    const bool *layer_is_unrotated; // [n_layers] from no_rope_layers; NULL: not written
    int32_t unrotated_period;       // each of this many layers is not rotated, where nothing lists them; 0: none
    double attention_divisor;       // scores are divided by its root; 0: the head width
    double attention_soft_cap, final_soft_cap; // 0: none
    bool scales_embed;                         // by the root of the hidden width
    bool adds_one_to_norms;                    // norms multiply by 1 + weight
    bool norms_all_heads;                      // the norms of q and k go over all heads together
    bool attention_bias, mlp_bias;             // as written
    unsigned traits;                           // enum model_trait; set by the family
    int32_t window;                            // sliding_window as written; 0: none
    bool use_sliding_window;                   // as written; false when absent
    int32_t window_first_layer;                // max_window_layers
    int32_t window_period;                     // sliding_window_pattern
    const bool *layer_is_sliding;              // [n_layers] from layer_types; NULL: not written
    enum window_rule window_rule;              // set by the family
    struct quantization quantization;          // of safetensors files
    int32_t n_stop_tokens;
    int32_t stop_tokens[MODEL_STOP_TOKENS_MAX];
    struct generation_defaults defaults;
};

// config.json as transformers 4 and 5 write it. Lists live in the arena. ERR_UNSUPPORTED: something that changes the
// mathematics and is not known here; the text names it.
int config_read_json(struct model_config *out, struct arena *arena, struct str_view text, struct err *err)
    __attribute__((warn_unused_result));

// generation_config.json: adds stop tokens, sets defaults.
int config_read_generation(struct model_config *config, struct str_view text, struct err *err)
    __attribute__((warn_unused_result));

// quantize_config.json or quant_config.json, where config.json says nothing. root NULL: there is no such file.
int config_read_quantization(struct model_config *config, const cJSON *root, struct err *err)
    __attribute__((warn_unused_result));

// The keys of a GGUF file, and what only its tensors tell (vocabulary, biases, untied head).
int config_read_gguf(struct model_config *out, struct arena *arena, const struct gguf *gguf, struct err *err)
    __attribute__((warn_unused_result));

// Adds an id to the stop tokens unless it is there, negative or beyond the vocabulary.
void config_add_stop_token(struct model_config *config, int64_t id);

// Qwen's rule for the window: only when use_sliding_window is set; the layers that layer_types lists, otherwise those
// from max_window_layers on.
void config_use_optional_window(struct model_config *config);

// Gemma's rule: the layers that layer_types lists, otherwise all but each window_period-th.
int config_use_window_period(struct model_config *config, struct err *err) __attribute__((warn_unused_result));

bool config_knows(const struct model_config *config, unsigned feature); // enum model_feature

// The window of a layer in tokens; 0: none.
int32_t config_window(const struct model_config *config, int32_t layer);

// Which of the model's rotations a layer has: 0, 1 for local_rope, -1 for none.
int32_t config_rope(const struct model_config *config, int32_t layer);

// Whether a layer has experts instead of one feed-forward.
bool config_has_experts(const struct model_config *config, int32_t layer);

// The checks that both readers share: dimensions, heads, rope.
int config_check(struct model_config *config, struct err *err) __attribute__((warn_unused_result));
