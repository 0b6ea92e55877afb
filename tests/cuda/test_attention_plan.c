// The plan of a step's attention: every row sees every position that it may see exactly once, within the capacity.
#include "tests/test.h"

#include "base/rng.h"
#include "kernels/cuda/attention_parts.h"

#include <stdlib.h>

enum { SEQUENCES = 12, ROWS = 2048, STEPS = 300 };

struct planned {
    struct attention_limits limits;
    struct attention_capacity capacity;
    struct step_sequence sequences[SEQUENCES];
    struct step_input input;
    struct attention_work work;
};

static int32_t draw(uint64_t key, uint64_t *counter, int32_t first, int32_t end) {
    return first + (int32_t)(rng_u32(key, (*counter)++) % (uint32_t)(end - first));
}

// Few or many sequences, short and long contexts, decode, drafts and prompts; edges of blocks and tiles.
static void draw_step(struct planned *p, uint64_t key) {
    static const int32_t groups[] = {1, 2, 3, 4, 6, 7, 8, 16, 32}, widths[] = {64, 96, 128, 256};
    static const int32_t processors[] = {1, 4, 132};
    static const int32_t lengths[] = {20, 300, 5000, 70000};
    uint64_t i = 0;
    *p = (struct planned){0};
    p->limits.rows_max = ROWS;
    p->limits.sequences_max = SEQUENCES;
    p->limits.n_kv_heads = draw(key, &i, 1, 9);
    p->limits.n_heads = p->limits.n_kv_heads * groups[draw(key, &i, 0, 9)];
    p->limits.head_dim = widths[draw(key, &i, 0, 4)];
    p->limits.n_processors = processors[draw(key, &i, 0, 3)];
    p->limits.deterministic = draw(key, &i, 0, 3) == 0;
    p->input.n_sequences = draw(key, &i, 1, SEQUENCES + 1);
    p->input.sequences = p->sequences;
    for (int32_t s = 0; s < p->input.n_sequences; s++) {
        struct step_sequence *sequence = &p->sequences[s];
        int32_t length = draw(key, &i, 1, lengths[draw(key, &i, 0, 4)]), kind = draw(key, &i, 0, 4);
        if (draw(key, &i, 0, 3) == 0) length = (length + 63) / 64 * 64 + draw(key, &i, 0, 2);
        int32_t rows = kind == 0 ? draw(key, &i, 2, ROWS / SEQUENCES) : kind == 1 ? draw(key, &i, 1, 9) : 1;
        sequence->kv_len = length;
        sequence->row_count = rows < length ? rows : length;
        sequence->row_first = p->input.n_rows;
        sequence->block_first = p->input.n_block_table;
        p->input.n_rows += sequence->row_count;
        p->input.n_block_table += (length + ATTENTION_BLOCK - 1) / ATTENTION_BLOCK;
    }
    attention_capacity(&p->limits, &p->capacity);
    p->work.decode_items = calloc((size_t)p->capacity.items_max, sizeof *p->work.decode_items);
    p->work.prefill_items = calloc((size_t)p->capacity.items_max + 1, sizeof *p->work.prefill_items);
    p->work.merges = calloc((size_t)p->capacity.merges_max, sizeof *p->work.merges);
    assert_true(p->work.decode_items && p->work.prefill_items && p->work.merges);
    attention_plan(&p->limits, &p->input, &p->work);
}

static void planned_free(struct planned *p) {
    free(p->work.decode_items);
    free(p->work.prefill_items);
    free(p->work.merges);
}

// What was seen of each row, and what each slot is for.
struct coverage {
    int32_t end[ROWS];       // of what was seen so far
    int32_t n_outputs[ROWS]; // items that write it
    int32_t *slot_row;       // row + 1 of the first query of a slot
    int32_t *slot_begin;     // first position
};

static const struct step_sequence *sequence_of(const struct planned *p, int32_t row) {
    const struct step_sequence *s = p->sequences;
    while (row >= s->row_first + s->row_count) s++;
    return s;
}

// Pieces of a row come in ascending order and touch each other: together they are the whole, once.
static void cover(const struct planned *p, struct coverage *c, const struct attention_item *item, int32_t n_queries) {
    int32_t group = p->limits.n_heads / p->limits.n_kv_heads;
    assert_true(item->n_rows > 0 && item->n_rows * group <= n_queries);
    assert_true(item->kv_begin < item->kv_end && item->kv_begin % ATTENTION_TILE == 0);
    const struct step_sequence *s = sequence_of(p, item->row_first);
    assert_true(item->row_first + item->n_rows <= s->row_first + s->row_count);
    assert_int_equal(item->block_first, s->block_first);
    assert_int_equal(item->position, s->kv_len - s->row_count + item->row_first - s->row_first);
    int32_t last = item->position + item->n_rows;
    assert_true(item->kv_end <= last && (item->kv_end == last || item->kv_end % ATTENTION_TILE == 0));
    for (int32_t row = item->row_first; row < item->row_first + item->n_rows; row++) {
        assert_int_equal(item->kv_begin, c->end[row]);
        c->end[row] = item->kv_end;
        c->n_outputs[row] += item->partial < 0;
    }
    if (item->partial < 0) {
        assert_int_equal(item->kv_begin, 0);
        return;
    }
    bool fixed = p->limits.deterministic;
    int32_t stride = (item->n_rows * group + ATTENTION_SLOT_QUERIES - 1) / ATTENTION_SLOT_QUERIES, slot = item->partial;
    for (int32_t begin = item->kv_begin; begin < item->kv_end; slot += stride) {
        for (int32_t i = slot; i < slot + stride; i++) {
            assert_true(i >= 0 && i < p->capacity.partials_max);
            assert_int_equal(c->slot_row[i], 0);
            c->slot_row[i] = item->row_first + 1;
            c->slot_begin[i] = begin;
        }
        begin = fixed ? attention_split_end(begin) : item->kv_end;
        if (fixed && begin > item->kv_end) assert_int_equal(item->kv_end, last);
    }
}

