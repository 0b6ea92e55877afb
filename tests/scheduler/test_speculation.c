// What drafts do to a step and what becomes of them, counted by hand. Request r draws r * 1000 + 500 + p for position
// p.
#include "tests/test.h"

#include "tests/scheduler/desk.h"

// Proposes n_drafts tokens for everybody, of which the first n_right are what will be drawn.
struct script {
    struct proposer common;
    int32_t n_drafts, n_right;
    int32_t n_asked, n_max; // queries so far; what the last one allowed
    int32_t n_ended, n_generated_at_end;
};

static void propose(struct proposer *proposer, struct draft_query *queries, int32_t n_queries) {
    struct script *script = (struct script *)proposer;
    for (int32_t i = 0; i < n_queries; i++) {
        struct draft_query *query = &queries[i];
        script->n_asked++;
        script->n_max = query->n_max;
        for (; query->n < script->n_drafts && query->n < query->n_max; query->n++) {
            int32_t position = draft_query_n_known(query) + query->n;
            query->tokens[query->n] = (int32_t)query->id * 1000 + 500 + position + (query->n >= script->n_right);
        }
    }
}

static void end(struct proposer *proposer, const struct draft_query *query) {
    struct script *script = (struct script *)proposer;
    script->n_ended++;
    script->n_generated_at_end = query->n_generated;
}

static size_t no_bytes(const struct proposer *proposer) {
    (void)proposer;
    return 0;
}

static struct script script_make(int32_t n_drafts, int32_t n_right) {
    return (struct script){.common = {.name = "script", .propose = propose, .end = end, .bytes = no_bytes},
                           .n_drafts = n_drafts,
                           .n_right = n_right};
}

static void start(struct desk *desk, struct script *script, int32_t draft_tokens) {
    desk->options.proposer = &script->common;
    desk->options.settings.draft_tokens = draft_tokens;
    desk->options.settings.no_prefix_cache = true;
    desk_start(desk);
}

// A prompt of 6 tokens and 13 new ones. The prompt's step draws one; each step behind draws as many as are right and
// one more, but for the last.
static void accepted_drafts_are_counted(void **state) {
    (void)state;
    static const struct {
        int32_t n_drafts, n_right, n_steps;
        uint64_t n_queries, n_tokens, n_accepted, accepted_at[4];
    } rows[] = {
        {0, 0, 13, 0, 0, 0, {0}},
        {1, 0, 13, 11, 11, 0, {0}},
        // 1 token, then 6 times 2: the last time one token is left behind the draft.
        {1, 1, 7, 6, 6, 6, {6}},
        {3, 3, 4, 3, 9, 9, {3, 3, 3}},
        // 1, then 2 each: before the last steps 3, 3, 3, 3, 3 and 1 drafts have room.
        {3, 1, 7, 6, 16, 6, {6}},
        {4, 2, 5, 4, 14, 8, {4, 4}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct desk desk = desk_make();
        struct script script = script_make(rows[i].n_drafts, rows[i].n_right);
        start(&desk, &script, 4);
        desk_submit_plain(&desk, 1, 6, 13);
        assert_int_equal(desk_run(&desk), rows[i].n_steps);
        assert_int_equal(desk_n_tokens(&desk, 1), 13);
        for (size_t t = 0; t < desk.events.count; t++) {
            assert_int_equal(desk.events.items[t].index, t);
            assert_int_equal(desk.events.items[t].sample.token, 1500 + 6 + (int)t);
        }
        struct scheduler_counters counters = desk_counters(&desk);
        assert_int_equal(counters.n_drafts, rows[i].n_queries);
        assert_int_equal(counters.n_draft_tokens, rows[i].n_tokens);
        assert_int_equal(counters.n_draft_tokens_accepted, rows[i].n_accepted);
        for (int at = 0; at < 4; at++) assert_int_equal(counters.n_accepted_at[at], rows[i].accepted_at[at]);
        assert_int_equal(counters.n_blocks_used, 0);
        assert_int_equal(script.n_ended, 1);
        assert_int_equal(script.n_generated_at_end, 13);
        desk_close(&desk);
    }
}

static void drafts_are_rows_behind_the_last_token_and_each_draws(void **state) {
    (void)state;
    struct desk desk = desk_make();
    struct script script = script_make(3, 1);
    start(&desk, &script, 3);
    struct generation g = desk_generation(1, 1, 2, 20);
    g.sampling.frequency_penalty = 1;
    desk_submit(&desk, &g);
    desk_plan(&desk);
    desk_commit(&desk); // draws 1502
    assert_true(desk_plan(&desk));
    const struct step_input *input = desk.input;
    assert_int_equal(input->n_rows, 4);
    assert_int_equal(input->n_logit_rows, 4);
    assert_int_equal(input->sequences[0].kv_len, 6);
    static const int32_t tokens[] = {1502, 1503, 1505, 1506}; // the second draft is wrong by one, and the third
    static const int32_t n_seen[] = {3, 4, 5, 6};             // two of the prompt, and all before
    for (int32_t i = 0; i < 4; i++) {
        const struct sample_params *params = &input->sample[i];
        assert_int_equal(input->token[i], tokens[i]);
        assert_int_equal(input->position[i], 2 + i);
        assert_int_equal(input->logit_row[i], i);
        assert_int_equal(params->position, 3 + i);
        assert_int_equal(params->seen_count, n_seen[i]);
        assert_int_equal(input->seen[params->seen_first + params->seen_count - 1].token, tokens[i]);
        assert_int_equal(input->seen[params->seen_first + params->seen_count - 1].n_generated, 1);
    }
    desk_commit(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1), 3);
    // The next step begins behind what was kept.
    assert_true(desk_plan(&desk));
    assert_int_equal(desk.input->token[0], 1504);
    assert_int_equal(desk.input->position[0], 4);
    desk_commit(&desk);
    desk_close(&desk);
}

