#include "scheduler/sequence.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int check_range(const char *name, int64_t value, int64_t min, int64_t max, struct err *err) {
    if (value >= min && value <= max) return 0;
    return err_set(err, ERR_INVALID, "%s is %lld; it must be within %lld and %lld", name, (long long)value,
                   (long long)min, (long long)max);
}

static int check_tokens(const char *name, const int32_t *tokens, int32_t n, int32_t vocab, struct err *err) {
    for (int32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return err_set(err, ERR_INVALID, "%s: token %d is outside the vocabulary of %d", name, tokens[i], vocab);
    return 0;
}

static int check_generation(const struct generation *g, const struct engine_limits *limits, struct err *err) {
    int rc = check_range("the number of choices", g->n_choices, 1, GENERATION_CHOICES_MAX, err);
    if (!rc) rc = check_range("the number of prompt tokens", g->n_prompt, 1, INT32_MAX, err);
    if (!rc) rc = check_range("max_tokens", g->max_tokens, 0, INT32_MAX, err);
    if (!rc) rc = check_range("the number of stop tokens", g->n_stop_tokens, 0, GENERATION_STOP_TOKENS_MAX, err);
    if (!rc) rc = check_range("top_logprobs", g->sampling.n_top_logprobs, -1, TOP_LOGPROBS_MAX, err);
    if (!rc) rc = check_range("prompt_logprobs", g->n_prompt_top_logprobs, -1, TOP_LOGPROBS_MAX, err);
    if (!rc) rc = check_range("the number of biases", g->n_bias, 0, INT32_MAX, err);
    if (rc) return rc;
    if ((int64_t)g->n_prompt + g->max_tokens > limits->context)
        return err_set(err, ERR_LIMIT, "%d prompt tokens and %d new ones do not fit the context of %d tokens",
                       g->n_prompt, g->max_tokens, limits->context);
    if (g->n_bias > limits->edits_max - GENERATION_STOP_TOKENS_MAX)
        return err_set(err, ERR_LIMIT, "%d biased tokens; at most %d are possible", g->n_bias,
                       limits->edits_max - GENERATION_STOP_TOKENS_MAX);
    for (int32_t i = 0; !rc && i < g->n_bias; i++)
        rc = check_tokens("logit_bias", &g->bias[i].token, 1, limits->vocab, err);
    if (!rc) rc = check_tokens("stop tokens", g->stop_tokens, g->n_stop_tokens, limits->vocab, err);
    if (!rc) rc = check_tokens("prompt", g->prompt, g->n_prompt, limits->vocab, err);
    return rc;
}

static void *copy(struct arena *arena, const void *data, size_t count, size_t n_bytes) {
    void *out = arena_alloc(arena, count * n_bytes);
    if (count) memcpy(out, data, count * n_bytes);
    return out;
}

static int compare_tokens(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

// The distinct tokens of the prompt, ascending, without occurrences among generated ones.
static int32_t list_prompt_tokens(struct request *request, struct seen_token **out) {
    const struct generation *g = &request->generation;
    size_t n = (size_t)g->n_prompt;
    int32_t *sorted = mem_alloc(n * sizeof *sorted);
    memcpy(sorted, g->prompt, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_tokens);
    *out = arena_alloc(&request->arena, n * sizeof **out);
    int32_t n_seen = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || sorted[i] != sorted[i - 1]) (*out)[n_seen++] = (struct seen_token){sorted[i], 0};
    free(sorted);
    return n_seen;
}

static bool has_penalties(const struct sample_params *p) {
    return p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static void open_choices(struct request *request, int32_t block_tokens) {
    const struct generation *g = &request->generation;
    struct seen_token *seen = NULL;
    bool penalties = has_penalties(&g->sampling) && g->max_tokens > 0;
    int32_t n_seen = penalties ? list_prompt_tokens(request, &seen) : 0;
    size_t n_blocks = ((size_t)g->n_prompt + (size_t)g->max_tokens + (size_t)block_tokens - 1) / (size_t)block_tokens;
    request->choices = arena_alloc_zero(&request->arena, (size_t)g->n_choices, sizeof *request->choices);
    for (int32_t i = 0; i < g->n_choices; i++) {
        struct sequence *sequence = &request->choices[i];
        *sequence = (struct sequence){.request = request, .choice = i, .state = SEQUENCE_HELD};
        sequence->generated = arena_alloc(&request->arena, (size_t)g->max_tokens * sizeof(int32_t));
        sequence->blocks = arena_alloc(&request->arena, n_blocks * sizeof(int32_t));
        if (!penalties) continue;
        sequence->seen = arena_alloc(&request->arena, (size_t)(n_seen + g->max_tokens) * sizeof *seen);
        memcpy(sequence->seen, seen, (size_t)n_seen * sizeof *seen);
        sequence->n_seen = n_seen;
    }
}

int request_open(struct request **out, const struct generation *generation, const struct engine_limits *limits,
                 struct err *err) {
    int rc = check_generation(generation, limits, err);
    if (rc) return rc;
    struct request *request = mem_alloc_zero(1, sizeof *request);
    struct generation *g = &request->generation;
    *g = *generation;
    g->prompt = copy(&request->arena, generation->prompt, (size_t)g->n_prompt, sizeof *g->prompt);
    g->bias = copy(&request->arena, generation->bias, (size_t)g->n_bias, sizeof *g->bias);
    open_choices(request, limits->block_tokens);
    request->n_open = g->n_choices;
    *out = request;
    return 0;
}

size_t request_bytes_max(const struct engine_limits *limits) {
    // Prompt and generated tokens together fill the context at most; so do the tokens that penalties count.
    size_t context = (size_t)limits->context, n_blocks = context / (size_t)limits->block_tokens + 1;
    return sizeof(struct request) + sizeof(struct sequence) +
           context * (sizeof(int32_t) + 2 * sizeof(struct seen_token)) + n_blocks * sizeof(int32_t);
}

void request_close(struct request *request) {
    if (!request) return;
    arena_close(&request->arena);
    free(request);
}

int32_t sequence_rows_left(const struct sequence *sequence) {
    const struct generation *g = &sequence->request->generation;
    // Without a token to draw only prompt logprobs are asked for, and the last row reports none.
    if (g->max_tokens == 0) return g->n_prompt - 1 - sequence->n_computed;
    if (sequence->n_drafting || sequence->n_generated + sequence->n_drawing >= g->max_tokens) return 0;
    if (sequence->n_drawing && sequence_has_penalties(sequence)) return 0;
    return sequence_n_known(sequence) + sequence->n_drawing - sequence->n_computed;
}

int32_t seen_count(struct seen_token *seen, int32_t n_seen, int32_t token) {
    int32_t low = 0, high = n_seen;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (seen[middle].token < token)
            low = middle + 1;
        else
            high = middle;
    }
    struct seen_token *at = &seen[low];
    if (low == n_seen || at->token != token) {
        memmove(at + 1, at, (size_t)(n_seen - low) * sizeof *at);
        *at = (struct seen_token){token, 0};
        n_seen++;
    }
    at->n_generated++;
    return n_seen;
}

enum finish_reason sequence_append(struct sequence *sequence, int32_t token) {
    const struct generation *g = &sequence->request->generation;
    assert(sequence->n_generated < g->max_tokens);
    sequence->generated[sequence->n_generated++] = token;
    if (sequence->seen) sequence->n_seen = seen_count(sequence->seen, sequence->n_seen, token);
    for (int32_t i = 0; !g->ignore_eos && i < g->n_stop_tokens; i++)
        if (g->stop_tokens[i] == token) return FINISH_STOP;
    return sequence->n_generated == g->max_tokens ? FINISH_LENGTH : FINISH_NONE;
}

bool request_bans_stops(const struct request *request, int32_t index) {
    const struct generation *g = &request->generation;
    return index < g->min_tokens && !g->ignore_eos;
}

bool request_reports_prompt(const struct request *request) {
    const struct generation *g = &request->generation;
    return g->n_prompt_top_logprobs >= 0 && request->n_prompt_reported < g->n_prompt - 1;
}
