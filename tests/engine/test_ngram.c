// Prompt lookup finds what followed the sequence's end before.
#include "tests/test.h"

#include "engine/ngram.h"

static void the_longest_and_then_the_last_match_goes_on(void **state) {
    (void)state;
    static const struct {
        const char *prompt, *generated, *expected; // tokens are letters
        int32_t n_matched;
    } rows[] = {
        {"abcd", "xab", "cdxa", 2},   {"", "", "", 0},          {"a", "", "", 0}, {"aa", "", "", 0},
        {"abc", "dec", "", 0},                                  // one token alone says too little
        {"abXabY", "ab", "Yab", 2},                             // the last of equals
        {"zabXabY", "zab", "Xab", 3},                           // the longest before the last
        {"abc", "abcab", "cabc", 5},                            // it goes on into the guess itself
        {"ab", "abab", "abab", 4},    {"xyz", "xy", "zxyz", 2}, // over the border of prompt and output
        {"pqrs", "tupq", "rstu", 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int32_t prompt[16], generated[16];
        int32_t n_prompt = (int32_t)strlen(rows[i].prompt), n_generated = (int32_t)strlen(rows[i].generated);
        for (int32_t t = 0; t < n_prompt; t++) prompt[t] = rows[i].prompt[t];
        for (int32_t t = 0; t < n_generated; t++) generated[t] = rows[i].generated[t];
        struct draft_query query = {.prompt = prompt,
                                    .generated = generated,
                                    .n_prompt = n_prompt,
                                    .n_generated = n_generated,
                                    .n_max = (int32_t)strlen(rows[i].expected)};
        int32_t n_matched;
        if (!query.n_max) {
            assert_int_equal(ngram_find(&query, &n_matched), -1);
            continue;
        }
        assert_true(ngram_find(&query, &n_matched) >= 0);
        assert_int_equal(n_matched, rows[i].n_matched);
        struct proposer *proposer = ngram_proposer_open();
        proposer->propose(proposer, &query, 1);
        assert_int_equal(query.n, query.n_max);
        assert_int_equal(query.strength, ngram_strength(n_matched));
        for (int32_t t = 0; t < query.n; t++) assert_int_equal(query.tokens[t], rows[i].expected[t]);
        proposer_close(proposer);
    }
}

static void longer_matches_are_surer(void **state) {
    (void)state;
    for (int32_t n = NGRAM_MIN; n < NGRAM_MAX; n++) assert_true(ngram_strength(n) <= ngram_strength(n + 1));
    assert_int_equal(ngram_strength(NGRAM_MIN), 0);
    assert_int_equal(ngram_strength(NGRAM_MAX), DRAFT_STRENGTHS - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_and_then_the_last_match_goes_on),
        cmocka_unit_test(longer_matches_are_surer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
