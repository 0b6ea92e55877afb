// The stages of tokenizer.json: normalizers, pre-tokenizers, decoders, post-processors. What is not known is refused.
#include "base/json.h"
#include "base/utf8.h"
#include "models/tokenizer_build.h"
#include "models/tokenizer_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NESTING_MAX = 8 };

static int get_type(const cJSON *object, const char **type, struct err *err) {
    *type = NULL;
    if (!cJSON_IsObject(object)) return err_set(err, ERR_FORMAT, "must be an object");
    int rc = json_get_string(object, "type", type, err);
    if (!rc && !*type) rc = err_set(err, ERR_FORMAT, "\"type\" is missing");
    return rc;
}

static int refuse_type(const char *type, struct err *err) {
    return err_set(err, ERR_UNSUPPORTED, "type \"%.64s\" is not supported", type);
}

static bool is(const char *type, const char *name) {
    return strcmp(type, name) == 0;
}

typedef int (*object_reader)(struct tokenizer *t, const cJSON *object, int nesting, struct err *err);

// {"type": "Sequence", "<key>": [...]}
static int read_sequence(struct tokenizer *t, const cJSON *object, const char *key, object_reader read, int nesting,
                         struct err *err) {
    char keys[64];
    snprintf(keys, sizeof keys, "type|%s", key);
    int rc = json_check_keys(object, "Sequence", keys, err);
    const cJSON *list = json_member(object, key);
    if (!rc && !cJSON_IsArray(list)) rc = err_set(err, ERR_FORMAT, "Sequence: \"%s\" must be an array", key);
    if (!rc && nesting >= NESTING_MAX) rc = err_set(err, ERR_LIMIT, "sequences are nested deeper than %d", NESTING_MAX);
    for (const cJSON *item = rc ? NULL : list->child; item && !rc; item = item->next)
        rc = read(t, item, nesting + 1, err);
    return rc;
}

// "pattern": {"String": " "} or {"Regex": "\\s+"}
static int read_pattern(const cJSON *object, struct pattern **out, struct err *err) {
    const cJSON *pattern = json_member(object, "pattern");
    const cJSON *kind = cJSON_IsObject(pattern) ? pattern->child : NULL;
    if (!kind || kind->next || !cJSON_IsString(kind) || !kind->valuestring[0])
        return err_set(err, ERR_FORMAT, "\"pattern\" must hold one String or Regex that is not empty");
    struct str_view text = str_view_of(kind->valuestring);
    if (is(kind->string, "String"))
        *out = pattern_open_literal(text);
    else if (is(kind->string, "Regex"))
        return pattern_open_regex(out, text, err);
    else
        return err_set(err, ERR_UNSUPPORTED, "pattern \"%.32s\" is not supported", kind->string);
    return 0;
}

static int need_text(const cJSON *object, const char *key, struct str_view *out, struct err *err) {
    *out = (struct str_view){0};
    int rc = json_get_text(object, key, out, err);
    if (!rc && !out->data) rc = err_set(err, ERR_FORMAT, "\"%s\" is missing", key);
    return rc;
}

static void copy_text(struct str *out, struct str_view text) {
    str_append(out, text.data, text.n_bytes);
}

// ---- normalizers ----

static bool find_form(const char *type, struct normal_form *form) {
    static const struct {
        const char *type;
        struct normal_form form;
    } forms[] = {{"NFC", {false, true}}, {"NFD", {false, false}}, {"NFKC", {true, true}}, {"NFKD", {true, false}}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (!is(type, forms[i].type)) continue;
        *form = forms[i].form;
        return true;
    }
    return false;
}