// The slots of a merge are those of its rows, from position 0 on, ascending; every query that no item writes is merged.
static void check_merges(const struct planned *p, struct coverage *c) {
    int32_t group = p->limits.n_heads / p->limits.n_kv_heads;
    for (int32_t i = 0; i < p->work.n_merges; i++) {
        const struct attention_merge *m = &p->work.merges[i];
        assert_true(m->n_partials > 1 && m->n_queries > 0 && m->n_queries <= ATTENTION_SLOT_QUERIES);
        int32_t before = -1;
        for (int32_t k = 0; k < m->n_partials; k++) {
            int32_t slot = m->partial_first + k * m->partial_stride;
            assert_true(slot < p->capacity.partials_max);
            assert_int_equal(c->slot_row[slot], m->row_first + 1);
            assert_true(k == 0 ? c->slot_begin[slot] == 0 : c->slot_begin[slot] > before);
            before = c->slot_begin[slot];
            c->slot_row[slot] = -1;
        }
        for (int32_t q = m->query_first; q < m->query_first + m->n_queries; q++)
            if (q % group == 0) c->n_outputs[m->row_first + q / group]++;
    }
    for (int32_t i = 0; i < p->capacity.partials_max; i++) assert_true(c->slot_row[i] <= 0);
}

static void test_every_row_sees_every_position_once(void **state) {
    (void)state;
    for (uint64_t step = 0; step < STEPS; step++) {
        struct planned p;
        draw_step(&p, rng_key(step, 0, 0));
        struct coverage *c = calloc(1, sizeof *c);
        assert_non_null(c);
        c->slot_row = calloc((size_t)p.capacity.partials_max, sizeof *c->slot_row);
        c->slot_begin = calloc((size_t)p.capacity.partials_max, sizeof *c->slot_begin);
        assert_true(c->slot_row && c->slot_begin);
        assert_true(p.work.n_decode_items <= p.capacity.items_max && p.work.n_merges <= p.capacity.merges_max);
        assert_true(p.work.n_prefill_items <= p.capacity.items_max);
        for (int32_t i = 0; i < p.work.n_decode_items; i++)
            cover(&p, c, &p.work.decode_items[i], ATTENTION_SLOT_QUERIES);
        for (int32_t i = 0; i < p.work.n_prefill_items; i++)
            cover(&p, c, &p.work.prefill_items[i], attention_tile_queries(p.limits.head_dim));
        check_merges(&p, c);
        int32_t group = p.limits.n_heads / p.limits.n_kv_heads;
        bool has_items = attention_has_items(KV_BF16, p.limits.head_dim, group, p.limits.deterministic);
        for (int32_t row = 0; row < p.input.n_rows; row++) {
            const struct step_sequence *s = sequence_of(&p, row);
            int32_t position = s->kv_len - s->row_count + row - s->row_first;
            assert_int_equal(c->n_outputs[row], has_items);
            if (has_items) assert_true(c->end[row] > position && c->end[row] <= s->kv_len);
        }
        free(c->slot_row);
        free(c->slot_begin);
        free(c);
        planned_free(&p);
    }
}

// Hand-worked: one sequence of 8,192 positions alone on 132 multiprocessors with 8 heads wants 50 pieces; pieces of 192
// positions make 43.
static void test_one_long_sequence_fills_the_device(void **state) {
    (void)state;
    struct planned p = {
        .limits = {
            .rows_max = 1, .sequences_max = 1, .n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .n_processors = 132}};
    p.sequences[0] = (struct step_sequence){.row_count = 1, .kv_len = 8192};
    p.input = (struct step_input){.n_rows = 1, .n_sequences = 1, .n_block_table = 512, .sequences = p.sequences};
    struct attention_item items[128], none[1];
    struct attention_merge merges[128];
    p.work = (struct attention_work){.decode_items = items, .prefill_items = none, .merges = merges};
    attention_plan(&p.limits, &p.input, &p.work);
    assert_int_equal(p.work.n_decode_items, 43);
    assert_int_equal(p.work.n_prefill_items, 0);
    assert_int_equal(p.work.n_merges, 1);
    assert_int_equal(merges[0].n_partials, 43);
}

static void test_fixed_splits_are_few_and_nested(void **state) {
    (void)state;
    static const int32_t ends[][2] = {{0, 512},     {511, 512},   {512, 1024},    {7680, 8192},
                                      {8192, 9216}, {9215, 9216}, {16384, 18432}, {131072, 147456}};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        assert_int_equal(attention_split_end(ends[i][0]), ends[i][1]);
    int32_t n = 0;
    for (int32_t begin = 0; begin < 1 << 20; begin = attention_split_end(begin)) n++;
    assert_int_equal(n, 16 + 8 * 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_sees_every_position_once),
        cmocka_unit_test(test_one_long_sequence_fills_the_device),
        cmocka_unit_test(test_fixed_splits_are_few_and_nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
