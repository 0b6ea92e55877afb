// Which experts a row of op_moe hits, and with what weights: plain C, one definition for every device and the
// specification of those that have their own.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// logits[n_experts] -> expert[n_hit], ascending, and weight[n_hit]. What op_moe in kernels/backend.h says; logits
// become probabilities. A NaN hits as if it were the smallest.
void route_row(int32_t *expert, float *weight, float *logits, int32_t n_experts, int32_t n_hit, bool renormalised);
