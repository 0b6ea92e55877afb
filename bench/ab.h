// Server A against server B by pairs of blocks: each pair puts the same load on both, one after the other in an order
// that a coin decides, so that what changes on the machine meanwhile hits both alike.
//
// After each pair a confidence sequence over the log ratios of the metric says whether to go on: its bounds hold at
// every look, so that stopping early costs no truth.
#pragma once

#include "base/mem.h"
#include "base/statistics.h"
#include "base/str.h"
#include "bench/record.h"
#include <stdio.h>

enum ab_metric { AB_E2E, AB_TTFT, AB_TPOT, AB_TOKENS, AB_METRICS };
int ab_metric_find(
    const char *name); // -1: there is none; "e2e", "ttft", "tpot" (means of a block), "tokens" (output tokens/s)

struct ab_block {
    double value[AB_METRICS]; // seconds, tokens/s; NAN: the block has none
    size_t n_requests, n_failed;
};
void ab_block_make(struct ab_block *out, const struct run_record *run);

struct ab_pair {
    struct ab_block a, b;
};

enum ab_verdict { AB_UNDECIDED, AB_BETTER, AB_WORSE, AB_NO_DIFFERENCE, AB_FAILING };

struct ab {
    enum ab_metric metric;
    double least; // changes within +- least do not matter
    size_t pairs_max;
    VEC_OF(struct ab_pair) pairs; // those with a ratio of the metric
    VEC_OF(double) log_ratios;    // log(B / A) of the metric
    VEC_OF(struct interval) path; // of the sequence after each pair
    size_t n_lost;                // pairs without a ratio
    enum ab_verdict verdict;
    bool done;
};
// Adds a pair and decides.
void ab_add(struct ab *ab, const struct ab_block *a, const struct ab_block *b);
// The probability that B is worse by more than `least`.
double ab_regression(const struct ab *ab);
void ab_print(FILE *out, const struct ab *ab);
void ab_json(const struct ab *ab, struct str *out); // the member "ab" of a document
void ab_close(struct ab *ab);
