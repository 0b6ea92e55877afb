// config.json and generation_config.json.
#include "models/config.h"

#include "base/json.h"
#include "models/family.h"

#include <math.h>
#include <string.h>

enum { INT_MAX_32 = 0x7fffffff, CONTEXT_DEFAULT = 2048 };

// A file of a few hundred bytes; layer_types and the like take some hundred elements.
#define CONFIG_LIMITS ((struct json_limits){.depth = 32, .elements = 200000, .allow_duplicates = true})

// Keys that change the mathematics and that no family here knows. A value that is absent, null, false, empty or neutral
// says nothing.
static const struct {
    const char *key;
    double neutral;
} refused[] = {
    {"n_routed_experts", 0},
    {"shared_expert_intermediate_size", 0},
    {"num_shared_experts", 0},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"logits_scaling", 1},
    {"logit_scale", 1},
    {"embedding_multiplier", 1},
    {"residual_multiplier", 1},
    {"partial_rotary_factor", 1},
    {"clip_qkv", 0},
    {"no_rope_layers", 0},
    {"rope_local_base_freq", 0},
    {"use_mrope", 0},
    {"use_qk_norm", 0},
    {"qk_layernorm", 0},
};

static bool says_nothing(const cJSON *item, double neutral) {
    if (!item || cJSON_IsNull(item) || cJSON_IsFalse(item)) return true;
    if (cJSON_IsNumber(item)) return item->valuedouble == neutral;
    return (cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child;
}

static int refuse_unknown(const cJSON *object, struct err *err) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!says_nothing(cJSON_GetObjectItemCaseSensitive(object, refused[i].key), refused[i].neutral))
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

static int refuse_quantised(const cJSON *object, struct err *err) {
    static const char *const keys[] = {"quantization_config", "quantization"};
    for (size_t i = 0; i < 2; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, keys[i]);
        if (says_nothing(item, 0)) continue;
        const cJSON *method = cJSON_GetObjectItemCaseSensitive(item, "quant_method");
        return err_set(err, ERR_UNSUPPORTED, "quantised checkpoints are not supported (%s%s%.40s)", keys[i],
                       cJSON_IsString(method) ? ": " : "", cJSON_IsString(method) ? method->valuestring : "");
    }
    return 0;
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
};

static int read_ints(struct model_config *out, const cJSON *text, struct err *err) {
    for (size_t i = 0; i < sizeof int_keys / sizeof *int_keys; i++) {
        int64_t value = -1;
        int rc = json_get_int(text, int_keys[i].key, 0, INT_MAX_32, &value, err);
        if (rc) return rc;
        if (value < 0 && int_keys[i].required) return err_set(err, ERR_INVALID, "%s is missing", int_keys[i].key);
        if (value >= 0) *(int32_t *)((char *)out + int_keys[i].offset) = (int32_t)value;
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
    const char *name = "silu";
    int rc = json_get_string(text, "hidden_act", &name, err);
    if (rc) return rc;
    if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0)
        out->activation = ACTIVATION_SILU;
    else if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_new") == 0)
        out->activation = ACTIVATION_GELU_TANH;
    else
        return err_set(err, ERR_UNSUPPORTED, "hidden_act \"%.40s\" is not supported", name);
    return 0;
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

static int read_rope_kind(struct rope_config *rope, const cJSON *object, struct err *err) {
    const char *name = "default";
    int rc = json_get_string(object, "type", &name, err); // the older key
    if (!rc) rc = json_get_string(object, "rope_type", &name, err);
    if (rc) return rc;
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
    if (rope->kind != ROPE_PLAIN && !cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(object, "factor")))
        return err_set(err, ERR_INVALID, "the rope scaling has no factor");
    return json_get_bool(object, "truncate", &rope->truncate, err);
}

// transformers 5 writes rope_parameters, 4 rope_theta and rope_scaling.
static int read_rope(struct model_config *out, const cJSON *text, struct err *err) {
    struct rope_config *rope = &out->rope;
    *rope = ROPE_CONFIG_INIT;
    rope->n_dims = out->head_dim;
    rope->original_context = out->context_max;
    int rc = json_get_double(text, "rope_theta", &rope->theta, err);
    if (rc) return rc;
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(text, "rope_parameters");
    if (!cJSON_IsObject(object)) object = cJSON_GetObjectItemCaseSensitive(text, "rope_scaling");
    if (!object || cJSON_IsNull(object)) return 0;
    if (!cJSON_IsObject(object)) return err_set(err, ERR_INVALID, "rope_scaling is not an object");
    if (cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(object, "full_attention")))
        return err_set(err, ERR_UNSUPPORTED, "rope_parameters that differ between layers are not supported");
    if (!says_nothing(cJSON_GetObjectItemCaseSensitive(object, "llama_4_scaling_beta"), 0))
        return err_set(err, ERR_UNSUPPORTED, "llama_4_scaling_beta is not supported");
    rc = refuse_unknown(object, err);
    if (!rc) rc = read_rope_kind(rope, object, err);
    if (!rc) rc = read_rope_scaling(rope, object, err);
    return rc;
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
    if (!rc) rc = refuse_quantised(root, err);
    if (!rc) rc = refuse_unknown(text, err);
    if (!rc) rc = read_ints(out, text, err);
    if (!rc) rc = read_experts(out, text, err);
    if (!rc) rc = read_activation(out, text, err);
    if (!rc) rc = json_get_double(text, "rms_norm_eps", &out->norm_eps, err);
    if (!rc) rc = json_get_bool(root, "tie_word_embeddings", &out->tied, err);
    if (!rc) rc = json_get_bool(text, "tie_word_embeddings", &out->tied, err);
    if (!rc) rc = json_get_bool(text, "attention_bias", &out->attention_bias, err);
    if (!rc) rc = json_get_bool(text, "mlp_bias", &out->mlp_bias, err);
    if (!rc) rc = json_get_bool(text, "use_sliding_window", &out->use_sliding_window, err);
    if (!rc) rc = read_rope(out, text, err);
    if (!rc) rc = config_check(out, err);
    // Behind the check: the number of layers is within bounds.
    if (!rc) rc = read_layer_types(out, arena, text, err);
    if (!rc && out->n_experts) rc = read_dense_layers(out, arena, text, err);
    if (!rc) rc = out->family->configure(out, err);
    if (rc) return rc;
    read_weight_format(out, root);
    read_stop_tokens(out, text);
    if (text != root) read_stop_tokens(out, root);
    return 0;
}

int config_read_json(struct model_config *out, struct arena *arena, struct str_view text, struct err *err) {
    *out = (struct model_config){.norm_eps = 1e-6, .context_max = CONTEXT_DEFAULT};
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
