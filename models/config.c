#include "models/config.h"

#include "base/log.h"
#include "models/family.h"

#include <assert.h>
#include <math.h>

// Far beyond any model that exists; products of three of them fit into 63 bits.
enum {
    LAYERS_MAX = 1024,
    HEADS_MAX = 1024,
    HEAD_DIM_MAX = 1024,
    HIDDEN_MAX = 1 << 17,
    MLP_WIDTH_MAX = 1 << 20,
    VOCAB_MAX = 1 << 22,
    CONTEXT_MAX = 1 << 27,
};

void config_add_stop_token(struct model_config *config, int64_t id) {
    if (id < 0) return; // some converters write -1 for "none"
    if (id >= config->vocab) {
        log_warning("end-of-text token %lld is ignored: the vocabulary has %d", (long long)id, config->vocab);
        return;
    }
    for (int32_t i = 0; i < config->n_stop_tokens; i++)
        if (config->stop_tokens[i] == id) return;
    if (config->n_stop_tokens < MODEL_STOP_TOKENS_MAX)
        config->stop_tokens[config->n_stop_tokens++] = (int32_t)id;
    else
        log_warning("end-of-text token %lld is ignored: there are %d already", (long long)id, MODEL_STOP_TOKENS_MAX);
}

bool config_knows(const struct model_config *config, unsigned feature) {
    return config->family->features & feature;
}

static bool is_sliding(const struct model_config *config, int32_t layer) {
    switch (config->window_rule) {
    case WINDOW_NONE:
        return false;
    case WINDOW_ALL:
        return true;
    case WINDOW_FROM_LAYER:
        return layer >= config->window_first_layer;
    case WINDOW_LISTED:
        return config->layer_is_sliding[layer];
    case WINDOW_PERIODIC:
        return (layer + 1) % config->window_period != 0;
    }
    return false;
}

int32_t config_window(const struct model_config *config, int32_t layer) {
    return is_sliding(config, layer) ? config->window : 0;
}

int32_t config_rope(const struct model_config *config, int32_t layer) {
    bool is_unrotated = config->layer_is_unrotated
                            ? config->layer_is_unrotated[layer]
                            : config->unrotated_period && (layer + 1) % config->unrotated_period == 0;
    if (is_unrotated) return -1;
    return config_knows(config, FEATURE_LOCAL_ROPE) && is_sliding(config, layer);
}

void config_use_optional_window(struct model_config *config) {
    config->window_rule = !config->use_sliding_window ? WINDOW_NONE
                          : config->layer_is_sliding  ? WINDOW_LISTED
                                                      : WINDOW_FROM_LAYER;
}

int config_use_window_period(struct model_config *config, struct err *err) {
    config->window_rule = config->layer_is_sliding ? WINDOW_LISTED : WINDOW_PERIODIC;
    if (config->window_rule == WINDOW_PERIODIC && config->window_period < 1)
        return err_set(err, ERR_INVALID, "sliding_window_pattern is 0");
    return 0;
}

bool config_has_experts(const struct model_config *config, int32_t layer) {
    return config->n_experts > 0 && !(config->layer_is_dense && config->layer_is_dense[layer]);
}

static int check_range(const char *what, int64_t value, int64_t max, struct err *err) {
    if (value >= 1 && value <= max) return 0;
    return err_set(err, ERR_INVALID, "%s is %lld, not within 1 and %lld", what, (long long)value, (long long)max);
}

static bool is_within(double value, double min, double max) {
    return value >= min && value <= max;
}

static int check_rope(const struct rope_config *rope, int32_t head_dim, struct err *err) {
    if (rope->n_dims < 2 || rope->n_dims > head_dim || rope->n_dims % 2)
        return err_set(err, ERR_UNSUPPORTED, "rotary embedding of %d dimensions of heads of %d", rope->n_dims,
                       head_dim);
    if (!(rope->theta > 1) || !is_within(rope->theta, 1, 1e15) || !is_within(rope->factor, 1e-3, 1e6) ||
        !is_within(rope->attention_factor, 0, 1e6) || !is_within(rope->mscale, 0, 1e6) ||
        !is_within(rope->mscale_all_dim, 0, 1e6))
        return err_set(err, ERR_INVALID, "the numbers of the rotary embedding make no sense");
    if ((rope->kind == ROPE_LLAMA3 || rope->kind == ROPE_YARN) && !is_within(rope->original_context, 1, CONTEXT_MAX))
        return err_set(err, ERR_INVALID, "the rotary embedding's original context makes no sense");
    if (rope->kind == ROPE_LLAMA3 && (!is_within(rope->low_freq_factor, 1e-6, 1e6) ||
                                      !is_within(rope->high_freq_factor, rope->low_freq_factor, 1e6)))
        return err_set(err, ERR_INVALID, "low_freq_factor and high_freq_factor make no sense");
    if (rope->kind == ROPE_LONG && (!is_within(rope->original_context, 2, CONTEXT_MAX) || !rope->divisors))
        return err_set(err, ERR_INVALID, "longrope without an original context or without factors");
    if (rope->kind == ROPE_YARN && (!is_within(rope->beta_fast, 1e-6, 1e6) || !is_within(rope->beta_slow, 1e-6, 1e6)))
        return err_set(err, ERR_INVALID, "beta_fast and beta_slow make no sense");
    return 0;
}

int config_check(struct model_config *config, struct err *err) {
    struct {
        const char *what;
        int64_t value, max;
    } ranges[] = {
        {"the number of layers", config->n_layers, LAYERS_MAX},
        {"the hidden width", config->hidden, HIDDEN_MAX},
        {"the number of heads", config->n_heads, HEADS_MAX},
        {"the number of key-value heads", config->n_kv_heads, config->n_heads},
        {"the head width", config->head_dim, HEAD_DIM_MAX},
        {"the feed-forward width", config->mlp_width, MLP_WIDTH_MAX},
        {"the vocabulary", config->vocab, VOCAB_MAX},
        {"the context", config->context_max, CONTEXT_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        int rc = check_range(ranges[i].what, ranges[i].value, ranges[i].max, err);
        if (rc) return rc;
    }
    if (config->n_experts) {
        int rc = check_range("the number of experts", config->n_experts, EXPERTS_MAX, err);
        if (!rc) rc = check_range("the number of experts a token hits", config->n_hit, config->n_experts, err);
        if (!rc) rc = check_range("the feed-forward width of an expert", config->expert_width, MLP_WIDTH_MAX, err);
        if (rc) return rc;
    }
    if (config->n_heads % config->n_kv_heads)
        return err_set(err, ERR_INVALID, "%d heads do not share %d key-value heads evenly", config->n_heads,
                       config->n_kv_heads);
    if (!is_within(config->norm_eps, 0, 1)) return err_set(err, ERR_INVALID, "the norm's epsilon makes no sense");
    if (!is_within(config->attention_divisor, 0, 1e6) || !is_within(config->attention_soft_cap, 0, 1e6) ||
        !is_within(config->final_soft_cap, 0, 1e6))
        return err_set(err, ERR_INVALID, "the scale or the soft caps of attention make no sense");
    int rc = check_rope(&config->rope, config->head_dim, err);
    if (!rc && config_knows(config, FEATURE_LOCAL_ROPE)) rc = check_rope(&config->local_rope, config->head_dim, err);
    if (rc) return rc;
    // The ramp stretches the context by its factor, whether or not the file counts that in.
    double stretched = config->rope.kind == ROPE_YARN ? config->rope.original_context * config->rope.factor : 0;
    if (stretched > config->context_max && stretched <= CONTEXT_MAX) config->context_max = (int32_t)stretched;
    return 0;
}
