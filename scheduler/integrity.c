// Checks the scheduler against itself: everything that is stored twice must agree.
#include "scheduler/state.h"

#include <assert.h>
#include <string.h>

static void count_owned_blocks(const struct scheduler *scheduler, const struct sequence *sequence) {
    for (int32_t i = 0; i < sequence->n_blocks; i++) {
        assert(sequence->blocks[i] >= 0 && sequence->blocks[i] < scheduler->limits.n_blocks);
        scheduler->refs_expected[sequence->blocks[i]]++;
    }
}

// What is computed beyond the known tokens are drafts or a token being drawn, and nobody else can find it.
static void check_drafts(const struct scheduler *scheduler, const struct sequence *sequence) {
    const struct generation *g = &sequence->request->generation;
    int32_t n_known = sequence_n_known(sequence), n_drafting = sequence->n_drafting;
    assert(n_drafting >= 0 && n_drafting <= DRAFTS_MAX && (!n_drafting || scheduler->speculation.proposer));
    assert(sequence->n_published * scheduler->limits.block_tokens <= n_known);
    if (sequence->state == SEQUENCE_RUNNING && n_drafting)
        assert(sequence->n_drawing == 1 && sequence->n_in_flight >= 1 && sequence->n_computed == n_known + n_drafting &&
               n_known + n_drafting < g->n_prompt + g->max_tokens);
    else if (sequence->state == SEQUENCE_RUNNING)
        assert(sequence->n_computed < n_known + sequence->n_drawing || g->max_tokens == 0);
}

static void check_sequence(const struct scheduler *scheduler, const struct sequence *sequence) {
    const struct generation *g = &sequence->request->generation;
    bool owns = sequence->state == SEQUENCE_RUNNING || sequence->state == SEQUENCE_DRAINING;
    assert(owns || (sequence->n_blocks == 0 && sequence->n_in_flight == 0 && sequence->n_computed == 0));
    assert(sequence->n_computed <= sequence->n_blocks * scheduler->limits.block_tokens);
    assert(sequence->n_published <= sequence->n_blocks);
    assert(sequence->n_generated >= 0 && sequence->n_generated <= g->max_tokens);
    assert(sequence->n_drawing >= 0 && sequence->n_drawing <= sequence->n_in_flight);
    check_drafts(scheduler, sequence);
    assert(sequence->n_in_flight <= scheduler->n_in_flight);
    assert(sequence->state != SEQUENCE_DRAINING || sequence->n_in_flight > 0);
    // A block is shared only when it is full and the prefix cache knows it, because nobody may write to it.
    for (int32_t i = sequence->n_published; i < sequence->n_blocks; i++)
        assert(scheduler->pool.n_refs[sequence->blocks[i]] == 1);
}

struct state_counts {
    int32_t n[SEQUENCE_ENDED + 1];
    int32_t n_resuming, n_rows_in_flight;
};

static void check_request(const struct scheduler *scheduler, const struct request *request,
                          struct state_counts *counts) {
    int32_t n_open = 0, n_held = 0;
    for (int32_t i = 0; i < request->generation.n_choices; i++) {
        const struct sequence *sequence = &request->choices[i];
        assert(sequence->request == request && sequence->choice == i);
        check_sequence(scheduler, sequence);
        count_owned_blocks(scheduler, sequence);
        counts->n[sequence->state]++;
        counts->n_resuming += sequence->state == SEQUENCE_DRAINING && sequence->resumes;
        counts->n_rows_in_flight += sequence->n_in_flight;
        n_open += sequence->state != SEQUENCE_ENDED;
        n_held += sequence->state == SEQUENCE_HELD;
    }
    assert(n_open == request->n_open && n_open > 0);
    assert(n_held == 0 || (!request->prompt_done && request->leader && request->leader->state != SEQUENCE_ENDED));
}

static void check_by_age(struct sequence *const *sequences, int32_t n, enum sequence_state state) {
    for (int32_t i = 0; i < n; i++) {
        assert(sequences[i]->state == state && sequences[i]->age > 0);
        assert(i == 0 || sequences[i - 1]->age < sequences[i]->age);
    }
}

static void check_steps(const struct scheduler *scheduler, int32_t n_rows_in_flight) {
    int32_t n = 0;
    assert(scheduler->n_in_flight >= 0 && scheduler->n_in_flight <= scheduler->limits.steps_in_flight);
    for (int32_t i = 0; i < scheduler->n_in_flight; i++)
        n += scheduler->steps[(scheduler->first_step + i) % STEPS_PLANNED_MAX].n_rows;
    assert(n == n_rows_in_flight);
}

void scheduler_check_integrity(const struct scheduler *scheduler) {
    struct state_counts counts = {0};
    size_t n_requests = 0;
    memset(scheduler->refs_expected, 0, (size_t)scheduler->limits.n_blocks * sizeof(int32_t));
    const struct request *previous = NULL;
    for (const struct request *r = scheduler->requests; r; previous = r, r = r->next, n_requests++) {
        uint64_t found;
        assert(r->previous == previous);
        assert(map_get(&scheduler->by_id, (const char *)&r->generation.id, sizeof r->generation.id, &found));
        assert(found == (uint64_t)(uintptr_t)r);
        check_request(scheduler, r, &counts);
    }
    assert(scheduler->by_id.count == n_requests);
    block_pool_check_integrity(&scheduler->pool, scheduler->refs_expected);
    prefix_cache_check_integrity(&scheduler->cache, scheduler->pool.cached);
    queue_check_integrity(&scheduler->queue);
    check_by_age(scheduler->running, scheduler->n_running, SEQUENCE_RUNNING);
    check_by_age(scheduler->preempted, scheduler->n_preempted, SEQUENCE_PREEMPTED);
    assert(counts.n[SEQUENCE_RUNNING] == scheduler->n_running);
    assert(counts.n[SEQUENCE_PREEMPTED] == scheduler->n_preempted);
    assert(counts.n[SEQUENCE_QUEUED] == scheduler->queue.n_queued);
    assert(counts.n[SEQUENCE_HELD] == scheduler->n_held);
    assert(counts.n[SEQUENCE_DRAINING] == scheduler->n_draining && counts.n_resuming == scheduler->n_resuming);
    assert(scheduler->n_running + scheduler->n_preempted + scheduler->n_resuming <= scheduler->limits.sequences_max);
    check_steps(scheduler, counts.n_rows_in_flight);
}
