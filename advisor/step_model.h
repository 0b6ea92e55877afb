// How long a step takes, from what it reads and computes: physics (measured peaks), corrected by what this server's
// steps really took. Plain data; every prediction says how wrong such predictions have been.
//
// seconds = constant + weights + KV + FLOPs + prompt present, each of the middle three in seconds that physics gives
// it. The coefficients are not negative, minimise the squares of relative errors, and forget: a step counts half after
// STEP_MODEL_HALF_LIFE more. Where the steps that were seen do not tell two terms apart, both stay near physics.
#pragma once

#include "advisor/figure.h"
#include <stdint.h>

// What one step does, or the average of many.
struct step_work {
    double weight_bytes, head_bytes, kv_bytes; // read
    double linear_flops, attention_flops, head_flops;
    double rows, prompt_rows, logit_rows, sequences;
};

enum { STEP_MODEL_TERMS = 5, STEP_MODEL_HALF_LIFE = 1000, STEP_MODEL_BLOCK = 32 };
// No prediction beyond this many times (or less than that part of) what was seen; before this many steps, none at all.
enum { STEP_MODEL_REACH = 4, STEP_MODEL_STEPS_MIN = 50 };

struct step_model {
    double read_bytes_per_s, flops_per_s; // measured peaks that the physics rests on
    double coefficient[STEP_MODEL_TERMS]; // of the fit: a constant, weights, KV, FLOPs, prompt present
    double matrix[STEP_MODEL_TERMS][STEP_MODEL_TERMS], vector[STEP_MODEL_TERMS]; // forgetting sums behind it
    double widening; // of predicted ranges, because the record of experiments asks for it; below 1: none
    // Relative to predictions made before the step was seen: of single steps, and (the median) of the means of
    // STEP_MODEL_BLOCK steps, which is what predictions are asked for. NAN: none was made.
    double error_median, error_p90, error_of_means;
    double block_s, block_predicted_s; // of the block that is being added up
    int64_t n_steps, n_block, n_blocks;
    // What was seen, of late: rows, sequences, and bytes of KV a sequence.
    double rows_low, rows_high, sequences_low, sequences_high, context_low, context_high;
};

// Peaks > 0.
void step_model_open(struct step_model *model, double read_bytes_per_s, double flops_per_s);
// seconds > 0: how long a step with this work took.
void step_model_learn(struct step_model *model, const struct step_work *work, double seconds);

// Seconds by physics alone: the longer of reading and computing, for the layers and the head in turn.
double step_model_least_s(const struct step_model *model, const struct step_work *work);

// Seconds by the fit alone; NAN: too few steps yet.
double step_model_fitted_s(const struct step_model *model, const struct step_work *work);

// What a step like `to` would take, when a step like `from` takes from_s: the excess over physics stays (additive) or
// grows alike (multiplicative), and the fit; the range covers all three and two deviations of the means' error, but
// is not below physics where `from` is not. NAN: `to` is too far from anything seen.
struct range step_model_predict_s(const struct step_model *model, const struct step_work *from, double from_s,
                                  const struct step_work *to);
