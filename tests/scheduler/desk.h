// A scheduler without an engine: the test looks at each planned step and makes up its results.
//
// Token i of request r's prompt is r * 1000 + i; the token that it draws for position p is r * 1000 + 500 + p, unless
// the test sets desk.draw. So every row says whose it is.
#pragma once

#include "base/mem.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/fake_engine.h"

enum { DESK_PROMPT_MAX = 400, DESK_REQUESTS_MAX = 40, DESK_STEPS_KEPT = 2 };

struct desk {
    struct engine_limits limits;
    struct scheduler_options options;
    struct engine *engine; // for the memory of its inputs
    struct scheduler *scheduler;
    struct step_input *input; // of the step planned last
    struct sample_params sample[DESK_STEPS_KEPT][64];
    int32_t n_logit_rows[DESK_STEPS_KEPT];
    uint64_t n_planned, n_committed;
    struct generation_events events; // all so far
    int32_t draw;                    // >= 0: what every draw gives
};

// Limits that bound nothing; a test narrows what it is about before desk_start.
static inline struct desk desk_make(void) {
    struct desk desk = {.draw = -1};
    desk.limits = (struct engine_limits){.context = 600,
                                         .rows_max = 64,
                                         .sequences_max = 16,
                                         .logit_rows_max = 16,
                                         .block_tokens = 4,
                                         .n_blocks = 1000,
                                         .block_table_max = 150 * 16,
                                         .edits_max = 256,
                                         .seen_max = 600,
                                         .steps_in_flight = 1,
                                         .vocab = 1000 * 1000};
    return desk;
}

static inline void desk_start(struct desk *desk) {
    desk->options.limits = &desk->limits;
    desk->engine = fake_engine_open(&desk->limits);
    desk->scheduler = scheduler_open(&desk->options);
}

static inline struct scheduler_counters desk_counters(const struct desk *desk) {
    struct scheduler_counters counters;
    scheduler_counters(desk->scheduler, &counters);
    return counters;
}

// The request number `id`; the prompt's tokens are those of request `prompt_of`.
static inline struct generation desk_generation(uint64_t id, uint64_t prompt_of, int32_t n_prompt, int32_t max_tokens) {
    static int32_t prompts[DESK_REQUESTS_MAX][DESK_PROMPT_MAX];
    assert(prompt_of < DESK_REQUESTS_MAX && n_prompt <= DESK_PROMPT_MAX);
    for (int32_t i = 0; i < n_prompt; i++) prompts[prompt_of][i] = (int32_t)prompt_of * 1000 + i;
    struct generation g = {.id = id,
                           .prompt = prompts[prompt_of],
                           .n_prompt = n_prompt,
                           .n_choices = 1,
                           .max_tokens = max_tokens,
                           .n_prompt_top_logprobs = -1};
    g.sampling = (struct sample_params){.temperature = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .seed = id};
    return g;
}

static inline void desk_submit(struct desk *desk, const struct generation *generation) {
    struct request *request;
    struct err err;
    int rc = request_open(&request, generation, &desk->limits, &err);
    assert(rc == 0);
    scheduler_submit(desk->scheduler, request, &desk->events);
}

static inline void desk_submit_plain(struct desk *desk, uint64_t id, int32_t n_prompt, int32_t max_tokens) {
    struct generation g = desk_generation(id, id, n_prompt, max_tokens);
    desk_submit(desk, &g);
}

static inline bool desk_plan(struct desk *desk) {
    desk->input = &desk->engine->inputs[desk->n_planned % 2];
    desk->input->n_rows = desk->input->n_sequences = desk->input->n_logit_rows = 0;
    desk->input->n_block_table = desk->input->n_edits = desk->input->n_seen = 0;
    scheduler_check_integrity(desk->scheduler);
    if (!scheduler_plan(desk->scheduler, desk->input, desk->n_planned + 1)) return false;
    scheduler_check_integrity(desk->scheduler);
    int kept = (int)(desk->n_planned++ % DESK_STEPS_KEPT);
    desk->n_logit_rows[kept] = desk->input->n_logit_rows;
    for (int32_t l = 0; l < desk->input->n_logit_rows; l++) desk->sample[kept][l] = desk->input->sample[l];
    return true;
}

static inline void desk_commit(struct desk *desk) {
    struct sample_result results[64] = {0};
    int kept = (int)(desk->n_committed++ % DESK_STEPS_KEPT);
    for (int32_t l = 0; l < desk->n_logit_rows[kept]; l++) {
        const struct sample_params *p = &desk->sample[kept][l];
        results[l].token = p->forced_token;
        if (results[l].token < 0)
            results[l].token = desk->draw >= 0 ? desk->draw : (int32_t)p->seed * 1000 + 500 + p->position;
    }
    scheduler_commit(desk->scheduler, results, 1000 + desk->n_committed, &desk->events);
    scheduler_check_integrity(desk->scheduler);
}

// Plans and commits until nothing is left to do; returns the number of steps.
static inline int desk_run(struct desk *desk) {
    int n = 0;
    while (desk_plan(desk)) {
        desk_commit(desk);
        n++;
    }
    return n;
}

// Rows of the planned step with tokens of a request.
static inline int32_t desk_rows(const struct desk *desk, uint64_t id) {
    int32_t n = 0;
    for (int32_t r = 0; r < desk->input->n_rows; r++)
        n += desk->input->token[r] >= 0 && (uint64_t)desk->input->token[r] / 1000 == id;
    return n;
}

// Sampling parameters of the draw of a request in the planned step, NULL when it draws nothing.
static inline const struct sample_params *desk_draw_of(const struct desk *desk, uint64_t id) {
    for (int32_t l = 0; l < desk->input->n_logit_rows; l++)
        if (desk->input->sample[l].seed == id && desk->input->sample[l].forced_token < 0)
            return &desk->input->sample[l];
    return NULL;
}

static inline int32_t desk_count(const struct desk *desk, uint64_t id, enum generation_event_kind kind,
                                 enum finish_reason finish) {
    int32_t n = 0;
    for (size_t i = 0; i < desk->events.count; i++) {
        const struct generation_event *event = &desk->events.items[i];
        n += event->id == id && event->kind == kind && event->finish == finish;
    }
    return n;
}

static inline int32_t desk_n_tokens(const struct desk *desk, uint64_t id) {
    int32_t n = 0;
    for (size_t i = 0; i < desk->events.count; i++)
        n += desk->events.items[i].id == id && desk->events.items[i].kind == EVENT_TOKEN;
    return n;
}

static inline void desk_close(struct desk *desk) {
    scheduler_check_integrity(desk->scheduler);
    scheduler_close(desk->scheduler);
    fake_engine_close(desk->engine);
    vec_free(&desk->events);
}
