// Runs against runs, through the files that hold them.
#include "tests/test.h"

#include "base/json.h"
#include "base/json_write.h"
#include "bench/comparison.h"
#include "bench/page.h"
#include "tests/bench/synthetic.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static cJSON *document_of(const struct measurement *measurement) {
    struct str text = STR_INIT;
    struct err err = {0};
    cJSON *tree = NULL;
    const struct json_limits limits = JSON_LIMITS_FILE;
    measurement_json(&(struct measurement_document){.kind = "run",
                                                    .command = "optima bench 'a' \"b\" <c>",
                                                    .runs = measurement,
                                                    .n_runs = 1,
                                                    .with_requests = true},
                     &text);
    if (json_parse(&tree, text.data, text.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    str_close(&text);
    return tree;
}

static const cJSON *run_of(const cJSON *document) {
    return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(document, "runs"), 0);
}

static void compare(struct comparison *out, struct measurement *a, struct measurement *b) {
    struct err err = {0};
    cJSON *x = document_of(a), *y = document_of(b);
    if (comparison_make(out, run_of(x), run_of(y), &err)) fail_msg("%s", err.text);
    cJSON_Delete(x);
    cJSON_Delete(y);
}

static void documents_hold_the_run(void **state) {
    (void)state;
    struct measurement m;
    synthetic_measurement(&m, 120, 1, 1);
    synthetic_add_failed(&m.run, 120, 1, OUTCOME_RESET);
    cJSON *tree = document_of(&m);
    const cJSON *run = run_of(tree);
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(tree, "optima_bench")->valueint, MEASUREMENT_SCHEMA);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(tree, "command")->valuestring, "optima bench 'a' \"b\" <c>");
    const cJSON *summary = cJSON_GetObjectItemCaseSensitive(run, "summary");
    const cJSON *ttft =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(summary, "latency_ms"), "ttft");
    const cJSON *mean = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(ttft, "mean"), 0);
    assert_true(fabs(mean->valuedouble - m.summary.latency[LATENCY_TTFT].mean.mean * 1e3) < 1e-6);
    assert_true(cJSON_IsNull(cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(ttft, "p99"), 0)));
    const cJSON *requests = cJSON_GetObjectItemCaseSensitive(run, "requests");
    for (const cJSON *column = requests->child; column; column = column->next)
        if (cJSON_GetArraySize(column) != 121) fail_msg("%s", column->string);
    const cJSON *outcomes = cJSON_GetObjectItemCaseSensitive(run, "outcomes");
    const int outcome = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(requests, "outcome"), 120)->valueint;
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(outcomes, outcome), "kind")->valuestring,
                        "connection broken");
    struct str csv = STR_INIT;
    measurement_csv(&m, 1, &csv);
    int n_lines = 0;
    for (const char *c = csv.data; *c; c++) n_lines += *c == '\n';
    assert_int_equal(n_lines, 122);
    assert_non_null(strstr(csv.data, ",completed,"));
    str_close(&csv);
    cJSON_Delete(tree);
    measurement_close(&m);
}

// What stands in strings cannot end the script that holds the document.
static void pages_hold_the_document(void **state) {
    (void)state;
    struct str page = STR_INIT;
    page_html(STR_VIEW("{\"command\":\"</script><b>\"}"), &page);
    assert_non_null(strstr(page.data, "{\"command\":\"\\u003c/script>\\u003cb>\"}"));
    assert_null(strstr(page.data, "{{document}}"));
    assert_null(strstr(page.data, "src=\"http"));
    str_close(&page);
}

static void equal_runs_show_no_difference(void **state) {
    (void)state;
    int n_called_different = 0;
    for (uint64_t t = 0; t < 20; t++) {
        struct measurement a, b;
        struct comparison c;
        synthetic_measurement(&a, 400, 100 + 2 * t, 1);
        synthetic_measurement(&b, 400, 101 + 2 * t, 1);
        if (t % 2) str_clear(&b.workload), str_append_text(&b.workload, "{\"seed\":1}");
        compare(&c, &a, &b);
        assert_int_equal(c.n_pairs, t % 2 ? 0 : 400);
        n_called_different += c.verdict != COMPARISON_NONE;
        comparison_close(&c), measurement_close(&a), measurement_close(&b);
    }
    if (n_called_different > 2) fail_msg("%d of 20", n_called_different);
}

// A server that is a quarter slower: found, with the change inside its interval.
static void slower_runs_are_worse(void **state) {
    (void)state;
    struct measurement a, b;
    struct comparison c;
    synthetic_measurement(&a, 800, 7, 1);
    synthetic_measurement(&b, 800, 8, 1.25);
    synthetic_add_failed(&b.run, 800, 1, OUTCOME_RESET);
    compare(&c, &a, &b);
    assert_int_equal(c.verdict, COMPARISON_WORSE);
    assert_int_equal(c.n_pairs, 800);
    for (int i = 0; i < c.n_rows; i++) {
        const struct comparison_row *row = &c.rows[i];
        if (strcmp(row->name, "E2E mean") == 0) {
            assert_int_equal(row->verdict, COMPARISON_WORSE);
            assert_true(row->change.low < 0.25 && row->change.high > 0.25 && row->change.low > 0.1);
        }
        if (strcmp(row->name, "failed requests") == 0) assert_int_equal(row->verdict, COMPARISON_NONE);
    }
    struct str text = STR_INIT;
    struct err err = {0};
    comparison_json(&c, &text);
    json_write_close(&text);
    const struct json_limits limits = JSON_LIMITS_FILE;
    assert_int_equal(json_validate(text.data, text.n_bytes, &limits, &err), 0);
    str_close(&text);
    comparison_close(&c), measurement_close(&a), measurement_close(&b);
}

// Answers that came in one piece have no time between tokens, which is no difference.
static void nothing_is_no_multiple_of_nothing(void **state) {
    (void)state;
    struct measurement a;
    struct comparison c;
    synthetic_measurement(&a, 100, 3, 1);
    for (size_t i = 0; i < 100; i++) a.run.requests.items[i].last_ns = a.run.requests.items[i].first_ns;
    compare(&c, &a, &a);
    assert_int_equal(c.verdict, COMPARISON_NONE);
    for (int i = 0; i < c.n_rows; i++) assert_true(c.rows[i].p == 1);
    comparison_close(&c), measurement_close(&a);
}

static void broken_documents_are_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"{}", "[]", "{\"requests\":{}}",
                                        "{\"requests\":{\"session\":[1],\"turn\":[]}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct comparison c;
        struct err err = {0};
        cJSON *tree = cJSON_Parse(texts[i]);
        assert_int_equal(comparison_make(&c, tree, tree, &err), ERR_FORMAT);
        cJSON_Delete(tree);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_hold_the_run),
        cmocka_unit_test(pages_hold_the_document),
        cmocka_unit_test(equal_runs_show_no_difference),
        cmocka_unit_test(slower_runs_are_worse),
        cmocka_unit_test(nothing_is_no_multiple_of_nothing),
        cmocka_unit_test(broken_documents_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
