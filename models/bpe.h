// Byte-pair encoding of one piece of text: the merging itself, whatever the tokenizer around it.
//
// Two ways to say what may merge:
//   by pair: a list of pairs of tokens; the pair that stands first in the list goes first (tokenizer.json);
//   by text: any two neighbours whose joined text is a token; the token with the highest score goes first (the
//            SentencePiece form in GGUF files).
// Ties go to the leftmost. Short pieces are scanned; long ones keep a list of positions for each rank, so that time is
// O(n log n) at worst and memory 12 bytes a character (16 by text).
//
// Owner: the tokenizer. Read-only after opening.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "models/vocab.h"
#include <stdbool.h>
#include <stdint.h>

typedef VEC_OF(int32_t) token_vec; // freed with vec_free

struct bpe_options {
    const struct vocab *vocab;         // complete; outlives the bpe
    const bool *blocked;               // [vocab->n_ids] ids that no text becomes: the special ones; outlives the bpe
    struct str_view continuing_prefix; // in the vocabulary, in front of every character of a piece but the first
    struct str_view end_suffix;        // in the vocabulary, behind a piece's last character
    bool byte_fallback;                // unknown characters become <0xXX> tokens where all of their bytes have one
    bool fuse_unknown;                 // neighbouring unknown characters become one unknown token
    bool whole_first;                  // a piece that is a token is that token, whatever the merges say (ignore_merges)
    bool long_pieces;                  // pieces are whole texts: keep what finds places that no merge can cross
    int32_t unknown_id;                // -1: unknown characters are dropped
};

struct bpe;

// With the list of merges, added in order; the strings of the options are copied.
struct bpe *bpe_open(const struct bpe_options *options, size_t expected_merges);
// ERR_FORMAT when a part or the result is not in the vocabulary. The text of errors does not quote the file.
int bpe_add_merge(struct bpe *bpe, struct str_view left, struct str_view right, struct err *err)
    __attribute__((warn_unused_result));
// By text. mergeable[id]: the token can be a result; scores are finite. Both [vocab->n_ids], not kept.
struct bpe *bpe_open_scores(const struct bpe_options *options, const float *scores, const bool *mergeable);
void bpe_close(struct bpe *bpe);         // NULL is allowed
size_t bpe_bytes(const struct bpe *bpe); // of memory, without the vocabulary

// The memory of one encoding; zero it before the first piece.
struct bpe_work {
    struct symbol *symbols;
    uint32_t *offsets;
    size_t symbols_capacity, offsets_capacity;
    struct bpe_bucket *buckets; // [n_ranks], empty between pieces
    VEC_OF(uint32_t) ranks;     // heap of the ranks that have positions
    struct str scratch;
};
void bpe_work_close(struct bpe_work *work);

enum { BPE_PIECE_BYTES_MAX = 1 << 30 };

// Appends the tokens of one piece (valid UTF-8, at most BPE_PIECE_BYTES_MAX).
void bpe_encode(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out);
