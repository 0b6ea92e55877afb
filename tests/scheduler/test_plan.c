// What a step contains: decodes first, chunks within the budget, shared prefixes, room for draws, preemption.
#include "tests/test.h"

#include "tests/scheduler/desk.h"

static void a_long_prompt_delays_nobody_by_more_than_a_chunk(void **state) {
    (void)state;
    static const struct {
        int32_t rows_max, chunk_max, prompt_rows_max, expected_chunk;
    } rows[] = {{64, 8, 64, 8}, {20, 0, 64, 16}, {64, 0, 12, 12}, {64, 16, 8, 8}, {16, 16, 16, 12}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct desk desk = desk_make();
        desk.limits.rows_max = rows[i].rows_max;
        desk.options.settings.chunk_max = rows[i].chunk_max;
        desk_start(&desk);
        scheduler_set_prompt_rows_max(desk.scheduler, rows[i].prompt_rows_max);
        desk_submit_plain(&desk, 1, 1, 200);
        assert_true(desk_plan(&desk));
        desk_commit(&desk);
        desk_submit_plain(&desk, 2, 160, 5);
        int32_t n_prompt_rows = 0;
        while (n_prompt_rows < 160) {
            assert_true(desk_plan(&desk));
            int32_t n = desk_rows(&desk, 2);
            assert_int_equal(desk_rows(&desk, 1), 1);
            assert_int_equal(n, rows[i].expected_chunk < 160 - n_prompt_rows ? rows[i].expected_chunk
                                                                             : 160 - n_prompt_rows);
            // Only the last row of the prompt draws.
            n_prompt_rows += n;
            const struct sample_params *draw = desk_draw_of(&desk, 2);
            assert_int_equal(draw != NULL, n_prompt_rows == 160);
            if (draw) assert_int_equal(draw->position, 160);
            desk_commit(&desk);
        }
        desk_run(&desk);
        assert_int_equal(desk_n_tokens(&desk, 1), 200);
        assert_int_equal(desk_n_tokens(&desk, 2), 5);
        desk_close(&desk);
    }
}

static void rows_are_described_as_the_engine_reads_them(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 3, 9);
    desk_submit_plain(&desk, 2, 6, 9);
    assert_true(desk_plan(&desk));
    const struct step_input *in = desk.input;
    assert_int_equal(in->n_rows, 9);
    assert_int_equal(in->n_sequences, 2);
    assert_int_equal(in->n_logit_rows, 2);
    for (int32_t s = 0; s < 2; s++) {
        const struct step_sequence *sequence = &in->sequences[s];
        int32_t id = in->token[sequence->row_first] / 1000, n_prompt = id * 3;
        assert_int_equal(sequence->row_count, n_prompt);
        assert_int_equal(sequence->kv_len, n_prompt);
        for (int32_t i = 0; i < n_prompt; i++) {
            int32_t row = sequence->row_first + i;
            assert_int_equal(in->token[row], id * 1000 + i);
            assert_int_equal(in->position[row], i);
            assert_int_equal(in->sequence[row], s);
        }
        assert_int_equal(in->logit_row[s], sequence->row_first + n_prompt - 1);
        assert_int_equal(in->sample[s].position, n_prompt);
        assert_int_equal(in->sample[s].forced_token, -1);
    }
    assert_int_equal(in->n_block_table, 1 + 2);
    desk_commit(&desk);
    assert_true(desk_plan(&desk));
    assert_int_equal(desk.input->n_rows, 2);
    assert_int_equal(desk.input->token[0], 1503); // what request 1 drew for position 3
    assert_int_equal(desk.input->position[0], 3);
    desk_commit(&desk);
    desk_close(&desk);
}

static void short_prompts_pass_a_long_one_that_still_advances(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.rows_max = 32;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 300, 1);
    desk_submit_plain(&desk, 2, 200, 1);
    desk_submit_plain(&desk, 3, 8, 1);
    desk_submit_plain(&desk, 4, 6, 1);
    assert_true(desk_plan(&desk));
    assert_int_equal(desk_rows(&desk, 1), 16);
    assert_int_equal(desk_rows(&desk, 3), 8);
    assert_int_equal(desk_rows(&desk, 4), 6);
    desk_commit(&desk);
    for (int i = 0; i < 5; i++) { // half for the oldest, the other half for the next
        assert_true(desk_plan(&desk));
        assert_int_equal(desk_rows(&desk, 1), 16);
        assert_in_range(desk_rows(&desk, 2), 14, 16); // chunks end at block borders
        desk_commit(&desk);
    }
    desk_run(&desk);
    desk_close(&desk);
}

