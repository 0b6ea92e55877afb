#include "engine/step_cost.h"

#include "engine/memory_plan.h"

#include <assert.h>
#include <math.h>

static double values_of(const struct tensor *tensor) {
    return (double)tensor->n_rows * (double)tensor->n_cols;
}

// ------------------------------------------------------------------------------------------------------- the model

static void add_experts(struct cost_model *model, const struct backend *backend, const struct layer_spec *layer,
                        enum weight_format weights) {
    const struct expert *first = &layer->experts[0];
    const struct tensor *const matrices[] = {&first->gate, &first->up, &first->down};
    for (size_t m = 0; m < 3; m++) {
        model->expert_bytes += (double)backend_weight_bytes(backend, matrices[m], weights);
        model->row_flops += 2 * values_of(matrices[m]) * model->n_hit;
    }
}

static void add_layer(struct cost_model *model, const struct backend *backend, const struct layer_spec *l,
                      enum weight_format weights) {
    const struct tensor *const matrices[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->router, &l->gate, &l->up, &l->down};
    for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++) {
        if (matrices[m]->n_rows == 0) continue;
        enum weight_format format = memory_plan_matrix_format(l, matrices[m], weights);
        model->layer_bytes += (double)backend_weight_bytes(backend, matrices[m], format);
        model->row_flops += 2 * values_of(matrices[m]);
    }
    if (l->experts) add_experts(model, backend, l, weights);
    model->n_expert_layers += l->experts != NULL;
    int32_t w = 0;
    while (w < model->n_windows && model->windows[w].window != l->window) w++;
    assert(w < COST_WINDOWS_MAX);
    if (w == model->n_windows) model->windows[model->n_windows++].window = l->window;
    model->windows[w].n_layers++;
}

void cost_model_make(struct cost_model *out, const struct backend *backend, const struct model_spec *spec,
                     enum weight_format weights, const struct kv_shape *kv) {
    *out = (struct cost_model){.n_experts = spec->n_experts,
                               .n_hit = spec->n_hit,
                               .n_layers = spec->n_layers,
                               .key_flops = 4.0 * spec->n_heads * spec->head_dim, // a dot product, a sum of values
                               .token_bytes = (double)kv_bytes_per_block(kv) / kv->block_tokens / kv->n_layers};
    for (int32_t i = 0; i < spec->n_layers; i++) add_layer(out, backend, &spec->layers[i], weights);
    const struct tensor *head = spec->tied ? &spec->embed : &spec->head;
    out->head_bytes = (double)backend_weight_bytes(backend, head, memory_plan_head_format(backend, head, weights));
    out->head_flops = 2 * values_of(head);
    const enum weight_format outer = memory_plan_embed_format(backend, spec, weights);
    if (spec->embed.n_rows > 0)
        out->embed_row_bytes = (double)backend_weight_bytes(backend, &spec->embed, outer) / spec->embed.n_rows;
}

// --------------------------------------------------------------------------------------------------------- a step

// Keys that the rows of a sequence see in a layer, summed over rows.
static double visible_keys(const struct step_sequence *s, int32_t window) {
    const double rows = s->row_count, past = s->kv_len - s->row_count;
    if (!window || s->kv_len <= window) return rows * past + rows * (rows + 1) / 2;
    const double whole = past < window ? window - past : 0; // rows whose window reaches the beginning
    return whole * past + whole * (whole + 1) / 2 + (rows - whole) * window;
}

// Tokens whose keys and values at least one row of a sequence sees.
static double tokens_read(const struct step_sequence *s, int32_t window) {
    const int64_t most = (int64_t)window + s->row_count - 1;
    return window && s->kv_len > most ? (double)most : (double)s->kv_len;
}

static void count_attention(struct step_record *record, const struct cost_model *model, const struct step_sequence *s,
                            bool decodes) {
    double bytes = 0, flops = 0;
    for (int32_t w = 0; w < model->n_windows; w++) {
        const int32_t window = model->windows[w].window, n_layers = model->windows[w].n_layers;
        bytes += n_layers * (tokens_read(s, window) + s->row_count) * model->token_bytes; // read, and written
        flops += n_layers * visible_keys(s, window) * model->key_flops;
    }
    record->kv_tokens_read += (int64_t)visible_keys(s, 0);
    record->kv_bytes += bytes;
    record->attention_flops += flops;
    record->attention_flops_palm += (double)s->row_count * s->kv_len * model->n_layers * model->key_flops;
    if (!decodes) return;
    record->n_decoding++;
    record->decode_context += s->kv_len;
    record->kv_bytes_decode += bytes;
    record->attention_flops_decode += flops;
}

// Experts that at least one of n rows hits, if rows hit them evenly and independently.
static double experts_hit(const struct cost_model *model, int32_t n_rows) {
    if (!model->n_experts) return 0;
    return model->n_experts * (1 - pow(1 - (double)model->n_hit / model->n_experts, n_rows));
}

static double matrix_bytes(const struct cost_model *model, int32_t n_rows, double experts) {
    return model->layer_bytes + model->expert_bytes * experts + n_rows * model->embed_row_bytes;
}

void step_cost_count_experts(struct step_record *record, const struct cost_model *model, int32_t n_hit) {
    record->weight_bytes = matrix_bytes(model, record->n_rows, (double)n_hit / model->n_expert_layers);
}

void step_cost_count(struct step_record *record, const struct cost_model *model, const struct step_input *input) {
    record->n_rows = input->n_rows;
    record->n_sequences = input->n_sequences;
    record->n_logit_rows = input->n_logit_rows;
    int32_t l = 0;
    for (int32_t i = 0; i < input->n_sequences; i++) {
        const struct step_sequence *s = &input->sequences[i];
        int32_t n_draws = 0;
        for (; l < input->n_logit_rows && input->logit_row[l] < s->row_first + s->row_count; l++)
            n_draws += input->sample[l].forced_token < 0;
        const bool is_prompt = n_draws <= 1 && s->row_count > 1;
        if (is_prompt) record->n_prompt_rows += s->row_count;
        if (n_draws > 1) record->n_draft_rows += s->row_count - 1;
        count_attention(record, model, s, !is_prompt);
    }
    record->weight_bytes = matrix_bytes(model, input->n_rows, experts_hit(model, input->n_rows));
    record->linear_flops = input->n_rows * model->row_flops;
    record->head_bytes = input->n_logit_rows ? model->head_bytes : 0;
    record->head_flops = input->n_logit_rows * model->head_flops;
}

double step_cost_peak_flops(const struct model_spec *spec, enum weight_format weights,
                            const struct backend_peaks *peaks) {
    const bool is_f32 = weights == WEIGHT_AS_IS && spec->embed.format == TENSOR_F32;
    return is_f32 || peaks->bf16_flops_per_s <= 0 ? peaks->f32_flops_per_s : peaks->bf16_flops_per_s;
}

double step_cost_least_s(const struct step_record *record, double read_bytes_per_s, double flops_per_s) {
    if (read_bytes_per_s <= 0 || flops_per_s <= 0) return 0;
    const double reading = (record->weight_bytes + record->head_bytes + record->kv_bytes) / read_bytes_per_s;
    const double computing = (record->linear_flops + record->attention_flops + record->head_flops) / flops_per_s;
    return reading > computing ? reading : computing;
}
