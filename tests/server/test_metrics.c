// The metrics page is Prometheus text with vLLM's names, and labels that no client can stretch.
#include "tests/test.h"

#include "server/metrics.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_counted_where_they_belong),
        cmocka_unit_test(labels_stay_bounded_and_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
