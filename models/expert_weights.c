#include "models/expert_weights.h"

#include "models/family.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 256 };

static const size_t stride = sizeof(struct expert) / sizeof(struct tensor);

struct binding {
    const struct model_config *config;
    const struct expert_names *names;
    const char *prefix;
    struct arena *arena;
    struct checkpoint *checkpoint;
};

static const char *full_name(char out[NAME_BYTES], const struct binding *b, const char *name) {
    snprintf(out, NAME_BYTES, "%s%s", b->prefix, name);
    return out;
}

// One kind of matrix of all experts of a layer; `first` is that of expert 0.
static int bind_matrices(const struct binding *b, struct tensor *first, const char *name, int32_t n_rows,
                         int32_t n_cols, struct err *err) {
    char full[NAME_BYTES];
    const char *number = strstr(name, "%d");
    if (!number)
        return checkpoint_matrices(b->checkpoint, full_name(full, b, name), b->config->n_experts, n_rows, n_cols, first,
                                   stride, err);
    for (int32_t e = 0; e < b->config->n_experts; e++) {
        struct tensor *matrix = &first[(size_t)e * stride];
        snprintf(full, sizeof full, "%s%.*s%d%s", b->prefix, (int)(number - name), name, e, number + strlen("%d"));
        int rc = checkpoint_matrix(b->checkpoint, full, n_rows, n_cols, matrix, err);
        if (rc) return rc;
        if (matrix->format != first->format)
            return err_set(err, ERR_UNSUPPORTED, "\"%s\" is in %s, that of the first expert in %s", full,
                           tensor_format_name(matrix->format), tensor_format_name(first->format));
    }
    return 0;
}

static int bind_separate(const struct binding *b, struct expert *first, struct err *err) {
    const int32_t width = b->config->expert_width, hidden = b->config->hidden;
    int rc = bind_matrices(b, &first->gate, b->names->gate, width, hidden, err);
    if (!rc) rc = bind_matrices(b, &first->up, b->names->up, width, hidden, err);
    if (!rc) rc = bind_matrices(b, &first->down, b->names->down, hidden, width, err);
    if (!rc && first->gate.format != first->up.format)
        rc = err_set(err, ERR_UNSUPPORTED, "%sexperts: gate in %s and up in %s", b->prefix,
                     tensor_format_name(first->gate.format), tensor_format_name(first->up.format));
    return rc;
}

// Rows of gate and up in turns.
static int bind_mxfp4(const struct binding *b, struct expert *first, struct err *err) {
    static const struct mxfp4_range gate = {0, 2}, up = {1, 2}, all = {0, 1};
    const int32_t n = b->config->n_experts, width = b->config->expert_width, hidden = b->config->hidden;
    char full[NAME_BYTES];
    if (checkpoint_has(b->checkpoint, full_name(full, b, b->names->gate)))
        return err_set(err, ERR_UNSUPPORTED, "\"%s\" is not MXFP4; other formats are supported from GGUF", full);
    int rc = checkpoint_mxfp4(b->checkpoint, full, &gate, n, width, hidden, &first->gate, stride, err);
    if (!rc) rc = checkpoint_mxfp4(b->checkpoint, full, &up, n, width, hidden, &first->up, stride, err);
    full_name(full, b, b->names->down);
    return rc ? rc : checkpoint_mxfp4(b->checkpoint, full, &all, n, hidden, width, &first->down, stride, err);
}

// Elements first, first + step, ... of the `count` there are.
static const float *take_each(struct arena *arena, const float *values, size_t first, size_t step, size_t count) {
    float *out = arena_alloc(arena, count * sizeof *out);
    for (size_t i = 0; i < count; i++) out[i] = values[first + i * step];
    return out;
}

static int bind_biases(const struct binding *b, struct layer_spec *layer, bool in_turns, struct err *err) {
    const int32_t n = b->config->n_experts, width = b->config->expert_width;
    const size_t count = (size_t)n * (size_t)width;
    char full[NAME_BYTES];
    if (!b->names->gate_bias) return 0;
    int rc = checkpoint_vectors(b->checkpoint, full_name(full, b, b->names->down_bias), n, b->config->hidden,
                                &layer->down_bias, err);
    full_name(full, b, b->names->gate_bias);
    if (!rc) rc = checkpoint_vectors(b->checkpoint, full, n, in_turns ? 2 * width : width, &layer->gate_bias, err);
    if (rc) return rc;
    if (!in_turns)
        return checkpoint_vectors(b->checkpoint, full_name(full, b, b->names->up_bias), n, width, &layer->up_bias, err);
    layer->up_bias = take_each(b->arena, layer->gate_bias, 1, 2, count);
    layer->gate_bias = take_each(b->arena, layer->gate_bias, 0, 2, count);
    return 0;
}

int weights_bind_experts(struct layer_spec *layer, struct arena *arena, const struct model_config *config,
                         const char *prefix, struct checkpoint *checkpoint, struct err *err) {
    const struct expert_tensors *tensors = config->family->experts;
    const struct binding b = {.config = config,
                              .names = config->from_gguf ? &tensors->gguf : &tensors->hf,
                              .prefix = prefix,
                              .arena = arena,
                              .checkpoint = checkpoint};
    const bool in_turns = strcmp(b.names->gate, b.names->up) == 0 && !checkpoint_is_random(checkpoint);
    char full[NAME_BYTES];
    layer->experts = arena_alloc_zero(arena, (size_t)config->n_experts, sizeof *layer->experts);
    int rc = checkpoint_matrix(checkpoint, full_name(full, &b, b.names->router), config->n_experts, config->hidden,
                               &layer->router, err);
    if (!rc) rc = in_turns ? bind_mxfp4(&b, layer->experts, err) : bind_separate(&b, layer->experts, err);
    return rc ? rc : bind_biases(&b, layer, in_turns, err);
}