static void a_prefix_is_shared_within_a_key_only(void **state) {
    (void)state;
    static const struct {
        const char *what;
        uint64_t key, salt;
        int32_t n_prompt, prompt_logprobs, n_rows;
        bool no_prefix_cache;
    } rows[] = {
        {"the same prompt: all full blocks but the last token's", 5, 0, 16, -1, 4, false},
        {"a longer prompt: its full blocks that were computed", 5, 0, 23, -1, 7, false},
        {"a shorter prompt", 5, 0, 9, -1, 1, false},
        {"another key", 6, 0, 16, -1, 16, false},
        {"another salt", 5, 1, 16, -1, 16, false},
        {"prompt logprobs need every row", 5, 0, 16, 0, 16, false},
        {"the cache is off", 5, 0, 16, -1, 16, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct desk desk = desk_make();
        desk.options.settings.no_prefix_cache = rows[i].no_prefix_cache;
        desk_start(&desk);
        struct generation first = desk_generation(1, 1, 16, 4);
        first.key_id = 5;
        desk_submit(&desk, &first);
        desk_run(&desk);
        struct generation second = desk_generation(2, 1, rows[i].n_prompt, 4);
        second.key_id = rows[i].key;
        second.cache_salt = rows[i].salt;
        second.n_prompt_top_logprobs = rows[i].prompt_logprobs;
        desk_submit(&desk, &second);
        assert_true(desk_plan(&desk));
        if (desk_rows(&desk, 1) != rows[i].n_rows) print_message("%s\n", rows[i].what);
        assert_int_equal(desk_rows(&desk, 1), rows[i].n_rows);
        desk_commit(&desk);
        desk_run(&desk);
        assert_int_equal(desk_counters(&desk).n_prompt_tokens_cached, rows[i].n_prompt - rows[i].n_rows);
        for (size_t e = 0; e < desk.events.count; e++)
            if (desk.events.items[e].id == 2 && desk.events.items[e].kind == EVENT_TOKEN)
                assert_int_equal(desk.events.items[e].n_cached, rows[i].n_prompt - rows[i].n_rows);
        desk_close(&desk);
    }
}

static void a_generated_answer_is_a_prefix_too(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 6, 8);
    desk_run(&desk);
    // The next turn: prompt and answer of the first, and more. 13 positions were computed, so 12 tokens are cached.
    int32_t prompt[20];
    for (int32_t i = 0; i < 20; i++) prompt[i] = i < 6 ? 1000 + i : i < 14 ? 1500 + i : 2000 + i;
    struct generation g = desk_generation(2, 2, 20, 2);
    g.prompt = prompt;
    desk_submit(&desk, &g);
    assert_true(desk_plan(&desk));
    assert_int_equal(desk.input->n_rows, 8);
    desk_commit(&desk);
    desk_run(&desk);
    desk_close(&desk);
}

static void prompts_that_come_together_are_computed_once(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.rows_max = 40;
    desk_start(&desk);
    for (uint64_t id = 1; id <= 8; id++) {
        struct generation g = desk_generation(id, 1, 120, 1);
        desk_submit(&desk, &g);
    }
    int32_t n_rows = 0;
    while (desk_plan(&desk)) {
        n_rows += desk.input->n_rows;
        desk_commit(&desk);
    }
    // Two are computed side by side at first; six of the eight take over nearly everything.
    assert_true(n_rows < 3 * 120);
    assert_true(desk_counters(&desk).n_prompt_tokens_cached > 5 * 116);
    desk_close(&desk);
}

static void choices_share_the_blocks_of_their_prompt(void **state) {
    (void)state;
    for (int no_prefix_cache = 0; no_prefix_cache < 2; no_prefix_cache++) {
        struct desk desk = desk_make();
        desk.options.settings.no_prefix_cache = no_prefix_cache;
        desk_start(&desk);
        struct generation g = desk_generation(1, 1, 18, 6);
        g.n_choices = 5;
        desk_submit(&desk, &g);
        assert_true(desk_plan(&desk));
        assert_int_equal(desk.input->n_rows, 18);
        desk_commit(&desk);
        assert_true(desk_plan(&desk));
        // One row of the first choice, the last two prompt tokens of each other.
        assert_int_equal(desk.input->n_rows, 1 + 4 * 2);
        assert_int_equal(desk.input->n_sequences, 5);
        unsigned choices = 0;
        for (int32_t s = 1; s < 5; s++) {
            const struct step_sequence *a = &desk.input->sequences[0], *b = &desk.input->sequences[s];
            assert_memory_equal(desk.input->block_table + a->block_first, desk.input->block_table + b->block_first,
                                4 * sizeof(int32_t));
            assert_int_not_equal(desk.input->block_table[a->block_first + 4],
                                 desk.input->block_table[b->block_first + 4]);
            choices |= 1u << desk.input->sample[s].choice_index;
        }
        assert_int_equal(choices, 0x1e);
        assert_int_equal(desk_counters(&desk).n_blocks_used, 4 + 5);
        desk_commit(&desk);
        desk_run(&desk);
        assert_int_equal(desk_count(&desk, 1, EVENT_TOKEN, FINISH_LENGTH), 5);
        assert_int_equal(desk_counters(&desk).n_blocks_used, 0);
        desk_close(&desk);
    }
}

