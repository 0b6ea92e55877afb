// Tokens drawn on the device are those of kernels/ref/ref_sample.c for random logits with ties, bans, every filter and
// penalty; logprobs, ranks and top lists agree; rows of a step do not see each other; padding writes nothing.
#include "tests/test.h"

#include "base/rng.h"
#include "kernels/cuda/sample.h"
#include "kernels/kernel_table.h"
#include "tests/cuda/device_buffer.h"
#include "tests/cuda/thread_order.h"

#include <math.h>

enum { ROWS = 8, BUCKET = 11, EDITS_MAX = 300, SEEN_MAX = 600, VOCAB_MAX = 40003 };

// One step: rows with parameters, edits and seen tokens of their own.
struct world {
    int32_t vocab, stride;
    float *logits; // [BUCKET, stride]
    struct sample_params params[ROWS];
    struct logit_edit edits[ROWS * EDITS_MAX];
    struct seen_token seen[ROWS * SEEN_MAX];
};

static uint32_t dice(uint64_t *state, uint32_t n) {
    return rng_u32(0x9e3779b97f4a7c15u | 1, ++*state) % n;
}

static float pick(uint64_t *state, const float *from, uint32_t n) {
    return from[dice(state, n)];
}

// How the logits of a row lie: COARSE ones have ties, NARROW and EQUAL ones fill one bin of the selection, WIDE ones
// reach far beyond its last.
enum spread { FINE, COARSE, NARROW, EQUAL, WIDE, SPREADS };

// Some logits are impossible.
static float random_logit(uint64_t *state, enum spread spread) {
    if (dice(state, 40) == 0) return -INFINITY;
    float x = ((float)dice(state, 20001) - 10000) / 1250;
    switch (spread) {
    case COARSE:
        return roundf(x);
    case NARROW:
        return 5 + x / 2000;
    case EQUAL:
        return 3;
    case WIDE:
        return x * 20;
    default:
        return x;
    }
}

// Mostly few, sometimes none or many.
static int32_t random_count(uint64_t *state, int32_t most) {
    return dice(state, 3) ? 0 : (int32_t)dice(state, dice(state, 6) ? 10 : (uint32_t)most + 1);
}

static void random_edits(struct world *world, int row, uint64_t *state) {
    struct sample_params *p = &world->params[row];
    p->edit_first = row * EDITS_MAX;
    p->edit_count = random_count(state, EDITS_MAX);
    for (int32_t i = 0; i < p->edit_count; i++)
        world->edits[p->edit_first + i] =
            (struct logit_edit){.token = (int32_t)dice(state, (uint32_t)world->vocab + 3), // some beyond the vocabulary
                                .add = dice(state, 4) ? (float)dice(state, 9) - 4 : -INFINITY};
    p->seen_first = row * SEEN_MAX;
    p->seen_count = random_count(state, SEEN_MAX);
    for (int32_t i = 0; i < p->seen_count; i++)
        world->seen[p->seen_first + i] = (struct seen_token){.token = (int32_t)(dice(state, (uint32_t)world->vocab)),
                                                             .n_generated = (int32_t)dice(state, 4)};
}

