// A cache without bounds: what prompts have in common with any that came before, in whole blocks.
#include "tests/test.h"

#include "scheduler/prefix_shadow.h"

enum { B = 4, TOKENS = 40 };

static int32_t look(struct prefix_shadow *shadow, const int32_t *tokens, int32_t n, uint64_t key, uint64_t salt) {
    struct request request = {.generation = {.prompt = tokens, .n_prompt = n, .key_id = key, .cache_salt = salt}};
    struct sequence sequence = {.request = &request};
    bool branches;
    return prefix_shadow_note(shadow, &sequence, &branches);
}

// A prompt that goes on behind the end of an earlier one is no branch of it; one that leaves it on the way is.
static void what_leaves_the_way_of_earlier_prompts_is_told(void **state) {
    (void)state;
    static const struct {
        int32_t n, changed; // tokens; the one that differs from i % 7, -1: none
        int32_t n_seen;
        bool branches;
    } rows[] = {{12, -1, 0, false},  {20, -1, 12, false}, {20, 9, 8, true},   {20, 2, 0, false},
                {20, -1, 20, false}, {22, 19, 16, true},  {24, -1, 20, false}};
    struct prefix_shadow shadow;
    prefix_shadow_open(&shadow, B);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int32_t tokens[TOKENS];
        for (int32_t t = 0; t < TOKENS; t++) tokens[t] = t == rows[i].changed ? 99 : t % 7;
        struct request request = {.generation = {.prompt = tokens, .n_prompt = rows[i].n}};
        struct sequence sequence = {.request = &request};
        bool branches;
        assert_int_equal(prefix_shadow_note(&shadow, &sequence, &branches), rows[i].n_seen);
        assert_int_equal(branches, rows[i].branches);
    }
    prefix_shadow_close(&shadow);
}

static void common_beginnings_are_found(void **state) {
    (void)state;
    struct prefix_shadow shadow;
    prefix_shadow_open(&shadow, B);
    int32_t tokens[TOKENS];
    for (int32_t i = 0; i < TOKENS; i++) tokens[i] = i % 7;
    assert_int_equal(look(&shadow, tokens, 10, 1, 0), 0);
    assert_int_equal(look(&shadow, tokens, 10, 1, 0), 8);
    assert_int_equal(look(&shadow, tokens, TOKENS, 1, 0), 8); // the third block was not full before
    assert_int_equal(look(&shadow, tokens, TOKENS, 1, 0), TOKENS);
    tokens[17]++; // in the fifth block
    assert_int_equal(look(&shadow, tokens, TOKENS, 1, 0), 16);
    tokens[0]++; // nothing in common, though later blocks hold the same tokens
    assert_int_equal(look(&shadow, tokens, TOKENS, 1, 0), 0);
    prefix_shadow_close(&shadow);
}

// Neither another key nor another salt sees a prompt.
static void prompts_of_others_are_unknown(void **state) {
    (void)state;
    struct prefix_shadow shadow;
    prefix_shadow_open(&shadow, B);
    const int32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_int_equal(look(&shadow, tokens, 8, 1, 0), 0);
    assert_int_equal(look(&shadow, tokens, 8, 2, 0), 0);
    assert_int_equal(look(&shadow, tokens, 8, 1, 9), 0);
    assert_int_equal(look(&shadow, tokens, 8, 1, 0), 8);
    prefix_shadow_close(&shadow);
}

// More blocks than the table has places: old ones are forgotten, new ones are found, nothing breaks.
static void a_full_table_forgets(void **state) {
    (void)state;
    struct prefix_shadow shadow;
    prefix_shadow_open(&shadow, B);
    int32_t tokens[B] = {0};
    for (int32_t i = 0; i < PREFIX_SHADOW_HASHES * 3; i++) {
        tokens[0] = i;
        look(&shadow, tokens, B, 1, 0);
    }
    int32_t n_found = 0;
    for (int32_t i = PREFIX_SHADOW_HASHES * 3 - 1000; i < PREFIX_SHADOW_HASHES * 3; i++) {
        tokens[0] = i;
        n_found += look(&shadow, tokens, B, 1, 0) == B;
    }
    assert_true(n_found > 900);
    prefix_shadow_close(&shadow);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leaves_the_way_of_earlier_prompts_is_told),
        cmocka_unit_test(common_beginnings_are_found),
        cmocka_unit_test(prompts_of_others_are_unknown),
        cmocka_unit_test(a_full_table_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