static int read_normalizer(struct tokenizer *t, const cJSON *object, int nesting, struct err *err) {
    const char *type;
    int rc = get_type(object, &type, err);
    if (rc) return rc;
    if (is(type, "Sequence")) return read_sequence(t, object, "normalizers", read_normalizer, nesting, err);
    struct normalizer_step step = {0};
    struct str_view content = {0};
    if (find_form(type, &step.form)) {
        step.kind = NORMALIZER_FORM;
        rc = json_check_keys(object, type, "type", err);
    } else if (is(type, "Lowercase") || is(type, "StripAccents")) {
        step.kind = is(type, "Lowercase") ? NORMALIZER_LOWERCASE : NORMALIZER_STRIP_ACCENTS;
        rc = json_check_keys(object, type, "type", err);
    } else if (is(type, "Strip")) {
        step = (struct normalizer_step){.kind = NORMALIZER_STRIP, .strip_left = true, .strip_right = true};
        rc = json_check_keys(object, type, "type|strip_left|strip_right", err);
        if (!rc) rc = json_get_bool(object, "strip_left", &step.strip_left, err);
        if (!rc) rc = json_get_bool(object, "strip_right", &step.strip_right, err);
    } else if (is(type, "Prepend")) {
        step.kind = NORMALIZER_PREPEND;
        rc = json_check_keys(object, type, "type|prepend", err);
        if (!rc) rc = need_text(object, "prepend", &content, err);
    } else if (is(type, "Replace")) {
        step.kind = NORMALIZER_REPLACE;
        rc = json_check_keys(object, type, "type|pattern|content", err);
        if (!rc) rc = need_text(object, "content", &content, err);
        if (!rc) rc = read_pattern(object, &step.pattern, err);
    } else {
        return refuse_type(type, err);
    }
    if (rc) return err_prefix(err, "%s", type);
    copy_text(&step.content, content);
    return normalizer_add(&t->normalizer, step, err);
}

int tokenizer_json_normalizer(struct tokenizer *t, const cJSON *object, struct err *err) {
    return object ? read_normalizer(t, object, 0, err) : 0;
}

// ---- pre-tokenizers ----

static int read_behavior(const cJSON *object, enum split_behavior *out, struct err *err) {
    static const char *const names[] = {
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const char *name = NULL;
    int rc = json_get_string(object, "behavior", &name, err);
    if (rc || !name) return rc;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!is(name, names[i])) continue;
        *out = (enum split_behavior)i;
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "behavior \"%.32s\" is not supported", name);
}

static int read_split(struct tokenizer *t, const cJSON *object, struct err *err) {
    struct pretokenizer_stage stage = {.kind = PRETOKENIZER_SPLIT, .behavior = SPLIT_REMOVED};
    int rc = json_check_keys(object, "Split", "type|pattern|behavior|invert", err);
    if (!rc && !json_member(object, "behavior")) rc = err_set(err, ERR_FORMAT, "\"behavior\" is missing");
    if (!rc) rc = read_behavior(object, &stage.behavior, err);
    if (!rc) rc = json_get_bool(object, "invert", &stage.inverted, err);
    if (!rc) rc = read_pattern(object, &stage.pattern, err);
    return rc ? rc : pretokenizer_add(&t->pretokenizer, stage, err);
}

static int add_class_split(struct tokenizer *t, enum pattern_name name, enum split_behavior behavior, bool inverted,
                           struct err *err) {
    struct pretokenizer_stage stage = {PRETOKENIZER_SPLIT, pattern_open_named(name), behavior, .inverted = inverted};
    return pretokenizer_add(&t->pretokenizer, stage, err);
}

static int read_byte_level(struct tokenizer *t, const cJSON *object, struct err *err) {
    bool space_in_front = true, use_regex = true;
    int rc = json_check_keys(object, "ByteLevel", "type|add_prefix_space|trim_offsets|use_regex", err);
    if (!rc) rc = json_get_bool(object, "add_prefix_space", &space_in_front, err);
    if (!rc) rc = json_get_bool(object, "use_regex", &use_regex, err);
    if (!rc && space_in_front)
        rc = pretokenizer_add(&t->pretokenizer, (struct pretokenizer_stage){.kind = PRETOKENIZER_SPACE_IN_FRONT}, err);
    if (!rc && use_regex) rc = add_class_split(t, PATTERN_GPT2, SPLIT_ISOLATED, false, err);
    return rc ? rc
              : pretokenizer_add(&t->pretokenizer, (struct pretokenizer_stage){.kind = PRETOKENIZER_BYTE_MAP}, err);
}

struct metaspace {
    struct str_view mark;
    enum metaspace_scheme scheme;
    bool split;
};

// Shared by the pre-tokenizer and the decoder.
static int read_metaspace_fields(const cJSON *object, struct metaspace *out, struct err *err) {
    *out = (struct metaspace){.scheme = METASPACE_ALWAYS, .split = true};
    const char *scheme = NULL;
    bool in_front = true;
    int rc =
        json_check_keys(object, "Metaspace", "type|replacement|str_rep|add_prefix_space|prepend_scheme|split", err);
    if (!rc) rc = need_text(object, "replacement", &out->mark, err);
    if (!rc) rc = json_get_string(object, "prepend_scheme", &scheme, err);
    if (!rc) rc = json_get_bool(object, "add_prefix_space", &in_front, err);
    if (!rc) rc = json_get_bool(object, "split", &out->split, err);
    if (rc) return rc;
    if (utf8_length(out->mark.data, out->mark.n_bytes) != 1)
        return err_set(err, ERR_FORMAT, "\"replacement\" must be one character");
    if (!scheme)
        out->scheme = in_front ? METASPACE_ALWAYS : METASPACE_NEVER;
    else if (is(scheme, "always") && in_front)
        out->scheme = METASPACE_ALWAYS;
    else if (is(scheme, "first") && in_front)
        out->scheme = METASPACE_FIRST;
    else if (is(scheme, "never") || is(scheme, "always"))
        out->scheme = METASPACE_NEVER;
    else
        return err_set(err, ERR_UNSUPPORTED, "prepend_scheme \"%.32s\" is not supported here", scheme);
    return 0;
}

