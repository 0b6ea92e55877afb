// How sequences end: stop tokens, lengths, cancellation in every phase; and what must not come out afterwards.
#include "tests/test.h"

#include "tests/scheduler/desk.h"

enum { STOP = 777 };

static void a_stop_token_ends_a_sequence_and_what_follows_is_dropped(void **state) {
    (void)state;
    for (int32_t steps_in_flight = 1; steps_in_flight <= 2; steps_in_flight++) {
        struct desk desk = desk_make();
        desk.limits.steps_in_flight = steps_in_flight;
        desk_start(&desk);
        struct generation g = desk_generation(1, 1, 5, 20);
        g.n_stop_tokens = 2;
        g.stop_tokens[0] = STOP + 1;
        g.stop_tokens[1] = STOP;
        desk_submit(&desk, &g);
        assert_true(desk_plan(&desk));
        if (steps_in_flight == 2) assert_true(desk_plan(&desk));
        desk_commit(&desk);
        desk.draw = STOP;
        assert_true(desk_plan(&desk)); // with two in flight this is planned before the stop token is seen
        desk_commit(&desk);
        assert_int_equal(desk_count(&desk, 1, EVENT_TOKEN, FINISH_STOP), 1);
        // Its blocks stay until the last step that uses them is committed.
        assert_int_equal(desk_counters(&desk).n_blocks_used, steps_in_flight == 2 ? 2 : 0);
        if (steps_in_flight == 2) desk_commit(&desk);
        assert_int_equal(desk_counters(&desk).n_blocks_used, 0);
        assert_int_equal(desk.events.count, 2);
        assert_int_equal(desk.events.items[1].sample.token, STOP);
        assert_false(desk_plan(&desk));
        desk_close(&desk);
    }
}

static void stop_tokens_are_banned_before_min_tokens(void **state) {
    (void)state;
    static const struct {
        bool ignore_eos;
        int32_t n_bias, expected[4]; // edits of the draws 0..3
    } rows[] = {{false, 0, {2, 2, 0, 0}}, {true, 0, {0, 0, 0, 0}}, {false, 1, {3, 3, 1, 1}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct desk desk = desk_make();
        desk.limits.steps_in_flight = 2;
        desk_start(&desk);
        struct logit_edit bias[] = {{55, -2.5f}};
        struct generation g = desk_generation(1, 1, 5, 4);
        g.min_tokens = 2;
        g.ignore_eos = rows[i].ignore_eos;
        g.n_stop_tokens = 2;
        g.stop_tokens[0] = STOP;
        g.stop_tokens[1] = STOP + 1;
        g.bias = bias;
        g.n_bias = rows[i].n_bias;
        desk_submit(&desk, &g);
        for (int32_t draw = 0; draw < 4; draw++) {
            assert_true(desk_plan(&desk));
            const struct sample_params *p = desk_draw_of(&desk, 1);
            assert_int_equal(p->edit_count, rows[i].expected[draw]);
            const struct logit_edit *edits = desk.input->edits + p->edit_first;
            if (rows[i].n_bias) assert_true(edits[0].token == 55 && edits[0].add == -2.5f);
            for (int32_t e = rows[i].n_bias; e < p->edit_count; e++) {
                assert_int_equal(edits[e].token, STOP + e - rows[i].n_bias);
                assert_true(isinf(edits[e].add) && edits[e].add < 0);
            }
            if (draw > 0) desk_commit(&desk);
        }
        desk_commit(&desk);
        assert_int_equal(desk_count(&desk, 1, EVENT_TOKEN, FINISH_LENGTH), 1);
        desk_close(&desk);
    }
}

static void ignored_stop_tokens_do_not_stop(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk_start(&desk);
    struct generation g = desk_generation(1, 1, 5, 7);
    g.ignore_eos = true;
    g.n_stop_tokens = 1;
    g.stop_tokens[0] = STOP;
    desk.draw = STOP;
    desk_submit(&desk, &g);
    desk_run(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1), 7);
    assert_int_equal(desk_count(&desk, 1, EVENT_TOKEN, FINISH_LENGTH), 1);
    desk_close(&desk);
}

