// A report in the advisor's voice: the diagnosis first, then what it rests on, what to do, what would not help, and
// what is still unknown. Markdown that reads well as it is, too: tables are aligned, commands stand on lines of their
// own.
#include "advisor/report.h"

#include "advisor/step_model.h"
#include "advisor/words.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { FINDINGS_IN_FULL = 3 };

// ------------------------------------------------------------------------------------------------------------- words

struct metric_words {
    const char *metric, *title, *unit;
    bool is_time;
};

static const struct metric_words metric_table[] = {
    {"output_tokens_per_s", "output", "tokens/s", false},
    {"itl_p50_s", "between tokens, p50", "", true},
    {"itl_p99_s", "between tokens, p99", "", true},
    {"ttft_p50_s", "first token, p50", "", true},
    {"ttft_p95_s", "first token, p95", "", true},
    {"ttft_p99_s", "first token, p99", "", true},
    {"ttft_short_p99_s", "first token of short prompts, p99", "", true},
    {"cost_per_m_output", "cost of 1M output tokens", "", false},
    {"joules_per_output_token", "energy of an output token", "J", false},
    {"kv_tokens", "tokens that the KV cache holds", "", false},
    {"goodput", "requests within objectives", "1/s", false},
};

static struct metric_words words_of_metric(const char *metric) {
    for (size_t i = 0; i < sizeof metric_table / sizeof *metric_table; i++)
        if (strcmp(metric_table[i].metric, metric) == 0) return metric_table[i];
    return (struct metric_words){metric, metric, "", false};
}

static struct words value_in(const struct metric_words *metric, double value) {
    return metric->is_time ? words_seconds(value) : words_number(value);
}

// "threads 2", not "threads 2 threads".
static bool ends_with(const char *metric, const char *unit) {
    size_t n_metric = strlen(metric), n_unit = strlen(unit);
    return n_metric >= n_unit && strcmp(metric + n_metric - n_unit, unit) == 0;
}

// A fact's value with its unit, which may be one that words know.
static void append_value(struct str *out, const struct fact *f) {
    if (strcmp(f->unit, "share") == 0)
        str_append_text(out, words_percent(f->value).text);
    else if (strcmp(f->unit, "s") == 0)
        str_append_text(out, words_seconds(f->value).text);
    else if (strcmp(f->unit, "bytes") == 0)
        str_append_text(out, words_bytes(f->value).text);
    else if (strcmp(f->unit, "bytes/s") == 0)
        str_append_text(out, words_bytes_per_s(f->value).text);
    else if (strcmp(f->unit, "1/s") == 0)
        str_printf(out, "%s/s", words_number(f->value).text);
    else if (ends_with(f->metric, f->unit))
        str_append_text(out, words_number(f->value).text);
    else
        str_printf(out, "%s %s", words_number(f->value).text, f->unit);
}

static void append_facts(struct str *out, const struct fact *facts, int n) {
    for (int i = 0; i < n; i++) {
        str_append_text(out, i ? ", " : "");
        for (const char *c = facts[i].metric; *c; c++) str_append_char(out, *c == '_' ? ' ' : *c);
        str_append_char(out, ' ');
        append_value(out, &facts[i]);
        str_printf(out, " (%s)", figure_source_name(facts[i].source));
    }
}

// ---------------------------------------------------------------------------------------------------------- evidence

static void append_latency(struct str *out, const char *title, const struct latency_figures *l) {
    const struct {
        const char *name;
        double value;
    } percentiles[] = {{"p50", l->p50.mean}, {"p95", l->p95.mean}, {"p99", l->p99.mean}};
    bool any = false;
    for (int i = 0; i < 3; i++) {
        if (!isfinite(percentiles[i].value)) continue;
        str_printf(out, "%s%s %s", any ? ", " : title, percentiles[i].name, words_seconds(percentiles[i].value).text);
        any = true;
    }
    if (any) str_append_text(out, "; ");
}

