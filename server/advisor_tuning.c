// Experiments over HTTP: GET and POST /advisor/experiments, POST /advisor/rollback/ID.
#include "server/server_state.h"

#include "advisor/advisor.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXPERIMENTS_SHOWN = 20, PAIRS_MIN = 6, REPORT_WINDOW_S = 300 };
static const double block_s_min = 1, block_s_max = 600, effect_max = 1;

static const struct {
    int code, status;
    const char *name;
} refusals[] = {
    {ERR_BUSY, 409, "experiment_running"},
    {ERR_UNSUPPORTED, 403, "self_tune_off"},
    {ERR_NOT_FOUND, 404, "no_such_experiment"},
    {ERR_INVALID, 400, "invalid_value"},
};

// The advisor's reasons name settings, numbers and flags of our own.
static void reply_refusal(struct http_exchange *exchange, const struct err *err) {
    struct api_error error = {0};
    int status = 500;
    const char *code = NULL;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (refusals[i].code == err->code) status = refusals[i].status, code = refusals[i].name;
    const size_t n = strlen(err->text);
    api_error_set(&error, status, code, NULL, "%s%s", err->text, n && err->text[n - 1] == '.' ? "" : ".");
    server_reply_error(exchange, &error);
}

static void reply_experiments(struct http_exchange *exchange, struct advisor *advisor, size_t n_max) {
    struct experiment_state *states = mem_alloc(EXPERIMENTS_SHOWN * sizeof *states);
    size_t n = advisor_experiments(advisor, states, n_max);
    struct str out = STR_INIT;
    json_write_begin(&out, NULL, '{');
    json_write_int(&out, "schema", REPORT_SCHEMA);
    json_write_begin(&out, "experiments", '[');
    for (size_t i = 0; i < n; i++) experiment_json(&states[i], &out);
    json_write_end(&out, ']');
    json_write_end(&out, '}');
    json_write_close(&out);
    free(states);
    http_exchange_header(exchange, "Cache-Control", "no-store");
    server_reply_text(exchange, 200, "application/json", &out);
}

void advisor_experiments_list(struct http_exchange *exchange, void *context) {
    struct advisor *advisor = server_find_advisor(context, exchange);
    if (advisor && server_check_no_query(exchange)) reply_experiments(exchange, advisor, EXPERIMENTS_SHOWN);
}

// ----------------------------------------------------------------------------------------------------- what to try

static int read_range(const cJSON *body, const char *key, double low, double high, double *out, struct err *err) {
    int rc = json_get_double(body, key, out, err);
    if (rc || !*out || (*out >= low && *out <= high)) return rc;
    return err_set(err, ERR_INVALID, "%s must be from %g to %g.", key, low, high);
}

static int refuse_unknown(const cJSON *body, struct err *err) {
    static const char *const known[] = {"finding", "setting",    "value",           "metric",          "block_s",
                                        "pairs",   "min_effect", "guard_itl_p99_s", "guard_ttft_p99_s"};
    const cJSON *member;
    cJSON_ArrayForEach(member, body) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) found |= strcmp(member->string, known[i]) == 0;
        if (!found)
            return err_set(err, ERR_INVALID,
                           "A field is not known here; known: finding, setting, value, metric, block_s, pairs, "
                           "min_effect, guard_itl_p99_s, guard_ttft_p99_s.");
    }
    return 0;
}

// What a finding of the present report suggests to set.
static int take_finding(const struct report *report, const char *id, struct experiment_plan *plan, struct err *err) {
    const struct diagnosis *d = &report->diagnosis;
    for (int i = 0; i < d->n_findings; i++) {
        const struct finding *f = &d->findings[i];
        if (strcmp(f->id, id) != 0) continue;
        if (f->knob < 0)
            return err_set(err, ERR_INVALID, "%s suggests nothing that can be set while the server runs: %s", f->id,
                           *f->experiment ? f->experiment : f->action);
        snprintf(plan->finding, sizeof plan->finding, "%s", f->id);
        plan->knob = (enum knob_id)f->knob;
        plan->value_new = f->knob_value;
        int metric = f->has_effect ? experiment_metric_find(f->effect.metric) : -1;
        plan->metric = metric < 0 ? METRIC_OUTPUT_RATE : (enum experiment_metric)metric;
        if (metric >= 0) plan->predicted = f->effect.factor;
        return 0;
    }
    return err_set(err, ERR_INVALID, "No finding of the present report has this id; GET /advisor lists them.");
}

