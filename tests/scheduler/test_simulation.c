// Many random worlds: small pools, bursts, shared prefixes, several keys, cancellations at any time, one and two steps
// in flight, proposers of right and of wrong drafts. In each, every request gets exactly the tokens that it would get
// alone.
#include "tests/test.h"

#include "base/rng.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/fake_model.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STEPS_TOTAL = 60 * 1000 };
#else
enum { STEPS_TOTAL = 1100 * 1000 };
#endif
enum { STEPS_PER_WORLD = 2500, LIVING_MAX = 64, CHOICES_MAX = 5, THEMES = 4, VOCAB = 61 };

struct customer {
    struct generation generation; // id 0: the place is empty
    int32_t *prompt;
    struct logit_edit bias[3];
    struct fake_answer answers[CHOICES_MAX];
    int32_t n_received[CHOICES_MAX];
    bool over[CHOICES_MAX];
    int32_t n_prompt_logprobs;
};

struct world;

// Proposes what the customer is going to get, with errors.
struct oracle {
    struct proposer common;
    struct world *world;
    uint32_t wrong_percent, silent_percent;
};

struct world {
    struct oracle oracle;
    uint64_t seed, n_draws;
    struct engine_limits limits;
    struct engine *engine;
    struct scheduler *scheduler;
    struct customer customers[LIVING_MAX];
    struct generation_events events;
    int32_t themes[THEMES][256];
    uint64_t last_id, n_steps, n_cancelled;
    uint32_t submit_percent, cancel_percent, key_count, long_percent, edit_percent;
};

static uint32_t draw(struct world *world, uint32_t n) {
    return rng_u32(rng_key(world->seed, 0, 0), world->n_draws++) % n;
}

static bool chance(struct world *world, uint32_t percent) {
    return draw(world, 100) < percent;
}

static int32_t between(struct world *world, int32_t low, int32_t high) {
    return low + (int32_t)draw(world, (uint32_t)(high - low + 1));
}

static void customer_leave(struct customer *customer) {
    for (int32_t i = 0; i < customer->generation.n_choices; i++) fake_answer_close(&customer->answers[i]);
    free(customer->prompt);
    *customer = (struct customer){0};
}

static bool is_over(const struct customer *customer) {
    for (int32_t i = 0; i < customer->generation.n_choices; i++)
        if (!customer->over[i]) return false;
    return true;
}

static struct customer *find_customer(struct world *world, uint64_t id) {
    for (int i = 0; i < LIVING_MAX; i++)
        if (world->customers[i].generation.id == id) return &world->customers[i];
    return NULL;
}

static void make_prompt(struct world *world, struct customer *customer) {
    struct generation *g = &customer->generation;
    int32_t longest = chance(world, world->long_percent) ? world->limits.context : 1 + world->limits.context / 4;
    g->n_prompt = between(world, 1, longest);
    customer->prompt = mem_alloc_zero((size_t)g->n_prompt, sizeof *customer->prompt);
    int32_t shared = chance(world, 70) ? between(world, 0, g->n_prompt) : 0;
    const int32_t *theme = world->themes[draw(world, THEMES)];
    for (int32_t i = 0; i < g->n_prompt; i++) customer->prompt[i] = i < shared ? theme[i] : (int32_t)draw(world, VOCAB);
    g->prompt = customer->prompt;
}

static void make_generation(struct world *world, struct customer *customer) {
    struct generation *g = &customer->generation;
    *g = (struct generation){.id = ++world->last_id, .n_prompt_top_logprobs = -1};
    make_prompt(world, customer);
    int32_t room = world->limits.context - g->n_prompt;
    g->n_choices = chance(world, 15) ? between(world, 2, CHOICES_MAX) : 1;
    g->max_tokens = chance(world, 5) ? 0 : room - between(world, 0, room) * between(world, 0, 1);
    g->min_tokens = chance(world, world->edit_percent) ? between(world, 0, g->max_tokens) : 0;
    g->ignore_eos = chance(world, 50);
    g->n_stop_tokens = between(world, 0, 3);
    for (int32_t i = 0; i < g->n_stop_tokens; i++) g->stop_tokens[i] = (int32_t)draw(world, VOCAB);
    g->sampling = (struct sample_params){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1};
    g->sampling.seed = draw(world, 3);
    if (chance(world, 20)) g->sampling.n_top_logprobs = 2;
    if (chance(world, 20)) g->sampling.frequency_penalty = 0.5f;
    if (chance(world, 10)) g->n_prompt_top_logprobs = between(world, 0, 2);
    g->n_bias = chance(world, world->edit_percent) ? between(world, 1, 3) : 0;
    for (int32_t i = 0; i < g->n_bias; i++)
        customer->bias[i] = (struct logit_edit){(int32_t)draw(world, VOCAB), (float)between(world, -3, 3)};
    g->bias = customer->bias;
    g->key_id = draw(world, world->key_count);
}

