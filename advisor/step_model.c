#include "advisor/step_model.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum term { TERM_CONSTANT, TERM_WEIGHTS, TERM_KV, TERM_FLOPS, TERM_PROMPT };

static const double CONSTANT_S = 1e-3;    // unit of the terms that have no physics
static const double PRIOR = 0.02;         // steps that speak for physics
static const double OUTLIER = 3;          // median errors from which a step counts less
static const double OUTLIER_MIN = 0.05;   // relative error that never is an outlier
static const double DEVIATION_MIN = 0.02; // what no fit to other steps is surer of
static const double SCALE_MOST = 4;       // times that a prediction may be off and still be what errors are relative to
static const double ERROR_RATE = 0.02, MEANS_RATE = 0.05; // of the running quantiles of the errors

// exp(-ln 2 / half life)
static double keep(void) {
    return 1 - 0.6931471805599453 / STEP_MODEL_HALF_LIFE;
}

static void features(const struct step_model *model, const struct step_work *work, double x[STEP_MODEL_TERMS]) {
    x[TERM_CONSTANT] = CONSTANT_S;
    x[TERM_WEIGHTS] = (work->weight_bytes + work->head_bytes) / model->read_bytes_per_s;
    x[TERM_KV] = work->kv_bytes / model->read_bytes_per_s;
    x[TERM_FLOPS] = (work->linear_flops + work->attention_flops + work->head_flops) / model->flops_per_s;
    x[TERM_PROMPT] = work->prompt_rows > 0 ? CONSTANT_S : 0;
}

void step_model_open(struct step_model *model, double read_bytes_per_s, double flops_per_s) {
    assert(read_bytes_per_s > 0 && flops_per_s > 0);
    *model = (struct step_model){.read_bytes_per_s = read_bytes_per_s,
                                 .flops_per_s = flops_per_s,
                                 .coefficient = {[TERM_WEIGHTS] = 1, [TERM_KV] = 1, [TERM_FLOPS] = 1},
                                 .error_median = NAN,
                                 .error_p90 = NAN,
                                 .error_of_means = NAN};
}

static double dot(const double *a, const double *b) {
    double sum = 0;
    for (int i = 0; i < STEP_MODEL_TERMS; i++) sum += a[i] * b[i];
    return sum;
}

// Coordinate descent with a floor of 0: each coefficient in turn takes its best value, given the others. It goes on
// from the last solution, which is nearly right.
static void solve(struct step_model *model) {
    enum { SWEEPS = 6 };
    static const double physics[STEP_MODEL_TERMS] = {[TERM_WEIGHTS] = 1, [TERM_KV] = 1, [TERM_FLOPS] = 1};
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (int i = 0; i < STEP_MODEL_TERMS; i++) {
            // Terms as large as the step itself have squares of 1: the prior is so many steps' worth for each.
            const double square = model->matrix[i][i] + PRIOR;
            const double rest = model->vector[i] + PRIOR * physics[i] - dot(model->matrix[i], model->coefficient) +
                                model->matrix[i][i] * model->coefficient[i];
            model->coefficient[i] = fmax(rest / square, 0);
        }
}

// Moves a running quantile so that a share q of what comes lies below it.
static void learn_quantile(double *quantile, double value, double q, double rate) {
    const double floor = 1e-6;
    if (isnan(*quantile)) *quantile = fmax(value, floor);
    *quantile = fmax(*quantile * exp(rate * (value > *quantile ? q : q - 1)), floor);
}

static void learn_error(struct step_model *model, double error) {
    const double rate = fmax(ERROR_RATE, 1 / sqrt((double)model->n_steps));
    learn_quantile(&model->error_median, error, 0.5, rate);
    learn_quantile(&model->error_p90, error, 0.9, rate);
}

static void learn_error_of_means(struct step_model *model, double seconds, double predicted_s) {
    model->block_s += seconds;
    model->block_predicted_s += predicted_s;
    if (++model->n_block < STEP_MODEL_BLOCK) return;
    model->n_blocks++;
    learn_quantile(&model->error_of_means, fabs(model->block_s / model->block_predicted_s - 1), 0.5,
                   fmax(MEANS_RATE, 1 / sqrt((double)model->n_blocks)));
    model->block_s = model->block_predicted_s = 0;
    model->n_block = 0;
}

