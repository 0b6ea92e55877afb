// optima bench: puts load on any OpenAI-compatible server and says what it measured, and how surely.
#include "cli/commands.h"

#include "bench/explain.h"
#include "bench/page.h"
#include "bench/table.h"
#include "cli/bench_commands.h"
#include "cli/bench_output.h"
#include "cli/benching.h"
#include "cli/command_line.h"

#include <stdio.h>
#include <string.h>

static const struct option_row own_rows[] = {
    {"json", OPTION_TEXT, BENCH_FIELD(json), "FILE", NULL, 0, 0, false,
     "configuration, summary, series and all requests; - is standard output"},
    {"csv", OPTION_TEXT, BENCH_FIELD(csv), "FILE", NULL, 0, 0, false, "a row a request"},
    {"html", OPTION_TEXT, BENCH_FIELD(html), "FILE", NULL, 0, 0, false, "a report in one file, with its pictures"},
    {"explain", OPTION_FLAG, BENCH_FIELD(explain), NULL, NULL, 0, 0, false,
     "print what every figure means, here and in other clients, and end"},
};

enum output { OUTPUT_JSON, OUTPUT_CSV, OUTPUT_HTML, OUTPUTS };

static int open_outputs(struct bench_output outputs[OUTPUTS], const struct bench_options *options, struct err *err) {
    const char *const paths[OUTPUTS] = {options->json, options->csv, options->html};
    int n_standard = 0, rc = 0;
    for (int o = 0; o < OUTPUTS; o++) n_standard += paths[o] && strcmp(paths[o], "-") == 0;
    if (n_standard > 1) return err_set(err, ERR_INVALID, "only one of --json, --csv and --html can be \"-\"");
    for (int o = 0; o < OUTPUTS && !rc; o++) rc = bench_output_open(&outputs[o], paths[o], err);
    return rc;
}

static int write_outputs(struct bench_output outputs[OUTPUTS], const struct measurement_document *document,
                         struct err *err) {
    struct str text = STR_INIT;
    int rc = 0;
    if (outputs[OUTPUT_JSON].file) {
        measurement_json(document, &text);
        rc = bench_output_write(&outputs[OUTPUT_JSON], &text, err);
    }
    if (!rc && outputs[OUTPUT_HTML].file) {
        struct measurement_document brief = *document;
        struct str page = STR_INIT;
        brief.with_requests = false;
        str_clear(&text);
        measurement_json(&brief, &text);
        page_html((struct str_view){text.data, text.n_bytes}, &page);
        rc = bench_output_write(&outputs[OUTPUT_HTML], &page, err);
        str_close(&page);
    }
    str_clear(&text);
    if (!rc && outputs[OUTPUT_CSV].file) {
        measurement_csv(&document->runs[0], &text);
        rc = bench_output_write(&outputs[OUTPUT_CSV], &text, err);
    }
    str_close(&text);
    return rc;
}

static int measure(struct benching *bench, struct bench_output outputs[OUTPUTS], const char *command, struct err *err) {
    struct measurement measured = {0};
    int rc = benching_probe(bench, err);
    if (!rc) rc = benching_measure(bench, NULL, &measured, err);
    if (!rc) {
        table_print(bench_output_for_people(outputs, OUTPUTS), &measured.summary, &measured.run);
        const struct measurement_document document = {
            .kind = "run", .command = command, .runs = &measured, .n_runs = 1, .with_requests = true};
        rc = write_outputs(outputs, &document, err);
    }
    measurement_close(&measured);
    return rc;
}

int bench_main(int argc, char **argv) {
    if (argc && strcmp(argv[0], "compare") == 0) return bench_compare_main(argc - 1, argv + 1);
    struct option_row rows[BENCH_ROWS_MAX];
    const struct option_table table = benching_table(
        "optima bench URL [options]",
        "Loads the OpenAI-compatible server at URL (http://host:port) and prints rates and latencies with their\n"
        "intervals. Latencies count from the time at which a request was due.",
        own_rows, sizeof own_rows / sizeof *own_rows, 1, rows);
    struct bench_options options = BENCH_OPTIONS_DEFAULT;
    struct bench_output outputs[OUTPUTS] = {0};
    struct benching bench = {0};
    struct option_result result;
    struct str command = STR_INIT;
    struct err err = {0};
    int status;
    if (!command_line_read("bench", &table, argc, argv, &options, &result, &status)) return status;
    if (options.explain) {
        explain_print(stdout);
        return 0;
    }
    if (!result.n_positional) {
        fputs("optima bench: a URL is missing; see --help\n", stderr);
        return 2;
    }
    benching_command("optima bench", argc, argv, &command);
    int rc = benching_open(&bench, &options, &table, result.positional[0], &err);
    if (!rc) rc = open_outputs(outputs, &options, &err);
    if (!rc) rc = measure(&bench, outputs, str_text(&command), &err);
    for (int o = 0; o < OUTPUTS; o++) bench_output_close(&outputs[o]);
    benching_close(&bench);
    str_close(&command);
    return command_line_end("bench", rc, &err);
}
