// What a run sends and when: lengths, arrivals, traces and bodies are those asked for, and the same for the same seed.
#include "tests/test.h"

#include "base/json.h"
#include "bench/arrival.h"
#include "bench/workload.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static void close_to(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.6g, not %.6g", got, want);
}

static void amounts_have_their_means(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double mean, least, most;
    } rows[] = {{"512", 512, 512, 512},
                {"128..1024", 576, 128, 1024},
                {"normal:500:50", 500, 1, 1000},
                {"lognormal:200:0.5", 226.63, 1, AMOUNT_MAX}}; // 200 * exp(0.125)
    for (size_t i = 0; i < 4; i++) {
        struct amount amount;
        struct err err = {0};
        assert_int_equal(amount_parse(&amount, rows[i].text, &err), 0);
        close_to(amount_mean(&amount), rows[i].mean, 0.01);
        double sum = 0;
        for (uint64_t n = 0; n < 20000; n++) {
            int64_t x = amount_draw(&amount, 0x9e3779b97f4a7c15u, n);
            assert_true((double)x >= rows[i].least && (double)x <= rows[i].most);
            sum += (double)x;
        }
        close_to(sum / 20000, rows[i].mean, rows[i].mean * 0.02);
    }
    static const char *const wrong[] = {"",    "0",   "-5", "x", "5..", "9..3", "normal:5", "lognormal:0:1",
                                        "3e9", "nan", "5 "};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct amount amount;
        struct err err = {0};
        if (amount_parse(&amount, wrong[i], &err) != ERR_INVALID) fail_msg("\"%s\" is taken", wrong[i]);
    }
}

// Mean and deviation of gaps over the mean: 1 for Poisson's process, 1 / sqrt(shape) for gamma, 0 for equal gaps.
static void arrivals_have_their_rate_and_spread(void **state) {
    (void)state;
    static const struct {
        double burstiness;
        bool constant;
        double spread;
    } rows[] = {{1, false, 1}, {0.25, false, 2}, {4, false, 0.5}, {1, true, 0}};
    for (size_t i = 0; i < 4; i++) {
        struct arrival arrival;
        struct err err = {0};
        assert_int_equal(arrival_parse(&arrival, "50", 0, rows[i].burstiness, rows[i].constant, 3, &err), 0);
        enum { N = 40000 };
        double last = 0, sum = 0, squares = 0;
        for (int n = 0; n < N; n++) {
            double at = arrival_next(&arrival), gap = at - last;
            last = at, sum += gap, squares += gap * gap;
        }
        close_to(sum / N * 50, 1, 0.03);
        close_to(sqrt(fmax(squares / N - sum / N * sum / N, 0)) * 50, rows[i].spread, 0.06);
    }
}

// From 10 to 30 a second over 20 s: 150 requests are due in the first 10 s, 400 in 20 s, then 30 a second.
static void ramps_rise(void **state) {
    (void)state;
    struct arrival arrival;
    struct err err = {0};
    assert_int_equal(arrival_parse(&arrival, "10..30", 20, 1, true, 0, &err), 0);
    int n_10 = 0, n_20 = 0, n_30 = 0;
    for (double at; (at = arrival_next(&arrival)) < 30;) n_10 += at <= 10, n_20 += at <= 20, n_30++;
    close_to(n_10, 150, 1), close_to(n_20, 400, 1), close_to(n_30, 700, 1);
    static const char *const wrong[] = {"0", "-1", "a", "3..", "..5", "2..x", "1e9", "nan"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!arrival_parse(&arrival, wrong[i], 20, 1, true, 0, &err)) fail_msg("\"%s\" is taken", wrong[i]);
    assert_int_equal(arrival_parse(&arrival, "2..5", 0, 1, true, 0, &err), ERR_INVALID);
}

// ------------------------------------------------------------------------------------------------------------ traces

static const char *write_file(const char *text) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/optima_trace_XXXXXX");
    FILE *file = fdopen(mkstemp(path), "w");
    fputs(text, file);
    fclose(file);
    return path;
}

