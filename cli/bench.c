// optima bench: puts load on any OpenAI-compatible server and says what it measured, and how surely.
#include "cli/commands.h"

#include "bench/explain.h"
#include "bench/table.h"
#include "cli/bench_commands.h"
#include "cli/command_line.h"

#include <stdio.h>
#include <string.h>

static const struct option_row own_rows[] = {
    {"json", OPTION_TEXT, BENCH_FIELD(json), "FILE", NULL, 0, 0, false,
     "configuration, summary, series and all requests; - is standard output"},
    {"csv", OPTION_TEXT, BENCH_FIELD(csv), "FILE", NULL, 0, 0, false, "a row a request"},
    {"html", OPTION_TEXT, BENCH_FIELD(html), "FILE", NULL, 0, 0, false, "a report in one file, with its pictures"},
    {"sweep", OPTION_FLAG, BENCH_FIELD(sweep), NULL, NULL, 0, 0, false,
     "look for the highest rate that meets --slo: doubling from --rate, then bisecting, then repeating it"},
    {"slo-share", OPTION_DOUBLE, BENCH_FIELD(slo_share), "P", NULL, 1, 100, false,
     "percentage of the requests that must meet --slo in a sweep (95)"},
    {"explain", OPTION_FLAG, BENCH_FIELD(explain), NULL, NULL, 0, 0, false,
     "print what every figure means, here and in other clients, and end"},
};

static int measure(struct benching *bench, struct bench_outputs *outputs, const char *command, struct err *err) {
    struct measurement measured;
    int rc = benching_measure(bench, NULL, &measured, err);
    if (!rc) {
        FILE *people = bench_outputs_people(outputs);
        table_print(people, &measured.summary, &measured.run);
        table_print_server(people, &measured.server);
        const struct measurement_document document = {
            .kind = "run", .command = command, .runs = &measured, .n_runs = 1, .with_requests = true};
        rc = bench_outputs_write(outputs, &document, err);
    }
    measurement_close(&measured);
    return rc;
}

int bench_main(int argc, char **argv) {
    if (argc && strcmp(argv[0], "compare") == 0) return bench_compare_main(argc - 1, argv + 1);
    if (argc && strcmp(argv[0], "ab") == 0) return bench_ab_main(argc - 1, argv + 1);
    struct option_row rows[BENCH_ROWS_MAX];
    const struct option_table table = benching_table(
        "optima bench URL [options]",
        "Loads the OpenAI-compatible server at URL (http://host:port) and prints rates and latencies with their\n"
        "intervals. Latencies count from the time at which a request was due. \"optima bench compare A.json "
        "B.json\"\ncompares runs, \"optima bench ab --a URL --b URL\" two servers.",
        own_rows, sizeof own_rows / sizeof *own_rows, 1, rows);
    struct bench_options options = BENCH_OPTIONS_DEFAULT;
    struct bench_outputs outputs = {0};
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
    if (!rc) rc = bench_outputs_open(&outputs, options.json, options.csv, options.html, &err);
    if (!rc) rc = benching_probe(&bench, &err);
    if (!rc) rc = (options.sweep ? bench_sweep : measure)(&bench, &outputs, str_text(&command), &err);
    bench_outputs_close(&outputs);
    benching_close(&bench);
    str_close(&command);
    return command_line_end("bench", rc, &err);
}
