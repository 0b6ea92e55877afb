// Latencies counted in logarithmic buckets: 16 an octave, from 4 microseconds to 18 minutes. Within one, values are
// taken as spread evenly, so that a quantile is within some 3 % of the true one, mostly within 1 %.
#pragma once

#include "base/statistics.h"
#include <stdint.h>

enum { SKETCH_BUCKETS = 448 };

// Bucket of a time. In line: it runs for every token.
static inline int sketch_bucket(uint64_t ns) {
    enum { FIRST_BITS = 12, SUB_BITS = 4 };
    if (ns < (uint64_t)1 << FIRST_BITS) return 0;
    const int exponent = 63 - __builtin_clzll(ns);
    const int bucket = (exponent - FIRST_BITS) * (1 << SUB_BITS) + (int)(ns >> (exponent - SUB_BITS) & 15);
    return bucket < SKETCH_BUCKETS ? bucket : SKETCH_BUCKETS - 1;
}
double sketch_bound_s(int bucket); // the least time of a bucket, in seconds

struct sketch {
    int64_t n;
    int64_t count[SKETCH_BUCKETS];
};
void sketch_add_32(struct sketch *sketch, const uint32_t count[SKETCH_BUCKETS]);
void sketch_add_16(struct sketch *sketch, const uint16_t count[SKETCH_BUCKETS]);

double sketch_quantile(const struct sketch *sketch, double q); // seconds; NAN: empty
// With 95 % bounds, as if there were n_effective independent values; NAN where these do not support it.
struct interval sketch_quantile_interval(const struct sketch *sketch, double n_effective, double q);
int64_t sketch_above(const struct sketch *sketch, double seconds); // how many were longer
