// Which rows the next step computes.
#include "scheduler/state.h"

#include <assert.h>
#include <string.h>

static int32_t min_i32(int32_t a, int32_t b) {
    return a < b ? a : b;
}
static int32_t max_i32(int32_t a, int32_t b) {
    return a > b ? a : b;
}

// Frees blocks by preempting the newest running sequence that is newer than `sequence`. False: wait instead.
static bool preempt_for(struct scheduler *scheduler, const struct sequence *sequence) {
    // Blocks of a draining sequence are free as soon as the step in flight is committed.
    if (scheduler->n_draining > 0) return false;
    struct sequence *newest = scheduler->running[scheduler->n_running - 1];
    if (newest == sequence) return false;
    newest->was_preempted = true;
    newest->n_lost = max_i32(newest->n_lost, newest->n_computed);
    scheduler->counters.n_preemptions++;
    scheduler_stop(scheduler, newest, true);
    return true;
}

// Gives every running sequence whose blocks are full the next one, oldest first. Who gets none waits; the oldest
// waits at most for the step in flight.
static void reserve_blocks(struct scheduler *scheduler) {
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        struct sequence *sequence = scheduler->running[i];
        if (sequence->n_computed < sequence->n_blocks * scheduler->limits.block_tokens) continue;
        if (sequence_rows_left(sequence) <= 0) continue;
        int32_t block = scheduler_take_block(scheduler);
        while (block < 0 && preempt_for(scheduler, sequence)) block = scheduler_take_block(scheduler);
        if (block >= 0) sequence->blocks[sequence->n_blocks++] = block;
    }
}

// Rows that report prompt logprobs among the next n_rows of a sequence.
static int32_t count_forced(const struct sequence *sequence, int32_t n_rows) {
    const struct request *request = sequence->request;
    if (request->leader != sequence || !request_reports_prompt(request)) return 0;
    int32_t first = max_i32(sequence->n_computed, request->n_prompt_reported);
    int32_t end = min_i32(sequence->n_computed + n_rows, request->generation.n_prompt - 1);
    return max_i32(end - first, 0);
}

int32_t scheduler_count_edits(const struct sequence *sequence, int32_t index) {
    const struct request *request = sequence->request;
    const struct generation *g = &request->generation;
    return g->n_bias + (request_bans_stops(request, index) ? g->n_stop_tokens : 0);
}

static int32_t count_edits(const struct sequence *sequence) {
    return scheduler_count_edits(sequence, sequence->n_generated + sequence->n_drawing);
}

static bool draws_after(const struct sequence *sequence, int32_t n_rows) {
    return sequence->request->generation.max_tokens > 0 && n_rows == sequence_rows_left(sequence);
}

// How many of the next n_rows rows of a sequence fit what the step has left, 0..n_rows.
static int32_t fit_rows(const struct scheduler *scheduler, const struct step_input *input,
                        const struct sequence *sequence, int32_t n_rows) {
    const struct engine_limits *limits = &scheduler->limits;
    n_rows = min_i32(n_rows, limits->rows_max - input->n_rows);
    n_rows = min_i32(n_rows, sequence->n_blocks * limits->block_tokens - sequence->n_computed);
    int32_t n_logits_left = limits->logit_rows_max - input->n_logit_rows;
    // The row that only draws comes after those that report; it goes first, so one subtraction may not be enough.
    for (int32_t n; n_rows > 0 && (n = count_forced(sequence, n_rows) - n_logits_left) > 0;) n_rows -= n;
    if (n_rows <= 0) return 0;
    bool room_to_draw = count_forced(sequence, n_rows) < n_logits_left &&
                        input->n_edits + count_edits(sequence) <= limits->edits_max &&
                        input->n_seen + sequence->n_seen <= limits->seen_max;
    return draws_after(sequence, n_rows) && !room_to_draw ? n_rows - 1 : n_rows;
}

