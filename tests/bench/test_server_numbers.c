// What a server counts, read from Prometheus's text and set beside what the client saw.
#include "tests/test.h"

#include "bench/server_numbers.h"
#include "tests/bench/synthetic.h"

#include <math.h>

static void close_to(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.9g, not %.9g", got, want);
}

static struct server_sample sample_of(const char *text) {
    struct server_sample sample = {0};
    server_sample_parse(&sample, str_view_of(text));
    return sample;
}

static const struct server_number *find(const struct server_numbers *numbers, const char *title) {
    for (int i = 0; i < numbers->n; i++)
        if (strcmp(numbers->numbers[i].title, title) == 0) return &numbers->numbers[i];
    fail_msg("no %s", title);
    return NULL;
}

static void samples_are_sums_over_labels(void **state) {
    (void)state;
    struct server_sample sample =
        sample_of("# HELP x A \"help\" {text}\n# TYPE x counter\nx{a=\"1\"} 2\nx{a=\"} 7\",b=\"\\\"\"} 3.5\n"
                  "y 1e3 1700000000\nz_bucket{le=\"1\"} 9\nw NaN\n\nbroken\nu{a=\"b\nv 4");
    assert_int_equal(sample.values.count, 3);
    assert_string_equal(sample.values.items[0].name, "x");
    close_to(sample.values.items[0].value, 5.5, 0);
    close_to(sample.values.items[1].value, 1000, 0);
    assert_string_equal(sample.values.items[2].name, "v");
    server_sample_close(&sample);
}

// Two requests of 5 tokens: 50 and 70 ms to the first, gaps of 10 ms. The server counted from 100 requests on.
static void figures_stand_beside_the_clients(void **state) {
    (void)state;
    struct run_record run = {0};
    synthetic_add(&run, 0, 0, 0.05, 4, 0.01, 1);
    synthetic_add(&run, 1, 1, 0.07, 4, 0.01, 1);
    synthetic_add_failed(&run, 2, 1, OUTCOME_RESET);
    struct server_sample before = sample_of("vllm:request_success_total{finished_reason=\"stop\"} 100\n"
                                            "vllm:time_to_first_token_seconds_sum 3\n"
                                            "vllm:time_to_first_token_seconds_count 100\n");
    struct server_sample after = sample_of("vllm:request_success_total{finished_reason=\"stop\"} 101\n"
                                           "vllm:request_success_total{finished_reason=\"length\"} 1\n"
                                           "vllm:time_to_first_token_seconds_sum 3.12\n"
                                           "vllm:time_to_first_token_seconds_count 102\n"
                                           "vllm:prompt_tokens_total 200\nvllm:generation_tokens_total 11\n"
                                           "vllm:time_per_output_token_seconds_sum 0.08\n"
                                           "vllm:time_per_output_token_seconds_count 8\n"
                                           "vllm:num_preemptions_total 4\n");
    struct server_numbers numbers = {0};
    server_numbers_make(&numbers, &before, &after, &run);
    const struct server_number *requests = find(&numbers, "requests completed"),
                               *ttft = find(&numbers, "mean TTFT, from sent");
    close_to(requests->server, 2, 0), close_to(requests->client, 2, 0);
    close_to(ttft->server, 60, 1e-6), close_to(ttft->client, 60, 1e-6);
    close_to(find(&numbers, "mean ITL")->server, 10, 1e-6), close_to(find(&numbers, "mean ITL")->client, 10, 1e-6);
    close_to(server_number_disagreement(find(&numbers, "output tokens")), 0.1, 1e-9);
    close_to(server_number_disagreement(find(&numbers, "prompt tokens")), 0, 0);
    assert_true(isnan(find(&numbers, "preemptions")->client));
    server_numbers_close(&numbers);
    server_sample_close(&before), server_sample_close(&after);
    run_record_close(&run);
}

// llama-server tells tokens alone; a server without any of the names tells nothing.
static void other_servers_tell_what_they_have(void **state) {
    (void)state;
    struct run_record run = {0};
    synthetic_add(&run, 0, 0, 0.05, 4, 0.01, 1);
    struct server_sample before = sample_of("llamacpp:n_decode_total 0\n"),
                         llama = sample_of("llamacpp:prompt_tokens_total 100\n"
                                           "llamacpp:tokens_predicted_total 5\n");
    struct server_numbers numbers = {0};
    server_numbers_make(&numbers, &before, &llama, &run);
    assert_int_equal(numbers.n, 2);
    close_to(server_number_disagreement(find(&numbers, "prompt tokens, computed")), 0, 0);
    server_numbers_make(&numbers, &before, &before, &run);
    assert_int_equal(numbers.n, 0);
    server_numbers_make(&numbers, &(struct server_sample){0}, &llama, &run); // not known how much was there before
    assert_int_equal(numbers.n, 0);
    server_numbers_close(&numbers);
    server_sample_close(&before), server_sample_close(&llama);
    run_record_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(samples_are_sums_over_labels),
                                       cmocka_unit_test(figures_stand_beside_the_clients),
                                       cmocka_unit_test(other_servers_tell_what_they_have)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
