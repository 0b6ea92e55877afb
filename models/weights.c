#include "models/weights.h"

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
static const char *const ignored_gguf[] = {"rope_freqs.weight", "*.attn_rot_embd", "*.rope_freqs", NULL};

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
    case DIM_MLP:
        return c->mlp_width;
    case DIM_VOCAB:
        return c->vocab;
    }
    return 0;
}

static int bind_layer(struct layer_spec *layer, int32_t index, const struct model_config *config,
                      const struct naming *naming, struct checkpoint *checkpoint, struct err *err) {
    for (size_t i = 0; i < config->family->n_layer_tensors; i++) {
        const struct layer_tensor *row = &config->family->layer_tensors[i];
        if (row->trait && !(config->traits & row->trait)) continue;
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s%d.%s", naming->layers, index, naming->gguf ? row->gguf : row->hf);
        void *field = (char *)layer + row->offset;
        int32_t n_rows = dim_of(config, row->rows), n_cols = dim_of(config, row->cols);
        int rc = row->rows == DIM_ONE ? checkpoint_vector(checkpoint, name, n_cols, field, err)
                                      : checkpoint_matrix(checkpoint, name, n_rows, n_cols, field, err);
        if (rc) return rc;
    }
    layer->window = config_window(config, index);
    return 0;
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

int weights_bind(struct model_spec *out, struct arena *arena, const struct model_config *config,
                 struct checkpoint *checkpoint, struct err *err) {
    *out = (struct model_spec){
        .family = config->family->name,
        .n_layers = config->n_layers,
        .hidden = config->hidden,
        .n_heads = config->n_heads,
        .n_kv_heads = config->n_kv_heads,
        .head_dim = config->head_dim,
        .mlp_width = config->mlp_width,
        .vocab = config->vocab,
        .context_max = config->context_max,
        .norm_eps = (float)config->norm_eps,
        .embed_scale = 1,
        .attention_scale = (float)(1 / sqrt(config->head_dim)),
        .activation = config->activation,
        .tied = config->tied,
        .n_ropes = 1,
        .ropes = {rope_make(&config->rope, arena)},
        .layers = arena_alloc_zero(arena, (size_t)config->n_layers, sizeof *out->layers),
    };
    const struct naming *naming = find_naming(checkpoint, config->from_gguf);
    int rc = checkpoint_matrix(checkpoint, naming->embed, out->vocab, out->hidden, &out->embed, err);
    if (!rc) rc = bind_head(out, naming, checkpoint, err);
    if (!rc) rc = checkpoint_vector(checkpoint, naming->final_norm, out->hidden, &out->final_norm, err);
    for (int32_t i = 0; !rc && i < out->n_layers; i++)
        rc = bind_layer(&out->layers[i], i, config, naming, checkpoint, err);
    if (!rc) rc = checkpoint_refuse_unused(checkpoint, naming->ignored, err);
    out->n_parameters = checkpoint_parameters(checkpoint);
    out->weight_bytes = checkpoint_bytes(checkpoint);
    return rc;
}
