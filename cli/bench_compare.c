// optima bench compare: whether one run was faster than another, from their files.
#include "cli/bench_commands.h"

#include "base/file_map.h"
#include "base/json.h"
#include "base/json_write.h"
#include "bench/comparison.h"
#include "bench/measurement.h"
#include "cli/command_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 8, STATUS_WORSE = 3 };

static const struct option_row rows[] = {
    {"accept-invalid", OPTION_FLAG, BENCH_FIELD(accept_invalid), NULL, NULL, 0, 0, false,
     "compare runs that broke a rule and are marked INVALID"},
    {"json", OPTION_TEXT, BENCH_FIELD(json), "FILE", NULL, 0, 0, false, "the comparison; - is standard output"},
    {"html", OPTION_TEXT, BENCH_FIELD(html), "FILE", NULL, 0, 0, false, "a report of all runs in one file"},
};
static const struct option_table table = {
    .usage = "optima bench compare A.json B.json [more.json ...] [options]",
    .summary = "Compares runs that \"optima bench --json\" wrote with the first of them, in pairs where both sent the "
               "same\nrequests. Ends with 0 when no difference is shown or B is better, 3 when B is worse in some row, "
               "1 when\na file cannot be compared, 2 when the command line is wrong.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = RUNS_MAX,
};

struct compared {
    const char *path;
    cJSON *tree;
    const cJSON *run;
};

// Why the run does not count; NULL: it does.
static const char *first_reason(const cJSON *run) {
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(run, "valid"))) return NULL;
    const cJSON *why = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(run, "invalid"), 0);
    return cJSON_IsString(why) ? why->valuestring : "no reason is given";
}

// The one run of a file.
static int open_run(struct compared *out, const char *path, bool accept_invalid, struct err *err) {
    static const struct json_limits limits = {
        .depth = 64, .elements = 200000000, .allow_nul = true, .allow_duplicates = true};
    struct file_map file;
    out->path = path;
    int rc = file_map_open(&file, path, err);
    if (rc) return rc;
    rc = json_parse(&out->tree, file_map_text(&file).data, file.n_bytes, &limits, err);
    file_map_close(&file);
    if (rc) return err_prefix(err, "%s", path);
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(out->tree, "optima_bench");
    const cJSON *runs = cJSON_GetObjectItemCaseSensitive(out->tree, "runs");
    if (!cJSON_IsNumber(schema) || !cJSON_IsArray(runs))
        return err_set(err, ERR_FORMAT, "%s: not a file of optima bench --json", path);
    if (schema->valueint != MEASUREMENT_SCHEMA)
        return err_set(err, ERR_UNSUPPORTED, "%s: schema %d, this program reads %d", path, schema->valueint,
                       MEASUREMENT_SCHEMA);
    if (cJSON_GetArraySize(runs) != 1)
        return err_set(err, ERR_UNSUPPORTED, "%s: has %d runs; compare takes files of one", path,
                       cJSON_GetArraySize(runs));
    out->run = cJSON_GetArrayItem(runs, 0);
    if (accept_invalid || !first_reason(out->run)) return 0;
    return err_set(err, ERR_INVALID, "%s is INVALID: %s; --accept-invalid compares it all the same", path,
                   first_reason(out->run));
}

// The runs without their requests, which the comparisons have used.
static void append_document(const struct compared *runs, int n, const struct comparison *comparisons,
                            const char *command, struct str *out) {
    measurement_json_begin("compare", command, out);
    json_write_begin(out, "runs", '[');
    for (int i = 0; i < n; i++) {
        cJSON *run = cJSON_Duplicate(runs[i].run, true);
        cJSON_DeleteItemFromObjectCaseSensitive(run, "requests");
        cJSON_DeleteItemFromObjectCaseSensitive(run, "name");
        cJSON_AddStringToObject(run, "name", runs[i].path);
        char *text = cJSON_PrintUnformatted(run);
        str_printf(out, "%s,", text);
        free(text);
        cJSON_Delete(run);
    }
    json_write_end(out, ']');
    json_write_begin(out, "comparisons", '[');
    for (int i = 1; i < n; i++) comparison_json(&comparisons[i], out);
    json_write_end(out, ']');
    measurement_json_end(out);
}

static int compare_all(const struct option_result *files, bool accept_invalid, struct bench_outputs *outputs,
                       const char *command, bool *worse, struct err *err) {
    struct compared runs[RUNS_MAX] = {0};
    struct comparison comparisons[RUNS_MAX] = {0};
    const int n = files->n_positional;
    FILE *out = bench_outputs_people(outputs);
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) rc = open_run(&runs[i], files->positional[i], accept_invalid, err);
    for (int i = 0; i < n && !rc; i++)
        if (first_reason(runs[i].run))
            fprintf(out, "note: %s is INVALID: %s\n", runs[i].path, first_reason(runs[i].run));
    for (int i = 1; i < n && !rc; i++) {
        rc = comparison_make(&comparisons[i], runs[0].run, runs[i].run, err);
        if (rc) {
            err_prefix(err, "%s and %s", runs[0].path, runs[i].path);
            break;
        }
        if (i > 1) fputc('\n', out);
        comparison_print(out, &comparisons[i], runs[0].path, runs[i].path);
        *worse |= comparisons[i].verdict == COMPARISON_WORSE;
    }
    if (!rc) {
        struct str document = STR_INIT;
        append_document(runs, n, comparisons, command, &document);
        rc = bench_outputs_write_text(outputs, &document, err);
        str_close(&document);
    }
    for (int i = 0; i < n; i++) {
        cJSON_Delete(runs[i].tree);
        comparison_close(&comparisons[i]);
    }
    return rc;
}

int bench_compare_main(int argc, char **argv) {
    struct bench_options options = BENCH_OPTIONS_DEFAULT;
    struct bench_outputs outputs = {0};
    struct option_result result;
    struct str command = STR_INIT;
    struct err err = {0};
    bool worse = false;
    int status;
    if (!command_line_read("bench compare", &table, argc, argv, &options, &result, &status)) return status;
    if (result.n_positional < 2) {
        fputs("optima bench compare: two files are needed; see --help\n", stderr);
        return 2;
    }
    benching_command("optima bench compare", argc, argv, &command);
    int rc = bench_outputs_open(&outputs, options.json, NULL, options.html, &err);
    if (!rc) rc = compare_all(&result, options.accept_invalid, &outputs, str_text(&command), &worse, &err);
    bench_outputs_close(&outputs);
    str_close(&command);
    status = command_line_end("bench compare", rc, &err);
    return status == 0 && worse ? STATUS_WORSE : status;
}
