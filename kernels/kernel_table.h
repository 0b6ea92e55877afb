// The operations of a CPU, each a function on one row, one head, one tile or one range of outputs.
//
// Every operation exists once in plain C (kernels/ref/, prefix ref_: the specification) and once per instruction set
// (kernels/cpu/, prefixes avx2_ and avx512_), with the same arguments. A kernel uses no threads and no memory of its
// own, and what it computes for a row does not depend on the rows beside it.
// Letters: n a width, D head width, B = KV_BLOCK_TOKENS.
#pragma once

#include "kernels/backend.h"

enum {
    KV_BLOCK_TOKENS = 16,
    KV_QUAD = 4,                   // neighbouring dimensions of K in INT8 that are read together; heads are multiples
    ACTIVATION_ROWS = 16,          // prepared rows may be interleaved in groups of this many
    ACTIVATION_INPUTS = 32,        // inputs of a row that are prepared together
    ATTENTION_TILE_TOKENS = 64,    // scores are computed and the softmax is rescaled in tiles of this many positions
    ATTENTION_SPLIT_TOKENS = 1024, // positions whose partial result is merged as one; both are aligned to position 0
    ATTENTION_QUERIES_MAX = 16,    // queries (rows times heads of one group) of one attention task
    HEAD_DIM_MAX = 512,
    SAMPLE_BLOCK = 64, // tokens whose largest logit is kept while a row is sampled
};

// out[r * out_stride + i] = bias[i] + sum over k of weight[i][k] * activation[r][k], for i in
// [out_first, out_first + out_count). The order of the sum is one for all row counts, ranges and strides.
struct matmul {
    const struct tensor *weight; // [n_out, n_in]
    const float *bias;           // [n_out] or NULL
    const void *activations;     // prepared rows (see activation_prepare; memory behind the last to a multiple of
                                 // ACTIVATION_ROWS), or F32 rows for F32 and F16 weights
    size_t activation_stride;    // bytes between rows; activation_bytes for prepared ones
    float *out;                  // [n_rows, n_out]
    size_t out_stride;           // elements
    int32_t n_rows, out_first, out_count;
};

// Where one layer's part of a KV cache lies: [block][head][K, V]. K and V are halves of B * D elements and, in FP8 and
// INT8, the scales [B] behind them: K as [D][B] (positions are lanes), V as [B][D]. Within a half, a kernel table may
// order the elements as its own kernels read them.
struct kv_layer {
    void *data;
    enum kv_format format;
    int32_t n_kv_heads, head_dim;
};

static inline size_t kv_element_bytes(enum kv_format format) {
    return format == KV_F32 ? 4 : format == KV_BF16 ? 2 : 1;
}
static inline size_t kv_elements_bytes(enum kv_format format, int32_t head_dim) {
    return (size_t)KV_BLOCK_TOKENS * (size_t)head_dim * kv_element_bytes(format);
}
static inline size_t kv_half_bytes(enum kv_format format, int32_t head_dim) {
    return kv_elements_bytes(format, head_dim) + (kv_has_scales(format) ? KV_BLOCK_TOKENS * sizeof(float) : 0);
}
static inline char *kv_keys(const struct kv_layer *kv, int32_t block, int32_t kv_head) {
    size_t index = (size_t)block * (size_t)kv->n_kv_heads + (size_t)kv_head;
    return (char *)kv->data + index * 2 * kv_half_bytes(kv->format, kv->head_dim);
}
static inline char *kv_values(const struct kv_layer *kv, int32_t block, int32_t kv_head) {
    return kv_keys(kv, block, kv_head) + kv_half_bytes(kv->format, kv->head_dim);
}
static inline float *kv_scales(const struct kv_layer *kv, char *half) {
    return (float *)(void *)(half + kv_elements_bytes(kv->format, kv->head_dim));
}

// Neighbouring rows of one sequence, all query heads of one key/value head.
struct attention_task {
    struct kv_layer kv;
    const int32_t *block_table;        // of the sequence
    const float *query;                // of the first row's first head in the group
    size_t query_stride;               // elements between rows
    int32_t kv_head, n_group;          // heads that share the key/value head
    int32_t n_rows, position;          // of the first row; n_rows * n_group <= ATTENTION_QUERIES_MAX
    float scale, soft_cap;             // soft_cap 0: none
    int32_t window;                    // 0: none
    const struct attention_task *next; // whose keys and values may be fetched meanwhile, or NULL
};

// The softmax over some positions, not yet divided by its sum. Query i = row * n_group + head.
struct attention_partial {
    float max[ATTENTION_QUERIES_MAX]; // -INFINITY: no position was visible
    float sum[ATTENTION_QUERIES_MAX];
    float *out; // [ATTENTION_QUERIES_MAX, D]
};

struct sample_candidate {
    float logit;  // scaled: (logit - largest) / temperature
    float weight; // exp(logit)
    int32_t token;
};

