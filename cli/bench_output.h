// Files that a run's results go to. They are opened before the run, so that an hour's work is not lost to a mistyped
// folder, and emptied only when there is something to write.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include <stdio.h>

struct bench_output {
    const char *path; // NULL: not wanted
    FILE *file;
};

int bench_output_open(struct bench_output *out, const char *path, struct err *err) __attribute__((warn_unused_result));
// Writes and closes; nothing when it is not wanted.
int bench_output_write(struct bench_output *output, const struct str *text, struct err *err)
    __attribute__((warn_unused_result));
void bench_output_close(struct bench_output *output); // without writing
// Where tables for people go: standard output, unless one of n outputs is there.
FILE *bench_output_for_people(const struct bench_output *outputs, size_t n);
