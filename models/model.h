// From files to a model: weights as mapped, a description that is the same for every family, and the text side.
//
// Owner: whoever called model_open; everything inside lives until model_close. After opening, a model is read-only and
// any thread may read it.
#pragma once

#include "base/err.h"
#include "kernels/backend.h"
#include "models/stored_tensor.h"
#include <stdbool.h>
#include <stdint.h>

struct tokenizer;
struct chat_template;

enum { MODEL_STOP_TOKENS_MAX = 16 };

// One decoder layer. Absent tensors are not tensor_present, absent vectors NULL. Vectors are F32, converted at load.
struct layer_spec {
    const float *attention_norm;                  // [H] or NULL (families that norm only after)
    struct tensor wq, wk, wv, wo;                 // [A*D, H], [G*D, H], [G*D, H], [H, A*D]
    const float *bq, *bk, *bv, *bo;               // or NULL
    const float *q_norm, *k_norm;                 // [D], with norms_all_heads [A*D] and [G*D], or NULL
    const float *sinks;                           // [A] or NULL
    const float *attention_post_norm;             // [H] or NULL
    const float *mlp_norm;                        // [H] or NULL
    struct tensor gate, up, down;                 // [F, H], [F, H], [H, F]
    const float *gate_bias, *up_bias, *down_bias; // or NULL; of all experts one after the other where there are some
    const float *mlp_post_norm;                   // [H] or NULL
    struct tensor router;     // [E, H]; present in layers that have experts instead of gate, up and down
    const float *router_bias; // [E] or NULL
    struct expert *experts;   // [E] or NULL; F is model_spec.expert_width
    int32_t window;           // sliding window in tokens; 0: full attention
    int32_t rope;             // index into model_spec.ropes; -1: none
};

struct model_spec {
    const char *family; // "llama", "mistral", "qwen2", ...
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim;
    int32_t mlp_width;                      // F; 0: every layer has experts
    int32_t n_experts, n_hit, expert_width; // E, experts that a row hits, their F; 0: no layer has experts
    bool is_renormalised;                   // weights of the experts hit sum to 1
    int32_t vocab;                          // rows of the embedding table, of all ranks
    int32_t vocab_first;                    // the row with which this rank's tables begin; 0 without ranks
    int32_t context_max;                    // positions that the model was made for
    float norm_eps;
    float embed_scale;                        // 1 for most
    float attention_scale;                    // 1/sqrt(head_dim) for most
    float attention_soft_cap, final_soft_cap; // 0: none
    bool norms_all_heads;                     // the norms of q and of k go over all heads together
    enum activation activation;
    bool tied; // the head is the embedding table
    int32_t n_ropes;
    struct rope_spec ropes[2];
    struct rope_spec long_rope; // takes the place of ropes[0] when the engine's context is beyond long_rope_beyond
    int32_t long_rope_beyond;   // in tokens; 0: nothing takes its place
    struct tensor embed;        // [V, H]
    const float *final_norm;    // [H]
    struct tensor head;         // [V, H]; equal to embed when tied
    struct layer_spec *layers;  // [n_layers]
    uint64_t n_parameters;
    uint64_t weight_bytes; // of all tensors, as held in memory
};

// Matrix i of a layer: those of attention, then gate, up and down, or the router and the matrices of each expert.
// NULL: there are no more.
struct tensor *layer_matrix(const struct model_spec *spec, struct layer_spec *layer, size_t i);

// What generation_config.json (or the GGUF) asks for when the client says nothing.
struct generation_defaults {
    bool has_temperature, has_top_p, has_top_k, has_repetition_penalty;
    float temperature, top_p, repetition_penalty;
    int32_t top_k;
};

struct model {
    const char *name;          // folder or file name without path and extension; "optima-demo" for the embedded model
    const char *path;          // as given; "embedded" for the demo
    const char *source_format; // "safetensors", "gguf", "random"
    struct model_spec spec;
    struct tokenizer *tokenizer;
    struct chat_template *chat_template; // NULL: the model has none
    int32_t n_stop_tokens;
    int32_t stop_tokens[MODEL_STOP_TOKENS_MAX]; // end-of-text ids: generation_config, config and tokenizer, united
    struct generation_defaults defaults;
    void *private_data; // mapped files and arenas, freed by model_close
};

struct model_options {
    // Hugging Face folder or .gguf file; NULL or "demo": the embedded model; "demo/draft": its draft.
    const char *path;
    const char *random_weights_path; // a config.json: that shape with random weights and the demo's tokenizer
    uint64_t random_seed;
};

// Errors name the file and the reason in one line.
int model_open(struct model **out, const struct model_options *options, struct err *err)
    __attribute__((warn_unused_result));
void model_close(struct model *model);

// The data of matrices is not read any more, because a device holds copies: gives their memory back.
void model_release_weights(struct model *model);

// Tensors as the model's files hold them, in the files' order; none for random weights.
const struct stored_tensor *model_stored_tensors(const struct model *model, size_t *n);
// The model's GGUF file, or NULL where it came from elsewhere; the model's.
struct gguf;
const struct gguf *model_gguf(const struct model *model);

// The folder of a model in safetensors; folder_close is the caller's.
struct folder;
int model_folder_open(const struct model *model, struct folder *out, struct err *err)
    __attribute__((warn_unused_result));

// Text of the kind that the model was made for and has not learned from, for measuring it: the demo's. False: there is
// none.
struct str_view;
bool model_shipped_text(const struct model *model, struct str_view *out);

// Only the text side (tokenizer, template, stop tokens): for `optima tokenize` and `optima render`. path may also be a
// tokenizer.json or a .jinja file; what is not there is NULL.
struct model_text {
    struct tokenizer *tokenizer;
    struct chat_template *chat_template;
};
int model_text_open(struct model_text *out, const char *path, struct err *err) __attribute__((warn_unused_result));
void model_text_close(struct model_text *text);
