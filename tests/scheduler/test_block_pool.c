// Blocks are given out free ones first, then the cached one that was released longest ago; owners are counted.
#include "tests/test.h"

#include "scheduler/block_pool.h"

static void assert_owners(const struct block_pool *pool, int32_t a, int32_t b, int32_t c) {
    const int32_t expected[] = {a, b, c};
    block_pool_check_integrity(pool, expected);
}

static void a_block_is_taken_once(void **state) {
    (void)state;
    struct block_pool pool;
    block_pool_open(&pool, 3);
    bool was_cached, seen[3] = {false};
    for (int i = 0; i < 3; i++) {
        int32_t block = block_pool_take(&pool, &was_cached);
        assert_in_range(block, 0, 2);
        assert_false(seen[block] || was_cached);
        seen[block] = true;
    }
    assert_owners(&pool, 1, 1, 1);
    assert_int_equal(block_pool_take(&pool, &was_cached), -1);
    assert_int_equal(block_pool_n_available(&pool), 0);
    block_pool_release(&pool, 1);
    assert_owners(&pool, 1, 0, 1);
    assert_int_equal(block_pool_take(&pool, &was_cached), 1);
    block_pool_close(&pool);
}

static void cached_blocks_go_last_and_oldest_first(void **state) {
    (void)state;
    struct block_pool pool;
    block_pool_open(&pool, 3);
    bool was_cached;
    for (int32_t i = 0; i < 3; i++) assert_int_equal(block_pool_take(&pool, &was_cached), i);
    block_pool_set_cached(&pool, 1, true);
    block_pool_set_cached(&pool, 2, true);
    block_pool_release(&pool, 2);
    block_pool_release(&pool, 1);
    block_pool_release(&pool, 0);
    assert_int_equal(block_pool_n_available(&pool), 3);
    assert_int_equal(pool.n_touched, 3);
    assert_owners(&pool, 0, 0, 0);
    const int32_t order[] = {0, 2, 1};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(block_pool_take(&pool, &was_cached), order[i]);
        assert_int_equal(was_cached, order[i] != 0);
    }
    assert_owners(&pool, 1, 1, 1);
    block_pool_close(&pool);
}

static void a_shared_block_stays_until_its_last_owner_goes(void **state) {
    (void)state;
    struct block_pool pool;
    block_pool_open(&pool, 3);
    bool was_cached;
    int32_t block = block_pool_take(&pool, &was_cached);
    block_pool_set_cached(&pool, block, true);
    block_pool_retain(&pool, block);
    assert_owners(&pool, 2, 0, 0);
    block_pool_release(&pool, block);
    assert_int_equal(block_pool_n_available(&pool), 2);
    block_pool_release(&pool, block);
    assert_int_equal(block_pool_n_available(&pool), 3);
    block_pool_retain(&pool, block); // found again by its contents
    assert_owners(&pool, 1, 0, 0);
    block_pool_set_cached(&pool, block, false);
    block_pool_release(&pool, block);
    assert_owners(&pool, 0, 0, 0);
    assert_int_equal(pool.unused.count, 0);
    block_pool_close(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_taken_once),
        cmocka_unit_test(cached_blocks_go_last_and_oldest_first),
        cmocka_unit_test(a_shared_block_stays_until_its_last_owner_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
