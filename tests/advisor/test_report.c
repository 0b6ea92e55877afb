// The forms of a report: JSON that its schema describes (written out here, checked by schema.py), no number without a
// source, and Markdown as people get it.
#include "tests/test.h"

#include "tests/advisor/example_report.h"

#include "base/file_map.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void write_file(const char *name, const struct str *text) {
    struct str path = STR_INIT;
    str_printf(&path, TEST_BINARY_DIR "/%s", name);
    FILE *file = fopen(str_text(&path), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text->data, 1, text->n_bytes, file), text->n_bytes);
    assert_int_equal(fclose(file), 0);
    str_close(&path);
}

// Every object with a value has a unit and a source; the source is "unknown" exactly where the value is null.
static void check_sources(const cJSON *node) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(node, "value");
    const cJSON *setting = cJSON_GetObjectItemCaseSensitive(node, "flag"); // settings are what they are
    if (cJSON_IsObject(node) && value && !setting) {
        const char *source = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(node, "source"));
        assert_non_null(source);
        assert_non_null(cJSON_GetObjectItemCaseSensitive(node, "unit"));
        assert_int_equal(cJSON_IsNull(value), strcmp(source, "unknown") == 0);
    }
    const cJSON *child;
    cJSON_ArrayForEach(child, node) check_sources(child);
}

static cJSON *parse(const struct str *text) {
    cJSON *tree = NULL;
    struct err err = {0};
    if (json_parse(&tree, text->data, text->n_bytes, &JSON_LIMITS_CLIENT, &err)) fail_msg("%s", err.text);
    return tree;
}

static void every_form_is_json_and_every_number_has_a_source(void **state) {
    (void)state;
    static void (*const makers[])(struct report *) = {example_report, example_report_empty};
    static void (*const forms[])(const struct report *, struct str *) = {report_json, report_ledger_json,
                                                                         report_roofline_json};
    static const char *const names[][3] = {{"report_full.json", "ledger_full.json", "roofline_full.json"},
                                           {"report_empty.json", "ledger_empty.json", "roofline_empty.json"}};
    struct report *report = malloc(sizeof *report);
    for (int i = 0; i < 2; i++)
        for (int form = 0; form < 3; form++) {
            struct str out = STR_INIT;
            makers[i](report);
            forms[form](report, &out);
            cJSON *tree = parse(&out);
            check_sources(tree);
            cJSON_Delete(tree);
            write_file(names[i][form], &out);
            str_close(&out);
        }
    free(report);
}

static double number_at(const cJSON *tree, const char *a, const char *b, const char *c, const char *d) {
    const char *const path[] = {a, b, c, d};
    for (int i = 0; i < 4 && path[i]; i++) tree = cJSON_GetObjectItemCaseSensitive(tree, path[i]);
    assert_true(cJSON_IsNumber(tree));
    return tree->valuedouble;
}

static void what_json_derives_is_right(void **state) {
    (void)state;
    struct report *report = malloc(sizeof *report);
    example_report(report);
    report->evidence.efficiency.mbu_decode = 0.8;
    report->evidence.efficiency.mfu_decode = 0.016;
    report->evidence.efficiency.decode_time_share = 0.75;
    report->evidence.peaks.read = figure_of(10e9, FIGURE_MEASURED);
    report->evidence.peaks.compute = figure_of(1e12, FIGURE_MEASURED);
    struct str out = STR_INIT;
    report_json(report, &out);
    cJSON *tree = parse(&out);
    const cJSON *finding = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(tree, "findings"), 0);
    assert_true(fabs(number_at(finding, "effect", "low", NULL, NULL) - 59 * 2.4) < 1e-6);
    assert_true(fabs(number_at(finding, "effect", "high", NULL, NULL) - 59 * 3.1) < 1e-6);
    cJSON_Delete(tree);
    str_clear(&out);
    report_roofline_json(report, &out);
    tree = parse(&out);
    const cJSON *decode = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(tree, "phases"), 0);
    assert_true(fabs(number_at(decode, "intensity", "value", NULL, NULL) - 2) < 1e-9); // 16 GFLOP/s by 8 GB/s
    assert_true(fabs(number_at(decode, "achieved", "value", NULL, NULL) - 16e9) < 1);
    assert_true(fabs(number_at(tree, "ridge", "value", NULL, NULL) - 100) < 1e-9);
    cJSON_Delete(tree);
    str_close(&out);
    free(report);
}

static void check_golden(const char *name, void (*make)(struct report *)) {
    struct report *report = malloc(sizeof *report);
    struct str out = STR_INIT, path = STR_INIT;
    make(report);
    report_markdown(report, &out);
    write_file(name, &out);
    str_printf(&path, TEST_SOURCE_DIR "/tests/advisor/golden/%s", name);
    struct file_map map;
    struct err err = {0};
    if (file_map_open(&map, str_text(&path), &err)) fail_msg("%s", err.text);
    if (map.n_bytes != out.n_bytes || memcmp(map.data, out.data, out.n_bytes) != 0)
        fail_msg("%s differs from " TEST_BINARY_DIR "/%s", str_text(&path), name);
    file_map_close(&map);
    str_close(&path);
    str_close(&out);
    free(report);
}

static void markdown_reads_as_it_was_written(void **state) {
    (void)state;
    check_golden("report_full.md", example_report);
    check_golden("report_empty.md", example_report_empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_json_and_every_number_has_a_source),
        cmocka_unit_test(what_json_derives_is_right),
        cmocka_unit_test(markdown_reads_as_it_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
