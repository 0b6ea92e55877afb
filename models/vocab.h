// The tokens of a tokenizer: id to text and text to id. Texts are as in the file ("Ġthe", "▁the", "<0x0A>").
//
// Owner: the tokenizer, which fills it while opening; read-only afterwards.
#pragma once

#include "base/mem.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct vocab_slot;

struct vocab {
    struct str_view *texts; // [n_ids]; data == NULL: the id is not used
    int32_t n_ids;
    size_t n_texts; // ids that have a text
    struct vocab_slot *slots;
    size_t capacity; // of slots, a power of two
    size_t token_bytes_max;
    struct arena arena; // holds the texts
    char *chunk;        // of the arena, where the next text goes
    size_t chunk_left;
};

enum { VOCAB_IDS_MAX = 1 << 22 };

void vocab_open(struct vocab *vocab, size_t expected_count);
void vocab_close(struct vocab *vocab);
// Copies the text. False when the id (at most VOCAB_IDS_MAX - 1) or the text is there already.
bool vocab_add(struct vocab *vocab, int32_t id, struct str_view text);
// Gives an unused id a text that vocab_find does not find under it, because another id has the same text.
void vocab_add_duplicate(struct vocab *vocab, int32_t id, struct str_view text);
size_t vocab_bytes(const struct vocab *vocab); // of memory
// The id of exactly this text, or -1.
int32_t vocab_find(const struct vocab *vocab, const char *bytes, size_t n_bytes);