// Ranges grow at once and shrink slowly towards what comes.
static void learn_range(double *low, double *high, double value, bool is_first) {
    if (is_first) *low = *high = value;
    *low = value < *low ? value : *low + (value - *low) * (1 - keep());
    *high = value > *high ? value : *high + (value - *high) * (1 - keep());
}

static double context_of(const struct step_work *work) {
    return work->sequences > 0 ? work->kv_bytes / work->sequences : 0;
}

void step_model_learn(struct step_model *model, const struct step_work *work, double seconds) {
    if (!(seconds > 0) || !isfinite(seconds)) return;
    double x[STEP_MODEL_TERMS];
    features(model, work, x);
    // Relative to what was predicted, not to what came: then times with a long tail are met in their mean, not in their
    // shortest.
    const double predicted = fmin(fmax(dot(x, model->coefficient), seconds / SCALE_MOST), seconds * SCALE_MOST);
    const double error = fabs(seconds / predicted - 1);
    const bool is_first = model->n_steps++ == 0;
    double weight = 1;
    if (model->n_steps > STEP_MODEL_STEPS_MIN) {
        const double far = fmax(OUTLIER * model->error_median, OUTLIER_MIN);
        if (error > far) weight = far / error;
        learn_error(model, error);
        learn_error_of_means(model, seconds, predicted);
    }
    for (int i = 0; i < STEP_MODEL_TERMS; i++) {
        for (int j = 0; j < STEP_MODEL_TERMS; j++)
            model->matrix[i][j] = keep() * model->matrix[i][j] + weight * x[i] * x[j] / (predicted * predicted);
        model->vector[i] = keep() * model->vector[i] + weight * x[i] * seconds / (predicted * predicted);
    }
    solve(model);
    learn_range(&model->rows_low, &model->rows_high, work->rows, is_first);
    learn_range(&model->sequences_low, &model->sequences_high, work->sequences, is_first);
    learn_range(&model->context_low, &model->context_high, context_of(work), is_first);
}

double step_model_least_s(const struct step_model *model, const struct step_work *work) {
    const double reading = (work->weight_bytes + work->kv_bytes) / model->read_bytes_per_s;
    const double computing = (work->linear_flops + work->attention_flops) / model->flops_per_s;
    const double head = fmax(work->head_bytes / model->read_bytes_per_s, work->head_flops / model->flops_per_s);
    return fmax(reading, computing) + head;
}

double step_model_fitted_s(const struct step_model *model, const struct step_work *work) {
    if (model->n_steps < STEP_MODEL_STEPS_MIN) return NAN;
    double x[STEP_MODEL_TERMS];
    features(model, work, x);
    return dot(x, model->coefficient);
}

static bool is_near(double value, double low, double high) {
    return value <= high * STEP_MODEL_REACH && value * STEP_MODEL_REACH >= low;
}

struct range step_model_predict_s(const struct step_model *model, const struct step_work *from, double from_s,
                                  const struct step_work *to) {
    const struct range unknown = {NAN, NAN};
    const double least = step_model_least_s(model, to), least_from = step_model_least_s(model, from);
    const double fitted = step_model_fitted_s(model, to), fitted_from = step_model_fitted_s(model, from);
    if (!(fitted > 0) || !(fitted_from > 0) || !(from_s > 0) || !(least > 0) || !(least_from > 0)) return unknown;
    if (!is_near(to->rows, model->rows_low, model->rows_high) ||
        !is_near(to->sequences, model->sequences_low, model->sequences_high) ||
        !is_near(context_of(to), model->context_low, model->context_high))
        return unknown;
    const double guesses[] = {least + fmax(from_s - least_from, 0), least * from_s / least_from,
                              fitted * from_s / fitted_from};
    struct range out = {guesses[0], guesses[0]};
    for (int i = 1; i < 3; i++) {
        out.low = fmin(out.low, guesses[i]);
        out.high = fmax(out.high, guesses[i]);
    }
    // A normal error's deviation is 1.4826 times its median.
    const double error = isnan(model->error_of_means) ? model->error_median : model->error_of_means;
    const double deviation = fmax(1.4826 * (isnan(error) ? 0 : error), DEVIATION_MIN);
    out.low *= fmax(1 - 2 * deviation, 0);
    out.high *= 1 + 2 * deviation;
    if (model->widening > 1 && out.low > 0) {
        const double middle = sqrt(out.low * out.high);
        out.low = middle * pow(out.low / middle, model->widening);
        out.high = middle * pow(out.high / middle, model->widening);
    }
    if (from_s >= least_from) out.low = fmax(out.low, least);
    return out;
}