static int read_metaspace(struct tokenizer *t, const cJSON *object, struct err *err) {
    struct metaspace m;
    int rc = read_metaspace_fields(object, &m, err);
    struct pretokenizer_stage stage = {.kind = PRETOKENIZER_METASPACE, .mark = m.mark, .scheme = m.scheme};
    if (!rc) rc = pretokenizer_add(&t->pretokenizer, stage, err);
    if (rc || !m.split) return rc;
    struct pretokenizer_stage cut = {
        .kind = PRETOKENIZER_SPLIT, .pattern = pattern_open_literal(m.mark), .behavior = SPLIT_MERGED_WITH_NEXT};
    return pretokenizer_add(&t->pretokenizer, cut, err);
}

static int read_digits(struct tokenizer *t, const cJSON *object, struct err *err) {
    bool individual = false;
    int rc = json_check_keys(object, "Digits", "type|individual_digits", err);
    if (!rc) rc = json_get_bool(object, "individual_digits", &individual, err);
    return rc ? rc : add_class_split(t, individual ? PATTERN_DIGIT : PATTERN_DIGITS, SPLIT_ISOLATED, false, err);
}

static int read_punctuation(struct tokenizer *t, const cJSON *object, struct err *err) {
    enum split_behavior behavior = SPLIT_ISOLATED;
    int rc = json_check_keys(object, "Punctuation", "type|behavior", err);
    if (!rc) rc = read_behavior(object, &behavior, err);
    return rc ? rc : add_class_split(t, PATTERN_PUNCTUATION, behavior, false, err);
}

static int read_pretokenizer(struct tokenizer *t, const cJSON *object, int nesting, struct err *err) {
    const char *type;
    int rc = get_type(object, &type, err);
    if (rc) return rc;
    if (is(type, "Sequence")) return read_sequence(t, object, "pretokenizers", read_pretokenizer, nesting, err);
    if (is(type, "Split"))
        rc = read_split(t, object, err);
    else if (is(type, "ByteLevel"))
        rc = read_byte_level(t, object, err);
    else if (is(type, "Metaspace"))
        rc = read_metaspace(t, object, err);
    else if (is(type, "Digits"))
        rc = read_digits(t, object, err);
    else if (is(type, "Punctuation"))
        rc = read_punctuation(t, object, err);
    else if (is(type, "Whitespace") && !(rc = json_check_keys(object, type, "type", err)))
        rc = add_class_split(t, PATTERN_WORDS, SPLIT_REMOVED, true, err);
    else if (is(type, "WhitespaceSplit") && !(rc = json_check_keys(object, type, "type", err)))
        rc = add_class_split(t, PATTERN_SPACE, SPLIT_REMOVED, false, err);
    else if (!rc)
        return refuse_type(type, err);
    return rc ? err_prefix(err, "%s", type) : 0;
}

int tokenizer_json_pretokenizer(struct tokenizer *t, const cJSON *object, struct err *err) {
    return object ? read_pretokenizer(t, object, 0, err) : 0;
}

// ---- decoders ----

// Steps after the point where tokens have become bytes, or one text, would no longer work on one token at a time.
static int refuse_after_bytes(const struct tokenizer *t, const char *type, struct err *err) {
    const struct decoder *d = &t->decoder;
    bool bytes = d->is_fused || (d->n_steps && d->steps[d->n_steps - 1].kind <= DECODER_BYTE_FALLBACK);
    return bytes ? err_set(err, ERR_UNSUPPORTED, "%s is not supported at this place in the sequence", type) : 0;
}