static void submit_one(struct world *world) {
    struct customer *customer = find_customer(world, 0);
    if (!customer) return;
    make_generation(world, customer);
    const struct generation *g = &customer->generation;
    for (int32_t i = 0; i < g->n_choices; i++) customer->answers[i] = fake_answer_make(g, i, VOCAB);
    struct request *request;
    struct err err;
    assert_int_equal(request_open(&request, g, &world->limits, &err), 0);
    scheduler_submit(world->scheduler, request, &world->events);
}

// A request that is refused must leave no trace.
static void submit_refused(struct world *world) {
    int32_t prompt[2] = {0, (int32_t)draw(world, 2) ? -1 : VOCAB};
    struct generation g = {.id = 1, .prompt = prompt, .n_prompt = 2, .n_choices = 1, .n_prompt_top_logprobs = -1};
    g.sampling.n_top_logprobs = -1;
    struct request *request;
    struct err err;
    assert_int_equal(request_open(&request, &g, &world->limits, &err), ERR_INVALID);
    prompt[1] = 1;
    g.max_tokens = world->limits.context;
    assert_int_equal(request_open(&request, &g, &world->limits, &err), ERR_LIMIT);
}

static void cancel_one(struct world *world) {
    struct customer *customer = &world->customers[draw(world, LIVING_MAX)];
    if (!customer->generation.id) return;
    int32_t choice = chance(world, 50) ? -1 : between(world, 0, customer->generation.n_choices - 1);
    world->n_cancelled++;
    scheduler_cancel(world->scheduler, customer->generation.id, choice, &world->events);
}

static void receive_token(struct customer *customer, const struct generation_event *event) {
    const struct fake_answer *answer = &customer->answers[event->choice];
    const struct generation *g = &customer->generation;
    assert_int_equal(event->index, customer->n_received[event->choice]++);
    assert_true(event->index < answer->n_tokens);
    assert_int_equal(event->sample.token, answer->tokens[event->index]);
    assert_int_equal(event->has_logprobs, g->sampling.n_top_logprobs >= 0);
    assert_int_equal(event->finish, event->index + 1 == answer->n_tokens ? answer->finish : FINISH_NONE);
    assert_true(event->n_cached >= 0 && event->n_cached < g->n_prompt);
    if (g->n_prompt_top_logprobs >= 0) assert_int_equal(customer->n_prompt_logprobs, g->n_prompt - 1);
}

static void receive(struct world *world, const struct generation_event *event) {
    struct customer *customer = find_customer(world, event->id);
    assert_non_null(customer);
    assert_in_range(event->choice, 0, customer->generation.n_choices - 1);
    assert_false(customer->over[event->choice]);
    if (event->kind == EVENT_TOKEN) {
        receive_token(customer, event);
    } else if (event->kind == EVENT_PROMPT_LOGPROB) {
        assert_int_equal(event->index, ++customer->n_prompt_logprobs);
        assert_true(customer->generation.n_prompt_top_logprobs >= 0);
        assert_int_equal(event->sample.token, customer->prompt[event->index]);
        assert_true(event->sample.logprob == customer->answers[0].prompt_logprobs[event->index]);
    } else if (event->finish == FINISH_LENGTH) {
        assert_int_equal(customer->generation.max_tokens, 0);
        if (customer->generation.n_prompt_top_logprobs >= 0)
            assert_int_equal(customer->n_prompt_logprobs, customer->generation.n_prompt - 1);
    } else {
        assert_int_equal(event->finish, FINISH_ABORT);
    }
    customer->over[event->choice] = event->finish != FINISH_NONE;
    if (is_over(customer)) customer_leave(customer);
}

static void receive_all(struct world *world) {
    for (size_t i = 0; i < world->events.count; i++) receive(world, &world->events.items[i]);
    world->events.count = 0;
}