static struct sample_params *add_logit_row(struct step_input *input, const struct sequence *sequence, int32_t row) {
    const struct generation *g = &sequence->request->generation;
    struct sample_params *params = &input->sample[input->n_logit_rows];
    *params = g->sampling;
    params->choice_index = sequence->choice;
    params->position = input->position[row] + 1;
    params->forced_token = -1;
    params->edit_first = params->edit_count = params->seen_first = params->seen_count = 0;
    input->logit_row[input->n_logit_rows++] = row;
    return params;
}

static void add_forced(struct step_input *input, const struct sequence *sequence, int32_t row) {
    const struct generation *g = &sequence->request->generation;
    struct sample_params *params = add_logit_row(input, sequence, row);
    params->forced_token = g->prompt[input->position[row] + 1];
    params->n_top_logprobs = g->n_prompt_top_logprobs;
}

// Draw i_draw of a step: behind drafts[i_draw - 1], which counts as drawn, and those before it.
static void add_draw(struct step_input *input, struct sequence *sequence, int32_t row, int32_t i_draw,
                     const int32_t *drafts) {
    const struct request *request = sequence->request;
    const struct generation *g = &request->generation;
    int32_t n_edits = scheduler_count_edits(sequence, sequence->n_generated + sequence->n_drawing + i_draw);
    sequence->draw_logit_row = input->n_logit_rows;
    struct sample_params *params = add_logit_row(input, sequence, row);
    if (n_edits) {
        params->edit_first = input->n_edits;
        params->edit_count = n_edits;
        struct logit_edit *edit = input->edits + input->n_edits;
        for (int32_t i = 0; i < g->n_bias; i++) *edit++ = g->bias[i];
        for (int32_t i = g->n_bias; i < n_edits; i++)
            *edit++ = (struct logit_edit){g->stop_tokens[i - g->n_bias], -__builtin_inff()};
        input->n_edits += n_edits;
    }
    if (sequence->n_seen) {
        struct seen_token *seen = input->seen + input->n_seen;
        params->seen_first = input->n_seen;
        params->seen_count = sequence->n_seen;
        memcpy(seen, sequence->seen, (size_t)sequence->n_seen * sizeof *sequence->seen);
        for (int32_t i = 0; i < i_draw; i++) params->seen_count = seen_count(seen, params->seen_count, drafts[i]);
        input->n_seen += params->seen_count;
    }
}

static void add_block_table(const struct scheduler *scheduler, struct step_input *input,
                            const struct sequence *sequence, int32_t kv_len) {
    int32_t n = (kv_len + scheduler->limits.block_tokens - 1) / scheduler->limits.block_tokens;
    assert(n <= sequence->n_blocks && input->n_block_table + n <= scheduler->limits.block_table_max);
    memcpy(input->block_table + input->n_block_table, sequence->blocks, (size_t)n * sizeof(int32_t));
    input->n_block_table += n;
}

