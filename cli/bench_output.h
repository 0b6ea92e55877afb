// Files that a run's results go to. They are opened before the run, so that an hour's work is not lost to a mistyped
// folder, and emptied only when there is something to write. "-" is standard output, for one of them; what is for
// people then goes to standard error.
#pragma once

#include "bench/measurement.h"
#include <stdio.h>

struct bench_output {
    const char *path; // NULL: not wanted
    FILE *file;
};
struct bench_outputs {
    struct bench_output json, csv, html;
};

int bench_outputs_open(struct bench_outputs *out, const char *json, const char *csv, const char *html, struct err *err)
    __attribute__((warn_unused_result));
FILE *bench_outputs_people(const struct bench_outputs *outputs);
// Writes what is wanted: the document with all requests as JSON, without them as a page, and as CSV.
int bench_outputs_write(struct bench_outputs *outputs, const struct measurement_document *document, struct err *err)
    __attribute__((warn_unused_result));
// The same for a document that is text already.
int bench_outputs_write_text(struct bench_outputs *outputs, const struct str *document, struct err *err)
    __attribute__((warn_unused_result));
void bench_outputs_close(struct bench_outputs *outputs); // what was not written stays as it was
