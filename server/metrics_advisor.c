// What the advisor knows, as gauges: use of the hardware, where the time goes, cost, and which findings there are.
#include "server/metrics_page.h"

#include "advisor/report.h"
#include "advisor/step_model.h"

#include <math.h>
#include <stdio.h>

// A family whose samples differ in two labels at most; the head is printed with the first that is known.
struct family {
    struct metrics_page *page;
    const char *name, *help;
    bool has_head;
};

static void add(struct family *family, double value, const char *labels) {
    if (!isfinite(value)) return;
    if (!family->has_head) metrics_page_head(family->page, family->name, "gauge", family->help);
    family->has_head = true;
    metrics_page_sample(family->page, family->name, labels, value);
}

static void print_use(struct metrics_page *page, const struct evidence *e) {
    const struct efficiency_figures *f = &e->efficiency;
    const struct peak_figures *p = &e->peaks;
    struct family mfu = {page, "optima_mfu_ratio", "Arithmetic over the peak, of busy time, lately.", false};
    add(&mfu, f->mfu, "phase=\"all\",of=\"measured\"");
    add(&mfu, f->mfu_decode, "phase=\"decode\",of=\"measured\"");
    add(&mfu, f->mfu_prompt, "phase=\"prompt\",of=\"measured\"");
    add(&mfu, f->mfu * p->compute.value / p->compute_datasheet.value, "phase=\"all\",of=\"datasheet\"");
    struct family mbu = {page, "optima_mbu_ratio", "Bytes read over the peak, of busy time, lately.", false};
    add(&mbu, f->mbu, "phase=\"all\",of=\"measured\"");
    add(&mbu, f->mbu_decode, "phase=\"decode\",of=\"measured\"");
    add(&mbu, f->mbu_prompt, "phase=\"prompt\",of=\"measured\"");
    add(&mbu, f->mbu * p->read.value / p->read_datasheet.value, "phase=\"all\",of=\"datasheet\"");
}

static void print_ledger(struct metrics_page *page, const struct time_ledger *ledger) {
    struct family lines = {page, "optima_time_share_ratio", "Shares of wall time by what it went to, lately.", false};
    for (int i = 0; i < TIME_LINES; i++) {
        char label[64];
        snprintf(label, sizeof label, "line=\"%s\"", time_line_name((enum time_line)i));
        add(&lines, ledger->share[i], label);
    }
}

static void print_cost(struct metrics_page *page, const struct economy *e) {
    struct family cost = {page, "optima_cost_per_million_tokens", "In the currency of --price-per-hour.", false};
    const struct {
        const char *kind;
        const struct token_cost *cost;
    } kinds[] = {{"input", &e->input}, {"cached_input", &e->cached_input}, {"output", &e->output}};
    for (int i = 0; i < 3; i++) {
        char label[64];
        snprintf(label, sizeof label, "kind=\"%s\",basis=\"marginal\"", kinds[i].kind);
        add(&cost, kinds[i].cost->marginal.value, label);
        snprintf(label, sizeof label, "kind=\"%s\",basis=\"loaded\"", kinds[i].kind);
        add(&cost, kinds[i].cost->loaded.value, label);
    }
    struct family joules = {page, "optima_joules_per_token", "Energy of a token, lately.", false};
    add(&joules, e->joules_per_input.value, "kind=\"input\"");
    add(&joules, e->joules_per_output.value, "kind=\"output\"");
    struct family watts = {page, "optima_watts", "Power of the package or board, lately.", false};
    add(&watts, e->watts.value, "");
}

static void print_findings(struct metrics_page *page, const struct diagnosis *d) {
    char label[160];
    struct family verdict = {page, "optima_bottleneck_info", "What limits the server, and how sure that is.", false};
    snprintf(label, sizeof label, "class=\"%s\",confidence=\"%s\"", bottleneck_name(d->bottleneck), d->confidence);
    add(&verdict, 1, label);
    struct family active = {page, "optima_finding_active", "Findings of the advisor that hold now.", false};
    for (int i = 0; i < d->n_findings; i++) {
        snprintf(label, sizeof label, "id=\"%s\",class=\"%s\"", d->findings[i].id,
                 bottleneck_name(d->findings[i].bottleneck));
        add(&active, 1, label);
    }
    struct family benefit = {page, "optima_finding_benefit_ratio", "Share of time that a finding would save.", false};
    for (int i = 0; i < d->n_findings; i++) {
        snprintf(label, sizeof label, "id=\"%s\"", d->findings[i].id);
        add(&benefit, d->findings[i].benefit, label);
    }
}

void metrics_page_advisor(struct metrics_page *page, const struct report *report) {
    const struct step_model *model = report->evidence.model;
    print_use(page, &report->evidence);
    print_ledger(page, &report->evidence.ledger);
    print_cost(page, &report->economy);
    struct family error = {page, "optima_step_model_error_ratio",
                           "How far predictions of step times were off: the median and nine in ten.", false};
    if (model) add(&error, model->error_median, "quantile=\"0.5\"");
    if (model) add(&error, model->error_p90, "quantile=\"0.9\"");
    print_findings(page, &report->diagnosis);
    metrics_page_value(page, "optima_predictions_total", "counter", "Predictions that an experiment has tried.",
                       report->track.n_predictions);
    metrics_page_value(page, "optima_predictions_covered_total", "counter", "Those whose range held.",
                       report->track.n_covered);
    struct family own = {page, "optima_advisor_time_ratio", "Time that measuring and advising takes.", false};
    add(&own, report->own_share, "");
}
