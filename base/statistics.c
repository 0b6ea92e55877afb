#include "base/statistics.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

// The 97.5 % point of Student's distribution, by Fisher's expansion around the normal one: within 1 % from 3 degrees
// on.
static double student(double degrees) {
    const double z = 1.959963984540054, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * degrees) + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees * degrees) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees * degrees * degrees);
}

static double mean_of(const double *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum / (double)n;
}

struct interval statistics_mean(const double *values, size_t n) {
    struct interval out = {.mean = n ? mean_of(values, n) : NAN, .low = -INFINITY, .high = INFINITY};
    size_t n_blocks = n / STATISTICS_BLOCK_MIN;
    if (n_blocks > STATISTICS_BLOCKS_MAX) n_blocks = STATISTICS_BLOCKS_MAX;
    if (n_blocks < 2) return out;
    double squares = 0;
    for (size_t b = 0; b < n_blocks; b++) {
        size_t first = b * n / n_blocks, end = (b + 1) * n / n_blocks;
        double apart = mean_of(values + first, end - first) - out.mean;
        squares += apart * apart;
    }
    double degrees = (double)(n_blocks - 1), half = student(degrees) * sqrt(squares / degrees / (double)n_blocks);
    out.low = out.mean - half;
    out.high = out.mean + half;
    return out;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double statistics_quantile(double *values, size_t n, double q) {
    assert(n > 0 && q >= 0 && q <= 1);
    qsort(values, n, sizeof *values, compare);
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? values[i] + (at - (double)i) * (values[i + 1] - values[i]) : values[n - 1];
}
