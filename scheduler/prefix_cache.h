// Finds blocks by their contents: a full block is known by its tokens and by all tokens before it.
//
// An entry is identified by (owner, salt, parent entry, tokens), compared in full, and entry ids are never used twice:
// two sequences share a block only when their whole prefixes are equal, whatever hashes collide. Owner and salt keep
// the prefixes of different keys apart. One entry a block at most. Thread: the step thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// PREFIX_ROOT is the parent of a sequence's first block.
enum { PREFIX_NONE = 0, PREFIX_ROOT = 1 };

struct prefix_entry {
    uint64_t id; // PREFIX_NONE: the block has no entry
    uint64_t parent, owner, salt;
    int32_t next; // block of the next entry in the bucket; -1: last
};

struct prefix_cache {
    int32_t n_blocks, block_tokens, n_entries;
    uint64_t next_id;
    uint64_t bucket_mask;
    int32_t *buckets;             // first block of each bucket; -1: empty
    struct prefix_entry *entries; // [n_blocks]
    int32_t *tokens;              // [n_blocks, block_tokens]
};

struct prefix_key {
    uint64_t parent; // entry of the block before, or PREFIX_ROOT
    uint64_t owner, salt;
    const int32_t *tokens; // [block_tokens]
};

void prefix_cache_open(struct prefix_cache *cache, int32_t n_blocks, int32_t block_tokens);
void prefix_cache_close(struct prefix_cache *cache);
size_t prefix_cache_bytes(const struct prefix_cache *cache); // of memory, when it is full

// The block with these contents, -1 when there is none; *id: its entry, the parent of the block that follows.
int32_t prefix_cache_find(const struct prefix_cache *cache, const struct prefix_key *key, uint64_t *id);

// Adds an entry for a block that has none. The contents must not be there yet. Returns its id.
uint64_t prefix_cache_add(struct prefix_cache *cache, const struct prefix_key *key, int32_t block);

// Forgets a block that has an entry.
void prefix_cache_remove(struct prefix_cache *cache, int32_t block);

// Asserts that the entries are exactly those of the blocks with cached[block], each in the right bucket, once.
void prefix_cache_check_integrity(const struct prefix_cache *cache, const bool *cached);
