#include "kernels/route.h"

#include <assert.h>
#include <math.h>

static void softmax(float *x, int32_t n) {
    float largest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (x[i] > largest) largest = x[i];
    for (int32_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - largest);
    for (int32_t i = 0; i < n; i++) x[i] /= sum;
}

// Whether expert a comes before b among those that a row hits.
static bool is_before(const float *p, int32_t a, int32_t b) {
    float pa = isnan(p[a]) ? -1 : p[a], pb = isnan(p[b]) ? -1 : p[b];
    return pa > pb || (pa == pb && a < b);
}

void route_row(int32_t *expert, float *weight, float *logits, int32_t n_experts, int32_t n_hit, bool renormalised) {
    assert(n_hit > 0 && n_hit <= n_experts);
    softmax(logits, n_experts);
    int32_t n = 0; // of the list, which is in order of probability
    for (int32_t e = 0; e < n_experts; e++) {
        if (n == n_hit && !is_before(logits, e, expert[n - 1])) continue;
        int32_t at = n < n_hit ? n++ : n - 1;
        for (; at > 0 && is_before(logits, e, expert[at - 1]); at--) expert[at] = expert[at - 1];
        expert[at] = e;
    }
    float sum = 0;
    for (int32_t i = 0; i < n; i++) sum += logits[expert[i]];
    for (int32_t i = 1; i < n; i++) { // into order of numbers
        int32_t e = expert[i], at = i;
        for (; at > 0 && expert[at - 1] > e; at--) expert[at] = expert[at - 1];
        expert[at] = e;
    }
    for (int32_t i = 0; i < n; i++) weight[i] = renormalised ? logits[expert[i]] / sum : logits[expert[i]];
}