// SPREADS: a spread for each row.
static void random_world(struct world *world, int32_t vocab, enum spread all, uint64_t *state) {
    static const float temperatures[] = {0, 1e-6f, 0.3f, 1, 1, 2.5f},
                       top_ps[] = {1, 1, 1, 0.999f, 0.9f, 0.5f, 0.01f, 0}, min_ps[] = {0, 0, 0, 0.001f, 0.1f, 0.9f},
                       penalties[] = {1, 1, 1.3f, 0.7f};
    static const int32_t top_ks[] = {0, 0, 0, 1, 2, 7, 40, 100000};
    world->vocab = vocab;
    world->stride = vocab + (int32_t)dice(state, 3);
    for (int row = 0; row < BUCKET; row++) {
        enum spread spread = all;
        if (all == SPREADS) spread = dice(state, 2) ? FINE : (enum spread)dice(state, SPREADS);
        for (int32_t i = 0; i < world->stride; i++)
            world->logits[row * world->stride + i] = i < vocab ? random_logit(state, spread) : 1e9f;
        world->logits[row * world->stride + (int32_t)dice(state, (uint32_t)vocab)] = 3; // never all impossible
    }
    for (int row = 0; row < ROWS; row++) {
        world->params[row] =
            (struct sample_params){.temperature = pick(state, temperatures, 6),
                                   .top_k = top_ks[dice(state, 8)],
                                   .top_p = pick(state, top_ps, 8),
                                   .min_p = pick(state, min_ps, 6),
                                   .repetition_penalty = pick(state, penalties, 4),
                                   .presence_penalty = (float)dice(state, 3) / 2,
                                   .frequency_penalty = (float)dice(state, 3) / 4,
                                   .seed = dice(state, 1000),
                                   .choice_index = (int32_t)dice(state, 3),
                                   .position = (int32_t)dice(state, 5000),
                                   .n_top_logprobs = (int32_t)dice(state, 22) - 1,
                                   .forced_token = dice(state, 5) ? -1 : (int32_t)dice(state, (uint32_t)vocab)};
        random_edits(world, row, state);
    }
}

struct packed {
    struct device_step step;
    _Alignas(16) struct sample_params params[ROWS];
    _Alignas(16) struct logit_edit edits[ROWS * EDITS_MAX];
    _Alignas(16) struct seen_token seen[ROWS * SEEN_MAX];
};

// Results [BUCKET] and drawn tokens [BUCKET]; what was not written is 0xff. The caller frees both.
static struct sample_result *run(const struct world *world, int32_t **drawn) {
    struct packed packed = {.step = {.n_logit_rows = ROWS,
                                     .sample = offsetof(struct packed, params),
                                     .edits = offsetof(struct packed, edits),
                                     .seen = offsetof(struct packed, seen)}};
    memcpy(packed.params, world->params, sizeof packed.params);
    memcpy(packed.edits, world->edits, sizeof packed.edits);
    memcpy(packed.seen, world->seen, sizeof packed.seen);
    struct device_buffers all = {0};
    size_t logits_bytes = (size_t)BUCKET * (size_t)world->stride * sizeof(float);
    struct sample_run op = {.step = device_upload(&all, &packed, sizeof packed),
                            .n_rows = BUCKET,
                            .logits = device_upload(&all, world->logits, logits_bytes),
                            .stride = world->stride,
                            .vocab = world->vocab,
                            .workspace = device_poisoned(&all, sample_workspace_bytes(BUCKET, world->vocab)),
                            .drawn = device_poisoned(&all, BUCKET * sizeof(int32_t)),
                            .results = device_poisoned(&all, BUCKET * sizeof(struct sample_result))};
    assert_int_equal(sample_run(&op, NULL), cudaSuccess);
    struct sample_result *results = device_download(op.results, BUCKET * sizeof *results);
    *drawn = device_download(op.drawn, BUCKET * sizeof **drawn);
    assert_non_null(results);
    assert_non_null(*drawn);
    device_buffers_free(&all);
    return results;
}

static void check_close(float got, float want) {
    if (isinf(want))
        assert_true(got == want);
    else if (!(fabsf(got - want) <= 1e-4f * (1 + fabsf(want))))
        fail_msg("logprob %g, not %g", (double)got, (double)want);
}

static void check_result(const struct sample_result *got, const struct sample_result *want,
                         const struct sample_params *p) {
    if (got->token != want->token)
        fail_msg("token %d, not %d: temperature %g, top_k %d, top_p %g, min_p %g", got->token, want->token,
                 (double)p->temperature, p->top_k, (double)p->top_p, (double)p->min_p);
    assert_int_equal(got->rank, want->rank);
    check_close(got->logprob, want->logprob);
    assert_int_equal(got->n_top, want->n_top);
    for (int32_t i = 0; i < want->n_top; i++) {
        assert_int_equal(got->top_token[i], want->top_token[i]);
        check_close(got->top_logprob[i], want->top_logprob[i]);
    }
}

