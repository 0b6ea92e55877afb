// config.json and generation_config.json.
#include "models/config.h"

#include "base/json.h"
#include "models/family.h"

#include <math.h>
#include <string.h>

enum { INT_MAX_32 = 0x7fffffff, CONTEXT_DEFAULT = 2048 };

// A file of a few hundred bytes; layer_types and the like take some hundred elements.
#define CONFIG_LIMITS ((struct json_limits){.depth = 32, .elements = 200000, .allow_duplicates = true})

// Keys that change the mathematics and that no family here knows, or only those with the feature. A value that is
// absent, null, false, empty or neutral says nothing.
static const struct {
    const char *key;
    double neutral;
    unsigned feature;
} refused[] = {
    {"n_routed_experts", 0, 0},
    {"shared_expert_intermediate_size", 0, 0},
    {"num_shared_experts", 0, 0},
    {"attn_logit_softcapping", 0, FEATURE_SOFT_CAPS},
    {"final_logit_softcapping", 0, FEATURE_SOFT_CAPS},
    {"logits_scaling", 1, 0},
    {"logit_scale", 1, 0},
    {"embedding_multiplier", 1, 0},
    {"residual_multiplier", 1, 0},
    {"partial_rotary_factor", 1, FEATURE_PARTIAL_ROPE},
    {"clip_qkv", 0, 0},
    {"no_rope_layers", 0, FEATURE_UNROTATED},
    {"rope_local_base_freq", 0, FEATURE_LOCAL_ROPE},
    {"short_mscale", 1, 0},
    {"long_mscale", 1, 0},
    {"use_bidirectional_attention", 0, 0},
    {"swiglu_limit", 7, 0},
    {"swiglu_alpha", 1.702, 0},
    {"use_mrope", 0, 0},
    {"use_qk_norm", 0, 0},
    {"qk_layernorm", 0, 0},
};

static bool says_nothing(const cJSON *item, double neutral) {
    if (!item || cJSON_IsNull(item) || cJSON_IsFalse(item)) return true;
    if (cJSON_IsNumber(item)) return item->valuedouble == neutral;
    return (cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child;
}

static int refuse_unknown(const struct model_config *config, const cJSON *object, struct err *err) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!config_knows(config, refused[i].feature) &&
            !says_nothing(cJSON_GetObjectItemCaseSensitive(object, refused[i].key), refused[i].neutral))
            return err_set(err, ERR_UNSUPPORTED, "%s is not supported in this family", refused[i].key);
    return 0;
}

static const char *const expert_keys[] = {"num_experts", "num_local_experts"};

static int refuse_experts(const cJSON *object, struct err *err) {
    for (size_t i = 0; i < 2; i++)
        if (!says_nothing(cJSON_GetObjectItemCaseSensitive(object, expert_keys[i]), 0))
            return err_set(err, ERR_UNSUPPORTED, "%s is not supported in this family", expert_keys[i]);
    return 0;
}

// "quantization" is MLX's, which stores weights in its own way.
static int read_quantization(struct model_config *out, const cJSON *root, const cJSON *text, struct err *err) {
    if (!says_nothing(cJSON_GetObjectItemCaseSensitive(root, "quantization"), 0))
        return err_set(err, ERR_UNSUPPORTED, "checkpoints quantised by MLX (\"quantization\") are not supported");
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(root, "quantization_config");
    if (says_nothing(config, 0)) config = cJSON_GetObjectItemCaseSensitive(text, "quantization_config");
    if (says_nothing(config, 0)) return 0;
    const cJSON *method = cJSON_GetObjectItemCaseSensitive(config, "quant_method");
    if (config_knows(out, FEATURE_MXFP4) && cJSON_IsString(method) && strcmp(method->valuestring, "mxfp4") == 0)
        return 0; // the family's own
    int rc = quantization_read(&out->quantization, config, err);
    return rc ? err_prefix(err, "quantization_config") : 0;
}

