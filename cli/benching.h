// What the subcommands of `optima bench` share: the options that describe a load, and one run of it.
#pragma once

#include "base/option.h"
#include "bench/load.h"
#include "bench/measurement.h"

struct bench_options {
    // Of every load.
    const char *model, *api_key, *rate, *trace, *prompt_tokens, *output_tokens, *endpoint, *extra, *slow, *slo,
        *warm_up;
    int64_t users, requests, turns, prefix_tokens, prefixes, seed;
    double duration, burstiness, think, timeout, time_scale;
    bool constant, no_stream, no_ignore_eos, quiet;
    // Where results go; "-" is standard output.
    const char *json, *csv, *html;
    // Of `bench`.
    bool explain, sweep;
    double slo_share;
    // Of `bench compare`.
    bool accept_invalid;
    // Of `bench ab`.
    const char *a, *b, *metric;
    int64_t pairs;
    double least;
};
#define BENCH_OPTIONS_DEFAULT                                                                                          \
    ((struct bench_options){.prompt_tokens = "128",                                                                    \
                            .output_tokens = "64",                                                                     \
                            .endpoint = "chat",                                                                        \
                            .metric = "e2e",                                                                           \
                            .turns = 1,                                                                                \
                            .burstiness = 1,                                                                           \
                            .time_scale = 1,                                                                           \
                            .timeout = 600,                                                                            \
                            .slo_share = 95,                                                                           \
                            .pairs = 40,                                                                               \
                            .least = 2})
#define BENCH_FIELD(field) offsetof(struct bench_options, field)

enum { BENCH_ROWS_MAX = 48 };
// Rows of a subcommand's own options before those of every load. `rows` is of BENCH_ROWS_MAX and must outlive the
// table.
struct option_table benching_table(const char *usage, const char *summary, const struct option_row *own, size_t n_own,
                                   int n_positional_max, struct option_row *rows);

struct benching {
    const struct bench_options *options;
    const struct option_table *table;
    struct trace trace;
    struct workload workload;
    struct arrival arrival;
    struct load_options load;
    struct objectives objectives;
    double warm_up_s;
    struct str model;
    bool counts_tokens;
};

// Reads the options, for the server at `url`. The options and their table must outlive it.
int benching_open(struct benching *out, const struct bench_options *options, const struct option_table *table,
                  const char *url, struct err *err) __attribute__((warn_unused_result));
// "ttft=200ms,itl=50ms,e2e=5s", each as seconds. ERR_INVALID: it is not like that.
int benching_objectives(struct objectives *out, const char *list, struct err *err) __attribute__((warn_unused_result));
// Asks the server for its model and how it counts tokens; once, before the first run.
int benching_probe(struct benching *bench, struct err *err) __attribute__((warn_unused_result));
// One run, with the server's numbers around it. `name` describes its load; NULL: by the options.
int benching_measure(struct benching *bench, const char *name, struct measurement *out, struct err *err)
    __attribute__((warn_unused_result));
// Fills in what was asked: name, url, model, load, settings, workload.
void benching_describe(const struct benching *bench, const char *name, struct measurement *out);
void benching_close(struct benching *bench);

// The command line as it can be typed again, without the key: "optima bench ...".
void benching_command(const char *command, int argc, char **argv, struct str *out);
