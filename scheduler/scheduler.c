// The life of requests: submit, admit, stop, cancel, end. Planning is in plan.c, results are in commit.c.
#include "scheduler/state.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct scheduler *scheduler_open(const struct scheduler_options *options) {
    const struct engine_limits *limits = options->limits;
    // With these, a running sequence always finds a row, a row of logits and room for its table.
    assert(limits->rows_max >= limits->sequences_max && limits->logit_rows_max >= limits->sequences_max);
    assert(limits->block_tokens > 0 && limits->block_tokens <= BLOCK_TOKENS_MAX);
    int64_t blocks_per_sequence = (limits->context + limits->block_tokens - 1) / limits->block_tokens;
    assert(blocks_per_sequence <= limits->n_blocks);
    assert(blocks_per_sequence * limits->sequences_max <= limits->block_table_max);
    assert(limits->seen_max >= limits->context && limits->edits_max > GENERATION_STOP_TOKENS_MAX);
    assert(limits->steps_in_flight >= 1 && limits->steps_in_flight <= STEPS_PLANNED_MAX);

    struct scheduler *scheduler = mem_alloc_zero(1, sizeof *scheduler);
    size_t n_sequences = (size_t)limits->sequences_max;
    scheduler->limits = *limits;
    scheduler->prompt_rows_max = limits->rows_max;
    block_pool_open(&scheduler->pool, limits->n_blocks);
    prefix_cache_open(&scheduler->cache, limits->n_blocks, limits->block_tokens);
    prefix_shadow_open(&scheduler->shadow, limits->block_tokens);
    map_open(&scheduler->by_id, 1024, false);
    scheduler->running = mem_alloc_zero(n_sequences, sizeof(struct sequence *));
    scheduler->preempted = mem_alloc_zero(n_sequences, sizeof(struct sequence *));
    scheduler->candidates = mem_alloc_zero(n_sequences, sizeof(struct sequence *));
    for (int i = 0; i < STEPS_PLANNED_MAX; i++)
        scheduler->steps[i].rows = mem_alloc_zero(n_sequences, sizeof(struct planned_rows));
    scheduler->refs_expected = mem_alloc_zero((size_t)limits->n_blocks, sizeof(int32_t));
    speculation_open(&scheduler->speculation, options->proposer, limits->sequences_max);
    scheduler_set(scheduler, &options->settings);
    return scheduler;
}

void scheduler_set(struct scheduler *scheduler, const struct scheduler_settings *settings) {
    const struct engine_limits *limits = &scheduler->limits;
    assert(settings->sequences_max >= 0 && settings->chunk_max >= 0 && settings->admission >= 0);
    assert(settings->draft_tokens >= -1 && settings->draft_tokens <= DRAFTS_MAX);
    scheduler->settings = *settings;
    struct scheduler_settings *now = &scheduler->settings;
    if (!now->sequences_max || now->sequences_max > limits->sequences_max) now->sequences_max = limits->sequences_max;
    if (!now->chunk_max) now->chunk_max = limits->rows_max;
    scheduler->speculation.draft_tokens = now->draft_tokens;
    scheduler->n_changes++;
}

void scheduler_close(struct scheduler *scheduler) {
    if (!scheduler) return;
    while (scheduler->requests) {
        struct request *request = scheduler->requests;
        scheduler->requests = request->next;
        request_close(request);
    }
    for (int i = 0; i < STEPS_PLANNED_MAX; i++) free(scheduler->steps[i].rows);
    free(scheduler->running);
    free(scheduler->preempted);
    free(scheduler->candidates);
    free(scheduler->refs_expected);
    speculation_close(&scheduler->speculation);
    queue_close(&scheduler->queue);
    map_close(&scheduler->by_id);
    prefix_cache_close(&scheduler->cache);
    prefix_shadow_close(&scheduler->shadow);
    block_pool_close(&scheduler->pool);
    free(scheduler);
}

