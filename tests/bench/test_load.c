// The load client against a server of known times and faults.
#include "tests/test.h"

#include "base/clock.h"
#include "bench/load.h"
#include "bench/probe.h"
#include "bench/summary.h"
#include "tests/bench/stub_server.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static struct workload workload_of(void) {
    return (struct workload){.options = {.model = "stub",
                                         .stream = true,
                                         .prompt_tokens = {AMOUNT_FIXED, 16, 0},
                                         .output_tokens = {AMOUNT_FIXED, 16, 0},
                                         .n_turns = 1},
                             .tokens_per_word = 1};
}

static struct load_options options_of(const struct stub *stub, const struct workload *workload) {
    struct load_options options = {
        .url = {.host = "127.0.0.1"}, .workload = workload, .n_users = 2, .n_requests = 6, .timeout_s = 20};
    snprintf(options.url.port, sizeof options.url.port, "%d", stub_port(stub));
    return options;
}

static void run(struct run_record *out, const struct load_options *options) {
    struct err err = {0};
    if (load_run(out, options, &err)) fail_msg("%s", err.text);
}

static void close_to(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.6g, not %.6g", got, want);
}

// At least `least`, but for what clocks round, and not out of all reason.
static void within(double got, double least, double most) {
    if (!(got >= least * 0.98 && got <= most)) fail_msg("%.6g is not within %.6g and %.6g", got, least, most);
}

