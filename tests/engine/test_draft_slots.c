// A slot keeps exactly what agrees with its sequence, and gives it to nobody of another owner.
#include "tests/test.h"

#include "engine/draft_slots.h"

enum { CONTEXT = 64 };

static struct draft_query query_make(uint64_t id, uint64_t owner, const int32_t *tokens, int32_t n) {
    return (struct draft_query){.id = id, .owner = owner, .prompt = tokens, .n_prompt = n};
}

// What a step does: the sequence has its slot, and all its tokens are in the cache, the drafts too.
static struct draft_slot *compute(struct draft_slots *slots, const struct draft_query *query, const int32_t *drafts,
                                  int32_t n_drafts) {
    draft_slots_begin(slots);
    struct draft_slot *slot = draft_slots_find(slots, query);
    if (!slot) return NULL;
    draft_slots_take(slots, slot, query);
    while (slot->n_tokens < draft_query_n_known(query)) {
        slot->tokens[slot->n_tokens] = draft_query_token(query, slot->n_tokens);
        slot->n_tokens++;
    }
    slot->n_agreed = slot->n_tokens;
    for (int32_t i = 0; i < n_drafts; i++) slot->tokens[slot->n_tokens++] = drafts[i];
    return slot;
}

static void what_agrees_is_kept(void **state) {
    (void)state;
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8}, drafts[] = {4, 5, 9};
    static const struct {
        int32_t n_known, expected; // the sequence went on to so many tokens
    } rows[] = {
        {4, 3},         // the last token is computed anyhow
        {5, 4}, {6, 5}, // 1 2 3 and the drafts 4 and 5 were right
        {7, 5},         // 9 was not
        {8, 5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct draft_slots slots;
        draft_slots_open(&slots, 2, CONTEXT);
        struct draft_query query = query_make(7, 1, tokens, 3);
        struct draft_slot *slot = compute(&slots, &query, drafts, 3);
        query.n_prompt = rows[i].n_known;
        assert_ptr_equal(draft_slots_find(&slots, &query), slot);
        assert_int_equal(draft_slots_n_agreed(slot, &query), rows[i].expected);
        draft_slots_take(&slots, slot, &query);
        assert_int_equal(slot->n_tokens, rows[i].expected);
        draft_slots_close(&slots);
    }
}

static void an_ended_sequence_leaves_its_beginning_to_its_owner(void **state) {
    (void)state;
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6}, others[] = {1, 2, 3, 8, 9};
    struct draft_slots slots;
    draft_slots_open(&slots, 1, CONTEXT);
    struct draft_query first = query_make(1, 1, tokens, 6);
    compute(&slots, &first, NULL, 0);
    struct draft_query second = query_make(2, 1, others, 5), stranger = query_make(3, 2, others, 5);
    draft_slots_begin(&slots);
    assert_null(draft_slots_find(&slots, &second)); // its slot is in use
    draft_slots_end(&slots, &first);
    struct draft_slot *slot = draft_slots_find(&slots, &second);
    assert_non_null(slot);
    assert_int_equal(draft_slots_n_agreed(slot, &second), 3);
    assert_int_equal(draft_slots_n_agreed(slot, &stranger), 0);
    stranger.owner = 1, stranger.salt = 5;
    assert_int_equal(draft_slots_n_agreed(slot, &stranger), 0);
    draft_slots_close(&slots);
}

static void the_slot_that_agrees_most_is_taken_and_then_the_oldest(void **state) {
    (void)state;
    static const int32_t a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8}, like_a[] = {1, 2, 9}, like_none[] = {40, 41};
    struct draft_slots slots;
    draft_slots_open(&slots, 2, CONTEXT);
    struct draft_query first = query_make(1, 1, a, 4), second = query_make(2, 1, b, 4);
    struct draft_slot *of_first = compute(&slots, &first, NULL, 0), *of_second = compute(&slots, &second, NULL, 0);
    assert_ptr_not_equal(of_first, of_second);
    draft_slots_end(&slots, &first);
    draft_slots_end(&slots, &second);
    struct draft_query third = query_make(3, 1, like_a, 3), fourth = query_make(4, 1, like_none, 2);
    assert_ptr_equal(draft_slots_find(&slots, &third), of_first);
    assert_ptr_equal(draft_slots_find(&slots, &fourth), of_first);
    compute(&slots, &third, NULL, 0);
    assert_ptr_equal(draft_slots_find(&slots, &fourth), of_second);
    draft_slots_close(&slots);
}

static void a_sequence_that_wants_no_drafts_for_long_loses_its_slot(void **state) {
    (void)state;
    static const int32_t tokens[] = {1, 2, 3};
    struct draft_slots slots;
    draft_slots_open(&slots, 1, CONTEXT);
    struct draft_query first = query_make(1, 1, tokens, 3), second = query_make(2, 1, tokens, 3);
    compute(&slots, &first, NULL, 0);
    assert_null(compute(&slots, &second, NULL, 0));
    for (int i = 0; i < 100; i++) draft_slots_begin(&slots);
    assert_non_null(compute(&slots, &second, NULL, 0));
    struct draft_query longest = query_make(3, 1, tokens, CONTEXT);
    assert_null(draft_slots_find(&slots, &longest)); // no room for drafts behind it
    draft_slots_close(&slots);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_agrees_is_kept),
        cmocka_unit_test(an_ended_sequence_leaves_its_beginning_to_its_owner),
        cmocka_unit_test(the_slot_that_agrees_most_is_taken_and_then_the_oldest),
        cmocka_unit_test(a_sequence_that_wants_no_drafts_for_long_loses_its_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
