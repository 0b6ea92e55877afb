#include "scheduler/speculation.h"

#include "base/mem.h"
#include "engine/ngram.h"
#include "scheduler/state.h"

#include <assert.h>
#include <stdlib.h>

// With steps in flight, sequences stop waiting for their tokens when so many plans had no drafts, and wait again for
// one of so many.
enum { IDLE_PLANS = 4, NAP_PLANS = 64 };

void speculation_open(struct speculation *speculation, struct proposer *proposer, int32_t sequences_max) {
    *speculation = (struct speculation){.proposer = proposer, .awake = proposer != NULL};
    if (!proposer) return;
    speculation->queries = mem_alloc_zero((size_t)sequences_max, sizeof *speculation->queries);
    speculation->sequences = mem_alloc_zero((size_t)sequences_max, sizeof(struct sequence *));
    speculation->candidates = mem_alloc_zero((size_t)sequences_max, sizeof *speculation->candidates);
}

void speculation_close(struct speculation *speculation) {
    free(speculation->queries);
    free(speculation->sequences);
    free(speculation->candidates);
}

size_t speculation_bytes(const struct speculation *speculation, int32_t sequences_max) {
    if (!speculation->proposer) return 0;
    return speculation->proposer->bytes(speculation->proposer) +
           (size_t)sequences_max *
               (sizeof *speculation->queries + sizeof(struct sequence *) + sizeof *speculation->candidates);
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

// Looking back costs about WATCH_TOKEN_NS a token of the sequence; a step pays a share of its time for it.
static const double WATCH_SHARE = 1.0 / 512, WATCH_TOKEN_NS = 2, WATCH_CREDIT_MAX_NS = 1e6;

int32_t speculation_watched(struct speculation *speculation, int32_t n) {
    if (speculation->proposer || n <= 0) return -1;
    return (int32_t)(speculation->watch.n_steps++ % (uint64_t)n);
}

void speculation_watch(struct speculation *speculation, const struct sequence *sequence, int32_t token) {
    struct guess_watch *watch = &speculation->watch;
    const struct draft_query query = query_of(sequence);
    const int32_t n_known = draft_query_n_known(&query);
    const double cost_ns = WATCH_TOKEN_NS * (n_known < DRAFT_LOOK_BACK ? n_known : DRAFT_LOOK_BACK);
    if (cost_ns > watch->credit_ns) return;
    watch->credit_ns -= cost_ns;
    int32_t n_matched, from = ngram_find(&query, &n_matched);
    watch->n_tokens++;
    watch->n_guesses += from >= 0;
    watch->n_hits += from >= 0 && draft_query_token(&query, from) == token;
}

void speculation_pay_watch(struct speculation *speculation, uint64_t step_ns) {
    double *credit_ns = &speculation->watch.credit_ns;
    *credit_ns += (double)step_ns * WATCH_SHARE;
    if (*credit_ns > WATCH_CREDIT_MAX_NS) *credit_ns = WATCH_CREDIT_MAX_NS;
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

static int32_t min_i32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

// Tokens that a sequence may still draw.
static int32_t tokens_left(const struct sequence *sequence) {
    return sequence->request->generation.max_tokens - sequence->n_generated;
}

// Whether drafts may follow the next row of a sequence: it draws, its token is known and it has a place.
static bool may_draft(const struct scheduler *scheduler, const struct sequence *sequence) {
    return tokens_left(sequence) > 1 && sequence->n_drawing == 0 && sequence_rows_left(sequence) == 1 &&
           sequence->n_computed < sequence->n_blocks * scheduler->limits.block_tokens;
}

// Sequences that may have drafts, and as many of them as could be used.
static void list_queries(struct scheduler *scheduler) {
    struct speculation *s = &scheduler->speculation;
    s->n_queries = 0;
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        struct sequence *sequence = scheduler->running[i];
        if (!may_draft(scheduler, sequence)) continue;
        struct draft_query query = query_of(sequence);
        // The last token of all needs no row.
        query.n_max = min_i32(tokens_left(sequence) - 1, s->draft_tokens ? s->draft_tokens : DRAFTS_MAX);
        s->queries[s->n_queries] = query;
        s->sequences[s->n_queries++] = sequence;
    }
}

static void propose(struct speculation *s) {
    if (s->n_queries == 0) return;
    s->proposer->propose(s->proposer, s->queries, s->n_queries);
    s->draft_ns = s->proposer->steps_ns;
    for (int32_t i = 0; i < s->n_queries; i++) assert(s->queries[i].n >= 0 && s->queries[i].n <= s->queries[i].n_max);
}

// Keeps the queries that may have drafts.
static void drop_queries(struct speculation *s) {
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_queries; i++) {
        if (s->queries[i].n_max <= 0) continue;
        s->queries[n] = s->queries[i];
        s->sequences[n++] = s->sequences[i];
    }
    s->n_queries = n;
}

