// Every worker of a run works once and only those; a barrier parts what comes before from what comes after; parked
// workers wake. Meant to run under the thread sanitizer too.
#include "tests/test.h"

#include "base/pool.h"

#include <stdatomic.h>
#include <time.h>

enum { THREADS = 4, ROUNDS = 50 };

struct team {
    struct pool *pool;
    int calls[THREADS];         // by worker: plain, because a run's end is a barrier too
    int written[THREADS], read; // in rounds
    _Atomic int wrong;
};

static void count_call(void *argument, int worker, int n_workers) {
    struct team *team = argument;
    team->calls[worker]++;
    if (worker >= n_workers) team->wrong++;
}

static void every_worker_of_a_run_works_once(void **state) {
    (void)state;
    struct team team = {0};
    assert_int_equal(pool_open(&team.pool, THREADS, NULL), 0);
    assert_int_equal(pool_size(team.pool), THREADS);
    int expected[THREADS] = {0};
    for (int i = 0; i < 2000; i++) {
        int n = 1 + (i * 7 + i / 5) % THREADS;
        for (int w = 0; w < n; w++) expected[w]++;
        pool_run(team.pool, n, count_call, &team);
        assert_memory_equal(team.calls, expected, sizeof expected);
    }
    assert_int_equal(team.wrong, 0);
    pool_close(team.pool);
}

// Each round every worker writes its number, then all read all numbers, with plain memory.
static void write_then_read(void *argument, int worker, int n_workers) {
    struct team *team = argument;
    for (int round = 1; round <= ROUNDS; round++) {
        team->written[worker] = round;
        pool_barrier(team->pool, n_workers);
        for (int w = 0; w < n_workers; w++)
            if (team->written[w] != round) team->wrong++;
        pool_barrier(team->pool, n_workers);
    }
}

static void barriers_part_before_from_after(void **state) {
    (void)state;
    struct team team = {0};
    assert_int_equal(pool_open(&team.pool, THREADS, NULL), 0);
    for (int n = 1; n <= THREADS; n++)
        for (int i = 0; i < 5; i++) pool_run(team.pool, n, write_then_read, &team);
    assert_int_equal(team.wrong, 0);
    pool_close(team.pool);
}

static void parked_workers_wake(void **state) {
    (void)state;
    struct team team = {0};
    assert_int_equal(pool_open(&team.pool, THREADS, NULL), 0);
    for (int i = 1; i <= 10; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); // long enough to park; either way it must work
        pool_run(team.pool, i % 2 ? THREADS : 2, count_call, &team);
        assert_int_equal(team.calls[1], i);
        assert_int_equal(team.calls[THREADS - 1], (i + 1) / 2);
    }
    pool_close(team.pool);
}

static void pools_close_at_any_moment(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct team team = {0};
        assert_int_equal(pool_open(&team.pool, 1 + i % THREADS, NULL), 0);
        if (i % 3) pool_run(team.pool, pool_size(team.pool), count_call, &team);
        pool_close(team.pool);
    }
    pool_close(NULL);
}

static void this_machine_has_cores(void **state) {
    (void)state;
    assert_true(pool_cores() >= 1);
    assert_true(pool_cores() <= (int)sysconf(_SC_NPROCESSORS_CONF));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_worker_of_a_run_works_once),
        cmocka_unit_test(barriers_part_before_from_after),
        cmocka_unit_test(parked_workers_wake),
        cmocka_unit_test(pools_close_at_any_moment),
        cmocka_unit_test(this_machine_has_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
