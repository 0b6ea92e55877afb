// A block is found by its owner, salt, parent and tokens, all of them, whatever the hashes are.
#include "tests/test.h"

#include "base/rng.h"
#include "scheduler/prefix_cache.h"

enum { BLOCKS = 8, BLOCK_TOKENS = 4 };

static struct prefix_key key(uint64_t parent, uint64_t owner, const int32_t *tokens) {
    return (struct prefix_key){parent, owner, 0, tokens};
}

static void only_equal_contents_are_found(void **state) {
    (void)state;
    struct prefix_cache cache;
    prefix_cache_open(&cache, BLOCKS, BLOCK_TOKENS);
    const int32_t tokens[] = {1, 2, 3, 4};
    struct prefix_key first = key(PREFIX_ROOT, 7, tokens);
    uint64_t id, first_id = prefix_cache_add(&cache, &first, 5);
    assert_int_equal(prefix_cache_find(&cache, &first, &id), 5);
    assert_int_equal(id, first_id);
    struct prefix_key second = key(first_id, 7, tokens);
    uint64_t second_id = prefix_cache_add(&cache, &second, 2);
    const struct {
        uint64_t parent, owner, salt;
        int32_t tokens[BLOCK_TOKENS];
        int32_t block;
    } rows[] = {
        {PREFIX_ROOT, 7, 0, {1, 2, 3, 4}, 5},  {first_id, 7, 0, {1, 2, 3, 4}, 2},
        {PREFIX_ROOT, 8, 0, {1, 2, 3, 4}, -1},                                      // another key
        {first_id, 8, 0, {1, 2, 3, 4}, -1},    {second_id, 7, 0, {1, 2, 3, 4}, -1}, // another parent
        {PREFIX_ROOT, 7, 0, {1, 2, 3, 5}, -1}, {PREFIX_ROOT, 7, 0, {0, 2, 3, 4}, -1},
        {PREFIX_ROOT, 7, 0, {4, 3, 2, 1}, -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct prefix_key k = {rows[i].parent, rows[i].owner, rows[i].salt, rows[i].tokens};
        assert_int_equal(prefix_cache_find(&cache, &k, &id), rows[i].block);
    }
    prefix_cache_close(&cache);
}

// A child of an evicted block must not be reached through a new block with the same number or contents.
static void entry_ids_are_never_used_again(void **state) {
    (void)state;
    struct prefix_cache cache;
    prefix_cache_open(&cache, BLOCKS, BLOCK_TOKENS);
    const int32_t a[] = {1, 1, 1, 1}, b[] = {2, 2, 2, 2};
    struct prefix_key parent = key(PREFIX_ROOT, 0, a);
    uint64_t old_id = prefix_cache_add(&cache, &parent, 0), id;
    struct prefix_key child = key(old_id, 0, b);
    prefix_cache_add(&cache, &child, 1);
    prefix_cache_remove(&cache, 0);
    assert_int_equal(prefix_cache_find(&cache, &parent, &id), -1);
    uint64_t new_id = prefix_cache_add(&cache, &parent, 0);
    assert_int_not_equal(new_id, old_id);
    child.parent = new_id;
    assert_int_equal(prefix_cache_find(&cache, &child, &id), -1);
    prefix_cache_close(&cache);
}

// One bucket for all: every lookup collides with every entry.
static void collisions_never_share_a_block(void **state) {
    (void)state;
    struct prefix_cache cache;
    prefix_cache_open(&cache, BLOCKS, BLOCK_TOKENS);
    cache.bucket_mask = 0;
    int32_t tokens[BLOCKS][BLOCK_TOKENS];
    bool cached[BLOCKS] = {false};
    uint64_t draws = 0, key_of_draws = rng_key(1, 0, 0), id;
    for (int round = 0; round < 2000; round++) {
        int32_t block = (int32_t)(rng_u32(key_of_draws, draws++) % BLOCKS);
        if (cached[block]) {
            prefix_cache_remove(&cache, block);
        } else {
            for (int i = 0; i < BLOCK_TOKENS; i++) tokens[block][i] = (int32_t)(rng_u32(key_of_draws, draws++) % 3);
            struct prefix_key k = key(PREFIX_ROOT, 0, tokens[block]);
            int32_t found = prefix_cache_find(&cache, &k, &id);
            if (found >= 0) { // equal contents are there already
                assert_true(cached[found] && memcmp(tokens[found], tokens[block], sizeof tokens[block]) == 0);
                continue;
            }
            prefix_cache_add(&cache, &k, block);
        }
        cached[block] = !cached[block];
        prefix_cache_check_integrity(&cache, cached);
    }
    prefix_cache_close(&cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_equal_contents_are_found),
        cmocka_unit_test(entry_ids_are_never_used_again),
        cmocka_unit_test(collisions_never_share_a_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