// Sequences that draw in this step, however many drafts others have.
static int32_t count_decoding(const struct scheduler *scheduler) {
    int32_t n = 0;
    for (int32_t i = 0; i < scheduler->n_running; i++) n += sequence_rows_left(scheduler->running[i]) == 1;
    return n;
}

// Limits the drafts of each sequence to those that pay.
static void govern(struct scheduler *scheduler) {
    struct speculation *s = &scheduler->speculation;
    struct proposer *proposer = s->proposer;
    struct draft_cost cost = {proposer->round_ns, proposer->row_ns, proposer};
    for (int32_t i = 0; i < s->n_queries; i++) {
        const struct draft_query *query = &s->queries[i];
        int32_t lag = proposer->lag ? proposer->lag(proposer, query) : 0;
        s->candidates[i] = (struct governor_candidate){
            .n_max = !proposer->runs_steps ? query->n
                     : lag < 0             ? 0
                                           : query->n_max,
            .rate = governor_rate(&s->governor, s->sequences[i]->acceptance, query->strength),
            .lag = lag};
    }
    governor_choose(&s->governor, s->candidates, s->n_queries, count_decoding(scheduler), &cost);
    for (int32_t i = 0; i < s->n_queries; i++) s->queries[i].n_max = s->candidates[i].n;
}

// What costs nothing is proposed first, so that the choice knows it; otherwise only what was chosen is proposed.
void scheduler_speculate(struct scheduler *scheduler) {
    struct speculation *s = &scheduler->speculation;
    s->n_queries = 0;
    s->draft_ns = 0;
    if (s->draft_tokens < 0) s->awake = false;
    if (!s->proposer || s->draft_tokens < 0) return;
    list_queries(scheduler);
    s->awake = s->draft_tokens || s->n_idle < IDLE_PLANS || ++s->n_plans % NAP_PLANS == 0;
    if (s->n_queries == 0) return;
    bool runs_steps = s->proposer->runs_steps;
    if (!runs_steps) propose(s);
    if (!s->draft_tokens) govern(scheduler);
    struct room room = room_for_drafts(scheduler);
    for (int32_t i = 0; i < s->n_queries; i++)
        s->queries[i].n_max = take_room(&room, s->sequences[i], s->queries[i].n_max);
    drop_queries(s);
    if (runs_steps) propose(s);
    int32_t n_drafts = 0;
    for (int32_t i = 0; i < s->n_queries; i++) {
        struct draft_query *query = &s->queries[i];
        query->n = take_blocks(scheduler, s->sequences[i], min_i32(query->n, query->n_max));
        n_drafts += query->n;
    }
    s->n_idle = n_drafts ? 0 : s->n_idle + 1;
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
    governor_learn_drafts(&scheduler->speculation.governor, sequence->acceptance, planned->draft_strength,
                          planned->n_draws - 1, n_kept);
    counters->n_drafts++;
    counters->n_draft_tokens += (uint64_t)planned->n_draws - 1;
    counters->n_draft_tokens_accepted += (uint64_t)n_kept;
    for (int32_t i = 0; i < n_kept; i++) counters->n_accepted_at[i]++;
}
