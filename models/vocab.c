#include "models/vocab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct vocab_slot {
    uint32_t hash;
    int32_t id_plus_1; // 0: free
};

// The table holds the tokens of one file and nothing that a client sends, so that its hash needs no secret.
static uint32_t hash_text(const char *bytes, size_t n_bytes) {
    uint64_t hash = n_bytes * 0x9e3779b97f4a7c15u;
    while (n_bytes > 0) {
        uint64_t word = 0;
        size_t n = n_bytes < 8 ? n_bytes : 8;
        memcpy(&word, bytes, n);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
        bytes += n;
        n_bytes -= n;
    }
    return (uint32_t)(hash ^ hash >> 29);
}

static struct vocab_slot *find_slot(const struct vocab *vocab, const char *bytes, size_t n_bytes, uint32_t hash) {
    size_t mask = vocab->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct vocab_slot *slot = &vocab->slots[i];
        if (!slot->id_plus_1) return slot;
        if (slot->hash != hash) continue;
        struct str_view text = vocab->texts[slot->id_plus_1 - 1];
        if (text.n_bytes == n_bytes && memcmp(text.data, bytes, n_bytes) == 0) return slot;
    }
}

static void resize(struct vocab *vocab, size_t capacity) {
    struct vocab_slot *old = vocab->slots;
    size_t old_capacity = vocab->capacity;
    vocab->slots = mem_alloc_zero(capacity, sizeof *vocab->slots);
    vocab->capacity = capacity;
    size_t mask = capacity - 1;
    for (size_t i = 0; i < old_capacity; i++) {
        if (!old[i].id_plus_1) continue;
        size_t at = old[i].hash & mask;
        while (vocab->slots[at].id_plus_1) at = (at + 1) & mask;
        vocab->slots[at] = old[i];
    }
    free(old);
}

void vocab_open(struct vocab *vocab, size_t expected_count) {
    *vocab = (struct vocab){.arena = ARENA_INIT};
    vocab->chunk = arena_alloc(&vocab->arena, 1); // an empty text has an address, too
    size_t capacity = 64;
    while (capacity < expected_count * 2) capacity *= 2;
    resize(vocab, capacity);
}

void vocab_close(struct vocab *vocab) {
    free(vocab->texts);
    free(vocab->slots);
    arena_close(&vocab->arena);
    *vocab = (struct vocab){0};
}

// The size of the table of texts.
static size_t texts_capacity(int32_t n_ids) {
    size_t capacity = n_ids ? 64 : 0;
    while (capacity < (size_t)n_ids) capacity *= 2;
    return capacity;
}

size_t vocab_bytes(const struct vocab *vocab) {
    return vocab->arena.n_bytes + texts_capacity(vocab->n_ids) * sizeof *vocab->texts +
           vocab->capacity * sizeof *vocab->slots;
}

// Texts lie close together, because looking them up is most of what opening a tokenizer costs.
static struct str_view copy_text(struct vocab *vocab, struct str_view text) {
    enum { CHUNK_BYTES = 64 * 1024 };
    if (vocab->chunk_left < text.n_bytes) {
        vocab->chunk_left = text.n_bytes > CHUNK_BYTES ? text.n_bytes : CHUNK_BYTES;
        vocab->chunk = arena_alloc(&vocab->arena, vocab->chunk_left);
    }
    struct str_view copy = {vocab->chunk, text.n_bytes};
    if (text.n_bytes) memcpy(vocab->chunk, text.data, text.n_bytes);
    vocab->chunk += text.n_bytes;
    vocab->chunk_left -= text.n_bytes;
    return copy;
}

static void grow_ids(struct vocab *vocab, int32_t id) {
    if (id < vocab->n_ids) return;
    int32_t old = vocab->n_ids;
    vocab->n_ids = id + 1;
    // Doubling at powers of two keeps adding ids one by one linear.
    size_t capacity = texts_capacity(vocab->n_ids), old_capacity = texts_capacity(old);
    if (capacity != old_capacity) {
        vocab->texts = mem_grow(vocab->texts, capacity, sizeof *vocab->texts);
        memset(vocab->texts + old_capacity, 0, (capacity - old_capacity) * sizeof *vocab->texts);
    }
}

bool vocab_add(struct vocab *vocab, int32_t id, struct str_view text) {
    assert(id >= 0 && id < VOCAB_IDS_MAX);
    if (id < vocab->n_ids && vocab->texts[id].data) return false;
    uint32_t hash = hash_text(text.data, text.n_bytes);
    struct vocab_slot *slot = find_slot(vocab, text.data, text.n_bytes, hash);
    if (slot->id_plus_1) return false;
    grow_ids(vocab, id);
    vocab->texts[id] = copy_text(vocab, text);
    *slot = (struct vocab_slot){hash, id + 1};
    if (text.n_bytes > vocab->token_bytes_max) vocab->token_bytes_max = text.n_bytes;
    if (++vocab->n_texts * 3 > vocab->capacity * 2) resize(vocab, vocab->capacity * 2);
    return true;
}

void vocab_add_duplicate(struct vocab *vocab, int32_t id, struct str_view text) {
    assert(id >= 0 && id < VOCAB_IDS_MAX && (id >= vocab->n_ids || !vocab->texts[id].data));
    grow_ids(vocab, id);
    vocab->texts[id] = copy_text(vocab, text);
}

int32_t vocab_find(const struct vocab *vocab, const char *bytes, size_t n_bytes) {
    if (n_bytes > vocab->token_bytes_max || !vocab->n_texts) return -1;
    return find_slot(vocab, bytes, n_bytes, hash_text(bytes, n_bytes))->id_plus_1 - 1;
}
