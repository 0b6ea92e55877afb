// What a step must at least read and compute, counted from its input: the numerators of MFU and MBU.
//
// Operations: multiply and add count as two; norms, rotary embedding and softmax are left out, the embedding is a copy.
// Attention is causal and exact: each row sees itself and what stands before it, within the layer's window.
#pragma once

#include "engine/step_record.h"
#include "kernels/backend.h"
#include "models/model.h"

enum { COST_WINDOWS_MAX = 8 };

// Sums over a model's layers, made once, so that counting a step takes time for its sequences only.
struct cost_model {
    double layer_bytes;            // dense matrices of all layers, which every step reads once
    double expert_bytes;           // of one expert in every layer that has some
    double embed_row_bytes;        // of one row of the embedding
    double head_bytes, head_flops; // of the head; of one row of logits
    double row_flops;              // of one row in all layers, without attention
    double key_flops;              // of one row and one visible key in one layer
    double token_bytes;            // of one token's keys and values in one layer
    int32_t n_experts, n_hit;      // 0: none
    int32_t n_expert_layers;
    int32_t n_windows;
    struct {
        int32_t window, n_layers; // 0: all tokens are visible
    } windows[COST_WINDOWS_MAX];
    int32_t n_layers;
};

// `weights`: how the device keeps the layers' matrices. kv: shape of the cache.
void cost_model_make(struct cost_model *out, const struct backend *backend, const struct model_spec *spec,
                     enum weight_format weights, const struct kv_shape *kv);

// Fills what a record says of rows, bytes and operations. A sequence with more rows than one that draws once is a
// prompt; one that draws behind several rows drafts. Experts: as many as rows that chose evenly would hit.
void step_cost_count(struct step_record *record, const struct cost_model *model, const struct step_input *input);

// The device has counted the experts that were read, n_hit in all layers together.
void step_cost_count_experts(struct step_record *record, const struct cost_model *model, int32_t n_hit);

// Operations a second that the products of these weights could reach. 0: not measured.
double step_cost_peak_flops(const struct model_spec *spec, enum weight_format weights,
                            const struct backend_peaks *peaks);
// Seconds: the longer of reading and computing at measured peaks. 0: they were not measured.
double step_cost_least_s(const struct step_record *record, double read_bytes_per_s, double flops_per_s);
