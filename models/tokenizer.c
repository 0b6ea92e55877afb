#include "models/tokenizer.h"

#include "base/utf8.h"
#include "models/tokenizer_build.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// ---- building ----

struct tokenizer *tokenizer_new(void) {
    struct tokenizer *t = mem_alloc_zero(1, sizeof *t);
    t->bos = t->eos = -1;
    added_tokens_open(&t->raw);
    added_tokens_open(&t->normalized);
    return t;
}

void tokenizer_close(struct tokenizer *t) {
    if (!t) return;
    bpe_close(t->bpe);
    vocab_close(&t->vocab);
    normalizer_close(&t->normalizer);
    pretokenizer_close(&t->pretokenizer);
    decoder_close(&t->decoder);
    added_tokens_close(&t->raw);
    added_tokens_close(&t->normalized);
    vec_free(&t->added);
    vec_free(&t->prefix);
    vec_free(&t->suffix);
    free(t->special);
    free(t->blocked);
    free(t->decoded);
    free(t->decoded_at);
    free(t);
}

size_t tokenizer_bytes(const struct tokenizer *t) {
    size_t n_ids = (size_t)t->vocab.n_ids;
    return sizeof *t + vocab_bytes(&t->vocab) + bpe_bytes(t->bpe) + added_tokens_bytes(&t->raw) +
           added_tokens_bytes(&t->normalized) + t->added.capacity * sizeof *t->added.items +
           n_ids * (sizeof *t->special + sizeof *t->blocked) + (n_ids + 1) * sizeof *t->decoded_at +
           t->decoded_at[n_ids];
}

int tokenizer_add_added(struct tokenizer *t, struct str_view content, struct added_token token, struct err *err) {
    enum { CONTENT_BYTES_MAX = 1024 }; // bounds the time at one position of a text
    if (content.n_bytes > CONTENT_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "an added token is longer than %d bytes", CONTENT_BYTES_MAX);
    int32_t known = vocab_find(&t->vocab, content.data, content.n_bytes);
    if (known >= 0)
        token.id = known;
    else if (!vocab_add(&t->vocab, token.id, content))
        return err_set(err, ERR_FORMAT, "added token \"%.*s\" has the id %d, which another token has",
                       (int)content.n_bytes, content.data, token.id);
    vec_push(&t->added, token);
    return 0;
}

void tokenizer_close_vocab(struct tokenizer *t, int32_t n_model) {
    size_t n = (size_t)t->vocab.n_ids;
    t->special = mem_alloc_zero(n, sizeof *t->special);
    t->blocked = mem_alloc_zero(n, sizeof *t->blocked);
    for (size_t i = (size_t)n_model; i < n; i++) t->blocked[i] = true;
    for (size_t i = 0; i < t->added.count; i++) {
        struct added_token token = t->added.items[i];
        if (!token.special) continue;
        t->special[token.id] = true;
        t->blocked[token.id] = true;
    }
}

bool tokenizer_has_long_pieces(const struct tokenizer *t) {
    for (size_t i = 0; i < t->pretokenizer.n_stages; i++)
        if (t->pretokenizer.stages[i].kind == PRETOKENIZER_SPLIT) return false;
    return true;
}

static int fill_added_sets(struct tokenizer *t, struct err *err) {
    struct prompt_text text = PROMPT_TEXT_INIT, spare = PROMPT_TEXT_INIT;
    int rc = 0;
    for (size_t i = 0; i < t->added.count && !rc; i++) {
        struct added_token token = t->added.items[i];
        struct str_view content = t->vocab.texts[token.id];
        if (!token.normalized) {
            added_tokens_add(&t->raw, content, token);
            continue;
        }
        prompt_text_clear(&text);
        prompt_text_append(&text, content.data, content.n_bytes, true);
        struct pattern_budget budget = {0};
        rc = normalizer_run(&t->normalizer, &text, &spare, &budget, err);
        if (!rc) added_tokens_add(&t->normalized, (struct str_view){text.text.data, text.text.n_bytes}, token);
    }
    prompt_text_close(&text);
    prompt_text_close(&spare);
    return rc;
}

static int fill_decoded(struct tokenizer *t, struct err *err) {
    struct str bytes = STR_INIT;
    int rc = 0;
    t->decoded_at = mem_alloc_zero((size_t)t->vocab.n_ids + 1, sizeof *t->decoded_at);
    for (int32_t i = 0; i < t->vocab.n_ids && !rc; i++) {
        struct str_view text = t->vocab.texts[i];
        if (text.data) rc = decoder_token(&t->decoder, text, false, &bytes, err);
        if (!rc && bytes.n_bytes > UINT32_MAX) rc = err_set(err, ERR_LIMIT, "the decoded tokens are too long");
        t->decoded_at[i + 1] = (uint32_t)bytes.n_bytes;
    }
    t->decoded = bytes.data;
    return rc;
}

