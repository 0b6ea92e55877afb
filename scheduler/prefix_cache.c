#include "scheduler/prefix_cache.h"

#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void prefix_cache_open(struct prefix_cache *cache, int32_t n_blocks, int32_t block_tokens) {
    size_t n_buckets = 1;
    while (n_buckets < (size_t)n_blocks) n_buckets *= 2;
    *cache = (struct prefix_cache){.n_blocks = n_blocks,
                                   .block_tokens = block_tokens,
                                   .next_id = PREFIX_ROOT + 1,
                                   .bucket_mask = n_buckets - 1,
                                   .buckets = mem_alloc_zero(n_buckets, sizeof(int32_t)),
                                   .entries = mem_alloc_zero((size_t)n_blocks, sizeof(struct prefix_entry)),
                                   .tokens = mem_alloc_zero((size_t)n_blocks * (size_t)block_tokens, sizeof(int32_t))};
    for (size_t i = 0; i < n_buckets; i++) cache->buckets[i] = -1;
}

void prefix_cache_close(struct prefix_cache *cache) {
    free(cache->buckets);
    free(cache->entries);
    free(cache->tokens);
    *cache = (struct prefix_cache){0};
}

size_t prefix_cache_bytes(const struct prefix_cache *cache) {
    size_t block_bytes = sizeof *cache->entries + (size_t)cache->block_tokens * sizeof *cache->tokens;
    return (size_t)cache->n_blocks * block_bytes + (cache->bucket_mask + 1) * sizeof *cache->buckets;
}

static int32_t *block_tokens(const struct prefix_cache *cache, int32_t block) {
    return cache->tokens + (size_t)block * (size_t)cache->block_tokens;
}

static int32_t *bucket_of(const struct prefix_cache *cache, const struct prefix_key *key) {
    uint64_t hash = hash_bytes_seeded(key->tokens, (size_t)cache->block_tokens * sizeof(int32_t));
    hash = rng_mix64(hash ^ rng_mix64(key->parent ^ rng_mix64(key->owner ^ rng_mix64(key->salt))));
    return &cache->buckets[hash & cache->bucket_mask];
}

int32_t prefix_cache_find(const struct prefix_cache *cache, const struct prefix_key *key, uint64_t *id) {
    size_t n_bytes = (size_t)cache->block_tokens * sizeof(int32_t);
    for (int32_t block = *bucket_of(cache, key); block >= 0; block = cache->entries[block].next) {
        const struct prefix_entry *entry = &cache->entries[block];
        if (entry->parent != key->parent || entry->owner != key->owner || entry->salt != key->salt) continue;
        if (memcmp(block_tokens(cache, block), key->tokens, n_bytes) != 0) continue;
        *id = entry->id;
        return block;
    }
    return -1;
}

uint64_t prefix_cache_add(struct prefix_cache *cache, const struct prefix_key *key, int32_t block) {
    assert(block >= 0 && block < cache->n_blocks && cache->entries[block].id == PREFIX_NONE);
    assert(key->parent != PREFIX_NONE);
    int32_t *bucket = bucket_of(cache, key);
    cache->entries[block] = (struct prefix_entry){cache->next_id++, key->parent, key->owner, key->salt, *bucket};
    memcpy(block_tokens(cache, block), key->tokens, (size_t)cache->block_tokens * sizeof(int32_t));
    *bucket = block;
    cache->n_entries++;
    return cache->entries[block].id;
}

static struct prefix_key key_of(const struct prefix_cache *cache, int32_t block) {
    const struct prefix_entry *entry = &cache->entries[block];
    return (struct prefix_key){entry->parent, entry->owner, entry->salt, block_tokens(cache, block)};
}

void prefix_cache_remove(struct prefix_cache *cache, int32_t block) {
    assert(block >= 0 && block < cache->n_blocks && cache->entries[block].id != PREFIX_NONE);
    struct prefix_key key = key_of(cache, block);
    int32_t *link = bucket_of(cache, &key);
    while (*link != block) link = &cache->entries[*link].next;
    *link = cache->entries[block].next;
    cache->entries[block] = (struct prefix_entry){0};
    cache->n_entries--;
}

void prefix_cache_check_integrity(const struct prefix_cache *cache, const bool *cached) {
    int32_t count = 0;
    for (int32_t block = 0; block < cache->n_blocks; block++) {
        assert((cache->entries[block].id != PREFIX_NONE) == cached[block]);
        if (!cached[block]) continue;
        count++;
        struct prefix_key key = key_of(cache, block);
        uint64_t id;
        // Finding the block itself shows that it is in its bucket and that no other entry has its contents.
        assert(prefix_cache_find(cache, &key, &id) == block && id == cache->entries[block].id);
        assert(id < cache->next_id && key.parent < id);
    }
    assert(count == cache->n_entries);
}
