// The map behaves as a plain array of pairs does under random puts and removals; arenas and vectors hold what was put.
#include "tests/test.h"

#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdlib.h>

enum { KEYS = 400, CHANGES = 40000 };

static void agrees_with_an_array(void **state) {
    (void)state;
    struct map map;
    map_open(&map, 0, true);
    bool there[KEYS] = {0};
    uint64_t values[KEYS] = {0};
    for (uint32_t i = 0; i < CHANGES; i++) {
        uint32_t k = rng_u32(rng_key(1, 0, 0), i) % KEYS, what = rng_u32(rng_key(2, 0, 0), i) % 3;
        char key[16];
        size_t n = (size_t)snprintf(key, sizeof key, "key %u", k);
        if (what == 0) {
            assert_int_equal(map_remove(&map, key, n), there[k]);
            there[k] = false;
        } else if (what == 1) {
            assert_int_equal(map_put(&map, key, n, i), !there[k]);
            there[k] = true;
            values[k] = i;
        } else {
            uint64_t value = 0;
            assert_int_equal(map_get(&map, key, n, &value), there[k]);
            if (there[k]) assert_int_equal(value, values[k]);
        }
    }
    size_t count = 0;
    for (int k = 0; k < KEYS; k++) count += there[k];
    assert_int_equal(map.count, count);
    map_close(&map);
}

static void keys_with_nul_and_empty_keys_differ(void **state) {
    (void)state;
    struct map map;
    map_open(&map, 4, false);
    assert_true(map_put(&map, "a\0b", 3, 1));
    assert_true(map_put(&map, "a", 1, 2));
    assert_true(map_put(&map, "", 0, 3));
    uint64_t value = 0;
    assert_true(map_get(&map, "", 0, &value));
    assert_int_equal(value, 3);
    assert_true(map_get(&map, "a\0b", 3, &value));
    assert_int_equal(value, 1);
    assert_false(map_get(&map, "a\0c", 3, &value));
    map_close(&map);
}

static void arenas_keep_pieces_apart_and_hold_their_limit(void **state) {
    (void)state;
    struct arena arena = {.limit = 100000};
    unsigned char *pieces[100];
    for (int i = 0; i < 100; i++) {
        size_t n = (size_t)i * 13 % 700 + 1;
        pieces[i] = arena_try_alloc(&arena, n);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], i, n);
    }
    for (int i = 0; i < 100; i++) assert_int_equal(pieces[i][(size_t)i * 13 % 700], i);
    assert_null(arena_try_alloc(&arena, 100000));
    assert_null(arena_try_alloc(&arena, SIZE_MAX));
    assert_string_equal(arena_printf(&arena, "%s-%d", "x", 7), "x-7");
    arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_an_array),
        cmocka_unit_test(keys_with_nul_and_empty_keys_differ),
        cmocka_unit_test(arenas_keep_pieces_apart_and_hold_their_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