static int read_family(struct model_config *out, const cJSON *root, const cJSON *text, struct err *err) {
    const cJSON *names = cJSON_GetObjectItemCaseSensitive(root, "architectures");
    const cJSON *name = cJSON_IsArray(names) ? cJSON_GetArrayItem(names, 0) : NULL;
    const char *architecture = cJSON_IsString(name) ? name->valuestring : NULL, *model_type = NULL;
    int rc = json_get_string(text, "model_type", &model_type, err);
    if (rc) return rc;
    // A wrapper around a language model (images, sound) names the model inside by its type.
    out->family = family_find(architecture, model_type);
    if (!out->family && text != root) out->family = family_find(NULL, model_type);
    if (out->family) return 0;
    struct str known = STR_INIT;
    family_list(&known);
    rc = err_set(err, ERR_UNSUPPORTED, "architecture \"%.80s\" is not supported (supported: %s)",
                 architecture ? architecture
                 : model_type ? model_type
                              : "",
                 str_text(&known));
    str_close(&known);
    return rc;
}

struct int_key {
    const char *key;
    size_t offset; // of an int32_t in struct model_config
    bool required;
};

static const struct int_key int_keys[] = {
    {"vocab_size", offsetof(struct model_config, vocab), true},
    {"hidden_size", offsetof(struct model_config, hidden), true},
    {"intermediate_size", offsetof(struct model_config, mlp_width), true},
    {"num_hidden_layers", offsetof(struct model_config, n_layers), true},
    {"num_attention_heads", offsetof(struct model_config, n_heads), true},
    {"num_key_value_heads", offsetof(struct model_config, n_kv_heads), false},
    {"head_dim", offsetof(struct model_config, head_dim), false},
    {"max_position_embeddings", offsetof(struct model_config, context_max), false},
    {"sliding_window", offsetof(struct model_config, window), false},
    {"max_window_layers", offsetof(struct model_config, window_first_layer), false},
    {"sliding_window_pattern", offsetof(struct model_config, window_period), false},
    {"no_rope_layer_interval", offsetof(struct model_config, unrotated_period), false},
};

static int read_ints(struct model_config *out, const cJSON *text, struct err *err) {
    for (size_t i = 0; i < sizeof int_keys / sizeof *int_keys; i++) {
        int64_t value = -1;
        int rc = json_get_int(text, int_keys[i].key, 0, INT_MAX_32, &value, err);
        if (rc) return rc;
        int32_t *field = (int32_t *)((char *)out + int_keys[i].offset);
        if (value < 0 && int_keys[i].required && !*field)
            return err_set(err, ERR_INVALID, "%s is missing", int_keys[i].key);
        if (value >= 0) *field = (int32_t)value;
    }
    if (!out->n_kv_heads) out->n_kv_heads = out->n_heads;
    if (!out->head_dim && out->n_heads) {
        if (out->hidden % out->n_heads)
            return err_set(err, ERR_INVALID, "hidden_size %d is not a multiple of %d heads", out->hidden, out->n_heads);
        out->head_dim = out->hidden / out->n_heads;
    }
    return 0;
}

// A layer has experts unless mlp_only_layers lists it or decoder_sparse_step passes it over.
static int read_dense_layers(struct model_config *out, struct arena *arena, const cJSON *text, struct err *err) {
    int64_t step = 1;
    int rc = json_get_int(text, "decoder_sparse_step", 1, INT_MAX_32, &step, err);
    if (rc) return rc;
    bool *is_dense = arena_alloc_zero(arena, (size_t)out->n_layers, sizeof *is_dense);
    for (int32_t i = 0; i < out->n_layers; i++) is_dense[i] = (i + 1) % step != 0;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(text, "mlp_only_layers"), *item;
    cJSON_ArrayForEach(item, list) {
        double index = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(index >= 0 && index < out->n_layers) || index != floor(index))
            return err_set(err, ERR_INVALID, "mlp_only_layers names something that is none of the %d layers",
                           out->n_layers);
        is_dense[(int)index] = true;
    }
    out->layer_is_dense = is_dense;
    return 0;
}

