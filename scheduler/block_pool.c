#include "scheduler/block_pool.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

static void list_append(struct block_pool *pool, struct block_list *list, int32_t block) {
    pool->previous[block] = list->last;
    pool->next[block] = -1;
    if (list->last >= 0)
        pool->next[list->last] = block;
    else
        list->first = block;
    list->last = block;
    list->count++;
}

static void list_remove(struct block_pool *pool, struct block_list *list, int32_t block) {
    int32_t next = pool->next[block], previous = pool->previous[block];
    if (next >= 0)
        pool->previous[next] = previous;
    else
        list->last = previous;
    if (previous >= 0)
        pool->next[previous] = next;
    else
        list->first = next;
    list->count--;
}

void block_pool_open(struct block_pool *pool, int32_t n_blocks) {
    assert(n_blocks > 0);
    size_t n = (size_t)n_blocks;
    *pool = (struct block_pool){.n_blocks = n_blocks,
                                .n_refs = mem_alloc_zero(n, sizeof(int32_t)),
                                .next = mem_alloc_zero(n, sizeof(int32_t)),
                                .previous = mem_alloc_zero(n, sizeof(int32_t)),
                                .cached = mem_alloc_zero(n, sizeof(bool)),
                                .free = {-1, -1, 0},
                                .unused = {-1, -1, 0}};
    for (int32_t block = n_blocks - 1; block >= 0; block--) list_append(pool, &pool->free, block);
}

void block_pool_close(struct block_pool *pool) {
    free(pool->n_refs);
    free(pool->next);
    free(pool->previous);
    free(pool->cached);
    *pool = (struct block_pool){0};
}

size_t block_pool_bytes(const struct block_pool *pool) {
    return (size_t)pool->n_blocks *
           (sizeof *pool->n_refs + sizeof *pool->next + sizeof *pool->previous + sizeof *pool->cached);
}

int32_t block_pool_take(struct block_pool *pool, bool *was_cached) {
    *was_cached = pool->free.count == 0;
    struct block_list *list = *was_cached ? &pool->unused : &pool->free;
    int32_t block = *was_cached ? list->first : list->last;
    if (block < 0) return -1;
    list_remove(pool, list, block);
    pool->cached[block] = false;
    pool->n_refs[block] = 1;
    if (block >= pool->n_touched) pool->n_touched = block + 1;
    return block;
}

void block_pool_retain(struct block_pool *pool, int32_t block) {
    assert(block >= 0 && block < pool->n_blocks);
    if (pool->n_refs[block]++ == 0) {
        assert(pool->cached[block]);
        list_remove(pool, &pool->unused, block);
    }
}

void block_pool_release(struct block_pool *pool, int32_t block) {
    assert(block >= 0 && block < pool->n_blocks && pool->n_refs[block] > 0);
    if (--pool->n_refs[block] == 0) list_append(pool, pool->cached[block] ? &pool->unused : &pool->free, block);
}

void block_pool_set_cached(struct block_pool *pool, int32_t block, bool cached) {
    assert(block >= 0 && block < pool->n_blocks && pool->n_refs[block] > 0);
    pool->cached[block] = cached;
}

// Walks a list; every block in it must have no owner and the given cached flag.
static void check_list(const struct block_pool *pool, const struct block_list *list, bool cached) {
    int32_t count = 0, previous = -1;
    for (int32_t block = list->first; block >= 0; previous = block, block = pool->next[block]) {
        assert(block < pool->n_blocks && pool->previous[block] == previous);
        assert(pool->n_refs[block] == 0 && pool->cached[block] == cached);
        assert(++count <= list->count);
    }
    assert(count == list->count && list->last == previous);
}

void block_pool_check_integrity(const struct block_pool *pool, const int32_t *n_refs_expected) {
    check_list(pool, &pool->free, false);
    check_list(pool, &pool->unused, true);
    int32_t n_owned = 0;
    for (int32_t block = 0; block < pool->n_blocks; block++) {
        assert(pool->n_refs[block] == n_refs_expected[block]);
        n_owned += pool->n_refs[block] > 0;
    }
    // A block without owner is in one list because the lists are disjoint by their flags and the sum is right.
    assert(n_owned + block_pool_n_available(pool) == pool->n_blocks);
}
