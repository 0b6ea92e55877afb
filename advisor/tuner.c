#include "advisor/tuner.h"

#include "advisor/tuner_watch.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFUSED_MAX = 16, CONFIRMS_MAX = 8 };
static const double day_s = 86400, exposure_s_most = 1800, exposure_s_least = 60, refused_s = 600, mix_factor = 2;
static const double confirm_after_s = 3600, confirm_again_s = 600, confirm_until_s = 90000, between_s = 60;
static const double alpha_a_day = 0.05, alpha_least = 1e-4;

// A value that a guard took back, for work like that.
struct refused {
    enum knob_id knob;
    int64_t value;
    double until_s;
    struct watch_mix mix;
    char id[16];
};

// A winner that is to be tested again.
struct confirmation {
    struct experiment_plan plan;
    double due_s, give_up_s;
};

struct tuner {
    struct tuner_options options;
    struct decisions *decisions;
    struct watch watch;
    struct experiment *experiment; // NULL: none runs
    bool by_itself;
    double widened; // predictions, when it began
    char confirms[16];
    struct experiment_plan plan; // of the experiment
    double at_s, wall_s, began_at_s, ended_at_s;
    int32_t last_number;
    struct refused refused[REFUSED_MAX];
    size_t n_refused; // ever
    struct confirmation confirmations[CONFIRMS_MAX];
    int32_t n_confirmations;
};

int tuner_open(struct tuner **out, const struct tuner_options *options, struct err *err) {
    struct tuner *t = mem_alloc_zero(1, sizeof *t);
    t->options = *options;
    t->ended_at_s = -INFINITY;
    int rc = decisions_open(&t->decisions, options->record_path, err);
    if (rc) {
        free(t);
        return rc;
    }
    t->last_number = decisions_last_number(t->decisions);
    if (decisions_n_unreadable(t->decisions))
        log_warning("the record of experiments: %lld lines cannot be read and are skipped",
                    (long long)decisions_n_unreadable(t->decisions));
    *out = t;
    return 0;
}

// --------------------------------------------------------------------------------------------------------------- ends

static int64_t present_value(const struct tuner *t, enum knob_id knob) {
    struct knobs knobs;
    t->options.knobs.read(t->options.knobs.context, &knobs);
    return knobs.knob[knob].value;
}

static void set_knob(struct tuner *t, enum knob_id knob, int64_t value) {
    if (present_value(t, knob) != value) t->options.knobs.set(t->options.knobs.context, knob, value);
}

static void record(struct tuner *t, const struct decision *decision) {
    struct err err = {0};
    if (decisions_add(t->decisions, decision, &err)) log_warning("%s", err.text);
}

static void refuse_value(struct tuner *t, const struct experiment_plan *plan) {
    struct refused *refused = &t->refused[t->n_refused++ % REFUSED_MAX];
    *refused = (struct refused){plan->knob, plan->value_new, t->at_s + refused_s, watch_mix(&t->watch), ""};
    memcpy(refused->id, plan->id, sizeof refused->id);
}

// A winner that nobody asked for must win again; the test again has the winner as the present value.
static void plan_confirmation(struct tuner *t, const struct experiment_plan *plan) {
    if (t->n_confirmations == CONFIRMS_MAX) return;
    struct confirmation *c = &t->confirmations[t->n_confirmations++];
    c->plan = (struct experiment_plan){.knob = plan->knob,
                                       .value_now = plan->value_new,
                                       .value_new = plan->value_now,
                                       .metric = plan->metric,
                                       .block_s = plan->block_s,
                                       .min_effect = plan->min_effect,
                                       .predicted = {NAN, NAN}};
    memcpy(c->plan.id, plan->id, sizeof c->plan.id);
    c->due_s = t->at_s + confirm_after_s;
    c->give_up_s = t->at_s + confirm_until_s;
}

// A winner that does not win again goes back to what was before.
static void end_confirmation(struct tuner *t, const struct experiment_state *state) {
    const bool is_confirmed = state->phase == EXPERIMENT_WORSE || state->phase == EXPERIMENT_GUARDED;
    if (is_confirmed || state->phase == EXPERIMENT_STOPPED) return;
    set_knob(t, state->plan.knob, state->plan.value_new);
    log_info("%s: the gain of %s did not show again; %s is %lld as before", state->plan.id, t->confirms,
             knob_name(state->plan.knob), (long long)state->plan.value_new);
}

