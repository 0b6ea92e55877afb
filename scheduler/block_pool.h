// The blocks of the KV cache as numbers with reference counts.
//
// A block is owned (n_refs > 0), cached (nobody owns it, but its contents may be found again) or free. Taking a block
// prefers free ones and then gives up the cached one that was released longest ago. Thread: the step thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_list {
    int32_t first, last, count; // -1 when empty
};

struct block_pool {
    int32_t n_blocks;
    int32_t *n_refs;          // [n_blocks]
    int32_t *next, *previous; // [n_blocks] neighbours in the list that the block is in; -1: none
    bool *cached;             // [n_blocks] the prefix cache can find the block
    struct block_list free;   // used from the end, so that memory which was touched is used again
    int32_t n_touched;        // blocks [0, n_touched) have had an owner
    struct block_list unused; // cached blocks without owner; first: released longest ago
};

void block_pool_open(struct block_pool *pool, int32_t n_blocks);
void block_pool_close(struct block_pool *pool);
size_t block_pool_bytes(const struct block_pool *pool); // of memory

// Blocks that block_pool_take can give: free ones and cached ones without owner.
static inline int32_t block_pool_n_available(const struct block_pool *pool) {
    return pool->free.count + pool->unused.count;
}

// A block with one reference; -1: none available. *was_cached: its contents could be found until now, so the caller
// must make the prefix cache forget it.
int32_t block_pool_take(struct block_pool *pool, bool *was_cached);

// One more owner of a block that is owned or cached.
void block_pool_retain(struct block_pool *pool, int32_t block);

// One owner less; a block without owners becomes cached or free.
void block_pool_release(struct block_pool *pool, int32_t block);

// Says whether the prefix cache can find this owned block.
void block_pool_set_cached(struct block_pool *pool, int32_t block, bool cached);

// Asserts that every block is exactly once in a list or owned, with n_refs_expected[block] owners.
void block_pool_check_integrity(const struct block_pool *pool, const int32_t *n_refs_expected);
