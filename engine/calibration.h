// What the matrices of a model multiply when it reads a text: sums over the rows, for quantisation that knows them.
//
// Thread: the one that calls, which becomes a step thread while it runs.
#pragma once

#include "base/err.h"
#include "models/model.h"
#include <stddef.h>
#include <stdint.h>

struct kernel_table;

// Inputs of a layer's matrices. All experts share those of gate and up with the router; each has its own of down.
enum calibration_input {
    CALIBRATION_ATTENTION, // of q, k and v
    CALIBRATION_OUT,       // of o
    CALIBRATION_MLP,       // of gate and up
    CALIBRATION_DOWN,      // of down; with experts that of the first, and those of the others follow
};

// That of matrix i (as layer_matrix counts them); of expert e's down, CALIBRATION_DOWN + e.
int calibration_input_of(const struct layer_spec *layer, size_t i);

struct calibration_sums {
    float *sums; // [n, n] of x_i * x_j, lower triangle; NULL: the layer has no such matrix
    int32_t n;
    size_t n_rows; // of an expert, those that hit it
};

struct calibration {
    const struct model_spec *spec;
    int32_t layer_first, n_layers;
    int n_inputs;                    // of a layer, the most
    struct calibration_sums *inputs; // [n_layers, n_inputs]
    const struct kernel_table *kernels;
};

// Of a layer, as the model counts them, that was calibrated.
struct calibration_sums *calibration_sums_of(const struct calibration *calibration, int32_t layer, int input);
size_t calibration_layer_bytes(const struct model_spec *spec); // memory of one layer

// Reads the tokens in windows of `window`, on the CPU, with weights as the model has them, for layers layer_first and
// n_layers - 1 more. ERR_INVALID: as evaluation_run.
int calibration_run(struct calibration *out, struct model *model, int32_t layer_first, int32_t n_layers,
                    const int32_t *tokens, size_t n_tokens, int32_t window, struct err *err)
    __attribute__((warn_unused_result));
void calibration_close(struct calibration *calibration);
