// What the fake engine's model answers to a request when nothing else exists in the world: computed from the tokens
// alone, without steps, blocks or a cache.
#pragma once

#include "scheduler/generation.h"
#include "tests/scheduler/fake_engine.h"

struct fake_answer {
    int32_t *tokens; // [n_tokens]
    int32_t n_tokens;
    enum finish_reason finish;
    float *prompt_logprobs; // [n_prompt], [0] unused
};

struct fake_state {
    uint64_t value, sum;
    int32_t position; // of the next token
};

static inline void fake_state_push(struct fake_state *state, int32_t token) {
    state->value = fake_slot_value(state->value, token, state->position);
    state->sum = fake_attend(state->sum, state->value, state->position);
    state->position++;
}

static inline bool fake_is_stop(const struct generation *g, int32_t token) {
    for (int32_t i = 0; i < g->n_stop_tokens; i++)
        if (g->stop_tokens[i] == token) return true;
    return false;
}

// n_seen[token]: 0 never seen, 1 + occurrences among generated tokens otherwise.
static inline int32_t fake_next(const struct generation *g, int32_t choice, int32_t vocab,
                                const struct fake_state *state, const int32_t *n_seen) {
    bool bans = !g->ignore_eos && state->position - g->n_prompt < g->min_tokens;
    const struct sample_params *p = &g->sampling;
    uint64_t conditions = 0;
    for (int32_t i = 0; i < g->n_bias; i++) conditions += fake_edit_hash(g->bias[i]);
    for (int32_t i = 0; bans && i < g->n_stop_tokens; i++)
        conditions += fake_edit_hash((struct logit_edit){g->stop_tokens[i], -INFINITY});
    if (p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0)
        for (int32_t token = 0; token < vocab; token++)
            if (n_seen[token]) conditions += fake_seen_hash((struct seen_token){token, n_seen[token] - 1});
    struct sample_params params = {.seed = p->seed, .choice_index = choice, .position = state->position};
    int32_t token = (int32_t)(fake_draw(state->sum, conditions, &params) % (uint64_t)vocab);
    while (bans && fake_is_stop(g, token)) token = (token + 1) % vocab;
    return token;
}

// Free with fake_answer_close.
static inline struct fake_answer fake_answer_make(const struct generation *g, int32_t choice, int32_t vocab) {
    struct fake_answer answer = {.tokens = mem_alloc_zero((size_t)g->max_tokens + 1, sizeof(int32_t)),
                                 .finish = FINISH_LENGTH,
                                 .prompt_logprobs = mem_alloc_zero((size_t)g->n_prompt, sizeof(float))};
    struct fake_state state = {0};
    int32_t *n_seen = mem_alloc_zero((size_t)vocab, sizeof *n_seen);
    for (int32_t i = 0; i < g->n_prompt; i++) {
        if (i) answer.prompt_logprobs[i] = fake_logprob(state.sum, g->prompt[i]);
        fake_state_push(&state, g->prompt[i]);
        n_seen[g->prompt[i]] = 1;
    }
    while (answer.n_tokens < g->max_tokens) {
        int32_t token = fake_next(g, choice, vocab, &state, n_seen);
        answer.tokens[answer.n_tokens++] = token;
        if (!g->ignore_eos && fake_is_stop(g, token)) {
            answer.finish = FINISH_STOP;
            break;
        }
        fake_state_push(&state, token);
        n_seen[token] = n_seen[token] ? n_seen[token] + 1 : 2;
    }
    free(n_seen);
    return answer;
}

static inline void fake_answer_close(struct fake_answer *answer) {
    free(answer->tokens);
    free(answer->prompt_logprobs);
}