static void append_use(struct str *out, const char *name, double share, struct figure peak, struct figure datasheet,
                       struct words peak_words) {
    if (!isfinite(share) || !figure_known(peak)) return;
    str_printf(out, "%s **%s** of %s (%s)", name, words_percent(share).text, peak_words.text,
               figure_source_name(peak.source));
    if (figure_known(datasheet) && peak.source != FIGURE_DATASHEET)
        str_printf(out, ", %s of the datasheet", words_percent(share * peak.value / datasheet.value).text);
    str_append_text(out, "; ");
}

// The end of a list whose parts end with "; ".
static void end_list(struct str *out) {
    if (out->n_bytes > 2 && strcmp(out->data + out->n_bytes - 2, "; ") == 0) {
        out->n_bytes -= 2;
        out->data[out->n_bytes] = 0;
    }
    str_append_text(out, ".\n");
}

static void append_rates(struct str *out, const struct load_figures *l) {
    if (isfinite(l->output_rate)) str_printf(out, "**%s** tokens/s out", words_number(l->output_rate).text);
    if (isfinite(l->input_rate)) str_printf(out, ", %s in", words_number(l->input_rate).text);
    if (l->cached_rate > 0) str_printf(out, " (and %s from the prefix cache)", words_number(l->cached_rate).text);
    if (isfinite(l->output_rate)) str_append_text(out, "; ");
    if (isfinite(l->running_mean))
        str_printf(out, "%s sequences run, %s wait; ", words_number(l->running_mean).text,
                   words_number(l->waiting_mean).text);
}

static void append_ledger(struct str *out, const struct time_ledger *ledger) {
    bool shown[TIME_LINES] = {false};
    for (int n = 0; n < 6; n++) {
        int largest = -1;
        for (int i = 0; i < TIME_LINES; i++)
            if (!shown[i] && ledger->share[i] >= 0.005 && (largest < 0 || ledger->share[i] > ledger->share[largest]))
                largest = i;
        if (largest < 0) break;
        shown[largest] = true;
        str_printf(out, "%s%s %s", n ? ", " : "", time_line_title((enum time_line)largest),
                   words_percent(ledger->share[largest]).text);
    }
    if (isfinite(ledger->sum)) str_printf(out, "; all parts sum to %s", words_percent(ledger->sum).text);
    str_append_text(out, ".\n");
}

static bool has_ledger(const struct time_ledger *ledger) {
    for (int i = 0; i < TIME_LINES; i++)
        if (ledger->share[i] >= 0.005) return true;
    return false;
}

static void append_evidence(struct str *out, const struct report *report) {
    const struct evidence *e = &report->evidence;
    const struct efficiency_figures *f = &e->efficiency;
    if (e->n_steps <= 0) return;
    int n = 1;
    str_printf(out, "\n%d. **Evidence**: %lld steps in %s; ", n++, (long long)e->n_steps,
               words_seconds(e->window_s).text);
    append_rates(out, &e->load);
    append_latency(out, "first token ", &e->ttft);
    append_latency(out, "between tokens ", &e->itl);
    append_use(out, "MBU", f->mbu, e->peaks.read, e->peaks.read_datasheet, words_bytes_per_s(e->peaks.read.value));
    append_use(out, "MFU", f->mfu, e->peaks.compute, e->peaks.compute_datasheet, words_flops(e->peaks.compute.value));
    end_list(out);
    if (has_ledger(&e->ledger)) {
        str_printf(out, "%d. **Where the time went**: ", n++);
        append_ledger(out, &e->ledger);
    }
    const struct diagnosis *d = &report->diagnosis;
    if (!d->n_why_not) return;
    str_printf(out, "%d. **Not the cause**: ", n++);
    for (int i = 0; i < d->n_why_not; i++) str_printf(out, "%s; ", d->why_not[i]);
    end_list(out);
}

// ---------------------------------------------------------------------------------------------------------- findings