static void the_newest_is_preempted_and_comes_back(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.context = 40;
    desk.limits.n_blocks = 10;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 8, 32);
    desk_submit_plain(&desk, 2, 8, 32);
    int n_steps = 0;
    while (desk_plan(&desk)) {
        // The oldest is never without a row.
        if (n_steps > 0 && n_steps < 32) assert_int_equal(desk_rows(&desk, 1), 1);
        desk_commit(&desk);
        n_steps++;
    }
    struct scheduler_counters counters = desk_counters(&desk);
    assert_true(counters.n_preemptions >= 1 && counters.n_preemptions < 4);
    for (uint64_t id = 1; id <= 2; id++) {
        int32_t index = 0;
        for (size_t i = 0; i < desk.events.count; i++) {
            const struct generation_event *event = &desk.events.items[i];
            if (event->id != id) continue;
            assert_int_equal(event->index, index);
            assert_int_equal(event->sample.token, (int32_t)id * 1000 + 508 + index++);
        }
        assert_int_equal(index, 32);
    }
    // A prompt counts once, however often it is computed.
    assert_int_equal(counters.n_prompt_tokens, 16);
    assert_int_equal(counters.n_prefix_queries, 16);
    desk_close(&desk);
}

static void a_waiting_prompt_is_let_in_when_its_blocks_are_there(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.context = 40;
    desk.limits.n_blocks = 12;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 20, 4); // five blocks, then six
    desk_submit_plain(&desk, 2, 28, 4); // seven: there are as many, but the first will need one of them
    desk_submit_plain(&desk, 3, 4, 4);  // would fit, but does not overtake in its own key's queue
    assert_true(desk_plan(&desk));
    assert_int_equal(desk_counters(&desk).n_running, 1);
    assert_int_equal(desk_counters(&desk).n_waiting, 2);
    assert_int_equal(desk_counters(&desk).n_places, 1);
    desk_commit(&desk);
    desk_run(&desk);
    for (uint64_t id = 1; id <= 3; id++) assert_int_equal(desk_n_tokens(&desk, id), 4);
    assert_int_equal(desk_counters(&desk).n_preemptions, 0);
    desk_close(&desk);
}

static void prompt_logprobs_take_turns_with_draws(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.sequences_max = 3;
    desk.limits.logit_rows_max = 5;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 1, 60);
    desk_submit_plain(&desk, 2, 1, 60);
    assert_true(desk_plan(&desk));
    desk_commit(&desk);
    struct generation g = desk_generation(3, 3, 20, 2);
    g.n_prompt_top_logprobs = 1;
    desk_submit(&desk, &g);
    int32_t next = 1;
    while (desk_count(&desk, 3, EVENT_TOKEN, FINISH_NONE) == 0) {
        assert_true(desk_plan(&desk));
        assert_true(desk.input->n_logit_rows <= 5);
        assert_non_null(desk_draw_of(&desk, 1));
        assert_non_null(desk_draw_of(&desk, 2));
        for (int32_t l = 0; l < desk.input->n_logit_rows; l++) {
            if (desk.input->sample[l].forced_token < 0) continue;
            assert_int_equal(desk.input->sample[l].forced_token, 3000 + next);
            assert_int_equal(desk.input->sample[l].position, next);
            assert_int_equal(desk.input->sample[l].n_top_logprobs, 1);
            next++;
        }
        desk_commit(&desk);
    }
    assert_int_equal(next, 20);
    assert_int_equal(desk_count(&desk, 3, EVENT_PROMPT_LOGPROB, FINISH_NONE), 19);
    desk_run(&desk);
    desk_close(&desk);
}

static void draws_without_room_take_turns(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.context = 40;
    desk.limits.seen_max = 50; // two of the three lists at most
    desk_start(&desk);
    for (uint64_t id = 1; id <= 3; id++) {
        struct generation g = desk_generation(id, id, 10, 20);
        g.sampling.presence_penalty = 1;
        desk_submit(&desk, &g);
    }
    while (desk_plan(&desk)) {
        assert_in_range(desk.input->n_seen, 10, 50);
        desk_commit(&desk);
        for (uint64_t a = 1; a <= 3; a++)
            for (uint64_t b = 1; b <= 3; b++) assert_true(desk_n_tokens(&desk, a) - desk_n_tokens(&desk, b) <= 2);
    }
    for (uint64_t id = 1; id <= 3; id++) assert_int_equal(desk_n_tokens(&desk, id), 20);
    desk_close(&desk);
}

