// Writes GGUF files in memory for tests and remembers where each count, length, type and offset stands, so that a test
// can change exactly one of them.
#pragma once

#include "base/mem.h"
#include "base/str.h"
#include "models/checkpoint.h"
#include "models/config.h"
#include "models/weights.h"

#include <stdlib.h>
#include <string.h>

struct gguf_field {
    const char *label;
    size_t at, width;
};

struct gguf_builder {
    struct str bytes;
    VEC_OF(struct gguf_field) fields;
    uint64_t data_bytes; // of the tensors so far
};

static inline void build_bytes(struct gguf_builder *b, const void *bytes, size_t n) {
    str_append(&b->bytes, bytes, n);
}

static inline void build_field(struct gguf_builder *b, const char *label, uint64_t value, size_t width) {
    struct gguf_field field = {label, b->bytes.n_bytes, width};
    vec_push(&b->fields, field);
    build_bytes(b, &value, width);
}

static inline void build_string(struct gguf_builder *b, const char *label, const char *text) {
    build_field(b, label, strlen(text), 8);
    build_bytes(b, text, strlen(text));
}

static inline void build_key(struct gguf_builder *b, const char *key, enum gguf_type type) {
    build_string(b, "key length", key);
    build_field(b, "type", type, 4);
}

static inline void build_u32(struct gguf_builder *b, const char *key, uint32_t value) {
    build_key(b, key, GGUF_U32);
    build_field(b, key, value, 4);
}

static inline void build_f32(struct gguf_builder *b, const char *key, float value) {
    build_key(b, key, GGUF_F32);
    build_bytes(b, &value, 4);
}

static inline void build_text(struct gguf_builder *b, const char *key, const char *value) {
    build_key(b, key, GGUF_STRING);
    build_string(b, "string length", value);
}

// Describes a tensor; block_bytes for `block` values of a row.
static inline void build_tensor(struct gguf_builder *b, const char *name, uint64_t n_rows, uint64_t n_cols,
                                uint32_t type, uint64_t block, uint64_t block_bytes) {
    build_string(b, "name length", name);
    build_field(b, "n_dims", n_rows ? 2 : 1, 4);
    build_field(b, "ne0", n_cols, 8);
    if (n_rows) build_field(b, "ne1", n_rows, 8);
    build_field(b, "format", type, 4);
    build_field(b, "offset", b->data_bytes, 8);
    uint64_t n_bytes = (n_rows ? n_rows : 1) * n_cols / block * block_bytes;
    b->data_bytes += (n_bytes + 31) & ~(uint64_t)31;
}

