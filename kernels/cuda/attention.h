// Attention on the device: finishing queries, keys and values (norm, rotation, the paged cache), and the
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

// Layer l starts at l * layer_bytes; all layers of n blocks take n * kv_bytes_per_block (backend.h).
struct device_kv {
    void *data; // 16-byte aligned
    size_t layer_bytes;
    struct kv_shape shape;
};

// One piece of work for a thread block, for each key/value head: neighbouring rows of one sequence with all query heads
// of the group, and a range of positions. Query q of a piece is row row_first + q / group, head q % group of the group.
struct attention_item {
    int32_t row_first, n_rows;
    int32_t position;         // of row_first
    int32_t block_first;      // the sequence's blocks begin at block_table[block_first]
    int32_t kv_begin, kv_end; // positions; those of the last piece end behind the last row's position
    int32_t partial;          // -1: the only piece, writes the output; else its first slot of partial results
};

// Joins partial results of up to ATTENTION_SLOT_QUERIES queries, in the order of their slots: partial_first,
// partial_first + partial_stride, ...
struct attention_merge {
    int32_t row_first, query_first, n_queries; // query_first: of those that begin at row_first
    int32_t partial_first, partial_stride, n_partials;
};

struct attention_limits {
    int32_t rows_max, sequences_max;
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t n_processors; // streaming multiprocessors
    bool deterministic;   // a row's bits depend on its own sequence alone: not on other rows, chunks or splits
};

// How many of each a step can have, and the memory of partial results: what must be allocated.
struct attention_capacity {
    int32_t items_max; // of each of the two kinds
    int32_t merges_max, partials_max;
    size_t partial_bytes; // of all slots, for one layer (layers take turns)
};
void attention_capacity(const struct attention_limits *limits, struct attention_capacity *out);

// Cuts a step into items. Sequences with few rows (decode, verification of drafts) and prompts go to different kernels;
// both are cut along positions where there would be less work than processors. Arrays have room for the capacity.
// Host only, no allocation, linear in the items.
struct attention_work {
    struct attention_item *decode_items, *prefill_items;
    struct attention_merge *merges;
    int32_t n_decode_items, n_prefill_items, n_merges; // results
};
void attention_plan(const struct attention_limits *limits, const struct step_input *input, struct attention_work *work);

// Norm and rotation of queries and keys; the query to `query`, keys and values into the cache. Rows at and beyond
// step->n_rows write nothing.
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

// ATTENTION[r] = softmax(scale q K^T, causal, within window) V for the rows of the step; other rows of `out` stay as
// they are. Head widths 64, 96, 128 and 256 over a cache of BF16 or FP8 run on tensor cores; others, and F32, on plain
// arithmetic, which reads the step's rows and needs no items.
struct attention_run {
    const struct device_step *step;
    int32_t n_rows;               // of the bucket
    bool has_decode, has_prefill; // false: the step has no such items (a graph is captured for each combination)
    bool deterministic;           // as the items were planned
    const void *query;            // as attention_in_finish wrote it
    struct device_kv kv;
    int32_t layer, n_heads;
    float scale, soft_cap; // scale > 0
    int32_t window;
    void *partials;       // attention_capacity.partial_bytes
    int32_t n_processors; // as planned
    void *out;            // [n_rows, n_heads D] in out_format
    enum operand_format out_format;
};
cudaError_t attention_run(const struct attention_run *op, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
