// Any bytes as what a server tells the load client: an answer in two pieces, its metrics, and a file of a run against
// itself. Nothing that another program wrote may stop a measurement.
#include "tests/fuzz/fuzz.h"

#include "base/json.h"
#include "bench/answer.h"
#include "bench/comparison.h"
#include "bench/server_numbers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void add(const char *text) {
    fuzz_add_seed(text, strlen(text));
}

void fuzz_seeds(void) {
    add("1data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n"
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n");
    add("2{\"choices\":[{\"message\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":3}}");
    add("3# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{model=\"a \\\" }\"} 7\n"
        "vllm:time_to_first_token_seconds_sum 0.5\nvllm:time_to_first_token_seconds_count 2\n");
    add("4{\"workload\":{},\"settings\":{\"users\":1},\"summary\":{\"request_rate\":[1,0.9,1.1]},\"requests\":{"
        "\"session\":"
        "[0,1],\"turn\":[0,0],\"due_s\":[0,1],\"ttft_ms\":[1,2],\"tpot_ms\":[1,null],\"e2e_ms\":[5,6],\"outcome\":[0,1]"
        ","
        "\"slow\":[0,0],\"steady\":[1,1]}}");
}

static void read_answer(const char *bytes, size_t n_bytes, bool is_stream) {
    struct answer answer = {0};
    const size_t first = n_bytes / 3;
    answer_begin(&answer, true);
    answer.is_stream = is_stream;
    int n = answer_read(&answer, bytes, first);
    n += answer_read(&answer, bytes + first, n_bytes - first);
    n += answer_end(&answer);
    assert(n >= 0);
    answer_close(&answer);
}

static void read_metrics(const char *bytes, size_t n_bytes) {
    const struct run_record run = {0};
    struct server_sample before = {0}, after = {0};
    struct server_numbers numbers = {0};
    server_sample_parse(&before, (struct str_view){bytes, n_bytes / 2});
    server_sample_parse(&after, (struct str_view){bytes, n_bytes});
    server_numbers_make(&numbers, &before, &after, &run);
    assert(numbers.n <= SERVER_NUMBERS_MAX);
    server_numbers_close(&numbers);
    server_sample_close(&before);
    server_sample_close(&after);
}

static void compare(const char *bytes, size_t n_bytes) {
    const struct json_limits limits = JSON_LIMITS_CLIENT;
    struct comparison comparison;
    struct str text = STR_INIT;
    struct err err;
    cJSON *tree;
    if (json_parse(&tree, bytes, n_bytes, &limits, &err)) return;
    if (!comparison_make(&comparison, tree, tree, &err)) comparison_json(&comparison, &text);
    comparison_close(&comparison);
    str_close(&text);
    cJSON_Delete(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    if (!n_bytes) return 0;
    // A copy of its own size, so that reading beyond it is seen.
    char *text = mem_copy_string((const char *)bytes + 1, n_bytes - 1);
    switch (bytes[0] % 4) {
    case 0:
        compare(text, n_bytes - 1);
        break;
    case 1:
        read_answer(text, n_bytes - 1, true);
        break;
    case 2:
        read_answer(text, n_bytes - 1, false);
        break;
    default:
        read_metrics(text, n_bytes - 1);
    }
    free(text);
    return 0;
}