// Unknown text may vanish or become one token; that cannot happen where every byte is a token.
static bool has_every_byte(const struct tokenizer *t, bool by_byte) {
    struct str token = STR_INIT;
    bool found = true;
    for (unsigned byte = 0; byte < 256 && found; byte++) {
        str_clear(&token);
        if (by_byte)
            byte_map_append(&token, (struct str_view){(const char[]){(char)byte}, 1});
        else
            str_printf(&token, "<0x%02X>", byte);
        found = vocab_find(&t->vocab, token.data, token.n_bytes) >= 0;
    }
    str_close(&token);
    return found;
}

static size_t longest_token(const struct tokenizer *t, bool by_byte) {
    if (!by_byte) return t->vocab.token_bytes_max;
    size_t longest = 0;
    for (int32_t i = 0; i < t->vocab.n_ids; i++) {
        size_t n_bytes = t->decoded_at[i + 1] - t->decoded_at[i];
        if (n_bytes > longest) longest = n_bytes;
    }
    for (size_t i = 0; i < t->added.count; i++) {
        size_t n_bytes = t->vocab.texts[t->added.items[i].id].n_bytes;
        if (n_bytes > longest) longest = n_bytes;
    }
    return longest;
}

// A bound of the text that one token can stand for, or 0.
static size_t find_bytes_per_token(const struct tokenizer *t) {
    bool by_byte = false;
    for (size_t i = 0; i < t->pretokenizer.n_stages; i++) {
        const struct pretokenizer_stage *stage = &t->pretokenizer.stages[i];
        if (stage->kind == PRETOKENIZER_SPLIT && stage->behavior == SPLIT_REMOVED) return 0;
        if (stage->kind == PRETOKENIZER_BYTE_MAP) by_byte = true;
    }
    if (!has_every_byte(t, by_byte)) return 0;
    return longest_token(t, by_byte) * normalizer_shrink_max(&t->normalizer);
}

int tokenizer_finish(struct tokenizer *t, struct err *err) {
    if (t->bos < 0 && t->prefix.count == 1) t->bos = t->prefix.items[0];
    int rc = fill_added_sets(t, err);
    if (!rc) rc = fill_decoded(t, err);
    if (!rc) t->bytes_per_token_max = find_bytes_per_token(t);
    return rc;
}

// ---- encoding ----

struct encoding {
    const struct tokenizer *t;
    token_vec *out;
    size_t n_tokens_max; // of *out in all
    struct bpe_work bpe_work;
    struct pretokenizer_work pretokenizer_work;
    struct prompt_text normal, spare;
    struct err *err;
};

static int check_count(const struct encoding *e) {
    if (e->out->count <= e->n_tokens_max) return 0;
    return err_set(e->err, ERR_LIMIT, "the text has more tokens than allowed");
}

static int take_piece(void *context, struct str_view piece, struct err *err) {
    struct encoding *e = context;
    (void)err;
    bpe_encode(e->t->bpe, &e->bpe_work, piece, e->out);
    return check_count(e);
}

static int take_token(struct encoding *e, int32_t id) {
    vec_push(e->out, id);
    return check_count(e);
}

typedef int (*range_function)(struct encoding *e, struct str_view text, const struct prompt_text *trust, size_t offset,
                              bool at_start);

static int encode_normal(struct encoding *e, struct str_view text, const struct prompt_text *trust, size_t offset,
                         bool at_start) {
    (void)trust, (void)offset;
    return pretokenizer_run(&e->t->pretokenizer, &e->pretokenizer_work, text, at_start, take_piece, e, e->err);
}

// Emits the added tokens that are found in the text and hands what is between them to `between`.
static int encode_added(struct encoding *e, const struct added_tokens *set, struct str_view text,
                        const struct prompt_text *trust, size_t offset, bool at_start, range_function between) {
    struct added_search search = {.set = set, .text = text, .trust = trust, .offset = offset};
    struct added_match match;
    size_t done = 0;
    int rc = 0;
    while (!rc && added_search_next(&search, &match)) {
        if (match.range.begin > done)
            rc = between(e, (struct str_view){text.data + done, match.range.begin - done}, trust, offset + done,
                         at_start && !done);
        if (!rc) rc = take_token(e, match.token->id);
        done = match.range.end;
    }
    if (!rc && done < text.n_bytes)
        rc = between(e, (struct str_view){text.data + done, text.n_bytes - done}, trust, offset + done,
                     at_start && !done);
    return rc;
}

static int encode_raw(struct encoding *e, struct str_view text, const struct prompt_text *trust, size_t offset,
                      bool at_start) {
    const struct tokenizer *t = e->t;
    if (t->normalizer.n_steps) {
        size_t part = 0;
        prompt_text_clear(&e->normal);
        prompt_text_append_part(&e->normal, trust, offset, offset + text.n_bytes, &part);
        int rc = normalizer_run(&t->normalizer, &e->normal, &e->spare, &e->pretokenizer_work.budget, e->err);
        if (rc) return rc;
        text = (struct str_view){e->normal.text.data, e->normal.text.n_bytes};
        trust = &e->normal;
        offset = 0;
    }
    return encode_added(e, &t->normalized, text, trust, offset, at_start, encode_normal);
}