static void check_world(struct world *world, struct sample_scratch *scratch) {
    int32_t *drawn;
    struct sample_result *results = run(world, &drawn);
    struct step_input input = {.edits = world->edits, .seen = world->seen};
    for (int row = 0; row < ROWS; row++) {
        struct sample_result want;
        ref_sample(&want, world->logits + row * world->stride, world->vocab, &world->params[row], &input, scratch);
        check_result(&results[row], &want, &world->params[row]);
        assert_int_equal(drawn[row], results[row].token);
    }
    for (int row = ROWS; row < BUCKET; row++) assert_int_equal(drawn[row], -1); // padding
    free(results), free(drawn);
}

// What worlds and the reference compute in.
struct room {
    struct world world;
    struct sample_scratch scratch;
};

static int open_room(void **state) {
    struct room *room = calloc(1, sizeof *room);
    assert_non_null(room);
    room->world.logits = malloc((size_t)BUCKET * (VOCAB_MAX + 3) * sizeof(float));
    room->scratch = (struct sample_scratch){.logits = malloc(VOCAB_MAX * sizeof(float)),
                                            .block_largest = malloc(VOCAB_MAX * sizeof(float)),
                                            .candidates = malloc(VOCAB_MAX * sizeof *room->scratch.candidates)};
    *state = room;
    return 0;
}

static int close_room(void **state) {
    struct room *room = *state;
    free(room->world.logits), free(room->scratch.logits), free(room->scratch.block_largest);
    free(room->scratch.candidates), free(room);
    return 0;
}

static void draws_are_those_of_the_reference(void **state) {
    struct room *room = *state;
    // One chunk, several, their edges.
    static const struct {
        int32_t vocab;
        int n;
    } sizes[] = {{5, 45}, {97, 100}, {512, 60}, {4096, 10}, {4097, 10}, {9001, 30}, {VOCAB_MAX, 2}};
    uint64_t dice_state = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int i = 0; i < sizes[s].n; i += TEST_STRIDE) {
            order_threads((uint64_t)i);
            random_world(&room->world, sizes[s].vocab, SPREADS, &dice_state);
            check_world(&room->world, &room->scratch);
        }
}

// More tokens stay than a block lists, and more lie in one bin.
static void large_selections_are_exact(void **state) {
    struct room *room = *state;
    static const struct {
        float temperature;
        int32_t top_k;
        float top_p, min_p;
    } filters[ROWS] = {
        {1, 6000, 1, 0},  {2.5f, 0, 0.99f, 0},  {2.5f, 7000, 0.98f, 0},   {1, 5000, 0.5f, 0},
        {1, 0, 1, 1e-4f}, {5, 0, 0.95f, 1e-3f}, {1, 4100, 0.999f, 1e-5f}, {50, 0, 0.7f, 0},
    };
    uint64_t dice_state = 7;
    for (int i = 0; i < 3 * SPREADS; i++) {
        order_threads((uint64_t)i);
        random_world(&room->world, 9001, (enum spread)(i % SPREADS), &dice_state);
        for (int row = 0; row < ROWS; row++) {
            struct sample_params *p = &room->world.params[row];
            p->temperature = filters[row].temperature, p->top_k = filters[row].top_k;
            p->top_p = filters[row].top_p, p->min_p = filters[row].min_p;
            p->forced_token = -1, p->n_top_logprobs = -1;
        }
        check_world(&room->world, &room->scratch);
    }
}

// Cuts a row just behind the token that would win the whole row, or just before it, by number or by mass.
static void cut_at_winner(struct sample_params *p, const float *logits, int32_t vocab, bool keep, bool by_mass,
                          struct sample_scratch *scratch) {
    const struct step_input nothing = {0};
    struct sample_result winner;
    ref_sample(&winner, logits, vocab, p, &nothing, scratch);
    double before = 0, total = 0, own = exp((double)logits[winner.token] / (double)p->temperature);
    for (int32_t i = 0; i < vocab; i++) {
        double mass = exp((double)logits[i] / (double)p->temperature);
        total += mass;
        if (logits[i] > logits[winner.token] || (logits[i] == logits[winner.token] && i < winner.token)) before += mass;
    }
    if (by_mass)
        p->top_p = (float)((keep ? before + own / 2 : before - own / 2) / total);
    else
        p->top_k = keep ? winner.rank : winner.rank - 1;
}

