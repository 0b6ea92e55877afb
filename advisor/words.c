#include "advisor/words.h"

#include <math.h>
#include <stdio.h>

static struct words unknown(void) {
    return (struct words){"unknown"};
}

// Three significant digits with the unit's prefix in front of it.
static struct words scaled(double value, double step, const char *const *prefixes, int n, const char *unit) {
    if (!isfinite(value)) return unknown();
    int i = 0;
    for (; i + 1 < n && fabs(value) >= 0.9995 * step; i++) value /= step;
    struct words words;
    int digits = fabs(value) >= 99.95 ? 0 : fabs(value) >= 9.995 ? 1 : 2;
    if (fabs(value) >= 1e7) // beyond every prefix
        snprintf(words.text, sizeof words.text, "%.2e %s%s", value, prefixes[i], unit);
    else
        snprintf(words.text, sizeof words.text, "%.*f %s%s", digits, value, prefixes[i], unit);
    return words;
}

struct words words_number(double value) {
    if (!isfinite(value)) return unknown();
    struct words words;
    double size = fabs(value);
    if (size >= 1e15)
        snprintf(words.text, sizeof words.text, "%.2e", value);
    else if (size >= 1e9)
        snprintf(words.text, sizeof words.text, "%.3g G", value / 1e9);
    else if (size >= 1e6)
        snprintf(words.text, sizeof words.text, "%.3g M", value / 1e6);
    else if (size >= 100 || (size >= 1 && size == floor(size)))
        snprintf(words.text, sizeof words.text, "%.0f", value);
    else
        snprintf(words.text, sizeof words.text, "%.3g", value);
    return words;
}

struct words words_percent(double share) {
    if (!isfinite(share)) return unknown();
    struct words words;
    double percent = 100 * share;
    snprintf(words.text, sizeof words.text, fabs(percent) < 9.95 ? "%.1f %%" : "%.0f %%", percent);
    if (fabs(percent) >= 1e6) snprintf(words.text, sizeof words.text, "%.2e %%", percent);
    return words;
}

struct words words_seconds(double seconds) {
    if (!isfinite(seconds)) return unknown();
    static const char *const seconds_only[] = {"s"}, *const milli[] = {"ms"}, *const micro[] = {"us"};
    double size = fabs(seconds);
    if (size >= 0.9995 || size == 0) return scaled(seconds, 1e3, seconds_only, 1, "");
    if (size >= 0.9995e-3) return scaled(seconds * 1e3, 1e3, milli, 1, "");
    return scaled(seconds * 1e6, 1e3, micro, 1, "");
}

struct words words_bytes(double bytes) {
    static const char *const prefixes[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi"};
    return scaled(bytes, 1024, prefixes, 6, "B");
}

struct words words_bytes_per_s(double rate) {
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    return scaled(rate, 1000, prefixes, 6, "B/s");
}

struct words words_flops(double rate) {
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    return scaled(rate, 1000, prefixes, 6, "FLOP/s");
}

struct words words_factor(double factor) {
    if (!isfinite(factor)) return unknown();
    struct words words;
    snprintf(words.text, sizeof words.text,
             factor != 0 && fabs(factor) < 0.0095 ? "%.1gx"
             : fabs(factor) < 9.995               ? "%.2fx"
             : fabs(factor) < 1e6                 ? "%.1fx"
                                                  : "%.2ex",
             factor);
    return words;
}

struct words words_factors(struct range factor) {
    struct words low = words_factor(factor.low), high = words_factor(factor.high), both;
    snprintf(both.text, sizeof both.text, "%.18s to %.18s", low.text, high.text);
    return both;
}

struct words words_times(struct range seconds) {
    struct words low = words_seconds(seconds.low), high = words_seconds(seconds.high), both;
    snprintf(both.text, sizeof both.text, "%.18s to %.18s", low.text, high.text);
    return both;
}