static void a_step_ahead_refers_to_the_draw_in_flight(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.steps_in_flight = 2;
    desk_start(&desk);
    struct generation plain = desk_generation(1, 1, 3, 4), penalised = desk_generation(2, 2, 3, 4);
    penalised.sampling.frequency_penalty = 1;
    desk_submit(&desk, &plain);
    desk_submit(&desk, &penalised);
    assert_true(desk_plan(&desk));
    const struct sample_params *draw = desk_draw_of(&desk, 1);
    int32_t logit = (int32_t)(draw - desk.input->sample);
    assert_true(desk_plan(&desk)); // with the first step in flight
    assert_int_equal(desk.input->n_rows, 1);
    assert_int_equal(desk.input->token[0], STEP_TOKEN_REF(logit));
    assert_int_equal(desk.input->position[0], 3);
    assert_null(desk_draw_of(&desk, 2)); // its penalties depend on the token in flight
    desk_commit(&desk);
    assert_true(desk_plan(&desk));
    draw = desk_draw_of(&desk, 2);
    assert_non_null(draw);
    assert_int_equal(draw->seen_count, 4);
    static const struct seen_token seen[] = {{2000, 0}, {2001, 0}, {2002, 0}, {2503, 1}};
    assert_memory_equal(desk.input->seen + draw->seen_first, seen, sizeof seen);
    desk_commit(&desk);
    desk_commit(&desk);
    desk_close(&desk);
}

static void nothing_is_planned_beyond_the_last_token(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.steps_in_flight = 2;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 4, 4);
    for (int i = 0; i < 4; i++) {
        assert_true(desk_plan(&desk));
        if (i > 0) desk_commit(&desk);
    }
    assert_false(desk_plan(&desk)); // the last token is in flight
    desk_commit(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1), 4);
    desk_close(&desk);
}

static void one_missing_block_preempts_one_sequence(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.steps_in_flight = 2;
    desk.limits.context = 40;
    desk.limits.n_blocks = 14;
    desk_start(&desk);
    for (uint64_t id = 1; id <= 4; id++) desk_submit_plain(&desk, id, 6 + (int32_t)id % 2, 30);
    assert_true(desk_plan(&desk));
    while (desk_counters(&desk).n_preemptions == 0) {
        bool planned = desk_plan(&desk);
        assert_true(planned || desk_counters(&desk).n_preemptions > 0);
        if (desk_counters(&desk).n_preemptions == 0) desk_commit(&desk);
    }
    assert_int_equal(desk_counters(&desk).n_preemptions, 1);
    assert_int_equal(desk_counters(&desk).n_running, 3);
    desk_close(&desk);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static uint64_t n_allocations;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);
void *malloc(size_t n) {
    n_allocations++;
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    n_allocations++;
    return __libc_calloc(n, size);
}
void *realloc(void *old, size_t n) {
    n_allocations++;
    return __libc_realloc(old, n);
}

static void steps_allocate_nothing(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.n_blocks = 150;
    desk_start(&desk);
    for (uint64_t id = 1; id <= 16; id++) {
        struct generation g = desk_generation(id, id % 3, 60, 300);
        if (id % 2) g.sampling.presence_penalty = 1;
        g.key_id = id % 5;
        desk_submit(&desk, &g);
    }
    vec_reserve(&desk.events, 16 * 300 + 64);
    uint64_t before = n_allocations;
    desk_run(&desk);
    assert_int_equal(n_allocations, before);
    assert_true(desk_counters(&desk).n_preemptions > 0);
    desk_close(&desk);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_delays_nobody_by_more_than_a_chunk),
        cmocka_unit_test(rows_are_described_as_the_engine_reads_them),
        cmocka_unit_test(short_prompts_pass_a_long_one_that_still_advances),
        cmocka_unit_test(a_prefix_is_shared_within_a_key_only),
        cmocka_unit_test(a_generated_answer_is_a_prefix_too),
        cmocka_unit_test(prompts_that_come_together_are_computed_once),
        cmocka_unit_test(choices_share_the_blocks_of_their_prompt),
        cmocka_unit_test(the_newest_is_preempted_and_comes_back),
        cmocka_unit_test(a_waiting_prompt_is_let_in_when_its_blocks_are_there),
        cmocka_unit_test(prompt_logprobs_take_turns_with_draws),
        cmocka_unit_test(draws_without_room_take_turns),
        cmocka_unit_test(a_step_ahead_refers_to_the_draw_in_flight),
        cmocka_unit_test(nothing_is_planned_beyond_the_last_token),
        cmocka_unit_test(one_missing_block_preempts_one_sequence),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(steps_allocate_nothing),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