static void faults_are_counted_by_their_kind(void **state) {
    (void)state;
    static const struct {
        enum stub_fault fault;
        enum outcome outcome;
        const char *example;
    } rows[] = {{STUB_FINE, OUTCOME_OK, ""},
                {STUB_RESETS, OUTCOME_RESET, "closed in mid-answer"},
                {STUB_RESETS_LATER, OUTCOME_RESET, "closed in mid-answer"},
                {STUB_BAD_SSE, OUTCOME_MALFORMED, ""},
                {STUB_BAD_HTTP, OUTCOME_MALFORMED, ""},
                {STUB_NEVER_ENDS, OUTCOME_TIMEOUT, "the answer does not end"},
                {STUB_SILENT, OUTCOME_TIMEOUT, "no answer"},
                {STUB_ERROR_IN_200, OUTCOME_ERROR, "{\"message\":\"overloaded\"}"},
                {STUB_ERROR_EVENT, OUTCOME_ERROR, "{\"message\":\"out of memory\"}"},
                {STUB_REFUSES, OUTCOME_STATUS, "{\"error\":{\"message\":\"slow down\"}}"},
                {STUB_NO_END, OUTCOME_CUT, "neither [DONE] nor a finish_reason"},
                {STUB_CLOSES_IDLE, OUTCOME_OK, ""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        // Events one by one, but for the fault that needs none.
        struct stub *stub = stub_open(&(struct stub_options){.fault = rows[i].fault,
                                                             .n_events = 4,
                                                             .gap_ns = 100000,
                                                             .tokens_per_event = 1,
                                                             .words_per_token_percent = 100});
        const struct workload workload = workload_of();
        struct load_options options = options_of(stub, &workload);
        if (rows[i].outcome == OUTCOME_TIMEOUT) options.timeout_s = 0.3;
        struct run_record record;
        run(&record, &options);
        assert_int_equal(record.requests.count, 6);
        for (size_t r = 0; r < 6; r++)
            if (record.requests.items[r].outcome != rows[i].outcome)
                fail_msg("fault %d: %s (%s)", rows[i].fault, outcome_name(record.requests.items[r].outcome),
                         record.examples[record.requests.items[r].outcome]);
        const char *example = record.examples[rows[i].outcome];
        if (rows[i].example[0]) assert_string_equal(example, rows[i].example);
        assert_true(rows[i].outcome == OUTCOME_OK || example[0]);
        run_record_close(&record);
        stub_close(stub);
    }
}

static void nobody_listens(void **state) {
    (void)state;
    struct stub *stub = stub_open(&(struct stub_options){.n_events = 1});
    const struct workload workload = workload_of();
    const struct load_options options = options_of(stub, &workload);
    stub_close(stub);
    struct run_record record;
    run(&record, &options);
    assert_int_equal(record.requests.count, 6);
    for (size_t r = 0; r < 6; r++) assert_int_equal(record.requests.items[r].outcome, OUTCOME_CONNECT);
    assert_string_equal(record.examples[OUTCOME_CONNECT], "connection refused");
    run_record_close(&record);
}

// The first event 30 ms after the request, then one every 5 ms, of three tokens each.
static void times_are_those_of_the_server(void **state) {
    (void)state;
    struct stub *stub = stub_open(&(struct stub_options){
        .n_events = 12, .first_ns = 30000000, .gap_ns = 5000000, .tokens_per_event = 3, .words_per_token_percent = 50});
    const struct workload workload = workload_of();
    struct load_options options = options_of(stub, &workload);
    options.n_users = 1, options.n_requests = 15;
    struct run_record record;
    struct summary summary;
    run(&record, &options);
    summary_make(&summary, &record, &(struct objectives){.ttft = 0.02}, false, 0);
    assert_int_equal(summary.n_by_outcome[OUTCOME_OK], 15);
    // Never earlier than the server wrote; later by what a busy machine adds.
    within(summary.latency[LATENCY_TTFT].percentile[0].mean, 0.030, 1);
    // 36 tokens in 12 events: 11 gaps of 5 ms over 35 tokens.
    within(summary.latency[LATENCY_TPOT].percentile[0].mean, 0.055 / 35, 0.1);
    assert_int_equal(summary.latency[LATENCY_ITL].n, 15 * 11 * 3);
    within(summary.latency[LATENCY_ITL].mean.mean, 0.005 * 11 / 35, 0.1);
    close_to(summary.mean_output, 36, 0);
    close_to(summary.mean_prompt, 16 * 2 + 7, 0);
    assert_true(summary.goodput.mean == 0 && summary.has_objectives);
    assert_true(isnan(summary.latency[LATENCY_TTFT].percentile[3].mean)); // no p99 from 15
    summary_close(&summary);
    run_record_close(&record);
    stub_close(stub);
}

// A server that stands still for 0.2 s of every second, and a request every 10 ms. Each request that comes in the pause
// waits for its end, so the expected mean is 0.2 * 0.1 s. A client that waits for answers before it sends would see
// one long answer a second.
static void waiting_requests_are_not_left_out(void **state) {
    (void)state;
    struct stub *stub = stub_open(&(struct stub_options){.n_events = 1,
                                                         .tokens_per_event = 1,
                                                         .words_per_token_percent = 100,
                                                         .stall_every_ns = 1000000000,
                                                         .stall_ns = 200000000});
    const struct workload workload = workload_of();
    struct load_options options = options_of(stub, &workload);
    struct arrival arrival;
    struct err err = {0};
    assert_int_equal(arrival_parse(&arrival, "100", 0, 1, true, 0, &err), 0);
    options.n_users = 0, options.n_requests = 300, options.arrival = &arrival;
    const uint64_t began = clock_now_ns();
    struct run_record record;
    run(&record, &options);
    assert_int_equal(record.requests.count, 300);
    double expected = 0, got = 0;
    int n_late = 0;
    for (size_t i = 0; i < 300; i++) {
        const struct request_record *r = &record.requests.items[i];
        assert_int_equal(r->outcome, OUTCOME_OK);
        const uint64_t in = (began + r->scheduled_ns - stub_started_ns(stub)) % 1000000000;
        expected += in < 200000000 ? (double)(200000000 - in) * 1e-9 : 0;
        got += (double)(r->ended_ns - r->scheduled_ns) * 1e-9;
        n_late += in < 150000000;
    }
    assert_true(n_late >= 30);
    within(got / 300, expected / 300, 1);
    run_record_close(&record);
    stub_close(stub);
}

static void schedules_end_by_number_and_by_time(void **state) {
    (void)state;
    struct stub *stub = stub_open(&(struct stub_options){.n_events = 1, .tokens_per_event = 1});
    const struct workload workload = workload_of();
    struct load_options options = options_of(stub, &workload);
    struct arrival arrival;
    struct err err = {0};
    assert_int_equal(arrival_parse(&arrival, "200", 0, 1, true, 0, &err), 0);
    options.n_users = 0, options.n_requests = 0, options.duration_s = 0.5, options.arrival = &arrival;
    struct run_record record;
    run(&record, &options);
    assert_int_equal(record.requests.count, 99); // one every 5 ms, the first after 5 ms, none at 500 ms or later
    for (size_t i = 0; i < 99; i++) assert_true(record.requests.items[i].scheduled_ns % 5000000 < 2);
    run_record_close(&record);
    stub_close(stub);
}

static void conversations_carry_what_was_said(void **state) {
    (void)state;
    struct stub *stub = stub_open(
        &(struct stub_options){.n_events = 2, .tokens_per_event = 1, .words_per_token_percent = 100, .gap_ns = 1000});
    struct workload workload = workload_of();
    workload.options.n_turns = 3;
    struct load_options options = options_of(stub, &workload);
    options.n_requests = 12;
    struct run_record record;
    run(&record, &options);
    int n_of_turn[3] = {0};
    for (size_t i = 0; i < record.requests.count; i++) n_of_turn[record.requests.items[i].turn]++;
    assert_true(n_of_turn[0] == 4 && n_of_turn[1] == 4 && n_of_turn[2] == 4);
    run_record_close(&record);
    stub_close(stub);
}

static void tokens_of_words_are_measured(void **state) {
    (void)state;
    struct stub *stub =
        stub_open(&(struct stub_options){.n_events = 1, .tokens_per_event = 1, .words_per_token_percent = 80});
    struct workload workload = workload_of();
    const struct load_options options = options_of(stub, &workload);
    struct str name = STR_INIT;
    struct err err = {0};
    bool counts;
    const struct probe_target target = {.url = &options.url, .timeout_s = 5};
    assert_int_equal(probe_model(&name, &target, &err), 0);
    assert_string_equal(str_text(&name), "stub");
    assert_int_equal(probe_tokens(&workload, &target, &counts, &err), 0);
    assert_true(counts);
    close_to(workload.tokens_per_word, 1.25, 1e-9);
    close_to(workload.frame_tokens, 7, 1e-9);
    str_close(&name);
    stub_close(stub);
    assert_int_not_equal(probe_model(&name, &target, &err), 0);
}

static void slow_readers_are_apart(void **state) {
    (void)state;
    struct stub *stub = stub_open(&(struct stub_options){.n_events = 8, .tokens_per_event = 1});
    const struct workload workload = workload_of();
    struct load_options options = options_of(stub, &workload);
    options.slow_share = 1, options.n_requests = 2;
    struct run_record record;
    struct summary summary;
    run(&record, &options);
    summary_make(&summary, &record, &(struct objectives){0}, false, 0);
    assert_int_equal(summary.n_slow, 2);
    assert_int_equal(summary.latency[LATENCY_E2E].n, 0);
    // More than a thousand bytes in bites of 128, with pauses of 50 ms between.
    for (size_t i = 0; i < 2; i++)
        assert_true(record.requests.items[i].ended_ns - record.requests.items[i].sent_ns > 300000000);
    summary_close(&summary);
    run_record_close(&record);
    stub_close(stub);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_counted_by_their_kind),    cmocka_unit_test(nobody_listens),
        cmocka_unit_test(times_are_those_of_the_server),       cmocka_unit_test(waiting_requests_are_not_left_out),
        cmocka_unit_test(schedules_end_by_number_and_by_time), cmocka_unit_test(conversations_carry_what_was_said),
        cmocka_unit_test(tokens_of_words_are_measured),        cmocka_unit_test(slow_readers_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
