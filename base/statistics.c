#include "base/statistics.h"
#include "base/mem.h"
#include "base/rng.h"

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

static size_t n_blocks_of(size_t n) {
    const size_t n_blocks = n / STATISTICS_BLOCK_MIN;
    return n_blocks < STATISTICS_BLOCKS_MAX ? n_blocks : STATISTICS_BLOCKS_MAX;
}

struct interval statistics_mean(const double *values, size_t n) {
    struct interval out = {.mean = n ? mean_of(values, n) : NAN, .low = -INFINITY, .high = INFINITY};
    const size_t n_blocks = n_blocks_of(n);
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

struct interval statistics_mean_independent(const double *values, size_t n) {
    struct interval out = {.mean = n ? mean_of(values, n) : NAN, .low = -INFINITY, .high = INFINITY};
    double squares = 0;
    if (n < 2) return out;
    for (size_t i = 0; i < n; i++) squares += (values[i] - out.mean) * (values[i] - out.mean);
    const double degrees = (double)(n - 1), half = student(degrees) * sqrt(squares / degrees / (double)n);
    out.low = out.mean - half, out.high = out.mean + half;
    return out;
}

// ------------------------------------------------------------------------------------------------------ quantiles

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void statistics_sort(double *values, size_t n) {
    if (n) qsort(values, n, sizeof *values, compare);
}

double statistics_quantile_sorted(const double *sorted, size_t n, double q) {
    assert(n > 0 && q >= 0 && q <= 1);
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

double statistics_quantile(double *values, size_t n, double q) {
    statistics_sort(values, n);
    return statistics_quantile_sorted(values, n, q);
}

double statistics_effective_count(const double *values, size_t n) {
    if (n < 3) return (double)n;
    const double mean = mean_of(values, n);
    double square = 0, neighbour = 0;
    for (size_t i = 0; i < n; i++) {
        square += (values[i] - mean) * (values[i] - mean);
        if (i) neighbour += (values[i] - mean) * (values[i - 1] - mean);
    }
    if (!(square > 0) || !(neighbour > 0)) return (double)n;
    const double r = fmin(neighbour / square, 0.99);
    return (double)n * (1 - r) / (1 + r);
}

// The largest count k with P(at most k - 1 of n) <= p, each with probability q; 0: none. P grows from term to term.
static size_t binomial_below(size_t n, double q, double p) {
    double sum = 0;
    for (size_t k = 0; k < n; k++) {
        const double x = (double)k, all = (double)n;
        sum += exp(lgamma(all + 1) - lgamma(x + 1) - lgamma(all - x + 1) + x * log(q) + (all - x) * log1p(-q));
        if (sum > p) return k;
    }
    return n;
}

struct interval statistics_quantile_interval(const double *sorted, size_t n, double n_effective, double q) {
    struct interval out = {statistics_quantile_sorted(sorted, n, q), -INFINITY, INFINITY};
    const size_t count = (size_t)fmax(n_effective, 1);
    if (q <= 0 || q >= 1) return out;
    // The quantile lies between the order statistics low and high, counted from 1, of `count` values.
    const size_t low = binomial_below(count, q, 0.025), high = count + 1 - binomial_below(count, 1 - q, 0.025);
    const double by = (double)n / (double)count;
    if (low > 0) out.low = sorted[(size_t)(((double)low - 0.5) * by)];
    if (high <= count) out.high = sorted[(size_t)(((double)high - 0.5) * by)];
    return out;
}

// ------------------------------------------------------------------------------------------------------ bootstrap

struct placed {
    double value;
    uint32_t block;
};

static int compare_placed(const void *a, const void *b) {
    return compare(&((const struct placed *)a)->value, &((const struct placed *)b)->value);
}

// In order of size. Of very many values only every so many: their ranks tell quantiles all the same.
static size_t place(struct placed *out, const double *values, size_t n, size_t n_blocks) {
    enum { ENOUGH = 1 << 18 };
    for (size_t b = 0; b < n_blocks; b++)
        for (size_t i = b * n / n_blocks; i < (b + 1) * n / n_blocks; i++)
            out[i] = (struct placed){values[i], (uint32_t)b};
    qsort(out, n, sizeof *out, compare_placed);
    const size_t step = (n + ENOUGH - 1) / ENOUGH;
    size_t kept = 0;
    for (size_t i = step / 2; i < n; i += step) out[kept++] = out[i];
    return kept;
}

static void weighted_quantiles(const struct placed *sorted, size_t n, const uint32_t *weights, uint64_t total,
                               const double *q, size_t n_q, double *out) {
    uint64_t sum = 0;
    size_t i = 0;
    for (size_t k = 0; k < n_q; k++) {
        const double want = q[k] * (double)total;
        while (i < n && (double)(sum + weights[sorted[i].block]) < want) sum += weights[sorted[i++].block];
        out[k] = sorted[i < n ? i : n - 1].value;
    }
}

bool statistics_bootstrap(const double *values, size_t n, const double *q, size_t n_q, size_t n_draws, uint64_t seed,
                          double *draws) {
    const size_t n_blocks = n_blocks_of(n);
    if (n_blocks < 2) return false;
    struct placed *sorted = mem_alloc(n * sizeof *sorted);
    const size_t n_kept = place(sorted, values, n, n_blocks);
    uint32_t n_in[STATISTICS_BLOCKS_MAX] = {0};
    double means[STATISTICS_BLOCKS_MAX];
    for (size_t i = 0; i < n_kept; i++) n_in[sorted[i].block]++;
    for (size_t b = 0; b < n_blocks; b++)
        means[b] = mean_of(values + b * n / n_blocks, (b + 1) * n / n_blocks - b * n / n_blocks);
    for (size_t d = 0; d < n_draws; d++) {
        uint32_t weights[STATISTICS_BLOCKS_MAX] = {0};
        const uint64_t key = rng_key(seed, d, 0);
        double sum = 0, count = 0;
        uint64_t total = 0;
        for (size_t b = 0; b < n_blocks; b++) {
            const size_t drawn = (size_t)((uint64_t)rng_u32(key, b) * n_blocks >> 32);
            const double size = (double)((drawn + 1) * n / n_blocks - drawn * n / n_blocks);
            weights[drawn]++;
            sum += means[drawn] * size, count += size, total += n_in[drawn];
        }
        double *out = draws + d * (1 + n_q);
        out[0] = sum / count;
        weighted_quantiles(sorted, n_kept, weights, total, q, n_q, out + 1);
    }
    free(sorted);
    return true;
}

struct interval statistics_share(size_t k, size_t n) {
    if (n == 0) return (struct interval){NAN, 0, 1};
    const double z = 1.959963984540054, all = (double)n, p = (double)k / all, shrink = 1 + z * z / all;
    const double middle = (p + z * z / (2 * all)) / shrink;
    const double half = z / shrink * sqrt(p * (1 - p) / all + z * z / (4 * all * all));
    return (struct interval){p, fmax(middle - half, 0), fmin(middle + half, 1)};
}

// ----------------------------------------------------------------------------------------------------------- time

size_t statistics_warm_up(const double *values, size_t n) {
    enum { BATCH = 5 };
    const size_t n_batches = n / BATCH;
    double sum = 0, squares = 0, best = INFINITY;
    size_t cut = 0;
    // From the end, so that the sums of what is left grow by one batch at a time.
    for (size_t b = n_batches; b-- > 0;) {
        const double x = mean_of(values + b * BATCH, BATCH), left = (double)(n_batches - b);
        sum += x, squares += x * x;
        const double error = (squares - sum * sum / left) / (left * left);
        if (b <= n_batches / 2 && error <= best) best = error, cut = b * BATCH;
    }
    return cut;
}

struct interval statistics_slope(const double *values, size_t n) {
    struct interval out = {NAN, -INFINITY, INFINITY};
    if (n < 2) return out;
    const double middle = (double)(n - 1) / 2, mean = mean_of(values, n);
    double xx = 0, xy = 0, rest = 0;
    for (size_t i = 0; i < n; i++) {
        xx += ((double)i - middle) * ((double)i - middle);
        xy += ((double)i - middle) * (values[i] - mean);
    }
    out.mean = xy / xx;
    if (n < 3) return out;
    for (size_t i = 0; i < n; i++) {
        const double apart = values[i] - mean - out.mean * ((double)i - middle);
        rest += apart * apart;
    }
    const double half = student((double)n - 2) * sqrt(rest / ((double)n - 2) / xx);
    out.low = out.mean - half, out.high = out.mean + half;
    return out;
}

// ---------------------------------------------------------------------------------------------------------- pairs

struct interval statistics_sequence(const double *differences, size_t n, double alpha) {
    struct interval out = {n ? mean_of(differences, n) : NAN, -INFINITY, INFINITY};
    if (n < STATISTICS_PAIRS_MIN) return out;
    const double count = (double)n, rho = 10;
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (differences[i] - out.mean) * (differences[i] - out.mean);
    const double deviation = sqrt(squares / (count - 1) * (count - 1) / (count - 3));
    const double half = deviation * sqrt((count + rho) / (count * count) * log((count + rho) / (rho * alpha * alpha)));
    out.low = out.mean - half, out.high = out.mean + half;
    return out;
}

// Counts the sums of all 2^n choices of signs that are at least as far from 0. From one choice to the next, in Gray's
// order, one sign turns; every 4,096th sum is made anew, so that rounding does not add up.
static uint64_t count_far_of_all(const double *differences, size_t n, double limit) {
    uint64_t n_far = 0;
    double sum = 0;
    for (uint64_t s = 0; s < (uint64_t)1 << n; s++) {
        const uint64_t signs = s ^ s >> 1;
        if (s % 4096 == 0) {
            sum = 0;
            for (size_t i = 0; i < n; i++) sum += signs >> i & 1 ? differences[i] : -differences[i];
        } else {
            const int turned = __builtin_ctzll(s);
            sum += 2 * (signs >> turned & 1 ? differences[turned] : -differences[turned]);
        }
        n_far += fabs(sum) >= limit;
    }
    return n_far;
}

static uint64_t count_far_of_draws(const double *differences, size_t n, double limit, uint64_t n_draws, uint64_t seed) {
    uint64_t n_far = 0;
    for (uint64_t s = 0; s < n_draws; s++) {
        const uint64_t key = rng_key(seed, s, 0);
        uint32_t bits = 0;
        double sum = 0;
        for (size_t i = 0; i < n; i++, bits >>= 1) {
            if (i % 32 == 0) bits = rng_u32(key, i / 32);
            sum += bits & 1 ? differences[i] : -differences[i];
        }
        n_far += fabs(sum) >= limit;
    }
    return n_far;
}

double statistics_sign_flip(const double *differences, size_t n, uint64_t seed) {
    enum { ALL_UP_TO = 20, DRAWS = 100000 };
    double scale = 0, own = 0;
    for (size_t i = 0; i < n; i++) own += differences[i], scale += fabs(differences[i]);
    const double limit = fabs(own) - 1e-11 * scale; // equal sums in another order
    if (n <= ALL_UP_TO) return (double)count_far_of_all(differences, n, limit) / (double)((uint64_t)1 << n);
    return (double)count_far_of_draws(differences, n, limit, DRAWS, seed) / DRAWS;
}

double statistics_student_above(double t, double degrees) {
    enum { STEPS = 2000 };
    const double scale = exp(lgamma((degrees + 1) / 2) - lgamma(degrees / 2)) / sqrt(degrees * acos(-1));
    const double end = fmin(fabs(t), 1e4), width = end / STEPS;
    double sum = 0; // Simpson's rule from 0 to |t|
    for (int i = 0; i <= STEPS; i++) {
        const double x = i * width, weight = i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2;
        sum += weight * pow(1 + x * x / degrees, -(degrees + 1) / 2);
    }
    const double inside = fmin(scale * sum * width / 3, 0.5);
    return t > 0 ? 0.5 - inside : 0.5 + inside;
}

void statistics_holm(double *p, size_t n) {
    // Each step takes the smallest that is left; a corrected value is negative until the end.
    double least = 0;
    for (size_t step = 0; step < n; step++) {
        size_t at = n;
        for (size_t i = 0; i < n; i++)
            if (p[i] >= 0 && (at == n || p[i] < p[at])) at = i;
        if (at == n) break;
        least = fmax(least, fmin(p[at] * (double)(n - step), 1));
        p[at] = -least - 1;
    }
    for (size_t i = 0; i < n; i++)
        if (p[i] < 0) p[i] = -p[i] - 1;
}
