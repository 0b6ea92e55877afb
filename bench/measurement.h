// One run with what it was asked and what it says, and its forms as files: JSON, and CSV with a row a request.
//
// A JSON document, schema MEASUREMENT_SCHEMA:
//   {"optima_bench": 1, "kind": "run" | "sweep" | "compare" | "ab", "made": time, "version": ..., "command": ...,
//    "client": {the machine that ran the client}, "definitions": [...], "runs": [...], more members by kind}
// A run: name, url, model, rate and users (null where not), objectives_ms, settings, workload, began_s, duration_s,
// valid, invalid, notes, summary, outcomes, series, server, and requests: {column: [a value a request]}. Latencies are
// milliseconds, times seconds since the run began, intervals [value, low, high] of 95 % with null for what is not
// known. Runs whose `workload` is equal sent the same requests: those with equal session and turn are pairs.
#pragma once

#include "bench/server_numbers.h"
#include "bench/summary.h"

enum { MEASUREMENT_SCHEMA = 1 };

struct measurement {
    struct str name, url, model;   // name: of the load, such as "8 users"
    double rate;                   // of an open loop; 0: closed, or a trace's times
    int64_t n_users;               // of a closed loop; 0: open
    struct str settings, workload; // JSON objects: all options; those that determine the requests
    struct objectives objectives;
    struct run_record run;
    struct summary summary;
    struct server_numbers server;
};
void measurement_close(struct measurement *measurement);

struct measurement_document {
    const char *kind, *command;
    const struct measurement *runs;
    size_t n_runs;
    bool with_requests;
    const char *more; // members of the document, written by base/json_write.h; NULL: none
};
void measurement_json(const struct measurement_document *document, struct str *out);
void measurement_csv(const struct measurement *runs, size_t n_runs, struct str *out); // a row a request of each run
// What every document begins with, up to "definitions"; members may follow. And its end.
void measurement_json_begin(const char *kind, const char *command, struct str *out);
void measurement_json_end(struct str *out);
// A member [mean, low, high], each times `factor`.
void measurement_write_interval(struct str *out, const char *name, const struct interval *interval, double factor);