struct sample_scratch {
    float *logits;                       // [V]
    float *block_largest;                // [ceil(V / SAMPLE_BLOCK)]
    struct sample_candidate *candidates; // [V]
};

// result, name, arguments
#define KERNELS(X)                                                                                                     \
    /* Bytes of one prepared row for weights of this format; a multiple of 64. */                                      \
    X(size_t, activation_bytes, (enum tensor_format format, int32_t n))                                                \
    /* Inputs [first, first + count) of x[n] become those of a row of `out` [rows, activation_bytes], where the rows   \
       are a multiple of ACTIVATION_ROWS: F32 for F32 and F16 weights; rounded to BF16 for BF16 and FP8 ones, laid out \
       for each as matmul reads; as kernels/packed.h says for INT8 and INT4. first and count are multiples of          \
       ACTIVATION_INPUTS, but for the end of the row. */                                                               \
    X(void, activation_prepare,                                                                                        \
      (void *out, int32_t row, const float *x, enum tensor_format format, int32_t n, int32_t first, int32_t count))    \
    X(void, matmul, (const struct matmul *m))                                                                          \
    /* Quantises rows [16, n] of weights to one block of FP8, INT8 or INT4 (kernels/packed.h), with scales that        \
       make the squared error small. */                                                                                \
    X(void, weight_pack, (void *block, const float *rows, enum tensor_format format, int32_t n))                       \
    /* Packs sixteen rows that are quantised already to one block of their format; scales and offsets fit into F16. */ \
    X(void, weight_fill, (void *block, const struct tensor_row *rows, enum tensor_format format, int32_t n))           \
    /* out[n] = x * rsqrt(mean(x^2) + eps) * weight; out may be x. */                                                  \
    X(void, norm_rms, (float *out, const float *x, const float *weight, float eps, int32_t n))                         \
    /* out[n_cols] = table[token] * scale */                                                                           \
    X(void, embed_row, (float *out, const struct tensor *table, int32_t token, float scale))                           \
    /* x[n] += y[n] * scale */                                                                                         \
    X(void, add_scaled, (float *x, const float *y, float scale, int32_t n))                                            \
    /* gate[n] = activation(gate) * up */                                                                              \
    X(void, gate_mul, (float *gate, const float *up, enum activation activation, int32_t n))                           \
    /* x[n] = cap * tanh(x * scale / cap); cap 0: x * scale */                                                         \
    X(void, scale_cap, (float *x, float scale, float cap, int32_t n))                                                  \
    /* Rotates the first n_dims of one head in place by cosine[n_dims/2], sine[n_dims/2]. */                           \
    X(void, rope_head, (float *x, const float *cosine, const float *sine, int32_t n_dims, bool interleaved))           \
    /* Stores one head's key[D] and value[D] at slot (0..B-1) of a block. */                                           \
    X(void, kv_write,                                                                                                  \
      (const struct kv_layer *kv, int32_t block, int32_t kv_head, int32_t slot, const float *key, const float *value)) \
    /* Positions [split, split + 1) * ATTENTION_SPLIT_TOKENS of every query of the task. */                            \
    X(void, attention_split, (const struct attention_task *task, int32_t split, struct attention_partial *partial))    \
    /* total = total and next, which holds later positions. */                                                         \
    X(void, attention_merge,                                                                                           \
      (struct attention_partial * total, const struct attention_partial *next, int32_t n_queries, int32_t head_dim))   \
    /* out of query i = total / sum; zeros when nothing was visible. */                                                \
    X(void, attention_finish,                                                                                          \
      (const struct attention_task *task, const struct attention_partial *total, float *out, size_t out_stride))       \
    X(void, sample,                                                                                                    \
      (struct sample_result * result, const float *logits, int32_t vocab, const struct sample_params *params,          \
       const struct step_input *input, struct sample_scratch *scratch))                                                \
    /* For the peaks: reads n_bytes (a multiple of 4096) once, and returns something that depends on them. */          \
    X(uint32_t, peak_read, (const void *data, size_t n_bytes))                                                         \
    /* n rounds of nothing but multiply-adds: returns how many operations (two each); 0: not available. */             \
    X(double, peak_f32, (int32_t n))                                                                                   \
    X(double, peak_bf16, (int32_t n))                                                                                  \
    X(double, peak_int8, (int32_t n))

struct kernel_table {
    const char *name;        // "ref", "avx2", "avx512", "amx"
    const char *description; // name and what it uses: for people
#define X(type, name, arguments) type(*name) arguments;
    KERNELS(X)
#undef X
};

#define X(type, name, arguments)                                                                                       \
    type ref_##name arguments;                                                                                         \
    type avx2_##name arguments;                                                                                        \
    type avx512_##name arguments;
KERNELS(X)
#undef X

extern const struct kernel_table ref_kernels, avx2_kernels, avx512_kernels;