static void end_experiment(struct tuner *t) {
    struct decision decision = {.by_itself = t->by_itself, .widened = t->widened};
    struct experiment_state *state = &decision.state;
    experiment_state(t->experiment, state);
    experiment_close(t->experiment);
    t->experiment = NULL;
    t->ended_at_s = t->at_s;
    memcpy(decision.confirms, t->confirms, sizeof decision.confirms);
    const bool is_kept = state->phase == EXPERIMENT_KEPT;
    set_knob(t, state->plan.knob, is_kept ? state->plan.value_new : state->plan.value_now);
    const double to_wall = t->wall_s - t->at_s;
    state->began_s = t->began_at_s + to_wall;
    state->ended_s = t->at_s + to_wall;
    log_info("experiment %s, %s %lld against %lld: %s, %s", state->plan.id, knob_name(state->plan.knob),
             (long long)state->plan.value_new, (long long)state->plan.value_now, experiment_phase_name(state->phase),
             state->reason);
    record(t, &decision);
    if (state->phase == EXPERIMENT_GUARDED) refuse_value(t, &state->plan);
    watch_restart(&t->watch); // two values in turn are no steady load
    if (*t->confirms)
        end_confirmation(t, state);
    else if (is_kept && t->by_itself)
        plan_confirmation(t, &state->plan);
}

void tuner_close(struct tuner *t) {
    if (!t) return;
    if (t->experiment) {
        experiment_stop(t->experiment);
        end_experiment(t);
    }
    decisions_close(t->decisions);
    free(t);
}

// -------------------------------------------------------------------------------------------------------------- begin

static int check_knob(const struct tuner *t, struct experiment_plan *plan, struct err *err) {
    struct knobs knobs;
    if ((unsigned)plan->knob >= KNOBS) return err_set(err, ERR_INVALID, "there is no such setting");
    t->options.knobs.read(t->options.knobs.context, &knobs);
    const struct knob *knob = &knobs.knob[plan->knob];
    const char *name = knob_name(plan->knob);
    if (!knob->available) return err_set(err, ERR_INVALID, "%s cannot be set on this server while it runs", name);
    if (plan->value_new < knob->low || plan->value_new > knob->high)
        return err_set(err, ERR_INVALID, "%s must be from %lld to %lld", name, (long long)knob->low,
                       (long long)knob->high);
    plan->value_now = knob->value;
    if (plan->value_new == knob->value)
        return err_set(err, ERR_INVALID, "%s is %lld already", name, (long long)knob->value);
    return 0;
}

static bool is_alike(struct watch_mix a, struct watch_mix b) {
    return !(fabs(log(a.prompt / b.prompt)) > log(mix_factor)) && !(fabs(log(a.answer / b.answer)) > log(mix_factor));
}

static int check_refused(const struct tuner *t, const struct experiment_plan *plan, struct err *err) {
    const struct watch_mix mix = watch_mix(&t->watch);
    for (size_t i = 0; i < REFUSED_MAX && i < t->n_refused; i++) {
        const struct refused *r = &t->refused[i];
        if (r->knob == plan->knob && r->value == plan->value_new && r->until_s > t->at_s && is_alike(r->mix, mix))
            return err_set(err, ERR_INVALID,
                           "a guard took %s %lld back in experiment %s; with such requests it may be tried again in "
                           "%.0f min",
                           knob_name(plan->knob), (long long)plan->value_new, r->id, ceil((r->until_s - t->at_s) / 60));
    }
    return 0;
}

static double exposure_today(const struct tuner *t) {
    double sum = 0;
    for (size_t i = 0; i < decisions_count(t->decisions); i++) {
        const struct experiment_state *state = &decisions_at(t->decisions, i)->state;
        if (state->ended_s > t->wall_s - day_s) sum += state->exposure_s;
    }
    return sum;
}

static int check_exposure(const struct tuner *t, struct experiment_plan *plan, struct err *err) {
    const double left_s = exposure_s_most - exposure_today(t);
    if (left_s < exposure_s_least)
        return err_set(err, ERR_INVALID,
                       "experiments have had tried values set for %.0f minutes of the last 24 hours, which is the most",
                       exposure_s_most / 60);
    if (!(plan->exposure_max_s > 0) || plan->exposure_max_s > left_s) plan->exposure_max_s = left_s;
    return 0;
}

