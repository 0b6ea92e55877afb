#include "engine/step_cost.h"

#include "engine/memory_plan.h"

#include <math.h>

static double values_of(const struct tensor *tensor) {
    return (double)tensor->n_rows * (double)tensor->n_cols;
}

// Experts that at least one of n rows hits, if rows hit them evenly and independently.
static double experts_hit(const struct model_spec *spec, int32_t n_rows) {
    return spec->n_experts * (1 - pow(1 - (double)spec->n_hit / spec->n_experts, n_rows));
}

static void count_experts(struct step_cost *out, const struct backend *backend, const struct model_spec *spec,
                          const struct layer_spec *layer, enum weight_format weights, int32_t n_rows) {
    const struct expert *first = &layer->experts[0];
    const struct tensor *const matrices[] = {&first->gate, &first->up, &first->down};
    for (size_t m = 0; m < 3; m++) {
        out->weight_bytes += experts_hit(spec, n_rows) * (double)backend_weight_bytes(backend, matrices[m], weights);
        out->flops += 2 * values_of(matrices[m]) * n_rows * spec->n_hit;
    }
}

static void count_weights(struct step_cost *out, const struct backend *backend, const struct model_spec *spec,
                          enum weight_format weights, const struct step_input *input) {
    for (int32_t i = 0; i < spec->n_layers; i++) {
        const struct layer_spec *l = &spec->layers[i];
        const struct tensor *const matrices[] = {&l->wq,     &l->wk,   &l->wv, &l->wo,
                                                 &l->router, &l->gate, &l->up, &l->down};
        for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++) {
            if (matrices[m]->n_rows == 0) continue;
            enum weight_format format = memory_plan_matrix_format(l, matrices[m], weights);
            out->weight_bytes += (double)backend_weight_bytes(backend, matrices[m], format);
            out->flops += 2 * values_of(matrices[m]) * input->n_rows;
        }
        if (l->experts) count_experts(out, backend, spec, l, weights, input->n_rows);
    }
    const struct tensor *head = spec->tied ? &spec->embed : &spec->head;
    if (input->n_logit_rows == 0) return;
    out->weight_bytes += (double)backend_weight_bytes(backend, head, memory_plan_outer_format(head, weights));
    out->flops += 2 * values_of(head) * input->n_logit_rows;
}

// Keys that the rows of a sequence see in a layer, summed over rows.
static double visible_keys(const struct step_sequence *s, int32_t window) {
    double sum = 0;
    for (int32_t row = 0; row < s->row_count; row++) {
        int32_t n = s->kv_len - s->row_count + row + 1;
        sum += window && n > window ? window : n;
    }
    return sum;
}

// Tokens whose keys and values at least one row of a sequence sees.
static double tokens_read(const struct step_sequence *s, int32_t window) {
    int32_t most = window + s->row_count - 1;
    return window && s->kv_len > most ? most : s->kv_len;
}

void step_cost_count(struct step_cost *out, const struct backend *backend, const struct model_spec *spec,
                     enum weight_format weights, const struct kv_shape *kv, const struct step_input *input) {
    *out = (struct step_cost){0};
    count_weights(out, backend, spec, weights, input);
    double layer_token_bytes = (double)kv_bytes_per_block(kv) / kv->block_tokens / kv->n_layers;
    double key_flops = 4.0 * spec->n_heads * spec->head_dim; // a dot product and a sum of values
    for (int32_t i = 0; i < input->n_sequences; i++) {
        const struct step_sequence *s = &input->sequences[i];
        for (int32_t layer = 0, n_alike; layer < spec->n_layers; layer += n_alike) {
            int32_t window = spec->layers[layer].window;
            for (n_alike = 1; layer + n_alike < spec->n_layers; n_alike++)
                if (spec->layers[layer + n_alike].window != window) break;
            out->kv_bytes += n_alike * tokens_read(s, window) * layer_token_bytes;
            out->flops += n_alike * visible_keys(s, window) * key_flops;
        }
    }
}

double step_cost_least_s(const struct step_cost *cost, const struct model_spec *spec, enum weight_format weights,
                         const struct backend_peaks *peaks) {
    bool is_f32 = weights == WEIGHT_AS_IS && spec->embed.format == TENSOR_F32;
    double flops_per_s = is_f32 || peaks->bf16_flops_per_s <= 0 ? peaks->f32_flops_per_s : peaks->bf16_flops_per_s;
    if (peaks->read_bytes_per_s <= 0 || flops_per_s <= 0) return 0;
    double reading = (cost->weight_bytes + cost->kv_bytes) / peaks->read_bytes_per_s;
    double computing = cost->flops / flops_per_s;
    return reading > computing ? reading : computing;
}
