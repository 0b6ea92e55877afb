#include "base/pool.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A waiter spins for about this many pauses (some tens of microseconds), then yields or parks.
enum { SPIN_PAUSES = 4000, CACHE_LINE = 64 };

struct worker {
    struct pool *pool;
    pthread_t thread;
    int index;
};

struct pool {
    int n_threads;
    struct worker *workers;
    // One run: written by worker 0 before `generation` is raised.
    pool_task *task;
    void *argument;
    int n_workers;
    bool closing;
    _Alignas(CACHE_LINE) _Atomic uint32_t generation; // counts runs
    _Alignas(CACHE_LINE) _Atomic int n_running;       // workers other than 0 that have not returned
    _Alignas(CACHE_LINE) _Atomic int barrier_arrived;
    _Alignas(CACHE_LINE) _Atomic uint32_t barrier_generation;
    _Alignas(CACHE_LINE) _Atomic int n_parked;
    pthread_mutex_t mutex; // guards parking only
    pthread_cond_t wake;
};

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

// Spins until *counter differs from `old`; yields the core when that takes long.
static void spin_while_equal(_Atomic uint32_t *counter, uint32_t old) {
    for (int i = 0; atomic_load_explicit(counter, memory_order_acquire) == old; i++) {
        if (i < SPIN_PAUSES)
            pause_briefly();
        else
            sched_yield();
    }
}

static void wait_for_run(struct pool *pool, uint32_t seen) {
    for (int i = 0; i < SPIN_PAUSES; i++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->n_parked, 1);
    while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->n_parked, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    uint32_t seen = 0;
    for (;;) {
        wait_for_run(pool, seen);
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (pool->closing) return NULL;
        if (worker->index < pool->n_workers) pool->task(pool->argument, worker->index, pool->n_workers);
        atomic_fetch_sub_explicit(&pool->n_running, 1, memory_order_release);
    }
}

static void start_run(struct pool *pool) {
    atomic_store_explicit(&pool->n_running, pool->n_threads - 1, memory_order_relaxed);
    atomic_fetch_add(&pool->generation, 1);
    // A worker that parks counts itself before it looks at `generation` again: either it sees the new one or we see it.
    if (atomic_load(&pool->n_parked) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

int pool_open(struct pool **out, int n_threads, struct err *err) {
    assert(n_threads >= 1);
    struct pool *pool = aligned_alloc(CACHE_LINE, (sizeof *pool + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    if (!pool) return err_set(err, ERR_IO, "no memory for the thread pool");
    memset(pool, 0, sizeof *pool);
    pool->n_threads = 1;
    pool->workers = mem_alloc_zero((size_t)n_threads, sizeof *pool->workers);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (int i = 1; i < n_threads; i++) {
        struct worker *worker = &pool->workers[i];
        *worker = (struct worker){.pool = pool, .index = i};
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            pool_close(pool);
            return err_set(err, ERR_IO, "cannot start worker thread %d", i);
        }
        pool->n_threads++;
    }
    *out = pool;
    return 0;
}

void pool_close(struct pool *pool) {
    if (!pool) return;
    pool->closing = true;
    start_run(pool);
    for (int i = 1; i < pool->n_threads; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->wake);
    free(pool->workers);
    free(pool);
}

int pool_size(const struct pool *pool) {
    return pool->n_threads;
}

void pool_run(struct pool *pool, int n_workers, pool_task *task, void *argument) {
    assert(n_workers >= 1 && n_workers <= pool->n_threads);
    if (n_workers == 1) {
        pool->n_workers = 1;
        task(argument, 0, 1);
        return;
    }
    pool->task = task;
    pool->argument = argument;
    pool->n_workers = n_workers;
    start_run(pool);
    task(argument, 0, n_workers);
    for (int i = 0; atomic_load_explicit(&pool->n_running, memory_order_acquire) > 0; i++) {
        if (i < SPIN_PAUSES)
            pause_briefly();
        else
            sched_yield();
    }
}

void pool_barrier(struct pool *pool) {
    if (pool->n_workers == 1) return;
    uint32_t generation = atomic_load_explicit(&pool->barrier_generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&pool->barrier_arrived, 1, memory_order_acq_rel) + 1 == pool->n_workers) {
        atomic_store_explicit(&pool->barrier_arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->barrier_generation, generation + 1, memory_order_release);
        return;
    }
    spin_while_equal(&pool->barrier_generation, generation);
}

// Cores of the cgroup's CPU quota, rounded up; 0 when there is none.
static int cgroup_quota_cores(void) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file) return 0;
    long long quota = 0, period = 0;
    int n = fscanf(file, "%lld %lld", &quota, &period);
    fclose(file);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

// True when `cpu` is the first hardware thread of its core.
static bool is_first_sibling(int cpu) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    if (!file) return true;
    int first = cpu;
    if (fscanf(file, "%d", &first) != 1) first = cpu;
    fclose(file);
    return first == cpu;
}

int pool_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set) && is_first_sibling(cpu)) n++;
    if (n == 0) n = CPU_COUNT(&set);
    int quota = cgroup_quota_cores();
    if (quota && quota < n) n = quota;
    return n < 1 ? 1 : n;
}
