// What the results of a step mean for its sequences.
#include "scheduler/state.h"

#include <assert.h>

static void commit_forced(struct scheduler *scheduler, const struct planned_rows *planned,
                          const struct sample_result *results, uint64_t now_ns, struct generation_events *events) {
    struct sequence *sequence = planned->sequence;
    struct request *request = sequence->request;
    for (int32_t i = 0; i < planned->n_forced; i++) {
        scheduler_emit(events, sequence, EVENT_PROMPT_LOGPROB, FINISH_NONE, &results[i], now_ns);
        struct generation_event *event = &events->items[events->count - 1];
        event->index = ++request->n_prompt_reported;
        event->has_logprobs = true;
        assert(event->index == planned->forced_first + i);
    }
    if (!request_reports_prompt(request)) scheduler_release_held(scheduler, request, events);
}

static enum finish_reason commit_draw(struct scheduler *scheduler, struct sequence *sequence,
                                      const struct sample_result *result, uint64_t now_ns,
                                      struct generation_events *events) {
    struct request *request = sequence->request;
    enum finish_reason finish = sequence_append(sequence, result->token);
    scheduler_emit(events, sequence, EVENT_TOKEN, finish, result, now_ns);
    struct generation_event *event = &events->items[events->count - 1];
    event->index = sequence->n_generated - 1;
    event->with_prompts = scheduler->commits_prompts;
    event->has_logprobs = request->generation.sampling.n_top_logprobs >= 0;
    scheduler->counters.n_generated_tokens++;
    queue_charge(&scheduler->queue, request->key_index, QUEUE_COST_DRAWN);
    return finish;
}

// The tokens that the rows of a sequence drew: a row behind a draft counts when that draft is what the row before drew.
static enum finish_reason commit_draws(struct scheduler *scheduler, const struct planned_rows *planned,
                                       const struct sample_result *drawn, uint64_t now_ns,
                                       struct generation_events *events) {
    struct sequence *sequence = planned->sequence;
    int32_t n_drafts = planned->n_draws - 1, n_kept = 0;
    enum finish_reason finish = commit_draw(scheduler, sequence, &drawn[0], now_ns, events);
    while (n_kept < n_drafts && drawn[n_kept].token == planned->drafts[n_kept]) {
        n_kept++;
        if (finish != FINISH_NONE) break;
        finish = commit_draw(scheduler, sequence, &drawn[n_kept], now_ns, events);
    }
    if (n_drafts == 0) return finish;
    // The rows behind are as if they had never been: later ones take their places in the cache.
    sequence->n_computed -= n_drafts - n_kept;
    scheduler_trim_blocks(scheduler, sequence);
    scheduler_learn_drafts(scheduler, sequence, planned, n_kept);
    return finish;
}

static void commit_rows(struct scheduler *scheduler, const struct planned_rows *planned,
                        const struct sample_result *results, uint64_t now_ns, struct generation_events *events) {
    struct sequence *sequence = planned->sequence;
    const struct request *request = sequence->request;
    enum finish_reason finish = FINISH_NONE;
    if (planned->n_forced) commit_forced(scheduler, planned, results + planned->logit_first, now_ns, events);
    if (planned->n_draws) {
        const struct sample_result *drawn = results + planned->logit_first + planned->n_forced;
        finish = commit_draws(scheduler, planned, drawn, now_ns, events);
    } else if (request->generation.max_tokens == 0 && request->prompt_done) {
        finish = FINISH_LENGTH;
        scheduler_emit(events, sequence, EVENT_FINISHED, finish, NULL, now_ns);
    }
    if (finish != FINISH_NONE) scheduler_stop(scheduler, sequence, false);
}

void scheduler_commit(struct scheduler *scheduler, const struct sample_result *results, uint64_t now_ns,
                      struct generation_events *events) {
    assert(scheduler->n_in_flight > 0);
    const struct planned_step *step = &scheduler->steps[scheduler->first_step];
    scheduler->commits_prompts = step->governed.has_prompts;
    const uint64_t n_tokens_before = scheduler->counters.n_generated_tokens;
    scheduler->first_step = (scheduler->first_step + 1) % STEPS_PLANNED_MAX;
    scheduler->n_in_flight--;
    const int32_t watched = results ? speculation_watched(&scheduler->speculation, step->n_rows) : -1;
    for (int32_t i = 0; i < step->n_rows; i++) {
        const struct planned_rows *planned = &step->rows[i];
        struct sequence *sequence = planned->sequence;
        if (i == watched && planned->n_draws && sequence->state == SEQUENCE_RUNNING)
            speculation_watch(&scheduler->speculation, sequence,
                              results[planned->logit_first + planned->n_forced].token);
        sequence->n_in_flight--;
        sequence->n_drawing -= planned->n_draws > 0;
        if (planned->n_draws > 1) sequence->n_drafting = 0;
        // What a cancelled, finished or preempted sequence drew is dropped; if it comes back, it draws the same again.
        if (sequence->state == SEQUENCE_RUNNING)
            commit_rows(scheduler, planned, results, now_ns, events);
        else if (sequence->n_in_flight == 0)
            scheduler_drained(scheduler, sequence);
    }
    scheduler->speculation.committed = step->governed;
    scheduler->speculation.committed.n_tokens = (int32_t)(scheduler->counters.n_generated_tokens - n_tokens_before);
}