// Writes the next n_rows rows of a sequence into the step, those of its drafts behind the row of its last token.
static void add_rows(struct scheduler *scheduler, struct step_input *input, struct sequence *sequence, int32_t n_rows,
                     const struct draft_query *draft, uint64_t now_ns) {
    struct planned_step *step = &scheduler->steps[(scheduler->first_step + scheduler->n_in_flight) % STEPS_PLANNED_MAX];
    struct planned_rows *planned = &step->rows[step->n_rows++];
    int32_t first = sequence->n_computed, n_known = sequence_n_known(sequence);
    int32_t n_forced = count_forced(sequence, n_rows);
    int32_t forced_first = max_i32(first, sequence->request->n_prompt_reported) + 1;
    int32_t n_drafts = draft ? draft->n : 0, n_draws = n_drafts + draws_after(sequence, n_rows - n_drafts);
    *planned = (struct planned_rows){.sequence = sequence,
                                     .logit_first = input->n_logit_rows,
                                     .n_forced = n_forced,
                                     .forced_first = forced_first,
                                     .n_draws = n_draws,
                                     .draft_strength = draft ? draft->strength : 0};
    for (int32_t i = 0; i < n_drafts; i++) planned->drafts[i] = draft->tokens[i];
    step->governed.n_sequences += n_draws == n_rows;
    step->governed.n_drafts += n_drafts;
    if (n_draws < n_rows) step->governed.has_prompts = true;
    input->sequences[input->n_sequences] =
        (struct step_sequence){input->n_rows, n_rows, first + n_rows, input->n_block_table};
    add_block_table(scheduler, input, sequence, first + n_rows);
    for (int32_t i = 0; i < n_rows; i++) {
        int32_t row = input->n_rows++, position = first + i;
        if (position < n_known)
            input->token[row] = sequence_token(sequence, position);
        else
            input->token[row] = draft ? draft->tokens[position - n_known] : STEP_TOKEN_REF(sequence->draw_logit_row);
        input->position[row] = position;
        input->sequence[row] = input->n_sequences;
        if (position + 1 >= forced_first && position + 1 < forced_first + n_forced) add_forced(input, sequence, row);
    }
    for (int32_t i = 0; i < n_draws; i++) add_draw(input, sequence, input->n_rows - n_draws + i, i, planned->drafts);
    sequence->n_drawing += n_draws > 0;
    sequence->n_drafting = n_drafts;
    input->n_sequences++;
    scheduler->counters.n_recomputed_tokens += (uint64_t)max_i32(min_i32(first + n_rows, sequence->n_lost) - first, 0);
    sequence->n_computed += n_rows;
    sequence->n_in_flight++;
    if (!sequence->scheduled_ns) sequence->scheduled_ns = now_ns;
}

// One row for every sequence that needs just one, and its drafts. Who finds no room for its draw comes first the next
// time.
static void add_decodes(struct scheduler *scheduler, struct step_input *input, uint64_t now_ns) {
    int32_t n = scheduler->n_running, first = 0;
    for (int32_t i = 0; i < n; i++)
        if (scheduler->running[i] == scheduler->turn) first = i;
    scheduler->turn = NULL;
    for (int32_t i = 0; i < n; i++) {
        struct sequence *sequence = scheduler->running[(first + i) % n];
        if (sequence_rows_left(sequence) != 1) continue;
        if (sequence->n_computed >= sequence->n_blocks * scheduler->limits.block_tokens) continue;
        // Drafts follow tokens that the host knows: this one's next token is drawn by the step in flight.
        if (sequence->n_drawing && scheduler->speculation.awake) continue;
        const struct draft_query *draft = scheduler_draft_of(scheduler, sequence);
        if (fit_rows(scheduler, input, sequence, 1) == 1)
            add_rows(scheduler, input, sequence, 1 + (draft ? draft->n : 0), draft, now_ns);
        else if (!scheduler->turn)
            scheduler->turn = sequence;
    }
}

static void count_taken_over(struct scheduler *scheduler, struct sequence *sequence) {
    struct request *request = sequence->request;
    if (sequence->was_preempted) return;
    if (request->leader == sequence) request->n_cached += scheduler->limits.block_tokens;
    scheduler->counters.n_prompt_tokens_cached += (uint64_t)scheduler->limits.block_tokens;
    scheduler->counters.n_prefix_hits += (uint64_t)scheduler->limits.block_tokens;
}

// Skips blocks that another sequence has computed since this one was admitted.
static void take_over_cached(struct scheduler *scheduler, struct sequence *sequence) {
    int32_t block_tokens = scheduler->limits.block_tokens, n_max = scheduler_reuse_max(sequence);
    uint64_t id;
    while (sequence->n_published * block_tokens == sequence->n_computed &&
           sequence->n_computed + block_tokens <= n_max) {
        int32_t block = scheduler_find_next_block(scheduler, sequence, &id);
        if (block < 0) return;
        // Its own block at this place was never written: no step in flight knows it.
        block_pool_retain(&scheduler->pool, block);
        block_pool_release(&scheduler->pool, sequence->blocks[sequence->n_published]);
        sequence->blocks[sequence->n_published++] = block;
        sequence->last_entry = id;
        sequence->n_computed += block_tokens;
        scheduler->n_changes++;
        count_taken_over(scheduler, sequence);
    }
}

