// Families of models: what each calls its tensors and what it does differently. Adding one is one file and one line in
// the table of family.c.
#pragma once

#include "base/err.h"
#include "models/config.h"
#include "models/model.h"

// Dimensions of tensors by name, so that a family's list is a table.
enum model_dim { DIM_ONE, DIM_HIDDEN, DIM_QUERY, DIM_KV, DIM_HEAD, DIM_HEADS, DIM_MLP, DIM_EXPERTS, DIM_VOCAB };

// One tensor of every layer. Neighbours of one name are ranges of rows of one tensor, in this order.
struct layer_tensor {
    const char *hf, *gguf;     // behind "model.layers.N." and "blk.N."
    size_t offset;             // of the field in struct layer_spec: a struct tensor, or a const float * for vectors
    enum model_dim rows, cols; // rows DIM_ONE: a vector, converted to F32
    unsigned trait;            // enum model_trait: only when the model has it; 0: always
};

// How a family calls its experts. %d is the number of the expert; a name without it is one tensor of all of them. Where
// gate and up have one name, their rows lie in it in turns, as MXFP4.
struct expert_tensors {
    struct expert_names {
        const char *router, *gate, *up, *down;
        const char *gate_bias, *up_bias, *down_bias; // NULL: the family has none
    } hf, gguf;
};

struct model_family {
    const char *name;
    const char *const *architectures; // names in config.json's "architectures", NULL at the end
    const char *model_type;           // config.json's "model_type"
    const char *gguf_architecture;    // general.architecture; NULL: not in GGUF
    const char *turn_end;             // a special token that GGUF files do not call an end, but that is one; or NULL
    bool gguf_interleaved;            // its GGUF files store q and k rows permuted for pairs (2i, 2i+1)
    const struct layer_tensor *layer_tensors;
    size_t n_layer_tensors;
    const struct expert_tensors *experts; // NULL: the family has none
    unsigned features;                    // enum model_feature that the family knows
    // What a configuration means that does not say it; NULL: nothing special.
    void (*set_defaults)(struct model_config *config);
    // Sets traits and window rule; refuses what the family cannot do.
    int (*configure)(struct model_config *config, struct err *err);
};

extern const struct model_family family_llama, family_mistral, family_mixtral, family_qwen2, family_qwen3,
    family_qwen3_moe, family_gemma2, family_gemma3, family_olmo2, family_phi3, family_smollm3, family_gpt_oss;

// The tensors of the block that Llama began and most families share: norms before, gated feed-forward.
enum { N_LLAMA_LAYER_TENSORS = 18 };
extern const struct layer_tensor llama_layer_tensors[N_LLAMA_LAYER_TENSORS];

// The block of Gemma 2 and 3: norms before and behind.
enum { N_GEMMA_LAYER_TENSORS = 13 };
extern const struct layer_tensor gemma_layer_tensors[N_GEMMA_LAYER_TENSORS];
void gemma_set_defaults(struct model_config *config);
// n_layers_27b: GGUF files do not say that the models of 27 B parameters divide scores by another number.
int gemma_configure(struct model_config *config, int32_t n_layers_27b, struct err *err);

// What Qwen3's dense models and those with experts share.
int qwen3_configure(struct model_config *config, struct err *err);

// NULL when there is none. Either argument of the first may be NULL.
const struct model_family *family_find(const char *architecture, const char *model_type);
// Architectures with and without experts may share a name: those that fit are preferred.
const struct model_family *family_find_gguf(struct str_view architecture, bool has_experts);
// "LlamaForCausalLM, MistralForCausalLM, ...": for error texts.
void family_list(struct str *out);
