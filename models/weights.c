#include "models/weights.h"

#include "base/number.h"
#include "models/expert_weights.h"
#include "models/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 256 };

// How one way of writing checkpoints names the tensors outside of the layers, and what else may be in the files.
struct naming {
    const char *embed, *final_norm, *head, *layers; // layers: what stands before the number
    bool gguf;
    const char *const *ignored;
};

// Frequencies that are computed here, and a second head in files of tied models.
static const char *const ignored_hf[] = {"*.rotary_emb.inv_freq", "lm_head.weight", NULL};
// Around a language model: what sees and hears.
static const char *const ignored_wrapped[] = {"*.rotary_emb.inv_freq",
                                              "language_model.lm_head.weight",
                                              "lm_head.weight",
                                              "vision_tower.*",
                                              "multi_modal_projector.*",
                                              "model.vision_tower.*",
                                              "model.multi_modal_projector.*",
                                              NULL};
static const char *const ignored_gguf[] = {"rope_freqs.weight",
                                           "rope_factors_long.weight",
                                           "rope_factors_short.weight",
                                           "*.attn_rot_embd",
                                           "*.rope_freqs",
                                           NULL};

static const struct naming namings[] = {
    {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.", false, ignored_hf},
    {"language_model.model.embed_tokens.weight", "language_model.model.norm.weight", "language_model.lm_head.weight",
     "language_model.model.layers.", false, ignored_wrapped},
    {"model.language_model.embed_tokens.weight", "model.language_model.norm.weight", "lm_head.weight",
     "model.language_model.layers.", false, ignored_wrapped},
    {"token_embd.weight", "output_norm.weight", "output.weight", "blk.", true, ignored_gguf},
};

// Where no embedding table is found, the first naming stands in the error.
static const struct naming *find_naming(const struct checkpoint *checkpoint, bool gguf) {
    const struct naming *first = NULL;
    for (size_t i = 0; i < sizeof namings / sizeof *namings; i++) {
        if (namings[i].gguf != gguf) continue;
        if (checkpoint_has(checkpoint, namings[i].embed)) return &namings[i];
        if (!first) first = &namings[i];
    }
    return first;
}

static int32_t dim_of(const struct model_config *c, enum model_dim dim) {
    switch (dim) {
    case DIM_ONE:
        return 1;
    case DIM_HIDDEN:
        return c->hidden;
    case DIM_QUERY:
        return c->n_heads * c->head_dim;
    case DIM_KV:
        return c->n_kv_heads * c->head_dim;
    case DIM_HEAD:
        return c->head_dim;
    case DIM_HEADS:
        return c->n_heads;
    case DIM_MLP:
        return c->mlp_width;
    case DIM_EXPERTS:
        return c->n_experts;
    case DIM_VOCAB:
        return c->vocab;
    }
    return 0;
}

// A vector as kernels take it.
static int bind_vector(const float **out, struct arena *arena, const struct model_config *config, const char *name,
                       int32_t n, struct checkpoint *checkpoint, struct err *err) {
    int rc = checkpoint_vector(checkpoint, name, n, out, err);
    if (rc || !config->adds_one_to_norms || !strstr(name, "norm.weight")) return rc;
    float *sum = arena_alloc(arena, (size_t)n * sizeof *sum);
    for (int32_t i = 0; i < n; i++) sum[i] = 1 + (*out)[i];
    *out = sum;
    return 0;
}

// The matrices of rows[0..n-1], which are ranges of the rows of one tensor.
static int bind_ranges(struct layer_spec *layer, const struct layer_tensor *rows, size_t n,
                       const struct model_config *config, const char *name, struct checkpoint *checkpoint,
                       struct err *err) {
    struct tensor whole;
    int32_t n_rows = 0, first = 0;
    for (size_t i = 0; i < n; i++) n_rows += dim_of(config, rows[i].rows);
    int rc = checkpoint_matrix(checkpoint, name, n_rows, dim_of(config, rows->cols), &whole, err);
    for (size_t i = 0; !rc && i < n; i++) {
        int32_t count = dim_of(config, rows[i].rows);
        *(struct tensor *)((char *)layer + rows[i].offset) = n == 1 ? whole : tensor_take_rows(&whole, first, count);
        first += count;
    }
    return rc;
}

static int bind_layer(struct layer_spec *layer, int32_t index, struct arena *arena, const struct model_config *config,
                      const struct naming *naming, struct checkpoint *checkpoint, struct err *err) {
    const bool has_experts = config_has_experts(config, index);
    char prefix[NAME_BYTES / 2], name[NAME_BYTES];
    snprintf(prefix, sizeof prefix, "%s%d.", naming->layers, index);
    const struct layer_tensor *row = config->family->layer_tensors, *end = row + config->family->n_layer_tensors;
    for (size_t n; row < end; row += n) {
        for (n = 1; row + n < end && strcmp(row[n].hf, row->hf) == 0;) n++;
        if (row->trait && !(config->traits & row->trait)) continue;
        if (has_experts && (row->rows == DIM_MLP || row->cols == DIM_MLP)) continue;
        snprintf(name, sizeof name, "%s%s", prefix, naming->gguf ? row->gguf : row->hf);
        int rc = row->rows == DIM_ONE ? bind_vector((const float **)(void *)((char *)layer + row->offset), arena,
                                                    config, name, dim_of(config, row->cols), checkpoint, err)
                                      : bind_ranges(layer, row, n, config, name, checkpoint, err);
        if (rc) return rc;
    }
    layer->window = config_window(config, index);
    layer->rope = config_rope(config, index);
    return has_experts ? weights_bind_experts(layer, arena, config, prefix, checkpoint, err) : 0;
}

static int bind_head(struct model_spec *spec, const struct naming *naming, struct checkpoint *checkpoint,
                     struct err *err) {
    // Files without a head are tied, whatever their configuration says.
    spec->tied = spec->tied || !checkpoint_has(checkpoint, naming->head);
    if (spec->tied) {
        spec->head = spec->embed;
        return 0;
    }
    return checkpoint_matrix(checkpoint, naming->head, spec->vocab, spec->hidden, &spec->head, err);
}

// Rotations are made for both lengths of context where they differ.
static void make_ropes(struct model_spec *out, struct arena *arena, const struct model_config *config) {
    out->n_ropes = 1;
    out->ropes[0] = rope_make(&config->rope, arena);
    if (config_knows(config, FEATURE_LOCAL_ROPE)) out->ropes[out->n_ropes++] = rope_make(&config->local_rope, arena);
    if (config->rope.kind != ROPE_LONG) return;
    struct rope_config far = config->rope;
    far.divisors = far.long_divisors;
    out->long_rope = rope_make(&far, arena);
    out->long_rope_beyond = (int32_t)config->rope.original_context;
}

// The root of the width, rounded as the table is: models were trained with it in their own precision.
static float embed_scale(const struct model_spec *spec) {
    float scale = sqrtf((float)spec->hidden);
    return spec->embed.format == TENSOR_BF16  ? f32_from_bf16(bf16_from_f32(scale))
           : spec->embed.format == TENSOR_F16 ? f32_from_f16(f16_from_f32(scale))
                                              : scale;
}

int weights_bind(struct model_spec *out, struct arena *arena, const struct model_config *config,
                 struct checkpoint *checkpoint, struct err *err) {
    *out = (struct model_spec){
        .family = config->family->name,
        .n_layers = config->n_layers,
        .hidden = config->hidden,
        .n_heads = config->n_heads,
        .n_kv_heads = config->n_kv_heads,
        .head_dim = config->head_dim,
        .n_experts = config->n_experts,
        .n_hit = config->n_hit,
        .expert_width = config->expert_width,
        .is_renormalised = config->is_renormalised,
        .vocab = config->vocab,
        .context_max = config->context_max,
        .norm_eps = (float)config->norm_eps,
        .embed_scale = 1,
        .attention_scale =
            (float)(1 / sqrt(config->attention_divisor > 0 ? config->attention_divisor : config->head_dim)),
        .attention_soft_cap = (float)config->attention_soft_cap,
        .final_soft_cap = (float)config->final_soft_cap,
        .norms_all_heads = config->norms_all_heads,
        .activation = config->activation,
        .tied = config->tied,
        .layers = arena_alloc_zero(arena, (size_t)config->n_layers, sizeof *out->layers),
    };
    for (int32_t i = 0; i < out->n_layers; i++)
        if (!config_has_experts(config, i)) out->mlp_width = config->mlp_width;
    make_ropes(out, arena, config);
    const struct naming *naming = find_naming(checkpoint, config->from_gguf);
    int rc = checkpoint_matrix(checkpoint, naming->embed, out->vocab, out->hidden, &out->embed, err);
    if (!rc) rc = bind_head(out, naming, checkpoint, err);
    if (!rc && config->scales_embed) out->embed_scale = embed_scale(out);
    if (!rc) rc = bind_vector(&out->final_norm, arena, config, naming->final_norm, out->hidden, checkpoint, err);
    for (int32_t i = 0; !rc && i < out->n_layers; i++)
        rc = bind_layer(&out->layers[i], i, arena, config, naming, checkpoint, err);
    if (!rc) rc = checkpoint_refuse_unused(checkpoint, naming->ignored, err);
    out->n_parameters = checkpoint_parameters(checkpoint);
    out->weight_bytes = checkpoint_bytes(checkpoint);
    return rc;
}
