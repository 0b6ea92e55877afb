// The metrics page is Prometheus text with vLLM's names, and labels that no client can stretch.
#include "tests/test.h"

#include "advisor/report.h"
#include "advisor/step_model.h"
#include "server/metrics.h"

#include <math.h>
#include <stdlib.h>

static void print(const struct metrics *metrics, const char *model_name, struct str *out) {
    struct step_loop_stats stats = {
        .n_running = 2, .n_waiting = 3, .n_blocks = 8, .n_blocks_used = 2, .block_tokens = 16};
    stats.draft_tokens_max = 2, stats.n_drafts = 10, stats.n_draft_tokens = 17, stats.n_draft_tokens_accepted = 9;
    stats.n_accepted_at[0] = 6, stats.n_accepted_at[1] = 3, stats.speculation_gain = 1.5;
    stats.iteration_rows[0] = 1, stats.iteration_rows[ITERATION_BUCKETS] = 2, stats.iteration_rows_sum = 40001;
    metrics_print(metrics, &(struct metrics_view){.model_name = model_name, .stats = &stats, .n_deferred = 4}, out);
}

static void page_holds(const struct metrics *metrics, const char *const *lines, size_t n) {
    struct str out = STR_INIT;
    print(metrics, "m", &out);
    for (size_t i = 0; i < n; i++)
        if (!strstr(str_text(&out), lines[i])) fail_msg("no line \"%s\" in\n%s", lines[i], str_text(&out));
    str_close(&out);
}

static void choices_are_counted_where_they_belong(void **state) {
    (void)state;
    struct metrics metrics;
    metrics_open(&metrics);
    const uint64_t s = 1000000000u;
    metrics_observe_choice(&metrics, &(struct choice_record){.finish = FINISH_LENGTH,
                                                             .arrived_ns = 1 * s,
                                                             .scheduled_ns = 2 * s,
                                                             .first_token_ns = 4 * s,
                                                             .last_token_ns = 8 * s,
                                                             .finished_ns = 9 * s,
                                                             .n_prompt = 7,
                                                             .n_generated = 5,
                                                             .n_max = 5,
                                                             .n_choices = 1});
    metrics_observe_choice(&metrics, &(struct choice_record){.finish = FINISH_ABORT, .arrived_ns = 1});
    metrics_observe(&metrics, HISTOGRAM_TTFT, 0.001); // on the bound: le means less or equal
    static const char *const lines[] = {
        "vllm:num_requests_running{model_name=\"m\",engine=\"0\"} 2\n",
        "vllm:num_requests_waiting{model_name=\"m\",engine=\"0\"} 7\n",
        "vllm:num_requests_waiting_by_reason{model_name=\"m\",engine=\"0\",reason=\"capacity\"} 3\n",
        "vllm:kv_cache_usage_perc{model_name=\"m\",engine=\"0\"} 0.25\n",
        "vllm:cache_config_info{model_name=\"m\",engine=\"0\",block_size=\"16\",num_gpu_blocks=\"8\"} 1\n",
        "vllm:request_success_total{model_name=\"m\",engine=\"0\",finished_reason=\"length\"} 1\n",
        "vllm:request_success_total{model_name=\"m\",engine=\"0\",finished_reason=\"abort\"} 1\n",
        "vllm:request_queue_time_seconds_sum{model_name=\"m\",engine=\"0\"} 1\n",
        "vllm:request_prefill_time_seconds_sum{model_name=\"m\",engine=\"0\"} 2\n",
        "vllm:request_decode_time_seconds_sum{model_name=\"m\",engine=\"0\"} 4\n",
        "vllm:request_inference_time_seconds_sum{model_name=\"m\",engine=\"0\"} 6\n",
        "vllm:e2e_request_latency_seconds_sum{model_name=\"m\",engine=\"0\"} 8\n",
        "vllm:e2e_request_latency_seconds_bucket{model_name=\"m\",engine=\"0\",le=\"5\"} 0\n",
        "vllm:e2e_request_latency_seconds_bucket{model_name=\"m\",engine=\"0\",le=\"10\"} 1\n",
        "vllm:request_time_per_output_token_seconds_sum{model_name=\"m\",engine=\"0\"} 1\n",
        "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",engine=\"0\",le=\"0.001\"} 1\n",
        "vllm:request_prompt_tokens_bucket{model_name=\"m\",engine=\"0\",le=\"10\"} 1\n",
        "vllm:iteration_tokens_total_bucket{model_name=\"m\",engine=\"0\",le=\"16384\"} 1\n",
        "vllm:iteration_tokens_total_bucket{model_name=\"m\",engine=\"0\",le=\"+Inf\"} 3\n",
        "vllm:spec_decode_num_drafts_total{model_name=\"m\",engine=\"0\"} 10\n",
        "vllm:spec_decode_num_draft_tokens_total{model_name=\"m\",engine=\"0\"} 17\n",
        "vllm:spec_decode_num_accepted_tokens_total{model_name=\"m\",engine=\"0\"} 9\n",
        "vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name=\"m\",engine=\"0\",position=\"0\"} 6\n",
        "vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name=\"m\",engine=\"0\",position=\"1\"} 3\n",
        "optima_speculation_gain{model_name=\"m\",engine=\"0\"} 1.5\n",
        "vllm:iteration_tokens_total_count{model_name=\"m\",engine=\"0\"} 3\n",
    };
    page_holds(&metrics, lines, sizeof lines / sizeof *lines);
}