static void collect(struct world *world) {
    const struct sample_result *results;
    struct step_record record;
    assert_int_equal(engine_collect(world->engine, &results, &record, NULL), 0);
    scheduler_commit(world->scheduler, results, world->n_steps, &world->events);
    scheduler_learn_time(world->scheduler, 1000000 + 20000 * (uint64_t)record.n_rows);
}

// One turn of the step loop. False: nothing could be done.
static bool turn(struct world *world) {
    bool submitted = false;
    if (engine_n_in_flight(world->engine) < world->limits.steps_in_flight) {
        submitted = scheduler_plan(world->scheduler, engine_next_input(world->engine), world->n_steps + 1);
        if (submitted) {
            engine_submit(world->engine);
            world->n_steps++;
        }
    }
    int32_t n_in_flight = engine_n_in_flight(world->engine);
    if (n_in_flight == 0) return false;
    if (!submitted || n_in_flight == world->limits.steps_in_flight || chance(world, 20)) collect(world);
    return true;
}

static void propose(struct proposer *proposer, struct draft_query *queries, int32_t n_queries) {
    struct oracle *oracle = (struct oracle *)proposer;
    struct world *world = oracle->world;
    assert_true(n_queries <= world->limits.sequences_max);
    for (int32_t i = 0; i < n_queries; i++) {
        struct draft_query *query = &queries[i];
        const struct customer *customer = find_customer(world, query->id);
        assert_non_null(customer);
        const struct fake_answer *answer = &customer->answers[query->choice];
        assert_in_range(query->n_max, 1, DRAFTS_MAX);
        assert_true(query->n_generated + query->n_max < customer->generation.max_tokens);
        if (query->n_generated)
            assert_int_equal(query->generated[query->n_generated - 1], answer->tokens[query->n_generated - 1]);
        if (chance(world, oracle->silent_percent)) continue;
        query->n = between(world, 0, query->n_max);
        query->strength = between(world, 0, DRAFT_STRENGTHS - 1);
        for (int32_t t = 0; t < query->n; t++) {
            int32_t index = query->n_generated + t;
            bool knows = index < answer->n_tokens && !chance(world, oracle->wrong_percent);
            query->tokens[t] = knows ? answer->tokens[index] : (int32_t)draw(world, VOCAB);
        }
    }
}

static size_t no_bytes(const struct proposer *proposer) {
    (void)proposer;
    return 0;
}

static void open_world(struct world *world, uint64_t seed) {
    static const int32_t block_sizes[] = {1, 2, 4, 16};
    *world = (struct world){.seed = seed};
    struct engine_limits *l = &world->limits;
    l->vocab = VOCAB;
    l->block_tokens = block_sizes[draw(world, 4)];
    l->context = between(world, 4, chance(world, 30) ? 160 : 40);
    l->sequences_max = between(world, 1, chance(world, 40) ? 16 : 6);
    l->rows_max = l->sequences_max + between(world, 0, chance(world, 50) ? 6 : 48);
    l->logit_rows_max = l->sequences_max + between(world, 0, 4);
    int32_t per_sequence = (l->context + l->block_tokens - 1) / l->block_tokens;
    l->n_blocks = per_sequence + between(world, 0, chance(world, 50) ? per_sequence : per_sequence * l->sequences_max);
    l->block_table_max = per_sequence * l->sequences_max;
    l->edits_max = GENERATION_STOP_TOKENS_MAX + 3 + between(world, 0, 20);
    l->seen_max = l->context + between(world, 0, l->context * 2);
    l->steps_in_flight = between(world, 1, 2);
    world->submit_percent = (uint32_t)between(world, 2, 60);
    world->cancel_percent = chance(world, 50) ? 0 : (uint32_t)between(world, 1, 10);
    world->key_count = (uint32_t)between(world, 1, 4);
    world->edit_percent = chance(world, 20) ? 95 : 10;
    world->long_percent = (uint32_t)between(world, 0, 60);
    for (int t = 0; t < THEMES; t++)
        for (int i = 0; i < 256; i++) world->themes[t][i] = (int32_t)draw(world, t == 0 ? 2 : VOCAB);
    struct scheduler_options options = {.limits = l,
                                        .settings = {.chunk_max = chance(world, 50) ? 0 : between(world, 1, 20),
                                                     .no_prefix_cache = chance(world, 20),
                                                     .admission = chance(world, 50) ? 0 : between(world, 1, 100)}};
    world->oracle = (struct oracle){.common = {.name = "oracle", .propose = propose, .bytes = no_bytes},
                                    .world = world,
                                    .wrong_percent = draw(world, 3) * 30,
                                    .silent_percent = draw(world, 2) * 40};
    if (chance(world, 70)) {
        options.proposer = &world->oracle.common;
        options.settings.draft_tokens = between(world, 0, DRAFTS_MAX);
        l->rows_max += between(world, 0, 40);
        l->logit_rows_max += between(world, 0, 40);
    }
    world->engine = fake_engine_open(l);
    world->scheduler = scheduler_open(&options);
}