static int read_strip(struct tokenizer *t, const cJSON *object, struct err *err) {
    enum { STRIP_MAX = 1000 };
    struct decoder *d = &t->decoder;
    struct str_view content;
    int64_t start = 0, stop = 0;
    int rc = json_check_keys(object, "Strip", "type|content|start|stop", err);
    if (!rc) rc = need_text(object, "content", &content, err);
    if (!rc) rc = json_get_int(object, "start", 0, STRIP_MAX, &start, err);
    if (!rc) rc = json_get_int(object, "stop", 0, STRIP_MAX, &stop, err);
    if (!rc && utf8_length(content.data, content.n_bytes) != 1)
        rc = err_set(err, ERR_FORMAT, "\"content\" must be one character");
    if (rc) return rc;
    if (!d->is_fused) {
        rc = refuse_after_bytes(t, "Strip", err);
        struct decoder_step step = {.kind = DECODER_STRIP, .start = (size_t)start, .stop = (size_t)stop};
        if (rc) return rc;
        copy_text(&step.content, content);
        return decoder_add(d, step, err);
    }
    if (stop || d->strip_count)
        return err_set(err, ERR_UNSUPPORTED, "stripping the end of the whole text is not supported");
    memcpy(d->strip_bytes, content.data, content.n_bytes);
    d->strip = (struct str_view){d->strip_bytes, content.n_bytes};
    d->strip_count = (size_t)start;
    return 0;
}

static int read_metaspace_decoder(struct tokenizer *t, const cJSON *object, struct err *err) {
    struct metaspace m;
    int rc = read_metaspace_fields(object, &m, err);
    if (rc) return rc;
    struct decoder_step step = {.kind = DECODER_METASPACE, .keeps_first = m.scheme == METASPACE_NEVER};
    copy_text(&step.content, m.mark);
    return decoder_add(&t->decoder, step, err);
}

static int read_replace_decoder(struct tokenizer *t, const cJSON *object, struct err *err) {
    struct decoder_step step = {.kind = DECODER_REPLACE};
    struct str_view content;
    int rc = json_check_keys(object, "Replace", "type|pattern|content", err);
    if (!rc) rc = need_text(object, "content", &content, err);
    if (!rc) rc = read_pattern(object, &step.pattern, err);
    if (rc) return rc;
    copy_text(&step.content, content);
    return decoder_add(&t->decoder, step, err);
}

static int read_decoder(struct tokenizer *t, const cJSON *object, int nesting, struct err *err) {
    const char *type;
    int rc = get_type(object, &type, err);
    if (rc) return rc;
    if (is(type, "Sequence")) return read_sequence(t, object, "decoders", read_decoder, nesting, err);
    if (is(type, "Fuse")) {
        t->decoder.is_fused = true;
        return json_check_keys(object, type, "type", err);
    }
    if (is(type, "Strip")) {
        rc = read_strip(t, object, err);
        return rc ? err_prefix(err, "Strip") : 0;
    }
    if (!is(type, "ByteLevel") && !is(type, "ByteFallback") && !is(type, "Metaspace") && !is(type, "Replace"))
        return refuse_type(type, err);
    rc = refuse_after_bytes(t, type, err);
    if (rc) return rc;
    if (is(type, "ByteLevel")) {
        rc = json_check_keys(object, type, "type|add_prefix_space|trim_offsets|use_regex", err);
        if (!rc) rc = decoder_add(&t->decoder, (struct decoder_step){.kind = DECODER_BYTE_MAP}, err);
        t->decoder.is_fused = true;
    } else if (is(type, "ByteFallback")) {
        rc = json_check_keys(object, type, "type", err);
        if (!rc) rc = decoder_add(&t->decoder, (struct decoder_step){.kind = DECODER_BYTE_FALLBACK}, err);
    } else if (is(type, "Metaspace")) {
        rc = read_metaspace_decoder(t, object, err);
    } else {
        rc = read_replace_decoder(t, object, err);
    }
    return rc ? err_prefix(err, "%s", type) : 0;
}

int tokenizer_json_decoder(struct tokenizer *t, const cJSON *object, struct err *err) {
    t->decoder.joins_with_space = !object;
    return object ? read_decoder(t, object, 0, err) : 0;
}

// ---- post-processors ----

static int check_id(const struct tokenizer *t, const cJSON *item, int32_t *id, struct err *err) {
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value < t->vocab.n_ids) || value != (double)(int32_t)value)
        return err_set(err, ERR_FORMAT, "a special token's id is not in the vocabulary");
    *id = (int32_t)value;
    return 0;
}

