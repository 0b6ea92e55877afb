// Draws: hand-worked filters and penalties, ties, agreement of the vectorised versions with the plain one, and the
// distribution of many draws.
#include "tests/test.h"

#include "kernels/cpu/cpu.h"
#include "tests/kernels/guarded.h"

static const char *const instruction_sets[] = {"ref", "avx2", "avx512"}; // "amx" draws as "avx512" does
static const struct sample_params plain_params = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1};

struct sampler {
    const struct kernel_table *kernels;
    struct sample_scratch scratch;
    struct step_input input;
};

static bool sampler_open(struct sampler *s, const char *isa, int32_t vocab) {
    *s = (struct sampler){.kernels = cpu_kernels_find(isa)};
    if (!s->kernels) return false;
    s->scratch.logits = malloc((size_t)vocab * sizeof(float));
    s->scratch.block_largest = malloc(((size_t)vocab / SAMPLE_BLOCK + 1) * sizeof(float));
    s->scratch.candidates = malloc((size_t)vocab * sizeof *s->scratch.candidates);
    return true;
}

static void sampler_close(struct sampler *s) {
    free(s->scratch.logits), free(s->scratch.block_largest), free(s->scratch.candidates);
}

static struct sample_result draw(struct sampler *s, const float *logits, int32_t vocab,
                                 const struct sample_params *params) {
    struct sample_result result;
    s->kernels->sample(&result, logits, vocab, params, &s->input, &s->scratch);
    assert_true(result.token >= 0 && result.token < vocab);
    return result;
}

static void for_each_set(int32_t vocab, void (*check)(struct sampler *s)) {
    for (size_t i = 0; i < 3; i++) {
        struct sampler s;
        if (!sampler_open(&s, instruction_sets[i], vocab)) continue;
        check(&s);
        sampler_close(&s);
    }
}

// ----------------------------------------------------------------------------------------------------------
// hand-worked

// Which tokens come up in many draws, as bits.
static uint32_t tokens_drawn(struct sampler *s, const float *logits, int32_t vocab, struct sample_params params) {
    uint32_t bits = 0;
    for (int32_t i = 0; i < 3000; i++) {
        params.position = i;
        bits |= 1u << draw(s, logits, vocab, &params).token;
    }
    return bits;
}

static void check_filters(struct sampler *s) {
    // Probabilities 0.15, 0.5, 0.1, 0.25.
    const float logits[] = {logf(0.15f), logf(0.5f), logf(0.1f), logf(0.25f)};
    static const struct {
        float temperature, top_p, min_p;
        int32_t top_k;
        uint32_t kept;
    } cases[] = {
        {1, 1, 0, 0, 0xf},
        {1, 1, 0, 1, 0x2},
        {1, 1, 0, 2, 0xa},
        {1, 1, 0, 3, 0xb},
        {1, 1, 0, 99, 0xf},
        {1, 0.45f, 0, 0, 0x2},
        {1, 0.55f, 0, 0, 0xa},
        {1, 0.7f, 0, 0, 0xa},
        {1, 0.8f, 0, 0, 0xb},
        {1, 0.95f, 0, 0, 0xf},
        {1, 0, 0, 0, 0x2},
        {1, 1e-30f, 0, 0, 0x2},
        {1, 1, 0.45f, 0, 0xa},
        {1, 1, 0.25f, 0, 0xb},
        {1, 1, 1, 0, 0x2},
        {1, 0.8f, 0, 3, 0xa},      // 0.5/0.9 + 0.25/0.9 = 0.83: top_p works on what top_k left
        {1, 0.85f, 0.25f, 0, 0xb}, // 0.75/0.9 = 0.833 is not enough
        {1, 0.82f, 0.25f, 0, 0xa},
        {0.5f, 1, 0.2f, 0, 0xa}, // at temperature 0.5: 0.09 and 0.04 of the largest fall,
                                 // 0.25 stays
        {0, 1, 0, 0, 0x2},
        {1e-6f, 1, 0, 0, 0x2},
        {2, 0.66f, 0, 2, 0xa},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample_params params = plain_params;
        params.temperature = cases[i].temperature, params.top_p = cases[i].top_p, params.min_p = cases[i].min_p;
        params.top_k = cases[i].top_k;
        uint32_t kept = tokens_drawn(s, logits, 4, params);
        if (kept != cases[i].kept)
            fail_msg("%s, case %zu: tokens %x, expected %x", s->kernels->name, i, kept, cases[i].kept);
    }
}

