#include "bench/arrival.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double RATE_MAX = 1e6;

int arrival_parse(struct arrival *out, const char *rate, double ramp_s, double burstiness, bool constant, uint64_t seed,
                  struct err *err) {
    char *end;
    *out = (struct arrival){.ramp_s = ramp_s, .burstiness = burstiness, .constant = constant};
    out->key = rng_key(seed, 0x617272, 0);
    out->first_rate = out->last_rate = strtod(rate, &end);
    const char *dots = strstr(rate, "..");
    if (dots && end >= dots) { // strtod takes the first dot for its own
        out->first_rate = strtod(rate, NULL);
        out->last_rate = strtod(dots + 2, &end);
    }
    const bool good = end != rate && !*end && out->first_rate > 0 && out->last_rate > 0 &&
                      out->first_rate <= RATE_MAX && out->last_rate <= RATE_MAX;
    if (!good) return err_set(err, ERR_INVALID, "\"%s\" is no rate: 12 requests a second, or 2..40 for a ramp", rate);
    if (dots && !(ramp_s > 0)) return err_set(err, ERR_INVALID, "a ramp needs --duration");
    return 0;
}

static double uniform(struct arrival *arrival) {
    return ((double)rng_u32(arrival->key, arrival->index++) + 0.5) * 0x1p-32;
}

// Marsaglia and Tsang's method, and for shapes below 1 the boost by a power of a uniform number. Mean 1.
static double gamma_unit(struct arrival *arrival, double shape) {
    if (shape == 1) return -log(uniform(arrival));
    double boost = 1, k = shape;
    if (shape < 1) boost = pow(uniform(arrival), 1 / shape), k = shape + 1;
    const double d = k - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = rng_normal_quantile(uniform(arrival)), v = 1 + c * x;
        v = v * v * v;
        if (v > 0 && log(uniform(arrival)) < x * x / 2 + d - d * v + d * log(v)) return d * v * boost / shape;
    }
}

// How many requests are due in expectation until t, and back.
static double count_until(const struct arrival *a, double t) {
    if (a->first_rate == a->last_rate) return a->first_rate * t;
    const double grow = (a->last_rate - a->first_rate) / a->ramp_s, in = fmin(t, a->ramp_s);
    return a->first_rate * in + grow * in * in / 2 + a->last_rate * (t - in);
}

static double time_of(const struct arrival *a, double count) {
    if (a->first_rate == a->last_rate) return count / a->first_rate;
    const double whole = count_until(a, a->ramp_s), grow = (a->last_rate - a->first_rate) / a->ramp_s;
    if (count >= whole) return a->ramp_s + (count - whole) / a->last_rate;
    return (sqrt(a->first_rate * a->first_rate + 2 * grow * count) - a->first_rate) / grow;
}

double arrival_next(struct arrival *arrival) {
    const double gap = arrival->constant ? 1 : gamma_unit(arrival, arrival->burstiness);
    arrival->at_s = time_of(arrival, count_until(arrival, arrival->at_s) + gap);
    return arrival->at_s;
}
