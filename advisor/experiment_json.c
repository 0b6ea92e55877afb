#include "advisor/experiment.h"

#include "base/json_write.h"

#include <math.h>

static void write_range(struct str *out, const char *name, struct range range) {
    if (!isfinite(range.low) || !isfinite(range.high)) {
        json_write_null(out, name);
        return;
    }
    json_write_begin(out, name, '{');
    json_write_number(out, "low", range.low);
    json_write_number(out, "high", range.high);
    json_write_end(out, '}');
}

void experiment_json(const struct experiment_state *state, struct str *out) {
    const struct experiment_plan *plan = &state->plan;
    json_write_begin(out, NULL, '{');
    json_write_text(out, "id", plan->id);
    json_write_text(out, "finding", *plan->finding ? plan->finding : NULL);
    json_write_text(out, "setting", knob_name(plan->knob));
    json_write_int(out, "value_now", plan->value_now);
    json_write_int(out, "value_new", plan->value_new);
    json_write_text(out, "metric", experiment_metric_name(plan->metric));
    json_write_text(out, "phase", experiment_phase_name(state->phase));
    json_write_int(out, "pairs", state->n_pairs);
    json_write_int(out, "pairs_max", plan->pairs_max);
    json_write_number(out, "block_s", plan->block_s);
    json_write_number(out, "min_effect", plan->min_effect);
    write_range(out, "predicted", plan->predicted);
    json_write_begin(out, "factor", '{');
    json_write_number(out, "value", state->n_pairs ? state->factor.mean : NAN);
    json_write_number(out, "low", state->factor.low > 0 ? state->factor.low : NAN); // no bound yet
    json_write_number(out, "high", state->factor.high);
    json_write_end(out, '}');
    json_write_number(out, "sign_flip_p", state->sign_flip_p);
    json_write_number(out, "regression_chance", state->regression_chance);
    json_write_int(out, "began_s", llround(state->began_s));
    if (state->phase == EXPERIMENT_RUNNING)
        json_write_null(out, "ended_s");
    else
        json_write_int(out, "ended_s", llround(state->ended_s));
    json_write_text(out, "reason", *state->reason ? state->reason : NULL);
    json_write_begin(out, "log_ratios", '[');
    for (int i = 0; i < state->n_pairs && i < EXPERIMENT_PAIRS_MAX; i++)
        json_write_number(out, NULL, state->log_ratio[i]);
    json_write_end(out, ']');
    json_write_end(out, '}');
}