// The ids of one {"SpecialToken": {"id": "<s>", "type_id": 0}}, looked up in "special_tokens".
static int push_template_token(const struct tokenizer *t, const cJSON *object, const cJSON *piece, token_vec *out,
                               struct err *err) {
    const char *name = NULL;
    int rc = json_get_string(piece, "id", &name, err);
    if (rc) return rc;
    const cJSON *tokens = json_member(object, "special_tokens");
    const cJSON *ids = name ? json_member(json_member(tokens, name), "ids") : NULL;
    if (!cJSON_IsArray(ids)) return err_set(err, ERR_FORMAT, "a special token of the template is not described");
    for (const cJSON *item = ids->child; item; item = item->next) {
        int32_t id;
        rc = check_id(t, item, &id, err);
        if (rc) return rc;
        vec_push(out, id);
    }
    return 0;
}

static int read_template_pieces(const struct tokenizer *t, const cJSON *object, token_vec *before, token_vec *after,
                                struct err *err) {
    const cJSON *single = json_member(object, "single");
    if (!cJSON_IsArray(single)) return err_set(err, ERR_FORMAT, "\"single\" must be an array");
    int n_texts = 0, rc = 0;
    for (const cJSON *item = single->child; item && !rc; item = item->next) {
        const cJSON *token = json_member(item, "SpecialToken"), *text = json_member(item, "Sequence");
        const char *id = NULL;
        if (token)
            rc = push_template_token(t, object, token, n_texts ? after : before, err);
        else if (text)
            rc = json_get_string(text, "id", &id, err);
        if (!rc && !token && (!id || !is(id, "A")))
            rc = err_set(err, ERR_UNSUPPORTED, "\"single\" holds something else than special tokens and text A");
        n_texts += text != NULL;
    }
    if (!rc && n_texts != 1) rc = err_set(err, ERR_UNSUPPORTED, "\"single\" must hold text A once");
    return rc;
}

// An inner processor's tokens stand nearer to the text.
static void wrap(struct tokenizer *t, const token_vec *before, const token_vec *after) {
    token_vec prefix = {0};
    for (size_t i = 0; i < before->count; i++) vec_push(&prefix, before->items[i]);
    for (size_t i = 0; i < t->prefix.count; i++) vec_push(&prefix, t->prefix.items[i]);
    vec_free(&t->prefix);
    t->prefix = prefix;
    for (size_t i = 0; i < after->count; i++) vec_push(&t->suffix, after->items[i]);
}

static int read_template(struct tokenizer *t, const cJSON *object, struct err *err) {
    token_vec before = {0}, after = {0};
    int rc = json_check_keys(object, "TemplateProcessing", "type|single|pair|special_tokens", err);
    if (!rc) rc = read_template_pieces(t, object, &before, &after, err);
    if (!rc) wrap(t, &before, &after);
    vec_free(&before);
    vec_free(&after);
    return rc;
}

// "cls": ["<s>", 0]
static int read_named_id(const struct tokenizer *t, const cJSON *object, const char *key, token_vec *out,
                         struct err *err) {
    const cJSON *pair = json_member(object, key);
    int32_t id;
    if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2)
        return err_set(err, ERR_FORMAT, "\"%s\" must be a token and its id", key);
    int rc = check_id(t, pair->child->next, &id, err);
    if (!rc) vec_push(out, id);
    return rc;
}

static int read_cls_sep(struct tokenizer *t, const cJSON *object, struct err *err) {
    token_vec before = {0}, after = {0};
    int rc = json_check_keys(object, "it", "type|sep|cls|trim_offsets|add_prefix_space", err);
    if (!rc) rc = read_named_id(t, object, "cls", &before, err);
    if (!rc) rc = read_named_id(t, object, "sep", &after, err);
    if (!rc) wrap(t, &before, &after);
    vec_free(&before);
    vec_free(&after);
    return rc;
}

static int read_postprocessor(struct tokenizer *t, const cJSON *object, int nesting, struct err *err) {
    const char *type;
    int rc = get_type(object, &type, err);
    if (rc) return rc;
    if (is(type, "Sequence")) return read_sequence(t, object, "processors", read_postprocessor, nesting, err);
    if (is(type, "ByteLevel"))
        return json_check_keys(object, type, "type|add_prefix_space|trim_offsets|use_regex", err);
    if (is(type, "TemplateProcessing"))
        rc = read_template(t, object, err);
    else if (is(type, "RobertaProcessing") || is(type, "BertProcessing"))
        rc = read_cls_sep(t, object, err);
    else
        return refuse_type(type, err);
    return rc ? err_prefix(err, "%s", type) : 0;
}

int tokenizer_json_postprocessor(struct tokenizer *t, const cJSON *object, struct err *err) {
    return object ? read_postprocessor(t, object, 0, err) : 0;
}