static void traces_are_known_by_content(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        bool timed;
        double at_s; // of the last
        int64_t n_prompt, n_output;
        uint32_t n_blocks, n_texts;
    } rows[] = {
        {"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:59.5,48,10\r\n2023-11-16 18:18:00.25,3180,8\r\n",
         2, true, 0.75, 3180, 8, 0, 0},
        {"{\"timestamp\": 500, \"input_length\": 9, \"output_length\": 4, \"hash_ids\": [1]}\n"
         "{\"timestamp\": 0, \"input_length\": 1030, \"output_length\": 5, \"hash_ids\": [1, 2, 3]}\n",
         2, true, 0.5, 9, 4, 1, 0},
        {"[{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}, "
         "{\"from\": \"human\", \"value\": \"c\"}]}]",
         1, false, 0, 0, 0, 0, 2},
        {"{\"question_id\": 81, \"turns\": [\"one\", \"two\"]}\n{\"prompt\": \"three\"}\n", 2, false, 0, 0, 0, 0, 1},
        {"Tell me more.\n\nAnd this?\n", 2, false, 0, 0, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct trace trace;
        struct err err = {0};
        const char *path = write_file(rows[i].text);
        if (trace_open(&trace, path, &err)) fail_msg("%zu: %s", i, err.text);
        unlink(path);
        const struct trace_item *last = &trace.items.items[trace.items.count - 1];
        assert_true(trace.items.count == rows[i].n && trace.is_timed == rows[i].timed);
        close_to(last->at_s, rows[i].at_s, 1e-6);
        assert_true(last->n_prompt == rows[i].n_prompt && last->n_output == rows[i].n_output);
        assert_true(last->n_blocks == rows[i].n_blocks && last->n_texts == rows[i].n_texts);
        trace_close(&trace);
    }
}

static void broken_traces_name_the_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *mention;
    } rows[] = {{"", "nothing in it"},
                {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:59.5,48\n", "line 2"},
                {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:59.5,48,1\n2023,4,4\n", "line 3"},
                {"{\"prompt\": \"a\"}\n{\"prompt\": \n", "line 2"},
                {"{\"input_length\": -4}\n", "line 1"},
                {"[{\"conversations\": [", "byte"},
                {"[1, 2]", "nothing in it"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct trace trace;
        struct err err = {0};
        const char *path = write_file(rows[i].text);
        assert_int_equal(trace_open(&trace, path, &err), ERR_FORMAT);
        unlink(path);
        if (!strstr(err.text, rows[i].mention)) fail_msg("%zu: %s", i, err.text);
    }
}

static void given_traces_are_read_whole(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/traces/azure2023/AzureLLMInferenceTrace_code.csv");
    static const struct {
        const char *path;
        size_t n;
    } rows[] = {{TEST_SHARED_DIR "/data/traces/azure2023/AzureLLMInferenceTrace_code.csv", 8819},
                {TEST_SHARED_DIR "/data/traces/azure2023/AzureLLMInferenceTrace_conv.csv", 19366},
                {TEST_SHARED_DIR "/data/traces/mooncake/conversation_trace.jsonl", 12031},
                {TEST_SHARED_DIR "/data/traces/mooncake/synthetic_trace.jsonl", 3993}};
    for (size_t i = 0; i < 4; i++) {
        struct trace trace;
        struct err err = {0};
        if (trace_open(&trace, rows[i].path, &err)) fail_msg("%s", err.text);
        if (trace.items.count != rows[i].n) fail_msg("%s: %zu", rows[i].path, trace.items.count);
        trace_close(&trace);
    }
}

// ------------------------------------------------------------------------------------------------------------ bodies

static cJSON *body_of(const struct workload *workload, struct session *session) {
    struct str body = STR_INIT;
    struct err err = {0};
    int64_t n_output;
    cJSON *tree;
    workload_body(workload, session, &body, &n_output);
    const struct json_limits limits = JSON_LIMITS_CLIENT;
    if (json_parse(&tree, body.data, body.n_bytes, &limits, &err)) fail_msg("%s: %s", err.text, body.data);
    str_close(&body);
    return tree;
}

static const char *content(const cJSON *body, int message) {
    const cJSON *messages = cJSON_GetObjectItemCaseSensitive(body, "messages");
    return cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(messages, message), "content")->valuestring;
}

static size_t n_words(const char *text) {
    size_t n = 1;
    for (; *text; text++) n += *text == ' ';
    return n;
}

static void bodies_are_what_was_asked_for(void **state) {
    (void)state;
    struct workload workload = {.options = {.model = "a \"model\"",
                                            .stream = true,
                                            .ignore_eos = true,
                                            .prompt_tokens = {AMOUNT_FIXED, 107, 0},
                                            .output_tokens = {AMOUNT_FIXED, 20, 0},
                                            .prefix_tokens = 50,
                                            .n_prefixes = 2,
                                            .n_turns = 2,
                                            .extra = " { \"top_k\": 3 } ",
                                            .seed = 1},
                                .tokens_per_word = 1.25,
                                .frame_tokens = 7};
    char *first[8];
    for (uint64_t i = 0; i < 8; i++) {
        struct session session = {.number = i};
        cJSON *body = body_of(&workload, &session);
        assert_string_equal(cJSON_GetObjectItemCaseSensitive(body, "model")->valuestring, "a \"model\"");
        assert_int_equal(cJSON_GetObjectItemCaseSensitive(body, "max_tokens")->valueint, 20);
        assert_int_equal(cJSON_GetObjectItemCaseSensitive(body, "top_k")->valueint, 3);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(body, "ignore_eos")));
        assert_int_equal(n_words(content(body, 0)), 80); // 100 tokens without the frame, 1.25 a word
        first[i] = strdup(content(body, 0));
        cJSON_Delete(body);
        str_close(&session.said);
    }
    // Two groups: the first 40 words are one of two texts, the rest is each session's own.
    int n_alike = 0;
    for (int i = 1; i < 8; i++) {
        n_alike += strncmp(first[i], first[0], 120) == 0;
        assert_string_not_equal(first[i], first[0]);
    }
    assert_true(n_alike > 0 && n_alike < 7);
    struct session again = {.number = 3};
    cJSON *body = body_of(&workload, &again);
    assert_string_equal(content(body, 0), first[3]);
    cJSON_Delete(body);
    workload_answered(&again, STR_VIEW("so \"it\" is"));
    again.turn = 1;
    body = body_of(&workload, &again);
    assert_string_equal(content(body, 0), first[3]);
    assert_string_equal(content(body, 1), "so \"it\" is");
    assert_int_equal(n_words(content(body, 2)), 80);
    cJSON_Delete(body);
    str_close(&again.said);
    for (int i = 0; i < 8; i++) free(first[i]);
}

