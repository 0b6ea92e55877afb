// Numbers in memory whose ends are watched: what lies before and behind must not be written, and reading it gives NaN.
#pragma once

#include "base/number.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { GUARD_FLOATS = 24 };

struct guarded {
    float *data; // [n], any address that is a multiple of 4
    size_t n;
    float *memory;
};

static inline uint32_t guard_bits(size_t i) {
    return 0x7fc0dead ^ (uint32_t)(i << 1);
} // NaN

// `shift` 0..15 moves the data off any alignment.
static inline struct guarded guarded_make(size_t n, int shift) {
    size_t total = n + 2 * GUARD_FLOATS + 16;
    struct guarded g = {.n = n, .memory = malloc(total * sizeof(float))};
    g.data = g.memory + GUARD_FLOATS + shift;
    for (size_t i = 0; i < total; i++) g.memory[i] = f32_from_bits(guard_bits(i));
    return g;
}

static inline struct guarded guarded_random(size_t n, int shift, float spread, uint64_t seed) {
    struct guarded g = guarded_make(n, shift);
    for (size_t i = 0; i < n; i++) g.data[i] = spread * (2 * rng_uniform(rng_key(seed, 0, 0), i) - 1);
    return g;
}

static inline struct guarded guarded_copy(const struct guarded *from, int shift) {
    struct guarded g = guarded_make(from->n, shift);
    for (size_t i = 0; i < from->n; i++) g.data[i] = from->data[i];
    return g;
}

// Checks the guards and frees.
static inline void guarded_free(struct guarded *g) {
    size_t total = g->n + 2 * GUARD_FLOATS + 16;
    for (size_t i = 0; i < total; i++)
        if (g->memory + i < g->data || g->memory + i >= g->data + g->n)
            if (f32_bits(g->memory[i]) != guard_bits(i)) fail_msg("a guard at %zu was overwritten", i);
    free(g->memory);
}

// Every element of got is within `relative` of expected, or within `absolute` of a small one.
static inline void expect_close(const char *what, const float *got, const float *expected, size_t n, float relative,
                                float absolute) {
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - expected[i]) <= absolute + relative * fabsf(expected[i])))
            fail_msg("%s: element %zu of %zu is %g, expected %g", what, i, n, (double)got[i], (double)expected[i]);
}