static int take_setting(const cJSON *body, const char *name, struct experiment_plan *plan, struct err *err) {
    int knob = knob_find(name);
    if (knob < 0) return err_set(err, ERR_INVALID, "setting is not one of those in context.settings of GET /advisor.");
    if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(body, "value")))
        return err_set(err, ERR_INVALID, "value is missing: which value to try.");
    plan->knob = (enum knob_id)knob;
    return json_get_int(body, "value", INT32_MIN, INT32_MAX, &plan->value_new, err);
}

static int read_limits(const cJSON *body, struct experiment_plan *plan, struct err *err) {
    int64_t pairs = 0;
    int rc = json_get_int(body, "pairs", PAIRS_MIN, EXPERIMENT_PAIRS_MAX, &pairs, err);
    if (!rc) rc = read_range(body, "block_s", block_s_min, block_s_max, &plan->block_s, err);
    if (!rc) rc = read_range(body, "min_effect", 0.001, effect_max, &plan->min_effect, err);
    if (!rc) rc = read_range(body, "guard_itl_p99_s", 1e-6, 3600, &plan->guard_itl_p99_s, err);
    if (!rc) rc = read_range(body, "guard_ttft_p99_s", 1e-6, 3600, &plan->guard_ttft_p99_s, err);
    plan->pairs_max = (int32_t)pairs;
    return rc;
}

static int read_plan(const cJSON *body, const struct report *report, struct experiment_plan *plan, struct err *err) {
    const char *finding = NULL, *setting = NULL, *metric = NULL;
    int rc = refuse_unknown(body, err);
    if (!rc) rc = json_get_string(body, "finding", &finding, err);
    if (!rc) rc = json_get_string(body, "setting", &setting, err);
    if (!rc) rc = json_get_string(body, "metric", &metric, err);
    if (rc) return rc;
    if (!finding == !setting)
        return err_set(err, ERR_INVALID, "Name what to try: either \"finding\", or \"setting\" and \"value\".");
    rc = finding ? take_finding(report, finding, plan, err) : take_setting(body, setting, plan, err);
    if (!rc) rc = read_limits(body, plan, err);
    if (rc || !metric) return rc;
    int index = experiment_metric_find(metric);
    if (index < 0)
        return err_set(err, ERR_INVALID,
                       "metric must be output_tokens_per_s, itl_p50_s, itl_p99_s, ttft_p50_s or ttft_p95_s.");
    if ((int)plan->metric != index) plan->predicted = (struct range){NAN, NAN};
    plan->metric = (enum experiment_metric)index;
    return 0;
}

static int begin_experiment(struct advisor *advisor, const struct report *report, struct str_view text,
                            struct err *err) {
    struct experiment_plan plan = {.predicted = {NAN, NAN}};
    cJSON *body = NULL;
    int rc = json_parse(&body, text.data, text.n_bytes, &JSON_LIMITS_CLIENT, err);
    if (rc) rc = err->code = ERR_INVALID; // whatever is wrong with it
    if (!rc && !cJSON_IsObject(body)) rc = err_set(err, ERR_INVALID, "The body must be a JSON object.");
    if (!rc) rc = read_plan(body, report, &plan, err);
    if (!rc) rc = advisor_experiment_begin(advisor, &plan, err);
    cJSON_Delete(body);
    return rc;
}

// Whether it may be asked for at all comes before what is asked for.
void advisor_experiments_begin(struct http_exchange *exchange, void *context) {
    struct advisor *advisor = server_find_advisor(context, exchange);
    struct err err = {0};
    if (!advisor || !server_check_no_query(exchange)) return;
    if (advisor_experiment_check(advisor, &err)) return reply_refusal(exchange, &err);
    const struct report *report = server_find_report(context, REPORT_WINDOW_S);
    if (!report)
        server_reply_not_measured(exchange);
    else if (begin_experiment(advisor, report, http_exchange_request(exchange)->body, &err))
        reply_refusal(exchange, &err);
    else
        reply_experiments(exchange, advisor, 1);
}

void advisor_rollback(struct http_exchange *exchange, void *context) {
    struct advisor *advisor = server_find_advisor(context, exchange);
    struct err err = {0};
    if (!advisor || !server_check_no_query(exchange)) return;
    const char *id = http_exchange_request(exchange)->path + strlen("/advisor/rollback/");
    if (!str_view_is_plain_name(str_view_of(id))) {
        err_set(&err, ERR_NOT_FOUND, "There is no such experiment.");
        reply_refusal(exchange, &err);
    } else if (advisor_experiment_stop(advisor, id, &err)) {
        reply_refusal(exchange, &err);
    } else {
        reply_experiments(exchange, advisor, 1);
    }
}
