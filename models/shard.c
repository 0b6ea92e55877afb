#include "models/shard.h"

#include "base/rng.h"

#include <assert.h>
#include <string.h>

struct cut {
    int rank, n_ranks;
    struct arena *arena;
    uint64_t weight_bytes;
};

static struct tensor take_rows(struct cut *cut, const struct tensor *full, int32_t first, int32_t count) {
    struct tensor part = tensor_take_rows(full, first, count);
    cut->weight_bytes += tensor_bytes(&part);
    return part;
}

static struct tensor own_rows(struct cut *cut, const struct tensor *full) {
    if (!tensor_present(full)) return *full;
    int32_t count = full->n_rows / cut->n_ranks;
    return take_rows(cut, full, cut->rank * count, count);
}

static struct tensor own_columns(struct cut *cut, const struct tensor *full) {
    if (!tensor_present(full)) return *full;
    struct tensor part = *full;
    part.n_cols = full->n_cols / cut->n_ranks;
    cut->weight_bytes += tensor_bytes(&part);
    if (full->random_key) part.random_key = rng_key(full->random_key, (uint64_t)cut->rank, 0);
    if (full->rows) part.col_first += cut->rank * part.n_cols;
    if (!full->data) return part;
    size_t row_bytes = tensor_bytes(full) / (size_t)full->n_rows, part_bytes = row_bytes / (size_t)cut->n_ranks;
    char *copy = arena_alloc(cut->arena, tensor_bytes(&part));
    for (int32_t r = 0; r < full->n_rows; r++)
        memcpy(copy + (size_t)r * part_bytes,
               (const char *)full->data + (size_t)r * row_bytes + (size_t)cut->rank * part_bytes, part_bytes);
    part.data = copy;
    return part;
}

static const float *own_values(const struct cut *cut, const float *full, int32_t n) {
    return full ? full + cut->rank * (n / cut->n_ranks) : NULL;
}

// [E, F] of all ranks becomes [E, F / ranks].
static const float *own_expert_values(const struct cut *cut, const float *full, const struct model_spec *spec) {
    if (!full) return NULL;
    const size_t count = (size_t)(spec->expert_width / cut->n_ranks);
    float *part = arena_alloc(cut->arena, (size_t)spec->n_experts * count * sizeof *part);
    for (size_t e = 0; e < (size_t)spec->n_experts; e++)
        memcpy(part + e * count, full + (e * (size_t)cut->n_ranks + (size_t)cut->rank) * count, count * sizeof *part);
    return part;
}

// Every rank has the whole router, and a part of every expert's width.
static void cut_experts(struct layer_spec *part, const struct layer_spec *full, const struct model_spec *spec,
                        struct cut *cut) {
    cut->weight_bytes += tensor_bytes(&part->router);
    part->gate_bias = own_expert_values(cut, full->gate_bias, spec);
    part->up_bias = own_expert_values(cut, full->up_bias, spec);
    part->experts = arena_alloc_zero(cut->arena, (size_t)spec->n_experts, sizeof *part->experts);
    for (int32_t e = 0; e < spec->n_experts; e++) {
        part->experts[e].gate = own_rows(cut, &full->experts[e].gate);
        part->experts[e].up = own_rows(cut, &full->experts[e].up);
        part->experts[e].down = own_columns(cut, &full->experts[e].down);
    }
}

