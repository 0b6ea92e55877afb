#include "models/bpe.h"

#include "base/utf8.h"
#include "models/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    NARROW = 0x400,     // code points below have their ids in a table
    SHORT_SYMBOLS = 48, // pieces up to here are scanned
    JUNCTION_BITS = 19,
    JOINED_BYTES_MAX = 1024, // longer tokens do not come from merging
};

#define NO_RANK UINT32_MAX

// A slot of the merge table. The key is left id << 32 | right id.
struct merge_slot {
    uint64_t key; // FREE_KEY: free
    uint32_t rank;
    int32_t id;
};
#define FREE_KEY UINT64_MAX

struct bpe {
    struct bpe_options options;
    bool by_text, has_affixes;
    int32_t byte_ids[256]; // of <0xXX>; -1: none
    int32_t narrow_ids[NARROW];
    uint32_t n_ranks;
    int32_t last_joined; // while merges are added: the last result; -1: none
    struct merge_slot *merges;
    size_t n_merges, merges_capacity; // capacity: a power of two
    uint32_t *rank_of_id;             // by text: as the result of merging
    uint64_t *junctions; // bits by hash: pairs of code points that some merge brings together; NULL: not kept
};

// ---- opening ----

static int32_t find_id(const struct bpe *bpe, const char *text, size_t n_bytes) {
    int32_t id = vocab_find(bpe->options.vocab, text, n_bytes);
    return id >= 0 && bpe->options.blocked[id] ? -1 : id;
}

static struct str_view copy_view(struct str_view text) {
    return (struct str_view){text.n_bytes ? mem_copy_string(text.data, text.n_bytes) : NULL, text.n_bytes};
}

static void fill_byte_ids(struct bpe *bpe) {
    for (unsigned i = 0; i < 256; i++) {
        static const char hex[] = "0123456789ABCDEF";
        const char text[6] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        bpe->byte_ids[i] = bpe->options.byte_fallback ? vocab_find(bpe->options.vocab, text, sizeof text) : -1;
    }
}

static bool has_all_bytes(const struct bpe *bpe) {
    for (unsigned i = 0; i < 256; i++)
        if (bpe->byte_ids[i] < 0) return false;
    return true;
}

static struct bpe *open_common(const struct bpe_options *options) {
    struct bpe *bpe = mem_alloc_zero(1, sizeof *bpe);
    bpe->options = *options;
    bpe->options.continuing_prefix = copy_view(options->continuing_prefix);
    bpe->options.end_suffix = copy_view(options->end_suffix);
    bpe->has_affixes = options->continuing_prefix.n_bytes || options->end_suffix.n_bytes;
    fill_byte_ids(bpe);
    for (uint32_t c = 0; c < NARROW; c++) {
        char bytes[4];
        bpe->narrow_ids[c] = find_id(bpe, bytes, utf8_encode(c, bytes));
    }
    // Unknown characters must neither join others across a cut nor vanish from between two that could merge.
    bool unknown_stays = has_all_bytes(bpe) || (options->unknown_id >= 0 && !options->fuse_unknown);
    bool cuts = options->long_pieces && !bpe->has_affixes && unknown_stays;
    if (cuts) bpe->junctions = mem_alloc_zero((size_t)1 << (JUNCTION_BITS - 6), sizeof *bpe->junctions);
    return bpe;
}

static uint32_t junction_of(uint32_t left, uint32_t right) {
    return (uint32_t)((left * 0x9e3779b97f4a7c15u ^ right) * 0xff51afd7ed558ccdu >> (64 - JUNCTION_BITS));
}

static void add_junction(struct bpe *bpe, uint32_t left, uint32_t right) {
    uint32_t bit = junction_of(left, right);
    bpe->junctions[bit >> 6] |= UINT64_C(1) << (bit & 63);
}

static bool has_junction(const struct bpe *bpe, uint32_t left, uint32_t right) {
    uint32_t bit = junction_of(left, right);
    return bpe->junctions[bit >> 6] >> (bit & 63) & 1;
}

static uint32_t last_code_point(struct str_view text) {
    size_t at = text.n_bytes - 1;
    while (at > 0 && ((unsigned char)text.data[at] & 0xc0) == 0x80) at--;
    uint32_t c;
    utf8_read(text.data + at, &c);
    return c;
}

static uint64_t merge_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static struct merge_slot *merge_slot(const struct bpe *bpe, uint64_t key) {
    size_t mask = bpe->merges_capacity - 1;
    uint64_t hash = key * 0x9e3779b97f4a7c15u;
    for (size_t i = (size_t)(hash ^ hash >> 32) & mask;; i = (i + 1) & mask)
        if (bpe->merges[i].key == key || bpe->merges[i].key == FREE_KEY) return &bpe->merges[i];
}