static void labels_stay_bounded_and_escaped(void **state) {
    (void)state;
    struct metrics metrics;
    metrics_open(&metrics);
    static const char route[] = "/health";
    metrics_count_http(&metrics, route, "GET", 200);
    metrics_count_http(&metrics, route, "GET", 204);
    metrics_count_http(&metrics, NULL, "BREW\"} 1\n", 404);
    static const char *const lines[] = {"http_requests_total{handler=\"/health\",method=\"GET\",status=\"2xx\"} 2\n",
                                        "http_requests_total{handler=\"none\",method=\"OTHER\",status=\"4xx\"} 1\n"};
    page_holds(&metrics, lines, 2);
    struct str out = STR_INIT;
    print(&metrics, "a\"b\\c\nd", &out);
    assert_non_null(
        strstr(str_text(&out), "vllm:num_requests_running{model_name=\"a\\\"b\\\\c\\nd\",engine=\"0\"} 2\n"));
    str_close(&out);
}

static void the_advisor_shows_what_it_knows_and_nothing_else(void **state) {
    (void)state;
    static const char *const lines[] = {
        "\noptima_mfu_ratio{model_name=\"m\",engine=\"0\",phase=\"all\",of=\"measured\"} 0.25\n",
        "\noptima_mfu_ratio{model_name=\"m\",engine=\"0\",phase=\"all\",of=\"datasheet\"} 0.125\n",
        "\noptima_time_share_ratio{model_name=\"m\",engine=\"0\",line=\"decode_weights\"} 0.5\n",
        "\noptima_cost_per_million_tokens{model_name=\"m\",engine=\"0\",kind=\"output\",basis=\"loaded\"} 2\n",
        "\noptima_step_model_error_ratio{model_name=\"m\",engine=\"0\",quantile=\"0.5\"} 0.03125\n",
        "\noptima_bottleneck_info{model_name=\"m\",engine=\"0\",class=\"host\",confidence=\"low\"} 1\n",
        "\noptima_finding_active{model_name=\"m\",engine=\"0\",id=\"R20\",class=\"host\"} 1\n",
        "\noptima_predictions_covered_total{model_name=\"m\",engine=\"0\"} 3\n",
    };
    static const struct step_model model = {.error_median = 0.03125, .error_p90 = NAN};
    struct report *report = calloc(1, sizeof *report);
    struct evidence *e = &report->evidence;
    for (int i = 0; i < TIME_LINES; i++) e->ledger.share[i] = i == TIME_DECODE_WEIGHTS ? 0.5 : NAN;
    e->efficiency = (struct efficiency_figures){
        .mfu = 0.25, .mfu_decode = NAN, .mfu_prompt = NAN, .mbu = NAN, .mbu_decode = NAN, .mbu_prompt = NAN};
    e->peaks.compute = figure_of(1e12, FIGURE_MEASURED);
    e->peaks.compute_datasheet = figure_of(2e12, FIGURE_DATASHEET);
    e->model = &model;
    struct token_cost none = {figure_unknown(), figure_unknown(), figure_unknown()}, priced = none;
    priced.loaded = figure_of(2, FIGURE_MODELLED);
    report->economy = (struct economy){.input = none, .cached_input = none, .output = priced};
    report->economy.joules_per_input = report->economy.joules_per_output = report->economy.watts = figure_unknown();
    report->diagnosis.bottleneck = BOTTLENECK_HOST, report->diagnosis.confidence = "low";
    report->diagnosis.findings[0].id = "R20", report->diagnosis.findings[0].bottleneck = BOTTLENECK_HOST;
    report->diagnosis.n_findings = 1;
    report->track.n_covered = 3;
    struct metrics metrics;
    struct str out = STR_INIT;
    metrics_open(&metrics);
    metrics_print(&metrics, &(struct metrics_view){.model_name = "m", .report = report}, &out);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(str_text(&out), lines[i])) fail_msg("no line \"%s\" in\n%s", lines[i] + 1, str_text(&out));
    static const char *const absent[] = {"nan", "optima_mbu_ratio", "optima_watts", "optima_joules",
                                         "quantile=\"0.9\""};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) assert_null(strstr(str_text(&out), absent[i]));
    str_close(&out);
    free(report);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_counted_where_they_belong),
        cmocka_unit_test(labels_stay_bounded_and_escaped),
        cmocka_unit_test(the_advisor_shows_what_it_knows_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