static void nothing_to_draw_ends_at_once_or_after_the_prompt(void **state) {
    (void)state;
    static const struct {
        int32_t n_prompt, prompt_logprobs, n_steps, n_rows;
    } rows[] = {{9, -1, 0, 0}, {9, 0, 1, 8}, {2, 3, 1, 1}, {1, 3, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct desk desk = desk_make();
        desk_start(&desk);
        struct generation g = desk_generation(1, 1, rows[i].n_prompt, 0);
        g.n_choices = 3;
        g.n_prompt_top_logprobs = rows[i].prompt_logprobs;
        desk_submit(&desk, &g);
        int32_t n_steps = 0, n_rows = 0;
        while (desk_plan(&desk)) {
            n_steps++;
            n_rows += desk.input->n_rows;
            desk_commit(&desk);
        }
        assert_int_equal(n_steps, rows[i].n_steps);
        assert_int_equal(n_rows, rows[i].n_rows);
        assert_int_equal(desk_count(&desk, 1, EVENT_FINISHED, FINISH_LENGTH), 3);
        assert_int_equal(desk_count(&desk, 1, EVENT_PROMPT_LOGPROB, FINISH_NONE), rows[i].n_rows);
        desk_close(&desk);
    }
}

static void the_longest_sequence_uses_the_whole_context(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.context = 30;
    desk.limits.n_blocks = 8;
    desk.limits.steps_in_flight = 2;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 1, 29);
    desk_run(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1), 29);
    desk_close(&desk);
}

enum phase {
    PHASE_QUEUED,
    PHASE_PROMPT,           // some chunks of its prompt were computed
    PHASE_PROMPT_IN_FLIGHT, // one is being computed
    PHASE_DECODING,
    PHASE_ONE_IN_FLIGHT,
    PHASE_TWO_IN_FLIGHT,
    PHASE_PREEMPTED,
    PHASE_PREEMPTED_IN_FLIGHT,
    PHASES,
};

// Brings request 2 into a phase, beside request 1, which decodes. Returns the steps in flight.
static int enter_phase(struct desk *desk, enum phase phase) {
    static const char *const names[PHASES] = {
        "queued",        "prompt",        "prompt in flight", "decoding",
        "one in flight", "two in flight", "preempted",        "preempted in flight"};
    print_message("cancelled while %s\n", names[phase]);
    desk->limits.context = 80;
    desk->limits.n_blocks = 24;
    desk->limits.rows_max = 16;
    desk->limits.steps_in_flight = 2;
    desk_start(desk);
    desk_submit_plain(desk, 1, 4, 76);
    assert_true(desk_plan(desk));
    desk_commit(desk);
    desk_submit_plain(desk, 2, 40, 40);
    if (phase == PHASE_QUEUED) return 0;
    int n_chunks = phase <= PHASE_PROMPT_IN_FLIGHT ? 2 : 4;
    for (int i = 0; i < n_chunks; i++) {
        assert_true(desk_plan(desk));
        if (phase != PHASE_PROMPT_IN_FLIGHT || i + 1 < n_chunks) desk_commit(desk);
    }
    if (phase == PHASE_PROMPT_IN_FLIGHT) return 1;
    if (phase == PHASE_PROMPT || phase == PHASE_DECODING) return 0;
    int n_in_flight = 0;
    for (int n = phase == PHASE_TWO_IN_FLIGHT ? 2 : 1; phase < PHASE_PREEMPTED && n_in_flight < n; n_in_flight++)
        assert_true(desk_plan(desk));
    while (phase >= PHASE_PREEMPTED) {
        bool planned = desk_plan(desk);
        n_in_flight += planned;
        if (desk_counters(desk).n_preemptions) break;
        if (!planned || n_in_flight == 2) {
            desk_commit(desk);
            n_in_flight--;
        }
    }
    if (phase == PHASE_PREEMPTED)
        for (; n_in_flight > 0; n_in_flight--) desk_commit(desk);
    return n_in_flight;
}

static void a_cancelled_request_is_gone_in_every_phase(void **state) {
    (void)state;
    for (enum phase phase = PHASE_QUEUED; phase < PHASES; phase++) {
        struct desk desk = desk_make();
        int n_in_flight = enter_phase(&desk, phase);
        int32_t n_tokens = desk_n_tokens(&desk, 2);
        scheduler_cancel(desk.scheduler, 2, -1, &desk.events);
        scheduler_check_integrity(desk.scheduler);
        scheduler_cancel(desk.scheduler, 2, 0, &desk.events); // once is enough
        for (; n_in_flight > 0; n_in_flight--) desk_commit(&desk);
        assert_int_equal(desk_count(&desk, 2, EVENT_FINISHED, FINISH_ABORT), 1);
        assert_int_equal(desk_n_tokens(&desk, 2), n_tokens);
        // Nothing of it is left but what the prefix cache may find: only request 1 holds blocks.
        struct scheduler_counters counters = desk_counters(&desk);
        assert_int_equal(counters.n_running, 1);
        assert_int_equal(counters.n_waiting, 0);
        assert_int_equal(counters.n_blocks_used, (4 + desk_n_tokens(&desk, 1) - 1 + 3) / 4);
        while (desk_plan(&desk)) {
            assert_int_equal(desk_rows(&desk, 2), 0);
            desk_commit(&desk);
        }
        assert_int_equal(desk_n_tokens(&desk, 1), 76);
        assert_int_equal(desk_counters(&desk).n_blocks_used, 0);
        desk_close(&desk);
    }
}