// The width is intermediate_size where no other is written.
static int read_experts(struct model_config *out, const cJSON *text, struct err *err) {
    if (!out->family->experts) return refuse_experts(text, err);
    int64_t n_experts = 0, n_hit = 0, width = out->mlp_width;
    int rc = 0;
    for (size_t i = 0; !rc && i < 2; i++) rc = json_get_int(text, expert_keys[i], 0, INT_MAX_32, &n_experts, err);
    if (!rc) rc = json_get_int(text, "num_experts_per_tok", 0, INT_MAX_32, &n_hit, err);
    if (!rc) rc = json_get_int(text, "moe_intermediate_size", 0, INT_MAX_32, &width, err);
    if (!rc) rc = json_get_bool(text, "norm_topk_prob", &out->is_renormalised, err);
    if (rc || n_experts == 0) return rc;
    out->n_experts = (int32_t)n_experts;
    out->n_hit = (int32_t)n_hit;
    out->expert_width = (int32_t)width;
    return 0;
}

static int read_activation(struct model_config *out, const cJSON *text, struct err *err) {
    const char *name = NULL;
    int rc = json_get_string(text, "hidden_act", &name, err);
    if (!rc) rc = json_get_string(text, "hidden_activation", &name, err); // Gemma's, and more truthful than the other
    if (rc || !name) return rc;
    if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0)
        out->activation = ACTIVATION_SILU;
    else if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_new") == 0)
        out->activation = ACTIVATION_GELU_TANH;
    else
        return err_set(err, ERR_UNSUPPORTED, "hidden_act \"%.40s\" is not supported", name);
    return 0;
}

static int read_attention_scale(struct model_config *out, const cJSON *text, struct err *err) {
    int rc = 0;
    // A key that says null means that there is no cap.
    if (config_knows(out, FEATURE_SOFT_CAPS)) {
        if (cJSON_HasObjectItem(text, "attn_logit_softcapping")) out->attention_soft_cap = 0;
        if (cJSON_HasObjectItem(text, "final_logit_softcapping")) out->final_soft_cap = 0;
        rc = json_get_double(text, "attn_logit_softcapping", &out->attention_soft_cap, err);
        if (!rc) rc = json_get_double(text, "final_logit_softcapping", &out->final_soft_cap, err);
    }
    return rc ? rc : json_get_double(text, "query_pre_attn_scalar", &out->attention_divisor, err);
}

static void read_weight_format(struct model_config *out, const cJSON *root) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "dtype");
    if (!cJSON_IsString(item)) item = cJSON_GetObjectItemCaseSensitive(root, "torch_dtype");
    out->weight_format = TENSOR_BF16;
    if (!cJSON_IsString(item)) return;
    if (strcmp(item->valuestring, "float32") == 0) out->weight_format = TENSOR_F32;
    if (strcmp(item->valuestring, "float16") == 0) out->weight_format = TENSOR_F16;
}

static int read_layer_types(struct model_config *out, struct arena *arena, const cJSON *text, struct err *err) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(text, "layer_types"), *item;
    if (!list || cJSON_IsNull(list)) return 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != out->n_layers)
        return err_set(err, ERR_INVALID, "layer_types does not have one entry for each of the %d layers",
                       out->n_layers);
    bool *is_sliding = arena_alloc_zero(arena, (size_t)out->n_layers, sizeof *is_sliding);
    int i = 0;
    cJSON_ArrayForEach(item, list) {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        is_sliding[i] = strcmp(type, "sliding_attention") == 0;
        if (!is_sliding[i] && strcmp(type, "full_attention") != 0)
            return err_set(err, ERR_UNSUPPORTED, "layer type \"%.40s\" is not supported", type);
        i++;
    }
    out->layer_is_sliding = is_sliding;
    return 0;
}