static void drain(struct world *world) {
    // Every turn plans or collects; a bound that no healthy world comes near shows a livelock.
    for (int i = 0; i < 100 * 1000; i++)
        if (!turn(world))
            break;
        else
            receive_all(world);
    receive_all(world);
    for (int i = 0; i < LIVING_MAX; i++) assert_int_equal(world->customers[i].generation.id, 0);
    struct scheduler_counters counters;
    scheduler_counters(world->scheduler, &counters);
    assert_int_equal(counters.n_running, 0);
    assert_int_equal(counters.n_waiting, 0);
    assert_int_equal(counters.n_blocks_used, 0);
    scheduler_check_integrity(world->scheduler);
}

static void run_world(struct world *world, struct scheduler_counters *totals) {
    for (int i = 0; i < STEPS_PER_WORLD; i++) {
        if (chance(world, world->submit_percent)) {
            int32_t burst = chance(world, 10) ? between(world, 2, 20) : 1;
            for (int32_t b = 0; b < burst; b++) submit_one(world);
        }
        if (chance(world, 2)) submit_refused(world);
        if (chance(world, world->cancel_percent)) cancel_one(world);
        if (chance(world, 5))
            scheduler_set_prompt_rows_max(world->scheduler, between(world, 1, world->limits.rows_max));
        turn(world);
        receive_all(world);
        if (i % 8 == 0) scheduler_check_integrity(world->scheduler);
    }
    if (chance(world, 30)) scheduler_cancel_all(world->scheduler, FINISH_ABORT, &world->events);
    drain(world);
    struct scheduler_counters counters;
    scheduler_counters(world->scheduler, &counters);
    totals->n_preemptions += counters.n_preemptions;
    totals->n_prefix_hits += counters.n_prefix_hits;
    totals->n_finished += counters.n_finished;
    totals->n_generated_tokens += counters.n_generated_tokens;
    totals->n_draft_tokens += counters.n_draft_tokens;
    totals->n_draft_tokens_accepted += counters.n_draft_tokens_accepted;
}

static void close_world(struct world *world) {
    scheduler_close(world->scheduler);
    fake_engine_close(world->engine);
    vec_free(&world->events);
}

static void every_request_gets_its_own_tokens_in_any_world(void **state) {
    (void)state;
    static struct world world;
    struct scheduler_counters totals = {0};
    uint64_t n_steps = 0, n_cancelled = 0, n_worlds = 0;
    while (n_steps < STEPS_TOTAL) {
        open_world(&world, ++n_worlds);
        run_world(&world, &totals);
        n_steps += world.n_steps;
        n_cancelled += world.n_cancelled;
        close_world(&world);
    }
    printf("%llu worlds, %llu steps, %llu sequences, %llu tokens, %llu preemptions, %llu tokens from the prefix cache, "
           "%llu cancellations, %llu of %llu drafts accepted\n",
           (unsigned long long)n_worlds, (unsigned long long)n_steps, (unsigned long long)totals.n_finished,
           (unsigned long long)totals.n_generated_tokens, (unsigned long long)totals.n_preemptions,
           (unsigned long long)totals.n_prefix_hits, (unsigned long long)n_cancelled,
           (unsigned long long)totals.n_draft_tokens_accepted, (unsigned long long)totals.n_draft_tokens);
    // The worlds are worth something only if all of this happens in them.
    assert_true(totals.n_preemptions > n_steps / 1000);
    assert_true(totals.n_prefix_hits > n_steps / 100);
    assert_true(n_cancelled > n_worlds);
    assert_true(totals.n_draft_tokens_accepted > n_steps / 10);
    assert_true(totals.n_draft_tokens - totals.n_draft_tokens_accepted > n_steps / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_request_gets_its_own_tokens_in_any_world)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