static void resize_merges(struct bpe *bpe, size_t capacity) {
    struct merge_slot *old = bpe->merges;
    size_t old_capacity = bpe->merges_capacity;
    bpe->merges = mem_alloc_zero(capacity, sizeof *bpe->merges);
    bpe->merges_capacity = capacity;
    for (size_t i = 0; i < capacity; i++) bpe->merges[i].key = FREE_KEY;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].key != FREE_KEY) *merge_slot(bpe, old[i].key) = old[i];
    free(old);
}

struct bpe *bpe_open(const struct bpe_options *options, size_t expected_merges) {
    struct bpe *bpe = open_common(options);
    bpe->last_joined = -1;
    size_t capacity = 64;
    while (capacity * 2 < expected_merges * 3) capacity *= 2;
    resize_merges(bpe, capacity);
    return bpe;
}

static bool is_byte_text(struct str_view text) {
    return text.n_bytes == 6 && str_view_starts_with(text, STR_VIEW("<0x"));
}

static void note_junction(struct bpe *bpe, struct str_view left, struct str_view right) {
    if (!bpe->junctions) return;
    if (is_byte_text(left) || is_byte_text(right)) { // the text of bytes is not what stands in the piece
        free(bpe->junctions);
        bpe->junctions = NULL;
        return;
    }
    uint32_t first;
    utf8_read(right.data, &first);
    add_junction(bpe, last_code_point(left), first);
}

// The token with the text of both. Files that list every way to make a token list them one behind the other.
static int32_t find_joined(struct bpe *bpe, struct str_view left, struct str_view right) {
    const struct vocab *vocab = bpe->options.vocab;
    char joined[JOINED_BYTES_MAX];
    size_t n_bytes = left.n_bytes + right.n_bytes;
    if (n_bytes > sizeof joined) return -1;
    memcpy(joined, left.data, left.n_bytes);
    memcpy(joined + left.n_bytes, right.data, right.n_bytes);
    if (bpe->last_joined < 0 || !str_view_equal(vocab->texts[bpe->last_joined], (struct str_view){joined, n_bytes}))
        bpe->last_joined = vocab_find(vocab, joined, n_bytes);
    return bpe->last_joined;
}

int bpe_add_merge(struct bpe *bpe, struct str_view left, struct str_view right, struct err *err) {
    const struct vocab *vocab = bpe->options.vocab;
    uint32_t rank = bpe->n_ranks++;
    int32_t left_id = vocab_find(vocab, left.data, left.n_bytes),
            right_id = vocab_find(vocab, right.data, right.n_bytes);
    if (left_id < 0 || right_id < 0 || !left.n_bytes || !right.n_bytes)
        return err_set(err, ERR_FORMAT, "merge %u joins something that is not in the vocabulary", rank);
    struct str_view prefix = bpe->options.continuing_prefix;
    struct str_view tail = right;
    if (prefix.n_bytes && str_view_starts_with(right, prefix))
        tail.data += prefix.n_bytes, tail.n_bytes -= prefix.n_bytes;
    int32_t id = find_joined(bpe, left, tail);
    if (id < 0) return err_set(err, ERR_FORMAT, "merge %u makes something that is not in the vocabulary", rank);
    if (bpe->options.blocked[id]) return 0;
    note_junction(bpe, left, right);
    struct merge_slot *slot = merge_slot(bpe, merge_key(left_id, right_id));
    bpe->n_merges += slot->key == FREE_KEY;
    *slot = (struct merge_slot){merge_key(left_id, right_id), rank, id};
    if (bpe->n_merges * 4 > bpe->merges_capacity * 3) resize_merges(bpe, bpe->merges_capacity * 2);
    return 0;
}

struct scored_id {
    float score;
    int32_t id;
};

static int compare_scores(const void *a, const void *b) { // highest first
    float x = ((const struct scored_id *)a)->score, y = ((const struct scored_id *)b)->score;
    return x > y ? -1 : x < y;
}

static void add_junctions_of(struct bpe *bpe, struct str_view text) {
    uint32_t left = 0, right;
    for (size_t at = 0; at < text.n_bytes; left = right) {
        size_t length = utf8_read(text.data + at, &right);
        if (at > 0) add_junction(bpe, left, right);
        at += length;
    }
}