// 1 where a layer is rotated, 0 where it is not.
static int read_unrotated_layers(struct model_config *out, struct arena *arena, const cJSON *text, struct err *err) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(text, "no_rope_layers"), *item;
    if (!config_knows(out, FEATURE_UNROTATED) || says_nothing(list, 0)) return 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) < out->n_layers)
        return err_set(err, ERR_INVALID, "no_rope_layers does not have one entry for each of the %d layers",
                       out->n_layers);
    bool *is_unrotated = arena_alloc_zero(arena, (size_t)out->n_layers, sizeof *is_unrotated);
    int i = 0;
    cJSON_ArrayForEach(item, list) {
        bool has_rope = cJSON_IsTrue(item) || (cJSON_IsNumber(item) && item->valuedouble == 1);
        if (!has_rope && !cJSON_IsFalse(item) && !(cJSON_IsNumber(item) && item->valuedouble == 0))
            return err_set(err, ERR_INVALID, "no_rope_layers holds something other than 0 and 1");
        if (i < out->n_layers) is_unrotated[i++] = !has_rope;
    }
    out->layer_is_unrotated = is_unrotated;
    return 0;
}

// "su" and "yarn" are what the first Phi-3 files called their factors.
static enum rope_kind long_rope_kind(const struct model_config *config, const char *name) {
    bool is_long = strcmp(name, "longrope") == 0 || strcmp(name, "su") == 0 || strcmp(name, "yarn") == 0;
    return is_long && config_knows(config, FEATURE_LONG_ROPE) ? ROPE_LONG : ROPE_PLAIN;
}

static int read_rope_kind(const struct model_config *config, struct rope_config *rope, const cJSON *object,
                          struct err *err) {
    const char *name = "default";
    int rc = json_get_string(object, "type", &name, err); // the older key
    if (!rc) rc = json_get_string(object, "rope_type", &name, err);
    if (rc) return rc;
    rope->kind = long_rope_kind(config, name);
    if (rope->kind == ROPE_LONG) return 0;
    static const struct {
        const char *name;
        enum rope_kind kind;
    } kinds[] = {{"default", ROPE_PLAIN}, {"linear", ROPE_LINEAR}, {"llama3", ROPE_LLAMA3}, {"yarn", ROPE_YARN}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(name, kinds[i].name) != 0) continue;
        rope->kind = kinds[i].kind;
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "rope_type \"%.40s\" is not supported (default, linear, llama3 and yarn are)",
                   name);
}

static int read_rope_scaling(struct rope_config *rope, const cJSON *object, struct err *err) {
    struct {
        const char *key;
        double *value;
    } keys[] = {
        {"rope_theta", &rope->theta},
        {"factor", &rope->factor},
        {"original_max_position_embeddings", &rope->original_context},
        {"low_freq_factor", &rope->low_freq_factor},
        {"high_freq_factor", &rope->high_freq_factor},
        {"beta_fast", &rope->beta_fast},
        {"beta_slow", &rope->beta_slow},
        {"attention_factor", &rope->attention_factor},
        {"mscale", &rope->mscale},
        {"mscale_all_dim", &rope->mscale_all_dim},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int rc = json_get_double(object, keys[i].key, keys[i].value, err);
        if (rc) return rc;
    }
    if (rope->kind != ROPE_PLAIN && rope->kind != ROPE_LONG &&
        !cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(object, "factor")))
        return err_set(err, ERR_INVALID, "the rope scaling has no factor");
    return json_get_bool(object, "truncate", &rope->truncate, err);
}

// One factor for each pair of dimensions.
static int read_factors(const float **out, int32_t n, struct arena *arena, const cJSON *object, const char *key,
                        struct err *err) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key), *item;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != n)
        return err_set(err, ERR_INVALID, "%s of the rope scaling does not have %d numbers", key, n);
    float *factors = arena_alloc(arena, (size_t)n * sizeof *factors);
    int i = 0;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1e-3 && item->valuedouble <= 1e6))
            return err_set(err, ERR_INVALID, "%s of the rope scaling makes no sense", key);
        factors[i++] = (float)item->valuedouble;
    }
    *out = factors;
    return 0;
}