static void a_cancelled_prompt_stays_cached(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.options.settings.chunk_max = 16;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 100, 5);
    for (int i = 0; i < 3; i++) {
        assert_true(desk_plan(&desk));
        desk_commit(&desk);
    }
    scheduler_cancel(desk.scheduler, 1, -1, &desk.events);
    struct generation g = desk_generation(2, 1, 100, 5);
    desk_submit(&desk, &g);
    assert_true(desk_plan(&desk));
    assert_int_equal(desk_counters(&desk).n_prompt_tokens_cached, 48);
    assert_int_equal(desk.input->position[0], 48);
    desk_commit(&desk);
    desk_close(&desk);
}

// With several choices the one that computes the prompt may go first.
static void choices_are_cancelled_one_by_one(void **state) {
    (void)state;
    static const struct {
        int n_steps; // before the cancellation
        int32_t cancelled, n_prompt_logprobs;
    } rows[] = {{0, 0, -1}, {1, 0, -1}, {2, 0, -1}, {5, 0, -1}, {1, 2, -1},
                {5, 2, -1}, {1, 0, 0},  {3, 0, 0},  {9, 1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct desk desk = desk_make();
        desk.options.settings.chunk_max = 8;
        desk_start(&desk);
        struct generation g = desk_generation(1, 1, 30, 10);
        g.n_choices = 3;
        g.n_prompt_top_logprobs = rows[i].n_prompt_logprobs;
        desk_submit(&desk, &g);
        for (int s = 0; s < rows[i].n_steps; s++) {
            assert_true(desk_plan(&desk));
            desk_commit(&desk);
        }
        scheduler_cancel(desk.scheduler, 1, rows[i].cancelled, &desk.events);
        scheduler_check_integrity(desk.scheduler);
        desk_run(&desk);
        assert_int_equal(desk_count(&desk, 1, EVENT_FINISHED, FINISH_ABORT), 1);
        assert_int_equal(desk_count(&desk, 1, EVENT_TOKEN, FINISH_LENGTH), 2);
        if (rows[i].n_prompt_logprobs >= 0) {
            int32_t next = 1;
            for (size_t e = 0; e < desk.events.count; e++) {
                const struct generation_event *event = &desk.events.items[e];
                if (event->kind == EVENT_PROMPT_LOGPROB) assert_int_equal(event->index, next++);
                if (event->kind == EVENT_TOKEN) assert_int_equal(next, 30);
            }
            assert_int_equal(next, 30);
        }
        assert_int_equal(desk_counters(&desk).n_blocks_used, 0);
        desk_close(&desk);
    }
}

static void times_say_when_it_began_and_when_it_was_made(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.sequences_max = 1;
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 3, 2);
    desk_submit_plain(&desk, 2, 3, 2);
    desk_run(&desk);
    // The desk plans step i at i and commits it at 1000 + i.
    static const uint64_t scheduled[] = {1, 1, 3, 3}, made[] = {1001, 1002, 1003, 1004};
    assert_int_equal(desk.events.count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(desk.events.items[i].scheduled_ns, scheduled[i]);
        assert_int_equal(desk.events.items[i].at_ns, made[i]);
    }
    desk_close(&desk);
}

static void tokens_say_whether_prompts_shared_their_step(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk_start(&desk);
    desk_submit_plain(&desk, 1, 6, 4);
    desk_plan(&desk), desk_commit(&desk); // its prompt
    desk_plan(&desk), desk_commit(&desk); // alone
    desk_submit_plain(&desk, 2, 6, 1);
    desk_plan(&desk), desk_commit(&desk); // beside a prompt
    desk_run(&desk);
    static const bool expected[] = {true, false, true, false};
    int32_t n = 0;
    for (size_t i = 0; i < desk.events.count; i++) {
        const struct generation_event *event = &desk.events.items[i];
        if (event->id == 1 && event->kind == EVENT_TOKEN) assert_int_equal(event->with_prompts, expected[n++]);
    }
    assert_int_equal(n, 4);
    desk_close(&desk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_token_ends_a_sequence_and_what_follows_is_dropped),
        cmocka_unit_test(stop_tokens_are_banned_before_min_tokens),
        cmocka_unit_test(ignored_stop_tokens_do_not_stop),
        cmocka_unit_test(nothing_to_draw_ends_at_once_or_after_the_prompt),
        cmocka_unit_test(the_longest_sequence_uses_the_whole_context),
        cmocka_unit_test(a_cancelled_request_is_gone_in_every_phase),
        cmocka_unit_test(a_cancelled_prompt_stays_cached),
        cmocka_unit_test(choices_are_cancelled_one_by_one),
        cmocka_unit_test(times_say_when_it_began_and_when_it_was_made),
        cmocka_unit_test(tokens_say_whether_prompts_shared_their_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
