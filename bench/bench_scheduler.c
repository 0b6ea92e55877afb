// What planning and committing a step costs, without an engine: nanoseconds a step for some numbers of sequences.
#include "base/clock.h"
#include "base/mem.h"
#include "scheduler/scheduler.h"

#include <stdio.h>
#include <stdlib.h>

static const double LIMIT_US = 10; // for one sequence

struct desk {
    struct scheduler *scheduler;
    struct engine_limits limits;
    struct step_input input;
    struct sample_result *results;
    struct generation_events events;
};

static void open_desk(struct desk *desk) {
    struct engine_limits *l = &desk->limits;
    *l = (struct engine_limits){.context = 4096,
                                .rows_max = 512,
                                .sequences_max = 128,
                                .logit_rows_max = 128,
                                .block_tokens = 16,
                                .n_blocks = 32768,
                                .block_table_max = 256 * 128,
                                .edits_max = 65536,
                                .seen_max = 262144,
                                .steps_in_flight = 1,
                                .vocab = 32000};
    desk->scheduler = scheduler_open(&(struct scheduler_options){.limits = l});
    struct step_input *in = &desk->input;
    in->token = mem_alloc_zero(512, sizeof *in->token);
    in->position = mem_alloc_zero(512, sizeof *in->position);
    in->sequence = mem_alloc_zero(512, sizeof *in->sequence);
    in->sequences = mem_alloc_zero(128, sizeof *in->sequences);
    in->block_table = mem_alloc_zero(256 * 128, sizeof *in->block_table);
    in->logit_row = mem_alloc_zero(128, sizeof *in->logit_row);
    in->sample = mem_alloc_zero(128, sizeof *in->sample);
    in->edits = mem_alloc_zero(65536, sizeof *in->edits);
    in->seen = mem_alloc_zero(262144, sizeof *in->seen);
    desk->results = mem_alloc_zero(128, sizeof *desk->results);
}

static void close_desk(struct desk *desk) {
    struct step_input *in = &desk->input;
    void *const arrays[] = {in->token,     in->position, in->sequence, in->sequences, in->block_table,
                            in->logit_row, in->sample,   in->edits,    in->seen,      desk->results};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    vec_free(&desk->events);
    scheduler_close(desk->scheduler);
}

static void submit(struct desk *desk, uint64_t id, int32_t n_prompt, int32_t max_tokens, bool penalties) {
    int32_t *prompt = mem_alloc_zero((size_t)n_prompt, sizeof *prompt);
    for (int32_t i = 0; i < n_prompt; i++) prompt[i] = (int32_t)(id * 7919 + (uint64_t)i) % 32000;
    struct generation g = {.id = id,
                           .prompt = prompt,
                           .n_prompt = n_prompt,
                           .n_choices = 1,
                           .max_tokens = max_tokens,
                           .sampling = {.repetition_penalty = penalties ? 1.1f : 1, .n_top_logprobs = -1},
                           .n_prompt_top_logprobs = -1};
    struct request *request;
    struct err err;
    if (request_open(&request, &g, &desk->limits, &err)) abort();
    free(prompt);
    scheduler_submit(desk->scheduler, request, &desk->events);
}

static bool step(struct desk *desk, int32_t token) {
    struct step_input *in = &desk->input;
    in->n_rows = in->n_sequences = in->n_logit_rows = in->n_block_table = in->n_edits = in->n_seen = 0;
    if (!scheduler_plan(desk->scheduler, in, 1)) return false;
    for (int32_t l = 0; l < in->n_logit_rows; l++) desk->results[l].token = token;
    desk->events.count = 0;
    scheduler_commit(desk->scheduler, desk->results, 2, &desk->events);
    return true;
}

static void measure(int32_t n_sequences, int32_t n_prompt, bool penalties) {
    struct desk desk = {0};
    open_desk(&desk);
    enum { TOKENS = 2000 };
    for (int32_t i = 0; i < n_sequences; i++) submit(&desk, (uint64_t)i + 1, n_prompt, TOKENS, penalties);
    struct scheduler_counters counters;
    do {
        step(&desk, 1);
        scheduler_counters(desk.scheduler, &counters);
    } while (counters.n_generated_tokens < (uint64_t)n_sequences); // prompts are computed
    uint64_t begin = clock_now_ns(), n_steps = 0;
    for (int32_t token = 2; step(&desk, token % 32000); token++) n_steps++;
    double us = (double)(clock_now_ns() - begin) / 1e3 / (double)n_steps;
    printf("%3d sequences, prompts of %4d tokens%s: %8.2f us a step, %6.3f us a sequence", n_sequences, n_prompt,
           penalties ? ", penalties" : "", us, us / n_sequences);
    if (n_sequences == 1 && !penalties) printf("   (limit %.0f us: %s)", LIMIT_US, us <= LIMIT_US ? "kept" : "MISSED");
    printf("\n");
    close_desk(&desk);
}

int main(void) {
    static const int32_t counts[] = {1, 8, 32, 128};
    for (int i = 0; i < 4; i++) measure(counts[i], 100, false);
    measure(1, 2000, false);
    measure(128, 2000, false);
    measure(1, 2000, true);
    measure(32, 2000, true);
    return 0;
}
