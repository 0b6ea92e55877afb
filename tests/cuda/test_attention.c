// Attention on the device against its definition in doubles, and what must hold between runs: splits, prompts against
// single rows, and under deterministic the same bits however a row is computed.
#include "tests/test.h"

#include "base/rng.h"
#include "kernels/cuda/attention_parts.h"
#include "tests/cuda/attention_world.h"
#include "tests/cuda/thread_order.h"

#include <math.h>

enum { RANDOM_CASES = 40 };

// ------------------------------------------------------------------------------------------ against the definition

struct attention_case {
    struct world_shape shape;
    int32_t n_sequences;
    struct world_sequence sequences[WORLD_SEQUENCES_MAX];
};

// Contexts at the edges of blocks, tiles and pieces; decode, drafts and prompts together. head_dim, group, n_kv_heads,
// format, window, soft_cap, n_processors, deterministic, out_format.
static const struct attention_case cases[] = {
    // Tensor cores: every width and format.
    {{64, 1, 2, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 3, {{1, 1, 0}, {65, 17, 0}, {63, 1, 0}}},
    {{64, 4, 2, KV_FP8, 0, 0, 2, false, OPERAND_F32}, 3, {{64, 4, 0}, {80, 33, 0}, {15, 2, 0}}},
    {{96, 2, 1, KV_BF16, 0, 0, 2, false, OPERAND_BF16}, 3, {{17, 17, 0}, {127, 1, 0}, {130, 3, 0}}},
    {{96, 3, 1, KV_FP8, 0, 0, 2, false, OPERAND_F32}, 3, {{200, 5, 0}, {70, 43, 0}, {16, 1, 0}}},
    {{128, 4, 1, KV_BF16, 0, 0, 2, false, OPERAND_F16}, 3, {{129, 1, 0}, {100, 35, 0}, {48, 4, 0}}},
    {{128, 8, 1, KV_FP8, 0, 0, 2, false, OPERAND_F32}, 3, {{33, 2, 0}, {66, 18, 0}, {257, 1, 0}}},
    {{256, 2, 1, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 2, {{90, 1, 0}, {65, 33, 0}}},
    {{256, 1, 1, KV_FP8, 0, 0, 2, false, OPERAND_F32}, 2, {{81, 1, 0}, {66, 20, 0}}},
    // Groups that do not divide a tile, and one that takes a tile for a single row.
    {{64, 6, 1, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 2, {{61, 2, 0}, {49, 22, 0}}},
    {{64, 7, 1, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 2, {{32, 2, 0}, {40, 19, 0}}},
    {{64, 16, 1, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 2, {{62, 1, 0}, {31, 9, 0}}},
    {{64, 40, 1, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 2, {{62, 1, 0}, {31, 4, 0}}},
    // Cut along positions: decode from 128, prompts from 512 positions a piece.
    {{64, 2, 1, KV_BF16, 0, 0, 16, false, OPERAND_F32}, 2, {{700, 8, 0}, {129, 1, 0}}},
    {{64, 2, 1, KV_FP8, 0, 0, 16, false, OPERAND_F32}, 2, {{1025, 9, 0}, {300, 1, 0}}},
    {{128, 4, 1, KV_BF16, 0, 0, 16, false, OPERAND_F32}, 1, {{520, 33, 0}}},
    // Windows and caps, with pieces that see nothing.
    {{64, 2, 1, KV_BF16, 20, 0, 16, false, OPERAND_F32}, 3, {{300, 3, 0}, {150, 70, 0}, {19, 19, 0}}},
    {{64, 2, 1, KV_FP8, 64, 30, 2, false, OPERAND_F32}, 3, {{193, 1, 0}, {130, 65, 0}, {64, 1, 0}}},
    {{128, 2, 1, KV_BF16, 0, 5, 2, false, OPERAND_F32}, 2, {{77, 1, 0}, {50, 20, 0}}},
    // Blocks that two sequences share.
    {{64, 4, 1, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 3, {{100, 1, 0}, {90, 10, 1}, {85, 1, 1}}},
    // Deterministic: everything in few rows, splits joined in the kernel and by the merge.
    {{64, 2, 1, KV_BF16, 0, 0, 2, true, OPERAND_F32}, 3, {{1030, 1, 0}, {70, 19, 0}, {513, 5, 0}}},
    {{64, 2, 1, KV_FP8, 530, 0, 32, true, OPERAND_F32}, 2, {{1200, 3, 0}, {600, 1, 0}}},
    // Plain arithmetic: F32, and widths without tensor cores.
    {{8, 2, 4, KV_F32, 0, 0, 2, false, OPERAND_F32}, 4, {{1, 1, 0}, {33, 33, 0}, {200, 1, 0}, {129, 4, 0}}},
    {{8, 2, 4, KV_F32, 40, 10, 2, false, OPERAND_F32}, 3, {{70, 20, 0}, {200, 1, 0}, {40, 2, 0}}},
    {{64, 3, 1, KV_F32, 0, 0, 2, false, OPERAND_F32}, 2, {{31, 3, 0}, {65, 1, 0}}},
    {{8, 1, 2, KV_BF16, 0, 0, 2, false, OPERAND_F32}, 2, {{50, 7, 0}, {128, 1, 0}}},
    {{80, 2, 1, KV_FP8, 0, 0, 2, false, OPERAND_F32}, 2, {{50, 3, 0}, {97, 1, 0}}},
    {{256, 1, 1, KV_F32, 0, 0, 2, false, OPERAND_F32}, 1, {{40, 2, 0}}},
    {{64, 20, 1, KV_BF16, 0, 0, 2, true, OPERAND_F32}, 1, {{40, 2, 0}}},
};

static void check_padding(const struct world *w, const float *out) {
    size_t width = (size_t)(w->run.n_heads * w->shape.head_dim);
    for (size_t i = (size_t)w->input.n_rows * width; i < (size_t)w->n_rows_bucket * width; i++)
        assert_true(isnan(out[i]));
}

static void check_case(const struct attention_case *c, uint64_t seed, const char *kind, size_t i) {
    struct world w;
    order_threads(seed);
    world_open(&w, &c->shape, c->sequences, c->n_sequences, 100 + seed);
    float *out = world_run(&w);
    double *expected = world_expected(&w);
    size_t n = (size_t)(w.input.n_rows * w.run.n_heads * w.shape.head_dim);
    double error = relative_error(out, expected, n), limit = w.shape.format == KV_F32 ? 1e-5 : 5e-3;
    if (!(error < limit)) fail_msg("%s case %zu: relative error %g", kind, i, error);
    check_padding(&w, out);
    free(out);
    free(expected);
    world_close(&w);
}

static void test_outputs_are_those_of_the_definition(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_case(&cases[i], i + 1, "written", i);
}

static int32_t draw(uint64_t key, uint64_t *counter, int32_t n) {
    return (int32_t)(rng_u32(key, (*counter)++) % (uint32_t)n);
}

// Any shape with sequences around the edges of blocks and tiles.
static void test_random_shapes_are_those_of_the_definition(void **state) {
    (void)state;
    static const int32_t groups[] = {1, 2, 3, 4, 6, 7, 8, 16}, widths[] = {8, 64, 96, 128, 256};
    static const int32_t edges[] = {1, 15, 16, 17, 31, 33, 63, 64, 65, 80, 127, 128, 129, 145};
    static const int32_t windows[] = {0, 0, 1, 16, 50};
    for (size_t i = 0; i < RANDOM_CASES; i++) {
        uint64_t key = rng_key(i, 1, 0), counter = 0;
        struct attention_case c = {.shape = {.head_dim = widths[draw(key, &counter, 5)],
                                             .group = groups[draw(key, &counter, 8)],
                                             .n_kv_heads = 1 + draw(key, &counter, 2),
                                             .format = (enum kv_format)draw(key, &counter, 3),
                                             .window = windows[draw(key, &counter, 5)],
                                             .soft_cap = draw(key, &counter, 4) == 0 ? 20 : 0,
                                             .n_processors = draw(key, &counter, 2) ? 1 : 24,
                                             .deterministic = draw(key, &counter, 4) == 0,
                                             .out_format = OPERAND_F32},
                                   .n_sequences = 1 + draw(key, &counter, 3)};
        for (int32_t s = 0; s < c.n_sequences; s++) {
            int32_t length = edges[draw(key, &counter, 14)],
                    rows = 1 + draw(key, &counter, draw(key, &counter, 2) ? 3 : 24);
            c.sequences[s] = (struct world_sequence){length, rows < length ? rows : length, false};
        }
        check_case(&c, 1000 + i, "random", i);
    }
}

// ------------------------------------------------------------------------------------------------ between two runs

// The output of the last row of the sequence at `which` when the step is run. The caller frees.
static float *last_row(const struct world_shape *shape, const struct world_sequence *sequences, int32_t n_sequences,
                       int32_t which, uint64_t seed) {
    struct world w;
    order_threads(seed);
    world_open(&w, shape, sequences, n_sequences, 7);
    float *out = world_run(&w);
    const struct step_sequence *s = &w.input.sequences[which];
    size_t width = (size_t)(w.run.n_heads * shape->head_dim);
    float *row = malloc(width * sizeof *row);
    assert_non_null(row);
    memcpy(row, out + (size_t)(s->row_first + s->row_count - 1) * width, width * sizeof *row);
    free(out);
    world_close(&w);
    return row;
}

static double difference(const float *a, const float *b, size_t n) {
    double *exact = malloc(n * sizeof *exact);
    assert_non_null(exact);
    for (size_t i = 0; i < n; i++) exact[i] = (double)b[i];
    double error = relative_error(a, exact, n);
    free(exact);
    return error;
}

static void test_pieces_join_to_the_whole(void **state) {
    (void)state;
    const struct world_sequence decode = {600, 2, 0}, prompt = {1100, 20, 0};
    const struct world_sequence *sequences[] = {&decode, &prompt};
    for (int i = 0; i < 2; i++) {
        struct world_shape shape = {64, 2, 1, KV_BF16, 0, 0, 1, false, OPERAND_F32};
        float *whole = last_row(&shape, sequences[i], 1, 0, 1);
        shape.n_processors = 16;
        float *joined = last_row(&shape, sequences[i], 1, 0, 2);
        double error = difference(joined, whole, 128);
        // Weights are rounded to BF16 against another maximum.
        if (!(error < 2e-3)) fail_msg("sequence %d: %g", i, error);
        free(whole);
        free(joined);
    }
}

static void test_the_last_row_of_a_prompt_is_that_of_decode(void **state) {
    (void)state;
    static const enum kv_format formats[] = {KV_BF16, KV_FP8};
    for (int i = 0; i < 2; i++) {
        struct world_shape shape = {64, 4, 1, formats[i], 0, 0, 1, false, OPERAND_F32};
        const struct world_sequence prompt = {150, 40, 0}, decode = {150, 1, 0};
        float *a = last_row(&shape, &prompt, 1, 0, 1), *b = last_row(&shape, &decode, 1, 0, 1);
        assert_true(difference(a, b, 256) < 3e-3);
        free(a);
        free(b);
    }
}

// The same position of the same sequence: alone, cut and not cut, among others, as draft, as part of a prompt.
static void test_deterministic_bits_follow_from_the_sequence_alone(void **state) {
    (void)state;
    static const struct attention_case ways[] = {
        {{.n_processors = 1}, 1, {{1100, 1, 0}}},
        {{.n_processors = 32}, 1, {{1100, 1, 0}}},
        {{.n_processors = 12}, 1, {{1100, 1, 0}}},
        {{.n_processors = 8}, 3, {{90, 3, 0}, {1100, 1, 0}, {200, 1, 0}}},
        {{.n_processors = 32}, 2, {{30, 1, 0}, {1100, 5, 0}}},
        {{.n_processors = 2}, 2, {{17, 17, 0}, {1100, 21, 0}}},
    };
    static const struct world_shape shapes[] = {
        {64, 3, 1, KV_BF16, 0, 0, 0, true, OPERAND_F32},
        {64, 3, 1, KV_FP8, 700, 0, 0, true, OPERAND_F32},
        {8, 3, 1, KV_F32, 0, 0, 0, true, OPERAND_F32},
    };
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        struct world_shape shape = shapes[k];
        size_t n_bytes = (size_t)(shape.group * shape.n_kv_heads * shape.head_dim) * sizeof(float);
        shape.n_processors = ways[0].shape.n_processors;
        float *alone = last_row(&shape, ways[0].sequences, 1, 0, 1);
        for (size_t i = 1; i < sizeof ways / sizeof ways[0]; i++) {
            int32_t which = ways[i].n_sequences > 1;
            shape.n_processors = ways[i].shape.n_processors;
            float *row = last_row(&shape, ways[i].sequences, ways[i].n_sequences, which, i + 1);
            if (memcmp(row, alone, n_bytes) != 0) fail_msg("shape %zu: way %zu gives other bits", k, i);
            free(row);
        }
        free(alone);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_are_those_of_the_definition),
        cmocka_unit_test(test_random_shapes_are_those_of_the_definition),
        cmocka_unit_test(test_pieces_join_to_the_whole),
        cmocka_unit_test(test_the_last_row_of_a_prompt_is_that_of_decode),
        cmocka_unit_test(test_deterministic_bits_follow_from_the_sequence_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