static void filters_keep_what_they_should(void **state) {
    (void)state;
    for_each_set(4, check_filters);
}

static void check_ties(struct sampler *s) {
    float logits[200];
    struct sample_params params = plain_params;
    for (int i = 0; i < 200; i++) logits[i] = i % 50 == 37 ? 2.5f : -1;
    params.temperature = 0;
    assert_int_equal(draw(s, logits, 200, &params).token, 37);
    // Of four equal logits two are kept, those with the lowest ids.
    params.temperature = 1, params.top_k = 2, params.n_top_logprobs = 3;
    for (int32_t i = 0; i < 200; i++) {
        params.position = i;
        struct sample_result r = draw(s, logits, 200, &params);
        assert_true(r.token == 37 || r.token == 87);
        assert_int_equal(r.n_top, 3);
        for (int t = 0; t < 3; t++) assert_int_equal(r.top_token[t], 37 + 50 * t);
    }
    for (int i = 0; i < 200; i++) logits[i] = -INFINITY; // everything is banned: any valid token
    draw(s, logits, 200, &params);
    for (int i = 0; i < 200; i++) logits[i] = NAN;
    params.n_top_logprobs = -1;
    draw(s, logits, 200, &params);
}

static void ties_go_to_the_lowest_id(void **state) {
    (void)state;
    for_each_set(200, check_ties);
}

static void check_penalties(struct sampler *s) {
    const float logits[] = {2, 1.9f, -1, -0.9f, 0};
    struct logit_edit edits[] = {{4, 5}, {0, -INFINITY}, {1, 0.25f}};
    struct seen_token seen[] = {{0, 0}, {1, 3}, {2, 1}};
    s->input = (struct step_input){.edits = edits, .seen = seen, .n_edits = 3, .n_seen = 3};
    static const struct {
        float repetition, presence, frequency;
        int32_t edit_first, edit_count, seen_first, seen_count, token;
    } cases[] = {
        {1, 0, 0, 0, 0, 0, 0, 0},         {1, 0, 0, 0, 1, 0, 0, 4},       // 0 + 5
        {1, 0, 0, 1, 1, 0, 0, 1},                                         // token 0 is banned
        {1, 0, 0, 2, 1, 0, 0, 1},                                         // 1.9 + 0.25 > 2
        {1.1f, 0, 0, 0, 0, 0, 1, 1},                                      // 2 / 1.1 < 1.9; a token of the prompt counts
        {1, 0.2f, 0, 0, 0, 0, 1, 0},                                      // presence: token 0 was never generated
        {1, 0.05f, 0.02f, 0, 0, 0, 2, 0}, {1.5f, 0, 0.5f, 1, 1, 0, 3, 4}, // 0 banned, 1.9 / 1.5 - 1.5 < 0
        {1, -0.2f, 0, 0, 0, 0, 3, 1},                                     // a negative penalty encourages: 1.9 + 0.2
        {0.5f, 0, 0, 0, 0, 1, 1, 1},                                      // 1.9 / 0.5
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample_params params = plain_params;
        params.temperature = 0, params.repetition_penalty = cases[i].repetition;
        params.presence_penalty = cases[i].presence, params.frequency_penalty = cases[i].frequency;
        params.edit_first = cases[i].edit_first, params.edit_count = cases[i].edit_count;
        params.seen_first = cases[i].seen_first, params.seen_count = cases[i].seen_count;
        params.n_top_logprobs = 0;
        struct sample_result r = draw(s, logits, 5, &params);
        if (r.token != cases[i].token) fail_msg("%s, case %zu: token %d", s->kernels->name, i, r.token);
        // The logprob is of the raw distribution whatever was edited.
        double sum = 0;
        for (int t = 0; t < 5; t++) sum += exp((double)logits[t]);
        assert_true(fabs((double)r.logprob - ((double)logits[r.token] - log(sum))) < 1e-6);
    }
    // Negative logits are multiplied: -1 * 2 = -2, so token 3 wins among {2, 3} where everything else is banned.
    struct logit_edit ban[] = {{0, -INFINITY}, {1, -INFINITY}, {4, -INFINITY}, {2, 0.15f}};
    s->input = (struct step_input){.edits = ban, .seen = seen};
    struct sample_params params = plain_params;
    params.temperature = 0, params.edit_count = 4;
    assert_int_equal(draw(s, logits, 5, &params).token, 2);
    params.repetition_penalty = 2, params.seen_first = 2, params.seen_count = 1;
    assert_int_equal(draw(s, logits, 5, &params).token, 3);
    s->input = (struct step_input){0};
}