static void a_stop_token_ends_a_sequence_among_its_drafts(void **state) {
    (void)state;
    struct desk desk = desk_make();
    struct script script = script_make(4, 4);
    start(&desk, &script, 4);
    struct generation g = desk_generation(1, 1, 2, 20);
    g.n_stop_tokens = 1;
    g.stop_tokens[0] = 1500 + 5; // the fourth token
    desk_submit(&desk, &g);
    desk_run(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1), 4);
    assert_int_equal(desk_count(&desk, 1, EVENT_TOKEN, FINISH_STOP), 1);
    struct scheduler_counters counters = desk_counters(&desk);
    assert_int_equal(counters.n_draft_tokens, 4);
    assert_int_equal(counters.n_draft_tokens_accepted, 3); // the fourth stood behind the end
    assert_int_equal(counters.n_generated_tokens, 4);
    desk_close(&desk);
}

// Stop tokens are banned in the rows of drafts by the index of the token that each draws.
static void bans_follow_the_index_of_the_draw(void **state) {
    (void)state;
    struct desk desk = desk_make();
    struct script script = script_make(3, 3);
    start(&desk, &script, 3);
    struct generation g = desk_generation(1, 1, 2, 20);
    g.n_stop_tokens = 2;
    g.min_tokens = 3;
    desk_submit(&desk, &g);
    desk_plan(&desk);
    desk_commit(&desk);
    desk_plan(&desk);
    static const int32_t n_edits[] = {2, 2, 0, 0}; // of the tokens with index 1, 2, 3, 4
    for (int32_t i = 0; i < 4; i++) assert_int_equal(desk.input->sample[i].edit_count, n_edits[i]);
    desk_commit(&desk);
    desk_close(&desk);
}

// Everybody's next token comes before anybody's drafts.
static void drafts_take_only_what_is_left(void **state) {
    (void)state;
    static const struct {
        const char *what;
        int32_t rows_max, logit_rows_max, n_blocks, expected; // drafts of all in one step
    } cases[] = {
        {"enough", 64, 16, 1000, 12},
        {"rows", 6, 16, 1000, 2},
        {"logit rows", 64, 7, 1000, 3},
        {"blocks", 64, 16, 150, 12},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct desk desk = desk_make();
        desk.limits.rows_max = cases[i].rows_max;
        desk.limits.logit_rows_max = cases[i].logit_rows_max;
        desk.limits.n_blocks = cases[i].n_blocks;
        desk.limits.sequences_max = 4;
        struct script script = script_make(3, 0);
        start(&desk, &script, 3);
        for (uint64_t id = 1; id <= 4; id++) desk_submit_plain(&desk, id, 1, 50);
        desk_plan(&desk);
        desk_commit(&desk);
        assert_true(desk_plan(&desk));
        assert_int_equal(desk.input->n_sequences, 4);
        assert_int_equal(desk.input->n_rows, 4 + cases[i].expected);
        desk_commit(&desk);
        desk_close(&desk);
    }
}