static int read_long_rope(struct model_config *out, struct rope_config *rope, struct arena *arena, const cJSON *text,
                          const cJSON *object, struct err *err) {
    int rc = json_get_double(text, "original_max_position_embeddings", &rope->original_context, err);
    if (!rc) rc = read_factors(&rope->divisors, rope->n_dims / 2, arena, object, "short_factor", err);
    if (!rc) rc = read_factors(&rope->long_divisors, rope->n_dims / 2, arena, object, "long_factor", err);
    if (!rc && rope->original_context > 0 && !cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(object, "factor")))
        rope->factor = out->context_max / rope->original_context;
    return rc;
}

// What rope_parameters (or one kind of layer in it) or rope_scaling says.
static int read_rope_object(struct model_config *out, struct rope_config *rope, struct arena *arena, const cJSON *text,
                            const cJSON *object, struct err *err) {
    double partial = 1;
    if (!says_nothing(cJSON_GetObjectItemCaseSensitive(object, "llama_4_scaling_beta"), 0))
        return err_set(err, ERR_UNSUPPORTED, "llama_4_scaling_beta is not supported");
    int rc = refuse_unknown(out, object, err);
    if (!rc) rc = read_rope_kind(out, rope, object, err);
    if (!rc) rc = read_rope_scaling(rope, object, err);
    if (!rc) rc = json_get_double(text, "partial_rotary_factor", &partial, err);
    if (!rc) rc = json_get_double(object, "partial_rotary_factor", &partial, err);
    if (rc) return rc;
    if (!(partial > 0 && partial <= 1)) return err_set(err, ERR_INVALID, "partial_rotary_factor makes no sense");
    rope->n_dims = (int32_t)(out->head_dim * partial);
    return rope->kind == ROPE_LONG ? read_long_rope(out, rope, arena, text, object, err) : 0;
}

// transformers 5 writes rope_parameters, 4 rope_theta and rope_scaling.
static int read_rope(struct model_config *out, struct arena *arena, const cJSON *text, struct err *err) {
    struct rope_config *rope = &out->rope, *local = &out->local_rope;
    const bool knows_local = config_knows(out, FEATURE_LOCAL_ROPE);
    rope->n_dims = local->n_dims = out->head_dim;
    rope->original_context = local->original_context = out->context_max;
    int rc = json_get_double(text, "rope_theta", &rope->theta, err);
    if (!rc && knows_local) rc = json_get_double(text, "rope_local_base_freq", &local->theta, err);
    if (rc) return rc;
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(text, "rope_parameters");
    if (!cJSON_IsObject(object)) object = cJSON_GetObjectItemCaseSensitive(text, "rope_scaling");
    if (!object || cJSON_IsNull(object)) return read_rope_object(out, rope, arena, text, NULL, err);
    if (!cJSON_IsObject(object)) return err_set(err, ERR_INVALID, "rope_scaling is not an object");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(object, "full_attention");
    if (!cJSON_IsObject(full)) return read_rope_object(out, rope, arena, text, object, err);
    if (!knows_local)
        return err_set(err, ERR_UNSUPPORTED, "rope_parameters that differ between layers are not supported");
    const cJSON *sliding = cJSON_GetObjectItemCaseSensitive(object, "sliding_attention");
    rc = read_rope_object(out, rope, arena, text, full, err);
    return rc || !cJSON_IsObject(sliding) ? rc : read_rope_object(out, local, arena, text, sliding, err);
}

static void read_stop_tokens(struct model_config *out, const cJSON *object) {
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(object, "eos_token_id"), *id;
    if (cJSON_IsNumber(ids) && isfinite(ids->valuedouble)) config_add_stop_token(out, ids->valueint);
    if (!cJSON_IsArray(ids)) return;
    cJSON_ArrayForEach(id, ids) {
        if (cJSON_IsNumber(id)) config_add_stop_token(out, id->valueint);
    }
}

