// Merging in long pieces: for each rank a list of the positions where it applies, in ascending order; the lowest rank
// that has positions goes first.
#include "models/bpe_internal.h"

#include <assert.h>
#include <stdlib.h>

#define LIST_END 0x80000000u  // | rank: the list's end, in `next` of its last and `prev` of its first position
#define NOT_LISTED UINT32_MAX // in both

struct bpe_bucket {
    uint32_t first, last; // positions + 1; 0: the list is empty
    bool unsorted;        // positions are not in ascending order
    bool in_heap;
};

struct long_piece {
    const struct bpe *bpe;
    struct bpe_work *work;
    struct str_view piece;
    struct symbol *symbols; // [n]
    const uint32_t *offsets;
    uint32_t n;
};

static uint32_t symbol_length(const struct symbol *symbols, uint32_t at) {
    return symbols[at].id & SPANS ? symbols[at + 1].next : 1;
}

static uint32_t symbol_before(const struct symbol *symbols, uint32_t at) {
    return symbols[at - 1].id & COVERED ? symbols[at - 1].prev : at - 1;
}

static void symbol_grow(struct symbol *symbols, uint32_t at, uint32_t length, uint32_t id) {
    symbols[at].id = id | SPANS;
    symbols[at + length - 1].id = COVERED;
    symbols[at + 1].next = length;
    symbols[at + length - 1].prev = at;
}

static void heap_push(struct bpe_work *work, uint32_t rank) {
    vec_push(&work->ranks, rank);
    uint32_t *heap = work->ranks.items;
    size_t i = work->ranks.count - 1;
    for (; i > 0 && heap[(i - 1) / 2] > rank; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = rank;
}

static void heap_pop(struct bpe_work *work) {
    uint32_t *heap = work->ranks.items, rank = heap[--work->ranks.count];
    size_t i = 0, n = work->ranks.count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= rank) break;
        heap[i] = heap[child];
    }
    if (n) heap[i] = rank;
}

static void list_remove(struct long_piece *p, uint32_t at) {
    struct symbol *symbols = p->symbols;
    uint32_t next = symbols[at].next, prev = symbols[at].prev;
    if (prev == NOT_LISTED) return;
    if (prev & LIST_END)
        p->work->buckets[prev & ~LIST_END].first = next & LIST_END ? 0 : next + 1;
    else
        symbols[prev].next = next;
    if (next & LIST_END)
        p->work->buckets[next & ~LIST_END].last = prev & LIST_END ? 0 : prev + 1;
    else
        symbols[next].prev = prev;
    symbols[at].next = symbols[at].prev = NOT_LISTED;
}

static void list_insert(struct long_piece *p, uint32_t at, uint32_t rank) {
    struct symbol *symbols = p->symbols;
    struct bpe_bucket *bucket = &p->work->buckets[rank];
    if (!bucket->first) {
        symbols[at].next = symbols[at].prev = LIST_END | rank;
        bucket->first = bucket->last = at + 1;
        bucket->unsorted = false;
        if (!bucket->in_heap) heap_push(p->work, rank);
        bucket->in_heap = true;
    } else if (at + 1 < bucket->first) {
        symbols[bucket->first - 1].prev = at;
        symbols[at].next = bucket->first - 1;
        symbols[at].prev = LIST_END | rank;
        bucket->first = at + 1;
    } else {
        if (at + 1 < bucket->last) bucket->unsorted = true;
        symbols[bucket->last - 1].next = at;
        symbols[at].prev = bucket->last - 1;
        symbols[at].next = LIST_END | rank;
        bucket->last = at + 1;
    }
}

// Merges two ascending chains of positions + 1, linked by `next` and ended by 0.
static uint32_t merge_chains(struct symbol *symbols, uint32_t a, uint32_t b) {
    uint32_t first = 0, *tail = &first;
    while (a && b) {
        uint32_t *low = a < b ? &a : &b;
        *tail = *low;
        tail = &symbols[*low - 1].next;
        *low = *tail;
    }
    *tail = a ? a : b;
    return first;
}