static void cuts_are_exact_to_a_token(void **state) {
    struct room *room = *state;
    struct world *world = &room->world;
    uint64_t dice_state = 3;
    for (int i = 0; i < 3 * WIDE; i++) {
        order_threads((uint64_t)i);
        random_world(world, i % 2 ? 9001 : 97, (enum spread)(i % WIDE), &dice_state);
        for (int row = 0; row < ROWS; row++) {
            struct sample_params *p = &world->params[row];
            *p = (struct sample_params){.temperature = 50, // noise decides
                                        .top_p = 1,
                                        .repetition_penalty = 1,
                                        .seed = dice(&dice_state, 1000),
                                        .forced_token = -1};
            cut_at_winner(p, world->logits + row * world->stride, world->vocab, row % 2, row / 2 % 2, &room->scratch);
        }
        check_world(world, &room->scratch);
    }
}

// What a broken model gives: more NaN than a block lists. They are never drawn, and do no harm.
static void nan_is_never_drawn(void **state) {
    struct room *room = *state;
    struct world *world = &room->world;
    uint64_t dice_state = 11;
    for (int i = 0; i < 2 * SPREADS; i++) {
        order_threads((uint64_t)i);
        random_world(world, 9001, (enum spread)(i % SPREADS), &dice_state);
        for (int32_t at = 0; at < ROWS * world->stride; at++)
            if (at % 5) world->logits[at] = NAN;
        for (int row = 0; row < ROWS; row++) {
            world->params[row].forced_token = world->params[row].n_top_logprobs = -1;
            world->params[row].edit_count = world->params[row].seen_count = 0;
        }
        int32_t *drawn;
        free(run(world, &drawn));
        for (int row = 0; row < ROWS; row++) {
            assert_in_range(drawn[row], 0, world->vocab - 1);
            const float *logits = world->logits + row * world->stride;
            assert_true(logits[drawn[row]] == logits[drawn[row]]);
        }
        free(drawn);
    }
}

// 1 - 2 - 4 - 8 as probabilities; 8 x 500 draws. chi-square with 3 degrees of freedom stays below 16.3 with 99.9 %.
static void draws_follow_the_distribution(void **state) {
    (void)state;
    enum { VOCAB = 4, STEPS = 500 };
    static const double p[VOCAB] = {1 / 15.0, 2 / 15.0, 4 / 15.0, 8 / 15.0};
    struct world world = {.vocab = VOCAB, .stride = VOCAB, .logits = malloc(BUCKET * VOCAB * sizeof(float))};
    for (int i = 0; i < BUCKET * VOCAB; i++) world.logits[i] = (float)log(p[i % VOCAB]) + 5;
    int counts[VOCAB] = {0};
    for (int step = 0; step < STEPS; step++) {
        for (int row = 0; row < ROWS; row++)
            world.params[row] = (struct sample_params){.temperature = 1,
                                                       .top_p = 1,
                                                       .repetition_penalty = 1,
                                                       .n_top_logprobs = -1,
                                                       .forced_token = -1,
                                                       .position = step,
                                                       .choice_index = row};
        int32_t *drawn;
        free(run(&world, &drawn));
        for (int row = 0; row < ROWS; row++) counts[drawn[row]]++;
        free(drawn);
    }
    double chi_square = 0;
    for (int i = 0; i < VOCAB; i++) {
        double expected = p[i] * ROWS * STEPS;
        chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    assert_true(chi_square < 16.3);
    free(world.logits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(draws_are_those_of_the_reference, open_room, close_room),
        cmocka_unit_test_setup_teardown(cuts_are_exact_to_a_token, open_room, close_room),
        cmocka_unit_test_setup_teardown(large_selections_are_exact, open_room, close_room),
        cmocka_unit_test_setup_teardown(nan_is_never_drawn, open_room, close_room),
        cmocka_unit_test(draws_follow_the_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