size_t scheduler_bytes(const struct scheduler *scheduler) {
    size_t n_sequences = (size_t)scheduler->limits.sequences_max;
    size_t of_sequence = 3 * sizeof(struct sequence *) + STEPS_PLANNED_MAX * sizeof(struct planned_rows);
    return sizeof *scheduler + block_pool_bytes(&scheduler->pool) + prefix_cache_bytes(&scheduler->cache) +
           prefix_shadow_bytes() + map_bytes(&scheduler->by_id) +
           scheduler->queue.capacity * sizeof *scheduler->queue.items +
           speculation_bytes(&scheduler->speculation, scheduler->limits.sequences_max) + n_sequences * of_sequence +
           (size_t)scheduler->limits.n_blocks * sizeof *scheduler->refs_expected;
}

void scheduler_emit(struct generation_events *events, const struct sequence *sequence, enum generation_event_kind kind,
                    enum finish_reason finish, const struct sample_result *sample, uint64_t now_ns) {
    const struct request *request = sequence->request;
    struct generation_event event = {.id = request->generation.id,
                                     .kind = kind,
                                     .finish = finish,
                                     .choice = sequence->choice,
                                     .index = sequence->n_generated,
                                     .n_cached = request->n_cached,
                                     .scheduled_ns = sequence->scheduled_ns,
                                     .at_ns = now_ns};
    if (sample) event.sample = *sample;
    vec_push(events, event);
}

// ------------------------------------------------------------------------------------------------- blocks

int32_t scheduler_take_block(struct scheduler *scheduler) {
    bool was_cached;
    int32_t block = block_pool_take(&scheduler->pool, &was_cached);
    if (block >= 0 && was_cached) {
        prefix_cache_remove(&scheduler->cache, block);
        scheduler->counters.n_prefix_evicted += (uint64_t)scheduler->limits.block_tokens;
    }
    return block;
}

static void copy_block_tokens(const struct sequence *sequence, int32_t block, int32_t block_tokens, int32_t *out) {
    for (int32_t i = 0; i < block_tokens; i++) out[i] = sequence_token(sequence, block * block_tokens + i);
}

static struct prefix_key next_key(const struct sequence *sequence, const int32_t *tokens) {
    const struct request *request = sequence->request;
    return (struct prefix_key){.parent = sequence->n_published ? sequence->last_entry : PREFIX_ROOT,
                               .owner = request->prefix_owner,
                               .salt = request->prefix_salt,
                               .tokens = tokens};
}

int32_t scheduler_find_next_block(const struct scheduler *scheduler, const struct sequence *sequence, uint64_t *id) {
    int32_t tokens[BLOCK_TOKENS_MAX];
    copy_block_tokens(sequence, sequence->n_published, scheduler->limits.block_tokens, tokens);
    struct prefix_key key = next_key(sequence, tokens);
    return prefix_cache_find(&scheduler->cache, &key, id);
}

void scheduler_publish(struct scheduler *scheduler, struct sequence *sequence) {
    int32_t n_known = sequence_n_known(sequence), block_tokens = scheduler->limits.block_tokens;
    int32_t n_full = (sequence->n_computed < n_known ? sequence->n_computed : n_known) / block_tokens;
    while (sequence->n_published < n_full) {
        int32_t tokens[BLOCK_TOKENS_MAX], block = sequence->blocks[sequence->n_published];
        copy_block_tokens(sequence, sequence->n_published, block_tokens, tokens);
        struct prefix_key key = next_key(sequence, tokens);
        uint64_t id;
        // Another sequence may have computed the same: its entry stays, this block remains private.
        if (prefix_cache_find(&scheduler->cache, &key, &id) < 0) {
            id = prefix_cache_add(&scheduler->cache, &key, block);
            block_pool_set_cached(&scheduler->pool, block, true);
        }
        sequence->last_entry = id;
        sequence->n_published++;
    }
}

int32_t scheduler_reuse_max(const struct sequence *sequence) {
    const struct request *request = sequence->request;
    // A row that reports a prompt logprob must be computed; so must the last one, which draws.
    if (request->leader == sequence && request_reports_prompt(request)) return request->n_prompt_reported;
    return sequence_n_known(sequence) - 1;
}