// The next chunk of one prompt, at most n_rows_max rows. Chunks end at block borders where they can, so that others can
// take over the blocks.
static int32_t add_chunk(struct scheduler *scheduler, struct step_input *input, struct sequence *sequence,
                         int32_t n_rows_max, uint64_t now_ns) {
    take_over_cached(scheduler, sequence);
    int32_t n_left = sequence_rows_left(sequence);
    int32_t n_rows = min_i32(min_i32(n_left, scheduler->settings.chunk_max), n_rows_max);
    int32_t aligned_end =
        (sequence->n_computed + n_rows) / scheduler->limits.block_tokens * scheduler->limits.block_tokens;
    if (n_rows < n_left && aligned_end > sequence->n_computed) n_rows = aligned_end - sequence->n_computed;
    n_rows = fit_rows(scheduler, input, sequence, n_rows);
    if (n_rows > 0) add_rows(scheduler, input, sequence, n_rows, NULL, now_ns);
    return n_rows;
}

// Half of the rows are for the oldest prompt, so that none starves; the others take turns by how few rows they need, so
// that short ones pass long ones. What they leave is the oldest's too.
static void add_chunks(struct scheduler *scheduler, struct step_input *input, uint64_t now_ns) {
    struct sequence *oldest = NULL, **others = scheduler->candidates;
    int32_t n = 0, rows_left = scheduler->limits.rows_max - input->n_rows;
    if (input->n_rows > 0) rows_left = min_i32(rows_left, scheduler->prompt_rows_max);
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        struct sequence *sequence = scheduler->running[i];
        if (sequence_rows_left(sequence) <= 1) continue;
        if (oldest)
            others[n++] = sequence;
        else
            oldest = sequence;
    }
    if (!oldest) return;
    int32_t n_reserved =
        min_i32(min_i32(sequence_rows_left(oldest), scheduler->settings.chunk_max), (rows_left + 1) / 2);
    while (n > 0 && rows_left > n_reserved) {
        int32_t best = 0;
        for (int32_t i = 1; i < n; i++)
            if (sequence_rows_left(others[i]) < sequence_rows_left(others[best])) best = i;
        rows_left -= add_chunk(scheduler, input, others[best], rows_left - n_reserved, now_ns);
        others[best] = others[--n];
    }
    if (rows_left > 0) add_chunk(scheduler, input, oldest, rows_left, now_ns);
}

bool scheduler_plan(struct scheduler *scheduler, struct step_input *input, uint64_t now_ns) {
    assert(scheduler->n_in_flight < scheduler->limits.steps_in_flight);
    assert(input->n_rows == 0 && input->n_sequences == 0 && input->n_logit_rows == 0);
    struct planned_step *step = &scheduler->steps[(scheduler->first_step + scheduler->n_in_flight) % STEPS_PLANNED_MAX];
    step->n_rows = 0;
    step->governed = (struct governor_step){0};
    reserve_blocks(scheduler);
    scheduler_admit(scheduler);
    scheduler_speculate(scheduler);
    add_decodes(scheduler, input, now_ns);
    add_chunks(scheduler, input, now_ns);
    if (input->n_rows == 0) return false;
    step->governed.draft_ns = scheduler->counters.draft_ns = scheduler->speculation.draft_ns;
    // Steps run in order: from the next step on, others may read what this one computes.
    for (int32_t i = 0; i < step->n_rows; i++) {
        struct sequence *sequence = step->rows[i].sequence;
        struct request *request = sequence->request;
        scheduler_publish(scheduler, sequence);
        if (request->leader == sequence && !request->prompt_done && !request_reports_prompt(request) &&
            sequence->n_computed >= request->generation.n_prompt)
            scheduler_release_held(scheduler, request, NULL);
    }
    scheduler->n_in_flight++;
    return true;
}
