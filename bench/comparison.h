// Run B against run A: by pairs when both sent the same requests, else as two samples. From documents of
// bench/measurement.h.
//
// Changes are B / A - 1. Quantiles and, without pairs, means come from a block bootstrap, which draws the same blocks
// of both when there are pairs; the mean of pairs is that of log(B / A), tested by flipping the signs of its blocks;
// rates come from their intervals, failures from Fisher's exact test. A row differs when its p, corrected by Holm's
// method for all rows, is below 5 %.
#pragma once

#include "base/err.h"
#include "base/statistics.h"
#include "base/str.h"
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

enum comparison_verdict { COMPARISON_NONE, COMPARISON_BETTER, COMPARISON_WORSE };
const char *comparison_verdict_name(enum comparison_verdict verdict); // "no difference shown", "B is better", ...

enum { COMPARISON_ROWS_MAX = 16, COMPARISON_PAIRS_MIN = 16 };
struct comparison_row {
    const char *name, *unit; // static
    double a, b;
    struct interval change; // not finite where there is none to give
    double p;               // corrected
    enum comparison_verdict verdict;
};

struct comparison {
    size_t n_pairs; // 0: two samples
    int n_rows;
    struct comparison_row rows[COMPARISON_ROWS_MAX];
    enum comparison_verdict verdict; // worse if any row is, else better if any is
    struct str notes;                // a line each
};

// a, b: runs of documents, with requests. ERR_FORMAT: something is missing.
int comparison_make(struct comparison *out, const cJSON *a, const cJSON *b, struct err *err)
    __attribute__((warn_unused_result));
void comparison_print(FILE *out, const struct comparison *comparison, const char *name_a, const char *name_b);
void comparison_json(const struct comparison *comparison, struct str *out); // an object of an array
void comparison_close(struct comparison *comparison);
