// What samples say and how surely: means and quantiles with intervals, warm-up, trends, comparisons in pairs.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
    double mean, low, high; // low and high: of 95 %; not finite when there are too few values
};

// Of values whose neighbours are alike, such as the losses of a text's tokens: from the means of at most
// STATISTICS_BLOCKS_MAX blocks of neighbours, each of at least STATISTICS_BLOCK_MIN values, by Student's distribution.
enum { STATISTICS_BLOCKS_MAX = 64, STATISTICS_BLOCK_MIN = 8 };
struct interval statistics_mean(const double *values, size_t n);

// Sorts the values; q in 0 .. 1, between neighbours by proportion. n > 0.
double statistics_quantile(double *values, size_t n, double q);

// The same of values that are sorted already.
double statistics_quantile_sorted(const double *sorted, size_t n, double q);
void statistics_sort(double *values, size_t n);

// How many independent values say as much: n (1 - r) / (1 + r), r the correlation of neighbours where it is positive.
double statistics_effective_count(const double *values, size_t n);

// The quantile (as `mean`) between the order statistics that bound it with 95 %, by the binomial distribution, as if
// there were n_effective values. A bound beyond the smallest or largest value is infinite.
struct interval statistics_quantile_interval(const double *sorted, size_t n, double n_effective, double q);

// Draws the values anew in whole blocks of neighbours (those of statistics_mean), so that what is alike stays together.
// `draws` [n_draws][1 + n_q] gets of each draw its mean and its quantiles, q ascending. The same seed draws the same
// blocks of two samples of one length: pairs stay pairs. False: too few values for two blocks.
bool statistics_bootstrap(const double *values, size_t n, const double *q, size_t n_q, size_t n_draws, uint64_t seed,
                          double *draws);

// Wilson's interval of a share: k of n.
struct interval statistics_share(size_t k, size_t n);

// How many of the first values are warm-up: MSER-5, the cut that leaves the mean of the rest most certain, at most
// half.
size_t statistics_warm_up(const double *values, size_t n);

// The change from one value to the next, by least squares, for independent deviations; n > 2 for bounds.
struct interval statistics_slope(const double *values, size_t n);

// Of independent values, by Student's distribution; n > 1 for bounds.
struct interval statistics_mean_independent(const double *values, size_t n);

// ---------------------------------------------------------------------------------------------- pairs: a against b
//
// The values are differences of pairs, mostly log(b / a).

// Bounds that hold at every n at once with probability 1 - alpha, so that one may look after each pair and stop: the
// normal mixture with rho = 10 pairs, its deviation enlarged for few pairs. Infinite below STATISTICS_PAIRS_MIN pairs.
enum { STATISTICS_PAIRS_MIN = 6 };
struct interval statistics_sequence(const double *differences, size_t n, double alpha);

// The probability of a mean as far from 0 as this one if the sign of each difference were a coin's: all 2^n signs for
// n <= 20, else of 100,000 draws.
double statistics_sign_flip(const double *differences, size_t n, uint64_t seed);

// The probability that Student's distribution exceeds t.
double statistics_student_above(double t, double degrees);

// Holm's correction: p[i] becomes the least level at which it is still rejected beside the others.
void statistics_holm(double *p, size_t n);
