// Attention on the device: finishing queries, keys and values (bias, norm, rotation, the paged cache), and the
// attention of all rows of a step, decode and prompt mixed.
//
// The cache of one layer, block b, head h starts at ((b * n_kv_heads + h) * 2) * B * D elements: K [B][D], then V
// [B][D]. FP8 (E4M3) keeps one F32 scale for each token and head behind each half: K [B][D] bytes, B scales, V [B][D],
// B scales.
#pragma once

#include "kernels/cuda/device_step.h"
#include "kernels/cuda/product.h"

#ifdef __cplusplus
extern "C" {
#endif

struct device_kv {
    void *data; // of all layers: layer l starts at l * layer_bytes
    size_t layer_bytes;
    struct kv_shape shape;
};
size_t device_kv_block_bytes(const struct kv_shape *shape); // all layers

// One piece of work for a thread block, for each key/value head: neighbouring rows of one sequence with all query heads
// of the group, and a range of positions.
struct attention_item {
    int32_t row_first, n_rows; // decode: n_rows * group <= 16
    int32_t position;          // of row_first
    int32_t block_first;       // the sequence's blocks begin at block_table[block_first]
    int32_t kv_begin, kv_end;  // positions of this split; the last split ends behind the last row's position
    int32_t partial;           // -1: the only split, writes the output; else the slot of its partial result
};

// Joins the partial results of the rows of one item: slots partial_first .. partial_first + n_partials - 1.
struct attention_merge {
    int32_t row_first, n_rows, partial_first, n_partials;
};

struct attention_limits {
    int32_t rows_max, sequences_max, context;
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t n_processors; // streaming multiprocessors
    bool deterministic;   // splits depend on absolute positions alone
};

// How many of each a step can have, and the slots of partial results: what must be allocated.
struct attention_capacity {
    int32_t items_max, merges_max, partials_max;
    size_t partial_bytes; // of all slots, for one layer (layers take turns)
};
void attention_capacity(const struct attention_limits *limits, struct attention_capacity *out);

// Cuts a step into items: decode and verification split over positions so that all processors have work, prompts in
// tiles of rows. Arrays have room for the capacity. Host only, no allocation.
struct attention_work {
    struct attention_item *decode_items, *prefill_items;
    struct attention_merge *merges;
    int32_t n_decode_items, n_prefill_items, n_merges;
};
void attention_plan(const struct attention_limits *limits, const struct step_input *input, struct attention_work *work);

struct attention_in_finish {
    const struct device_step *step; // device memory, as everything below
    int32_t n_rows;                 // of the bucket
    const float *qkv;               // [n_rows, (n_heads + 2 n_kv_heads) D], biases already added
    const float *q_norm, *k_norm;   // [D] or NULL
    float norm_eps;
    const float *cosine, *sine; // [n_rows, n_dims / 2], or NULL: no rotation
    int32_t n_dims;
    bool interleaved;
    int32_t n_heads, n_kv_heads, head_dim;
    struct device_kv kv;
    int32_t layer;
    void *query; // [n_rows, n_heads D]: F32 with a cache of F32, else BF16
};
cudaError_t attention_in_finish(const struct attention_in_finish *op, cudaStream_t stream);

struct attention_run {
    const struct device_step *step;
    int32_t n_rows;               // of the bucket
    bool has_decode, has_prefill; // false: the step has no such items (a graph is captured for each combination)
    const void *query;            // as attention_in_finish wrote it
    struct device_kv kv;
    int32_t layer, n_heads;
    float scale, soft_cap;
    int32_t window;
    void *partials; // attention_capacity.partial_bytes
    int32_t n_processors;
    void *out; // [n_rows, n_heads D] in out_format
    enum operand_format out_format;
};
cudaError_t attention_run(const struct attention_run *op, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
