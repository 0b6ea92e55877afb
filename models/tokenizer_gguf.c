// Reads the tokenizer of a GGUF file (keys tokenizer.ggml.*): "llama" is SentencePiece-style merging by scores, "gpt2"
// is byte-level BPE with a named pre-tokenizer.
#include "base/utf8.h"
#include "models/gguf.h"
#include "models/tokenizer_build.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name

// tokenizer.ggml.token_type
enum token_type { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

struct reader {
    const struct gguf *gguf;
    struct tokenizer *t;
    size_t n_tokens;
    uint8_t *types;  // [n_tokens]
    float *scores;   // [n_tokens]
    bool *mergeable; // [vocab ids]
};

static int read_tokens(struct reader *r, struct err *err) {
    struct gguf_array array;
    int rc = gguf_get_array(r->gguf, KEY("tokens"), &array, err);
    if (rc) return rc;
    if (!array.count || array.count > VOCAB_IDS_MAX)
        return err_set(err, ERR_FORMAT, KEY("tokens") " must hold 1 to %d tokens", VOCAB_IDS_MAX);
    r->n_tokens = array.count;
    vocab_open(&r->t->vocab, r->n_tokens);
    struct str_view text;
    size_t i = 0;
    for (; gguf_array_next_string(&array, &text); i++) {
        if (!utf8_is_valid(text.data, text.n_bytes))
            return err_set(err, ERR_FORMAT, KEY("tokens") ": token %zu is not UTF-8", i);
        // Unused rows may repeat a text; the first one is what text becomes.
        if (!vocab_add(&r->t->vocab, (int32_t)i, text)) vocab_add_duplicate(&r->t->vocab, (int32_t)i, text);
    }
    return i == r->n_tokens ? 0 : err_set(err, ERR_FORMAT, KEY("tokens") " must hold strings");
}

// An array of numbers, one for each token; a missing one leaves the defaults.
static int read_numbers(const struct reader *r, const char *key, double min, double max,
                        void (*take)(const struct reader *r, size_t i, double value), struct err *err) {
    struct gguf_array array;
    int rc = gguf_get_array(r->gguf, key, &array, err);
    if (rc || !gguf_find(r->gguf, key)) return rc;
    if (array.count != r->n_tokens)
        return err_set(err, ERR_FORMAT, "%s holds %zu values for %zu tokens", key, array.count, r->n_tokens);
    double value;
    size_t i = 0;
    for (; gguf_array_next_number(&array, &value); i++) {
        if (!(value >= min && value <= max))
            return err_set(err, ERR_FORMAT, "%s: the value of token %zu is not allowed", key, i);
        take(r, i, value);
    }
    return i == r->n_tokens ? 0 : err_set(err, ERR_FORMAT, "%s must hold numbers", key);
}

static void take_type(const struct reader *r, size_t i, double value) {
    r->types[i] = (uint8_t)value;
}
static void take_score(const struct reader *r, size_t i, double value) {
    r->scores[i] = (float)value;
}

static int read_types(struct reader *r, struct err *err) {
    r->types = mem_alloc(r->n_tokens);
    r->scores = mem_alloc_zero(r->n_tokens, sizeof *r->scores);
    memset(r->types, TYPE_NORMAL, r->n_tokens);
    int rc = read_numbers(r, KEY("token_type"), TYPE_NORMAL, TYPE_BYTE, take_type, err);
    return rc ? rc : read_numbers(r, KEY("scores"), -FLT_MAX, FLT_MAX, take_score, err);
}

// Control and user-defined tokens are looked for in the text as it is.
static void add_tokens(struct reader *r) {
    struct tokenizer *t = r->t;
    for (size_t i = 0; i < r->n_tokens; i++) {
        bool special = r->types[i] == TYPE_CONTROL || r->types[i] == TYPE_UNKNOWN;
        if (!special && r->types[i] != TYPE_USER_DEFINED) continue;
        struct added_token token = {.id = (int32_t)i, .special = special};
        vec_push(&t->added, token);
    }
    tokenizer_close_vocab(t, t->vocab.n_ids);
}

static int32_t find_type(const struct reader *r, enum token_type type) {
    for (size_t i = 0; i < r->n_tokens; i++)
        if (r->types[i] == type) return (int32_t)i;
    return -1;
}

// A missing key leaves *id.
static int read_id(const struct reader *r, const char *key, int32_t *id, struct err *err) {
    // The largest 32-bit value and -1 mean "none" in files that exist.
    int64_t value = *id;
    int rc = gguf_get_int(r->gguf, key, -1, UINT32_MAX, &value, err);
    if (rc) return rc;
    if (value >= (int64_t)r->n_tokens && value != UINT32_MAX)
        return err_set(err, ERR_FORMAT, "%s is not in the vocabulary", key);
    *id = value == UINT32_MAX ? -1 : (int32_t)value;
    return 0;
}

static int read_ends(struct reader *r, bool adds_bos, struct err *err) {
    struct tokenizer *t = r->t;
    bool adds_eos = false;
    int rc = read_id(r, KEY("bos_token_id"), &t->bos, err);
    if (!rc) rc = read_id(r, KEY("eos_token_id"), &t->eos, err);
    if (!rc) rc = gguf_get_bool(r->gguf, KEY("add_bos_token"), &adds_bos, err);
    if (!rc) rc = gguf_get_bool(r->gguf, KEY("add_eos_token"), &adds_eos, err);
    if (rc) return rc;
    if (adds_bos && t->bos >= 0) vec_push(&t->prefix, t->bos);
    if (adds_eos && t->eos >= 0) vec_push(&t->suffix, t->eos);
    return 0;
}

// ---- SentencePiece ----

static const struct str_view mark = {"\xe2\x96\x81", 3}; // U+2581

// Every piece of text gets a space in front, also behind a marker (as in the models that the format was made for).
static int set_up_spaces(struct reader *r, struct err *err) {
    struct tokenizer *t = r->t;
    bool space_in_front = true;
    int rc = gguf_get_bool(r->gguf, KEY("add_space_prefix"), &space_in_front, err);
    if (!rc && space_in_front) {
        struct normalizer_step prepend = {.kind = NORMALIZER_PREPEND};
        str_append(&prepend.content, mark.data, mark.n_bytes);
        rc = normalizer_add(&t->normalizer, prepend, err);
        t->decoder.strip = STR_VIEW(" ");
        t->decoder.strip_count = 1;
    }
    if (rc) return rc;
    struct normalizer_step replace = {.kind = NORMALIZER_REPLACE, .pattern = pattern_open_literal(STR_VIEW(" "))};
    str_append(&replace.content, mark.data, mark.n_bytes);
    rc = normalizer_add(&t->normalizer, replace, err);
    if (rc) return rc;
    struct decoder_step unmark = {.kind = DECODER_REPLACE, .pattern = pattern_open_literal(mark)};
    str_append_char(&unmark.content, ' ');
    rc = decoder_add(&t->decoder, unmark, err);
    return rc ? rc : decoder_add(&t->decoder, (struct decoder_step){.kind = DECODER_BYTE_FALLBACK}, err);
}

static int read_sentencepiece(struct reader *r, struct err *err) {
    struct tokenizer *t = r->t;
    int32_t unknown = find_type(r, TYPE_UNKNOWN);
    int rc = read_id(r, KEY("unknown_token_id"), &unknown, err);
    if (!rc) rc = set_up_spaces(r, err);
    if (rc) return rc;
    r->mergeable = mem_alloc_zero((size_t)t->vocab.n_ids, sizeof *r->mergeable);
    for (size_t i = 0; i < r->n_tokens; i++) {
        r->mergeable[i] = (r->types[i] == TYPE_NORMAL || r->types[i] == TYPE_USER_DEFINED) && t->vocab.texts[i].n_bytes;
        if (r->types[i] == TYPE_UNUSED || r->types[i] == TYPE_BYTE) t->blocked[i] = true;
    }
    struct bpe_options options = {
        .vocab = &t->vocab, .blocked = t->blocked, .byte_fallback = true, .unknown_id = unknown, .long_pieces = true};
    t->bpe = bpe_open_scores(&options, r->scores, r->mergeable);
    return read_ends(r, true, err);
}

// ---- byte-level BPE ----

struct named_stage {
    enum pattern_name pattern;
    enum split_behavior behavior;
};

#define SPLIT(name)                                                                                                    \
    { PATTERN_##name, SPLIT_ISOLATED }

// What the names in tokenizer.ggml.pre stand for.
static const struct recipe {
    const char *names; // separated by '|'
    int n_stages;
    struct named_stage stages[6];
    int byte_map_at; // characters are mapped in front of this stage; 0: after all of them
    bool composed;   // NFC
    bool whole_first, adds_bos;
} recipes[] = {
    {.names = "gpt-2|phi-2|mpt|olmo|modern-bert", .n_stages = 1, .stages = {SPLIT(GPT2)}},
    {.names = "llama-bpe|llama3|llama-v3|falcon3|falcon-h1|pixtral|lfm2",
     .n_stages = 1,
     .stages = {SPLIT(LLAMA3)},
     .whole_first = true,
     .adds_bos = true},
    {.names = "dbrx|smaug-bpe|chatglm-bpe|glm4", .n_stages = 1, .stages = {SPLIT(LLAMA3)}},
    {.names = "qwen2|deepseek-r1-qwen|stablelm2", .n_stages = 1, .stages = {SPLIT(QWEN2)}, .composed = true},
    {.names = "qwen35", .n_stages = 1, .stages = {SPLIT(QWEN35)}, .composed = true},
    {.names = "tekken", .n_stages = 1, .stages = {SPLIT(TEKKEN)}, .whole_first = true, .adds_bos = true},
    {.names = "gpt-4o|llama4", .n_stages = 1, .stages = {SPLIT(O200K)}},
    {.names = "smollm|starcoder|refact|command-r|codeshell", .n_stages = 2, .stages = {SPLIT(DIGIT), SPLIT(GPT2)}},
    {.names = "falcon",
     .n_stages = 4,
     .stages = {{PATTERN_PUNCTUATION, SPLIT_CONTIGUOUS}, SPLIT(GPT2), SPLIT(DIGITS), SPLIT(3_ASCII_DIGITS)},
     .byte_map_at = 2},
    {.names = "deepseek-v3", .n_stages = 3, .stages = {SPLIT(UP_TO_3_DIGITS), SPLIT(HAN_AND_KANA), SPLIT(DEEPSEEK_V3)}},
    {.names = "deepseek-coder",
     .n_stages = 5,
     .stages = {SPLIT(NEWLINE), SPLIT(SPACED_LETTERS), SPLIT(SPACED_PUNCTUATION), SPLIT(HAN_AND_HANGUL), SPLIT(DIGIT)}},
};

static bool is_named(const char *names, struct str_view name) {
    for (const char *at = names; *at; at += *at == '|') {
        size_t n = strcspn(at, "|");
        if (str_view_equal((struct str_view){at, n}, name)) return true;
        at += n;
    }
    return false;
}

static int find_recipe(const struct gguf *gguf, const struct recipe **out, struct err *err) {
    struct str_view name = {0};
    int rc = gguf_get_string(gguf, KEY("pre"), &name, err);
    if (rc) return rc;
    if (!name.n_bytes)
        return err_set(err, ERR_UNSUPPORTED, KEY("pre") " is missing: the file does not say how text is cut");
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        if (!is_named(recipes[i].names, name)) continue;
        *out = &recipes[i];
        return 0;
    }
    if (name.n_bytes > 64 || !utf8_is_valid(name.data, name.n_bytes)) name = STR_VIEW("?");
    return err_set(err, ERR_UNSUPPORTED, KEY("pre") " \"%.*s\" is not supported", (int)name.n_bytes, name.data);
}

static int set_up_stages(struct tokenizer *t, const struct recipe *recipe, struct err *err) {
    struct pretokenizer_stage byte_map = {.kind = PRETOKENIZER_BYTE_MAP};
    int rc = 0;
    if (recipe->composed)
        rc = normalizer_add(&t->normalizer,
                            (struct normalizer_step){.kind = NORMALIZER_FORM, .form = {.composed = true}}, err);
    for (int i = 0; i < recipe->n_stages && !rc; i++) {
        if (recipe->byte_map_at && i == recipe->byte_map_at) rc = pretokenizer_add(&t->pretokenizer, byte_map, err);
        struct pretokenizer_stage stage = {.kind = PRETOKENIZER_SPLIT,
                                           .behavior = recipe->stages[i].behavior,
                                           .pattern = pattern_open_named(recipe->stages[i].pattern)};
        if (rc)
            pattern_close(stage.pattern);
        else
            rc = pretokenizer_add(&t->pretokenizer, stage, err);
    }
    if (!rc && !recipe->byte_map_at) rc = pretokenizer_add(&t->pretokenizer, byte_map, err);
    return rc ? rc : decoder_add(&t->decoder, (struct decoder_step){.kind = DECODER_BYTE_MAP}, err);
}

static int read_merges(struct reader *r, const struct bpe_options *options, struct err *err) {
    struct gguf_array array;
    int rc = gguf_get_array(r->gguf, KEY("merges"), &array, err);
    if (rc) return rc;
    if (!array.count) return err_set(err, ERR_FORMAT, KEY("merges") " is missing");
    size_t n_merges = array.count, i = 0;
    if (n_merges > VOCAB_IDS_MAX)
        return err_set(err, ERR_LIMIT, KEY("merges") " holds more than %d merges", VOCAB_IDS_MAX);
    r->t->bpe = bpe_open(options, n_merges);
    struct str_view merge;
    for (; gguf_array_next_string(&array, &merge) && !rc; i++) {
        const char *space = merge.n_bytes ? memchr(merge.data, ' ', merge.n_bytes) : NULL;
        if (!space) return err_set(err, ERR_FORMAT, KEY("merges") ": merge %zu is no pair", i);
        size_t n_left = (size_t)(space - merge.data);
        rc = bpe_add_merge(r->t->bpe, (struct str_view){merge.data, n_left},
                           (struct str_view){space + 1, merge.n_bytes - n_left - 1}, err);
    }
    if (!rc && i < n_merges) rc = err_set(err, ERR_FORMAT, "it must hold strings");
    return rc ? err_prefix(err, KEY("merges")) : 0;
}

static int read_byte_level(struct reader *r, struct err *err) {
    struct tokenizer *t = r->t;
    const struct recipe *recipe = NULL;
    int rc = find_recipe(r->gguf, &recipe, err);
    if (!rc) rc = set_up_stages(t, recipe, err);
    if (rc) return rc;
    for (size_t i = 0; i < r->n_tokens; i++)
        if (r->types[i] == TYPE_UNUSED) t->blocked[i] = true;
    struct bpe_options options = {
        .vocab = &t->vocab, .blocked = t->blocked, .whole_first = recipe->whole_first, .unknown_id = -1};
    rc = read_merges(r, &options, err);
    return rc ? rc : read_ends(r, recipe->adds_bos, err);
}

static int read_gguf(struct reader *r, struct err *err) {
    struct str_view model = {0};
    int rc = gguf_get_string(r->gguf, KEY("model"), &model, err);
    if (rc) return rc;
    bool pieces = str_view_equal(model, STR_VIEW("llama"));
    if (!model.n_bytes) return err_set(err, ERR_NOT_FOUND, "the file has no tokenizer (" KEY("model") ")");
    if (!pieces && !str_view_equal(model, STR_VIEW("gpt2")))
        return err_set(err, ERR_UNSUPPORTED,
                       KEY("model") " is neither \"llama\" nor \"gpt2\"; others are not supported");
    rc = read_tokens(r, err);
    if (!rc) rc = read_types(r, err);
    if (rc) return rc;
    add_tokens(r);
    rc = pieces ? read_sentencepiece(r, err) : read_byte_level(r, err);
    return rc ? rc : tokenizer_finish(r->t, err);
}

int tokenizer_open_gguf(struct tokenizer **out, const struct gguf *gguf, struct err *err) {
    struct reader r = {.gguf = gguf, .t = tokenizer_new()};
    int rc = read_gguf(&r, err);
    free(r.types);
    free(r.scores);
    free(r.mergeable);
    *out = rc ? NULL : r.t;
    if (rc) tokenizer_close(r.t);
    return rc;
}
