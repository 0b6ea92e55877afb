// Cuts a step's attention into items. Rows that a decode item can hold read K and V once for all queries of a group;
// longer sequences become prompt tiles. Where items are fewer than the thread blocks that the device holds, they are
// cut along positions into pieces of about an equal share.
#include "kernels/cuda/attention_parts.h"

#include <assert.h>

enum {
    DECODE_PIECE_MIN = 128, // positions: shorter pieces cost more in partial results than they win
    PREFILL_PIECE_MIN = 512,
    FIXED_SPLITS_MAX = 96, // of one sequence: 16 up to 8,192 positions, then 8 in every power of two
};

static int32_t divide_up(int32_t a, int32_t b) {
    return (a + b - 1) / b;
}

// Pieces of both kinds, over all key/value heads, that fill the device once.
static int32_t pieces_wanted(const struct attention_limits *limits, int32_t resident) {
    return divide_up(limits->n_processors * resident, limits->n_kv_heads);
}

// Only what is longer than the mean share is cut, so that there are at most twice as many pieces as wanted.
static int32_t decode_slots(const struct attention_limits *limits) {
    int32_t slots = 2 * pieces_wanted(limits, ATTENTION_DECODE_RESIDENT);
    return limits->deterministic && slots < FIXED_SPLITS_MAX ? FIXED_SPLITS_MAX : slots;
}

static int32_t prefill_slots(const struct attention_limits *limits) {
    if (limits->deterministic) return 0;
    int32_t slots_of_tile = attention_tile_queries(limits->head_dim) / ATTENTION_SLOT_QUERIES;
    return 2 * pieces_wanted(limits, ATTENTION_PREFILL_RESIDENT) * slots_of_tile;
}

void attention_capacity(const struct attention_limits *limits, struct attention_capacity *out) {
    int32_t group = limits->n_heads / limits->n_kv_heads;
    int32_t tile_rows = attention_tile_queries(limits->head_dim) / group;
    int32_t decode = decode_slots(limits), prefill = prefill_slots(limits);
    int32_t decode_items = (limits->deterministic ? limits->rows_max : limits->sequences_max) + decode;
    int32_t tiles = limits->rows_max / (tile_rows > 0 ? tile_rows : 1) + limits->sequences_max;
    int32_t prefill_items = limits->deterministic ? 0 : tiles + prefill;
    out->items_max = decode_items > prefill_items ? decode_items : prefill_items;
    out->partials_max = decode + prefill;
    out->merges_max = out->partials_max;
    out->partial_bytes = (size_t)out->partials_max * (size_t)limits->n_kv_heads *
                         attention_slot_floats(limits->head_dim) * sizeof(float);
}

struct plan {
    const struct attention_limits *limits;
    struct attention_work *work;
    int32_t group, item_rows, tile_rows;
    int32_t piece; // positions; what is longer is cut
    int32_t slots_used, slots_end;
};

// The rows of one sequence from row_first on, as one item that has not been cut yet.
static struct attention_item item_of_rows(const struct step_sequence *sequence, int32_t row, int32_t n_rows) {
    int32_t position = sequence->kv_len - sequence->row_count + row;
    return (struct attention_item){.row_first = sequence->row_first + row,
                                   .n_rows = n_rows,
                                   .position = position,
                                   .block_first = sequence->block_first,
                                   .kv_end = position + n_rows,
                                   .partial = -1};
}

static void add_merges(struct plan *plan, const struct attention_item *whole, int32_t first, int32_t stride,
                       int32_t n_partials) {
    int32_t n_queries = whole->n_rows * plan->group;
    for (int32_t q = 0; q < n_queries; q += ATTENTION_SLOT_QUERIES) {
        int32_t rest = n_queries - q;
        plan->work->merges[plan->work->n_merges++] = (struct attention_merge){
            .row_first = whole->row_first,
            .query_first = q,
            .n_queries = rest < ATTENTION_SLOT_QUERIES ? rest : ATTENTION_SLOT_QUERIES,
            .partial_first = first + q / ATTENTION_SLOT_QUERIES,
            .partial_stride = stride,
            .n_partials = n_partials,
        };
    }
}

// Appends an item that is longer than a piece, cut into equal pieces of whole tiles. False: there are no slots for it.
static bool add_pieces(struct plan *plan, struct attention_item *items, int32_t *n_items,
                       const struct attention_item *whole) {
    int32_t n_pieces = divide_up(whole->kv_end, plan->piece);
    int32_t length = divide_up(divide_up(whole->kv_end, n_pieces), ATTENTION_TILE) * ATTENTION_TILE;
    n_pieces = divide_up(whole->kv_end, length);
    int32_t slots = divide_up(whole->n_rows * plan->group, ATTENTION_SLOT_QUERIES);
    if (plan->slots_used + n_pieces * slots > plan->slots_end) return false;
    add_merges(plan, whole, plan->slots_used, slots, n_pieces);
    for (int32_t i = 0; i < n_pieces; i++) {
        struct attention_item *piece = &items[(*n_items)++];
        *piece = *whole;
        piece->kv_begin = i * length;
        if (i < n_pieces - 1) piece->kv_end = (i + 1) * length;
        piece->partial = plan->slots_used;
        plan->slots_used += slots;
    }
    return true;
}