// ------------------------------------------------------------------------------------------- end of sequences

// Takes one reference from a request; the last one frees it.
static void close_choice(struct scheduler *scheduler, struct request *request) {
    assert(request->n_open > 0);
    if (--request->n_open > 0) return;
    const uint64_t *id = &request->generation.id;
    map_remove(&scheduler->by_id, (const char *)id, sizeof *id);
    if (request->previous)
        request->previous->next = request->next;
    else
        scheduler->requests = request->next;
    if (request->next) request->next->previous = request->previous;
    queue_leave(&scheduler->queue, request->key_index);
    request_close(request);
}

static void end_sequence(struct scheduler *scheduler, struct sequence *sequence) {
    bool branches;
    if (sequence->age) prefix_shadow_note(&scheduler->shadow, sequence, &branches); // a next turn may begin with it
    speculation_end(&scheduler->speculation, sequence);
    sequence->state = SEQUENCE_ENDED;
    scheduler->counters.n_finished++;
    scheduler->n_changes++;
    close_choice(scheduler, sequence->request);
}

static void insert_by_age(struct sequence **sequences, int32_t *n, struct sequence *sequence) {
    int32_t at = *n;
    for (; at > 0 && sequences[at - 1]->age > sequence->age; at--) sequences[at] = sequences[at - 1];
    sequences[at] = sequence;
    (*n)++;
}

static void remove_from(struct sequence **sequences, int32_t *n, const struct sequence *sequence) {
    int32_t at = 0;
    while (at < *n && sequences[at] != sequence) at++;
    assert(at < *n);
    memmove(&sequences[at], &sequences[at + 1], (size_t)(*n - at - 1) * sizeof *sequences);
    (*n)--;
}

void scheduler_drained(struct scheduler *scheduler, struct sequence *sequence) {
    assert(sequence->state == SEQUENCE_DRAINING && sequence->n_in_flight == 0);
    // The last block first: the beginning of a prefix stays in the cache longer than its end.
    while (sequence->n_blocks > 0) block_pool_release(&scheduler->pool, sequence->blocks[--sequence->n_blocks]);
    assert(sequence->n_drawing == 0);
    sequence->n_published = sequence->n_computed = 0;
    scheduler->n_draining--;
    scheduler->n_changes++;
    if (!sequence->resumes) {
        end_sequence(scheduler, sequence);
        return;
    }
    scheduler->n_resuming--;
    sequence->state = SEQUENCE_PREEMPTED;
    insert_by_age(scheduler->preempted, &scheduler->n_preempted, sequence);
}

void scheduler_stop(struct scheduler *scheduler, struct sequence *sequence, bool resumes) {
    assert(sequence->state == SEQUENCE_RUNNING);
    scheduler_publish(scheduler, sequence);
    remove_from(scheduler->running, &scheduler->n_running, sequence);
    if (scheduler->turn == sequence) scheduler->turn = NULL;
    sequence->state = SEQUENCE_DRAINING;
    sequence->resumes = resumes;
    scheduler->n_draining++;
    if (resumes) scheduler->n_resuming++;
    scheduler->n_changes++;
    if (sequence->n_in_flight == 0) scheduler_drained(scheduler, sequence);
}

// ------------------------------------------------------------------------------------------ submit and cancel

static void enqueue_held(struct scheduler *scheduler, struct sequence *sequence) {
    scheduler->n_held--;
    queue_prepend(&scheduler->queue, sequence);
    scheduler->n_changes++;
}

static void finish_held(struct scheduler *scheduler, struct sequence *sequence, enum finish_reason finish,
                        struct generation_events *events) {
    scheduler->n_held--;
    scheduler_emit(events, sequence, EVENT_FINISHED, finish, NULL, 0);
    end_sequence(scheduler, sequence);
}

