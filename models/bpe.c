#include "models/bpe_internal.h"

#include "base/utf8.h"
#include "models/unicode.h"

#include <stdlib.h>
#include <string.h>

enum {
    JUNCTION_BITS = 19,
    JUNCTION_WORDS = 1 << (JUNCTION_BITS - 6),
    JOINED_BYTES_MAX = 1024, // longer tokens do not come from merging
};

int32_t bpe_find_id(const struct bpe *bpe, const char *text, size_t n_bytes) {
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
    for (uint32_t c = 0; c < BPE_NARROW; c++) {
        char bytes[4];
        bpe->narrow_ids[c] = bpe_find_id(bpe, bytes, utf8_encode(c, bytes));
    }
    // Unknown characters must neither join others across a cut nor vanish from between two that could merge.
    bool unknown_stays = has_all_bytes(bpe) || (options->unknown_id >= 0 && !options->fuse_unknown);
    bool cuts = options->long_pieces && !bpe->has_affixes && unknown_stays;
    if (cuts) bpe->junctions = mem_alloc_zero(JUNCTION_WORDS, sizeof *bpe->junctions);
    return bpe;
}

static uint32_t junction_of(uint32_t left, uint32_t right) {
    return (uint32_t)((left * 0x9e3779b97f4a7c15u ^ right) * 0xff51afd7ed558ccdu >> (64 - JUNCTION_BITS));
}

static void add_junction(struct bpe *bpe, uint32_t left, uint32_t right) {
    uint32_t bit = junction_of(left, right);
    bpe->junctions[bit >> 6] |= UINT64_C(1) << (bit & 63);
}

bool bpe_has_junction(const struct bpe *bpe, uint32_t left, uint32_t right) {
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

size_t bpe_bytes(const struct bpe *bpe) {
    size_t n_bytes = sizeof *bpe + bpe->merges_capacity * sizeof *bpe->merges;
    if (bpe->rank_of_id) n_bytes += (size_t)bpe->options.vocab->n_ids * sizeof *bpe->rank_of_id;
    if (bpe->junctions) n_bytes += JUNCTION_WORDS * sizeof *bpe->junctions;
    return n_bytes;
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

uint32_t bpe_find_merge(const struct bpe *bpe, struct neighbours pair, uint32_t *id) {
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
