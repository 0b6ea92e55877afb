// A report as JSON: tests/advisor/schema.json says what stands where. A number that the advisor computed or measured is
// an object with its value, unit and source; what is not known is null with the source "unknown".
#include "advisor/report.h"

#include "advisor/step_model.h"
#include "base/json_write.h"

#include <math.h>

static void figure(struct str *out, const char *name, struct figure f, const char *unit) {
    json_write_begin(out, name, '{');
    json_write_number(out, "value", f.value);
    json_write_text(out, "unit", unit);
    json_write_text(out, "source", figure_source_name(isfinite(f.value) ? f.source : FIGURE_UNKNOWN));
    json_write_end(out, '}');
}

static void measured(struct str *out, const char *name, double value, const char *unit) {
    figure(out, name, figure_of(value, FIGURE_MEASURED), unit);
}

static void modelled(struct str *out, const char *name, double value, const char *unit) {
    figure(out, name, figure_of(value, FIGURE_MODELLED), unit);
}

static void range(struct str *out, const char *name, struct range r) {
    if (!isfinite(r.low) || !isfinite(r.high)) {
        json_write_null(out, name);
        return;
    }
    json_write_begin(out, name, '{');
    json_write_number(out, "low", r.low);
    json_write_number(out, "high", r.high);
    json_write_end(out, '}');
}

static void fact(struct str *out, const struct fact *f) {
    json_write_begin(out, NULL, '{');
    json_write_text(out, "metric", f->metric);
    json_write_number(out, "value", f->value);
    json_write_text(out, "unit", f->unit);
    json_write_text(out, "source", figure_source_name(isfinite(f->value) ? f->source : FIGURE_UNKNOWN));
    json_write_end(out, '}');
}

// ----------------------------------------------------------------------------------------------------------- context