static int encode_whole(struct encoding *e, const struct prompt_text *prompt, bool add_special) {
    struct str_view text = {prompt->text.data, prompt->text.n_bytes};
    const struct tokenizer *t = e->t;
    int rc = 0;
    for (size_t i = 0; add_special && i < t->prefix.count && !rc; i++) rc = take_token(e, t->prefix.items[i]);
    if (!rc && text.n_bytes) rc = encode_added(e, &t->raw, text, prompt, 0, true, encode_raw);
    for (size_t i = 0; add_special && i < t->suffix.count && !rc; i++) rc = take_token(e, t->suffix.items[i]);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const struct prompt_text *prompt,
                     const struct tokenizer_encode_options *options, token_vec *out, struct err *err) {
    enum { TEXT_BYTES_MAX = BPE_PIECE_BYTES_MAX / 4 }; // stages can make text longer
    if (prompt->text.n_bytes > TEXT_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "the text is longer than %d bytes", TEXT_BYTES_MAX);
    if (!utf8_is_valid(prompt->text.data, prompt->text.n_bytes))
        return err_set(err, ERR_INVALID, "the text is not UTF-8");
    size_t before = out->count;
    struct encoding e = {.t = t, .out = out, .err = err, .n_tokens_max = SIZE_MAX};
    if (options->n_tokens_max > 0) e.n_tokens_max = before + (size_t)options->n_tokens_max;
    int rc = encode_whole(&e, prompt, options->add_special);
    if (rc) out->count = before;
    bpe_work_close(&e.bpe_work);
    pretokenizer_work_close(&e.pretokenizer_work);
    prompt_text_close(&e.normal);
    prompt_text_close(&e.spare);
    return rc;
}

// ---- decoding ----

static struct str_view decoded_bytes(const struct tokenizer *t, int32_t id) {
    if (id < 0 || id >= t->vocab.n_ids) return (struct str_view){0};
    return (struct str_view){t->decoded + t->decoded_at[id], t->decoded_at[id + 1] - t->decoded_at[id]};
}

// Takes the decoder's "strip" off bytes at the beginning of the text.
static struct str_view strip_beginning(struct detokenizer *d, struct str_view bytes) {
    const struct decoder *decoder = &d->tokenizer->decoder;
    while (bytes.n_bytes && d->stripped < decoder->strip_count) {
        // The character to strip is ASCII or comes in one token, so that half of it never stands here.
        if (!str_view_starts_with(bytes, decoder->strip)) break;
        bytes.data += decoder->strip.n_bytes;
        bytes.n_bytes -= decoder->strip.n_bytes;
        d->stripped++;
    }
    if (bytes.n_bytes) d->stripped = UINT32_MAX;
    return bytes;
}

void detokenizer_push(struct detokenizer *d, int32_t id, struct str *out) {
    const struct tokenizer *t = d->tokenizer;
    if (id < 0 || id >= t->vocab.n_ids || !t->vocab.texts[id].data) return;
    if (d->skip_special && t->special[id]) return;
    bool first = !d->started;
    d->started = true;
    if (first && decoder_minds_first(&t->decoder)) {
        // The table was made with the same steps, so that they cannot fail here.
        int rc = decoder_token(&t->decoder, t->vocab.texts[id], true, out, NULL);
        assert(!rc);
        return;
    }
    if (!first && t->decoder.joins_with_space) str_append_char(out, ' ');
    struct str_view bytes = strip_beginning(d, decoded_bytes(t, id));
    str_append(out, bytes.data, bytes.n_bytes);
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special, struct str *out,
                     struct err *err) {
    struct detokenizer detokenizer = {.tokenizer = t, .skip_special = skip_special};
    struct utf8_filter filter = {0};
    struct str bytes = STR_INIT;
    int rc = 0;
    for (size_t i = 0; i < n_ids && !rc; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab.n_ids) {
            rc = err_set(err, ERR_INVALID, "token %d is not in the vocabulary of %d", ids[i], t->vocab.n_ids);
            break;
        }
        detokenizer_push(&detokenizer, ids[i], &bytes);
    }
    if (!rc) {
        utf8_filter_push(&filter, str_text(&bytes), bytes.n_bytes, out);
        utf8_filter_finish(&filter, out);
    }
    str_close(&bytes);
    return rc;
}

// ---- facts ----

int32_t tokenizer_vocab(const struct tokenizer *t) {
    return t->vocab.n_ids;
}
int32_t tokenizer_bos(const struct tokenizer *t) {
    return t->bos;
}
int32_t tokenizer_eos(const struct tokenizer *t) {
    return t->eos;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.n_ids && t->special[id];
}

struct str_view tokenizer_token_text(const struct tokenizer *t, int32_t id) {
    if (id < 0 || id >= t->vocab.n_ids) return (struct str_view){0};
    return t->vocab.texts[id];
}

void tokenizer_token_bytes(const struct tokenizer *t, int32_t id, struct str *out) {
    struct str_view bytes = decoded_bytes(t, id);
    str_append(out, bytes.data, bytes.n_bytes);
}

size_t tokenizer_tokens_min(const struct tokenizer *t, size_t n_bytes) {
    return t->bytes_per_token_max ? (n_bytes + t->bytes_per_token_max - 1) / t->bytes_per_token_max : 0;
}
