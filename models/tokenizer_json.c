// Reads tokenizer.json (the file format of Hugging Face's tokenizers) and tokenizer_config.json. The stages are in
// tokenizer_json_stages.c.
#include "models/tokenizer_json.h"

#include "base/json.h"
#include "base/utf8.h"
#include "models/tokenizer_build.h"

#include <stdlib.h>
#include <string.h>

const cJSON *json_member(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

static bool is_listed(const char *keys, const char *key) {
    size_t n = strlen(key);
    for (const char *at = keys; (at = strstr(at, key)); at += n)
        if ((at == keys || at[-1] == '|') && (at[n] == '|' || !at[n])) return true;
    return false;
}

int json_check_keys(const cJSON *object, const char *what, const char *keys, struct err *err) {
    if (!cJSON_IsObject(object)) return err_set(err, ERR_FORMAT, "%s must be an object", what);
    for (const cJSON *item = object->child; item; item = item->next) {
        if (!is_listed(keys, item->string))
            return err_set(err, ERR_UNSUPPORTED, "%s has the field \"%.64s\", which is not supported", what,
                           item->string);
        if (cJSON_GetObjectItemCaseSensitive(object, item->string) != item)
            return err_set(err, ERR_FORMAT, "%s has the field \"%s\" twice", what, item->string);
    }
    return 0;
}

int json_get_text(const cJSON *object, const char *key, struct str_view *out, struct err *err) {
    const char *text = NULL;
    int rc = json_get_string(object, key, &text, err);
    if (!rc && text) *out = str_view_of(text);
    return rc;
}

// ---- vocabulary and merges ----

static int read_vocab(struct tokenizer *t, const cJSON *model, struct err *err) {
    const cJSON *vocab = json_member(model, "vocab");
    if (!cJSON_IsObject(vocab)) return err_set(err, ERR_FORMAT, "\"model.vocab\" must be an object");
    vocab_open(&t->vocab, (size_t)cJSON_GetArraySize(vocab));
    for (const cJSON *item = vocab->child; item; item = item->next) {
        double id = item->valuedouble;
        if (!cJSON_IsNumber(item) || !(id >= 0 && id < VOCAB_IDS_MAX) || id != (double)(int32_t)id)
            return err_set(err, ERR_FORMAT, "\"model.vocab\" has an id that is not an integer from 0 to %d",
                           VOCAB_IDS_MAX - 1);
        if (!vocab_add(&t->vocab, (int32_t)id, str_view_of(item->string)))
            return err_set(err, ERR_FORMAT, "\"model.vocab\" has id %d or its text twice", (int32_t)id);
    }
    return 0;
}

// "a b". Tokens that hold spaces themselves make several readings; one of them must join two tokens.
static bool split_merge_text(const struct vocab *vocab, const char *text, struct str_view *left,
                             struct str_view *right) {
    int n_readings = 0;
    const char *only = strchr(text, ' ');
    bool ambiguous = only && strchr(only + 1, ' ');
    for (const char *space = only; space; space = strchr(space + 1, ' ')) {
        struct str_view a = {text, (size_t)(space - text)}, b = str_view_of(space + 1);
        if (ambiguous && (vocab_find(vocab, a.data, a.n_bytes) < 0 || vocab_find(vocab, b.data, b.n_bytes) < 0))
            continue;
        *left = a;
        *right = b;
        n_readings++;
    }
    return n_readings == 1;
}

static bool split_merge(const struct vocab *vocab, const cJSON *item, struct str_view *left, struct str_view *right) {
    if (cJSON_IsString(item)) return split_merge_text(vocab, item->valuestring, left, right);
    const cJSON *first = cJSON_IsArray(item) ? item->child : NULL, *second = first ? first->next : NULL;
    if (!second || second->next || !cJSON_IsString(first) || !cJSON_IsString(second)) return false;
    *left = str_view_of(first->valuestring);
    *right = str_view_of(second->valuestring);
    return true;
}

static int read_merges(struct tokenizer *t, const cJSON *merges, struct err *err) {
    for (const cJSON *item = merges->child; item; item = item->next) {
        struct str_view left, right;
        if (!split_merge(&t->vocab, item, &left, &right))
            return err_set(err, ERR_FORMAT, "\"model.merges\" must hold pairs of tokens");
        int rc = bpe_add_merge(t->bpe, left, right, err);
        if (rc) return rc;
    }
    return 0;
}

static int check_model(const cJSON *model, struct err *err) {
    const char *type = "BPE"; // old files leave it out
    double dropout = 0;
    int rc = json_get_string(model, "type", &type, err);
    if (!rc && strcmp(type, "BPE") != 0)
        return err_set(err, ERR_UNSUPPORTED, "tokenizer model \"%.64s\" is not supported (BPE is)", type);
    if (!rc)
        rc = json_check_keys(
            model, "\"model\"",
            "type|dropout|unk_token|continuing_subword_prefix|end_of_word_suffix|fuse_unk|byte_fallback|"
            "ignore_merges|vocab|merges",
            err);
    if (!rc) rc = json_get_double(model, "dropout", &dropout, err);
    if (!rc && dropout != 0) return err_set(err, ERR_UNSUPPORTED, "\"model.dropout\" is not supported");
    if (!rc && !cJSON_IsArray(json_member(model, "merges")))
        return err_set(err, ERR_FORMAT, "\"model.merges\" must be an array");
    return rc;
}

static int read_model_options(struct tokenizer *t, const cJSON *model, struct bpe_options *options, struct err *err) {
    struct str_view unknown = {0};
    int rc = json_get_text(model, "unk_token", &unknown, err);
    if (!rc) rc = json_get_text(model, "continuing_subword_prefix", &options->continuing_prefix, err);
    if (!rc) rc = json_get_text(model, "end_of_word_suffix", &options->end_suffix, err);
    if (!rc) rc = json_get_bool(model, "fuse_unk", &options->fuse_unknown, err);
    if (!rc) rc = json_get_bool(model, "byte_fallback", &options->byte_fallback, err);
    if (!rc) rc = json_get_bool(model, "ignore_merges", &options->whole_first, err);
    if (rc) return err_prefix(err, "\"model\"");
    options->unknown_id = unknown.data ? vocab_find(&t->vocab, unknown.data, unknown.n_bytes) : -1;
    if (unknown.data && options->unknown_id < 0)
        return err_set(err, ERR_FORMAT, "\"model.unk_token\" is not in the vocabulary");
    return 0;
}

static int read_model(struct tokenizer *t, const cJSON *model, struct err *err) {
    struct bpe_options options = {
        .vocab = &t->vocab, .blocked = t->blocked, .long_pieces = tokenizer_has_long_pieces(t)};
    int rc = read_model_options(t, model, &options, err);
    if (rc) return rc;
    const cJSON *merges = json_member(model, "merges");
    t->bpe = bpe_open(&options, (size_t)cJSON_GetArraySize(merges));
    return read_merges(t, merges, err);
}

// ---- added tokens ----

static int read_added_token(struct tokenizer *t, const cJSON *item, int64_t id, struct err *err) {
    struct added_token token = {.normalized = true};
    struct str_view content = {0};
    int rc =
        json_check_keys(item, "an added token", "id|content|single_word|lstrip|rstrip|normalized|special|__type", err);
    if (!rc) rc = json_get_int(item, "id", 0, VOCAB_IDS_MAX - 1, &id, err);
    if (!rc) rc = json_get_text(item, "content", &content, err);
    if (!rc) rc = json_get_bool(item, "special", &token.special, err);
    token.normalized = !token.special;
    if (!rc) rc = json_get_bool(item, "normalized", &token.normalized, err);
    if (!rc) rc = json_get_bool(item, "single_word", &token.single_word, err);
    if (!rc) rc = json_get_bool(item, "lstrip", &token.strip_left, err);
    if (!rc) rc = json_get_bool(item, "rstrip", &token.strip_right, err);
    if (!rc && (id < 0 || !content.n_bytes)) rc = err_set(err, ERR_FORMAT, "it needs an id and a content");
    if (rc) return err_prefix(err, "an added token");
    token.id = (int32_t)id;
    return tokenizer_add_added(t, content, token, err);
}

static int read_added_tokens(struct tokenizer *t, const cJSON *list, struct err *err) {
    if (!list) return 0;
    if (!cJSON_IsArray(list)) return err_set(err, ERR_FORMAT, "\"added_tokens\" must be an array");
    int rc = 0;
    for (const cJSON *item = list->child; item && !rc; item = item->next) rc = read_added_token(t, item, -1, err);
    return rc;
}

static bool has_added(const struct tokenizer *t, int32_t id) {
    for (size_t i = 0; i < t->added.count; i++)
        if (t->added.items[i].id == id) return true;
    return false;
}

// tokenizer_config.json's added_tokens_decoder: {"32000": {"content": ...}}. What tokenizer.json has already stays.
static int read_config_added_tokens(struct tokenizer *t, const cJSON *config, struct err *err) {
    const cJSON *table = json_member(config, "added_tokens_decoder");
    if (!table) return 0;
    if (!cJSON_IsObject(table)) return err_set(err, ERR_FORMAT, "\"added_tokens_decoder\" must be an object");
    int rc = 0;
    for (const cJSON *item = table->child; item && !rc; item = item->next) {
        char *end;
        long id = strtol(item->string, &end, 10);
        if (end == item->string || *end || id < 0 || id >= VOCAB_IDS_MAX)
            return err_set(err, ERR_FORMAT, "\"added_tokens_decoder\" has the key \"%.32s\", which is no id",
                           item->string);
        if (!has_added(t, (int32_t)id)) rc = read_added_token(t, item, id, err);
    }
    return rc;
}

// ---- tokenizer_config.json ----

// "bos_token": "<s>" or {"content": "<s>", ...}
static int32_t named_token(const struct tokenizer *t, const cJSON *config, const char *key) {
    const cJSON *item = json_member(config, key);
    if (cJSON_IsObject(item)) item = json_member(item, "content");
    if (!cJSON_IsString(item)) return -1;
    return vocab_find(&t->vocab, item->valuestring, strlen(item->valuestring));
}

// add_bos_token and add_eos_token, where given, replace what tokenizer.json's post-processor does (as in transformers).
static int apply_config(struct tokenizer *t, const cJSON *config, struct err *err) {
    t->bos = named_token(t, config, "bos_token");
    t->eos = named_token(t, config, "eos_token");
    if (!json_member(config, "add_bos_token") && !json_member(config, "add_eos_token")) return 0;
    bool add_bos = false, add_eos = false;
    int rc = json_get_bool(config, "add_bos_token", &add_bos, err);
    if (!rc) rc = json_get_bool(config, "add_eos_token", &add_eos, err);
    if (rc) return rc;
    t->prefix.count = t->suffix.count = 0;
    if (add_bos && t->bos >= 0) vec_push(&t->prefix, t->bos);
    if (add_eos && t->eos >= 0) vec_push(&t->suffix, t->eos);
    return 0;
}

// ---- the whole ----

static int read_stages(struct tokenizer *t, const cJSON *file, struct err *err) {
    int rc = tokenizer_json_normalizer(t, json_member(file, "normalizer"), err);
    if (rc) return err_prefix(err, "\"normalizer\"");
    rc = tokenizer_json_pretokenizer(t, json_member(file, "pre_tokenizer"), err);
    if (rc) return err_prefix(err, "\"pre_tokenizer\"");
    rc = tokenizer_json_decoder(t, json_member(file, "decoder"), err);
    if (rc) return err_prefix(err, "\"decoder\"");
    rc = tokenizer_json_postprocessor(t, json_member(file, "post_processor"), err);
    if (rc) return err_prefix(err, "\"post_processor\"");
    return 0;
}

static int read_file(struct tokenizer *t, const cJSON *file, const cJSON *config, struct err *err) {
    const cJSON *model = json_member(file, "model");
    int rc = json_check_keys(
        file, "the file",
        "version|truncation|padding|added_tokens|normalizer|pre_tokenizer|post_processor|decoder|model", err);
    if (!rc && !cJSON_IsObject(model)) rc = err_set(err, ERR_FORMAT, "\"model\" must be an object");
    if (!rc) rc = check_model(model, err);
    if (!rc) rc = read_vocab(t, model, err);
    int32_t n_model = t->vocab.n_ids;
    if (!rc) rc = read_added_tokens(t, json_member(file, "added_tokens"), err);
    if (!rc && config) rc = read_config_added_tokens(t, config, err);
    if (rc) return rc;
    tokenizer_close_vocab(t, n_model);
    rc = read_stages(t, file, err);
    if (!rc) rc = read_model(t, model, err);
    if (!rc && config) rc = apply_config(t, config, err);
    return rc ? rc : tokenizer_finish(t, err);
}

// Duplicate keys are found where they matter; looking for them among 100,000 tokens here would cost more than the rest.
static int parse(cJSON **out, struct str_view text, struct err *err) {
    struct json_limits limits = JSON_LIMITS_FILE;
    limits.allow_nul = false; // cJSON's strings end there
    limits.allow_duplicates = true;
    int rc = json_parse(out, text.data, text.n_bytes, &limits, err);
    return !rc && !cJSON_IsObject(*out) ? err_set(err, ERR_FORMAT, "not an object") : rc;
}

int tokenizer_open_json(struct tokenizer **out, struct str_view tokenizer_json, struct str_view config_json,
                        struct err *err) {
    *out = NULL;
    cJSON *file = NULL, *config = NULL;
    struct tokenizer *t = tokenizer_new();
    int rc = parse(&file, tokenizer_json, err);
    if (!rc && config_json.n_bytes && parse(&config, config_json, err)) rc = err_prefix(err, "tokenizer_config.json");
    if (!rc) rc = read_file(t, file, config, err);
    cJSON_Delete(file);
    cJSON_Delete(config);
    if (rc)
        tokenizer_close(t);
    else
        *out = t;
    return rc;
}