static int read_root(struct model_config *out, struct arena *arena, const cJSON *root, struct err *err) {
    if (!cJSON_IsObject(root)) return err_set(err, ERR_FORMAT, "not a JSON object");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(root, "text_config");
    if (!cJSON_IsObject(text)) text = root;
    int rc = read_family(out, root, text, err);
    if (rc) return rc;
    if (out->family->set_defaults) out->family->set_defaults(out);
    rc = read_quantization(out, root, text, err);
    if (!rc) rc = refuse_unknown(out, text, err);
    if (!rc) rc = read_ints(out, text, err);
    if (!rc) rc = read_experts(out, text, err);
    if (!rc) rc = read_activation(out, text, err);
    if (!rc) rc = json_get_double(text, "rms_norm_eps", &out->norm_eps, err);
    if (!rc) rc = json_get_bool(root, "tie_word_embeddings", &out->tied, err);
    if (!rc) rc = json_get_bool(text, "tie_word_embeddings", &out->tied, err);
    if (!rc) rc = json_get_bool(text, "attention_bias", &out->attention_bias, err);
    if (!rc) rc = json_get_bool(text, "mlp_bias", &out->mlp_bias, err);
    if (!rc) rc = json_get_bool(text, "use_sliding_window", &out->use_sliding_window, err);
    if (!rc) rc = read_attention_scale(out, text, err);
    if (!rc) rc = read_rope(out, arena, text, err);
    if (!rc) rc = config_check(out, err);
    // Behind the check: the number of layers is within bounds.
    if (!rc) rc = read_layer_types(out, arena, text, err);
    if (!rc) rc = read_unrotated_layers(out, arena, text, err);
    if (!rc && out->n_experts) rc = read_dense_layers(out, arena, text, err);
    if (!rc) rc = out->family->configure(out, err);
    if (rc) return rc;
    read_weight_format(out, root);
    read_stop_tokens(out, text);
    if (text != root) read_stop_tokens(out, root);
    return 0;
}

int config_read_json(struct model_config *out, struct arena *arena, struct str_view text, struct err *err) {
    *out = (struct model_config){
        .norm_eps = 1e-6, .context_max = CONTEXT_DEFAULT, .rope = ROPE_CONFIG_INIT, .local_rope = ROPE_CONFIG_INIT};
    cJSON *root = NULL;
    struct json_limits limits = CONFIG_LIMITS;
    int rc = json_parse(&root, text.data, text.n_bytes, &limits, err);
    if (rc) return rc;
    rc = read_root(out, arena, root, err);
    cJSON_Delete(root);
    return rc;
}

// Takes a default only when it is a value that a request could have.
static void take_default(const cJSON *object, const char *key, double min, double max, bool *has, double *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max)) return;
    *has = true;
    *out = item->valuedouble;
}

int config_read_quantization(struct model_config *config, const cJSON *root, struct err *err) {
    return config->quantization.method || !root ? 0 : quantization_read(&config->quantization, root, err);
}

int config_read_generation(struct model_config *config, struct str_view text, struct err *err) {
    cJSON *root = NULL;
    struct json_limits limits = CONFIG_LIMITS;
    int rc = json_parse(&root, text.data, text.n_bytes, &limits, err);
    if (rc) return rc;
    read_stop_tokens(config, root);
    struct generation_defaults *d = &config->defaults;
    double temperature = 0, top_p = 0, top_k = 0, penalty = 0;
    take_default(root, "temperature", 0, 2, &d->has_temperature, &temperature);
    take_default(root, "top_p", 1e-6, 1, &d->has_top_p, &top_p);
    take_default(root, "top_k", 0, INT_MAX_32, &d->has_top_k, &top_k);
    take_default(root, "repetition_penalty", 0.01, 10, &d->has_repetition_penalty, &penalty);
    d->temperature = (float)temperature;
    d->top_p = (float)top_p;
    d->top_k = (int32_t)top_k;
    d->repetition_penalty = (float)penalty;
    cJSON_Delete(root);
    return 0;
}