static void append_effect(struct str *out, const struct effect *e) {
    struct metric_words m = words_of_metric(e->metric);
    char title[64], now[64], then[160];
    snprintf(title, sizeof title, "%s%s%s", m.title, *m.unit ? ", " : "", m.unit);
    snprintf(now, sizeof now, "%s", value_in(&m, e->now).text);
    int n = snprintf(then, sizeof then, "**%s to %s** (%s", value_in(&m, e->now * e->factor.low).text,
                     value_in(&m, e->now * e->factor.high).text, words_factors(e->factor).text);
    if (isfinite(e->cap) && n > 0 && n < (int)sizeof then)
        n += snprintf(then + n, sizeof then - (size_t)n, "; at best %s", words_factor(e->cap).text);
    if (n > 0 && n < (int)sizeof then) snprintf(then + n, sizeof then - (size_t)n, ")");
    int w_title = (int)strlen(title), w_now = (int)strlen(now) > 14 ? (int)strlen(now) : 14, w_then = (int)strlen(then);
    str_printf(out, "| %-*s | %-*s | %-*s |\n", w_title, "", w_now, "now (measured)", w_then, "predicted (modelled)");
    str_append_char(out, '|');
    const int widths[] = {w_title, w_now, w_then};
    for (int column = 0; column < 3; column++) {
        for (int i = 0; i < widths[column] + 2; i++) str_append_char(out, '-');
        str_append_char(out, '|');
    }
    str_printf(out, "\n| %-*s | %-*s | %-*s |\n\n", w_title, title, w_now, now, w_then, then);
}

static void append_item(struct str *out, const char *title, const char *text) {
    if (text && *text) str_printf(out, "- %s: %s\n", title, text);
}

static void append_command(struct str *out, const char *title, const char *command, const char *more) {
    if (!*command) return;
    str_printf(out, "- %s: `%s`", title, command);
    if (more && *more) str_printf(out, " (%s)", more);
    str_append_char(out, '\n');
}

static void append_finding(struct str *out, int number, const struct finding *f) {
    str_printf(out, "\n### Proposal %d: %s (%s)\n\n%s\n\n", number, f->name, f->id, f->diagnosis);
    if (f->has_effect) append_effect(out, &f->effect);
    if (*f->flag) str_printf(out, "    %s\n\n", f->flag);
    append_item(out, "Do", f->action);
    if (*f->flag) append_item(out, "Takes effect", f->knob >= 0 ? "live, without a restart" : "after a restart");
    if (f->n_facts) {
        str_append_text(out, "- Evidence: ");
        append_facts(out, f->facts, f->n_facts);
        str_append_char(out, '\n');
    }
    if (f->has_effect) append_item(out, "Computed by", f->effect.method);
    for (int i = 0; i < f->n_risks; i++) append_item(out, "Risk", f->risks[i]);
    append_item(out, "Answers may change; check before use", f->quality_gate);
    append_item(out, "Why", f->why);
    append_command(out, "Prove it", f->experiment, f->success);
    append_item(out, "Way back", f->rollback);
    append_item(out, "Source", f->source);
}

static void append_findings(struct str *out, const struct diagnosis *d) {
    for (int i = 0; i < d->n_findings && i < FINDINGS_IN_FULL; i++) append_finding(out, i + 1, &d->findings[i]);
    if (d->n_findings <= FINDINGS_IN_FULL) return;
    str_append_text(out, "\n### Further findings\n\n");
    for (int i = FINDINGS_IN_FULL; i < d->n_findings; i++) {
        const struct finding *f = &d->findings[i];
        str_printf(out, "- %s %s: %s", f->id, f->name, f->diagnosis);
        if (*f->flag) str_printf(out, " `%s`", f->flag);
        if (f->has_effect)
            str_printf(out, " (%s: %s)", words_of_metric(f->effect.metric).title, words_factors(f->effect.factor).text);
        str_append_char(out, '\n');
    }
}

// -------------------------------------------------------------------------------------------------- cost and the rest

