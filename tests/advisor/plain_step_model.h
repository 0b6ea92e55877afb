// A step model that hand-worked arithmetic can follow, in place of the fitted one: the longer of reading and computing,
// with the excess that was measured added or multiplied. To be included by one file of a test.
#pragma once

#include "advisor/step_model.h"

#include <math.h>

double step_model_least_s(const struct step_model *model, const struct step_work *work) {
    double bytes = work->weight_bytes + work->head_bytes + work->kv_bytes;
    double flops = work->linear_flops + work->attention_flops + work->head_flops;
    return fmax(bytes / model->read_bytes_per_s, flops / model->flops_per_s);
}

struct range step_model_predict_s(const struct step_model *model, const struct step_work *from, double from_s,
                                  const struct step_work *to) {
    if (to->rows > 4 * model->rows_high) return (struct range){NAN, NAN};
    double here = step_model_least_s(model, from), there = step_model_least_s(model, to);
    double added = there + from_s - here, multiplied = there * from_s / here;
    return (struct range){fmin(added, multiplied), fmax(added, multiplied)};
}