struct bpe *bpe_open_scores(const struct bpe_options *options, const float *scores, const bool *mergeable) {
    struct bpe *bpe = open_common(options);
    bpe->by_text = true;
    size_t n = (size_t)options->vocab->n_ids, n_scored = 0;
    bpe->rank_of_id = mem_alloc(n * sizeof *bpe->rank_of_id);
    struct scored_id *scored = mem_alloc(n * sizeof *scored);
    for (size_t i = 0; i < n; i++) {
        bpe->rank_of_id[i] = NO_RANK;
        if (!mergeable[i] || options->blocked[i]) continue;
        scored[n_scored++] = (struct scored_id){scores[i], (int32_t)i};
        if (bpe->junctions) add_junctions_of(bpe, options->vocab->texts[i]);
    }
    qsort(scored, n_scored, sizeof *scored, compare_scores);
    for (size_t i = 0; i < n_scored; i++) {
        if (i == 0 || scored[i].score < scored[i - 1].score) bpe->n_ranks++;
        bpe->rank_of_id[scored[i].id] = bpe->n_ranks - 1;
    }
    free(scored);
    return bpe;
}

void bpe_close(struct bpe *bpe) {
    if (!bpe) return;
    free((char *)(uintptr_t)bpe->options.continuing_prefix.data);
    free((char *)(uintptr_t)bpe->options.end_suffix.data);
    free(bpe->merges);
    free(bpe->rank_of_id);
    free(bpe->junctions);
    free(bpe);
}

// ---- symbols ----

#define UNKNOWN_SYMBOL 0x3fffffffu // by text: a character that is no token
#define SPANS 0x80000000u          // the symbol covers more than one position
#define COVERED 0x40000000u        // the last position that a symbol covers
#define ID_MASK 0x3fffffffu

// A position of a piece: at first one character (or byte). A symbol that has grown covers several; then its first
// position holds the id, the second one the symbol's length in `next`, and the last one its beginning in `prev`.
// While scanning a short piece, `next` is the rank of joining the symbol with the one behind it, `prev` the result.
struct symbol {
    uint32_t id;
    uint32_t next, prev; // neighbours in the list of a rank
};

void bpe_work_close(struct bpe_work *work) {
    free(work->symbols);
    free(work->offsets);
    free(work->buckets);
    vec_free(&work->ranks);
    str_close(&work->scratch);
    *work = (struct bpe_work){0};
}

static int32_t character_id(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, size_t at,
                            size_t length, uint32_t c) {
    if (!bpe->has_affixes) return c < NARROW ? bpe->narrow_ids[c] : find_id(bpe, piece.data + at, length);
    struct str *text = &work->scratch;
    str_clear(text);
    if (at > 0) str_append(text, bpe->options.continuing_prefix.data, bpe->options.continuing_prefix.n_bytes);
    str_append(text, piece.data + at, length);
    if (at + length == piece.n_bytes) str_append(text, bpe->options.end_suffix.data, bpe->options.end_suffix.n_bytes);
    return find_id(bpe, text->data, text->n_bytes);
}

static bool has_bytes(const struct bpe *bpe, const char *bytes, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++)
        if (bpe->byte_ids[(unsigned char)bytes[i]] < 0) return false;
    return true;
}

// Splits the piece into its first symbols; returns how many. symbols == NULL only counts; offsets may be NULL,
// otherwise it takes one more than there are symbols.
static size_t read_symbols(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, struct symbol *symbols,
                           uint32_t *offsets) {
    size_t n = 0;
    bool after_unknown = false;
    for (size_t at = 0, length; at < piece.n_bytes; at += length) {
        uint32_t c;
        length = utf8_read(piece.data + at, &c);
        int32_t id = character_id(bpe, work, piece, at, length, c);
        if (offsets) offsets[n] = (uint32_t)at;
        if (id >= 0 || bpe->by_text) {
            if (symbols) symbols[n].id = id >= 0 ? (uint32_t)id : UNKNOWN_SYMBOL;
            n++;
        } else if (has_bytes(bpe, piece.data + at, length)) {
            for (size_t i = 0; i < length; i++, n++)
                if (symbols) symbols[n].id = (uint32_t)bpe->byte_ids[(unsigned char)piece.data[at + i]];
        } else if (bpe->options.unknown_id >= 0) {
            if (after_unknown && bpe->options.fuse_unknown) continue;
            if (symbols) symbols[n].id = (uint32_t)bpe->options.unknown_id;
            n++;
            after_unknown = true;
            continue;
        }
        after_unknown = false;
    }
    if (offsets) offsets[n] = (uint32_t)piece.n_bytes;
    return n;
}

// Two neighbours; the text is theirs together, for merging by text.
struct neighbours {
    uint32_t left, right;
    struct str_view text;
};

// The rank of joining them, or NO_RANK; *id: the result.
static uint32_t find_merge(const struct bpe *bpe, struct neighbours pair, uint32_t *id) {
    if (bpe->by_text) {
        int32_t found = vocab_find(bpe->options.vocab, pair.text.data, pair.text.n_bytes);
        if (found < 0) return NO_RANK;
        *id = (uint32_t)found;
        return bpe->rank_of_id[found];
    }
    const struct merge_slot *slot = merge_slot(bpe, merge_key((int32_t)pair.left, (int32_t)pair.right));
    if (slot->key == FREE_KEY) return NO_RANK;
    *id = (uint32_t)slot->id;
    return slot->rank;
}