static void append_cost(struct str *out, const struct economy *e) {
    bool has_money = figure_known(e->output.loaded), has_energy = figure_known(e->joules_per_output);
    if (!has_money && !has_energy) return;
    str_append_text(out, "\n### Cost\n\n");
    if (has_money) {
        const struct {
            const char *title;
            const struct token_cost *cost;
        } rows[] = {{"input", &e->input}, {"cached input", &e->cached_input}, {"output", &e->output}};
        str_printf(out, "| %-12s | %-14s | %-14s |\n|%.14s|%.16s|%.16s|\n", "1M tokens", "marginal", "fully loaded",
                   "----------------", "----------------", "----------------");
        for (int i = 0; i < 3; i++)
            str_printf(out, "| %-12s | %-14s | %-14s |\n", rows[i].title,
                       words_number(rows[i].cost->marginal.value).text, words_number(rows[i].cost->loaded.value).text);
        str_printf(out, "\nIn the currency of `--price-per-hour`; fully loaded: idle time shared out (busy %s).\n",
                   words_percent(e->utilisation.value).text);
    }
    if (has_energy)
        str_printf(out, "%sEnergy: %s J an output token at %s W.\n", has_money ? "\n" : "",
                   words_number(e->joules_per_output.value).text, words_number(e->watts.value).text);
}

static void append_not_findings(struct str *out, const struct diagnosis *d) {
    if (d->n_suppressed) str_append_text(out, "\n### Will not help\n\n");
    for (int i = 0; i < d->n_suppressed; i++)
        str_printf(out, "- %s %s: %s\n", d->suppressed[i].id, d->suppressed[i].name, d->suppressed[i].reason);
    if (d->n_healthy) str_append_text(out, "\n### Looked at, and well\n\n");
    for (int i = 0; i < d->n_healthy; i++)
        str_printf(out, "- %s %s: %s\n", d->healthy[i].id, d->healthy[i].name, d->healthy[i].text);
}

static void append_questions(struct str *out, const struct diagnosis *d) {
    if (d->n_questions) str_append_text(out, "\n### I still need\n\n");
    for (int i = 0; i < d->n_questions; i++) {
        const struct question *q = &d->questions[i];
        str_printf(out, "- %s", q->text);
        if (*q->command) str_printf(out, " `%s`", q->command);
        str_printf(out, " (unlocks: %s)\n", q->unlocks);
    }
}

static void append_record(struct str *out, const struct report *report) {
    const struct track_record *t = &report->track;
    const struct step_model *model = report->evidence.model;
    str_append_text(out, "\n### How far to trust this\n\n");
    if (t->n_predictions)
        str_printf(out, "- Predictions tried on this server: %d; measured inside the predicted range: %d.\n",
                   t->n_predictions, t->n_covered);
    else
        str_append_text(out, "- No prediction has been tried on this server yet.\n");
    if (model && isfinite(model->error_median))
        str_printf(
            out, "- Step times are predicted with a median error of %s (nine in ten within %s), over %lld steps.\n",
            words_percent(model->error_median).text, words_percent(model->error_p90).text, (long long)model->n_steps);
    if (isfinite(report->own_share))
        str_printf(out, "- Measuring and advising takes %s of the time.\n", words_percent(report->own_share).text);
}

static void append_context(struct str *out, const struct evidence *e) {
    const struct setup *s = &e->setup;
    const char *parts[] = {s->model, s->device, s->weights};
    static const char *const before[] = {"", " on ", ", weights "};
    bool any = false;
    for (int i = 0; i < 3; i++) {
        if (!parts[i] || !*parts[i]) continue;
        const char *reason = strstr(parts[i], ", because "); // why it is no other device: said when the server starts
        int n_bytes = (int)(reason ? reason - parts[i] : (ptrdiff_t)strlen(parts[i]));
        str_printf(out, "%s%.*s", any ? before[i] : "", n_bytes, parts[i]);
        any = true;
    }
    if (s->kv_format && *s->kv_format) str_printf(out, ", KV cache %s", s->kv_format);
    if (any) str_append_text(out, e->steady || e->n_steps <= 0 ? ".\n" : "; the load changed within the window.\n");
}

void report_markdown(const struct report *report, struct str *out) {
    const struct diagnosis *d = &report->diagnosis;
    str_printf(out, "## Diagnosis: %s\n\n", d->headline);
    append_context(out, &report->evidence);
    append_evidence(out, report);
    append_findings(out, d);
    append_cost(out, &report->economy);
    append_not_findings(out, d);
    append_questions(out, d);
    append_record(out, report);
}
