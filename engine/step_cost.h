// What a step must at least read and compute, modelled from its input; with measured peaks, the time below which no
// machine with these peaks can do it.
#pragma once

#include "kernels/backend.h"
#include "models/model.h"

struct step_cost {
    double weight_bytes; // every matrix once; the head only where a row has logits; experts as rows hit evenly
    double kv_bytes;     // every visible key and value once a sequence
    double flops;        // multiply and add count as two
};

// `weights`: how the device keeps the layers' matrices. kv: shape of the cache.
void step_cost_count(struct step_cost *out, const struct backend *backend, const struct model_spec *spec,
                     enum weight_format weights, const struct kv_shape *kv, const struct step_input *input);

// Seconds: the longer of reading at the measured bandwidth and computing at the measured peak of the weights' format.
// 0: the peaks were not measured.
double step_cost_least_s(const struct step_cost *cost, const struct model_spec *spec, enum weight_format weights,
                         const struct backend_peaks *peaks);
