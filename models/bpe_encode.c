#include "models/bpe_internal.h"

#include "models/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

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
    if (!bpe->has_affixes) return c < BPE_NARROW ? bpe->narrow_ids[c] : bpe_find_id(bpe, piece.data + at, length);
    struct str *text = &work->scratch;
    str_clear(text);
    if (at > 0) str_append(text, bpe->options.continuing_prefix.data, bpe->options.continuing_prefix.n_bytes);
    str_append(text, piece.data + at, length);
    if (at + length == piece.n_bytes) str_append(text, bpe->options.end_suffix.data, bpe->options.end_suffix.n_bytes);
    return bpe_find_id(bpe, text->data, text->n_bytes);
}

static bool has_bytes(const struct bpe *bpe, const char *bytes, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++)
        if (bpe->byte_ids[(unsigned char)bytes[i]] < 0) return false;
    return true;
}

size_t bpe_read_symbols(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, struct symbol *symbols,
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

void bpe_emit(const struct bpe *bpe, uint32_t id, struct str_view text, bool *after_unknown, token_vec *out) {
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

// ---- short pieces: find the lowest rank, join, close the gap ----

static void rank_short(const struct bpe *bpe, struct str_view piece, struct symbol *symbols, const uint32_t *offsets,
                       size_t i) {
    struct neighbours pair = {symbols[i].id, symbols[i + 1].id, text_between(piece, offsets, i, i + 2)};
    symbols[i].next = bpe_find_merge(bpe, pair, &symbols[i].prev);
}

static void encode_short(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    struct symbol symbols[BPE_SHORT_SYMBOLS];
    uint32_t offset_space[BPE_SHORT_SYMBOLS + 1], *offsets = bpe->by_text ? offset_space : NULL;
    size_t n = bpe_read_symbols(bpe, work, piece, symbols, offsets);
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
        bpe_emit(bpe, symbols[i].id, text_between(piece, offsets, i, i + 1), &after_unknown, out);
}

static void encode_uncut(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    if (piece.n_bytes <= BPE_SHORT_SYMBOLS)
        encode_short(bpe, work, piece, out);
    else
        bpe_encode_long(bpe, work, piece, out);
}

void bpe_encode(const struct bpe *bpe, struct bpe_work *work, struct str_view piece, token_vec *out) {
    assert(piece.n_bytes <= BPE_PIECE_BYTES_MAX);
    if (!piece.n_bytes) return;
    if (bpe->options.whole_first) {
        int32_t id = bpe_find_id(bpe, piece.data, piece.n_bytes);
        if (id >= 0) {
            vec_push(out, id);
            return;
        }
    }
    if (!bpe->junctions || piece.n_bytes <= BPE_SHORT_SYMBOLS) {
        encode_uncut(bpe, work, piece, out);
        return;
    }
    // Where no merge can bring two characters together, what stands before and behind merges independently.
    size_t begin = 0;
    uint32_t left, right;
    for (size_t at = utf8_read(piece.data, &left), length; at < piece.n_bytes; at += length, left = right) {
        length = utf8_read(piece.data + at, &right);
        if (bpe_has_junction(bpe, left, right)) continue;
        encode_uncut(bpe, work, (struct str_view){piece.data + begin, at - begin}, out);
        begin = at;
    }
    encode_uncut(bpe, work, (struct str_view){piece.data + begin, piece.n_bytes - begin}, out);
}
