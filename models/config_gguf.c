// The keys of a GGUF file as a model_config. Keys of the architecture are "llama.block_count" and so on.
#include "models/config.h"

#include "models/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { INT_MAX_32 = 0x7fffffff, KEY_BYTES = 160, CONTEXT_DEFAULT = 2048 };

struct key_reader {
    const struct gguf *gguf;
    const char *prefix; // "llama"
    char key[KEY_BYTES];
};

static const char *key_of(struct key_reader *reader, const char *name) {
    snprintf(reader->key, sizeof reader->key, "%s.%s", reader->prefix, name);
    return reader->key;
}

// A number, or an array whose elements are all the same (one number a layer).
static int read_int(struct key_reader *reader, const char *name, int32_t *out, struct err *err) {
    const char *key = key_of(reader, name);
    const struct gguf_value *value = gguf_find(reader->gguf, key);
    int64_t number = *out;
    if (value && value->is_array) {
        struct gguf_array array;
        int rc = gguf_get_array(reader->gguf, key, &array, err);
        if (rc) return rc;
        double first = NAN, next = 0;
        if (!gguf_array_next_number(&array, &first) || !(first >= 0 && first <= INT_MAX_32) || first != floor(first))
            return err_set(err, ERR_INVALID, "%s is not an integer", key);
        while (gguf_array_next_number(&array, &next))
            if (next != first) return err_set(err, ERR_UNSUPPORTED, "%s differs between layers", key);
        number = (int64_t)first;
    } else {
        int rc = gguf_get_int(reader->gguf, key, 0, INT_MAX_32, &number, err);
        if (rc) return rc;
    }
    *out = (int32_t)number;
    return 0;
}

static int read_double(struct key_reader *reader, const char *name, double *out, struct err *err) {
    return gguf_get_double(reader->gguf, key_of(reader, name), out, err);
}