static void penalties_and_edits_are_as_worked_by_hand(void **state) {
    (void)state;
    for_each_set(5, check_penalties);
}

static void check_forced(struct sampler *s) {
    const float logits[] = {0, logf(2), logf(5)};
    struct sample_params params = plain_params;
    params.forced_token = 1, params.n_top_logprobs = 2;
    struct sample_result r = draw(s, logits, 3, &params);
    assert_int_equal(r.token, 1);
    assert_true(fabsf(r.logprob - logf(0.25f)) < 1e-6f);
    assert_int_equal(r.rank, 2);
    assert_int_equal(r.n_top, 2);
    assert_int_equal(r.top_token[0], 2);
    assert_true(fabsf(r.top_logprob[0] - logf(0.625f)) < 1e-6f);
    params.n_top_logprobs = 20; // more than there are
    assert_int_equal(draw(s, logits, 3, &params).n_top, 3);
}

static void forced_tokens_are_reported(void **state) {
    (void)state;
    for_each_set(3, check_forced);
}

// The rank counts in the raw distribution, lower ids first among equals, whatever was edited and wherever it is.
static void check_ranks(struct sampler *s) {
    enum { VOCAB = 333 };
    static const struct {
        int32_t token, rank;
    } cases[] = {{300, 1}, {7, 2}, {64, 3}, {65, 4}, {332, 5}, {0, 6}, {1, 7}, {331, 332}, {130, 333}};
    float logits[VOCAB] = {[300] = 9, [7] = 8, [64] = 7, [65] = 7, [332] = 7, [130] = -INFINITY};
    struct logit_edit ban = {300, -INFINITY};
    s->input = (struct step_input){.edits = &ban};
    struct sample_params params = plain_params;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        params.forced_token = cases[i].token, params.n_top_logprobs = 0;
        struct sample_result r = draw(s, logits, VOCAB, &params);
        if (r.rank != cases[i].rank) fail_msg("%s: token %d has rank %d", s->kernels->name, r.token, r.rank);
    }
    params.forced_token = -1, params.temperature = 0, params.edit_count = 1;
    struct sample_result drawn = draw(s, logits, VOCAB, &params);
    assert_int_equal(drawn.token, 7);
    assert_int_equal(drawn.rank, 2);
    params.n_top_logprobs = -1;
    assert_int_equal(draw(s, logits, VOCAB, &params).rank, 0);
    s->input = (struct step_input){0};
}

static void ranks_are_exact(void **state) {
    (void)state;
    for_each_set(333, check_ranks);
}

// ------------------------------------------------------------------------------------------------------------
// agreement

static struct sample_params random_params(uint64_t key) {
    struct sample_params p = plain_params;
    static const float temperatures[] = {0, 0.3f, 0.7f, 1, 1.5f, 5};
    p.temperature = temperatures[rng_u32(key, 1) % 6];
    if (rng_u32(key, 2) % 2) p.top_k = 1 + (int32_t)(rng_u32(key, 3) % 100);
    if (rng_u32(key, 4) % 2) p.top_p = rng_uniform(key, 5);
    if (rng_u32(key, 6) % 3 == 0) p.min_p = rng_uniform(key, 7) * 0.2f;
    p.seed = key, p.position = (int32_t)(key % 1000);
    p.n_top_logprobs = (int32_t)(rng_u32(key, 8) % 22) - 1;
    return p;
}

