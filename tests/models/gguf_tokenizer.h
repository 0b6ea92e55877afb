// A GGUF file in memory that holds nothing but a tokenizer.
#pragma once

#include "tests/models/gguf_builder.h"

struct gguf_token {
    const char *text;
    float score;
    int type; // as in tokenizer.ggml.token_type
};

struct gguf_tokenizer {
    const char *model, *pre; // pre: NULL to leave it out
    const struct gguf_token *tokens;
    size_t n_tokens;
    const char *const *merges; // n_merges 0: no key
    size_t n_merges;
    uint32_t bos, eos;
};

static inline void build_array(struct gguf_builder *b, const char *key, enum gguf_type type, size_t count) {
    build_key(b, key, GGUF_ARRAY);
    build_field(b, "element type", type, 4);
    build_field(b, "array count", count, 8);
}

static inline void build_tokenizer_gguf(struct gguf_builder *b, const struct gguf_tokenizer *t) {
    *b = (struct gguf_builder){0};
    build_bytes(b, "GGUF", 4);
    build_field(b, "version", 3, 4);
    build_field(b, "n_tensors", 0, 8);
    build_field(b, "n_values", (t->pre ? 7u : 6u) + (t->n_merges ? 1u : 0u), 8);
    build_text(b, "tokenizer.ggml.model", t->model);
    if (t->pre) build_text(b, "tokenizer.ggml.pre", t->pre);
    build_u32(b, "tokenizer.ggml.bos_token_id", t->bos);
    build_u32(b, "tokenizer.ggml.eos_token_id", t->eos);
    build_array(b, "tokenizer.ggml.tokens", GGUF_STRING, t->n_tokens);
    for (size_t i = 0; i < t->n_tokens; i++) build_string(b, "string length", t->tokens[i].text);
    build_array(b, "tokenizer.ggml.scores", GGUF_F32, t->n_tokens);
    for (size_t i = 0; i < t->n_tokens; i++) build_bytes(b, &t->tokens[i].score, 4);
    build_array(b, "tokenizer.ggml.token_type", GGUF_I32, t->n_tokens);
    for (size_t i = 0; i < t->n_tokens; i++) build_field(b, "token type", (uint64_t)t->tokens[i].type, 4);
    if (!t->n_merges) return;
    build_array(b, "tokenizer.ggml.merges", GGUF_STRING, t->n_merges);
    for (size_t i = 0; i < t->n_merges; i++) build_string(b, "string length", t->merges[i]);
}

#define SPACE_MARK "\xe2\x96\x81"

// <s>, </s>, two bytes, and pieces whose scores disagree with their order.
static const struct gguf_token small_pieces[] = {
    {"<unk>", 0, 2},         {"<s>", 0, 3},  {"</s>", 0, 3}, {"<0x41>", 0, 6}, {"<0xC3>", 0, 6}, {"<0xA9>", 0, 6},
    {SPACE_MARK, -9, 1},     {"a", -8, 1},   {"b", -7, 1},   {"ab", -3, 1},    {"ba", -2, 1},    {"aba", -5, 1},
    {SPACE_MARK "a", -4, 1}, {"bab", -6, 5}, {"<", -10, 1},  {"s", -11, 1},    {">", -12, 1},    {"<s", -1, 1},
    {"[m]", 0, 4},
};
static const struct gguf_tokenizer small_sentencepiece = {.model = "llama",
                                                          .tokens = small_pieces,
                                                          .n_tokens = sizeof small_pieces / sizeof *small_pieces,
                                                          .bos = 1,
                                                          .eos = 2};

static const struct gguf_token small_words[] = {{"a", 0, 1},
                                                {"b", 0, 1},
                                                {"\xc4\xa0", 0, 1},
                                                {"ab", 0, 1},
                                                {"\xc4\xa0"
                                                 "ab",
                                                 0, 1},
                                                {"<|end|>", 0, 3},
                                                {"1", 0, 1},
                                                {"11", 0, 1}};
static const char *const small_merges[] = {"a b", "\xc4\xa0 ab", "1 1"};
static const struct gguf_tokenizer small_byte_level = {.model = "gpt2",
                                                       .pre = "qwen2",
                                                       .tokens = small_words,
                                                       .n_tokens = sizeof small_words / sizeof *small_words,
                                                       .merges = small_merges,
                                                       .n_merges = 3,
                                                       .bos = UINT32_MAX,
                                                       .eos = 5};