void scheduler_release_held(struct scheduler *scheduler, struct request *request, struct generation_events *events) {
    assert(!request->prompt_done);
    request->prompt_done = true;
    bool draws = request->generation.max_tokens > 0;
    // The caller's sequence is open, so the request outlives this loop. Prepending reverses the order.
    for (int32_t i = request->generation.n_choices - 1; i >= 0; i--) {
        struct sequence *sequence = &request->choices[i];
        if (sequence->state != SEQUENCE_HELD) continue;
        if (draws)
            enqueue_held(scheduler, sequence);
        else
            finish_held(scheduler, sequence, FINISH_LENGTH, events);
    }
}

// The leader has gone before it computed the prompt: the next held sibling does it.
static void choose_leader(struct scheduler *scheduler, struct request *request) {
    request->leader = NULL;
    for (int32_t i = 0; i < request->generation.n_choices && !request->leader; i++)
        if (request->choices[i].state == SEQUENCE_HELD) request->leader = &request->choices[i];
    if (request->leader) enqueue_held(scheduler, request->leader);
}

void scheduler_submit(struct scheduler *scheduler, struct request *request, struct generation_events *events) {
    const struct generation *g = &request->generation;
    bool fresh = map_put(&scheduler->by_id, (const char *)&g->id, sizeof g->id, (uint64_t)(uintptr_t)request);
    assert(fresh);
    request->key_index = queue_enter(&scheduler->queue, g->key_id);
    // Without a cache between requests, each has an owner of its own.
    request->prefix_owner = scheduler->settings.no_prefix_cache ? ++scheduler->last_owner : g->key_id;
    request->prefix_salt = scheduler->settings.no_prefix_cache ? 0 : g->cache_salt;
    request->previous = NULL;
    request->next = scheduler->requests;
    if (request->next) request->next->previous = request;
    scheduler->requests = request;
    scheduler->n_held += g->n_choices;
    if (g->max_tokens > 0 || request_reports_prompt(request)) {
        request->leader = &request->choices[0];
        scheduler->n_held--;
        queue_append(&scheduler->queue, request->leader);
        scheduler->n_changes++;
        return;
    }
    int32_t n_choices = g->n_choices; // the last one takes the request with it
    for (int32_t i = 0; i < n_choices; i++) finish_held(scheduler, &request->choices[i], FINISH_LENGTH, events);
}

static void cancel_sequence(struct scheduler *scheduler, struct sequence *sequence, enum finish_reason finish,
                            struct generation_events *events) {
    struct request *request = sequence->request;
    if (sequence->state == SEQUENCE_ENDED || (sequence->state == SEQUENCE_DRAINING && !sequence->resumes)) return;
    if (sequence->state == SEQUENCE_HELD) {
        finish_held(scheduler, sequence, finish, events);
        return;
    }
    scheduler_emit(events, sequence, EVENT_FINISHED, finish, NULL, 0);
    if (sequence == request->leader && !request->prompt_done) choose_leader(scheduler, request);
    if (sequence->state == SEQUENCE_RUNNING) {
        scheduler_stop(scheduler, sequence, false);
    } else if (sequence->state == SEQUENCE_DRAINING) {
        sequence->resumes = false;
        scheduler->n_resuming--;
    } else {
        if (sequence->state == SEQUENCE_QUEUED)
            queue_remove(&scheduler->queue, sequence);
        else
            remove_from(scheduler->preempted, &scheduler->n_preempted, sequence);
        end_sequence(scheduler, sequence);
    }
}

static void cancel_request(struct scheduler *scheduler, struct request *request, int32_t choice,
                           enum finish_reason finish, struct generation_events *events) {
    int32_t n_choices = request->generation.n_choices;
    if (choice >= n_choices) return;
    request->n_open++; // keeps the request alive until the loop is done
    // From the last: held siblings go before their leader and need no new one.
    for (int32_t i = n_choices - 1; i >= 0; i--)
        if (choice < 0 || choice == i) cancel_sequence(scheduler, &request->choices[i], finish, events);
    close_choice(scheduler, request);
}

void scheduler_cancel(struct scheduler *scheduler, uint64_t id, int32_t choice, struct generation_events *events) {
    uint64_t found;
    if (!map_get(&scheduler->by_id, (const char *)&id, sizeof id, &found)) return;
    cancel_request(scheduler, (struct request *)(uintptr_t)found, choice, FINISH_ABORT, events);
}

