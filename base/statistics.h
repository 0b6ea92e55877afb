// Means with intervals, and quantiles.
#pragma once

#include <stddef.h>

struct interval {
    double mean, low, high; // low and high: of 95 %; not finite when there are too few values
};

// Of values whose neighbours are alike, such as the losses of a text's tokens: from the means of at most
// STATISTICS_BLOCKS_MAX blocks of neighbours, each of at least STATISTICS_BLOCK_MIN values, by Student's distribution.
enum { STATISTICS_BLOCKS_MAX = 64, STATISTICS_BLOCK_MIN = 8 };
struct interval statistics_mean(const double *values, size_t n);

// Sorts the values; q in 0 .. 1, between neighbours by proportion. n > 0.
double statistics_quantile(double *values, size_t n, double q);
