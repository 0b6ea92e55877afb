#include "advisor/sketch.h"

#include <math.h>

double sketch_bound_s(int bucket) {
    if (bucket <= 0) return 0;
    return ldexp(16 + bucket % 16, 12 - 4 + bucket / 16) * 1e-9;
}

void sketch_add_32(struct sketch *sketch, const uint32_t count[SKETCH_BUCKETS]) {
    for (int i = 0; i < SKETCH_BUCKETS; i++) sketch->count[i] += count[i];
    for (int i = 0; i < SKETCH_BUCKETS; i++) sketch->n += count[i];
}

void sketch_add_16(struct sketch *sketch, const uint16_t count[SKETCH_BUCKETS]) {
    for (int i = 0; i < SKETCH_BUCKETS; i++) sketch->count[i] += count[i];
    for (int i = 0; i < SKETCH_BUCKETS; i++) sketch->n += count[i];
}

double sketch_quantile(const struct sketch *sketch, double q) {
    if (sketch->n == 0) return NAN;
    double left = q * (double)sketch->n;
    for (int i = 0; i < SKETCH_BUCKETS; i++) {
        const double count = (double)sketch->count[i];
        if (left <= count && count > 0) {
            const double low = sketch_bound_s(i);
            return low + left / count * (sketch_bound_s(i + 1) - low);
        }
        left -= count;
    }
    return sketch_bound_s(SKETCH_BUCKETS);
}

struct interval sketch_quantile_interval(const struct sketch *sketch, double n_effective, double q) {
    enum { BEYOND_MIN = 4 }; // values on the rarer side of the quantile
    const double n = floor(fmin(n_effective, (double)sketch->n));
    if (!(n * fmin(q, 1 - q) >= BEYOND_MIN)) return (struct interval){NAN, -INFINITY, INFINITY};
    const struct interval share = statistics_share((size_t)(q * n + 0.5), (size_t)n);
    return (struct interval){sketch_quantile(sketch, q), sketch_quantile(sketch, share.low),
                             sketch_quantile(sketch, share.high)};
}

int64_t sketch_above(const struct sketch *sketch, double seconds) {
    double sum = 0;
    for (int i = 0; i < SKETCH_BUCKETS; i++) {
        const double low = sketch_bound_s(i), high = sketch_bound_s(i + 1);
        const double share = (high - seconds) / (high - low);
        sum += (double)sketch->count[i] * fmin(fmax(share, 0), 1);
    }
    return (int64_t)(sum + 0.5);
}
