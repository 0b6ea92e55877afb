#include "tests/advisor/example_report.h"

#include "tests/advisor/example_evidence.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SAY(field, text) snprintf(field, sizeof(field), "%s", text)

static struct finding batch_too_small(void) {
    struct finding f = {
        .id = "R1",
        .name = "decode batch too small",
        .bottleneck = BOTTLENECK_BANDWIDTH,
        .line = TIME_DECODE_WEIGHTS,
        .share = 0.61,
        .benefit = 0.45,
        .facts = {{"decode_rows_mean", "rows", 8, FIGURE_MEASURED},
                  {"queue_share", "share", 0.93, FIGURE_MEASURED},
                  {"step_bytes", "bytes", 1.08e9, FIGURE_MODELLED}},
        .n_facts = 3,
        .knob = KNOB_SEQUENCES,
        .knob_value = 32,
        .has_effect = true,
        .effect = {.metric = "output_tokens_per_s",
                   .now = 59,
                   .factor = {2.4, 3.1},
                   .cap = 3.6,
                   .inputs = {{"weight_bytes", "bytes", 1e9, FIGURE_MEASURED}},
                   .n_inputs = 1},
        .n_risks = 1,
        .source = "arXiv:2503.08311",
        .confirmed = 4,
    };
    SAY(f.diagnosis, "8 of 8 sequences run in every step while 11 wait: 61 % of the time reads weights that more rows "
                     "would share.");
    SAY(f.action, "Let 32 sequences run at once.");
    SAY(f.flag, "--sequences 32");
    SAY(f.effect.method, "step time at 32 rows, additive and multiplicative bracket");
    SAY(f.risks[0], "between tokens, p50: 135 ms to 175 ms");
    SAY(f.experiment, "optima advise http://127.0.0.1:8080 --experiment R1");
    SAY(f.success, "output tokens/s: lower bound above +2 %");
    SAY(f.rollback, "POST /advisor/rollback/R1");
    SAY(f.why, "A decoding step reads every weight once, whatever the number of rows.");
    return f;
}

static struct finding cache_in_fp8(void) {
    struct finding f = {
        .id = "R12",
        .name = "KV cache in fewer bits",
        .bottleneck = BOTTLENECK_KV,
        .line = TIME_LINES,
        .share = 0.1,
        .benefit = 0.02,
        .facts = {{"kv_share", "share", 0.1, FIGURE_MEASURED}},
        .n_facts = 1,
        .knob = -1,
        .changes_numerics = true,
        .source = "arXiv:2401.18079",
        .confirmed = 3,
    };
    SAY(f.diagnosis, "The cache is <10 % of what a step \"reads\" & more.");
    SAY(f.action, "Halve the cache.");
    SAY(f.quality_gate, "optima eval: mean KL below 0.01");
    SAY(f.experiment, "optima eval MODEL --kv-format fp8");
    SAY(f.success, "perplexity within 0.5 %");
    SAY(f.why, "Half of the bytes.");
    return f;
}

static void add_sides(struct diagnosis *d) {
    d->n_suppressed = 1;
    d->suppressed[0] = (struct suppressed){.id = "R11", .name = "weights in fewer bits", .factor = {1, 1.04}};
    SAY(d->suppressed[0].reason, "weights are in 4 bits already: at most 1.04x");
    d->n_healthy = 1;
    d->healthy[0] = (struct healthy){.id = "R4", .name = "KV cache exhausted"};
    SAY(d->healthy[0].text, "recomputed tokens 0.0 % (fires above 1 %)");
    d->n_questions = 1;
    d->questions[0] = (struct question){.need = "objective_itl", .unlocks = "R2, R8"};
    SAY(d->questions[0].text, "How long may a token take to follow the one before?");
    SAY(d->questions[0].command, "--slo itl=50ms");
}

static struct token_cost token_cost(double seconds) {
    return (struct token_cost){figure_of(seconds, FIGURE_MEASURED), figure_of(seconds * 1e6 / 3600, FIGURE_MODELLED),
                               figure_of(seconds * 1e6 / 3600 * 1.25, FIGURE_MODELLED)};
}

void example_report(struct report *out) {
    memset(out, 0, sizeof *out);
    struct evidence *e = &out->evidence;
    *e = example_evidence();
    for (int i = 0; i < TIME_LINES; i++) e->ledger.share[i] = 0;
    e->ledger.share[TIME_DECODE_WEIGHTS] = 0.61;
    e->ledger.share[TIME_PROMPT] = 0.2;
    e->ledger.share[TIME_IDLE] = 0.19;
    e->ledger.sum = 1.001;
    out->made_wall_s = 1700000000;
    out->own_share = 0.002;
    out->track = (struct track_record){12, 10, 5, 3, 4};
    out->economy = (struct economy){.input = token_cost(0.001),
                                    .cached_input = token_cost(0.0001),
                                    .output = token_cost(0.01),
                                    .blended = figure_of(3, FIGURE_MODELLED),
                                    .goodput_cost = figure_unknown(),
                                    .utilisation = figure_of(0.8, FIGURE_MEASURED),
                                    .joules_per_output = figure_of(1.2, FIGURE_MODELLED),
                                    .joules_per_input = figure_of(0.1, FIGURE_MODELLED),
                                    .watts = figure_of(80, FIGURE_MEASURED)};
    struct diagnosis *d = &out->diagnosis;
    d->bottleneck = BOTTLENECK_BANDWIDTH;
    d->confidence = "high";
    SAY(d->headline, "Decode reads weights at 80 % of measured bandwidth at 8 rows (confidence: high).");
    SAY(d->why_not[0], "host: host gap 3.0 % (from 10 %)");
    d->n_why_not = 1;
    d->findings[0] = batch_too_small();
    d->findings[1] = cache_in_fp8();
    d->n_findings = 2;
    add_sides(d);
}

void example_report_empty(struct report *out) {
    memset(out, 0, sizeof *out);
    struct evidence *e = &out->evidence;
    *e = example_evidence();
    for (int i = 0; i < n_evidence_fields; i++) {
        double unknown = NAN;
        memcpy((char *)e + evidence_fields[i].offset, &unknown, sizeof unknown);
    }
    e->n_steps = 0;
    e->model = NULL;
    for (int i = 0; i < TIME_LINES; i++) e->ledger.share[i] = NAN;
    out->own_share = NAN;
    struct figure none = figure_unknown();
    struct token_cost nothing = {none, none, none};
    out->economy = (struct economy){nothing, nothing, nothing, none, none, none, none, none, none};
    out->diagnosis.bottleneck = BOTTLENECK_UNKNOWN;
    out->diagnosis.confidence = "none";
    SAY(out->diagnosis.headline, "Not enough evidence: 0 steps in 30 s (confidence: none).");
}
