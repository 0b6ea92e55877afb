#include "server/logprobs_json.h"

#include "base/json.h"
#include "base/utf8.h"

#include <math.h>
#include <string.h>

enum { PART_TOKENS, PART_TOKEN_LOGPROBS, PART_TOP_LOGPROBS, PART_TEXT_OFFSET, N_PARTS };

void logprobs_json_close(struct logprobs_json *json) {
    for (int i = 0; i < N_PARTS; i++) str_close(&json->parts[i]);
}

size_t logprobs_json_bytes(const struct logprobs_json *json) {
    size_t n = 0;
    for (int i = 0; i < N_PARTS; i++) n += json->parts[i].n_bytes;
    return n;
}

// JSON has no infinities; clients know -9999 as "almost impossible". A logprob above 0 is rounding.
static void append_logprob(struct str *out, float logprob) {
    if (!(logprob > -9999))
        str_append_text(out, "-9999");
    else
        str_printf(out, "%.9g", logprob < 0 ? (double)logprob : 0.0);
}

static void append_entry(struct str *out, const struct tokenizer *tokenizer, int32_t token, float logprob) {
    struct str bytes = STR_INIT;
    tokenizer_token_bytes(tokenizer, token, &bytes);
    str_append_text(out, "{\"token\":");
    json_append_string(out, str_text(&bytes), bytes.n_bytes);
    str_append_text(out, ",\"logprob\":");
    append_logprob(out, logprob);
    str_append_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < bytes.n_bytes; i++) str_printf(out, i ? ",%u" : "%u", (unsigned char)bytes.data[i]);
    str_append_char(out, ']');
    str_close(&bytes);
}

static void add_chat(struct logprobs_json *json, int32_t token, const struct sample_result *sample) {
    struct str *out = &json->parts[0];
    append_entry(out, json->tokenizer, token, sample ? sample->logprob : 0);
    str_append_text(out, ",\"top_logprobs\":[");
    for (int32_t i = 0; sample && i < sample->n_top && i < json->n_top; i++) {
        if (i) str_append_char(out, ',');
        append_entry(out, json->tokenizer, sample->top_token[i], sample->top_logprob[i]);
        str_append_char(out, '}');
    }
    str_append_text(out, "]}");
}

// A token's text as a JSON string; bytes that are no text are spelled out, as in "bytes:\xf0\x9f".
static void append_token_text(struct str *out, const struct tokenizer *tokenizer, int32_t token) {
    struct str bytes = STR_INIT;
    tokenizer_token_bytes(tokenizer, token, &bytes);
    if (!utf8_is_valid(str_text(&bytes), bytes.n_bytes)) {
        struct str spelled = STR_INIT;
        str_append_text(&spelled, "bytes:");
        for (size_t i = 0; i < bytes.n_bytes; i++) str_printf(&spelled, "\\x%02x", (unsigned char)bytes.data[i]);
        str_close(&bytes);
        bytes = spelled;
    }
    json_append_string(out, str_text(&bytes), bytes.n_bytes);
    str_close(&bytes);
}

// Adds "text":logprob unless the object, which begins at byte `begin` of out, has that text already: then the entry
// that came first, which is the more probable one, stays.
static void add_alternative(struct str *out, size_t begin, const struct tokenizer *tokenizer, int32_t token,
                            float logprob) {
    struct str key = STR_INIT; // with the comma in front: inside a string a quote never follows a comma bare
    str_append_char(&key, ',');
    append_token_text(&key, tokenizer, token);
    str_append_char(&key, ':');
    size_t n_there = out->n_bytes - begin;
    bool is_first = n_there >= key.n_bytes && memcmp(out->data + begin + 1, key.data + 1, key.n_bytes - 1) == 0;
    if (!is_first && !memmem(out->data + begin, n_there, key.data, key.n_bytes)) {
        str_append(out, key.data + (n_there == 1), key.n_bytes - (n_there == 1));
        append_logprob(out, logprob);
    }
    str_close(&key);
}

static void add_completions(struct logprobs_json *json, int32_t token, const struct sample_result *sample) {
    if (json->n_tokens)
        for (int i = 0; i < N_PARTS; i++) str_append_char(&json->parts[i], ',');
    str_printf(&json->parts[PART_TEXT_OFFSET], "%llu", (unsigned long long)json->offset);
    append_token_text(&json->parts[PART_TOKENS], json->tokenizer, token);
    struct str bytes = STR_INIT;
    detokenizer_push(&json->text, token, &bytes);
    json->offset += utf8_length(str_text(&bytes), bytes.n_bytes);
    str_close(&bytes);
    struct str *top = &json->parts[PART_TOP_LOGPROBS];
    if (!sample) {
        str_append_text(&json->parts[PART_TOKEN_LOGPROBS], "null");
        str_append_text(top, "null");
        return;
    }
    append_logprob(&json->parts[PART_TOKEN_LOGPROBS], sample->logprob);
    size_t begin = top->n_bytes;
    str_append_char(top, '{');
    for (int32_t i = 0; i < sample->n_top && i < json->n_top; i++)
        add_alternative(top, begin, json->tokenizer, sample->top_token[i], sample->top_logprob[i]);
    add_alternative(top, begin, json->tokenizer, token, sample->logprob);
    str_append_char(top, '}');
}

void logprobs_json_add(struct logprobs_json *json, int32_t token, const struct sample_result *sample) {
    if (json->chat) {
        if (json->n_tokens) str_append_char(&json->parts[0], ',');
        add_chat(json, token, sample);
    } else {
        add_completions(json, token, sample);
    }
    json->n_tokens++;
}

void logprobs_json_write(struct logprobs_json *json, struct str *out) {
    static const char *const chat_keys[] = {"{\"content\":["};
    static const char *const completions_keys[] = {"{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[",
                                                   "],\"text_offset\":["};
    for (int i = 0; i < (json->chat ? 1 : N_PARTS); i++) {
        str_append_text(out, json->chat ? chat_keys[i] : completions_keys[i]);
        str_append(out, str_text(&json->parts[i]), json->parts[i].n_bytes);
        str_clear(&json->parts[i]);
    }
    str_append_text(out, json->chat ? "],\"refusal\":null}" : "]}");
    json->n_tokens = 0;
}

static void append_ranked(struct str *out, const struct tokenizer *tokenizer, int32_t token, float logprob,
                          int32_t rank) {
    str_printf(out, "\"%d\":{\"logprob\":", token);
    append_logprob(out, logprob);
    str_printf(out, ",\"rank\":%d", rank);
    str_append_text(out, ",\"decoded_token\":");
    append_token_text(out, tokenizer, token);
    str_append_char(out, '}');
}

void prompt_logprobs_append(struct str *out, const struct tokenizer *tokenizer, const struct sample_result *sample,
                            int32_t n_top) {
    bool is_listed = false;
    str_append_char(out, '{');
    for (int32_t i = 0; i < sample->n_top && i < n_top; i++) {
        if (i) str_append_char(out, ',');
        append_ranked(out, tokenizer, sample->top_token[i], sample->top_logprob[i], i + 1);
        is_listed |= sample->top_token[i] == sample->token;
    }
    if (!is_listed) {
        if (sample->n_top && n_top) str_append_char(out, ',');
        append_ranked(out, tokenizer, sample->token, sample->logprob, sample->rank);
    }
    str_append_char(out, '}');
}
