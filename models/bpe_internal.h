// What opening a bpe, short pieces and long pieces share. Private to models/bpe*.c.
#pragma once

#include "models/bpe.h"

enum {
    BPE_NARROW = 0x400,     // code points below have their ids in a table
    BPE_SHORT_SYMBOLS = 48, // pieces up to here are scanned
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
    int32_t narrow_ids[BPE_NARROW];
    uint32_t n_ranks;
    int32_t last_joined; // while merges are added: the last result; -1: none
    struct merge_slot *merges;
    size_t n_merges, merges_capacity; // capacity: a power of two
    uint32_t *rank_of_id;             // by text: as the result of merging
    uint64_t *junctions; // bits by hash: pairs of code points that some merge brings together; NULL: not kept
};

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

// Two neighbours; the text is theirs together, for merging by text.
struct neighbours {
    uint32_t left, right;
    struct str_view text;
};

// The id of this text as the result of a piece, or -1; never a blocked one.
int32_t bpe_find_id(const struct bpe *bpe, const char *text, size_t n_bytes);
// The rank of joining them, or NO_RANK; *id: the result.
uint32_t bpe_find_merge(const struct bpe *bpe, struct neighbours pair, uint32_t *id);
// False: no merge brings these code points together.
bool bpe_has_junction(const struct bpe *bpe, uint32_t left, uint32_t right);

// Splits the piece into its first symbols; returns how many. symbols == NULL only counts; offsets may be NULL,
// otherwise it takes one more than there are symbols.
size_t bpe_read_symbols(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, struct symbol *symbols,
                        uint32_t *offsets);
// Appends what one symbol has become. *after_unknown: the symbol before was unknown.
void bpe_emit(const struct bpe *bpe, uint32_t id, struct str_view text, bool *after_unknown, token_vec *out);
// The other way for pieces that are not short.
void bpe_encode_long(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out);

// The text of the symbols [begin, end); empty without offsets.
static inline struct str_view text_between(struct str_view piece, const uint32_t *offsets, size_t begin, size_t end) {
    if (!offsets) return (struct str_view){0};
    return (struct str_view){piece.data + offsets[begin], offsets[end] - offsets[begin]};
}