static void add_even(struct plan *plan, struct attention_item *items, int32_t *n_items,
                     const struct attention_item *whole) {
    bool is_cut = whole->kv_end > plan->piece && add_pieces(plan, items, n_items, whole);
    if (!is_cut) items[(*n_items)++] = *whole;
}

static int32_t n_fixed_splits(int32_t begin, int32_t end) {
    int32_t n = 0;
    for (; begin < end; begin = attention_split_end(begin)) n++;
    return n;
}

// Appends an item of a deterministic step. Every fixed split has a partial result of its own, in a slot or inside the
// kernel, which joins them in the same order: which of both changes no bit.
static void add_fixed(struct plan *plan, const struct attention_item *whole) {
    struct attention_work *work = plan->work;
    int32_t n_splits = whole->kv_end > plan->piece ? n_fixed_splits(0, whole->kv_end) : 1;
    if (n_splits == 1 || plan->slots_used + n_splits > plan->slots_end) {
        work->decode_items[work->n_decode_items++] = *whole;
        return;
    }
    add_merges(plan, whole, plan->slots_used, 1, n_splits);
    int32_t begin = 0;
    while (begin < whole->kv_end) {
        int32_t end = begin, n = 0;
        for (; end < whole->kv_end && end - begin < plan->piece; n++) end = attention_split_end(end);
        struct attention_item piece = *whole;
        piece.kv_begin = begin;
        if (end < whole->kv_end) piece.kv_end = end;
        piece.partial = plan->slots_used;
        plan->slots_used += n;
        work->decode_items[work->n_decode_items++] = piece;
        begin = end;
    }
}

// Calls add for every item of a sequence before cutting, the longest first.
static void for_items(struct plan *plan, const struct step_sequence *sequence, int32_t rows,
                      void (*add)(struct plan *plan, const struct attention_item *item)) {
    for (int32_t row = (sequence->row_count - 1) / rows * rows; row >= 0; row -= rows) {
        int32_t rest = sequence->row_count - row;
        struct attention_item item = item_of_rows(sequence, row, rest < rows ? rest : rows);
        add(plan, &item);
    }
}

static void add_decode(struct plan *plan, const struct attention_item *item) {
    if (plan->limits->deterministic)
        add_fixed(plan, item);
    else
        add_even(plan, plan->work->decode_items, &plan->work->n_decode_items, item);
}

static void add_prefill(struct plan *plan, const struct attention_item *item) {
    add_even(plan, plan->work->prefill_items, &plan->work->n_prefill_items, item);
}

// Positions of all items of a sequence.
static int64_t items_length(const struct step_sequence *sequence, int32_t rows) {
    int64_t n = divide_up(sequence->row_count, rows), last = sequence->kv_len;
    return n * last - n * (n - 1) / 2 * rows;
}

static void set_piece(struct plan *plan, int64_t length, int32_t resident, int32_t shortest) {
    int64_t share = length / pieces_wanted(plan->limits, resident) + 1;
    if (share < shortest) share = shortest;
    plan->piece = (int32_t)((share + ATTENTION_TILE - 1) / ATTENTION_TILE) * ATTENTION_TILE;
}

void attention_plan(const struct attention_limits *limits, const struct step_input *input,
                    struct attention_work *work) {
    int32_t group = limits->n_heads / limits->n_kv_heads;
    struct plan plan = {.limits = limits,
                        .work = work,
                        .group = group,
                        .item_rows = ATTENTION_SLOT_QUERIES / group,
                        .tile_rows = attention_tile_queries(limits->head_dim) / group};
    work->n_decode_items = work->n_prefill_items = work->n_merges = 0;
    if (!attention_has_items(KV_BF16, limits->head_dim, group, limits->deterministic)) return;

    int64_t decode_length = 0, prefill_length = 0;
    for (int32_t s = 0; s < input->n_sequences; s++) {
        const struct step_sequence *sequence = &input->sequences[s];
        if (limits->deterministic || sequence->row_count <= plan.item_rows)
            decode_length += items_length(sequence, plan.item_rows);
        else
            prefill_length += items_length(sequence, plan.tile_rows);
    }

    plan.slots_end = decode_slots(limits);
    set_piece(&plan, decode_length, ATTENTION_DECODE_RESIDENT, DECODE_PIECE_MIN);
    for (int32_t s = 0; s < input->n_sequences; s++)
        if (limits->deterministic || input->sequences[s].row_count <= plan.item_rows)
            for_items(&plan, &input->sequences[s], plan.item_rows, add_decode);

    plan.slots_used = plan.slots_end;
    plan.slots_end += prefill_slots(limits);
    set_piece(&plan, prefill_length, ATTENTION_PREFILL_RESIDENT, PREFILL_PIECE_MIN);
    for (int32_t s = 0; s < input->n_sequences && !limits->deterministic; s++)
        if (input->sequences[s].row_count > plan.item_rows)
            for_items(&plan, &input->sequences[s], plan.tile_rows, add_prefill);
}
