// What one stream costs around the model: wall time of a step through the step loop, and how much of it the model took.
// Usage: bench_step_loop MODEL [TOKENS]
#include "base/clock.h"
#include "base/mem.h"
#include "scheduler/step_loop.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const double LIMIT_US = 100; // everything around the model, HTTP included
enum { WARM_UP_TOKENS = 64, RECORDS = 4096 };

struct receiver {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool woken;
};

static void on_wake(void *context) {
    struct receiver *receiver = context;
    pthread_mutex_lock(&receiver->mutex);
    receiver->woken = true;
    pthread_cond_signal(&receiver->changed);
    pthread_mutex_unlock(&receiver->mutex);
}

// Runs one request; returns the time of its last token less that of its first.
static uint64_t stream(struct step_loop *loop, struct receiver *receiver, uint64_t id, int32_t max_tokens) {
    const int32_t prompt[] = {1};
    struct generation g = {.id = id,
                           .prompt = prompt,
                           .n_prompt = 1,
                           .n_choices = 1,
                           .max_tokens = max_tokens,
                           .sampling = {.top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1},
                           .n_prompt_top_logprobs = -1,
                           .arrived_ns = clock_now_ns()};
    struct err err;
    if (step_loop_submit(loop, &g, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    uint64_t first_ns = 0, last_ns = 0;
    for (bool over = false; !over;) {
        pthread_mutex_lock(&receiver->mutex);
        while (!receiver->woken) pthread_cond_wait(&receiver->changed, &receiver->mutex);
        receiver->woken = false;
        pthread_mutex_unlock(&receiver->mutex);
        const struct generation_event *events;
        size_t n = step_loop_take_events(loop, &events);
        for (size_t i = 0; i < n; i++) {
            if (events[i].index == 0) first_ns = events[i].at_ns;
            last_ns = events[i].at_ns;
            over = events[i].finish != FINISH_NONE;
        }
    }
    return last_ns - first_ns;
}

static void report(struct step_loop *loop, int32_t n_tokens, uint64_t wall_ns) {
    static struct step_record records[RECORDS];
    size_t n = step_loop_records(loop, records, (size_t)n_tokens - 1 < RECORDS ? (size_t)n_tokens - 1 : RECORDS);
    uint64_t model_ns = 0;
    for (size_t i = 0; i < n; i++) model_ns += records[i].times.total_ns;
    double step_us = (double)wall_ns / 1e3 / (n_tokens - 1), model_us = (double)model_ns / 1e3 / (double)n;
    printf("one stream: %.1f us a step (%.0f tokens/s), of which the model %.1f us; around it %.1f us (limit %.0f us: "
           "%s)\n",
           step_us, 1e6 / step_us, model_us, step_us - model_us, LIMIT_US,
           step_us - model_us <= LIMIT_US ? "kept" : "MISSED");
}

static int measure(struct engine *engine, int32_t n_tokens, struct err *err) {
    struct receiver receiver = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct step_loop_options options = {.wake = on_wake, .wake_context = &receiver};
    struct step_loop *loop;
    int rc = step_loop_open(&loop, engine, &options, err);
    if (rc) return rc;
    if (n_tokens == 0 || n_tokens >= engine_limits(engine)->context) n_tokens = engine_limits(engine)->context - 1;
    stream(loop, &receiver, 1, WARM_UP_TOKENS);
    uint64_t wall_ns = stream(loop, &receiver, 2, n_tokens);
    report(loop, n_tokens, wall_ns);
    step_loop_close(loop);
    return 0;
}

int main(int argc, char **argv) {
    struct err err = {0};
    struct model *model = NULL;
    struct backend *backend = NULL;
    struct engine *engine = NULL;
    int rc = model_open(&model, &(struct model_options){.path = argc > 1 ? argv[1] : NULL}, &err);
    if (!rc) rc = backend_open(&backend, &(struct backend_options){.device = "cpu", .instruction_set = "auto"}, &err);
    if (!rc) rc = engine_open(&engine, model, backend, &(struct engine_options){0}, &err);
    if (!rc) rc = measure(engine, argc > 2 ? (int32_t)strtol(argv[2], NULL, 10) : 0, &err);
    if (rc) fprintf(stderr, "%s\n", err.text);
    engine_close(engine);
    if (backend) backend_close(backend);
    model_close(model);
    return rc ? 1 : 0;
}