static void number_plan(struct tuner *t, struct experiment_plan *plan) {
    snprintf(plan->id, sizeof plan->id, "x%d", ++t->last_number);
    if (!plan->seed) plan->seed = rng_mix64((uint64_t)t->last_number ^ (uint64_t)t->wall_s << 20);
}

int tuner_check_mode(enum self_tune mode, struct err *err) {
    if (mode != SELF_TUNE_OFF) return 0;
    return err_set(err, ERR_UNSUPPORTED, "experiments are off; start the server with --self-tune suggest or auto");
}

int tuner_begin(struct tuner *t, struct experiment_plan *plan, struct err *err) {
    int rc = tuner_check_mode(t->options.mode, err);
    if (rc) return rc;
    if (t->experiment) return err_set(err, ERR_BUSY, "experiment %s is running", t->plan.id);
    rc = check_knob(t, plan, err);
    if (rc) return rc;
    struct experiment_before before = {.objective_itl_s = t->options.objective_itl,
                                       .objective_ttft_s = t->options.objective_ttft};
    rc = check_refused(t, plan, err);
    if (!rc) rc = check_exposure(t, plan, err);
    if (!rc) rc = watch_check(&t->watch, err);
    if (rc) return rc;
    watch_before(&t->watch, &before);
    number_plan(t, plan);
    rc = experiment_open(&t->experiment, plan, &before, err);
    if (rc) {
        t->last_number--;
        return rc;
    }
    t->plan = *plan;
    t->by_itself = false;
    t->widened = decisions_widening(t->decisions);
    t->confirms[0] = 0;
    t->began_at_s = t->at_s;
    log_info("experiment %s: %s %lld against %lld", plan->id, knob_name(plan->knob), (long long)plan->value_new,
             (long long)plan->value_now);
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------- auto

static int64_t n_by_itself_today(const struct tuner *t) {
    int64_t n = 0;
    for (size_t i = 0; i < decisions_count(t->decisions); i++) {
        const struct decision *d = decisions_at(t->decisions, i);
        n += d->by_itself && !*d->confirms && d->state.ended_s > t->wall_s - day_s;
    }
    return n;
}

// Whatever the number of experiments, the day's false discoveries stay below alpha_a_day: 1/2 + 1/6 + 1/12 + ... is 1.
static double alpha_of_next(const struct tuner *t) {
    const double k = (double)n_by_itself_today(t) + 1;
    return fmax(alpha_a_day / (k * (k + 1)), alpha_least);
}

static bool was_tried_today(const struct tuner *t, enum knob_id knob, int64_t value) {
    for (size_t i = 0; i < decisions_count(t->decisions); i++) {
        const struct experiment_state *state = &decisions_at(t->decisions, i)->state;
        if (state->plan.knob == knob && state->plan.value_new == value && state->ended_s > t->wall_s - day_s)
            return true;
    }
    return false;
}

void tuner_consider(struct tuner *t, const struct diagnosis *diagnosis) {
    if (t->options.mode != SELF_TUNE_AUTO || t->experiment || t->at_s - t->ended_at_s < between_s) return;
    for (int i = 0; i < diagnosis->n_findings; i++) {
        const struct finding *f = &diagnosis->findings[i];
        const int metric = f->has_effect ? experiment_metric_find(f->effect.metric) : -1;
        if (f->knob < 0 || metric < 0 || f->changes_numerics) continue;
        if (was_tried_today(t, (enum knob_id)f->knob, f->knob_value)) continue;
        struct experiment_plan plan = {.knob = (enum knob_id)f->knob,
                                       .value_new = f->knob_value,
                                       .metric = (enum experiment_metric)metric,
                                       .predicted = f->effect.factor,
                                       .alpha = alpha_of_next(t)};
        snprintf(plan.finding, sizeof plan.finding, "%s", f->id);
        struct err err = {0};
        if (tuner_begin(t, &plan, &err) == 0)
            t->by_itself = true;
        else
            log_debug("no experiment for %s: %s", f->id, err.text);
        return; // the first that can be tried, now or at another time
    }
}

static void confirm_what_is_due(struct tuner *t) {
    if (t->experiment || !t->n_confirmations || t->at_s < t->confirmations[0].due_s) return;
    struct confirmation c = t->confirmations[0];
    memmove(t->confirmations, t->confirmations + 1, (size_t)--t->n_confirmations * sizeof c);
    // Somebody has taken the winner back since, or nothing can be compared for a day.
    if (present_value(t, c.plan.knob) != c.plan.value_now || t->at_s >= c.give_up_s) return;
    struct experiment_plan plan = c.plan;
    struct err err = {0};
    if (tuner_begin(t, &plan, &err) == 0) {
        t->by_itself = true;
        memcpy(t->confirms, c.plan.id, sizeof t->confirms);
        return;
    }
    log_debug("%s is not tested again now: %s", c.plan.id, err.text);
    c.due_s = t->at_s + confirm_again_s;
    t->confirmations[t->n_confirmations++] = c;
}

// --------------------------------------------------------------------------------------------------------------- time

void tuner_note_steps(struct tuner *t, const struct step_record *records, size_t n) {
    watch_steps(&t->watch, records, n);
}

void tuner_note_requests(struct tuner *t, const struct request_trace *traces, size_t n) {
    watch_requests(&t->watch, traces, n);
}

void tuner_note_gaps(struct tuner *t, const float *seconds, size_t n) {
    watch_gaps(&t->watch, seconds, n);
}

void tuner_tick(struct tuner *t, double at_s, double wall_s, const struct advisor_sample *sample, bool throttled) {
    struct experiment_sample second;
    t->at_s = at_s;
    t->wall_s = wall_s;
    const bool is_whole = watch_end_second(&t->watch, at_s, sample, t->options.n_blocks, throttled, &second);
    if (t->experiment && is_whole) {
        const int64_t value = experiment_tick(t->experiment, &second);
        if (experiment_is_running(t->experiment))
            set_knob(t, t->plan.knob, value);
        else
            end_experiment(t);
    }
    confirm_what_is_due(t);
}

// ---------------------------------------------------------------------------------------------------------------- ask

// A value that was kept goes back to what was before it.
static int take_back(struct tuner *t, const struct decision *decision, struct err *err) {
    const struct experiment_plan *plan = &decision->state.plan;
    const int64_t value = present_value(t, plan->knob);
    if (t->experiment && t->plan.knob == plan->knob)
        return err_set(err, ERR_BUSY, "experiment %s of the same setting is running", t->plan.id);
    if (decision->state.phase != EXPERIMENT_KEPT)
        return err_set(err, ERR_INVALID, "experiment %s has ended (%s), and %s is back already", plan->id,
                       experiment_phase_name(decision->state.phase), knob_name(plan->knob));
    if (value != plan->value_new)
        return err_set(err, ERR_INVALID, "%s is %lld and no longer the %lld of experiment %s", knob_name(plan->knob),
                       (long long)value, (long long)plan->value_new, plan->id);
    struct knobs knobs;
    t->options.knobs.read(t->options.knobs.context, &knobs);
    const struct knob *knob = &knobs.knob[plan->knob];
    if (!knob->available || plan->value_now < knob->low || plan->value_now > knob->high)
        return err_set(err, ERR_INVALID, "%s cannot be %lld on this server", knob_name(plan->knob),
                       (long long)plan->value_now);
    struct decision back = *decision;
    back.state.phase = EXPERIMENT_STOPPED;
    back.state.began_s = back.state.ended_s = t->wall_s;
    back.state.exposure_s = 0;
    snprintf(back.state.reason, sizeof back.state.reason, "the value that was kept is taken back on request");
    set_knob(t, plan->knob, plan->value_now);
    record(t, &back);
    return 0;
}

int tuner_stop(struct tuner *t, const char *id, struct err *err) {
    if (t->experiment && strcmp(t->plan.id, id) == 0) {
        experiment_stop(t->experiment);
        end_experiment(t);
        return 0;
    }
    for (size_t i = 0; i < decisions_count(t->decisions); i++) {
        const struct decision *decision = decisions_at(t->decisions, i);
        if (strcmp(decision->state.plan.id, id) == 0) return take_back(t, decision, err);
    }
    return err_set(err, ERR_NOT_FOUND, "there is no experiment %s", id);
}

size_t tuner_experiments(const struct tuner *t, struct experiment_state *out, size_t n) {
    size_t count = 0;
    if (t->experiment && n) {
        experiment_state(t->experiment, &out[count]);
        out[count++].began_s = t->began_at_s + t->wall_s - t->at_s;
    }
    for (size_t i = 0; i < decisions_count(t->decisions) && count < n; i++)
        out[count++] = decisions_at(t->decisions, i)->state;
    return count;
}

const struct decisions *tuner_decisions(const struct tuner *t) {
    return t->decisions;
}
