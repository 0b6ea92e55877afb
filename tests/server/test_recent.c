// What was made a moment ago is given again under its own key, for a while, and no longer.
#include "tests/test.h"

#include "base/mem.h"
#include "server/recent.h"

#include <stdlib.h>

enum { NOTHING = -1 };

static void keep(struct recent *recent, int key, int value, uint64_t at_ms) {
    int *data = mem_alloc(sizeof *data);
    *data = value;
    recent_keep(recent, key, data, at_ms * 1000000);
}

static int find(const struct recent *recent, int key, uint64_t at_ms) {
    const int *data = recent_find(recent, key, at_ms * 1000000);
    return data ? *data : NOTHING;
}

static void each_key_has_its_own_and_for_a_while(void **state) {
    (void)state;
    static const struct {
        uint64_t at_ms;
        int key, kept, found; // kept: the value that is kept then; NOTHING: it is looked up
    } rows[] = {
        {1000, 300, NOTHING, NOTHING}, // nothing yet
        {1000, 300, 7, 7},
        {1000, 300, NOTHING, 7},
        {1499, 300, NOTHING, 7},
        {1499, 60, NOTHING, NOTHING}, // another window
        {1499, RECENT_MEMORY, NOTHING, NOTHING},
        {1500, 300, NOTHING, NOTHING}, // too old
        {1500, RECENT_MEMORY, 8, 8},
        {1600, 300, 9, 9},
        {1700, 300, 10, 10}, // in its place
        {1999, RECENT_MEMORY, NOTHING, 8},
        {2199, 300, NOTHING, 10},
    };
    struct recent recent = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].kept != NOTHING) keep(&recent, rows[i].key, rows[i].kept, rows[i].at_ms);
        if (find(&recent, rows[i].key, rows[i].at_ms) != rows[i].found) fail_msg("row %zu", i);
    }
    recent_close(&recent);
}

// However many windows clients ask for, the oldest makes room.
static void there_is_room_for_some(void **state) {
    (void)state;
    struct recent recent = {0};
    for (int i = 0; i < 3 * RECENT_KEPT; i++) {
        keep(&recent, 10 + i, i, 1000 + (uint64_t)i);
        for (int j = 0; j <= i; j++)
            assert_int_equal(find(&recent, 10 + j, 1000 + (uint64_t)i), i - j < RECENT_KEPT ? j : NOTHING);
    }
    recent_close(&recent);
    assert_int_equal(find(&recent, 10 + 3 * RECENT_KEPT - 1, 1100), NOTHING);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_has_its_own_and_for_a_while),
        cmocka_unit_test(there_is_room_for_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