// A merge sort that takes ascending runs as they stand.
static void list_sort(struct long_piece *p, uint32_t rank) {
    struct symbol *symbols = p->symbols;
    struct bpe_bucket *bucket = &p->work->buckets[rank];
    uint32_t levels[32] = {0};
    for (uint32_t at = bucket->first - 1; !(at & LIST_END);) {
        uint32_t run = at + 1, next;
        for (next = symbols[at].next; !(next & LIST_END) && next > at; next = symbols[at].next) {
            symbols[at].next = next + 1;
            at = next;
        }
        symbols[at].next = 0;
        at = next;
        int level = 0;
        for (; level < 31 && levels[level]; level++) {
            run = merge_chains(symbols, levels[level], run);
            levels[level] = 0;
        }
        levels[level] = levels[level] ? merge_chains(symbols, levels[level], run) : run;
    }
    uint32_t chain = 0;
    for (int level = 0; level < 32; level++) chain = merge_chains(symbols, levels[level], chain);
    bucket->first = chain;
    uint32_t prev = LIST_END | rank;
    for (uint32_t at = chain; at;) {
        uint32_t next = symbols[at - 1].next;
        symbols[at - 1].prev = prev;
        symbols[at - 1].next = next ? next - 1 : LIST_END | rank;
        prev = at - 1;
        bucket->last = at;
        at = next;
    }
    bucket->unsorted = false;
}

// The rank of joining the symbol at `at` with the one behind it, which begins at `right`.
static uint32_t find_long(const struct long_piece *p, uint32_t at, uint32_t right, uint32_t *id) {
    uint32_t end = right + symbol_length(p->symbols, right);
    struct neighbours pair = {p->symbols[at].id & ID_MASK, p->symbols[right].id & ID_MASK,
                              text_between(p->piece, p->offsets, at, end)};
    return bpe_find_merge(p->bpe, pair, id);
}

static void list_pair(struct long_piece *p, uint32_t at, uint32_t right) {
    uint32_t id, rank = find_long(p, at, right, &id);
    if (rank != NO_RANK) list_insert(p, at, rank);
}

static void join_at(struct long_piece *p, uint32_t at) {
    struct symbol *symbols = p->symbols;
    uint32_t right = at + symbol_length(symbols, at), end = right + symbol_length(symbols, right), id = 0;
    uint32_t rank = find_long(p, at, right, &id);
    assert(rank != NO_RANK);
    uint32_t left = at ? symbol_before(symbols, at) : at;
    list_remove(p, at);
    list_remove(p, right);
    if (left < at) list_remove(p, left);
    symbol_grow(symbols, at, end - at, id);
    if (end < p->n) list_pair(p, at, end);
    if (left < at) list_pair(p, left, at);
}

static void merge_long(struct long_piece *p) {
    struct bpe_work *work = p->work;
    for (uint32_t i = 0; i < p->n; i++) p->symbols[i].next = p->symbols[i].prev = NOT_LISTED;
    for (uint32_t i = 0; i + 1 < p->n; i++) list_pair(p, i, i + 1);
    while (work->ranks.count) {
        uint32_t rank = work->ranks.items[0];
        struct bpe_bucket *bucket = &work->buckets[rank];
        if (!bucket->first) {
            heap_pop(work);
            bucket->in_heap = false;
            continue;
        }
        if (bucket->unsorted) list_sort(p, rank);
        join_at(p, bucket->first - 1);
    }
}

static void reserve_long(const struct bpe *bpe, struct bpe_work *work, size_t n) {
    if (n > work->symbols_capacity) {
        free(work->symbols);
        work->symbols = mem_alloc(n * sizeof *work->symbols);
        work->symbols_capacity = n;
    }
    if (bpe->by_text && n + 1 > work->offsets_capacity) {
        free(work->offsets);
        work->offsets = mem_alloc((n + 1) * sizeof *work->offsets);
        work->offsets_capacity = n + 1;
    }
    if (!work->buckets) work->buckets = mem_alloc_zero(bpe->n_ranks, sizeof *work->buckets);
}

void bpe_encode_long(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    size_t n = bpe_read_symbols(bpe, work, piece, NULL, NULL);
    reserve_long(bpe, work, n);
    uint32_t *offsets = bpe->by_text ? work->offsets : NULL;
    bpe_read_symbols(bpe, work, piece, work->symbols, offsets);
    struct long_piece p = {bpe, work, piece, work->symbols, offsets, (uint32_t)n};
    merge_long(&p);
    bool after_unknown = false;
    for (uint32_t at = 0, length; at < p.n; at += length) {
        length = symbol_length(p.symbols, at);
        bpe_emit(bpe, p.symbols[at].id & ID_MASK, text_between(piece, offsets, at, at + length), &after_unknown, out);
    }
}