static void settings(struct str *out, const struct knobs *knobs) {
    json_write_begin(out, "settings", '[');
    for (int i = 0; i < KNOBS; i++) {
        const struct knob *k = &knobs->knob[i];
        if (!k->available) continue;
        json_write_begin(out, NULL, '{');
        json_write_text(out, "name", knob_name((enum knob_id)i));
        json_write_text(out, "flag", k->flag);
        json_write_int(out, "value", k->value);
        json_write_int(out, "low", k->low);
        json_write_int(out, "high", k->high);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
}

static void context(struct str *out, const struct evidence *e) {
    const struct setup *s = &e->setup;
    json_write_begin(out, "context", '{');
    json_write_text(out, "model", s->model);
    json_write_text(out, "device", s->device);
    json_write_bool(out, "is_gpu", s->is_gpu);
    json_write_text(out, "weights", s->weights);
    json_write_text(out, "kv_format", s->kv_format);
    json_write_text(out, "build", s->build);
    json_write_number(out, "parameters", s->parameters);
    json_write_number(out, "weight_bytes", s->weight_bytes);
    json_write_number(out, "kv_bytes_per_token", s->kv_bytes_per_token);
    json_write_number(out, "flops_per_token", s->flops_per_token);
    json_write_int(out, "layers", s->n_layers);
    json_write_int(out, "context_tokens", s->context);
    json_write_int(out, "rows_max", s->rows_max);
    json_write_int(out, "sequences_max", s->sequences_max);
    json_write_int(out, "block_tokens", s->block_tokens);
    json_write_int(out, "blocks", s->n_blocks);
    json_write_int(out, "threads", e->machine.threads);
    json_write_bool(out, "prefix_cache", s->has_prefix_cache);
    json_write_bool(out, "speculates", s->speculates);
    settings(out, &s->knobs);
    figure(out, "price_per_hour", s->price_per_hour, "money/h");
    figure(out, "objective_ttft", s->objective_ttft, "s");
    figure(out, "objective_itl", s->objective_itl, "s");
    json_write_end(out, '}');
}

// ---------------------------------------------------------------------------------------------------------- measured

static void percentile(struct str *out, const char *name, const struct interval *x) {
    json_write_begin(out, name, '{');
    json_write_number(out, "value", x->mean);
    json_write_number(out, "low", x->low);
    json_write_number(out, "high", x->high);
    json_write_text(out, "unit", "s");
    json_write_text(out, "source", figure_source_name(isfinite(x->mean) ? FIGURE_MEASURED : FIGURE_UNKNOWN));
    json_write_end(out, '}');
}

static void latency(struct str *out, const char *name, const struct latency_figures *l) {
    json_write_begin(out, name, '{');
    json_write_int(out, "n", l->n);
    percentile(out, "p50", &l->p50);
    percentile(out, "p95", &l->p95);
    percentile(out, "p99", &l->p99);
    json_write_end(out, '}');
}

// A share of a measured peak, as a share of what the maker says.
static double of_datasheet(double share, struct figure peak, struct figure datasheet) {
    return share * peak.value / datasheet.value;
}

static void efficiency(struct str *out, const struct evidence *e) {
    const struct efficiency_figures *f = &e->efficiency;
    const struct peak_figures *p = &e->peaks;
    json_write_begin(out, "efficiency", '{');
    json_write_text(out, "convention", "causal_exact");
    json_write_text(out, "of", "measured peaks, over busy time");
    measured(out, "mfu", f->mfu, "share");
    measured(out, "mfu_decode", f->mfu_decode, "share");
    measured(out, "mfu_prompt", f->mfu_prompt, "share");
    measured(out, "mbu", f->mbu, "share");
    measured(out, "mbu_decode", f->mbu_decode, "share");
    measured(out, "mbu_prompt", f->mbu_prompt, "share");
    figure(out, "mfu_of_datasheet", figure_of(of_datasheet(f->mfu, p->compute, p->compute_datasheet), FIGURE_DATASHEET),
           "share");
    figure(out, "mbu_of_datasheet", figure_of(of_datasheet(f->mbu, p->read, p->read_datasheet), FIGURE_DATASHEET),
           "share");
    measured(out, "mfu_palm", f->mfu_palm, "share");
    measured(out, "kv_share_of_bytes", f->kv_share, "share");
    measured(out, "decode_rows_mean", f->decode_rows_mean, "rows");
    measured(out, "context_mean", f->context_mean, "tokens");
    measured(out, "decode_step", f->decode_s_mean, "s");
    json_write_end(out, '}');
}

static void peaks(struct str *out, const struct peak_figures *p) {
    json_write_begin(out, "peaks", '{');
    figure(out, "read", p->read, "bytes/s");
    figure(out, "read_datasheet", p->read_datasheet, "bytes/s");
    figure(out, "compute", p->compute, "FLOP/s");
    figure(out, "compute_datasheet", p->compute_datasheet, "FLOP/s");
    json_write_text(out, "compute_unit", p->compute_unit);
    json_write_end(out, '}');
}

static void load(struct str *out, const struct load_figures *l) {
    json_write_begin(out, "load", '{');
    json_write_int(out, "arrived", l->n_arrived);
    json_write_int(out, "finished", l->n_finished);
    json_write_int(out, "rejected", l->n_rejected);
    json_write_int(out, "failed", l->n_failed);
    measured(out, "arrival_rate", l->arrival_rate, "requests/s");
    measured(out, "input_rate", l->input_rate, "tokens/s");
    measured(out, "cached_rate", l->cached_rate, "tokens/s");
    measured(out, "output_rate", l->output_rate, "tokens/s");
    measured(out, "running_mean", l->running_mean, "sequences");
    measured(out, "waiting_mean", l->waiting_mean, "sequences");
    measured(out, "queue_share", l->queue_share, "share");
    measured(out, "prompt_tokens_mean", l->prompt_tokens_mean, "tokens");
    measured(out, "cached_tokens_mean", l->cached_tokens_mean, "tokens");
    measured(out, "output_tokens_mean", l->output_tokens_mean, "tokens");
    json_write_end(out, '}');
}

static void cache(struct str *out, const struct cache_figures *c) {
    json_write_begin(out, "kv", '{');
    measured(out, "occupancy", c->occupancy, "share");
    measured(out, "occupancy_max", c->occupancy_max, "share");
    measured(out, "waste", c->waste_share, "share");
    json_write_int(out, "preemptions", c->n_preemptions);
    measured(out, "recomputed", c->recomputed_tokens, "tokens");
    measured(out, "prefix_hit_rate", c->queries > 0 ? c->hits / c->queries : NAN, "share");
    measured(out, "free_memory", c->free_memory_bytes, "bytes");
    json_write_end(out, '}');
}

static void machine(struct str *out, const struct evidence *e) {
    const struct machine_figures *m = &e->machine;
    const struct host_figures *h = &e->host;
    json_write_begin(out, "machine", '{');
    json_write_int(out, "physical_cores", m->physical_cores);
    measured(out, "quota", m->quota_cores, "cores");
    measured(out, "affinity", m->affinity_cores, "cores");
    measured(out, "waiting_for_core", m->wait_share, "share");
    measured(out, "throttled", m->throttled_share, "share");
    measured(out, "frequency", m->frequency_share, "share");
    measured(out, "major_faults", m->major_faults, "1/s");
    measured(out, "other_processes", m->other_cpu_share, "share");
    measured(out, "resident", m->resident_bytes, "bytes");
    measured(out, "available", m->available_bytes, "bytes");
    measured(out, "watts", m->watts, "W");
    measured(out, "host_gap", h->gap_share, "share");
    measured(out, "http_thread_busy", h->loop_busy_share, "share");
    measured(out, "text_threads_busy", h->text_busy_share, "share");
    json_write_end(out, '}');
}

static void step_model(struct str *out, const struct step_model *model) {
    if (!model) {
        json_write_null(out, "step_model");
        return;
    }
    json_write_begin(out, "step_model", '{');
    json_write_int(out, "steps", model->n_steps);
    measured(out, "error_median", model->error_median, "share");
    measured(out, "error_p90", model->error_p90, "share");
    measured(out, "error_of_means", model->error_of_means, "share");
    json_write_end(out, '}');
}

static void all_measured(struct str *out, const struct evidence *e) {
    json_write_begin(out, "measured", '{');
    load(out, &e->load);
    json_write_begin(out, "latency", '{');
    latency(out, "ttft", &e->ttft);
    latency(out, "itl", &e->itl);
    latency(out, "e2e", &e->e2e);
    latency(out, "queue", &e->queue);
    json_write_end(out, '}');
    efficiency(out, e);
    peaks(out, &e->peaks);
    cache(out, &e->cache);
    machine(out, e);
    step_model(out, e->model);
    json_write_end(out, '}');
}

// -------------------------------------------------------------------------------------------------- cost and ledger

static void token_cost(struct str *out, const char *name, const struct token_cost *cost) {
    json_write_begin(out, name, '{');
    figure(out, "device_time", cost->seconds, "s/token");
    figure(out, "marginal", cost->marginal, "money/1M tokens");
    figure(out, "loaded", cost->loaded, "money/1M tokens");
    json_write_end(out, '}');
}

static void cost(struct str *out, const struct economy *e) {
    json_write_begin(out, "cost", '{');
    token_cost(out, "input", &e->input);
    token_cost(out, "cached_input", &e->cached_input);
    token_cost(out, "output", &e->output);
    figure(out, "blended", e->blended, "money/1M tokens");
    figure(out, "goodput", e->goodput_cost, "money/1M tokens");
    figure(out, "utilisation", e->utilisation, "share");
    figure(out, "joules_per_output", e->joules_per_output, "J/token");
    figure(out, "joules_per_input", e->joules_per_input, "J/token");
    figure(out, "watts", e->watts, "W");
    json_write_end(out, '}');
}

static void ledger(struct str *out, const char *name, const struct time_ledger *l) {
    json_write_begin(out, name, '{');
    json_write_number(out, "sum", l->sum);
    json_write_text(out, "source", figure_source_name(isfinite(l->sum) ? FIGURE_MEASURED : FIGURE_UNKNOWN));
    json_write_begin(out, "lines", '[');
    for (int i = 0; i < TIME_LINES; i++) {
        json_write_begin(out, NULL, '{');
        json_write_text(out, "line", time_line_name((enum time_line)i));
        json_write_text(out, "title", time_line_title((enum time_line)i));
        json_write_number(out, "share", l->share[i]);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
    json_write_end(out, '}');
}

// ---------------------------------------------------------------------------------------------------------- findings

static void effect(struct str *out, const struct finding *f) {
    const struct effect *e = &f->effect;
    if (!f->has_effect) {
        json_write_null(out, "effect");
        return;
    }
    json_write_begin(out, "effect", '{');
    json_write_text(out, "metric", e->metric);
    json_write_number(out, "now", e->now);
    json_write_number(out, "low", e->now * e->factor.low);
    json_write_number(out, "high", e->now * e->factor.high);
    range(out, "factor", e->factor);
    json_write_number(out, "cap", e->cap);
    json_write_text(out, "source", figure_source_name(FIGURE_MODELLED));
    json_write_text(out, "method", e->method);
    json_write_begin(out, "inputs", '[');
    for (int i = 0; i < e->n_inputs; i++) fact(out, &e->inputs[i]);
    json_write_end(out, ']');
    json_write_end(out, '}');
}

static void text_or_null(struct str *out, const char *name, const char *text) {
    json_write_text(out, name, text && *text ? text : NULL);
}

static void suggestion(struct str *out, const struct finding *f) {
    json_write_begin(out, "suggest", '{');
    json_write_text(out, "action", f->action);
    text_or_null(out, "flag", f->flag);
    json_write_bool(out, "live", f->knob >= 0);
    json_write_text(out, "setting", f->knob >= 0 ? knob_name((enum knob_id)f->knob) : NULL);
    if (f->knob >= 0)
        json_write_int(out, "value", f->knob_value);
    else
        json_write_null(out, "value");
    json_write_end(out, '}');
}

static void finding(struct str *out, const struct finding *f) {
    json_write_begin(out, NULL, '{');
    json_write_text(out, "id", f->id);
    json_write_text(out, "name", f->name);
    json_write_text(out, "class", bottleneck_name(f->bottleneck));
    json_write_text(out, "ledger_line", f->line < TIME_LINES ? time_line_name(f->line) : NULL);
    json_write_number(out, "impact_share", f->share);
    json_write_number(out, "benefit", f->benefit);
    json_write_int(out, "confirmed", f->confirmed);
    json_write_text(out, "diagnosis", f->diagnosis);
    json_write_begin(out, "evidence", '[');
    for (int i = 0; i < f->n_facts; i++) fact(out, &f->facts[i]);
    json_write_end(out, ']');
    suggestion(out, f);
    effect(out, f);
    json_write_begin(out, "risks", '[');
    for (int i = 0; i < f->n_risks; i++) json_write_text(out, NULL, f->risks[i]);
    json_write_end(out, ']');
    json_write_bool(out, "changes_numerics", f->changes_numerics);
    text_or_null(out, "quality_gate", f->quality_gate);
    json_write_begin(out, "experiment", '{');
    text_or_null(out, "command", f->experiment);
    text_or_null(out, "success", f->success);
    json_write_end(out, '}');
    text_or_null(out, "rollback", f->rollback);
    text_or_null(out, "teach", f->why);
    text_or_null(out, "source", f->source);
    json_write_end(out, '}');
}

static void verdict(struct str *out, const struct diagnosis *d) {
    json_write_begin(out, "verdict", '{');
    json_write_text(out, "class", bottleneck_name(d->bottleneck));
    json_write_text(out, "headline", d->headline);
    json_write_text(out, "confidence", d->confidence);
    json_write_begin(out, "why_not", '[');
    for (int i = 0; i < d->n_why_not; i++) json_write_text(out, NULL, d->why_not[i]);
    json_write_end(out, ']');
    json_write_end(out, '}');
}

static void not_findings(struct str *out, const struct diagnosis *d) {
    json_write_begin(out, "healthy", '[');
    for (int i = 0; i < d->n_healthy; i++) {
        json_write_begin(out, NULL, '{');
        json_write_text(out, "id", d->healthy[i].id);
        json_write_text(out, "name", d->healthy[i].name);
        json_write_text(out, "text", d->healthy[i].text);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
    json_write_begin(out, "suppressed", '[');
    for (int i = 0; i < d->n_suppressed; i++) {
        json_write_begin(out, NULL, '{');
        json_write_text(out, "id", d->suppressed[i].id);
        json_write_text(out, "name", d->suppressed[i].name);
        json_write_text(out, "reason", d->suppressed[i].reason);
        range(out, "factor", d->suppressed[i].factor);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
    json_write_begin(out, "questions", '[');
    for (int i = 0; i < d->n_questions; i++) {
        json_write_begin(out, NULL, '{');
        json_write_text(out, "need", d->questions[i].need);
        json_write_text(out, "text", d->questions[i].text);
        text_or_null(out, "command", d->questions[i].command);
        json_write_text(out, "unlocks", d->questions[i].unlocks);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
}

static void track_record(struct str *out, const struct track_record *t) {
    json_write_begin(out, "track_record", '{');
    json_write_int(out, "predictions", t->n_predictions);
    json_write_int(out, "covered", t->n_covered);
    json_write_int(out, "kept", t->n_kept);
    json_write_int(out, "rolled_back", t->n_rolled_back);
    json_write_int(out, "no_difference", t->n_no_difference);
    json_write_end(out, '}');
}

static void window(struct str *out, const struct report *report) {
    const struct evidence *e = &report->evidence;
    json_write_int(out, "schema", REPORT_SCHEMA);
    json_write_int(out, "made_at", report->made_wall_s);
    json_write_number(out, "window_s", e->window_s);
    json_write_number(out, "busy_s", e->busy_s);
    json_write_int(out, "steps", e->n_steps);
    json_write_bool(out, "steady", e->steady);
}

void report_json(const struct report *report, struct str *out) {
    const struct diagnosis *d = &report->diagnosis;
    json_write_begin(out, NULL, '{');
    window(out, report);
    verdict(out, d);
    context(out, &report->evidence);
    all_measured(out, &report->evidence);
    cost(out, &report->economy);
    ledger(out, "ledger", &report->evidence.ledger);
    json_write_begin(out, "findings", '[');
    for (int i = 0; i < d->n_findings; i++) finding(out, &d->findings[i]);
    json_write_end(out, ']');
    not_findings(out, d);
    track_record(out, &report->track);
    measured(out, "own_cost", report->own_share, "share");
    json_write_end(out, '}');
    json_write_close(out);
}

void report_ledger_json(const struct report *report, struct str *out) {
    json_write_begin(out, NULL, '{');
    window(out, report);
    ledger(out, "ledger", &report->evidence.ledger);
    json_write_end(out, '}');
    json_write_close(out);
}

// ---------------------------------------------------------------------------------------------------------- roofline

static void phase(struct str *out, const char *name, const struct peak_figures *p, double mfu, double mbu,
                  double time_share) {
    double flops = mfu * p->compute.value, bytes = mbu * p->read.value;
    if (!isfinite(flops) || !isfinite(bytes) || bytes <= 0) return;
    json_write_begin(out, NULL, '{');
    json_write_text(out, "phase", name);
    modelled(out, "intensity", flops / bytes, "FLOP/byte");
    measured(out, "achieved", flops, "FLOP/s");
    measured(out, "read", bytes, "bytes/s");
    measured(out, "mfu", mfu, "share");
    measured(out, "mbu", mbu, "share");
    measured(out, "busy_share", time_share, "share");
    json_write_end(out, '}');
}

void report_roofline_json(const struct report *report, struct str *out) {
    const struct evidence *e = &report->evidence;
    const struct efficiency_figures *f = &e->efficiency;
    json_write_begin(out, NULL, '{');
    window(out, report);
    json_write_text(out, "convention", "causal_exact");
    peaks(out, &e->peaks);
    modelled(out, "ridge", e->peaks.compute.value / e->peaks.read.value, "FLOP/byte");
    json_write_begin(out, "phases", '[');
    phase(out, "decode", &e->peaks, f->mfu_decode, f->mbu_decode, f->decode_time_share);
    phase(out, "prompt", &e->peaks, f->mfu_prompt, f->mbu_prompt, 1 - f->decode_time_share);
    phase(out, "all", &e->peaks, f->mfu, f->mbu, 1);
    json_write_end(out, ']');
    json_write_end(out, '}');
    json_write_close(out);
}
