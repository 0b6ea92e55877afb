#include "bench/amount.h"
#include "base/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool number(const char **at, char end, double *out) {
    char *stop;
    *out = strtod(*at, &stop);
    if (stop == *at || *stop != end || !isfinite(*out)) return false;
    *at = stop + (end != 0);
    return true;
}

static bool read_pair(struct amount *out, enum amount_kind kind, const char *at) {
    out->kind = kind;
    return number(&at, ':', &out->a) && number(&at, 0, &out->b) && out->a >= 1 && out->a <= AMOUNT_MAX && out->b >= 0;
}

int amount_parse(struct amount *out, const char *text, struct err *err) {
    *out = (struct amount){0};
    const char *dots = strstr(text, ".."), *at = text;
    bool good;
    if (strncmp(text, "normal:", 7) == 0) {
        good = read_pair(out, AMOUNT_NORMAL, text + 7);
    } else if (strncmp(text, "lognormal:", 10) == 0) {
        good = read_pair(out, AMOUNT_LOGNORMAL, text + 10);
    } else if (dots) {
        char *end;
        *out = (struct amount){AMOUNT_UNIFORM, (double)strtoll(text, &end, 10), 0};
        at = dots + 2;
        good = end == dots && end > text && number(&at, 0, &out->b) && out->a >= 1 && out->b >= out->a;
    } else {
        good = number(&at, 0, &out->a) && out->a >= 1;
    }
    if (good && out->a <= AMOUNT_MAX && (out->kind != AMOUNT_UNIFORM || out->b <= AMOUNT_MAX)) return 0;
    return err_set(err, ERR_INVALID,
                   "\"%s\" is no number of tokens: 512, 128..1024, normal:MEAN:DEVIATION or lognormal:MEDIAN:SIGMA",
                   text);
}

static double normal(uint64_t key, uint64_t index) {
    return rng_normal_quantile(((double)rng_u32(key, index) + 0.5) * 0x1p-32);
}

int64_t amount_draw(const struct amount *amount, uint64_t key, uint64_t index) {
    double x = amount->a;
    if (amount->kind == AMOUNT_UNIFORM)
        x = floor(amount->a + (amount->b - amount->a + 1) * ((double)rng_u32(key, index) * 0x1p-32));
    else if (amount->kind == AMOUNT_NORMAL)
        x = amount->a + amount->b * normal(key, index);
    else if (amount->kind == AMOUNT_LOGNORMAL)
        x = amount->a * exp(amount->b * normal(key, index));
    return llround(fmin(fmax(x, 1), AMOUNT_MAX));
}

double amount_mean(const struct amount *amount) {
    if (amount->kind == AMOUNT_UNIFORM) return (amount->a + amount->b) / 2;
    if (amount->kind == AMOUNT_LOGNORMAL) return amount->a * exp(amount->b * amount->b / 2);
    return amount->a;
}