static int read_ints(struct model_config *out, struct key_reader *reader, struct err *err) {
    int32_t value_length = 0;
    struct {
        const char *name;
        int32_t *field;
        bool required;
    } rows[] = {
        {"block_count", &out->n_layers, true},
        {"embedding_length", &out->hidden, true},
        {"feed_forward_length", &out->mlp_width, true},
        {"attention.head_count", &out->n_heads, true},
        {"attention.head_count_kv", &out->n_kv_heads, false},
        {"attention.key_length", &out->head_dim, false},
        {"attention.value_length", &value_length, false},
        {"attention.sliding_window", &out->window, false},
        {"context_length", &out->context_max, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int rc = read_int(reader, rows[i].name, rows[i].field, err);
        if (rc) return rc;
        if (rows[i].required && !*rows[i].field) return err_set(err, ERR_INVALID, "%s is missing or 0", reader->key);
    }
    if (!out->n_kv_heads) out->n_kv_heads = out->n_heads;
    if (!out->head_dim) {
        if (out->hidden % out->n_heads)
            return err_set(err, ERR_INVALID, "width %d is not a multiple of %d heads", out->hidden, out->n_heads);
        out->head_dim = out->hidden / out->n_heads;
    }
    if (value_length && value_length != out->head_dim)
        return err_set(err, ERR_UNSUPPORTED, "values of %d and keys of %d dimensions", value_length, out->head_dim);
    return 0;
}

// Softmax over all experts; Qwen's and Mixtral's files do not say that the weights are normalised again.
static int read_experts(struct model_config *out, struct key_reader *reader, struct err *err) {
    int32_t shared = 0, gating = 1;
    out->is_renormalised = true;
    int rc = read_int(reader, "expert_used_count", &out->n_hit, err);
    if (!rc) rc = read_int(reader, "expert_feed_forward_length", &out->expert_width, err);
    if (!rc) rc = gguf_get_bool(reader->gguf, key_of(reader, "expert_weights_norm"), &out->is_renormalised, err);
    if (!rc) rc = read_int(reader, "expert_shared_count", &shared, err);
    if (!rc && shared) return err_set(err, ERR_UNSUPPORTED, "%s is not supported", reader->key);
    if (!rc) rc = read_int(reader, "expert_gating_func", &gating, err);
    if (!rc && gating != 1) return err_set(err, ERR_UNSUPPORTED, "%s is not softmax", reader->key);
    double scale = 1;
    if (!rc) rc = read_double(reader, "expert_weights_scale", &scale, err);
    if (!rc && scale != 0 && scale != 1) return err_set(err, ERR_UNSUPPORTED, "%s is not supported", reader->key);
    if (!out->expert_width) out->expert_width = out->mlp_width;
    return rc;
}

static int refuse_unknown(const struct model_config *config, struct key_reader *reader, struct err *err) {
    static const struct {
        const char *name;
        unsigned feature;
    } keys[] = {{"attn_logit_softcapping", FEATURE_SOFT_CAPS},
                {"final_logit_softcapping", FEATURE_SOFT_CAPS},
                {"logit_scale", 0},
                {"residual_scale", 0},
                {"embedding_scale", 0},
                {"rope.freq_base_swa", FEATURE_LOCAL_ROPE},
                {"attention.sliding_window_pattern", FEATURE_WINDOW_PATTERN},
                {"attention.temperature_scale", 0}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double value = 0;
        if (!config_knows(config, keys[i].feature) && gguf_find(reader->gguf, key_of(reader, keys[i].name)) &&
            (gguf_get_double(reader->gguf, reader->key, &value, NULL) != 0 || value != 0))
            return err_set(err, ERR_UNSUPPORTED, "%s is not supported", reader->key);
    }
    if (!config->family->experts && config->n_experts)
        return err_set(err, ERR_UNSUPPORTED, "%s is not supported", key_of(reader, "expert_count"));
    double scale = 0;
    int rc = read_double(reader, "attention.scale", &scale, err);
    if (rc) return rc;
    if (scale != 0 && fabs(scale * sqrt(config->head_dim) - 1) > 1e-5)
        return err_set(err, ERR_UNSUPPORTED, "%s is not supported", key_of(reader, "attention.scale"));
    return 0;
}

static int read_rope_kind(struct rope_config *rope, struct key_reader *reader, struct err *err) {
    struct str_view name = STR_VIEW("none");
    int rc = gguf_get_string(reader->gguf, key_of(reader, "rope.scaling.type"), &name, err);
    if (rc) return rc;
    if (str_view_equal(name, STR_VIEW("linear")))
        rope->kind = ROPE_LINEAR;
    else if (str_view_equal(name, STR_VIEW("yarn")))
        rope->kind = ROPE_YARN;
    else if (!str_view_equal(name, STR_VIEW("none")))
        return err_set(err, ERR_UNSUPPORTED, "%s is neither none nor linear nor yarn", reader->key);
    return 0;
}

// One divisor a pair of dimensions; NULL where the file has none.
static int read_rope_divisors(const float **out, const struct rope_config *rope, struct arena *arena,
                              const struct gguf *gguf, const char *name, struct err *err) {
    const struct stored_tensor *tensor = gguf_tensor(gguf, name);
    if (!tensor) return 0;
    if (tensor->format != STORED_F32 || tensor->n_dims != 1 || tensor->shape[0] != rope->n_dims / 2)
        return err_set(err, ERR_FORMAT, "%s does not have %d F32 values", name, rope->n_dims / 2);
    float *divisors = arena_alloc(arena, tensor->n_bytes);
    memcpy(divisors, tensor->data, tensor->n_bytes);
    for (int i = 0; i < rope->n_dims / 2; i++)
        if (!(divisors[i] > 0 && divisors[i] < 1e9f)) return err_set(err, ERR_FORMAT, "%s makes no sense", name);
    *out = divisors;
    return 0;
}

// Factors for short contexts and for long ones are all that says that there are two.
static int read_long_rope(struct model_config *out, struct arena *arena, struct key_reader *reader, struct err *err) {
    struct rope_config *rope = &out->rope;
    static const char *const names[] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    if (!gguf_tensor(reader->gguf, names[0]) && !gguf_tensor(reader->gguf, names[1])) return 0;
    if (!config_knows(out, FEATURE_LONG_ROPE)) return err_set(err, ERR_UNSUPPORTED, "%s is not supported", names[1]);
    rope->kind = ROPE_LONG;
    if (rope->original_context > 0) rope->factor = out->context_max / rope->original_context;
    int rc = read_double(reader, "rope.scaling.attn_factor", &rope->attention_factor, err);
    if (!rc) rc = read_rope_divisors(&rope->divisors, rope, arena, reader->gguf, names[0], err);
    if (!rc) rc = read_rope_divisors(&rope->long_divisors, rope, arena, reader->gguf, names[1], err);
    return rc;
}

static int read_rope(struct model_config *out, struct arena *arena, struct key_reader *reader, struct err *err) {
    struct rope_config *rope = &out->rope;
    rope->n_dims = out->local_rope.n_dims = out->head_dim;
    rope->interleaved = out->family->gguf_interleaved;
    rope->original_context = out->context_max;
    double linear = 0, factor = 0, attention = 1;
    int rc = read_int(reader, "rope.dimension_count", &rope->n_dims, err);
    if (!rc) rc = read_rope_kind(rope, reader, err);
    if (!rc) rc = read_double(reader, "rope.freq_base", &rope->theta, err);
    if (!rc) rc = read_double(reader, "rope.freq_base_swa", &out->local_rope.theta, err);
    if (!rc) rc = read_double(reader, "rope.scale_linear", &linear, err); // written before there were kinds
    if (!rc) rc = read_double(reader, "rope.scaling.factor", &factor, err);
    if (!rc) rc = read_double(reader, "rope.scaling.attn_factor", &attention, err);
    if (!rc) rc = read_double(reader, "rope.scaling.original_context_length", &rope->original_context, err);
    if (!rc) rc = read_double(reader, "rope.scaling.yarn_beta_fast", &rope->beta_fast, err);
    if (!rc) rc = read_double(reader, "rope.scaling.yarn_beta_slow", &rope->beta_slow, err);
    if (rc) return rc;
    if (linear > 0 && linear != 1 && rope->kind == ROPE_PLAIN) rope->kind = ROPE_LINEAR;
    if (factor == 0) factor = linear;
    if (rope->kind != ROPE_PLAIN && factor > 0) rope->factor = factor;
    if (rope->kind == ROPE_YARN && attention != 1 && rope->factor > 1)
        rope->attention_factor = attention * (0.1 * log(rope->factor) + 1);
    rc = read_long_rope(out, arena, reader, err);
    if (!rc) rc = config_check(out, err);
    return rc || rope->kind == ROPE_LONG
               ? rc
               : read_rope_divisors(&rope->divisors, rope, arena, reader->gguf, "rope_freqs.weight", err);
}

// Which layers have the window: a period, or one boolean a layer.
static int read_window_pattern(struct model_config *out, struct arena *arena, struct key_reader *reader,
                               struct err *err) {
    const char *key = key_of(reader, "attention.sliding_window_pattern");
    const struct gguf_value *value = gguf_find(reader->gguf, key);
    if (!value || !config_knows(out, FEATURE_WINDOW_PATTERN)) return 0;
    if (!value->is_array) return read_int(reader, "attention.sliding_window_pattern", &out->window_period, err);
    struct gguf_array array;
    int rc = gguf_get_array(reader->gguf, key, &array, err);
    if (rc) return rc;
    bool *is_sliding = arena_alloc_zero(arena, (size_t)out->n_layers, sizeof *is_sliding);
    for (int32_t i = 0; i < out->n_layers; i++) {
        double flag = 0;
        if (!gguf_array_next_number(&array, &flag))
            return err_set(err, ERR_INVALID, "%s does not have %d entries", key, out->n_layers);
        is_sliding[i] = flag != 0;
    }
    out->layer_is_sliding = is_sliding;
    return 0;
}

static int read_soft_caps(struct model_config *out, struct key_reader *reader, struct err *err) {
    if (!config_knows(out, FEATURE_SOFT_CAPS)) return 0;
    int rc = read_double(reader, "attn_logit_softcapping", &out->attention_soft_cap, err);
    return rc ? rc : read_double(reader, "final_logit_softcapping", &out->final_soft_cap, err);
}

// Which tensors are there says what no key does.
static int read_tensor_facts(struct model_config *out, const struct gguf *gguf, struct err *err) {
    const struct stored_tensor *embed = gguf_tensor(gguf, "token_embd.weight");
    if (!embed || embed->n_dims != 2 || embed->shape[0] > INT_MAX_32)
        return err_set(err, ERR_FORMAT, "no token_embd.weight with two dimensions (a file of a vocabulary alone?)");
    out->vocab = (int32_t)embed->shape[0];
    out->tied = !gguf_tensor(gguf, "output.weight");
    if (gguf_tensor(gguf, "blk.0.attn_q.bias")) out->traits |= TRAIT_QKV_BIAS;
    if (gguf_tensor(gguf, "blk.0.attn_output.bias")) out->traits |= TRAIT_O_BIAS;
    if (gguf_tensor(gguf, "blk.0.ffn_gate.bias")) out->traits |= TRAIT_MLP_BIAS;
    return 0;
}

static int refuse_split(const struct gguf *gguf, struct err *err) {
    int64_t n_parts = 0;
    int rc = gguf_get_int(gguf, "split.count", 0, INT_MAX_32, &n_parts, err);
    if (rc) return rc;
    return n_parts > 1
               ? err_set(err, ERR_UNSUPPORTED, "one of %lld parts; merge them into one file", (long long)n_parts)
               : 0;
}

int config_read_gguf(struct model_config *out, struct arena *arena, const struct gguf *gguf, struct err *err) {
    *out = (struct model_config){.norm_eps = 1e-5,
                                 .context_max = CONTEXT_DEFAULT,
                                 .from_gguf = true,
                                 .rope = ROPE_CONFIG_INIT,
                                 .local_rope = ROPE_CONFIG_INIT};
    struct str_view architecture = {0};
    int rc = gguf_get_string(gguf, "general.architecture", &architecture, err);
    if (!rc) rc = refuse_split(gguf, err);
    if (rc) return rc;
    out->family = family_find_gguf(architecture, false);
    if (!out->family)
        return err_set(err, ERR_UNSUPPORTED, "architecture \"%.*s\" is not supported",
                       (int)(architecture.n_bytes < 40 ? architecture.n_bytes : 40),
                       architecture.data ? architecture.data : "");
    struct key_reader reader = {.gguf = gguf, .prefix = out->family->gguf_architecture};
    rc = read_int(&reader, "expert_count", &out->n_experts, err);
    if (rc) return rc;
    out->family = family_find_gguf(architecture, out->n_experts > 0);
    if (out->family->set_defaults) out->family->set_defaults(out);
    rc = read_tensor_facts(out, gguf, err);
    if (!rc) rc = read_ints(out, &reader, err);
    if (!rc) rc = refuse_unknown(out, &reader, err);
    if (!rc && out->n_experts) rc = read_experts(out, &reader, err);
    if (!rc) rc = read_double(&reader, "attention.layer_norm_rms_epsilon", &out->norm_eps, err);
    if (!rc) rc = read_soft_caps(out, &reader, err);
    if (!rc) rc = read_rope(out, arena, &reader, err);
    if (!rc) rc = read_window_pattern(out, arena, &reader, err);
    if (!rc) rc = out->family->configure(out, err);
    if (rc) return rc;
    static const char *const stops[] = {"eos", "eot", "eom"};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        int64_t id = -1;
        snprintf(reader.key, sizeof reader.key, "tokenizer.ggml.%s_token_id", stops[i]);
        // Converters write -1, or its 32 bits as an unsigned number, for "none".
        if (gguf_get_int(gguf, reader.key, INT32_MIN, UINT32_MAX, &id, NULL) == 0 && id < UINT32_MAX)
            config_add_stop_token(out, id);
    }
    return 0;
}