// One layer of width 32 with 2 heads, 1 key-value head and a vocabulary of 4; matrices in every format that is read.
static inline void build_tiny_gguf(struct gguf_builder *b) {
    *b = (struct gguf_builder){0};
    build_bytes(b, "GGUF", 4);
    build_field(b, "version", 3, 4);
    build_field(b, "n_tensors", 11, 8);
    build_field(b, "n_values", 14, 8);
    build_text(b, "general.architecture", "llama");
    build_u32(b, "general.alignment", 32);
    build_u32(b, "llama.context_length", 64);
    build_u32(b, "llama.embedding_length", 32);
    build_u32(b, "llama.block_count", 1);
    build_u32(b, "llama.feed_forward_length", 64);
    build_u32(b, "llama.attention.head_count", 2);
    build_u32(b, "llama.attention.head_count_kv", 1);
    build_u32(b, "llama.rope.dimension_count", 16);
    build_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    build_f32(b, "llama.rope.freq_base", 10000);
    build_u32(b, "tokenizer.ggml.eos_token_id", 2);
    build_u32(b, "tokenizer.ggml.eot_token_id", UINT32_MAX);
    build_key(b, "tokenizer.ggml.tokens", GGUF_ARRAY);
    build_field(b, "element type", GGUF_STRING, 4);
    build_field(b, "array count", 4, 8);
    build_string(b, "string length", "<unk>");
    build_string(b, "string length", "a");
    build_string(b, "string length", "</s>");
    build_string(b, "string length", "");
    build_tensor(b, "token_embd.weight", 4, 32, 0, 1, 4);
    build_tensor(b, "output_norm.weight", 0, 32, 0, 1, 4);
    build_tensor(b, "blk.0.attn_norm.weight", 0, 32, 1, 1, 2);
    build_tensor(b, "blk.0.attn_q.weight", 32, 32, 8, 32, 34);
    build_tensor(b, "blk.0.attn_k.weight", 16, 32, 2, 32, 18);
    build_tensor(b, "blk.0.attn_v.weight", 16, 32, 30, 1, 2);
    build_tensor(b, "blk.0.attn_output.weight", 32, 32, 1, 1, 2);
    build_tensor(b, "blk.0.ffn_norm.weight", 0, 32, 30, 1, 2);
    build_tensor(b, "blk.0.ffn_gate.weight", 64, 32, 8, 32, 34);
    build_tensor(b, "blk.0.ffn_up.weight", 64, 32, 2, 32, 18);
    build_tensor(b, "blk.0.ffn_down.weight", 32, 64, 0, 1, 4);
    while (b->bytes.n_bytes % 32) str_append_char(&b->bytes, 0);
    for (uint64_t i = 0; i < b->data_bytes; i++) str_append_char(&b->bytes, (char)(i * 37));
}

static inline void builder_close(struct gguf_builder *b) {
    str_close(&b->bytes);
    vec_free(&b->fields);
}

// Reads every value.
static inline void exercise_matrix(const struct tensor *matrix) {
    volatile char sum = 0;
    if (!matrix->rows) {
        const char *bytes = matrix->data;
        for (size_t i = 0; i < tensor_bytes(matrix); i++) sum = (char)(sum + bytes[i]);
        return;
    }
    const size_t n_groups = (size_t)tensor_groups(matrix->n_cols);
    struct tensor_row row = {mem_alloc(n_groups * TENSOR_GROUP), mem_alloc(n_groups * sizeof(float)),
                             mem_alloc(n_groups * sizeof(float))};
    for (int32_t r = 0; r < matrix->n_rows; r++) tensor_rows_decode(matrix, r, 1, &row);
    free(row.codes), free(row.scales), free(row.offsets);
}

// Opens bytes as a GGUF file and, as far as it goes, as a model; reads every weight. Returns what gguf_open says.
static inline int exercise_gguf(const char *data, size_t n_bytes, struct err *err) {
    struct gguf gguf;
    int rc = gguf_open(&gguf, data, n_bytes, err);
    if (rc) return rc;
    for (size_t i = 0; i < gguf.values.count; i++) {
        const struct gguf_value *value = &gguf.values.items[i];
        struct gguf_array array = {.type = value->type, .count = value->count, .next = value->data};
        struct str_view text;
        double number;
        while (gguf_array_next_string(&array, &text) || gguf_array_next_number(&array, &number)) continue;
        if (array.count) abort(); // every element was read
    }
    struct arena arena = ARENA_INIT;
    struct model_config config;
    if (config_read_gguf(&config, &arena, &gguf, NULL) == 0) {
        struct checkpoint *checkpoint;
        struct model_spec spec;
        checkpoint_open_gguf(&checkpoint, &gguf, false, "memory");
        if (weights_bind(&spec, &arena, &config, checkpoint, NULL) == 0) {
            exercise_matrix(&spec.embed);
            for (int32_t i = 0; i < spec.n_layers; i++)
                for (size_t m = 0; layer_matrix(&spec, &spec.layers[i], m); m++)
                    exercise_matrix(layer_matrix(&spec, &spec.layers[i], m));
        }
        checkpoint_close(checkpoint);
    }
    arena_close(&arena);
    gguf_close(&gguf);
    return 0;
}
