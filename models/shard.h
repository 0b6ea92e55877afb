// The part of a model that one of several ranks computes (tensor parallelism, after Megatron-LM, arXiv 1909.08053).
//
// Heads, the feed-forward width and the vocabulary are cut into equal ranges. Matrices that make them keep a range of
// rows, which stay where they are; matrices that consume them keep a range of columns, which is copied. The biases of
// the latter stay with rank 0, because the ranks' results are added.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "models/model.h"

// out: a description whose numbers of heads and width are the shard's; vocab stays the whole model's, and embed and
// head begin at row vocab_first. Copies live in `arena`; everything else points into `full`. ERR_INVALID: the model
// cannot be cut into so many parts.
int model_shard(struct model_spec *out, const struct model_spec *full, int rank, int n_ranks, struct arena *arena,
                struct err *err) __attribute__((warn_unused_result));

// Rows of the vocabulary that a rank holds: all have shard_vocab_rows, but the last may have fewer.
int32_t shard_vocab_rows(int32_t vocab, int n_ranks);
