#include "scheduler/speculation.h"

#include "base/mem.h"
#include "scheduler/state.h"

#include <assert.h>
#include <stdlib.h>

void speculation_open(struct speculation *speculation, struct proposer *proposer, int32_t draft_tokens,
                      int32_t sequences_max) {
    assert(draft_tokens >= 0 && draft_tokens <= DRAFTS_MAX);
    *speculation = (struct speculation){.proposer = proposer, .draft_tokens = draft_tokens, .awake = proposer != NULL};
    if (!proposer) return;
    speculation->queries = mem_alloc_zero((size_t)sequences_max, sizeof *speculation->queries);
    speculation->sequences = mem_alloc_zero((size_t)sequences_max, sizeof(struct sequence *));
}

void speculation_close(struct speculation *speculation) {
    free(speculation->queries);
    free(speculation->sequences);
}

size_t speculation_bytes(const struct speculation *speculation, int32_t sequences_max) {
    if (!speculation->proposer) return 0;
    return speculation->proposer->bytes(speculation->proposer) +
           (size_t)sequences_max * (sizeof *speculation->queries + sizeof(struct sequence *));
}

static struct draft_query query_of(const struct sequence *sequence) {
    const struct request *request = sequence->request;
    const struct generation *g = &request->generation;
    return (struct draft_query){.id = g->id,
                                .choice = sequence->choice,
                                .owner = request->prefix_owner,
                                .salt = request->prefix_salt,
                                .prompt = g->prompt,
                                .generated = sequence->generated,
                                .n_prompt = g->n_prompt,
                                .n_generated = sequence->n_generated,
                                .sampling = &g->sampling};
}

void speculation_end(struct speculation *speculation, const struct sequence *sequence) {
    struct proposer *proposer = speculation->proposer;
    if (!proposer || !proposer->end || !sequence->age) return;
    struct draft_query query = query_of(sequence);
    proposer->end(proposer, &query);
}

// What a step has left when every running sequence has what it needs without drafts: a row, and a draw.
struct room {
    int64_t rows, logit_rows, edits, seen;
};

static struct room room_for_drafts(const struct scheduler *scheduler) {
    const struct engine_limits *limits = &scheduler->limits;
    struct room room = {limits->rows_max, limits->logit_rows_max, limits->edits_max, limits->seen_max};
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        const struct sequence *sequence = scheduler->running[i];
        room.rows--;
        room.logit_rows--;
        room.edits -= scheduler_count_edits(sequence, sequence->n_generated + sequence->n_drawing);
        room.seen -= sequence->n_seen;
    }
    return room;
}

// How many of n drafts of a sequence fit; takes their room.
static int32_t take_room(struct room *room, const struct sequence *sequence, int32_t n) {
    // Each draft is a token more that penalties may count.
    int64_t n_edits = scheduler_count_edits(sequence, sequence->n_generated);
    int64_t n_seen = sequence->n_seen ? sequence->n_seen + n : 0;
    while (n > 0 && (n > room->rows || n > room->logit_rows || n * n_edits > room->edits || n * n_seen > room->seen))
        n--;
    room->rows -= n;
    room->logit_rows -= n;
    room->edits -= n * n_edits;
    room->seen -= n * n_seen;
    return n;
}

// Blocks for n drafts behind the next row of a sequence, as long as enough are left for everybody's next row. Returns
// how many drafts have a place.
static int32_t take_blocks(struct scheduler *scheduler, struct sequence *sequence, int32_t n) {
    int32_t block_tokens = scheduler->limits.block_tokens, n_positions = sequence->n_computed + 1 + n;
    while (sequence->n_blocks * block_tokens < n_positions &&
           block_pool_n_available(&scheduler->pool) > scheduler->n_running)
        sequence->blocks[sequence->n_blocks++] = scheduler_take_block(scheduler);
    int32_t n_places = sequence->n_blocks * block_tokens - sequence->n_computed - 1;
    return n < n_places ? n : n_places;
}

void scheduler_trim_blocks(struct scheduler *scheduler, struct sequence *sequence) {
    int32_t block_tokens = scheduler->limits.block_tokens;
    int32_t n_needed = (sequence_n_known(sequence) + block_tokens - 1) / block_tokens;
    assert(sequence->n_published <= n_needed && sequence->n_in_flight == 0);
    if (sequence->n_blocks > n_needed) scheduler->n_changes++;
    while (sequence->n_blocks > n_needed) block_pool_release(&scheduler->pool, sequence->blocks[--sequence->n_blocks]);
}

// Whether drafts may follow the next row of a sequence: it draws, its token is known and it has a place.
static bool may_draft(const struct scheduler *scheduler, const struct sequence *sequence) {
    const struct generation *g = &sequence->request->generation;
    return g->max_tokens - sequence->n_generated > 1 && sequence->n_drawing == 0 && sequence_rows_left(sequence) == 1 &&
           sequence->n_computed < sequence->n_blocks * scheduler->limits.block_tokens;
}

static int32_t min_i32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

void scheduler_speculate(struct scheduler *scheduler) {
    struct speculation *s = &scheduler->speculation;
    s->n_queries = 0;
    if (!s->proposer) return;
    struct room room = room_for_drafts(scheduler);
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        struct sequence *sequence = scheduler->running[i];
        if (!may_draft(scheduler, sequence)) continue;
        // The last token of all needs no row.
        int32_t n_left = sequence->request->generation.max_tokens - sequence->n_generated - 1;
        int32_t n = take_room(&room, sequence, min_i32(s->draft_tokens, n_left));
        if (n <= 0) continue;
        s->queries[s->n_queries] = query_of(sequence);
        s->queries[s->n_queries].n_max = n;
        s->sequences[s->n_queries++] = sequence;
    }
    if (s->n_queries == 0) return;
    s->proposer->propose(s->proposer, s->queries, s->n_queries);
    for (int32_t i = 0; i < s->n_queries; i++) {
        struct draft_query *query = &s->queries[i];
        assert(query->n >= 0 && query->n <= query->n_max);
        if (query->n) query->n = take_blocks(scheduler, s->sequences[i], query->n);
    }
}

const struct draft_query *scheduler_draft_of(const struct scheduler *scheduler, const struct sequence *sequence) {
    const struct speculation *s = &scheduler->speculation;
    for (int32_t i = 0; i < s->n_queries; i++)
        if (s->sequences[i] == sequence) return s->queries[i].n ? &s->queries[i] : NULL;
    return NULL;
}

void scheduler_learn_drafts(struct scheduler *scheduler, struct sequence *sequence, const struct planned_rows *planned,
                            int32_t n_kept) {
    struct scheduler_counters *counters = &scheduler->counters;
    (void)sequence;
    counters->n_drafts++;
    counters->n_draft_tokens += (uint64_t)planned->n_draws - 1;
    counters->n_draft_tokens_accepted += (uint64_t)n_kept;
    for (int32_t i = 0; i < n_kept; i++) counters->n_accepted_at[i]++;
}