static void cut_layer(struct layer_spec *part, const struct layer_spec *full, const struct model_spec *spec,
                      struct cut *cut) {
    const int32_t q_width = spec->n_heads * spec->head_dim, kv_width = spec->n_kv_heads * spec->head_dim;
    *part = *full;
    part->wq = own_rows(cut, &full->wq);
    part->wk = own_rows(cut, &full->wk);
    part->wv = own_rows(cut, &full->wv);
    part->wo = own_columns(cut, &full->wo);
    part->gate = own_rows(cut, &full->gate);
    part->up = own_rows(cut, &full->up);
    part->down = own_columns(cut, &full->down);
    part->bq = own_values(cut, full->bq, q_width);
    part->bk = own_values(cut, full->bk, kv_width);
    part->bv = own_values(cut, full->bv, kv_width);
    part->gate_bias = own_values(cut, full->gate_bias, spec->mlp_width);
    part->up_bias = own_values(cut, full->up_bias, spec->mlp_width);
    part->sinks = own_values(cut, full->sinks, spec->n_heads);
    if (full->experts) cut_experts(part, full, spec, cut);
    if (cut->rank == 0) return;
    part->bo = NULL;
    part->down_bias = NULL;
}

int32_t shard_vocab_rows(int32_t vocab, int n_ranks) {
    return (vocab + n_ranks - 1) / n_ranks;
}

// Whether a range of columns would begin or end within a group of inputs that share a scale.
static bool cuts_groups(const struct tensor *full, int n_ranks) {
    const int32_t group = full->format == TENSOR_FP8 ? 4 * TENSOR_GROUP : TENSOR_GROUP;
    return tensor_format_is_quantised(full->format) && full->n_cols / n_ranks % group;
}

static int refuse_cut_groups(const struct model_spec *full, int n_ranks, struct err *err) {
    for (int32_t i = 0; i < full->n_layers; i++) {
        const struct layer_spec *layer = &full->layers[i];
        const struct tensor *down = layer->experts ? &layer->experts[0].down : &layer->down;
        if (cuts_groups(&layer->wo, n_ranks) || cuts_groups(down, n_ranks))
            return err_set(err, ERR_INVALID, "%d ranks would cut groups of inputs that share a scale, in layer %d",
                           n_ranks, i);
    }
    return 0;
}

int model_shard(struct model_spec *out, const struct model_spec *full, int rank, int n_ranks, struct arena *arena,
                struct err *err) {
    assert(rank >= 0 && rank < n_ranks);
    if (full->n_heads % n_ranks || full->n_kv_heads % n_ranks || full->mlp_width % n_ranks ||
        full->expert_width % n_ranks || full->vocab < n_ranks)
        return err_set(err, ERR_INVALID,
                       "%d ranks cannot share %d heads, %d key/value heads and a feed-forward width of %d evenly",
                       n_ranks, full->n_heads, full->n_kv_heads,
                       full->expert_width % n_ranks ? full->expert_width : full->mlp_width);
    if (full->norms_all_heads && n_ranks > 1)
        return err_set(err, ERR_UNSUPPORTED, "ranks cannot share a model of the family %s: its norms go over all heads",
                       full->family);
    int rc = refuse_cut_groups(full, n_ranks, err);
    if (rc) return rc;
    struct cut cut = {.rank = rank, .n_ranks = n_ranks, .arena = arena};
    *out = *full;
    out->n_heads = full->n_heads / n_ranks;
    out->n_kv_heads = full->n_kv_heads / n_ranks;
    out->mlp_width = full->mlp_width / n_ranks;
    out->expert_width = full->expert_width / n_ranks;
    int32_t rows = shard_vocab_rows(full->vocab, n_ranks), first = rank * rows;
    int32_t count = first + rows <= full->vocab ? rows : full->vocab - first;
    if (count < 1)
        return err_set(err, ERR_INVALID, "%d ranks are too many for a vocabulary of %d", n_ranks, full->vocab);
    out->vocab_first = first;
    out->embed = take_rows(&cut, &full->embed, first, count);
    out->head = full->tied ? out->embed : take_rows(&cut, &full->head, first, count);
    out->layers = arena_alloc_zero(arena, (size_t)full->n_layers, sizeof *out->layers);
    for (int32_t i = 0; i < full->n_layers; i++) cut_layer(&out->layers[i], &full->layers[i], full, &cut);
    out->weight_bytes = cut.weight_bytes;
    return 0;
}
