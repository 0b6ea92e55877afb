#include "engine/evaluation.h"

#include "base/mem.h"
#include "base/pool.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool evaluation_next_window(struct evaluation_window *window, enum evaluation_rule rule, int32_t length, int32_t stride,
                            size_t n_tokens) {
    const size_t end = window->first + (size_t)window->n;
    const bool is_first = window->n == 0;
    if (rule == EVALUATION_HALVES) {
        if (n_tokens - end < (size_t)length) return false;
        *window = (struct evaluation_window){.first = end, .n = length, .n_unscored = length / 2 + 1};
        return true;
    }
    if (end + (is_first ? 1 : 0) >= n_tokens) return false;
    size_t first = is_first ? 0 : window->first + (size_t)stride, left = n_tokens - first;
    window->first = first;
    window->n = left < (size_t)length ? (int32_t)left : length;
    // Nothing stands before a window's first token.
    window->n_unscored = end > first ? (int32_t)(end - first) : 1;
    return true;
}

static int32_t largest_of(const float *logits, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

double evaluation_divergence(const float *reference, const float *logits, int32_t n, bool *agrees) {
    const int32_t best_p = largest_of(reference, n), best_q = largest_of(logits, n);
    const double max_p = (double)reference[best_p], max_q = (double)logits[best_q];
    double sum_p = 0, sum_q = 0, apart = 0;
    for (int32_t i = 0; i < n; i++) {
        double p = exp((double)reference[i] - max_p);
        sum_p += p;
        sum_q += exp((double)logits[i] - max_q);
        if (p > 0) apart += p * ((double)reference[i] - (double)logits[i]);
    }
    *agrees = best_p == best_q;
    return apart / sum_p - (max_p + log(sum_p)) + (max_q + log(sum_q));
}

// -------------------------------------------------------------------------------------------------------------- steps

struct evaluating {
    struct evaluation *out;
    struct engine *engine, *reference;
    const struct evaluation_options *options;
    struct pool *pool; // for divergences
    int32_t vocab;
    int32_t *tokens;         // [window] of the running one
    float *reference_logits; // [logit rows, V] of the running step
    const float **logits;    // [logit rows] likewise, the engine's
    struct evaluation_window window;
    int32_t done, n_rows, first_logit; // the running step: rows from `done` on; rows from first_logit on have logits
};

static void fill_step(struct step_input *input, const struct evaluating *e, const struct engine_limits *limits) {
    const int32_t kv_len = e->done + e->n_rows;
    input->sequences[0] = (struct step_sequence){.row_count = e->n_rows, .kv_len = kv_len};
    input->n_sequences = 1;
    for (int32_t b = 0; b * limits->block_tokens < kv_len; b++) input->block_table[input->n_block_table++] = b;
    for (int32_t i = 0; i < e->n_rows; i++) {
        const int32_t at = e->done + i;
        input->token[i] = e->tokens[at];
        input->position[i] = at;
        input->sequence[i] = 0;
        if (i < e->first_logit) continue;
        input->logit_row[input->n_logit_rows] = i;
        input->sample[input->n_logit_rows++] = (struct sample_params){
            .top_p = 1, .repetition_penalty = 1, .position = at + 1, .forced_token = e->tokens[at + 1]};
    }
    input->n_rows = e->n_rows;
}

// Negative logprobs of the tokens behind the step's rows of logits.
static int run_step(const struct evaluating *e, struct engine *engine, double *nats, struct err *err) {
    const struct sample_result *results;
    struct step_record record;
    fill_step(engine_next_input(engine), e, engine_limits(engine));
    engine_submit(engine);
    int rc = engine_collect(engine, &results, &record, err);
    for (int32_t i = 0; !rc && i < e->n_rows - e->first_logit; i++) {
        nats[i] = -(double)results[i].logprob;
        if (!isfinite(nats[i]))
            rc = err_set(err, ERR_INVALID, "the prediction of token %zu is not finite",
                         e->window.first + (size_t)(e->done + e->first_logit + i) + 1);
    }
    return rc;
}

static void compare_rows(void *argument, int worker, int n_workers) {
    const struct evaluating *e = argument;
    struct evaluation *out = e->out;
    for (int32_t i = worker; i < e->n_rows - e->first_logit; i += n_workers) {
        const size_t at = out->n_scored + (size_t)i;
        out->divergence[at] = evaluation_divergence(e->reference_logits + (size_t)i * (size_t)e->vocab, e->logits[i],
                                                    e->vocab, &out->agrees[at]);
    }
}

static int score_step(struct evaluating *e, struct err *err) {
    struct evaluation *out = e->out;
    const int32_t n = e->n_rows - e->first_logit;
    int rc = 0;
    if (e->reference) {
        rc = run_step(e, e->reference, out->reference_nats + out->n_scored, err);
        for (int32_t i = 0; !rc && i < n; i++)
            memcpy(e->reference_logits + (size_t)i * (size_t)e->vocab, engine_logits(e->reference, i),
                   (size_t)e->vocab * sizeof(float));
    }
    if (!rc) rc = run_step(e, e->engine, out->nats + out->n_scored, err);
    if (rc) return rc;
    for (int32_t i = 0; e->reference && i < n; i++) e->logits[i] = engine_logits(e->engine, i);
    if (e->reference && n > 0) pool_run(e->pool, pool_size(e->pool), compare_rows, e);
    for (int32_t i = 0; i < n; i++)
        out->token[out->n_scored++] = e->window.first + (size_t)(e->done + e->first_logit + i) + 1;
    return 0;
}

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

static int score_window(struct evaluating *e, struct err *err) {
    const struct engine_limits *limits = engine_limits(e->engine);
    const struct engine_limits *other = e->reference ? engine_limits(e->reference) : limits;
    const int32_t rows_max = least(limits->rows_max, other->rows_max);
    const int32_t logits_max = least(limits->logit_rows_max, other->logit_rows_max);
    const int32_t first_logit = e->window.n_unscored - 1, end = e->window.n - 1; // rows of the window
    int rc = 0;
    for (e->done = 0; !rc && e->done < end; e->done += e->n_rows) {
        const int32_t before = e->done < first_logit ? first_logit - e->done : 0;
        e->n_rows = least(least(end - e->done, rows_max), before + logits_max);
        e->first_logit = least(before, e->n_rows);
        rc = score_step(e, err);
    }
    return rc;
}

// ---------------------------------------------------------------------------------------------------------------- run

static int check(const struct evaluating *e, const int32_t *tokens, size_t n_tokens, struct err *err) {
    const int32_t least_tokens = e->options->rule == EVALUATION_HALVES ? e->options->window : 2;
    assert(e->options->window >= 2 && e->options->window <= engine_limits(e->engine)->context);
    if (n_tokens < (size_t)least_tokens)
        return err_set(err, ERR_INVALID, "the text has %zu tokens; at least %d are needed", n_tokens, least_tokens);
    if (e->reference && engine_limits(e->reference)->vocab != e->vocab)
        return err_set(err, ERR_INVALID, "the models have different vocabularies: %d and %d tokens", e->vocab,
                       engine_limits(e->reference)->vocab);
    for (size_t i = 0; i < n_tokens; i++)
        if (tokens[i] < 0 || tokens[i] >= e->vocab)
            return err_set(err, ERR_INVALID, "token %zu of the text has the id %d; the model knows %d", i, tokens[i],
                           e->vocab);
    return 0;
}

static void reserve(struct evaluating *e, size_t n_tokens) {
    struct evaluation *out = e->out;
    out->token = mem_alloc_zero(n_tokens, sizeof *out->token);
    out->nats = mem_alloc_zero(n_tokens, sizeof *out->nats);
    e->tokens = mem_alloc_zero((size_t)e->options->window, sizeof *e->tokens);
    if (!e->reference) return;
    out->reference_nats = mem_alloc_zero(n_tokens, sizeof *out->reference_nats);
    out->divergence = mem_alloc_zero(n_tokens, sizeof *out->divergence);
    out->agrees = mem_alloc_zero(n_tokens, sizeof *out->agrees);
    size_t n_rows = (size_t)engine_limits(e->engine)->logit_rows_max;
    e->reference_logits = mem_alloc_zero(n_rows * (size_t)e->vocab, sizeof *e->reference_logits);
    e->logits = mem_alloc_zero(n_rows, sizeof *e->logits);
}

static int run(struct evaluating *e, const int32_t *tokens, size_t n_tokens, struct err *err) {
    const struct evaluation_options *options = e->options;
    int rc = check(e, tokens, n_tokens, err);
    if (!rc && e->reference) rc = pool_open(&e->pool, pool_cores(), err);
    if (rc) return rc;
    reserve(e, n_tokens);
    while (!rc && evaluation_next_window(&e->window, options->rule, options->window, options->stride, n_tokens)) {
        memcpy(e->tokens, tokens + e->window.first, (size_t)e->window.n * sizeof *e->tokens);
        if (options->rule == EVALUATION_HALVES && options->bos >= 0) e->tokens[0] = options->bos;
        rc = score_window(e, err);
        if (options->progress)
            options->progress(options->progress_context, e->window.first + (size_t)e->window.n, n_tokens);
    }
    return rc;
}

int evaluation_run(struct evaluation *out, struct engine *engine, struct engine *reference, const int32_t *tokens,
                   size_t n_tokens, const struct evaluation_options *options, struct err *err) {
    *out = (struct evaluation){0};
    struct evaluating e = {.out = out,
                           .engine = engine,
                           .reference = reference,
                           .options = options,
                           .vocab = engine_limits(engine)->vocab};
    int rc = run(&e, tokens, n_tokens, err);
    if (e.pool) pool_close(e.pool);
    free(e.tokens);
    free(e.reference_logits);
    free(e.logits);
    if (rc) evaluation_close(out);
    return rc;
}

void evaluation_close(struct evaluation *evaluation) {
    free(evaluation->token);
    free(evaluation->nats);
    free(evaluation->reference_nats);
    free(evaluation->divergence);
    free(evaluation->agrees);
    *evaluation = (struct evaluation){0};
}

// ------------------------------------------------------------------------------------------------------------ summary

static struct interval perplexity_of(const double *nats, size_t n) {
    struct interval mean = statistics_mean(nats, n);
    return (struct interval){exp(mean.mean), exp(mean.low), exp(mean.high)};
}

void evaluation_summarise(const struct evaluation *evaluation, struct evaluation_summary *out) {
    const size_t n = evaluation->n_scored;
    *out = (struct evaluation_summary){.perplexity = perplexity_of(evaluation->nats, n)};
    if (!evaluation->reference_nats || n == 0) return;
    out->reference_perplexity = perplexity_of(evaluation->reference_nats, n);
    double *values = mem_alloc(n * sizeof *values);
    // A small change of a mean changes its perplexity by so many times as much.
    const double ours = out->perplexity.mean, theirs = out->reference_perplexity.mean;
    for (size_t i = 0; i < n; i++) values[i] = ours * evaluation->nats[i] - theirs * evaluation->reference_nats[i];
    struct interval change = statistics_mean(values, n);
    out->difference = (struct interval){ours - theirs, ours - theirs + change.low - change.mean,
                                        ours - theirs + change.high - change.mean};
    out->divergence = statistics_mean(evaluation->divergence, n);
    size_t n_agree = 0;
    for (size_t i = 0; i < n; i++) n_agree += evaluation->agrees[i];
    out->agreement = (double)n_agree / (double)n;
    memcpy(values, evaluation->divergence, n * sizeof *values);
    out->divergence_median = statistics_quantile(values, n, 0.5);
    out->divergence_p99 = statistics_quantile(values, n, 0.99);
    out->divergence_max = values[n - 1];
    free(values);
}