static void emit(const struct bpe *bpe, uint32_t id, struct str_view text, bool *after_unknown, token_vec *out) {
    bool unknown = false;
    if (id != UNKNOWN_SYMBOL) {
        vec_push(out, (int32_t)id);
    } else if (has_bytes(bpe, text.data, text.n_bytes)) {
        for (size_t i = 0; i < text.n_bytes; i++) vec_push(out, bpe->byte_ids[(unsigned char)text.data[i]]);
    } else if (bpe->options.unknown_id >= 0) {
        if (!*after_unknown || !bpe->options.fuse_unknown) vec_push(out, bpe->options.unknown_id);
        unknown = true;
    }
    *after_unknown = unknown;
}

static struct str_view text_between(struct str_view piece, const uint32_t *offsets, size_t begin, size_t end) {
    if (!offsets) return (struct str_view){0};
    return (struct str_view){piece.data + offsets[begin], offsets[end] - offsets[begin]};
}

// ---- short pieces: find the lowest rank, join, close the gap ----

static void rank_short(const struct bpe *bpe, struct str_view piece, struct symbol *symbols, const uint32_t *offsets,
                       size_t i) {
    struct neighbours pair = {symbols[i].id, symbols[i + 1].id, text_between(piece, offsets, i, i + 2)};
    symbols[i].next = find_merge(bpe, pair, &symbols[i].prev);
}

static void encode_short(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    struct symbol symbols[SHORT_SYMBOLS];
    uint32_t offset_space[SHORT_SYMBOLS + 1], *offsets = bpe->by_text ? offset_space : NULL;
    size_t n = read_symbols(bpe, work, piece, symbols, offsets);
    for (size_t i = 0; i + 1 < n; i++) rank_short(bpe, piece, symbols, offsets, i);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (symbols[i].next < symbols[best].next) best = i;
        if (symbols[best].next == NO_RANK) break;
        symbols[best].id = symbols[best].prev;
        n--;
        memmove(symbols + best + 1, symbols + best + 2, (n - best - 1) * sizeof *symbols);
        if (offsets) memmove(offsets + best + 1, offsets + best + 2, (n - best) * sizeof *offsets);
        if (best + 1 < n) rank_short(bpe, piece, symbols, offsets, best);
        if (best > 0) rank_short(bpe, piece, symbols, offsets, best - 1);
    }
    bool after_unknown = false;
    for (size_t i = 0; i < n; i++)
        emit(bpe, symbols[i].id, text_between(piece, offsets, i, i + 1), &after_unknown, out);
}

// ---- long pieces: for each rank a list of the positions where it applies ----

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
    return find_merge(p->bpe, pair, id);
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

static void encode_long(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    size_t n = read_symbols(bpe, work, piece, NULL, NULL);
    reserve_long(bpe, work, n);
    uint32_t *offsets = bpe->by_text ? work->offsets : NULL;
    read_symbols(bpe, work, piece, work->symbols, offsets);
    struct long_piece p = {bpe, work, piece, work->symbols, offsets, (uint32_t)n};
    merge_long(&p);
    bool after_unknown = false;
    for (uint32_t at = 0, length; at < p.n; at += length) {
        length = symbol_length(p.symbols, at);
        emit(bpe, p.symbols[at].id & ID_MASK, text_between(piece, offsets, at, at + length), &after_unknown, out);
    }
}

static void encode_uncut(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    if (piece.n_bytes <= SHORT_SYMBOLS)
        encode_short(bpe, work, piece, out);
    else
        encode_long(bpe, work, piece, out);
}

void bpe_encode(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    assert(piece.n_bytes <= BPE_PIECE_BYTES_MAX);
    if (!piece.n_bytes) return;
    if (bpe->options.whole_first) {
        int32_t id = find_id(bpe, piece.data, piece.n_bytes);
        if (id >= 0) {
            vec_push(out, id);
            return;
        }
    }
    if (!bpe->junctions || piece.n_bytes <= SHORT_SYMBOLS) {
        encode_uncut(bpe, work, piece, out);
        return;
    }
    // Where no merge can bring two characters together, what stands before and behind merges independently.
    size_t begin = 0;
    uint32_t left, right;
    for (size_t at = utf8_read(piece.data, &left), length; at < piece.n_bytes; at += length, left = right) {
        length = utf8_read(piece.data + at, &right);
        if (has_junction(bpe, left, right)) continue;
        encode_uncut(bpe, work, (struct str_view){piece.data + begin, at - begin}, out);
        begin = at;
    }
    encode_uncut(bpe, work, (struct str_view){piece.data + begin, piece.n_bytes - begin}, out);
}