static void vectorised_draws_agree(void **state) {
    (void)state;
    static const int32_t vocabs[] = {1, 2, 15, 63, 64, 65, 129, 1000, 4096, 5001};
    for (uint64_t seed = 1; seed <= 600; seed++) {
        uint64_t key = rng_key(seed, 3, 3);
        int32_t vocab = vocabs[seed % 10];
        float spread = seed % 3 == 0 ? 0.01f : seed % 3 == 1 ? 5 : 30; // flat, usual, sharp
        struct guarded logits = guarded_random((size_t)vocab, (int)seed % 16, spread, seed);
        struct sample_params params = random_params(key);
        struct sampler s;
        assert_true(sampler_open(&s, "ref", vocab));
        struct sample_result expected = draw(&s, logits.data, vocab, &params);
        sampler_close(&s);
        for (size_t i = 1; i < 3; i++) {
            if (!sampler_open(&s, instruction_sets[i], vocab)) continue;
            struct sample_result got = draw(&s, logits.data, vocab, &params);
            sampler_close(&s);
            if (got.token != expected.token)
                fail_msg("%s, seed %d: %d, not %d", s.kernels->name, (int)seed, got.token, expected.token);
            assert_int_equal(got.n_top, expected.n_top);
            assert_int_equal(got.rank, expected.rank);
            assert_memory_equal(got.top_token, expected.top_token, sizeof got.top_token);
            expect_close("logprobs", got.top_logprob, expected.top_logprob, (size_t)got.n_top, 1e-5f, 1e-5f);
            expect_close("logprob", &got.logprob, &expected.logprob, 1, 1e-5f, 1e-5f);
        }
        guarded_free(&logits);
    }
}

// ---------------------------------------------------------------------------------------------------------
// distribution

// Pearson's statistic with 7 degrees of freedom stays below 29.9 in 9,999 of 10,000 experiments.
static void check_distribution(struct sampler *s) {
    enum { VOCAB = 8 };
    const int32_t n_draws = s->kernels == &ref_kernels ? 200000 : 1000000;
    const float logits[VOCAB] = {0.3f, -1, 2, 0, -3, 1.1f, 1.1f, -2};
    const float temperature = 1.3f;
    double counts[VOCAB] = {0}, total = 0, statistic = 0;
    struct sample_params params = plain_params;
    params.temperature = temperature;
    for (int32_t i = 0; i < n_draws; i++) {
        params.position = i % 1000, params.seed = (uint64_t)(i / 1000 % 100), params.choice_index = i / 100000;
        counts[draw(s, logits, VOCAB, &params).token]++;
    }
    for (int t = 0; t < VOCAB; t++) total += exp((double)(logits[t] / temperature));
    for (int t = 0; t < VOCAB; t++) {
        double expected = n_draws * exp((double)(logits[t] / temperature)) / total;
        statistic += (counts[t] - expected) * (counts[t] - expected) / expected;
    }
    if (statistic > 29.9) fail_msg("%s: chi-square %g", s->kernels->name, statistic);
}

static void draws_follow_the_softmax(void **state) {
    (void)state;
    for_each_set(8, check_distribution);
}

// A token that is all but certain is drawn in all but a few of very many draws from a large vocabulary: noise must
// never let an arbitrary token win.
static void check_tail(struct sampler *s) {
    enum { VOCAB = 60000 };
    if (s->kernels == &ref_kernels) return;
    float *logits = calloc(VOCAB, sizeof *logits);
    logits[777] = 25; // the others together: 60,000 e^-25, one draw in a million
    struct sample_params params = plain_params;
    for (int32_t i = 0; i < 2000; i++) {
        params.position = i;
        assert_int_equal(draw(s, logits, VOCAB, &params).token, 777);
    }
    free(logits);
}

static void noise_never_lifts_an_arbitrary_token(void **state) {
    (void)state;
    for_each_set(60000, check_tail);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_keep_what_they_should),
        cmocka_unit_test(ties_go_to_the_lowest_id),
        cmocka_unit_test(penalties_and_edits_are_as_worked_by_hand),
        cmocka_unit_test(forced_tokens_are_reported),
        cmocka_unit_test(ranks_are_exact),
        cmocka_unit_test(vectorised_draws_agree),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(noise_never_lifts_an_arbitrary_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