void scheduler_cancel_all(struct scheduler *scheduler, enum finish_reason finish, struct generation_events *events) {
    for (struct request *request = scheduler->requests, *next; request; request = next) {
        next = request->next;
        cancel_request(scheduler, request, -1, finish, events);
    }
}

// --------------------------------------------------------------------------------------------------- admission

// Finds cached blocks for the beginning of a sequence and writes them into its table without owning them. Returns
// their number; *n_unused of them have no owner, so that taking them makes fewer available.
static int32_t match_prefix(const struct scheduler *scheduler, struct sequence *sequence, int32_t *n_unused) {
    int32_t n_max = scheduler_reuse_max(sequence) / scheduler->limits.block_tokens;
    *n_unused = 0;
    while (sequence->n_published < n_max) {
        uint64_t id;
        int32_t block = scheduler_find_next_block(scheduler, sequence, &id);
        if (block < 0) break;
        *n_unused += scheduler->pool.n_refs[block] == 0;
        sequence->blocks[sequence->n_published++] = block;
        sequence->last_entry = id;
    }
    return sequence->n_published;
}

// What a cache without bounds would have found, and whether the prompt parts early from one seen before.
static void count_ideal(struct scheduler *scheduler, const struct sequence *sequence, int32_t n_cached) {
    struct scheduler_counters *counters = &scheduler->counters;
    const int32_t reuse_max = scheduler_reuse_max(sequence), block_tokens = scheduler->limits.block_tokens;
    bool branches;
    int32_t n_seen = prefix_shadow_note(&scheduler->shadow, sequence, &branches);
    counters->n_lookups++;
    if (branches && n_seen < PREFIX_SHADOW_EARLY) {
        const double weight =
            counters->n_early_divergences < 16 ? 1 / (1 + (double)counters->n_early_divergences) : 1.0 / 16;
        counters->divergence_token += weight * (n_seen - counters->divergence_token);
        counters->n_early_divergences++;
    }
    if (n_seen > reuse_max) n_seen = reuse_max / block_tokens * block_tokens;
    counters->n_prefix_ideal += (uint64_t)(n_seen > n_cached ? n_seen : n_cached);
}

static void count_first_admission(struct scheduler *scheduler, struct sequence *sequence) {
    struct request *request = sequence->request;
    struct scheduler_counters *counters = &scheduler->counters;
    uint64_t n_prompt = (uint64_t)request->generation.n_prompt, n_cached = (uint64_t)sequence->n_computed;
    sequence->age = ++scheduler->last_age;
    if (request->leader == sequence) request->n_cached = sequence->n_computed;
    counters->n_prompt_tokens += n_prompt;
    counters->n_prompt_tokens_cached += n_cached;
    if (!(request->leader == sequence && request_reports_prompt(request))) {
        counters->n_prefix_queries += n_prompt;
        counters->n_prefix_hits += n_cached;
        count_ideal(scheduler, sequence, sequence->n_computed);
    }
    queue_charge(&scheduler->queue, request->key_index, (int64_t)(n_prompt - n_cached) * QUEUE_COST_PROMPT);
}

// Blocks that must stay free for what a sequence may still draw, by the share that the settings say.
static int64_t blocks_ahead(const struct scheduler *scheduler, const struct sequence *sequence) {
    const int64_t n_left = sequence->request->generation.max_tokens - sequence->n_generated;
    return n_left * scheduler->settings.admission / 100 / scheduler->limits.block_tokens;
}

// Blocks that running sequences and this one will soon need: one each, and what the settings set aside.
static int64_t blocks_spoken_for(const struct scheduler *scheduler, const struct sequence *sequence) {
    int64_t n = scheduler->n_running;
    if (!scheduler->settings.admission || !scheduler->n_running || sequence->was_preempted) return n;
    for (int32_t i = 0; i < scheduler->n_running; i++) n += blocks_ahead(scheduler, scheduler->running[i]);
    return n + blocks_ahead(scheduler, sequence);
}