// Prompts with the same first blocks begin alike, for as long as they share them.
static void blocks_of_a_trace_are_shared(void **state) {
    (void)state;
    const char *path =
        write_file("{\"timestamp\": 0, \"input_length\": 1500, \"output_length\": 4, \"hash_ids\": [7, 8, 9]}\n"
                   "{\"timestamp\": 1, \"input_length\": 1600, \"output_length\": 5, \"hash_ids\": [7, 8, 5, 6]}\n"
                   "{\"timestamp\": 2, \"input_length\": 600, \"output_length\": 6, \"hash_ids\": [7, 4]}\n");
    struct trace trace;
    struct err err = {0};
    assert_int_equal(trace_open(&trace, path, &err), 0);
    unlink(path);
    const struct workload workload = {.options = {.model = "m", .n_turns = 1, .trace = &trace}, .tokens_per_word = 1};
    cJSON *bodies[3];
    for (uint64_t i = 0; i < 3; i++) {
        struct session session = {.number = i};
        bodies[i] = body_of(&workload, &session);
        str_close(&session.said);
        assert_int_equal(n_words(content(bodies[i], 0)), trace.items.items[i].n_prompt);
        assert_int_equal(cJSON_GetObjectItemCaseSensitive(bodies[i], "max_tokens")->valueint, (int)i + 4);
    }
    const size_t shared[3] = {0, 1024, 512}; // words
    for (int i = 1; i < 3; i++) {
        const char *a = content(bodies[0], 0), *b = content(bodies[i], 0);
        size_t n = 0;
        for (; *a && *a == *b; a++, b++) n += *a == ' ';
        assert_true(n >= shared[i] && n < shared[i] + 8);
    }
    for (int i = 0; i < 3; i++) cJSON_Delete(bodies[i]);
    trace_close(&trace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amounts_have_their_means),
        cmocka_unit_test(arrivals_have_their_rate_and_spread),
        cmocka_unit_test(ramps_rise),
        cmocka_unit_test(traces_are_known_by_content),
        cmocka_unit_test(broken_traces_name_the_line),
        cmocka_unit_test(given_traces_are_read_whole),
        cmocka_unit_test(bodies_are_what_was_asked_for),
        cmocka_unit_test(blocks_of_a_trace_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
