// Answers that ended teach those of the same owner, and nobody else; memory is bounded.
#include "tests/test.h"

#include "engine/proposer.h"

#include "base/mem.h"

#include <stdlib.h>

static struct draft_query query_make(uint64_t owner, const int32_t *prompt, int32_t n_prompt, const int32_t *generated,
                                     int32_t n_generated) {
    return (struct draft_query){.id = 1,
                                .owner = owner,
                                .prompt = prompt,
                                .n_prompt = n_prompt,
                                .generated = generated,
                                .n_generated = n_generated,
                                .n_max = 4};
}

static void read_letters(const char *text, int32_t *tokens) {
    for (size_t i = 0; text[i]; i++) tokens[i] = text[i];
}

static void other_answers_go_on(void **state) {
    (void)state;
    static const struct {
        const char *ended, *prompt, *expected;
        uint64_t owner;
    } rows[] = {
        {"the cat sat on the mat", "a cat sa", "t on", 1},
        {"the cat sat on the mat", "a cat sa", "", 2},       // another key's
        {"the cat sat on the mat", "a mat", "", 1},          // the answer ended there
        {"the cat sat on the mat", "on the", " mat", 1},     // the later, longer match
        {"the cat sat on the mat", "xat on xat", " on ", 1}, // its own words agree longest
        {"short", "a shor", "", 1},                          // too short to teach
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int32_t ended[64], prompt[64];
        read_letters(rows[i].ended, ended);
        read_letters(rows[i].prompt, prompt);
        struct proposer *proposer = suffix_proposer_open();
        struct draft_query end = query_make(1, NULL, 0, ended, (int32_t)strlen(rows[i].ended));
        proposer->end(proposer, &end);
        struct draft_query query = query_make(rows[i].owner, prompt, (int32_t)strlen(rows[i].prompt), NULL, 0);
        proposer->propose(proposer, &query, 1);
        if (query.n != (int32_t)strlen(rows[i].expected)) fail_msg("row %d: %d tokens", (int)i, query.n);
        for (int32_t t = 0; t < query.n; t++) assert_int_equal(query.tokens[t], rows[i].expected[t]);
        proposer_close(proposer);
    }
}

// Far more answers and owners than there is room for: the last ones are known, the first are forgotten.
static void old_answers_and_owners_are_forgotten(void **state) {
    (void)state;
    enum { ANSWER = 1000, ANSWERS = 400 };
    struct proposer *proposer = suffix_proposer_open();
    int32_t *answer = mem_alloc_zero(ANSWER, sizeof *answer);
    size_t n_bytes = proposer->bytes(proposer);
    for (int32_t a = 0; a < ANSWERS; a++) {
        for (int32_t i = 0; i < ANSWER; i++) answer[i] = a * ANSWER + i;
        struct draft_query end = query_make(1, NULL, 0, answer, ANSWER);
        proposer->end(proposer, &end);
    }
    for (int32_t a = 0; a < ANSWERS; a += ANSWERS - 1) {
        int32_t prompt[4];
        for (int32_t i = 0; i < 4; i++) prompt[i] = a * ANSWER + 500 + i;
        struct draft_query query = query_make(1, prompt, 4, NULL, 0);
        proposer->propose(proposer, &query, 1);
        assert_int_equal(query.n, a ? 4 : 0);
        if (query.n) assert_int_equal(query.tokens[0], prompt[3] + 1);
    }
    for (uint64_t owner = 2; owner < 40; owner++) {
        struct draft_query end = query_make(owner, NULL, 0, answer, ANSWER);
        proposer->end(proposer, &end);
    }
    struct draft_query query = query_make(1, answer + 10, 4, NULL, 0);
    proposer->propose(proposer, &query, 1);
    assert_int_equal(query.n, 0);
    query = query_make(39, answer + 10, 4, NULL, 0);
    proposer->propose(proposer, &query, 1);
    assert_int_equal(query.n, 4);
    assert_int_equal(proposer->bytes(proposer), n_bytes);
    free(answer);
    proposer_close(proposer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_answers_go_on),
        cmocka_unit_test(old_answers_and_owners_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
