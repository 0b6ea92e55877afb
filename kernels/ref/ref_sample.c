// Drawing a token from one row of logits: the plain definition, by a full sort.
#include "base/rng.h"
#include "kernels/kernel_table.h"
#include "kernels/sample_edit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Larger logit first, lower id first among equals.
static int compare_candidates(const void *a, const void *b) {
    const struct sample_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

static int32_t sort_candidates(struct sample_candidate *candidates, const float *logits, int32_t vocab) {
    for (int32_t i = 0; i < vocab; i++) candidates[i] = (struct sample_candidate){.logit = logits[i], .token = i};
    qsort(candidates, (size_t)vocab, sizeof *candidates, compare_candidates);
    return candidates[0].token;
}

static double log_sum_exp(const float *logits, int32_t vocab, float largest) {
    double sum = 0;
    for (int32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - (double)largest);
    return (double)largest + log(sum);
}

static void report_top(struct sample_result *result, const struct sample_candidate *sorted, int32_t n, double norm) {
    for (int32_t i = 0; i < n; i++) {
        result->top_token[i] = sorted[i].token;
        result->top_logprob[i] = (float)((double)sorted[i].logit - norm);
    }
    result->n_top = n;
}

static int32_t rank_of(const float *logits, int32_t vocab, int32_t token) {
    const struct sample_candidate own = {.logit = logits[token], .token = token};
    int32_t rank = 1;
    for (int32_t i = 0; i < vocab; i++) {
        const struct sample_candidate other = {.logit = logits[i], .token = i};
        if (compare_candidates(&other, &own) < 0) rank++;
    }
    return rank;
}

// Sorted candidates in, how many of them stay out.
static int32_t keep_candidates(struct sample_candidate *sorted, int32_t n, const struct sample_params *params) {
    if (params->min_p > 0) {
        float least = logf(params->min_p);
        int32_t kept = 1;
        while (kept < n && sorted[kept].logit >= least) kept++;
        n = kept;
    }
    if (params->top_k > 0 && params->top_k < n) n = params->top_k;
    if (params->top_p < 1) {
        double total = 0, sum = 0;
        for (int32_t i = 0; i < n; i++) total += exp((double)sorted[i].logit);
        int32_t kept = 0;
        do sum += exp((double)sorted[kept++].logit);
        while (kept < n && sum < (double)params->top_p * total);
        n = kept;
    }
    return n;
}

static int32_t draw(const struct sample_candidate *candidates, int32_t n, const struct sample_params *params) {
    uint64_t key = rng_key(params->seed, (uint64_t)params->choice_index, (uint64_t)params->position);
    int32_t best = candidates[0].token;
    float best_score = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        int32_t token = candidates[i].token;
        float score = candidates[i].logit - logf(rng_exponential(key, (uint64_t)token));
        if (score > best_score || (score == best_score && token < best)) best = token, best_score = score;
    }
    return best;
}

void ref_sample(struct sample_result *result, const float *logits, int32_t vocab, const struct sample_params *params,
                const struct step_input *input, struct sample_scratch *scratch) {
    memset(result, 0, sizeof *result);
    double norm = 0;
    bool logprobs = params->n_top_logprobs >= 0 || params->forced_token >= 0;
    if (logprobs) {
        int32_t n_top = params->n_top_logprobs < vocab ? params->n_top_logprobs : vocab;
        int32_t largest = sort_candidates(scratch->candidates, logits, vocab);
        norm = log_sum_exp(logits, vocab, logits[largest]);
        report_top(result, scratch->candidates, n_top > 0 ? n_top : 0, norm);
    }
    result->token = params->forced_token;
    if (params->forced_token < 0) {
        const float *edited = sample_edit(logits, vocab, params, input, scratch->logits);
        result->token = sort_candidates(scratch->candidates, edited, vocab);
        if (params->temperature >= SAMPLE_TEMPERATURE_MIN) {
            float largest = scratch->candidates[0].logit;
            for (int32_t i = 0; i < vocab; i++)
                scratch->candidates[i].logit = (scratch->candidates[i].logit - largest) / params->temperature;
            result->token = draw(scratch->candidates, keep_candidates(scratch->candidates, vocab, params), params);
        }
    }
    if (!logprobs) return;
    result->logprob = (float)((double)logits[result->token] - norm);
    result->rank = rank_of(logits, vocab, result->token);
}