// Gives a sequence the blocks of all its known tokens, so that computing a prompt never waits for blocks. False: there
// are too few, counting those that running sequences will soon need.
static bool try_give_blocks(struct scheduler *scheduler, struct sequence *sequence) {
    int32_t block_tokens = scheduler->limits.block_tokens;
    int32_t n_needed = (sequence_n_known(sequence) + block_tokens - 1) / block_tokens;
    int32_t n_unused, n_matched = match_prefix(scheduler, sequence, &n_unused);
    int64_t n_taken = (int64_t)n_needed - n_matched + n_unused;
    if (n_taken + blocks_spoken_for(scheduler, sequence) > block_pool_n_available(&scheduler->pool)) {
        sequence->n_published = 0;
        return false;
    }
    for (int32_t i = 0; i < n_matched; i++) block_pool_retain(&scheduler->pool, sequence->blocks[i]);
    for (int32_t i = n_matched; i < n_needed; i++) {
        sequence->blocks[i] = scheduler_take_block(scheduler);
        assert(sequence->blocks[i] >= 0);
    }
    sequence->n_blocks = n_needed;
    sequence->n_computed = n_matched * block_tokens;
    return true;
}

void scheduler_admit(struct scheduler *scheduler) {
    if (scheduler->n_changes == scheduler->n_changes_refused) return;
    scheduler->blocks_short = false;
    while (scheduler->n_running + scheduler->n_preempted + scheduler->n_resuming < scheduler->settings.sequences_max ||
           scheduler->n_preempted > 0) {
        // Nobody overtakes a preempted sequence, or the blocks that it waits for would go to others for ever.
        struct sequence *sequence = scheduler->n_preempted ? scheduler->preempted[0] : queue_first(&scheduler->queue);
        if (!sequence || scheduler->n_resuming) break;
        scheduler->blocks_short = !try_give_blocks(scheduler, sequence);
        if (scheduler->blocks_short) break;
        if (sequence->state == SEQUENCE_PREEMPTED)
            remove_from(scheduler->preempted, &scheduler->n_preempted, sequence);
        else
            queue_remove(&scheduler->queue, sequence);
        if (sequence->age == 0) count_first_admission(scheduler, sequence);
        sequence->state = SEQUENCE_RUNNING;
        insert_by_age(scheduler->running, &scheduler->n_running, sequence);
    }
    scheduler->n_changes_refused = scheduler->n_changes;
}

void scheduler_set_prompt_rows_max(struct scheduler *scheduler, int32_t n_rows) {
    assert(n_rows >= 1);
    scheduler->prompt_rows_max = n_rows;
}

void scheduler_learn_time(struct scheduler *scheduler, uint64_t step_ns) {
    struct speculation *speculation = &scheduler->speculation;
    speculation->committed.step_ns = step_ns;
    speculation_pay_watch(speculation, step_ns);
    governor_learn_step(&speculation->governor, &speculation->committed);
}

void scheduler_counters(const struct scheduler *scheduler, struct scheduler_counters *out) {
    *out = scheduler->counters;
    out->n_running = scheduler->n_running;
    out->speculation_gain = governor_gain(&scheduler->speculation.governor);
    out->n_waiting = scheduler->queue.n_queued + scheduler->n_held + scheduler->n_preempted + scheduler->n_resuming;
    out->n_places = scheduler->blocks_short ? scheduler->n_running : scheduler->settings.sequences_max;
    out->n_blocks_touched = scheduler->pool.n_touched;
    out->n_blocks_used = scheduler->limits.n_blocks - block_pool_n_available(&scheduler->pool);
    const struct guess_watch *watch = &scheduler->speculation.watch;
    out->n_shadow_tokens = watch->n_tokens;
    out->n_shadow_guesses = watch->n_guesses;
    out->n_shadow_hits = watch->n_hits;
    for (int32_t i = 0; i < scheduler->n_running; i++) {
        out->n_slots += (int64_t)scheduler->running[i]->n_blocks * scheduler->limits.block_tokens;
        out->n_slot_tokens += scheduler->running[i]->n_computed;
    }
}