// Two sequences of 4 tokens of room each in 8 blocks of one token: drafts would take what the other needs.
static void drafts_never_preempt(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.context = 8;
    desk.limits.block_tokens = 1;
    desk.limits.n_blocks = 9;
    desk.limits.sequences_max = 2;
    struct script script = script_make(3, 3);
    start(&desk, &script, 3);
    desk_submit_plain(&desk, 1, 1, 3);
    desk_submit_plain(&desk, 2, 1, 3);
    desk_run(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1) + desk_n_tokens(&desk, 2), 6);
    assert_int_equal(desk_counters(&desk).n_preemptions, 0);
    desk_close(&desk);
}

// With a step in flight, a sequence waits until its last token is known, and others go on meanwhile.
static void a_sequence_with_drafts_sits_out_until_they_are_known(void **state) {
    (void)state;
    struct desk desk = desk_make();
    desk.limits.steps_in_flight = 2;
    struct script script = script_make(2, 2);
    start(&desk, &script, 2);
    desk_submit_plain(&desk, 1, 3, 20);
    assert_true(desk_plan(&desk));
    assert_false(desk_plan(&desk));
    desk_commit(&desk);
    assert_true(desk_plan(&desk));
    assert_int_equal(desk.input->n_rows, 3);
    desk_submit_plain(&desk, 2, 3, 20);
    assert_true(desk_plan(&desk));
    assert_int_equal(desk_rows(&desk, 1), 0);
    assert_int_equal(desk_rows(&desk, 2), 3);
    desk_commit(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1), 4);
    desk_commit(&desk);
    desk_close(&desk);
}

// Cancelled in flight: nothing of the drafts is told, and nothing of them is left.
static void a_cancelled_sequence_takes_its_drafts_along(void **state) {
    (void)state;
    struct desk desk = desk_make();
    struct script script = script_make(3, 3);
    start(&desk, &script, 3);
    desk_submit_plain(&desk, 1, 3, 20);
    desk_plan(&desk);
    desk_commit(&desk);
    desk_plan(&desk);
    scheduler_cancel(desk.scheduler, 1, -1, &desk.events);
    desk_commit(&desk);
    assert_int_equal(desk_n_tokens(&desk, 1), 1);
    assert_int_equal(desk_counters(&desk).n_draft_tokens_accepted, 0);
    assert_int_equal(desk_counters(&desk).n_blocks_used, 0);
    assert_int_equal(script.n_ended, 1);
    desk_close(&desk);
}

// Every draw is a 7 behind a prompt without one. Two of them in a row were seen before from the fourth on: 7 guesses
// for 10 tokens, all right. Of the first token nothing is known when no step has paid for looking.
static void without_a_proposer_guesses_are_watched_within_their_budget(void **state) {
    (void)state;
    static const struct {
        bool uses_proposer;
        uint64_t step_ns, n_tokens, n_guesses;
    } rows[] = {{false, 1000 * 1000, 9, 7}, {false, 0, 0, 0}, {true, 1000 * 1000, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct desk desk = desk_make();
        struct script script = script_make(0, 0);
        desk.draw = 7;
        if (rows[i].uses_proposer) desk.options.proposer = &script.common;
        desk_start(&desk);
        desk_submit_plain(&desk, 1, 6, 10);
        while (desk_plan(&desk)) {
            desk_commit(&desk);
            scheduler_learn_time(desk.scheduler, rows[i].step_ns);
        }
        struct scheduler_counters counters = desk_counters(&desk);
        assert_int_equal(desk_n_tokens(&desk, 1), 10);
        assert_int_equal(counters.n_shadow_tokens, rows[i].n_tokens);
        assert_int_equal(counters.n_shadow_guesses, rows[i].n_guesses);
        assert_int_equal(counters.n_shadow_hits, rows[i].n_guesses);
        desk_close(&desk);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_drafts_are_counted),
        cmocka_unit_test(drafts_are_rows_behind_the_last_token_and_each_draws),
        cmocka_unit_test(a_stop_token_ends_a_sequence_among_its_drafts),
        cmocka_unit_test(bans_follow_the_index_of_the_draw),
        cmocka_unit_test(drafts_take_only_what_is_left),
        cmocka_unit_test(drafts_never_preempt),
        cmocka_unit_test(a_sequence_with_drafts_sits_out_until_they_are_known),
        cmocka_unit_test(a_cancelled_sequence_takes_its_drafts_along),
        cmocka_unit_test(without_a_proposer_guesses_are_watched_within_their_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
